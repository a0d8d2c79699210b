//! A taught sound: a direction among the embeddings of one embedder, and how like it a window is.

use std::sync::Arc;

use super::card::Card;
use super::form::Form;
use crate::command::TaughtKind;
use crate::models::{ModelError, ModelInfo};

/// A sound or word that was taught.
#[derive(Debug, Clone, PartialEq)]
pub struct TaughtSound {
    /// Its name, the label of its events.
    pub name: Arc<str>,
    /// Sound or word.
    pub kind: TaughtKind,
    /// What is known of it beside its numbers, the embedder among it.
    pub card: Card,
    pub(super) form: Form,
}

impl TaughtSound {
    /// Values of the embeddings that it is compared with.
    pub fn dim(&self) -> usize {
        self.form.mean.len()
    }

    /// How surely an embedding `(dim)` is this sound: 0 to 1, 0.5 at the threshold that it was given
    /// for a rate of false accepts. Allocates a few hundred bytes.
    ///
    /// # Errors
    /// When the embedding has another length.
    pub fn score(&self, embedding: &[f32]) -> Result<f32, ModelError> {
        if embedding.len() != self.dim() {
            return Err(ModelError::Shape(format!(
                "taught sound '{}': expected an embedding of {} values, got {}",
                self.name,
                self.dim(),
                embedding.len()
            )));
        }
        Ok(self.form.score(embedding))
    }

    /// Why it cannot be used with the embedder that is installed, and what to do; `None` where it can.
    pub fn stale(&self, installed: &ModelInfo) -> Option<String> {
        let (name, sha256) = (&self.card.embedder, &self.card.embedder_sha256);
        if *sha256 == *installed.sha256 {
            return None;
        }
        let brief = |text: &str| text.chars().take(12).collect::<String>();
        Some(format!(
            "'{}' was taught with other weights of {name} ({}, installed are {}): teach it again with 'hark teach --replace'",
            self.name,
            brief(sha256),
            brief(&installed.sha256)
        ))
    }
}
