//! The models: one file per architecture, the registry, and the embedded weights.

mod embedded;
pub mod event;
pub mod keyword;
pub mod registry;
pub mod verify;

pub use embedded::{embedded_event, embedded_keyword};

use std::sync::Arc;

use crate::features::log_mel;
use crate::nn::weights::{Checkpoint, WeightsError};

/// What a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Spoken words.
    Keyword,
    /// Sound events.
    Event,
}

impl Task {
    /// The name on the command line and on every wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Task::Keyword => "keyword",
            Task::Event => "event",
        }
    }
}

/// What a model is.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Registry name.
    pub name: Arc<str>,
    /// SHA-256 of the weights file, lower-case hexadecimal.
    pub sha256: Arc<str>,
    /// What it answers.
    pub task: Task,
    /// Labels in the order of the scores.
    pub labels: Arc<[Arc<str>]>,
    /// Native window in frames of the log-mel front end (10 ms each).
    pub window_frames: usize,
    /// Number of parameters.
    pub parameters: usize,
    /// SPDX expression.
    pub licence: Arc<str>,
}

/// A model that is stepped on every 10 ms frame. Real-time safe.
pub trait Spotter: Send {
    /// What it is.
    fn info(&self) -> &ModelInfo;
    /// Takes one log-mel frame `(N_MELS)` and writes the scores `(labels)`, a softmax.
    fn step(&mut self, frame: &[f32], scores: &mut [f32]);
    /// Forgets everything heard.
    fn reset(&mut self);
}

/// A model that scores windows of log-mel frames.
pub trait Classifier: Send {
    /// What it is.
    fn info(&self) -> &ModelInfo;
    /// Takes frames `(frames, N_MELS)`, oldest first, and writes the scores `(labels)`.
    ///
    /// # Errors
    /// When the window has a wrong shape.
    fn classify(&mut self, frames: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError>;
}

/// What can go wrong with a model; each text names file, key, expected and got.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(String),
    /// The file is not what it should be.
    #[error("{0}")]
    Format(String),
    /// A window or data set has a wrong shape.
    #[error("{0}")]
    Shape(String),
    /// The name is not known.
    #[error("{0}")]
    Unknown(String),
}

impl From<WeightsError> for ModelError {
    fn from(error: WeightsError) -> Self {
        match error {
            WeightsError::Io { .. } => ModelError::Read(error.to_string()),
            WeightsError::Format { .. } => ModelError::Format(error.to_string()),
        }
    }
}

/// What a checkpoint is, when it is for `task` and for this front end.
fn info_of(checkpoint: &Checkpoint, sha256: Arc<str>, task: Task) -> Result<ModelInfo, ModelError> {
    let card = &checkpoint.card;
    if card.task != task.as_str() {
        return Err(ModelError::Format(format!(
            "{}: expected a model for '{}', got '{}'",
            card.name,
            task.as_str(),
            card.task
        )));
    }
    if card.front_end != log_mel::SPEC {
        return Err(ModelError::Format(format!(
            "{}: expected the front end {}, got {}",
            card.name,
            log_mel::SPEC,
            card.front_end
        )));
    }
    Ok(ModelInfo {
        name: card.name.as_str().into(),
        sha256,
        task,
        labels: card
            .labels
            .iter()
            .map(|label| label.as_str().into())
            .collect(),
        window_frames: 100,
        parameters: checkpoint.parameters(),
        licence: card.licence.as_str().into(),
    })
}
