//! The weights file of a small network: safetensors with the specification in its header.
//!
//! The header's `harkd` entry holds [`Card`] as JSON; the tensors are those of the training form,
//! unfolded, so that a shipped model can be trained further.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::spec::{FrameShape, NetSpec};

/// What a weights file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Registry name.
    pub name: String,
    /// What it answers: `keyword` or `event`.
    pub task: String,
    /// Labels in the order of the outputs.
    pub labels: Vec<String>,
    /// The front end it was trained on, [`crate::features::log_mel::SPEC`].
    pub front_end: String,
    /// SPDX expression.
    pub licence: String,
    /// The shape of the network.
    pub net: NetSpec,
    /// A factor and an offset on the logits of every label, from calibration; empty means none.
    #[serde(default)]
    pub calibration: Vec<(f32, f32)>,
}

/// A weights file in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What it says of itself.
    pub card: Card,
    /// Values by key.
    pub tensors: BTreeMap<String, Vec<f32>>,
}

/// Why a weights file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content is not what it should be.
    #[error("{path}: {what}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong: key, expected and got.
        what: String,
    },
}

/// Every key of a network with its shape, in a fixed order.
pub fn expected_tensors(net: &NetSpec) -> Vec<(String, Vec<usize>)> {
    let shapes = net.shapes();
    let norm = |prefix: &str, channels: usize| {
        ["weight", "bias", "running_mean", "running_var"]
            .map(|part| (format!("{prefix}.norm.{part}"), vec![channels]))
    };
    let (kt, kf) = net.stem.kernel;
    let mut all = vec![("stem.weight".to_owned(), vec![kt * kf, net.stem.channels])];
    all.extend(norm("stem", net.stem.channels));
    for (at, block) in net.blocks.iter().enumerate() {
        let FrameShape { channels, .. } = shapes[at + 1];
        let prefix = format!("blocks.{at}");
        all.push((
            format!("{prefix}.depthwise.weight"),
            vec![block.kernel.0, block.kernel.1, channels],
        ));
        all.push((
            format!("{prefix}.pointwise.weight"),
            vec![channels, block.channels],
        ));
        all.extend(norm(&prefix, block.channels));
    }
    all.push(("head.weight".to_owned(), vec![net.embedding(), net.outputs]));
    all.push(("head.bias".to_owned(), vec![net.outputs]));
    all
}

impl Checkpoint {
    /// Reads a weights file. `path` is for errors alone.
    ///
    /// # Errors
    /// When the bytes are no safetensors of ours, or a key is missing or misshapen.
    pub fn from_bytes(bytes: &[u8], path: &str) -> Result<Self, WeightsError> {
        let wrong = |what: String| WeightsError::Format {
            path: path.to_owned(),
            what,
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| {
            wrong(format!(
                "not a whole safetensors file ({e}); fetch or train it again"
            ))
        })?;
        let text = header
            .metadata()
            .as_ref()
            .and_then(|meta| meta.get("harkd"))
            .ok_or_else(|| {
                wrong(
                    "the header has no 'harkd' entry: expected a model made by hark train"
                        .to_owned(),
                )
            })?;
        let card: Card =
            serde_json::from_str(text).map_err(|e| wrong(format!("header entry 'harkd': {e}")))?;
        card.net
            .validate()
            .map_err(|e| wrong(format!("header entry 'harkd', net: {e}")))?;
        let counts = (card.labels.len(), card.net.outputs);
        if counts.0 != counts.1 {
            return Err(wrong(format!(
                "expected as many labels as outputs, got {} and {}",
                counts.0, counts.1
            )));
        }
        if !card.calibration.is_empty() && card.calibration.len() != counts.0 {
            return Err(wrong(format!(
                "calibration: expected {} entries, got {}",
                counts.0,
                card.calibration.len()
            )));
        }
        let file = SafeTensors::deserialize(bytes)
            .map_err(|e| wrong(format!("not a whole safetensors file ({e})")))?;
        let mut tensors = BTreeMap::new();
        for (key, shape) in expected_tensors(&card.net) {
            let tensor = file.tensor(&key).map_err(|_| {
                wrong(format!(
                    "{key}: expected shape {shape:?}, got no such tensor"
                ))
            })?;
            if tensor.shape() != shape || tensor.dtype() != Dtype::F32 {
                let (got, dtype) = (tensor.shape(), tensor.dtype());
                return Err(wrong(format!(
                    "{key}: expected F32 {shape:?}, got {dtype:?} {got:?}"
                )));
            }
            let data: Vec<f32> = tensor
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            if data.iter().any(|value| !value.is_finite()) {
                return Err(wrong(format!(
                    "{key}: expected finite values, got NaN or infinity"
                )));
            }
            tensors.insert(key, data);
        }
        Ok(Checkpoint { card, tensors })
    }

    /// Reads a weights file from disk.
    ///
    /// # Errors
    /// As [`Checkpoint::from_bytes`], or when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| WeightsError::Io {
            path: name.clone(),
            source,
        })?;
        Checkpoint::from_bytes(&bytes, &name)
    }

    /// Writes the file under a temporary name and renames it, so that a full disk leaves no half of it.
    ///
    /// # Errors
    /// When the disk refuses, or a tensor of the network is missing.
    pub fn write(&self, path: &Path) -> Result<(), WeightsError> {
        let name = path.display().to_string();
        let wrong = |what: String| WeightsError::Format {
            path: name.clone(),
            what,
        };
        let mut bytes = Vec::new();
        for (key, shape) in expected_tensors(&self.card.net) {
            let data = self
                .tensors
                .get(&key)
                .ok_or_else(|| wrong(format!("{key}: no such tensor")))?;
            let data: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
            bytes.push((key, shape, data));
        }
        let views: Result<Vec<_>, _> = bytes
            .iter()
            .map(|(key, shape, data)| {
                TensorView::new(Dtype::F32, shape.clone(), data).map(|view| (key, view))
            })
            .collect();
        let card = serde_json::to_string(&self.card).map_err(|e| wrong(e.to_string()))?;
        let header = HashMap::from([("harkd".to_owned(), card)]);
        let file = views
            .and_then(|views| safetensors::serialize(views, Some(header)))
            .map_err(|e| wrong(e.to_string()))?;
        let partial = path.with_extension("partial");
        std::fs::write(&partial, file)
            .and_then(|()| std::fs::rename(&partial, path))
            .map_err(|source| WeightsError::Io {
                path: name.clone(),
                source,
            })
    }

    /// Moves every value by `share` (0 to 1) of the way to those of `other`, which must have the same
    /// network. A fine-tuned model half-way back to its base keeps more of what the base could
    /// (Wortsman et al., *Robust fine-tuning*, 2022).
    pub fn blend(&mut self, other: &Checkpoint, share: f32) {
        for (key, values) in &mut self.tensors {
            for (value, other) in values.iter_mut().zip(other.values(key)) {
                *value += share * (other - *value);
            }
        }
    }

    /// Values of a key that [`expected_tensors`] names.
    pub(super) fn values(&self, key: &str) -> &[f32] {
        self.tensors.get(key).map_or(&[], Vec::as_slice)
    }

    /// Number of values in all tensors.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(Vec::len).sum()
    }
}

/// Random weights of a network: where training from scratch begins.
pub fn random_checkpoint(net: NetSpec, seed: u64) -> Checkpoint {
    let mut rng = fastrand::Rng::with_seed(seed);
    let tensors = expected_tensors(&net)
        .into_iter()
        .map(|(key, shape)| {
            let fan_in: usize = shape[..shape.len() - 1].iter().product();
            let scale = (6.0 / fan_in.max(1) as f32).sqrt();
            let base = if key.ends_with("norm.weight") || key.ends_with("running_var") {
                1.0
            } else {
                0.0
            };
            let spread = if base > 0.0 || key.contains("norm") {
                0.3
            } else {
                scale
            };
            let data = (0..shape.iter().product())
                .map(|_| base + spread * (rng.f32() * 2.0 - 1.0))
                .collect();
            (key, data)
        })
        .collect();
    let card = Card {
        name: "random".to_owned(),
        task: "event".to_owned(),
        labels: (0..net.outputs).map(|i| format!("label {i}")).collect(),
        front_end: crate::features::log_mel::SPEC.to_owned(),
        licence: "CC0-1.0".to_owned(),
        net,
        calibration: Vec::new(),
    };
    Checkpoint { card, tensors }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::spec::sample;

    fn file() -> (tempfile::TempDir, Vec<u8>, Checkpoint) {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = random_checkpoint(sample(), 1);
        let path = dir.path().join("model.safetensors");
        checkpoint.write(&path).unwrap();
        let bytes = std::fs::read(path).unwrap();
        (dir, bytes, checkpoint)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (_dir, bytes, checkpoint) = file();
        assert_eq!(Checkpoint::from_bytes(&bytes, "x").unwrap(), checkpoint);
    }

    #[test]
    fn blending_goes_from_one_end_to_the_other() {
        let (from, to) = (
            random_checkpoint(sample(), 1),
            random_checkpoint(sample(), 2),
        );
        let blend = |share| {
            let mut blended = from.clone();
            blended.blend(&to, share);
            blended.tensors["head.weight"].clone()
        };
        assert_eq!(blend(0.0), from.tensors["head.weight"]);
        for (half, (a, b)) in blend(0.5).iter().zip(
            from.tensors["head.weight"]
                .iter()
                .zip(&to.tensors["head.weight"]),
        ) {
            assert!((half - (a + b) / 2.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_cut_or_lying_file_is_an_error_that_names_it() {
        let (_dir, bytes, checkpoint) = file();
        for cut in [0, 1, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
            let error = Checkpoint::from_bytes(&bytes[..cut], "m.safetensors")
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("m.safetensors: ") && error.lines().count() == 1,
                "{error}"
            );
        }
        let mut huge = bytes.clone();
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Checkpoint::from_bytes(&huge, "m").is_err());
        let mut other = checkpoint;
        other.card.net.blocks[0].channels = 24;
        let error = other
            .write(&_dir.path().join("n"))
            .map(|()| "written".to_owned())
            .unwrap_err();
        assert!(error.to_string().contains("n: "), "{error}");
    }
}
