//! Sound in, scored windows out: the front end, the windows and the model of `hark classify`.

use std::sync::Arc;

use crate::clock::{PIPELINE_RATE_HZ, SampleIdx};
use crate::detect::LevelMeter;
use crate::detect::content;
use crate::features::{Frontend, HOP, LogMel, N_MELS};
use crate::models::registry::Model;
use crate::models::{ModelError, ModelInfo};
use crate::pipeline::window::FrameWindow;

/// A window and what the model says of it.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// Where it begins, in seconds from the start of the file.
    pub start_s: f64,
    /// Where it ends, the end of the file at the latest.
    pub end_s: f64,
    /// The model.
    pub model: &'a ModelInfo,
    /// Labels in the model's order.
    pub labels: &'a [Arc<str>],
    /// One score a label.
    pub scores: &'a [f32],
}

/// Takes each window as it is scored.
pub type Emit<'a> = dyn FnMut(Scored<'_>) -> anyhow::Result<()> + 'a;

/// Scores windows of one file after the other.
pub struct Scorer {
    model: Model,
    content: Option<ContentScores>,
    features: LogMel,
    window: FrameWindow,
    /// Frames that were finished but not yet taken: `(end, N_MELS values)`.
    ends: Vec<SampleIdx>,
    frames: Vec<f32>,
    scores: Vec<f32>,
    /// Samples of the file so far.
    samples: u64,
    /// End of the last window that was scored, in samples.
    covered: u64,
}

/// What turns event scores into content scores.
struct ContentScores {
    labels: Vec<Arc<str>>,
    level: LevelMeter,
}

/// Seconds as frames of 10 ms.
pub fn to_frames(seconds: f64) -> usize {
    (seconds * f64::from(PIPELINE_RATE_HZ) / HOP as f64).round() as usize
}
