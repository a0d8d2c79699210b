//! The tensors of a published checkpoint, by the names that its authors gave them.
//!
//! A [`Params`] is a place in the tree of names, as candle's `VarBuilder` is, so that a model file
//! reads like the checkpoint. Values of 32 bits are used where they lie in the mapped file; others
//! (f16, bf16, f64) are widened or narrowed once, when they are asked for.
//!
//! Some or all of them may be trained ([`Params::trainable`]): those that a layer asks for with
//! [`Params::parameter`] are then variables, and [`Params::save`] writes the checkpoint with what has
//! become of them.

mod index;
mod pickle;
mod safetensors;
mod torch;
mod trainable;
mod weight;
mod write;

pub use trainable::{Mode, RunningStatistics, Trainable};
pub use weight::{Parameter, Weight};

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use memmap2::Mmap;

use self::weight::Values;
use super::weights::WeightsError;
use crate::kernels::map;

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F16,
    Bf16,
    F64,
    /// Whole numbers of so many bytes, such as position ids and counters; no weights.
    Other(usize),
}

impl Dtype {
    /// Bytes of a value; at least one.
    fn width(self) -> usize {
        match self {
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
            Dtype::Other(bytes) => bytes.max(1),
        }
    }
}

/// Where a tensor lies.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Values from one index to the next in each dimension, where they do not lie in row-major order;
    /// checked to stay inside `bytes`.
    strides: Option<Vec<usize>>,
    file: Arc<Mmap>,
    /// Its bytes in the file, checked to be inside.
    bytes: Range<usize>,
}

impl Stored {
    /// A copy of its bytes with the values in row-major order.
    fn in_order(&self, strides: &[usize]) -> Vec<u8> {
        let (bytes, width) = (&self.file[self.bytes.clone()], self.dtype.width());
        let count: usize = self.shape.iter().product();
        let mut ordered = Vec::with_capacity(count * width);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..count {
            let at: usize = index
                .iter()
                .zip(strides)
                .map(|(i, stride)| i * stride)
                .sum();
            ordered.extend_from_slice(&bytes[at * width..(at + 1) * width]);
            for (i, length) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < *length {
                    break;
                }
                *i = 0;
            }
        }
        ordered
    }
}

/// Every tensor of a checkpoint.
type Tensors = BTreeMap<String, Stored>;

/// Maps a file.
fn open(path: &Path) -> Result<Arc<Mmap>, WeightsError> {
    File::open(path)
        .and_then(|file| map::map(&file))
        .map(Arc::new)
        .map_err(|source| WeightsError::Io {
            path: path.display().to_string(),
            source,
        })
}

fn wrong(path: &str, what: String) -> WeightsError {
    WeightsError::Format {
        path: path.to_owned(),
        what,
    }
}

/// Names under which a directory holds its tensors, best first.
const NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The tensors of one file that is no index.
fn read_file(path: &Path) -> Result<Tensors, WeightsError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(16).read_to_end(&mut start))
        .map_err(|source| WeightsError::Io {
            path: path.display().to_string(),
            source,
        })?;
    if name.ends_with(".safetensors") || !torch::is(&name, &start) {
        safetensors::read(path)
    } else {
        torch::read(path)
    }
}

/// A place in a checkpoint's tree of names.
#[derive(Debug, Clone)]
pub struct Params {
    /// The file or directory, for errors.
    path: Arc<str>,
    tensors: Arc<Tensors>,
    /// With its last dot; empty at the root.
    prefix: String,
    /// What is trained, where anything is.
    trainable: Option<Arc<Trainable>>,
}

impl Params {
    /// Opens what a directory in the Hugging Face layout holds: `model.safetensors`, else
    /// `pytorch_model.bin`, each whole or in parts by its `.index.json`.
    ///
    /// # Errors
    /// When there is no such file, or it is not whole.
    pub fn open_dir(dir: &Path) -> Result<Self, WeightsError> {
        let Some(path) = NAMES
            .iter()
            .map(|name| dir.join(name))
            .find(|path| path.is_file())
        else {
            return Err(wrong(
                &dir.display().to_string(),
                format!("expected one of {}, got none of them", NAMES.join(", ")),
            ));
        };
        Params::open_file(&path)
    }

    /// Opens one file, by its name or else by how it begins: safetensors, a file of `torch.save`, or
    /// an index of such.
    ///
    /// # Errors
    /// When it cannot be read or is not whole.
    pub fn open_file(path: &Path) -> Result<Self, WeightsError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let tensors = if name.ends_with(".index.json") {
            index::read(path)?
        } else {
            read_file(path)?
        };
        Ok(Params {
            path: path.display().to_string().into(),
            tensors: Arc::new(tensors),
            prefix: String::new(),
            trainable: None,
        })
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        Path::new(&*self.path)
    }

    /// The place `part` below this one; parts may hold dots.
    #[must_use]
    pub fn pp(&self, part: impl std::fmt::Display) -> Self {
        Params {
            prefix: format!("{}{part}.", self.prefix),
            ..self.clone()
        }
    }

    /// The place `part` where the checkpoint has anything below it, else this one: a fine-tuned
    /// checkpoint holds its base model under a name of its own, a bare one at the root.
    #[must_use]
    pub fn base(&self, part: &str) -> Self {
        let below = self.pp(part);
        if below.keys().next().is_some() {
            below
        } else {
            self.clone()
        }
    }

    /// Every key below this place, relative to it.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors
            .range(self.prefix.clone()..)
            .map_while(|(key, _)| key.strip_prefix(&self.prefix))
    }

    /// Whether there is a tensor `key` here.
    pub fn has(&self, key: &str) -> bool {
        self.shape(key).is_some()
    }

    /// The shape of `key`, where it is there.
    pub fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors
            .get(&format!("{}{key}", self.prefix))
            .map(|stored| &*stored.shape)
    }

    /// Number of values in all tensors of the checkpoint.
    pub fn parameters(&self) -> usize {
        self.tensors
            .values()
            .filter(|stored| !matches!(stored.dtype, Dtype::Other(_)))
            .map(|stored| stored.shape.iter().product::<usize>())
            .sum()
    }

    /// The same checkpoint with the keys that `chosen` picks as variables, and the place where those
    /// are collected as layers ask for them. `chosen` sees whole keys.
    #[must_use]
    pub fn trainable(
        &self,
        chosen: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> (Self, Arc<Trainable>) {
        let trainable = Arc::new(Trainable::new(Box::new(chosen)));
        let params = Params {
            trainable: Some(trainable.clone()),
            ..self.clone()
        };
        (params, trainable)
    }

    /// Whether anything at or below this place is trained, and where that is collected.
    pub fn trains(&self) -> Option<&Arc<Trainable>> {
        let trainable = self.trainable.as_ref()?;
        let mut keys = self.keys();
        keys.any(|key| trainable.chooses(&format!("{}{key}", self.prefix)))
            .then_some(trainable)
    }

    /// What the normalisation at this place gathers while it is trained, from `start` on; one for all
    /// who ask.
    pub(in crate::nn) fn running_statistics(
        &self,
        start: RunningStatistics,
    ) -> Arc<Mutex<RunningStatistics>> {
        match &self.trainable {
            Some(trainable) => trainable.statistics(&self.prefix, start),
            None => Arc::new(Mutex::new(start)),
        }
    }

    /// The tensor `key`, which must have this shape: a variable where it is trained.
    ///
    /// # Errors
    /// As [`Params::get`], but for the last.
    pub fn parameter(&self, key: &str, shape: &[usize]) -> Result<Parameter, WeightsError> {
        let weight = self.buffer(key, shape)?;
        let full = format!("{}{key}", self.prefix);
        match &self.trainable {
            Some(trainable) if trainable.chooses(&full) => trainable
                .variable(full, &weight)
                .map(Parameter::from)
                .map_err(|error| self.wrong(key, &error.to_string())),
            _ => Ok(weight.into()),
        }
    }

    /// The tensor `key`, which must have this shape, for a layer that gives it another form when it is
    /// loaded and could not follow a variable.
    ///
    /// # Errors
    /// When it is not there, has another shape or no real numbers, or is to be trained.
    pub fn get(&self, key: &str, shape: &[usize]) -> Result<Weight, WeightsError> {
        let trained = self.trainable.as_ref();
        if trained.is_some_and(|trainable| trainable.chooses(&format!("{}{key}", self.prefix))) {
            return Err(self.wrong(
                key,
                "this part of the network cannot be trained yet; leave the key out of those that are",
            ));
        }
        self.buffer(key, shape)
    }

    /// The tensor `key`, which must have this shape and is never trained, whatever was chosen, such as
    /// the statistics of a normalisation.
    ///
    /// # Errors
    /// When it is not there, or has another shape or no real numbers.
    pub fn buffer(&self, key: &str, shape: &[usize]) -> Result<Weight, WeightsError> {
        let full = format!("{}{key}", self.prefix);
        let Some(stored) = self.tensors.get(&full) else {
            return Err(self.wrong(
                key,
                &format!("expected shape {shape:?}, got no such tensor"),
            ));
        };
        if stored.shape != shape {
            return Err(self.wrong(
                key,
                &format!("expected shape {shape:?}, got {:?}", stored.shape),
            ));
        }
        let ordered;
        let bytes = match &stored.strides {
            None => &stored.file[stored.bytes.clone()],
            Some(strides) => {
                ordered = stored.in_order(strides);
                &*ordered
            }
        };
        let values = match stored.dtype {
            Dtype::F32
                if stored.strides.is_none()
                    && bytemuck::try_cast_slice::<u8, f32>(bytes).is_ok() =>
            {
                Values::Mapped(stored.file.clone(), stored.bytes.clone())
            }
            Dtype::F32 => Values::owned(bytes, f32::from_le_bytes),
            Dtype::F16 => Values::owned(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => Values::owned(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => Values::owned(bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::Other(_) => {
                return Err(self.wrong(key, "expected real numbers, got whole ones"));
            }
        };
        Ok(Weight::new(shape, values))
    }

    /// An error about `key` here.
    pub fn wrong(&self, key: &str, what: &str) -> WeightsError {
        wrong(&self.path, format!("{}{key}: {what}", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ::safetensors::tensor::{Dtype as D, TensorView};

    use super::*;

    /// Writes `key -> (dtype, shape, bytes)`.
    fn write(path: &Path, tensors: &[(&str, D, &[usize], Vec<u8>)]) {
        let views = tensors.iter().map(|(key, dtype, shape, bytes)| {
            (key, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
        });
        let bytes = ::safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn every_width_of_real_number_is_read_and_f32_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let half = |v: f32| half::f16::from_f32(v).to_le_bytes().to_vec();
        let brain = |v: f32| half::bf16::from_f32(v).to_le_bytes().to_vec();
        write(
            &dir.path().join("model.safetensors"),
            &[
                ("a.weight", D::F32, &[2, 1], f32s(&[1.5, -2.0])),
                ("a.half", D::F16, &[1], half(0.25)),
                ("a.brain", D::BF16, &[1], brain(-3.0)),
                ("a.wide", D::F64, &[1], 7.5f64.to_le_bytes().to_vec()),
                ("a.ids", D::I64, &[1], 3i64.to_le_bytes().to_vec()),
                ("b", D::F32, &[], f32s(&[4.0])),
            ],
        );
        let root = Params::open_dir(dir.path()).unwrap();
        let a = root.pp("a");
        let weight = a.get("weight", &[2, 1]).unwrap();
        assert_eq!(weight.values(), [1.5, -2.0]);
        assert!(weight.is_mapped());
        assert_eq!(a.get("half", &[1]).unwrap().values(), [0.25]);
        assert_eq!(a.get("brain", &[1]).unwrap().values(), [-3.0]);
        assert_eq!(a.get("wide", &[1]).unwrap().values(), [7.5]);
        assert_eq!(root.get("b", &[]).unwrap().values(), [4.0]);
        assert_eq!(root.base("a").keys().count(), 5);
        assert_eq!(root.base("c").keys().count(), 6);
        assert_eq!(root.parameters(), 6);
        for (key, shape, part) in [
            (
                "weight",
                &[2][..],
                "a.weight: expected shape [2], got [2, 1]",
            ),
            (
                "bias",
                &[2],
                "a.bias: expected shape [2], got no such tensor",
            ),
            ("ids", &[1], "a.ids: expected real numbers"),
        ] {
            let error = a.get(key, shape).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("model.safetensors"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_index_leads_to_every_shard_and_to_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        write(
            &dir.path().join("model-1.safetensors"),
            &[("a", D::F32, &[1], f32s(&[1.0]))],
        );
        write(
            &dir.path().join("model-2.safetensors"),
            &[("b", D::F32, &[1], f32s(&[2.0]))],
        );
        let index = dir.path().join("model.safetensors.index.json");
        let read = |map: &str| {
            std::fs::write(
                &index,
                format!("{{\"metadata\":{{}},\"weight_map\":{map}}}"),
            )
            .unwrap();
            Params::open_dir(dir.path()).map_err(|error| error.to_string())
        };
        let params = read(r#"{"a":"model-1.safetensors","b":"model-2.safetensors"}"#).unwrap();
        assert_eq!(params.get("b", &[1]).unwrap().values(), [2.0]);
        for (map, part) in [
            (r#"{"a":"model-2.safetensors"}"#, "a: "),
            (
                r#"{"a":"../model-1.safetensors"}"#,
                "../model-1.safetensors",
            ),
            (r#"{"a":"/etc/passwd"}"#, "/etc/passwd"),
            (r#"{"a":"model-3.safetensors"}"#, "model-3.safetensors"),
            ("7", "weight_map"),
        ] {
            let error = read(map).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_cut_or_lying_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        write(&path, &[("a", D::F32, &[64], f32s(&[0.5; 64]))]);
        let whole = std::fs::read(&path).unwrap();
        let mut huge = whole.clone();
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let cuts = [0, 1, 7, 8, 20, whole.len() - 1].map(|cut| whole[..cut].to_vec());
        for bytes in cuts.into_iter().chain([huge]) {
            std::fs::write(&path, bytes).unwrap();
            let error = Params::open_dir(dir.path()).unwrap_err().to_string();
            assert!(error.contains("model.safetensors: "), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = Params::open_dir(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("expected one of model.safetensors"),
            "{error}"
        );
    }
}
