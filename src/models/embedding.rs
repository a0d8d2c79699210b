//! The small networks and YAMNet as embedders: what their heads see of a window.
//!
//! An event network gives the mean of its last layer over the window. A word is an order of sounds, so a
//! keyword network gives the means over parts of the window, one behind the other: of 5 words that no
//! label knows, taught with 5 examples each, three parts find 72 % at one false accept an hour and the
//! mean over all finds 60 % (parts of 0.8 s, whitened cosine).

use std::path::Path;
use std::sync::Arc;

use super::network::Network;
use super::yamnet::{PATCH_SAMPLES, Yamnet};
use super::{Embedder, ModelError, ModelInfo, Task, info_of};
use crate::clock::PIPELINE_RATE_HZ;
use crate::features::N_MELS;
use crate::nn::{column::Column, weights::Checkpoint};

/// Parts of a word.
const PARTS: usize = 3;
/// Steps of the keyword network (20 ms each) that are parted: 0.8 s, a word of three syllables.
const WORD_STEPS: usize = 40;
/// Frames of a window of the keyword network: the parted steps and 0.3 s before them, which its layers
/// look back to.
const WORD_FRAMES: usize = 110;

/// A network of log-mel frames without its head.
pub struct ColumnEmbedder {
    info: ModelInfo,
    column: Column,
    /// How many parts of the window stand in the embedding.
    parts: usize,
    /// Steps of a window, `(steps, embedding)`.
    steps: Vec<f32>,
}

impl ColumnEmbedder {
    /// Builds it from a checkpoint for events or words; `sha256` is that of the file.
    ///
    /// # Errors
    /// When the checkpoint is for another task or front end.
    pub fn new(checkpoint: &Checkpoint, sha256: Arc<str>) -> Result<Self, ModelError> {
        let is_words = checkpoint.card.task == Task::Keyword.as_str();
        let (task, parts) = match is_words {
            true => (Task::Keyword, PARTS),
            false => (Task::Event, 1),
        };
        let mut info = info_of(checkpoint, sha256, task)?;
        info.labels = Arc::new([]);
        if is_words {
            info.window_frames = WORD_FRAMES;
        }
        Ok(ColumnEmbedder {
            info,
            column: Column::new(checkpoint),
            parts,
            steps: Vec::new(),
        })
    }
}

impl Embedder for ColumnEmbedder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn embed(&mut self, frames: &[f32], embedding: &mut Vec<f32>) -> Result<(), ModelError> {
        self.column.reset();
        self.steps.clear();
        for frame in frames.chunks_exact(N_MELS) {
            if self.column.step(frame) {
                self.steps.extend_from_slice(self.column.newest());
            }
        }
        let dim = self.column.newest().len();
        let count = self.steps.len() / dim.max(1);
        if count < self.parts || !frames.len().is_multiple_of(N_MELS) {
            return Err(ModelError::Shape(format!(
                "{}: expected a window of (frames, {N_MELS}) long enough for {} steps, got {} values",
                self.info.name,
                self.parts,
                frames.len()
            )));
        }
        let used = match self.parts {
            1 => count,
            _ => count.min(WORD_STEPS),
        };
        let steps = &self.steps[(count - used) * dim..];
        embedding.clear();
        for part in 0..self.parts {
            let (from, to) = (used * part / self.parts, used * (part + 1) / self.parts);
            let begin = embedding.len();
            embedding.resize(begin + dim, 0.0);
            let mean = &mut embedding[begin..];
            for step in steps[from * dim..to * dim].chunks_exact(dim) {
                mean.iter_mut().zip(step).for_each(|(mean, v)| *mean += v);
            }
            let share = 1.0 / (to - from) as f32;
            mean.iter_mut().for_each(|mean| *mean *= share);
        }
        Ok(())
    }
}

/// YAMNet without its last layer.
pub struct YamnetEmbedder(Yamnet);

impl YamnetEmbedder {
    /// Reads the published file.
    ///
    /// # Errors
    /// When it cannot be read or is another network.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Ok(YamnetEmbedder(Yamnet::open(path)?))
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.0.parameters()
    }
}

impl Network for YamnetEmbedder {
    fn rate_hz(&self) -> u32 {
        PIPELINE_RATE_HZ
    }

    fn window(&self) -> usize {
        PATCH_SAMPLES
    }

    fn classifies(&self) -> bool {
        false
    }

    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        let mut embedding = Vec::new();
        self.0.embed(pcm, &mut embedding);
        Ok(embedding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::LogMel;
    use crate::models::{embedded_event_embedder, embedded_keyword_embedder};
    use crate::nn::{spec::sample, weights::random_checkpoint};

    fn noise(samples: usize, seed: u64) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..samples).map(|_| rng.f32() - 0.5).collect()
    }

    #[test]
    fn what_an_event_network_sees_is_the_mean_that_its_head_takes() {
        let mut checkpoint = random_checkpoint(sample(), 7);
        checkpoint.card.task = "event".into();
        checkpoint.card.front_end = crate::features::log_mel::SPEC.into();
        checkpoint.card.net.pool = 64;
        let frames = LogMel::batch(&noise(16_240, 1));
        let mut column = Column::new(&checkpoint);
        for frame in frames.chunks_exact(N_MELS) {
            column.step(frame);
        }
        let mut embedder = ColumnEmbedder::new(&checkpoint, "".into()).unwrap();
        let mut embedding = vec![5.0; 3];
        embedder.embed(&frames, &mut embedding).unwrap();
        assert_eq!(embedding.len(), column.embedding().len());
        for (got, expected) in embedding.iter().zip(column.embedding()) {
            assert!((got - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn a_word_turned_round_is_another_word_and_a_sound_turned_round_is_not() {
        let mut tone: Vec<f32> = (0..9_000).map(|n| (n as f32 * 0.3).sin() * 0.5).collect();
        let mut turned = noise(9_000, 2);
        let second = turned.clone();
        turned.extend_from_slice(&tone);
        tone.extend_from_slice(&second);
        let distance = |embedder: &mut dyn Embedder| {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            embedder.embed(&LogMel::batch(&tone), &mut a).unwrap();
            embedder.embed(&LogMel::batch(&turned), &mut b).unwrap();
            let apart: f32 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
            let size: f32 = a.iter().chain(&b).map(|v| v * v).sum();
            apart / size
        };
        let word = distance(&mut *embedded_keyword_embedder().unwrap());
        let sound = distance(&mut *embedded_event_embedder().unwrap());
        assert!(word > 1.5 * sound, "{word} {sound}");
    }

    #[test]
    fn a_window_too_short_for_a_step_is_an_error() {
        let mut embedder = embedded_keyword_embedder().unwrap();
        let error = embedder.embed(&[0.0; N_MELS], &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("3 steps, got 64"), "{error}");
    }
}
