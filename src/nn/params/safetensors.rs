//! Safetensors files and indexes of them (the format of huggingface/safetensors 0.8).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use safetensors::{Dtype as Code, SafeTensors};
use serde::Deserialize;

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
                    _ => Dtype::Other,
                },
                shape: info.shape.clone(),
                file: file.clone(),
                bytes: start + info.data_offsets.0..start + info.data_offsets.1,
            };
            (key, stored)
        })
        .collect())
}

/// `model.safetensors.index.json` and its like.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The tensors of every file that an index names.
pub(super) fn read_index(path: &Path) -> Result<Tensors, WeightsError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| WeightsError::Io {
        path: name.clone(),
        source,
    })?;
    let index: Index = serde_json::from_str(&text).map_err(|error| {
        wrong(
            &name,
            format!("expected {{\"weight_map\": {{key: file}}}}, got {error}"),
        )
    })?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    let mut tensors = Tensors::new();
    for shard in shards {
        let mut parts = Path::new(shard).components();
        if !matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        ) {
            return Err(wrong(
                &name,
                format!("weight_map: expected names of files beside the index, got '{shard}'"),
            ));
        }
        let mut found = read(&path.with_file_name(shard))?;
        found.retain(|key, _| index.weight_map.get(key) == Some(shard));
        tensors.append(&mut found);
    }
    match index
        .weight_map
        .iter()
        .find(|(key, _)| !tensors.contains_key(*key))
    {
        None => Ok(tensors),
        Some((key, shard)) => Err(wrong(
            &name,
            format!("{key}: expected it in {shard}, got no such tensor"),
        )),
    }
}
