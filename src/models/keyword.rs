//! The keyword model: a softmax over words, stepped on every frame.

use std::sync::Arc;

use super::{ModelError, ModelInfo, Spotter, Task, info_of};
use crate::nn::{column::Column, weights::Checkpoint};

/// A keyword model in its per-frame form.
pub struct KeywordModel {
    info: ModelInfo,
    column: Column,
    scores: Vec<f32>,
}

impl KeywordModel {
    /// Builds it from a checkpoint; `sha256` is that of the file.
    ///
    /// # Errors
    /// When the checkpoint is for another task or front end.
    pub fn new(checkpoint: &Checkpoint, sha256: Arc<str>) -> Result<Self, ModelError> {
        let info = info_of(checkpoint, sha256, Task::Keyword)?;
        let scores = vec![0.0; info.labels.len()];
        let mut model = KeywordModel {
            info,
            column: Column::new(checkpoint),
            scores,
        };
        model.reset();
        Ok(model)
    }
}

impl Spotter for KeywordModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn step(&mut self, frame: &[f32], scores: &mut [f32]) {
        if self.column.step(frame) {
            softmax(self.column.logits(), &mut self.scores);
        }
        scores.copy_from_slice(&self.scores);
    }

    fn reset(&mut self) {
        self.column.reset();
        // Before the first step it has heard nothing, which is the first label, silence.
        self.scores.fill(0.0);
        if let Some(silence) = self.scores.first_mut() {
            *silence = 1.0;
        }
    }
}

/// `exp(x) / sum(exp(x))` without overflow. Real-time safe.
pub fn softmax(logits: &[f32], out: &mut [f32]) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (out, logit) in out.iter_mut().zip(logits) {
        *out = (logit - max).exp();
        sum += *out;
    }
    out.iter_mut().for_each(|out| *out /= sum);
}
