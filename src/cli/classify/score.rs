//! Sound in, scored windows out, whatever the model takes. Nothing is read or shown here.

use std::sync::Arc;

use super::frames::FrameScorer;
use super::samples::SampleScorer;
use crate::clock::PIPELINE_RATE_HZ;
use crate::features::HOP;
use crate::models::ModelInfo;
use crate::models::registry::Model;

/// A window and what the model says of it.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// Where it begins, in seconds from the start of the file.
    pub start_s: f64,
    /// Where it ends; the end of the file at the latest.
    pub end_s: f64,
    /// Name of the model.
    pub model: &'a str,
    /// Labels in the model's order; none for an embedding.
    pub labels: &'a [Arc<str>],
    /// One score a label, or an embedding.
    pub scores: &'a [f32],
}

/// Takes each window as it is scored.
pub type Emit<'a> = dyn FnMut(Scored<'_>) -> anyhow::Result<()> + 'a;

/// Scores the windows of one file after the other.
pub enum Scorer {
    /// With a model of log-mel frames.
    Frames(Box<FrameScorer>),
    /// With a model of samples.
    Samples(Box<SampleScorer>),
}

impl Scorer {
    /// Windows of `window_s` every `hop_s` seconds; `content` turns the scores of an event model
    /// into those of the four content states.
    pub fn new(model: Model, content: bool, window_s: f64, hop_s: f64) -> Self {
        let samples = |seconds: f64, rate_hz: u32| (seconds * f64::from(rate_hz)).round() as usize;
        let rate_hz = model.info().input.rate_hz();
        let (window, hop) = (samples(window_s, rate_hz), samples(hop_s, rate_hz));
        match SampleScorer::new(model, window, hop) {
            Ok(scorer) => Scorer::Samples(Box::new(scorer)),
            Err(model) => {
                let frames = |seconds| samples(seconds, PIPELINE_RATE_HZ) / HOP;
                Scorer::Frames(Box::new(FrameScorer::new(
                    model,
                    content,
                    frames(window_s).max(1),
                    frames(hop_s).max(1),
                )))
            }
        }
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        match self {
            Scorer::Frames(scorer) => scorer.info(),
            Scorer::Samples(scorer) => scorer.info(),
        }
    }

    /// Begins another file.
    pub fn begin(&mut self) {
        match self {
            Scorer::Frames(scorer) => scorer.begin(),
            Scorer::Samples(scorer) => scorer.begin(),
        }
    }

    /// Takes samples at the model's rate and emits the windows that they finish.
    ///
    /// # Errors
    /// When the model refuses a window, or `emit` fails.
    pub fn push(&mut self, pcm: &[f32], emit: &mut Emit<'_>) -> anyhow::Result<()> {
        match self {
            Scorer::Frames(scorer) => scorer.push(pcm, emit),
            Scorer::Samples(scorer) => scorer.push(pcm, emit),
        }
    }

    /// Ends the file: what no window has held yet is in one more.
    ///
    /// # Errors
    /// As [`Scorer::push`].
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        match self {
            Scorer::Frames(scorer) => scorer.finish(emit),
            Scorer::Samples(scorer) => scorer.finish(emit),
        }
    }
}
