//! The log-mel front end that all small models share.

use super::Frontend;
use crate::clock::SampleIdx;

/// Distance between frames, in samples (10 ms).
pub const HOP: usize = 160;
/// Mel bands of a frame.
pub const N_MELS: usize = 64;

/// Incremental log-mel.
pub struct LogMel {}

impl LogMel {
    /// The front end of the embedded models, with sample 0 next.
    pub fn new() -> Self {
        todo!()
    }
}

impl Default for LogMel {
    fn default() -> Self {
        LogMel::new()
    }
}

impl Frontend for LogMel {
    fn push(&mut self, _pcm: &[f32], _emit: &mut dyn FnMut(SampleIdx, &[f32])) {
        todo!()
    }

    fn reset(&mut self, _at: SampleIdx) {
        todo!()
    }
}
