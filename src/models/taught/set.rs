//! All taught sounds of one embedder as one classifier whose labels may change while it runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::sound::TaughtSound;
use crate::models::{Classifier, Embedder, ModelError, ModelInfo};

/// Scores at or over this count unless a rule says otherwise: the threshold that each sound was given.
pub const THRESHOLD: f32 = 0.5;

/// Taught sounds that share an embedder, in the order of their names.
#[derive(Debug, Clone, PartialEq)]
pub struct TaughtSet {
    sounds: Vec<TaughtSound>,
    labels: Arc<[Arc<str>]>,
    thresholds: Arc<[Option<f32>]>,
}

impl TaughtSet {
    /// The set of `sounds`, all of them of one embedder.
    pub fn new(mut sounds: Vec<TaughtSound>) -> Self {
        sounds.sort_by(|a, b| a.name.cmp(&b.name));
        TaughtSet {
            labels: sounds.iter().map(|sound| sound.name.clone()).collect(),
            thresholds: sounds.iter().map(|_| Some(THRESHOLD)).collect(),
            sounds,
        }
    }

    /// The sounds, in the order of the labels.
    pub fn sounds(&self) -> &[TaughtSound] {
        &self.sounds
    }

    /// Their names.
    pub fn labels(&self) -> Arc<[Arc<str>]> {
        self.labels.clone()
    }

    /// Their thresholds: scores are mapped so that it is the same for all.
    pub fn thresholds(&self) -> Arc<[Option<f32>]> {
        self.thresholds.clone()
    }

    /// The score of every sound for an embedding, `(labels)`, each 0 to 1.
    ///
    /// # Errors
    /// When the embedding is of another length than those that a sound was taught with.
    pub fn score(&self, embedding: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        scores.clear();
        for sound in &self.sounds {
            scores.push(sound.score(embedding)?);
        }
        Ok(())
    }
}

/// An embedder and the sounds that were taught with it.
pub struct TaughtModel {
    info: ModelInfo,
    embedder: Box<dyn Embedder>,
    set: Arc<ArcSwap<TaughtSet>>,
    /// The labels of the scores that were given last.
    labels: Arc<[Arc<str>]>,
    embedding: Vec<f32>,
}

impl TaughtModel {
    /// The sounds of `set` on windows of `embedder`; who holds the same `set` may change it at any time.
    pub fn new(embedder: Box<dyn Embedder>, set: Arc<ArcSwap<TaughtSet>>) -> Self {
        let labels = set.load().labels();
        TaughtModel {
            info: ModelInfo {
                labels: labels.clone(),
                ..embedder.info().clone()
            },
            embedder,
            set,
            labels,
            embedding: Vec::new(),
        }
    }
}

impl Classifier for TaughtModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        let set = self.set.load();
        self.labels = set.labels();
        if set.sounds().is_empty() {
            scores.clear();
            return Ok(());
        }
        self.embedder.embed(window, &mut self.embedding)?;
        set.score(&self.embedding, scores)
    }

    fn labels(&self) -> Arc<[Arc<str>]> {
        self.labels.clone()
    }
}
