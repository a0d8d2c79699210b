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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::SafeTensors;

    use super::super::{PhraseEmbedder, Prompt};
    use super::*;

    fn fixture(case: &str) -> InstalledClap {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/fixtures")
            .join(case);
        InstalledClap::locate(dir.to_str()).unwrap()
    }

    fn prompts(names: &[&str]) -> Vec<Prompt> {
        let prompt = |name: &&str| Prompt {
            name: (*name).into(),
            phrases: vec![name.to_string()],
            threshold: 0.5,
        };
        names.iter().map(prompt).collect()
    }

    fn tone(seconds: f32) -> Vec<f32> {
        let samples = (seconds * 48_000.0) as usize;
        (0..samples)
            .map(|n| (n as f32 * 0.06).sin() * 0.3)
            .collect()
    }

    #[test]
    fn the_set_may_change_while_it_runs() {
        let cache = tempfile::tempdir().unwrap();
        for case in ["clap-unfused", "clap-fused"] {
            let clap = fixture(case);
            let mut embedder = PhraseEmbedder::open(&clap, cache.path()).unwrap();
            let set = Arc::new(ArcSwap::from_pointee(PromptSet::default()));
            let mut model = PromptModel::open(&clap, set.clone()).unwrap();
            let info = Classifier::info(&model).clone();
            assert_eq!(info.input, Input::Samples { rate_hz: 48_000 });
            assert_eq!((info.window_frames, info.labels.len()), (1000, 0));
            let mut scores = vec![1.0];
            model.classify(&tone(1.0), &mut scores).unwrap();
            assert!(scores.is_empty() && matches!(model.audio, Tower::Absent(_)));

            set.store(Arc::new(
                embedder
                    .prompt_set(&prompts(&["dog", "rain"]), &[])
                    .unwrap(),
            ));
            // Shorter than the model's window, its length, and longer.
            for seconds in [0.5, 10.0, 13.0] {
                model.classify(&tone(seconds), &mut scores).unwrap();
                assert_eq!(scores.len(), 2);
                assert!(
                    scores.iter().all(|score| (0.0..1.0).contains(score)),
                    "{scores:?}"
                );
                let mut embedding = Vec::new();
                model.embed(&tone(seconds), &mut embedding).unwrap();
                let mut expected = Vec::new();
                set.load().score(&embedding, &mut expected);
                assert_eq!(scores, expected);
            }
            set.store(Arc::new(
                embedder.prompt_set(&prompts(&["glass"]), &[]).unwrap(),
            ));
            assert_eq!(
                model.labels().len(),
                2,
                "those of the scores that were given"
            );
            model.classify(&tone(1.0), &mut scores).unwrap();
            assert_eq!((scores.len(), &*model.labels()[0]), (1, "glass"));
        }
    }

    #[test]
    fn samples_and_weights_that_are_no_numbers_are_told_apart() {
        let cache = tempfile::tempdir().unwrap();
        let clap = fixture("clap-unfused");
        let mut embedder = PhraseEmbedder::open(&clap, cache.path()).unwrap();
        let set = embedder.prompt_set(&prompts(&["dog"]), &[]).unwrap();
        let set = Arc::new(ArcSwap::from_pointee(set));
        let mut scores = Vec::new();
        let mut model = PromptModel::open(&clap, set.clone()).unwrap();
        let mut sound = tone(1.0);
        sound[100] = f32::NAN;
        if let Err(error) = model.classify(&sound, &mut scores) {
            assert!(
                error.to_string().contains("samples that are numbers"),
                "{error}"
            );
        }

        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&clap.dir).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let weights = copy.path().join("model.safetensors");
        let mut bytes = std::fs::read(&weights).unwrap();
        let place = {
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            let data = tensors
                .tensor("audio_projection.linear2.bias")
                .unwrap()
                .data();
            data.as_ptr() as usize - bytes.as_ptr() as usize
        };
        bytes[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&weights, bytes).unwrap();
        let damaged = InstalledClap::locate(copy.path().to_str()).unwrap();
        let mut model = PromptModel::open(&damaged, set).unwrap();
        model.load().unwrap();
        let error = model
            .classify(&tone(1.0), &mut scores)
            .unwrap_err()
            .to_string();
        assert!(error.contains("weights are damaged"), "{error}");
        assert!(scores.is_empty());
    }
}
