//! Front ends: sound in, frames out. Live and training share them.
//!
//! [`LogMel`] is incremental, for the small models that hear every frame. The others make the input of
//! a published checkpoint from a whole window, each as its reference does, over one shared
//! [`spectrum`] and one kind of [`mel`] bank.

pub mod clap_mel;
pub mod efficientat_mel;
pub mod kaldi_fbank;
pub mod log_mel;
pub mod mel;
pub mod settings;
pub mod spectrum;
pub mod speechbrain_fbank;
pub mod wave_norm;
pub mod whisper_mel;

pub use log_mel::{HOP, LogMel, N_MELS};
pub use settings::{Settings, SettingsError};

use crate::clock::SampleIdx;

/// Frames of features, row-major `(frames, bins)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrogram {
    /// Rows, in time.
    pub frames: usize,
    /// Columns, in frequency.
    pub bins: usize,
    /// `frames * bins` values.
    pub values: Vec<f32>,
}

/// An incremental front end: any chunking gives the same frames as one batch.
pub trait Frontend: Send {
    /// Takes mono samples at the pipeline rate and calls `emit` with each finished frame and the
    /// index of one past the last sample that the frame sees. Allocates nothing.
    fn push(&mut self, pcm: &[f32], emit: &mut dyn FnMut(SampleIdx, &[f32]));
    /// Forgets the samples held back; the next sample is `at`.
    fn reset(&mut self, at: SampleIdx);
}
