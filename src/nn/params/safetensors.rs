//! Safetensors files (the format of huggingface/safetensors 0.8).

use std::path::Path;

use safetensors::{Dtype as Code, SafeTensors};

use super::{Dtype, Stored, Tensors, open, wrong};
use crate::nn::weights::WeightsError;

/// The tensors of one file.
pub(super) fn read(path: &Path) -> Result<Tensors, WeightsError> {
    let name = path.display().to_string();
    let file = open(path)?;
    // The library checks that the header is whole and that the tensors fill the file exactly.
    let (header, metadata) = SafeTensors::read_metadata(&file).map_err(|error| {
        wrong(
            &name,
            format!("not a whole safetensors file ({error}); fetch it again"),
        )
    })?;
    let start = header + 8;
    Ok(metadata
        .tensors()
        .into_iter()
        .map(|(key, info)| {
            let stored = Stored {
                dtype: match info.dtype {
                    Code::F32 => Dtype::F32,
                    Code::F16 => Dtype::F16,
                    Code::BF16 => Dtype::Bf16,
                    Code::F64 => Dtype::F64,
                    other => Dtype::Other(other.bitsize().div_ceil(8)),
                },
                shape: info.shape.clone(),
                strides: None,
                file: file.clone(),
                bytes: start + info.data_offsets.0..start + info.data_offsets.1,
            };
            (key, stored)
        })
        .collect())
}
