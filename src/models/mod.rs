//! The models: one file per architecture, the registry, and the embedded weights.

pub mod ast;
pub mod audioset;
pub mod clap;
pub mod ecapa;
pub mod efficientat;
mod embedded;
pub mod event;
pub mod hubert;
pub mod keyword;
pub mod layout;
pub mod network;
pub mod prompt;
pub mod registry;
pub mod silero;
pub mod speech_encoder;
pub mod speech_gate;
pub mod verify;
pub mod wav2vec2;
pub mod wavlm;
pub mod whisper;
pub mod yamnet;

pub use embedded::{embedded_event, embedded_keyword};

use std::sync::Arc;

use crate::features::{SettingsError, log_mel};
use crate::nn::tflite::TfliteError;
use crate::nn::weights::{Checkpoint, WeightsError};

/// What a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Spoken words.
    Keyword,
    /// Sound events.
    Event,
    /// What someone wants, from the sound of their request.
    Intent,
    /// The language that is spoken.
    Language,
    /// Whose voice it is, as an embedding.
    Speaker,
    /// The genre of music.
    Genre,
    /// Descriptions in plain words, by one embedding for sound and text.
    Prompt,
    /// Nothing by itself: a base for training, its mean state as an embedding.
    Base,
}

impl Task {
    /// The name on the command line and on every wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Task::Keyword => "keyword",
            Task::Event => "event",
            Task::Intent => "intent",
            Task::Language => "language",
            Task::Speaker => "speaker",
            Task::Genre => "genre",
            Task::Prompt => "prompt",
            Task::Base => "base",
        }
    }

    /// Whether its answer is an embedding and no scores.
    pub const fn is_embedding(self) -> bool {
        matches!(self, Task::Speaker | Task::Prompt | Task::Base)
    }
}

/// What a model is fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Frames `(frames, N_MELS)` of the front end that the small models share.
    LogMel,
    /// Mono samples of this rate.
    Samples {
        /// Samples a second.
        rate_hz: u32,
    },
}

impl Input {
    /// Samples a second of the sound behind it.
    pub fn rate_hz(self) -> u32 {
        match self {
            Input::LogMel => crate::clock::PIPELINE_RATE_HZ,
            Input::Samples { rate_hz } => rate_hz,
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
    /// What it is fed with.
    pub input: Input,
    /// Native window in frames of 10 ms.
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

/// A model that scores windows of sound.
pub trait Classifier: Send {
    /// What it is.
    fn info(&self) -> &ModelInfo;
    /// Takes a window of what its [`ModelInfo::input`] says, oldest first, and writes the scores
    /// `(labels)`; a window may be shorter than the native one, as the last of a file is.
    ///
    /// # Errors
    /// When the window has a wrong shape, or the model fails on it.
    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError>;
}

/// A model that turns windows of sound into points that are near each other where the sounds are.
pub trait Embedder: Send {
    /// What it is.
    fn info(&self) -> &ModelInfo;
    /// Takes samples `(samples)` at the rate of its [`ModelInfo::input`] and writes the embedding, of one
    /// length for all windows.
    ///
    /// # Errors
    /// When the model fails on the window.
    fn embed(&mut self, window: &[f32], embedding: &mut Vec<f32>) -> Result<(), ModelError>;
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

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        ModelError::Shape(format!("the network does not fit together: {error}"))
    }
}

impl From<WeightsError> for ModelError {
    fn from(error: WeightsError) -> Self {
        match error {
            WeightsError::Io { .. } => ModelError::Read(error.to_string()),
            WeightsError::Format { .. } => ModelError::Format(error.to_string()),
        }
    }
}

impl From<SettingsError> for ModelError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Read { .. } => ModelError::Read(error.to_string()),
            _ => ModelError::Format(error.to_string()),
        }
    }
}

impl From<TfliteError> for ModelError {
    fn from(error: TfliteError) -> Self {
        match error {
            TfliteError::Io { .. } => ModelError::Read(error.to_string()),
            TfliteError::Format { .. } => ModelError::Format(error.to_string()),
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
        input: Input::LogMel,
        window_frames: 100,
        parameters: checkpoint.parameters(),
        licence: card.licence.as_str().into(),
    })
}
