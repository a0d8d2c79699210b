//! Front ends: sound in, frames out. Live and training share them.

pub mod log_mel;
pub mod mel;

pub use log_mel::{HOP, LogMel, N_MELS};

use crate::clock::SampleIdx;

/// An incremental front end: any chunking gives the same frames as one batch.
pub trait Frontend: Send {
    /// Takes mono samples at the pipeline rate and calls `emit` with each finished frame and the
    /// index of one past the last sample that the frame sees. Allocates nothing.
    fn push(&mut self, pcm: &[f32], emit: &mut dyn FnMut(SampleIdx, &[f32]));
    /// Forgets the samples held back; the next sample is `at`.
    fn reset(&mut self, at: SampleIdx);
}
