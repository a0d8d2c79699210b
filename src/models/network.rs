//! What every published network has in common: from samples to outputs, and from outputs to scores.
//!
//! A family implements [`Network`]; [`Published`] puts labels, scores and an identity around it.

use super::layout::Activated;
use super::{Classifier, Embedder, ModelError, ModelInfo};

/// A loaded network of one family: sound in, outputs out.
pub trait Network: Send {
    /// Samples a second of what it hears.
    fn rate_hz(&self) -> u32;

    /// Its native window in samples: what it was trained on, or a length that suits it.
    fn window(&self) -> usize;

    /// Whether its outputs are one a label; otherwise they are an embedding.
    fn classifies(&self) -> bool {
        true
    }

    /// The outputs of mono samples `(samples)`, exactly as the reference gives them for a clip of
    /// these samples: logits `(labels)`, or an embedding `(dim)`. A clip too short for the network is
    /// filled up with silence.
    ///
    /// # Errors
    /// When the parts of the network do not fit together.
    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError>;
}

/// A published network with its labels.
pub struct Published {
    info: ModelInfo,
    network: Box<dyn Network>,
    activated: Activated,
}

impl Published {
    /// `info` describes it; `activated` makes scores of its outputs.
    pub fn new(info: ModelInfo, network: Box<dyn Network>, activated: Activated) -> Self {
        Published {
            info,
            network,
            activated,
        }
    }
}

impl Classifier for Published {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        *scores = self.network.run(window)?;
        if scores.len() != self.info.labels.len() {
            return Err(ModelError::Shape(format!(
                "{}: expected {} outputs, one a label, got {}",
                self.info.name,
                self.info.labels.len(),
                scores.len()
            )));
        }
        self.activated.apply(scores);
        Ok(())
    }
}

impl Embedder for Published {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn embed(&mut self, window: &[f32], embedding: &mut Vec<f32>) -> Result<(), ModelError> {
        *embedding = self.network.run(window)?;
        Ok(())
    }
}
