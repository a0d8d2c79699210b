//! Embedders that listen to the room beside the models: what they hear becomes a `Room` of points, and
//! the scores of prompts and taught sounds.
//!
//! An ear is a stream of the pipeline like any other. It scores nothing while it listens, because what
//! prompts make of the room depends on the room itself: their scores are filled in afterwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::event::Kind;
use crate::models::room::{MAX_POINTS, Reservoir, Room};
use crate::models::taught::{Beat, TaughtKind, embedder_for};
use crate::models::{Classifier, Embedder, ModelError, ModelInfo};
use crate::pipeline::Windowed;

/// The label of a stream that scores nothing; rules pass over it.
const LABEL: &str = "_room_";
/// Which points are kept is drawn from this.
const SEED: u64 = 1985;
/// Frames of 10 ms in a second.
const FRAMES_PER_S: f64 = 100.0;

/// What an ear has heard.
struct Points {
    sample: Reservoir,
    /// Every embedding, in the order of the windows.
    all: Vec<Vec<f32>>,
}

impl Points {
    fn none() -> Self {
        Points {
            sample: Reservoir::new(MAX_POINTS, SEED),
            all: Vec::new(),
        }
    }
}

/// An embedder that listens.
pub struct Ear {
    /// What it is.
    pub info: ModelInfo,
    /// Which taught sounds it is for; `None` for prompts.
    pub taught: Option<TaughtKind>,
    window_s: f64,
    hop_s: f64,
    heard: Arc<Mutex<Points>>,
}

impl Ear {
    /// The ear of taught sounds of a kind, and its stream.
    ///
    /// # Errors
    /// When its weights are damaged.
    pub fn taught(kind: TaughtKind) -> Result<(Ear, Windowed), ModelError> {
        let beat = Beat::of(kind, embedder_for(kind)?.info());
        let make = move || embedder_for(kind);
        let mut ear = Ear::open(make, Kind::Taught, beat.window_frames, beat.hop_frames)?;
        ear.0.taught = Some(kind);
        Ok(ear)
    }

    /// An ear around the embedder that `make` makes, and its stream.
    ///
    /// # Errors
    /// When the embedder cannot be made, or fails on silence.
    pub fn open(
        make: impl Fn() -> Result<Box<dyn Embedder>, ModelError> + Send + Sync + 'static,
        kind: Kind,
        window_frames: usize,
        hop_frames: usize,
    ) -> Result<(Ear, Windowed), ModelError> {
        let heard = Arc::new(Mutex::new(Points::none()));
        let filled = heard.clone();
        let mut windowed = Windowed::load(
            Arc::new(move || {
                let embedder = make()?;
                Ok(Box::new(Listener {
                    info: ModelInfo {
                        labels: [Arc::from(LABEL)].into(),
                        ..embedder.info().clone()
                    },
                    embedder,
                    embedding: Vec::new(),
                    heard: filled.clone(),
                }))
            }),
            Some(window_frames),
            Some(hop_frames),
        )?;
        windowed.kind = kind;
        // What it was warmed up with is not the room.
        *locked(&heard) = Points::none();
        let ear = Ear {
            info: windowed.info.clone(),
            taught: None,
            window_s: window_frames as f64 / FRAMES_PER_S,
            hop_s: hop_frames as f64 / FRAMES_PER_S,
            heard,
        };
        Ok((ear, windowed))
    }

    /// Ends listening: the room, where there was a window of it, and every embedding.
    pub fn close(&self, minutes: f64, when: SystemTime) -> (Option<Room>, Vec<Vec<f32>>) {
        let Points { sample, all } = std::mem::replace(&mut *locked(&self.heard), Points::none());
        let windows = sample.seen();
        let room = Room {
            model: self.info.name.to_string(),
            model_sha256: self.info.sha256.to_string(),
            embeddings: sample.into_points(),
            minutes,
            windows,
            window_s: self.window_s,
            hop_s: self.hop_s,
            when,
        };
        ((windows > 0).then_some(room), all)
    }
}

fn locked(heard: &Mutex<Points>) -> MutexGuard<'_, Points> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the embeddings of windows, and scores nothing.
struct Listener {
    info: ModelInfo,
    embedder: Box<dyn Embedder>,
    embedding: Vec<f32>,
    heard: Arc<Mutex<Points>>,
}

impl Classifier for Listener {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        self.embedder.embed(window, &mut self.embedding)?;
        if self.embedding.iter().any(|value| !value.is_finite()) {
            let name = &self.info.name;
            return Err(ModelError::Format(format!(
                "{name}: expected an embedding of numbers, got some that are none"
            )));
        }
        let mut heard = locked(&self.heard);
        heard.sample.push(&self.embedding);
        heard.all.push(self.embedding.clone());
        scores.clear();
        scores.push(0.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::room::Room;

    #[test]
    fn what_an_ear_hears_becomes_a_room_without_its_warm_up() {
        for kind in [TaughtKind::Sound, TaughtKind::Word] {
            let (ear, mut windowed) = Ear::taught(kind).unwrap();
            assert_eq!(windowed.kind, Kind::Taught);
            assert_eq!(ear.close(1.0, SystemTime::UNIX_EPOCH).0, None);
            let frames = windowed.window_frames * crate::features::N_MELS;
            let mut scores = Vec::new();
            let mut rng = fastrand::Rng::with_seed(1);
            for _ in 0..3 {
                let window: Vec<f32> = (0..frames).map(|_| rng.f32()).collect();
                windowed
                    .slot
                    .run(|model| model.classify(&window, &mut scores))
                    .unwrap();
                assert_eq!(scores, [0.0]);
            }
            let (room, all) = ear.close(1.5, SystemTime::UNIX_EPOCH);
            let room = room.unwrap();
            assert_eq!((room.windows, all.len()), (3, 3));
            assert_eq!(room.embeddings, all);
            let dir = tempfile::tempdir().unwrap();
            room.save(dir.path()).unwrap();
            let again = Room::load(dir.path(), &ear.info.sha256).unwrap();
            assert_eq!(again, Some(room));
        }
    }
}
