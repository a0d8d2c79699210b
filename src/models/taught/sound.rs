//! A taught sound: a direction among the embeddings of one embedder, and how like it a window is.

use std::sync::Arc;

use super::background::{dot, place};
use super::card::Card;
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

/// The numbers of a taught sound.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Form {
    /// Mean of the background, `(dim)`.
    pub mean: Vec<f32>,
    /// Scaled axes, `(axes, dim)`.
    pub axes: Vec<f32>,
    /// Unit vector from the background to the sound along them, `(axes)`.
    pub direction: Vec<f32>,
    /// Likeness of a score of 0.5.
    pub threshold: f32,
    /// Rise of the logit of the score with likeness.
    pub slope: f32,
}

/// How like a direction a point along the axes is.
///
/// Of a sound it is the discriminant itself, the distance along the direction in deviations of the
/// background. Of a word it is the cosine, since loud or clear words lie far out in every direction:
/// at one false accept an hour that finds 69 % of words and the discriminant 59 %, while of sounds the
/// discriminant finds 97 % and the cosine 94 %.
pub(super) fn likeness(kind: TaughtKind, direction: &[f32], point: &[f32]) -> f32 {
    let along = dot(direction, point);
    match kind {
        TaughtKind::Sound => along,
        TaughtKind::Word => along / dot(point, point).sqrt().max(1e-6),
    }
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
        Ok(self.form.score(self.kind, embedding))
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

impl Form {
    /// The score of an embedding of the right length.
    pub(super) fn score(&self, kind: TaughtKind, embedding: &[f32]) -> f32 {
        let point = place(&self.mean, &self.axes, embedding);
        let over = likeness(kind, &self.direction, &point) - self.threshold;
        1.0 / (1.0 + (-over * self.slope).exp())
    }
}
