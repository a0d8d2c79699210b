//! One stream of windows as the listener sees it: what its model is fed with, and what has become of
//! the last windows.
//!
//! A stream has a model and a thread of its own, or its scores follow from those of another
//! ([`DerivedStream`]). One that is gated asks its model only about windows in which something stands
//! out ([`Gate`]). What scores mean is not known here.

use std::sync::Arc;

use super::load::Windowed;
use super::shed::Rank;
use super::stats::ModelStats;
use super::window::Windows;
use super::worker::{Job, Patience, Worker};
use crate::clock::SampleIdx;
use crate::detect::Gate;
use crate::event::Kind;
use crate::features::HOP;

/// Length of a frame in microseconds.
const FRAME_US: f32 = 10_000.0;
/// So many windows in a row under labels that are not in force are a fault; one or two are on their
/// way while labels change.
const FOREIGN: u32 = 3;
/// Windows that a gated model is asked about in any case at the beginning, after a gap and for other
/// labels: what goes on already may be what is waited for, and three let a rule confirm it two of three
/// times.
const LOOKS: u32 = 3;

/// One model on windows: its thread, and the windows that it is given.
pub struct WindowStream {
    pub(super) worker: Worker,
    pub(super) windows: Windows,
    pub(super) stats: Arc<ModelStats>,
    /// Whether the newest frame or sample completes a window.
    pub(super) due: bool,
    /// Frames that may still complete a window, once the source is over.
    pub(super) tail: Option<usize>,
    /// Why the last window has no scores.
    pub(super) fault: Option<Arc<str>>,
    /// Windows in a row that came back under other labels.
    foreign: u32,
    /// Whether its model is asked only where something stands out.
    gated: bool,
    /// Windows that it is asked about before that counts.
    looks: u32,
    /// Whether it was asked about the last window.
    pub(super) is_asked: bool,
    /// The newest window that it was not asked about, until that is taken note of.
    pub(super) unasked: Option<Span>,
}

/// A stretch of sound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// First sample.
    pub start: SampleIdx,
    /// One past the last sample.
    pub end: SampleIdx,
    /// Its level, in dB relative to full scale.
    pub level_dbfs: f32,
}

impl WindowStream {
    /// Starts the thread of a model.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(model: Windowed) -> std::io::Result<Self> {
        let windows = model.windows();
        let worker = Worker::spawn(model.slot, model.info.input, windows.values())?;
        let stats = ModelStats::windowed(model.info, model.window_frames, model.hop_frames)
            .serving(model.kind, model.thresholds);
        Ok(WindowStream {
            worker,
            windows,
            stats: Arc::new(stats),
            due: false,
            tail: None,
            fault: None,
            foreign: 0,
            gated: model.gated,
            looks: LOOKS,
            is_asked: false,
            unasked: None,
        })
    }

    /// What sets how long its windows are waited for.
    pub fn patience(&self) -> Patience {
        self.worker.patience()
    }

    /// What is counted of it.
    pub fn stats(&self) -> &Arc<ModelStats> {
        &self.stats
    }

    /// Takes in whether a window is complete now.
    pub(super) fn is_due(&mut self, complete: bool) {
        let wanted = match &mut self.tail {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        };
        self.due |= complete && wanted;
    }

    /// Whether its model is asked for anything at all.
    pub(super) fn has_labels(&self) -> bool {
        !self.stats.info().labels.is_empty()
    }

    /// Whether it waits for something to stand out.
    pub(super) fn is_gated(&self) -> bool {
        self.gated && self.has_labels()
    }

    /// How many labels tell the gate of others what is new: those of event models that hear everything.
    pub(super) fn telling_labels(&self) -> usize {
        match self.stats.kind() {
            Kind::Event if !self.gated => self.stats.info().labels.len(),
            _ => 0,
        }
    }

    /// Puts other labels in force.
    pub(super) fn set_labels(&mut self, stats: Arc<ModelStats>) {
        // Faults of the old labels are over, and without any there is nothing to fail at.
        if self.foreign >= FOREIGN || stats.info().labels.is_empty() {
            self.fault = None;
        }
        self.stats = stats;
        self.foreign = 0;
        self.looks = LOOKS;
    }

    /// Whether its model is to be asked about the newest window; `is_open` says that one of its
    /// episodes has started and not ended.
    ///
    /// What stands out counts until it has moved to the middle of the window, so that each sound is
    /// whole in one window at least. While an episode is open the model is asked on, for a steady sound
    /// soon stands out no more, and yet it has not ended; only where nothing can be made out at all it
    /// has.
    pub(super) fn passes(&mut self, gate: &Gate, is_open: bool) -> bool {
        // One that has failed is asked until it is well again: a fault must not outlast its cause.
        if !self.gated || self.fault.is_some() {
            return true;
        }
        let (start, end) = self.windows.span();
        let hop = (self.windows.hop_frames() * HOP) as u64;
        let reach = ((end.0 - start.0) / 2).max(hop);
        let from = SampleIdx(end.0.saturating_sub(reach));
        if !gate.is_audible_since(from) {
            return false;
        }
        if self.looks > 0 {
            self.looks -= 1;
            return true;
        }
        is_open || gate.stood_out_since(from)
    }

    /// Forgets everything heard.
    pub(super) fn reset(&mut self) {
        self.windows.reset();
        self.due = false;
        self.tail = None;
        self.looks = LOOKS;
        self.unasked = None;
    }

    /// Holds a window that came back against the labels in force.
    pub(super) fn verdict(&mut self, job: &Job) -> Verdict {
        if let Some(failure) = &job.failure {
            return Verdict::Failed(failure.clone());
        }
        let info = self.stats.info();
        if !Arc::ptr_eq(&job.labels, &info.labels) && job.labels != info.labels {
            self.foreign += 1;
            if self.foreign < FOREIGN {
                return Verdict::Foreign;
            }
            let text = format!("{} answers for other labels than those in force", info.name);
            return Verdict::Failed(text.into());
        }
        self.foreign = 0;
        let (wanted, got) = (info.labels.len(), job.scores.len());
        if wanted != got {
            let text = format!("{} gave {got} scores for its {wanted} labels", info.name);
            return Verdict::Failed(text.into());
        }
        Verdict::Scored
    }

    /// When it gives way to others; `None` while it asks nothing of the machine. Its cost is the median
    /// time of a window by the time between windows, boundless where no window has come back yet.
    pub(super) fn rank(&self) -> Option<Rank> {
        if !self.is_asked || !self.has_labels() {
            return None;
        }
        let hop_us = self.windows.hop_frames() as f32 * FRAME_US;
        Some(Rank {
            is_prompt: self.stats.kind() == Kind::Prompt,
            cost: match self.stats.times.count() {
                0 => f32::INFINITY,
                _ => self.stats.times.quantile_us(0.5) / hop_us,
            },
        })
    }
}

/// What a window that came back is worth.
pub(super) enum Verdict {
    /// It has the scores of the labels in force.
    Scored,
    /// It was scored under other labels: it says nothing.
    Foreign,
    /// It has no scores, and why.
    Failed(Arc<str>),
}

/// A stream without a model: each of its scores is the highest of some labels of another stream.
pub(super) struct DerivedStream {
    /// The stream that they are of.
    pub of: usize,
    /// Their places there, by label of this stream.
    pub from: Vec<Vec<usize>>,
    pub stats: Arc<ModelStats>,
    scores: Vec<f32>,
}

impl DerivedStream {
    pub fn new(of: usize, from: Vec<Vec<usize>>, stats: Arc<ModelStats>) -> Self {
        DerivedStream {
            of,
            scores: Vec::with_capacity(from.len()),
            from,
            stats,
        }
    }

    /// Its scores from those of the other stream. Allocates nothing.
    pub fn derive(&mut self, scores: &[f32]) -> &[f32] {
        let score = |at: &usize| scores.get(*at).copied().unwrap_or(0.0);
        self.scores.clear();
        self.scores.extend(
            self.from
                .iter()
                // `max` drops NaN.
                .map(|from| from.iter().map(score).fold(0.0, f32::max)),
        );
        &self.scores
    }
}
