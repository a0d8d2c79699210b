//! The audio tower around a set of prompts that may change while it runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{InstalledClap, PromptSet};
use crate::models::clap::ClapAudio;
use crate::models::{Classifier, Embedder, Input, ModelError, ModelInfo, Task};

/// Scores windows of sound for the prompts of the set in force.
///
/// A window is heard as the checkpoint's own feature extractor has it: a shorter one than 10 s repeated
/// (`repeatpad`), a longer one cut or, by a checkpoint with fusion, seen whole and in chunks.
pub struct PromptModel {
    info: ModelInfo,
    audio: Tower,
    set: Arc<ArcSwap<PromptSet>>,
    /// Those of the scores that were given last.
    labels: Arc<[Arc<str>]>,
}

/// The audio tower, which is loaded when the first window comes: a set without prompts needs none.
enum Tower {
    Absent(Box<InstalledClap>),
    Loaded(Box<ClapAudio>),
}

impl Tower {
    fn load(&mut self) -> Result<&ClapAudio, ModelError> {
        if let Tower::Absent(clap) = self {
            let layout = clap.layout()?;
            *self = Tower::Loaded(Box::new(ClapAudio::load(&layout, &layout.params()?)?));
        }
        match self {
            Tower::Loaded(audio) => Ok(audio),
            Tower::Absent(clap) => Err(ModelError::Unknown(format!("{} is not loaded", clap.name))),
        }
    }
}

impl PromptModel {
    /// Opens `clap` for the prompts of `set`. Its configuration is checked; its tensors are read when the
    /// first window comes, or by [`PromptModel::load`].
    ///
    /// # Errors
    /// When the directory is not that of a CLAP, or its configuration or feature extractor is wrong.
    pub fn open(clap: &InstalledClap, set: Arc<ArcSwap<PromptSet>>) -> Result<Self, ModelError> {
        let layout = clap.layout()?;
        let params = layout.params()?;
        let front_end = ClapAudio::front_end_of(&layout)?;
        let (rate_hz, window) = (front_end.rate_hz(), front_end.window_samples());
        let labels = set.load().labels();
        Ok(PromptModel {
            info: ModelInfo {
                name: clap.name.clone(),
                sha256: clap.sha256()?,
                task: Task::Prompt,
                labels: labels.clone(),
                input: Input::Samples { rate_hz },
                window_frames: (window * 100).div_ceil(rate_hz.max(1) as usize),
                parameters: params.parameters(),
                licence: clap.licence.clone(),
            },
            audio: Tower::Absent(Box::new(clap.clone())),
            set,
            labels,
        })
    }

    /// Loads the audio tower, where it is not yet.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub fn load(&mut self) -> Result<(), ModelError> {
        self.audio.load().map(|_| ())
    }

    /// The embedding of mono samples `(samples)` at the rate of its input, of length 1.
    ///
    /// # Errors
    /// When the tower cannot be loaded, or gives no numbers.
    pub fn embedding(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        let embedding = self.audio.load()?.embed(pcm)?;
        if embedding.iter().all(|value| value.is_finite()) {
            return Ok(embedding);
        }
        let is_sound = pcm.iter().all(|sample| sample.is_finite());
        Err(if is_sound {
            ModelError::Format(format!(
                "{}: expected numbers from the audio tower, got none: its weights are damaged, verify them with hark models verify",
                self.info.name
            ))
        } else {
            ModelError::Shape(format!(
                "{}: expected samples that are numbers, got some that are not",
                self.info.name
            ))
        })
    }
}

impl Classifier for PromptModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        let set = self.set.load_full();
        self.labels = set.labels();
        scores.clear();
        if set.is_empty() {
            return Ok(());
        }
        let embedding = self.embedding(window)?;
        set.score(&embedding, scores);
        Ok(())
    }

    fn labels(&self) -> Arc<[Arc<str>]> {
        self.labels.clone()
    }
}

impl Embedder for PromptModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn embed(&mut self, window: &[f32], embedding: &mut Vec<f32>) -> Result<(), ModelError> {
        *embedding = self.embedding(window)?;
        Ok(())
    }
}
