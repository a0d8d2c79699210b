//! The models on windows as the listener sees them: what each is fed with, when a window is handed
//! over, and which of them gives way when they are too many.
//!
//! What their scores mean is not known here.

use std::sync::Arc;

use super::load::Windowed;
use super::shed::Shedding;
use super::stats::{ModelStats, Stats};
use super::window::{History, Windows};
use super::worker::{Job, Patience, Worker};
use crate::clock::SampleIdx;
use crate::detect::LevelMeter;

/// Length of a frame in microseconds.
const FRAME_US: f32 = 10_000.0;

/// One model on windows: its thread, and the windows that it is given.
pub struct WindowStream {
    worker: Worker,
    windows: Windows,
    /// Whether the newest frame or sample completes a window.
    due: bool,
    /// Frames that may still complete a window, once the source is over.
    tail: Option<usize>,
    /// Why the last window has no scores.
    fault: Option<Arc<str>>,
}

impl WindowStream {
    /// Starts the thread of a model.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(model: Windowed) -> std::io::Result<Self> {
        let windows = model.windows();
        Ok(WindowStream {
            worker: Worker::spawn(model.slot, model.info.input, windows.values())?,
            windows,
            due: false,
            tail: None,
            fault: None,
        })
    }

    /// What sets how long its windows are waited for.
    pub fn patience(&self) -> Patience {
        self.worker.patience()
    }

    fn is_due(&mut self, complete: bool) {
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
}

/// All of them, in the order of the configuration, which is also that of [`Stats::windows`].
pub(super) struct WindowStreams {
    streams: Vec<WindowStream>,
    /// Samples for all that take them.
    pcm: History,
    shed: Shedding,
    /// The model that was set aside last, until somebody has taken note.
    left_out: Option<usize>,
    stats: Arc<Stats>,
}

impl WindowStreams {
    pub fn new(streams: Vec<WindowStream>, stats: Arc<Stats>) -> Self {
        let kept = streams.iter().map(|stream| stream.windows.history()).max();
        WindowStreams {
            pcm: History::new(kept.unwrap_or(0)),
            shed: Shedding::new(streams.len()),
            left_out: None,
            streams,
            stats,
        }
    }

    /// Takes one hop of samples that ends at `end`. Allocates nothing.
    pub fn samples(&mut self, end: SampleIdx, hop: &[f32]) {
        self.pcm.push(hop);
        for stream in &mut self.streams {
            if let Windows::Samples(schedule) = &mut stream.windows {
                let complete = schedule.push(end);
                stream.is_due(complete);
            }
        }
    }

    /// Takes one frame of the front end. Allocates nothing.
    pub fn frame(&mut self, end: SampleIdx, frame: &[f32]) {
        for stream in &mut self.streams {
            if let Windows::Frames(window) = &mut stream.windows {
                let complete = window.push(end, frame);
                stream.is_due(complete);
            }
        }
    }

    /// Gives every window that is due to its worker; whether there were any. Allocates nothing.
    pub fn hand_over(&mut self, meter: &LevelMeter) -> bool {
        let mut any = false;
        for at in 0..self.streams.len() {
            if std::mem::take(&mut self.streams[at].due) {
                any = true;
                self.hand_over_one(at, meter);
            }
        }
        if any {
            for (at, model) in self.stats.windows.iter().enumerate() {
                model.set_aside(self.shed.is_aside(at));
            }
        }
        any
    }

    fn hand_over_one(&mut self, at: usize, meter: &LevelMeter) {
        let WindowStream {
            worker, windows, ..
        } = &self.streams[at];
        let Some(model) = self.stats.windows.get(at) else {
            return;
        };
        if !self.shed.admits(at) {
            model.skip();
            return;
        }
        let (start, end) = windows.span();
        let samples = usize::try_from(end.0 - start.0).unwrap_or(usize::MAX);
        let level_dbfs = meter.level_over_dbfs(samples);
        let skipped = worker.submit(|job| {
            job.start = start;
            job.end = end;
            job.level_dbfs = level_dbfs;
            job.input.clear();
            job.input.extend_from_slice(windows.newest(&self.pcm));
        });
        if skipped {
            model.skip();
        }
        let (streams, stats) = (&self.streams, &self.stats);
        let cost = |other: usize| cost(&streams[other], &stats.windows[other]);
        if let Some(dearest) = self.shed.note(at, skipped, cost) {
            self.left_out = Some(dearest);
        }
    }

    /// A model that has just been set aside, and how far it has heard.
    pub fn take_left_out(&mut self) -> Option<(usize, SampleIdx)> {
        let at = self.left_out.take()?;
        Some((at, self.streams[at].windows.span().1))
    }

    /// A window that is done, with the number of its model; give it back with
    /// [`WindowStreams::recycle`]. With `wait` it waits for those that are under way.
    pub fn done(&self, wait: bool) -> Option<(usize, Job)> {
        self.streams.iter().enumerate().find_map(|(at, stream)| {
            let job = match wait {
                true => stream.worker.done_blocking(),
                false => stream.worker.done(),
            };
            Some((at, job?))
        })
    }

    /// Gives a buffer back.
    pub fn recycle(&self, at: usize, job: Job) {
        self.streams[at].worker.recycle(job);
    }

    /// Notes why the last window of a model has no scores; whether it is the first that has none.
    pub fn set_fault(&mut self, at: usize, fault: Option<Arc<str>>) -> bool {
        let is_fault = fault.is_some();
        let before = std::mem::replace(&mut self.streams[at].fault, fault);
        is_fault && before.is_none()
    }

    /// From now on only the end of the stream itself is put into windows; the most frames that it
    /// takes to complete them.
    pub fn begin_tail(&mut self) -> usize {
        let mut longest = 0;
        for stream in &mut self.streams {
            let left = stream.windows.frames_to_due();
            stream.tail = Some(left);
            longest = longest.max(left);
        }
        longest
    }

    /// Forgets everything heard.
    pub fn reset(&mut self) {
        self.pcm.reset();
        for stream in &mut self.streams {
            stream.windows.reset();
            stream.due = false;
            stream.tail = None;
        }
    }

    /// What is wrong at the moment.
    pub fn fault(&self) -> Option<Arc<str>> {
        let failed = self.streams.iter().find_map(|stream| stream.fault.clone());
        let name = |at: usize| &*self.stats.windows[at].info().name;
        failed
            .or_else(|| {
                let (dear, cheap) = self.shed.aside()?;
                let (dear, cheap) = (name(dear), name(cheap));
                Some(format!("{dear} is set aside: {cheap} cannot keep up beside it").into())
            })
            .or_else(|| {
                let behind = name(self.shed.behind()?);
                Some(format!("{behind} cannot keep up: most of its windows are skipped").into())
            })
    }
}

impl Drop for WindowStreams {
    fn drop(&mut self) {
        // All of them at once, so that their limits run beside each other.
        for stream in &self.streams {
            stream.worker.close();
        }
    }
}

/// What a model takes of the machine: the median time of a window by the time between windows.
/// Boundless where no window has come back yet.
fn cost(stream: &WindowStream, model: &ModelStats) -> f32 {
    if model.times.count() == 0 {
        return f32::INFINITY;
    }
    let hop_us = stream.windows.hop_frames() as f32 * FRAME_US;
    model.times.quantile_us(0.5) / hop_us
}
