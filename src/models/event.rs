//! The event model: a sigmoid a label over one window of log-mel frames.

use std::sync::Arc;

use super::{Classifier, ModelError, ModelInfo, Task, info_of};
use crate::features::N_MELS;
use crate::nn::{column::Column, weights::Checkpoint};

/// An event model; a window is run through the per-frame form from reset, which needs no more
/// memory than a frame.
pub struct EventModel {
    info: ModelInfo,
    column: Column,
}

impl EventModel {
    /// Builds it from a checkpoint; `sha256` is that of the file.
    ///
    /// # Errors
    /// When the checkpoint is for another task or front end.
    pub fn new(checkpoint: &Checkpoint, sha256: Arc<str>) -> Result<Self, ModelError> {
        Ok(EventModel {
            info: info_of(checkpoint, sha256, Task::Event)?,
            column: Column::new(checkpoint),
        })
    }
}

impl Classifier for EventModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn classify(&mut self, frames: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        self.column.reset();
        let steps = frames
            .chunks_exact(N_MELS)
            .filter(|frame| self.column.step(frame))
            .count();
        if steps == 0 || !frames.len().is_multiple_of(N_MELS) {
            return Err(ModelError::Shape(format!(
                "{}: expected a window of (frames, {N_MELS}) long enough for one step, got {} values",
                self.info.name,
                frames.len()
            )));
        }
        scores.clear();
        scores.extend(
            self.column
                .logits()
                .iter()
                .map(|logit| 1.0 / (1.0 + (-logit).exp())),
        );
        Ok(())
    }
}
