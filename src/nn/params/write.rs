//! Writes a checkpoint with what training has made of it, as safetensors under its own keys.
//!
//! What was not trained is written as it was read, in its own width; what was is f32.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype as Code, TensorView};

use super::{Dtype, Params, Stored, wrong};
use crate::nn::weights::WeightsError;

/// Bytes of one tensor with what they mean.
struct Entry<'a> {
    key: &'a str,
    code: Code,
    shape: Vec<usize>,
    bytes: std::borrow::Cow<'a, [u8]>,
}

impl Dtype {
    /// Its name in a safetensors file. Of whole numbers the file that was read may have known more
    /// than how wide they are; none of them is a weight.
    fn code(self) -> Code {
        match self {
            Dtype::F32 => Code::F32,
            Dtype::F16 => Code::F16,
            Dtype::Bf16 => Code::BF16,
            Dtype::F64 => Code::F64,
            Dtype::Other(8) => Code::I64,
            Dtype::Other(4) => Code::I32,
            Dtype::Other(2) => Code::I16,
            Dtype::Other(_) => Code::U8,
        }
    }
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

impl Params {
    /// Writes every tensor of the checkpoint, from its root on, with the values that the trained ones
    /// have now. The file is whole or is not there: it takes its name when all of it is written.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let name = path.display().to_string();
        let io = |source| WeightsError::Io {
            path: name.clone(),
            source,
        };
        let changed = self
            .changed()
            .map_err(|error| wrong(&name, error.to_string()))?;
        let entries: Vec<Entry> = self
            .tensors
            .iter()
            .map(|(key, stored)| match changed.get(key) {
                Some(values) => Entry {
                    key,
                    code: Code::F32,
                    shape: stored.shape.clone(),
                    bytes: le_bytes(values).into(),
                },
                None => Entry {
                    key,
                    code: stored.dtype.code(),
                    shape: stored.shape.clone(),
                    bytes: stored.as_stored(),
                },
            })
            .collect();
        let views = entries
            .iter()
            .map(|entry| {
                TensorView::new(entry.code, entry.shape.clone(), &entry.bytes)
                    .map(|view| (entry.key, view))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(&name, error.to_string()))?;
        // transformers refuses a file that does not say for which library it is.
        let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = safetensors::serialize(views, Some(note))
            .map_err(|error| wrong(&name, error.to_string()))?;
        let partial = path.with_extension("safetensors.part");
        std::fs::write(&partial, bytes).map_err(io)?;
        std::fs::rename(&partial, path).map_err(io)
    }

    /// The values of what was trained, by whole key: variables and gathered statistics.
    fn changed(&self) -> candle_core::Result<HashMap<String, Vec<f32>>> {
        let mut changed = HashMap::new();
        let Some(trainable) = &self.trainable else {
            return Ok(changed);
        };
        for (key, var) in trainable.variables() {
            changed.insert(key, var.flatten_all()?.to_vec1()?);
        }
        for (prefix, statistics) in trainable.gathered() {
            changed.insert(format!("{prefix}running_mean"), statistics.mean);
            changed.insert(format!("{prefix}running_var"), statistics.var);
        }
        Ok(changed)
    }
}

impl Stored {
    /// Its bytes with the values in row-major order.
    fn as_stored(&self) -> std::borrow::Cow<'_, [u8]> {
        match &self.strides {
            None => self.file[self.bytes.clone()].into(),
            Some(strides) => self.in_order(strides).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use safetensors::SafeTensors;

    use super::*;
    use crate::nn::params::RunningStatistics;

    #[test]
    fn what_was_trained_changes_and_all_else_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let half: Vec<u8> = [1.5f32, -2.0]
            .iter()
            .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
            .collect();
        let ids = 7i64.to_le_bytes();
        let floats = le_bytes(&[1.0, 2.0]);
        let view =
            |code, shape: &[usize], bytes| TensorView::new(code, shape.to_vec(), bytes).unwrap();
        let tensors = [
            ("a.weight", view(Code::F16, &[2], &half[..])),
            ("a.frozen", view(Code::F16, &[2], &half[..])),
            ("a.unused", view(Code::F32, &[2], &floats[..])),
            ("n.running_mean", view(Code::F32, &[2], &floats[..])),
            ("n.running_var", view(Code::F32, &[2], &floats[..])),
            ("ids", view(Code::I64, &[], &ids[..])),
        ];
        let none = None::<HashMap<String, String>>;
        std::fs::write(&path, safetensors::serialize(tensors, none).unwrap()).unwrap();

        let (params, trainable) = Params::open_file(&path)
            .unwrap()
            .trainable(|key| key != "a.frozen");
        let a = params.pp("a");
        assert!(!a.parameter("frozen", &[2]).unwrap().is_trained());
        let weight = a.parameter("weight", &[2]).unwrap();
        assert!(weight.is_trained() && weight.fixed().is_none());
        assert_eq!(
            weight.tensor().unwrap().to_vec1::<f32>().unwrap(),
            [1.5, -2.0]
        );
        // What the layer and the optimiser hold is one variable, however often it is asked for.
        let var = &trainable.variables()["a.weight"];
        assert_eq!(trainable.variables().len(), 1);
        var.set(&Tensor::new(&[0.25f32, 0.5], &Device::Cpu).unwrap())
            .unwrap();
        let again = a.parameter("weight", &[2]).unwrap().tensor().unwrap();
        assert_eq!(again.to_vec1::<f32>().unwrap(), [0.25, 0.5]);
        // A layer that cannot follow it says so.
        let error = a.get("weight", &[2]).unwrap_err().to_string();
        assert!(error.contains("a.weight: this part"), "{error}");
        assert!(a.get("frozen", &[2]).is_ok() && a.buffer("weight", &[2]).is_ok());
        assert!(a.trains().is_some() && params.pp("a.frozen").trains().is_none());
        // Statistics are written once a batch has gone into them.
        let statistics = trainable.statistics(
            "n.",
            RunningStatistics {
                mean: vec![3.0, 4.0],
                var: vec![5.0, 6.0],
                batches: 0,
            },
        );
        params.save(&path).unwrap();
        let open = || std::fs::read(&path).unwrap();
        let f32s = |bytes: &[u8], key: &str| {
            let file = SafeTensors::deserialize(bytes).unwrap();
            let view = file.tensor(key).unwrap();
            let (words, _) = view.data().as_chunks::<4>();
            words
                .iter()
                .copied()
                .map(f32::from_le_bytes)
                .collect::<Vec<f32>>()
        };
        assert_eq!(f32s(&open(), "n.running_mean"), [1.0, 2.0]);
        statistics.lock().unwrap().batches = 1;
        params.save(&path).unwrap();
        let bytes = open();
        assert_eq!(f32s(&bytes, "n.running_mean"), [3.0, 4.0]);
        assert_eq!(f32s(&bytes, "n.running_var"), [5.0, 6.0]);
        assert_eq!(f32s(&bytes, "a.weight"), [0.25, 0.5]);
        assert_eq!(f32s(&bytes, "a.unused"), [1.0, 2.0]);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("a.frozen").unwrap().data(), half);
        assert_eq!(file.tensor("ids").unwrap().dtype(), Code::I64);
        assert_eq!(file.len(), 6);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // The file that was mapped is replaced, not written over: the old values are still there.
        assert_eq!(a.buffer("weight", &[2]).unwrap().values(), [1.5, -2.0]);
    }
}
