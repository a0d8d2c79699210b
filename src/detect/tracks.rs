//! Score tracks: everything that an engine was told, kept so that other rules can be run over it without
//! asking the models again.
//!
//! A [`Witness`] of an engine that runs fills them; [`Tracks::replay`] tells another engine the same in
//! the same order, so that it decides as it would have decided then: confirmation, vetoes, level gates
//! and refractory times count. What the scores mean is not known here. About 36 MB an hour for
//! fifteen words a hundred times a second.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Decision, Engine, Observation};
use crate::clock::SampleIdx;

/// One thing that an engine was told.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// Scores, [`Engine::observe`].
    Seen(&'a Observation<'a>),
    /// An interruption of everything, [`Engine::close`].
    Closed(SampleIdx),
    /// An interruption of one model, [`Engine::close_stream`].
    StreamClosed(usize, SampleIdx),
}

/// Sees everything that an engine is told, before the engine judges it.
pub struct Witness(Box<dyn FnMut(Told<'_>) + Send>);

impl Witness {
    /// Calls `see` each time.
    pub fn new(see: impl FnMut(Told<'_>) + Send + 'static) -> Self {
        Witness(Box::new(see))
    }

    pub(super) fn see(&mut self, told: Told<'_>) {
        (self.0)(told);
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

/// What an engine was told, in order.
#[derive(Debug, Clone, Default)]
pub struct Tracks {
    /// By model.
    streams: Vec<Stream>,
    steps: Vec<Step>,
}

/// The observations of one model; the scores of all of them behind each other.
#[derive(Debug, Clone, Default)]
struct Stream {
    rows: Vec<Row>,
    scores: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    start: SampleIdx,
    end: SampleIdx,
    level_dbfs: f32,
    /// How many of the scores were before this observation.
    from: usize,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The next observation of this model.
    Seen(u32),
    Closed(SampleIdx),
    StreamClosed(u32, SampleIdx),
}

impl Tracks {
    /// Empty tracks, and a witness that fills them; take them with [`taken`] when the engine is done.
    pub fn shared() -> (Arc<Mutex<Tracks>>, Witness) {
        let tracks = Arc::new(Mutex::new(Tracks::default()));
        let filled = tracks.clone();
        let witness = Witness::new(move |told| {
            let mut tracks = filled.lock().unwrap_or_else(PoisonError::into_inner);
            tracks.push(told);
        });
        (tracks, witness)
    }

    /// Adds what an engine is told.
    pub fn push(&mut self, told: Told<'_>) {
        match told {
            Told::Seen(seen) => {
                let Ok(number) = u32::try_from(seen.stream) else {
                    return;
                };
                if self.streams.len() <= seen.stream {
                    self.streams.resize_with(seen.stream + 1, Stream::default);
                }
                let stream = &mut self.streams[seen.stream];
                stream.rows.push(Row {
                    start: seen.start,
                    end: seen.end,
                    level_dbfs: seen.level_dbfs,
                    from: stream.scores.len(),
                });
                stream.scores.extend_from_slice(seen.scores);
                self.steps.push(Step::Seen(number));
            }
            Told::Closed(at) => self.steps.push(Step::Closed(at)),
            Told::StreamClosed(stream, at) => {
                if let Ok(number) = u32::try_from(stream) {
                    self.steps.push(Step::StreamClosed(number, at));
                }
            }
        }
    }

    /// How often a model was observed.
    pub fn observations(&self, stream: usize) -> usize {
        self.streams
            .get(stream)
            .map_or(0, |stream| stream.rows.len())
    }

    /// Puts other scores in the place of those of a model, an observation a row; observations beyond the
    /// rows have no scores, which count as 0.
    pub fn rescore(&mut self, stream: usize, rows: &[Vec<f32>]) {
        let Some(stream) = self.streams.get_mut(stream) else {
            return;
        };
        stream.scores.clear();
        let mut scores = rows.iter();
        for row in &mut stream.rows {
            row.from = stream.scores.len();
            if let Some(scores) = scores.next() {
                stream.scores.extend_from_slice(scores);
            }
        }
    }

    /// The highest score of a label of a model, 0 where it was never observed.
    pub fn highest(&self, stream: usize, label: usize) -> f32 {
        let Some(stream) = self.streams.get(stream) else {
            return 0.0;
        };
        let score = |at: usize| stream.observed(at).1.get(label).copied();
        let scores = (0..stream.rows.len()).filter_map(score);
        // `max` passes over what is not a number, as the engine does.
        scores.fold(0.0, f32::max)
    }

    /// Tells `engine` everything in order, and gives what it decides. Open episodes stay open where
    /// nothing closed them.
    pub fn replay(&self, engine: &mut Engine, emit: &mut dyn FnMut(Decision)) {
        let mut next = vec![0; self.streams.len()];
        for step in &self.steps {
            match *step {
                Step::Seen(number) => {
                    let number = number as usize;
                    let (row, scores) = self.streams[number].observed(next[number]);
                    next[number] += 1;
                    let seen = Observation {
                        stream: number,
                        start: row.start,
                        end: row.end,
                        scores,
                        level_dbfs: row.level_dbfs,
                    };
                    engine.observe(&seen, emit);
                }
                Step::Closed(at) => engine.close(at, emit),
                Step::StreamClosed(number, at) => engine.close_stream(number as usize, at, emit),
            }
        }
    }
}

impl Stream {
    fn observed(&self, at: usize) -> (&Row, &[f32]) {
        let row = &self.rows[at];
        let to = self
            .rows
            .get(at + 1)
            .map_or(self.scores.len(), |next| next.from);
        (row, &self.scores[row.from..to])
    }
}

/// What shared tracks hold; they are empty afterwards.
pub fn taken(tracks: &Mutex<Tracks>) -> Tracks {
    std::mem::take(&mut *tracks.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Confirm, KnownModel, RuleConfig, Seconds};
    use crate::detect::Rule;
    use crate::event::Kind;

    fn models() -> Vec<KnownModel> {
        ["x", "y"]
            .map(|name| KnownModel {
                kind: Kind::Event,
                name: name.into(),
                labels: [format!("{name} a"), format!("{name} b")]
                    .map(Arc::from)
                    .into(),
                thresholds: Arc::default(),
            })
            .into()
    }

    fn engine() -> Engine {
        let rule = RuleConfig {
            name: "r".into(),
            threshold: 0.5,
            confirm: Confirm { hits: 2, of: 3 },
            refractory: Seconds::ONE,
            veto: vec!["y b".into()],
            min_level_db: Some(-50.0),
            labels: vec!["x a".into(), "x b".into(), "y a".into()],
            ..RuleConfig::default()
        };
        Engine::new(
            vec![Rule::from_config(&rule, &models()).unwrap()],
            &models(),
        )
    }

    #[test]
    fn a_replay_decides_what_was_decided() {
        let (tracks, witness) = Tracks::shared();
        let mut live = engine();
        live.set_witness(witness);
        let mut rng = fastrand::Rng::with_seed(4);
        let mut decided = Vec::new();
        for n in 0..4000_u64 {
            let stream = rng.usize(..2);
            // The second model gives too few scores now and then.
            let scores = [rng.f32(), rng.f32()];
            let seen = Observation {
                stream,
                start: SampleIdx(n * 1600),
                end: SampleIdx(n * 1600 + 8000),
                scores: &scores[..2 - stream * rng.usize(..2)],
                level_dbfs: -60.0 + 30.0 * rng.f32(),
            };
            live.observe(&seen, &mut |decision| decided.push(decision));
            match rng.u8(..) {
                0 => live.close(seen.end, &mut |decision| decided.push(decision)),
                1 => live.close_stream(stream, seen.end, &mut |decision| decided.push(decision)),
                _ => {}
            }
        }
        assert!(decided.len() > 100, "{}", decided.len());
        let tracks = taken(&tracks);
        assert_eq!(tracks.observations(0) + tracks.observations(1), 4000);
        let mut again = Vec::new();
        tracks.replay(&mut engine(), &mut |decision| again.push(decision));
        assert_eq!(again, decided);
        // And a second time, for it is not used up.
        let mut third = 0;
        tracks.replay(&mut engine(), &mut |_| third += 1);
        assert_eq!(third, decided.len());
    }

    #[test]
    fn the_highest_score_is_that_of_the_label() {
        let mut tracks = Tracks::default();
        for (n, scores) in [[0.1, 0.9], [f32::NAN, 0.2], [0.3, 0.4]].iter().enumerate() {
            tracks.push(Told::Seen(&Observation {
                stream: 1,
                start: SampleIdx(n as u64),
                end: SampleIdx(n as u64 + 1),
                scores,
                level_dbfs: 0.0,
            }));
        }
        assert_eq!((tracks.highest(1, 0), tracks.highest(1, 1)), (0.3, 0.9));
        assert_eq!((tracks.highest(0, 0), tracks.highest(7, 0)), (0.0, 0.0));
        assert_eq!(tracks.highest(1, 5), 0.0);
        tracks.rescore(1, &[vec![0.1, 0.2, 0.7], vec![0.0, 0.0, 0.8]]);
        assert_eq!((tracks.highest(1, 0), tracks.highest(1, 2)), (0.1, 0.8));
        assert_eq!(tracks.observations(1), 3);
    }
}
