//! What systemd is told: ready, state, stopping, and that the daemon is alive.
//!
//! The watchdog is fed while capture and inference both advance: new samples have been handled and,
//! where there are enough of them, new frames and windows have been scored. Two exceptions are
//! honest. While deliberately paused nothing has to advance. While stalled, the loop that retries
//! the source must advance, and this counts for [`STALL_LIMIT`] at most: an unplugged microphone
//! must not restart the daemon while it is away for a moment, but a process that cannot get its
//! device back for that long may be at fault itself, and is started afresh.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::clock::SampleIdx;
use crate::command::State;
use crate::pipeline::stats::Stats;

/// How long a stalled source is taken for alive.
const STALL_LIMIT: Duration = Duration::from_secs(600);
/// What scoring a window may take beside the time it is long and the one before the next, in seconds:
/// a slow machine, or a few windows skipped.
const WINDOW_MARGIN_S: f64 = 10.0;

/// The way to the service manager; without one, everything here does nothing.
pub(super) struct Alive {
    /// Feed this often.
    every: Option<Duration>,
    next: Instant,
    samples: u64,
    frames: u64,
    windows: Option<u64>,
    /// Samples after which a window must have been scored.
    window_samples: u64,
    /// Samples when a window was scored last.
    samples_at_window: u64,
    turns: u64,
    stalled_since: Option<Instant>,
}

impl Alive {
    /// Reads from the environment whether there is a watchdog.
    pub fn new(now: Instant) -> Self {
        Alive::every(sd_notify::watchdog_enabled().map(|limit| limit / 3), now)
    }

    /// Takes the windows of a pipeline for what is to be expected: one of some model in the time of
    /// the longest.
    pub fn follow(&mut self, stats: &Stats) {
        let longest_s = stats
            .windows()
            .iter()
            .filter_map(|model| model.windows_s())
            .map(|(window_s, hop_s)| window_s + hop_s)
            .fold(0.0, f64::max);
        self.window_samples = SampleIdx::from_secs_f64(longest_s + WINDOW_MARGIN_S).0;
    }

    fn every(every: Option<Duration>, now: Instant) -> Self {
        Alive {
            every,
            next: now,
            samples: 0,
            frames: 0,
            windows: None,
            window_samples: SampleIdx::from_secs_f64(WINDOW_MARGIN_S).0,
            samples_at_window: 0,
            turns: 0,
            stalled_since: None,
        }
    }

    /// Models are warm, outputs are served.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// The state in force.
    pub fn status(&self, state: State, reason: &str) {
        let text = match reason {
            "" => state.as_str().to_owned(),
            reason => format!("{}: {reason}", state.as_str()),
        };
        notify(&[NotifyState::Status(&text)]);
    }

    /// The daemon is ending.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// Feeds the watchdog where it is due and deserved.
    pub fn feed(&mut self, state: State, stats: &Stats) {
        let now = Instant::now();
        let Some(every) = self.every else {
            return;
        };
        if now >= self.next {
            self.next = now + every;
            if self.deserves(now, state, stats) {
                notify(&[NotifyState::Watchdog]);
            }
        }
    }

    /// Whether capture and inference have advanced since the last look, or need not.
    fn deserves(&mut self, now: Instant, state: State, stats: &Stats) -> bool {
        let (samples, frames, turns) = (stats.samples(), stats.frames.count(), stats.turns());
        let windows = stats.windows_judged();
        if windows.is_none() || windows != self.windows {
            self.samples_at_window = samples;
        }
        let captured = samples != self.samples;
        let inferred = frames != self.frames
            && samples.saturating_sub(self.samples_at_window) < self.window_samples;
        let turned = turns != self.turns;
        self.samples = samples;
        self.frames = frames;
        self.turns = turns;
        self.windows = windows;
        if !matches!(state, State::Stalled | State::Loading) {
            self.stalled_since = None;
        }
        match state {
            State::Paused => true,
            _ if captured && inferred => true,
            // Before the first sound it is as when there is none any more: a program may take longer
            // to connect than the watchdog waits.
            State::Stalled | State::Loading => {
                let since = *self.stalled_since.get_or_insert(now);
                turned && now - since < STALL_LIMIT
            }
            _ => false,
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager was not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::{ModelInfo, Task};
    use crate::pipeline::stats::ModelStats;

    fn stats() -> Stats {
        let info = |task| ModelInfo {
            name: "fake".into(),
            sha256: "".into(),
            task,
            labels: [Arc::from("Bell")].into(),
            input: crate::models::Input::LogMel,
            window_frames: 100,
            parameters: 0,
            licence: "Apache-2.0".into(),
        };
        Stats::new(
            "mic",
            Some(ModelStats::new(info(Task::Keyword))),
            vec![
                ModelStats::windowed(info(Task::Event), 100, 50).into(),
                ModelStats::windowed(info(Task::Event), 3000, 1000).into(),
            ],
        )
    }

    fn step(stats: &Stats, seconds: u64, windows: bool) {
        stats.turn();
        stats.handled(seconds * 16_000);
        for _ in 0..seconds * 100 {
            stats.frames.record(Duration::from_micros(20));
        }
        if windows {
            stats.windows()[1].times.record(Duration::from_millis(3));
        }
    }

    #[test]
    fn only_progress_of_capture_and_inference_counts() {
        let now = Instant::now();
        let mut alive = Alive::every(Some(Duration::from_secs(1)), now);
        let stats = stats();
        step(&stats, 5, true);
        assert!(alive.deserves(now, State::Listening, &stats));
        assert!(
            !alive.deserves(now, State::Listening, &stats),
            "nothing since"
        );
        step(&stats, 8, false);
        assert!(
            alive.deserves(now, State::Listening, &stats),
            "8 s without a window"
        );
        step(&stats, 8, false);
        assert!(
            !alive.deserves(now, State::Listening, &stats),
            "16 s without a window"
        );
        step(&stats, 1, true);
        assert!(
            alive.deserves(now, State::Degraded, &stats),
            "a window at last"
        );
        alive.follow(&stats);
        step(&stats, 45, false);
        assert!(
            alive.deserves(now, State::Listening, &stats),
            "a long window is waited for"
        );
        step(&stats, 6, false);
        assert!(!alive.deserves(now, State::Listening, &stats));
        stats.handled(16_000);
        assert!(
            !alive.deserves(now, State::Listening, &stats),
            "samples, but no frames"
        );
    }

    #[test]
    fn pause_is_alive_and_a_stall_for_a_while() {
        let now = Instant::now();
        let mut alive = Alive::every(Some(Duration::from_secs(1)), now);
        let stats = stats();
        assert!(alive.deserves(now, State::Paused, &stats));
        stats.turn();
        assert!(alive.deserves(now, State::Stalled, &stats));
        assert!(
            !alive.deserves(now, State::Stalled, &stats),
            "nobody retries"
        );
        stats.turn();
        assert!(!alive.deserves(now + STALL_LIMIT, State::Stalled, &stats));
        assert!(!alive.deserves(now, State::Loading, &stats));
    }
}
