//! Windows of a file's samples for `hark classify`, `hark score` and `hark prompt test`, each as long as
//! the others: what is left at the end of a file is heard with what came before it, because a model of
//! sounds makes little of a tail repeated often.

use std::path::Path;

use super::UsageError;
use super::classify::show::Progress;
use crate::audio::AudioError;
use crate::audio::file::FileReader;
use crate::config::Seconds;

/// A part at the end of a file that is shorter than this adds no frame and needs no window of its own,
/// in seconds: the step of the published front ends.
pub const SLACK_S: f64 = 0.01;

/// The longest window, in seconds: its samples are held in memory.
const MAX_WINDOW_S: f64 = 3600.0;
/// The shortest window and hop, in seconds.
const MIN_WINDOW_S: f64 = 0.01;

/// A length of or between windows from the command line, in seconds.
///
/// # Errors
/// When it is out of range; the text names the flag.
pub fn checked(flag: &str, given: Option<Seconds>) -> Result<Option<f64>, UsageError> {
    match given.map(Seconds::as_secs_f64) {
        Some(seconds) if !(MIN_WINDOW_S..=MAX_WINDOW_S).contains(&seconds) => Err(UsageError(
            format!("--{flag}: expected from {MIN_WINDOW_S} to {MAX_WINDOW_S} s, got {seconds}"),
        )),
        seconds => Ok(seconds),
    }
}

/// Runs `each` for the windows of a file at `rate_hz` with their first and last sample; `cut` makes them
/// of the samples that the file says it has, where it says so.
///
/// # Errors
/// When the file cannot be read or is damaged, then after what could be read; or when `each` fails.
pub fn each_of(
    file: &Path,
    rate_hz: u32,
    progress: &mut Progress,
    cut: impl FnOnce(Option<usize>) -> Windows,
    mut each: impl FnMut((u64, u64), &[f32], &Progress) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut reader = FileReader::open_at(file, rate_hz)?;
    progress.begin(file, reader.declared_s(), rate_hz);
    let samples = |seconds: f64| (seconds * f64::from(rate_hz)) as usize;
    let mut windows = cut(reader.declared_s().map(samples));
    let mut more = true;
    while more {
        match reader.next_block()? {
            Some(block) => {
                progress.advance(block.len());
                windows.push(block);
            }
            None => {
                windows.end();
                more = false;
            }
        }
        while let Some((start, pcm)) = windows.take() {
            each((start, start + pcm.len() as u64), pcm, progress)?;
        }
    }
    match reader.damage() {
        None => Ok(()),
        Some(damage) => Err(AudioError::Decode(format!(
            "{}: {damage}; what could be read was scored",
            file.display()
        ))
        .into()),
    }
}

/// Cuts one file.
pub struct Windows {
    window: usize,
    hop: usize,
    /// Samples beyond a window that need none of their own.
    slack: usize,
    /// Samples from `base` on.
    pcm: Vec<f32>,
    base: u64,
    /// Where the next window begins.
    start: u64,
    /// Where the last window ended.
    covered: u64,
    ended: bool,
}

impl Windows {
    /// Windows of `window` samples every `hop` samples, both at least 1. A file of up to `slack` samples
    /// more than a window is one window.
    pub fn new(window: usize, hop: usize, slack: usize) -> Self {
        Windows {
            window: window.max(1),
            hop: hop.max(1),
            slack,
            pcm: Vec::new(),
            base: 0,
            start: 0,
            covered: 0,
            ended: false,
        }
    }

    /// Takes samples; ask for windows then.
    pub fn push(&mut self, pcm: &[f32]) {
        // What lies a whole window before the next one is in none that is still to come.
        let keep_from = self.start.saturating_sub(self.window as u64);
        let old = usize::try_from(keep_from.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let old = old.min(self.pcm.len());
        // Moving the rest once a window costs nothing, once a block it would.
        if old > self.window {
            self.pcm.drain(..old);
            self.base += old as u64;
        }
        self.pcm.extend_from_slice(pcm);
    }

    /// Says that the file has ended; ask for the last windows then.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The next window that is whole, with the index of its first sample.
    pub fn take(&mut self) -> Option<(u64, &[f32])> {
        let end = self.base + self.pcm.len() as u64;
        let (window, slack) = (self.window as u64, self.slack as u64);
        let whole_end = self.start + window;
        let is_last = self.ended && self.start > 0 && end >= whole_end;
        let span = if end > whole_end + slack || is_last {
            self.start..whole_end
        } else if !self.ended || end <= self.start || end <= self.covered {
            return None;
        } else if self.covered == 0 {
            // The whole file.
            self.start..end
        } else if end <= self.covered + slack {
            return None;
        } else {
            end.saturating_sub(window)..end
        };
        self.covered = span.end;
        self.start += self.hop as u64;
        let at =
            |index: u64| usize::try_from(index.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let samples = self.pcm.get(at(span.start)..at(span.end))?;
        Some((span.start, samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First sample and length of every window of a file of `len` samples, which must hold what the
    /// file has there.
    fn windows(len: usize, (window, hop, slack): (usize, usize, usize)) -> Vec<(u64, usize)> {
        let pcm: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let mut all = Vec::new();
        for chunk in [1, 3, 7, 100] {
            let mut cut = Windows::new(window, hop, slack);
            let mut got = Vec::new();
            for block in pcm.chunks(chunk) {
                cut.push(block);
                while let Some((start, pcm)) = cut.take() {
                    got.push((start, pcm.len(), pcm[0]));
                }
            }
            cut.end();
            while let Some((start, pcm)) = cut.take() {
                got.push((start, pcm.len(), pcm[0]));
            }
            assert!(got.iter().all(|&(start, _, first)| first == start as f32));
            all.push(
                got.iter()
                    .map(|&(start, len, _)| (start, len))
                    .collect::<Vec<_>>(),
            );
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        all.remove(0)
    }

    #[test]
    fn a_short_file_is_one_window_and_a_long_one_ends_with_a_whole_one() {
        assert!(windows(0, (10, 10, 1)).is_empty());
        assert_eq!(windows(4, (10, 10, 1)), [(0, 4)]);
        assert_eq!(windows(10, (10, 10, 1)), [(0, 10)]);
        assert_eq!(windows(11, (10, 10, 1)), [(0, 11)]);
        assert_eq!(windows(12, (10, 10, 1)), [(0, 10), (2, 10)]);
        assert_eq!(windows(20, (10, 10, 1)), [(0, 10), (10, 10)]);
        assert_eq!(windows(21, (10, 10, 1)), [(0, 10), (10, 10)]);
        assert_eq!(
            windows(25, (10, 5, 0)),
            [(0, 10), (5, 10), (10, 10), (15, 10)]
        );
        assert_eq!(
            windows(37, (10, 10, 0)),
            [(0, 10), (10, 10), (20, 10), (27, 10)]
        );
    }

    #[test]
    fn windows_further_apart_than_they_are_long_leave_out_what_is_between() {
        assert_eq!(windows(24, (4, 10, 0)), [(0, 4), (10, 4), (20, 4)]);
        assert_eq!(windows(19, (4, 10, 0)), [(0, 4), (10, 4)]);
        assert_eq!(windows(22, (4, 10, 0)), [(0, 4), (10, 4), (18, 4)]);
    }
}
