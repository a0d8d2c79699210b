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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::TaughtKind;
    use crate::models::taught::{Clip, Enrolment, embedder_for, enrol};

    fn taught(name: &str, seed: u64) -> TaughtSound {
        let sounds = crate::audio::synth::Sound::ALL;
        let clips: Vec<Clip> = (0..3)
            .map(|at| {
                let mut rng = fastrand::Rng::with_seed(seed * 10 + at);
                let sound = sounds[seed as usize % sounds.len()];
                Clip::new("a", crate::audio::synth::render(sound, &mut rng, 1.2)).unwrap()
            })
            .collect();
        let enrolment = Enrolment {
            name,
            kind: TaughtKind::Sound,
            clips: &clips,
            target_fa_per_hour: 1.0,
            background: None,
            room: None,
            known: &[],
        };
        let mut embedder = embedder_for(TaughtKind::Sound).unwrap();
        enrol(&enrolment, &mut *embedder).unwrap().sound
    }

    #[test]
    fn labels_follow_the_set_while_it_runs() {
        let set = Arc::new(ArcSwap::from_pointee(TaughtSet::new(Vec::new())));
        let embedder = embedder_for(TaughtKind::Sound).unwrap();
        let dim = taught("b", 0).dim();
        let mut model = TaughtModel::new(embedder, set.clone());
        let window = vec![0.0; 100 * crate::features::N_MELS];
        let mut scores = vec![1.0];
        model.classify(&window, &mut scores).unwrap();
        assert!(scores.is_empty() && model.labels().is_empty());
        set.store(Arc::new(TaughtSet::new(vec![
            taught("b", 0),
            taught("a", 4),
        ])));
        model.classify(&window, &mut scores).unwrap();
        let labels: Vec<_> = model.labels().iter().map(ToString::to_string).collect();
        assert_eq!((labels, scores.len()), (vec!["a".into(), "b".into()], 2));
        assert!(
            scores.iter().all(|score| (0.0..0.5).contains(score)),
            "{scores:?}"
        );
        assert_eq!(*set.load().thresholds(), [Some(0.5), Some(0.5)]);
        let error = set
            .load()
            .score(&vec![0.0; dim - 1], &mut scores)
            .unwrap_err();
        assert!(
            error.to_string().contains("expected an embedding of"),
            "{error}"
        );
    }
}
