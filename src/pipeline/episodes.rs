//! Decisions become events: an id for each episode, wall time, levels, weights and best scores.
//!
//! Rules, content state and clock stand side by side here so that every decision of whatever
//! recogniser passes through one place. Deciding itself is `detect`'s.

use std::sync::Arc;

use ulid::Ulid;

use super::stats::{ModelStats, Stats, best};
use crate::clock::{SampleIdx, WallClock};
use crate::detect::{Content, Decision, Engine, Observation};
use crate::event::{Event, LabelScore, ModelRef, Phase};

/// Labels that an event carries at most.
const EVENT_SCORES: usize = 5;

/// The engine, the content state, and what has started and not ended.
pub struct Episodes {
    engine: Engine,
    content: Option<Content>,
    /// Decisions of the observation in hand.
    found: Vec<Decision>,
    /// Ids of the open episodes.
    open: Vec<(u64, Ulid)>,
    clock: WallClock,
    source: Arc<str>,
    /// The models, by stream.
    models: Vec<Arc<ModelStats>>,
    stats: Arc<Stats>,
    /// No event reaches beyond this: the end of the source.
    last: SampleIdx,
}

/// Level and noise floor, in dB relative to full scale.
#[derive(Debug, Clone, Copy)]
pub struct Levels {
    /// The newest 100 ms.
    pub level_dbfs: f32,
    /// The noise floor.
    pub noise_floor_dbfs: f32,
}

impl Episodes {
    /// Nothing has happened yet. `models` are in the order of the streams of observations.
    pub fn new(
        engine: Engine,
        content: Option<Content>,
        models: Vec<Arc<ModelStats>>,
        clock: WallClock,
        stats: Arc<Stats>,
    ) -> Self {
        Episodes {
            engine,
            content,
            found: Vec::with_capacity(16),
            open: Vec::with_capacity(16),
            clock,
            source: "".into(),
            models,
            stats,
            last: SampleIdx(u64::MAX),
        }
    }

    /// Names the source in the events from now on.
    pub fn set_source(&mut self, name: &str) {
        self.source = name.into();
    }

    /// Says that the sample `idx` has arrived now.
    pub fn arrived(&mut self, idx: SampleIdx) {
        self.clock.observe(idx);
    }

    /// Says that the source has no sample from `end` on; times of events stop there.
    pub fn ends_at(&mut self, end: SampleIdx) {
        self.last = end;
    }

    /// Whether an episode of a model has started and not ended.
    pub fn has_open(&self, stream: usize) -> bool {
        self.engine.has_open(stream)
    }

    /// Puts other rules and models in force. What stays the same goes on; what is gone ends `at` here.
    pub fn change(
        &mut self,
        engine: Engine,
        content: Option<Content>,
        models: Vec<Arc<ModelStats>>,
        (at, levels): (SampleIdx, Levels),
        emit: &mut dyn FnMut(Event),
    ) {
        let old = std::mem::replace(&mut self.engine, engine);
        let Episodes { engine, found, .. } = self;
        engine.carry_over(old, &mut |decision| found.push(decision));
        // They are decisions about the models as they were.
        self.report(at, levels, emit, shown);
        self.models = models;
        let old = std::mem::replace(&mut self.content, content);
        if let (Some(content), Some(old)) = (&mut self.content, old) {
            content.carry_over(old);
        }
    }

    /// Sets the threshold of a rule.
    ///
    /// # Errors
    /// When there is no such rule or the threshold is out of range.
    pub fn set_threshold(&mut self, rule: &str, threshold: f32) -> Result<(), String> {
        self.engine.set_threshold(rule, threshold)
    }

    /// Takes an observation of the model with these `labels` and reports what follows. Allocates
    /// nothing but events.
    pub fn observe(
        &mut self,
        seen: &Observation<'_>,
        labels: &[Arc<str>],
        noise_floor_dbfs: impl Fn() -> f32,
        emit: &mut dyn FnMut(Event),
    ) {
        let Episodes {
            engine,
            content,
            found,
            ..
        } = self;
        engine.observe(seen, &mut |decision| found.push(decision));
        if let Some(content) = content {
            let before = content.state();
            content.observe(seen, noise_floor_dbfs(), &mut |decision| {
                found.push(decision);
            });
            if content.state() != before {
                self.stats.content(content.label().into());
            }
        }
        if self.found.is_empty() {
            return;
        }
        let levels = Levels {
            level_dbfs: seen.level_dbfs,
            noise_floor_dbfs: noise_floor_dbfs(),
        };
        self.report(seen.end, levels, emit, |_, _| {
            best(labels, seen.scores, EVENT_SCORES)
        });
    }

    /// Ends everything that is open, at a gap, a pause or the end.
    pub fn close(&mut self, at: SampleIdx, levels: Levels, emit: &mut dyn FnMut(Event)) {
        let Episodes {
            engine,
            content,
            found,
            ..
        } = self;
        engine.close(at, &mut |decision| found.push(decision));
        if let Some(content) = content {
            content.interrupt();
        }
        self.report(at, levels, emit, shown);
    }

    /// Ends what one model has open, for it has failed; the others go on.
    pub fn close_stream(
        &mut self,
        stream: usize,
        at: SampleIdx,
        levels: Levels,
        emit: &mut dyn FnMut(Event),
    ) {
        let Episodes {
            engine,
            content,
            found,
            ..
        } = self;
        engine.close_stream(stream, at, &mut |decision| found.push(decision));
        if let Some(content) = content
            && content.stream() == stream
        {
            content.interrupt();
        }
        self.report(at, levels, emit, |_, _| Vec::new());
    }

    /// Turns the decisions found at `at` into events.
    fn report(
        &mut self,
        at: SampleIdx,
        levels: Levels,
        emit: &mut dyn FnMut(Event),
        scores: impl Fn(&[Arc<ModelStats>], usize) -> Vec<LabelScore>,
    ) {
        let mut found = std::mem::take(&mut self.found);
        for decision in found.drain(..) {
            let id = self.id_of(&decision);
            emit(Event {
                id,
                phase: decision.phase,
                kind: decision.kind,
                rule: decision.rule,
                label: decision.label,
                score: decision.score,
                threshold: decision.threshold,
                time: self.clock.wall_time(at.min(self.last)),
                mono_us: self.clock.mono_us(at.min(self.last)),
                source: self.source.clone(),
                start: decision.start.min(self.last),
                end: decision.end.map(|end| end.min(self.last)),
                peak: decision.peak,
                level_dbfs: levels.level_dbfs,
                noise_floor_dbfs: levels.noise_floor_dbfs,
                model: self.models.get(decision.stream).map(|model| ModelRef {
                    name: model.info().name.clone(),
                    sha256: model.info().sha256.clone(),
                }),
                scores: scores(&self.models, decision.stream),
                clip: None,
            });
        }
        self.found = found;
    }

    fn id_of(&mut self, decision: &Decision) -> Ulid {
        match decision.phase {
            Phase::Instant => Ulid::generate(),
            Phase::Start => {
                let id = Ulid::generate();
                self.open.push((decision.episode, id));
                id
            }
            Phase::End => {
                let known = self
                    .open
                    .iter()
                    .position(|(episode, _)| *episode == decision.episode);
                known.map_or_else(Ulid::generate, |at| self.open.swap_remove(at).1)
            }
        }
    }
}

/// The best scores that a model shows.
fn shown(models: &[Arc<ModelStats>], stream: usize) -> Vec<LabelScore> {
    let model = models.get(stream);
    model.map_or_else(Vec::new, |model| model.top(EVENT_SCORES))
}
