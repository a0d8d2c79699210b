//! Fine-tuning mode: data, augmentation, trainer, metrics.

pub mod manifest;

pub use manifest::{Clip, DataError, Manifest, Split};
