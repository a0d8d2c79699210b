//! One stream of windows as the listener sees it: what its model is fed with, and what has become of
//! the last windows.
//!
//! A stream has a model and a thread of its own, or its scores follow from those of another
//! ([`DerivedStream`]). What scores mean is not known here.

use std::sync::Arc;

use super::load::Windowed;
use super::shed::Rank;
use super::stats::ModelStats;
use super::window::Windows;
use super::worker::{Job, Patience, Worker};
use crate::event::Kind;

/// Length of a frame in microseconds.
const FRAME_US: f32 = 10_000.0;
/// So many windows in a row under labels that are not in force are a fault; one or two are on their
/// way while labels change.
const FOREIGN: u32 = 3;

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

    /// Puts other labels in force.
    pub(super) fn set_labels(&mut self, stats: Arc<ModelStats>) {
        self.stats = stats;
        self.foreign = 0;
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

    /// When it gives way to others. Its cost is the median time of a window by the time between windows,
    /// boundless where no window has come back yet.
    pub(super) fn rank(&self) -> Option<Rank> {
        if !self.has_labels() {
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
