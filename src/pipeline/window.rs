//! Windows over the newest part of the stream: when one is due, and what is in it.
//!
//! [`FrameWindow`] keeps the log-mel frames of one model. Models that take samples share one
//! [`History`] of them, as long as the longest window, and have a [`Schedule`] each. Scoring windows
//! is the worker's.

use crate::clock::SampleIdx;
use crate::features::{HOP, N_MELS};
use crate::models::Input;

/// The newest values of a stream, always contiguous.
#[derive(Debug, Clone)]
pub struct History {
    values: Vec<f32>,
    kept: usize,
}

impl History {
    /// Keeps at least the newest `kept` values; takes at most as many at a time.
    pub fn new(kept: usize) -> Self {
        History {
            // Twice as many, and the newest are moved to the front when they are full.
            values: Vec::with_capacity(2 * kept),
            kept,
        }
    }

    /// Takes values. Allocates nothing.
    pub fn push(&mut self, values: &[f32]) {
        let values = &values[values.len().saturating_sub(self.kept)..];
        if self.values.len() + values.len() > self.values.capacity() {
            let keep = (self.kept - values.len()).min(self.values.len());
            let from = self.values.len() - keep;
            self.values.copy_within(from.., 0);
            self.values.truncate(keep);
        }
        self.values.extend_from_slice(values);
    }

    /// The newest `n` values, oldest first; fewer at the start of a stream.
    pub fn newest(&self, n: usize) -> &[f32] {
        &self.values[self.values.len().saturating_sub(n)..]
    }

    /// Takes the newest of what `old` holds, as much as is kept here. Allocates nothing.
    pub fn carry_over(&mut self, old: &History) {
        self.values.clear();
        self.push(old.newest(self.kept));
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.values.clear();
    }
}

/// When windows of a stream are due, in frames of 10 ms.
#[derive(Debug, Clone)]
pub struct Schedule {
    len: usize,
    hop: usize,
    /// Frames since the last reset.
    seen: usize,
    end: SampleIdx,
}

impl Schedule {
    /// A window of `window_frames` frames every `hop_frames`, both at least 1.
    pub fn new(window_frames: usize, hop_frames: usize) -> Self {
        Schedule {
            len: window_frames.max(1),
            hop: hop_frames.max(1),
            seen: 0,
            end: SampleIdx(0),
        }
    }

    /// Takes note of the frame that ends at `end` and says whether a window is due.
    pub fn push(&mut self, end: SampleIdx) -> bool {
        self.end = end;
        self.seen += 1;
        self.seen >= self.len && (self.seen - self.len).is_multiple_of(self.hop)
    }

    /// First sample of the newest window and one past its last; shorter at the start of a stream.
    pub fn span(&self) -> (SampleIdx, SampleIdx) {
        let samples = (self.seen.min(self.len) * HOP) as u64;
        (SampleIdx(self.end.0.saturating_sub(samples)), self.end)
    }

    /// Frames that must still come before the stream's end is in a window.
    pub fn frames_to_due(&self) -> usize {
        match self.seen {
            0 => 0,
            seen if seen < self.len => self.len - seen,
            seen => match (seen - self.len) % self.hop {
                0 => 0,
                over => self.hop - over,
            },
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.seen = 0;
    }
}

/// The newest frames of the stream, always contiguous.
#[derive(Debug, Clone)]
pub struct FrameWindow {
    frames: History,
    schedule: Schedule,
}

impl FrameWindow {
    /// Keeps `window_frames` frames and is due every `hop_frames`, both at least 1.
    pub fn new(window_frames: usize, hop_frames: usize) -> Self {
        let schedule = Schedule::new(window_frames, hop_frames);
        FrameWindow {
            frames: History::new(schedule.len * N_MELS),
            schedule,
        }
    }

    /// Takes the frame that ends at `end` and says whether a window is due. Allocates nothing.
    pub fn push(&mut self, end: SampleIdx, frame: &[f32]) -> bool {
        self.frames.push(frame);
        self.schedule.push(end)
    }

    /// The newest window `(frames, N_MELS)`, oldest first; shorter at the start of a stream.
    pub fn newest(&self) -> &[f32] {
        self.frames.newest(self.schedule.len * N_MELS)
    }

    /// First sample of the newest window and one past its last.
    pub fn span(&self) -> (SampleIdx, SampleIdx) {
        self.schedule.span()
    }

    /// Frames that must still come before the stream's end is in a window.
    pub fn frames_to_due(&self) -> usize {
        self.schedule.frames_to_due()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.frames.reset();
        self.schedule.reset();
    }
}

/// The windows that one model is given.
#[derive(Debug, Clone)]
pub enum Windows {
    /// Frames of the front end.
    Frames(FrameWindow),
    /// Samples at the pipeline rate, out of the history that all models share.
    Samples(Schedule),
}

impl Windows {
    /// Windows for a model with this input.
    pub fn new(input: Input, window_frames: usize, hop_frames: usize) -> Self {
        match input {
            Input::LogMel => Windows::Frames(FrameWindow::new(window_frames, hop_frames)),
            Input::Samples { .. } => Windows::Samples(Schedule::new(window_frames, hop_frames)),
        }
    }

    fn schedule(&self) -> &Schedule {
        match self {
            Windows::Frames(window) => &window.schedule,
            Windows::Samples(schedule) => schedule,
        }
    }

    /// Length of a window in what it is made of: values of frames, or samples at the pipeline rate.
    pub fn values(&self) -> usize {
        match self {
            Windows::Frames(window) => window.schedule.len * N_MELS,
            Windows::Samples(schedule) => schedule.len * HOP,
        }
    }

    /// Samples that the shared history must keep for them.
    pub fn history(&self) -> usize {
        match self {
            Windows::Frames(_) => 0,
            Windows::Samples(_) => self.values(),
        }
    }

    /// The newest window; `pcm` is the shared history.
    pub fn newest<'a>(&'a self, pcm: &'a History) -> &'a [f32] {
        match self {
            Windows::Frames(window) => window.newest(),
            Windows::Samples(_) => pcm.newest(self.values()),
        }
    }

    /// First sample of the newest window and one past its last.
    pub fn span(&self) -> (SampleIdx, SampleIdx) {
        self.schedule().span()
    }

    /// Frames that must still come before the stream's end is in a window.
    pub fn frames_to_due(&self) -> usize {
        self.schedule().frames_to_due()
    }

    /// Distance between windows in frames.
    pub fn hop_frames(&self) -> usize {
        self.schedule().hop
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        match self {
            Windows::Frames(window) => window.reset(),
            Windows::Samples(schedule) => schedule.reset(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(value: f32) -> [f32; N_MELS] {
        [value; N_MELS]
    }

    #[test]
    fn a_window_is_due_when_it_is_full_and_then_every_hop() {
        let mut window = FrameWindow::new(4, 2);
        let due: Vec<u64> = (1..=9)
            .filter(|&n| window.push(SampleIdx(n * HOP as u64), &frame(n as f32)))
            .collect();
        assert_eq!(due, [4, 6, 8]);
        assert_eq!(window.frames_to_due(), 1);
        let newest: Vec<f32> = window.newest().iter().step_by(N_MELS).copied().collect();
        assert_eq!(newest, [6.0, 7.0, 8.0, 9.0]);
        assert_eq!(window.span(), (SampleIdx(5 * 160), SampleIdx(9 * 160)));
        window.reset();
        assert_eq!(window.frames_to_due(), 0);
        window.push(SampleIdx(20 * 160), &frame(1.0));
        assert_eq!(window.span(), (SampleIdx(19 * 160), SampleIdx(20 * 160)));
        assert_eq!(window.frames_to_due(), 3);
    }

    #[test]
    fn one_history_serves_windows_of_any_length() {
        let input = Input::Samples { rate_hz: 32_000 };
        let mut windows = [Windows::new(input, 3, 2), Windows::new(input, 1, 1)];
        let mut pcm = History::new(windows.iter().map(Windows::history).max().unwrap());
        let mut got = [Vec::new(), Vec::new()];
        for n in 1..=8 {
            pcm.push(&[n as f32; HOP]);
            for (windows, got) in windows.iter_mut().zip(&mut got) {
                let Windows::Samples(schedule) = windows else {
                    panic!("{windows:?}");
                };
                if schedule.push(SampleIdx(n * HOP as u64)) {
                    let newest = windows.newest(&pcm);
                    assert_eq!(newest.len(), windows.values());
                    got.push((newest[0], newest[newest.len() - 1]));
                    let (start, end) = windows.span();
                    assert_eq!((end.0 - start.0) as usize, newest.len());
                }
            }
        }
        assert_eq!(got[0], [(1.0, 3.0), (3.0, 5.0), (5.0, 7.0)]);
        assert_eq!(got[1].len(), 8);
        pcm.reset();
        assert!(pcm.newest(7).is_empty());
    }
}
