//! From samples to events: level, log-mel, keyword step and windows, all in the order of the samples.
//!
//! This is the whole of recognition but for threads and devices: the listener feeds it from a
//! source, `hark bench` from a synthesiser. Any chunking of the same samples gives the same events,
//! for everything happens on hops of 10 ms that are cut here.

use std::sync::Arc;
use std::time::Instant;

use super::change::Change;
use super::episodes::{Episodes, Levels};
use super::slot::Slot;
use super::stats::{ModelStats, Stats};
use super::stream::{Span, Verdict, WindowStream};
use super::streams::WindowStreams;
use super::worker::Job;
use crate::clock::{SampleIdx, WallClock};
use crate::detect::{Content, Engine, LevelMeter, Observation};
use crate::event::Event;
use crate::features::{Frontend, HOP};
use crate::models::Spotter;

/// What a keyword's score keeps from frame to frame on display, so that `watch` sees each peak:
/// half after 0.3 s.
const DISPLAY_KEEP: f32 = 0.977;
/// Silence added behind the end of a source, in hops (0.3 s): the keyword model answers a little
/// later than it hears, and the last word of a file counts too.
const TAIL_HOPS: usize = 30;

/// What recognition is made of.
pub struct Parts {
    /// The front end that all small models share.
    pub front: Box<dyn Frontend>,
    /// The keyword model.
    pub keyword: Option<Slot<dyn Spotter>>,
    /// The models on windows.
    pub windows: Vec<WindowStream>,
    /// The rules.
    pub engine: Engine,
    /// The content state.
    pub content: Option<Content>,
    /// Where everything is counted; its keyword model is the one above.
    pub stats: Arc<Stats>,
    /// Sample 0 is now, until the first [`Recogniser::arrived`].
    pub clock: WallClock,
    /// Whether each window is waited for, so that none is skipped and events come in order.
    pub complete: bool,
}

/// Samples in, events out.
pub struct Recogniser {
    front: Box<dyn Frontend>,
    /// Samples short of a hop.
    rest: Vec<f32>,
    /// Index of the first of them.
    at: SampleIdx,
    /// Whether anything was heard since the last gap.
    fresh: bool,
    hearing: Hearing,
}

impl Recogniser {
    /// Recognition from sample 0.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            mut front,
            keyword,
            windows,
            engine,
            content,
            stats,
            clock,
            complete,
        } = parts;
        front.reset(SampleIdx(0));
        let windows = WindowStreams::new(windows);
        let models = models(&stats, &windows);
        Recogniser {
            front,
            rest: Vec::with_capacity(HOP),
            at: SampleIdx(0),
            fresh: true,
            hearing: Hearing {
                scores: vec![
                    0.0;
                    stats
                        .keyword
                        .as_ref()
                        .map_or(0, |model| model.info().labels.len())
                ],
                keyword,
                keyword_fault: None,
                first_window: usize::from(stats.keyword.is_some()),
                windows,
                meter: LevelMeter::new(),
                episodes: Episodes::new(engine, content, models, clock, stats.clone()),
                complete,
                stats,
            },
        }
    }

    /// Index of the next sample.
    pub fn next_idx(&self) -> SampleIdx {
        self.at + self.rest.len() as u64
    }

    /// Names the source in the events from now on.
    pub fn set_source(&mut self, name: &str) {
        self.hearing.episodes.set_source(name);
    }

    /// Whether each window is waited for from now on.
    pub fn set_complete(&mut self, complete: bool) {
        self.hearing.complete = complete;
    }

    /// Says that the sample `idx` has arrived now, which keeps wall time in step.
    pub fn arrived(&mut self, idx: SampleIdx) {
        self.hearing.episodes.arrived(idx);
    }

    /// Takes mono samples at the pipeline rate. Allocates nothing but events.
    pub fn push(&mut self, mut pcm: &[f32], emit: &mut dyn FnMut(Event)) {
        self.fresh &= pcm.is_empty();
        if !self.rest.is_empty() {
            let (now, later) = pcm.split_at(pcm.len().min(HOP - self.rest.len()));
            self.rest.extend_from_slice(now);
            pcm = later;
            if self.rest.len() < HOP {
                return;
            }
            let hop = std::mem::take(&mut self.rest);
            self.hop(&hop, emit);
            self.rest = hop;
            self.rest.clear();
        }
        let mut hops = pcm.chunks_exact(HOP);
        for hop in &mut hops {
            self.hop(hop, emit);
        }
        self.rest.extend_from_slice(hops.remainder());
        let meter = &self.hearing.meter;
        self.hearing
            .stats
            .levels(meter.level_dbfs(), meter.noise_floor_dbfs());
        self.poll(emit);
    }

    /// Takes what the worker has finished.
    pub fn poll(&mut self, emit: &mut dyn FnMut(Event)) {
        self.hearing.poll(emit);
    }

    /// Sound was interrupted and goes on at `next`: open episodes end here, and all streaming
    /// state begins anew. Less than a hop that was left over is dropped.
    pub fn gap(&mut self, next: SampleIdx, emit: &mut dyn FnMut(Event)) {
        self.hearing.close(self.next_idx(), emit);
        self.rest.clear();
        self.at = next;
        self.fresh = true;
        self.front.reset(next);
        self.hearing.reset();
    }

    /// The source is over: the last windows are scored, and open episodes end.
    pub fn finish(&mut self, emit: &mut dyn FnMut(Event)) {
        let end = self.next_idx();
        if !self.fresh {
            self.hearing.episodes.ends_at(end);
            let silence = [0.0; HOP];
            let left = HOP - self.rest.len();
            self.push(&silence[..left], emit);
            // The last sound is in one more window; silence alone is in none.
            let to_due = self.hearing.windows.begin_tail();
            for _ in 0..TAIL_HOPS.max(to_due) {
                self.hop(&silence, emit);
            }
            self.hearing.wait(emit);
        }
        self.gap(end, emit);
    }

    /// Goes on with other rules and other streams of windows. What stays the same keeps its state, and
    /// what is gone ends; no sound is lost.
    pub(super) fn change(&mut self, change: Change, emit: &mut dyn FnMut(Event)) {
        let at = self.next_idx();
        self.hearing.change(change, at, emit);
    }

    /// Sets the threshold of a rule.
    ///
    /// # Errors
    /// When there is no such rule or the threshold is out of range.
    pub fn set_threshold(&mut self, rule: &str, threshold: f32) -> Result<(), String> {
        self.hearing.episodes.set_threshold(rule, threshold)
    }

    /// What is wrong with the models at the moment.
    pub fn fault(&self) -> Option<Arc<str>> {
        let hearing = &self.hearing;
        hearing
            .keyword_fault
            .clone()
            .or_else(|| hearing.windows.fault())
    }

    fn hop(&mut self, hop: &[f32], emit: &mut dyn FnMut(Event)) {
        let begun = Instant::now();
        let hearing = &mut self.hearing;
        let end = self.at + HOP as u64;
        hearing.meter.push(hop);
        hearing.windows.level(end, &hearing.meter);
        hearing.windows.samples(end, hop);
        self.front
            .push(hop, &mut |end, frame| hearing.frame(end, frame, emit));
        hearing.stats.frames.record(begun.elapsed());
        self.at = end;
        hearing.hand_over(emit);
    }
}

/// Everything behind the front end.
struct Hearing {
    keyword: Option<Slot<dyn Spotter>>,
    keyword_fault: Option<Arc<str>>,
    /// Scores of the keyword model.
    scores: Vec<f32>,
    windows: WindowStreams,
    /// Stream of the first of them.
    first_window: usize,
    meter: LevelMeter,
    episodes: Episodes,
    complete: bool,
    stats: Arc<Stats>,
}

impl Hearing {
    /// One frame of the front end. Allocates nothing but events.
    fn frame(&mut self, end: SampleIdx, frame: &[f32], emit: &mut dyn FnMut(Event)) {
        self.windows.frame(end, frame);
        let (Some(slot), Some(model)) = (&mut self.keyword, &self.stats.keyword) else {
            return;
        };
        let begun = Instant::now();
        let scores = &mut self.scores;
        let stepped = slot.run(|model| {
            model.step(frame, scores);
            Ok(())
        });
        model.times.record(begun.elapsed());
        if let Err(reason) = stepped {
            self.keyword_fault = Some(reason);
            return;
        }
        self.keyword_fault = None;
        model.show(&self.scores, DISPLAY_KEEP);
        let seen = Observation {
            stream: 0,
            start: SampleIdx(end.0.saturating_sub(HOP as u64)),
            end,
            scores: &self.scores,
            level_dbfs: self.meter.level_dbfs(),
        };
        let floor = || self.meter.noise_floor_dbfs();
        let labels = &model.info().labels;
        self.episodes.observe(&seen, labels, floor, emit);
    }

    /// Gives the windows that are due to their workers.
    fn hand_over(&mut self, emit: &mut dyn FnMut(Event)) {
        let (episodes, first) = (&self.episodes, self.first_window);
        let has_open = |at: usize| episodes.has_open(first + at);
        if self.windows.hand_over(&self.meter, has_open) {
            match self.complete {
                true => self.wait(emit),
                false => self.unasked(emit),
            }
        }
        // What it has open would not end before it is tried again.
        if let Some((at, end)) = self.windows.take_left_out() {
            let levels = self.levels();
            self.close_stream(at, end, levels, emit);
        }
    }

    /// Takes every window that is under way.
    fn wait(&mut self, emit: &mut dyn FnMut(Event)) {
        while let Some((at, job)) = self.windows.done(true) {
            self.scored(at, job, emit);
        }
        self.unasked(emit);
    }

    /// Takes every window that is done.
    fn poll(&mut self, emit: &mut dyn FnMut(Event)) {
        while let Some((at, job)) = self.windows.done(false) {
            self.scored(at, job, emit);
        }
        self.unasked(emit);
    }

    /// Takes note of windows in which nothing stood out: nothing was in them.
    fn unasked(&mut self, emit: &mut dyn FnMut(Event)) {
        while let Some((at, span)) = self.windows.take_unasked() {
            if let Some(model) = self.windows.stats_of(at) {
                model.show_nothing();
                self.observe(at, &model, span, &[], emit);
            }
        }
    }

    /// Takes a window of the stream `at`.
    fn scored(&mut self, at: usize, job: Job, emit: &mut dyn FnMut(Event)) {
        let Some(model) = self.windows.stats_of(at) else {
            return;
        };
        model.times.record(job.took);
        match self.windows.verdict(at, &job) {
            Verdict::Foreign => {}
            Verdict::Failed(failure) => {
                if self.windows.set_fault(at, Some(failure)) {
                    let levels = Levels {
                        level_dbfs: job.level_dbfs,
                        noise_floor_dbfs: self.meter.noise_floor_dbfs(),
                    };
                    self.close_stream(at, job.end, levels, emit);
                }
            }
            Verdict::Scored => {
                self.windows.set_fault(at, None);
                self.windows.scores(at, job.end, &job.scores);
                model.show(&job.scores, 0.0);
                let span = Span {
                    start: job.start,
                    end: job.end,
                    level_dbfs: job.level_dbfs,
                };
                self.observe(at, &model, span, &job.scores, emit);
            }
        }
        self.windows.recycle(at, job);
    }

    /// Takes the scores of the stream `of`, and of those that follow from it.
    fn observe(
        &mut self,
        of: usize,
        model: &ModelStats,
        span: Span,
        scores: &[f32],
        emit: &mut dyn FnMut(Event),
    ) {
        let (meter, episodes, first) = (&self.meter, &mut self.episodes, self.first_window);
        let mut observe = |at: usize, model: &ModelStats, scores: &[f32]| {
            let seen = Observation {
                stream: first + at,
                start: span.start,
                end: span.end,
                scores,
                level_dbfs: span.level_dbfs,
            };
            let floor = || meter.noise_floor_dbfs();
            episodes.observe(&seen, &model.info().labels, floor, emit);
        };
        observe(of, model, scores);
        for at in 0..self.windows.len() {
            let begun = Instant::now();
            if let Some((scores, model)) = self.windows.derive(at, of, scores) {
                model.times.record(begun.elapsed());
                model.show(scores, 0.0);
                observe(at, &model, scores);
            }
        }
    }

    /// Ends what a stream has open, and those that follow from it.
    fn close_stream(
        &mut self,
        of: usize,
        end: SampleIdx,
        levels: Levels,
        emit: &mut dyn FnMut(Event),
    ) {
        for at in 0..self.windows.len() {
            if at == of || self.windows.is_derived(at, of) {
                let stream = self.first_window + at;
                self.episodes.close_stream(stream, end, levels, emit);
            }
        }
    }

    /// Other rules and other streams from `at` on.
    fn change(&mut self, change: Change, at: SampleIdx, emit: &mut dyn FnMut(Event)) {
        self.poll(emit);
        let levels = self.levels();
        let Change {
            places,
            pcm,
            shed,
            engine,
            content,
        } = change;
        self.windows.rearrange(places, pcm, shed);
        let models = models(&self.stats, &self.windows);
        self.episodes
            .change(engine, content, models, (at, levels), emit);
    }

    /// Ends everything that is open.
    fn close(&mut self, at: SampleIdx, emit: &mut dyn FnMut(Event)) {
        self.poll(emit);
        let levels = self.levels();
        self.episodes.close(at, levels, emit);
    }

    fn levels(&self) -> Levels {
        Levels {
            level_dbfs: self.meter.level_dbfs(),
            noise_floor_dbfs: self.meter.noise_floor_dbfs(),
        }
    }

    fn reset(&mut self) {
        if let Some(slot) = &mut self.keyword {
            let reset = slot.run(|model| {
                model.reset();
                Ok(())
            });
            self.keyword_fault = reset.err();
        }
        self.windows.reset();
    }
}

/// Every model, by stream of observations.
fn models(stats: &Stats, windows: &WindowStreams) -> Vec<Arc<ModelStats>> {
    stats
        .keyword
        .iter()
        .chain(windows.stats())
        .cloned()
        .collect()
}
