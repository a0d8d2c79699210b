//! Time: a sample index everywhere, and the one place that turns it into wall time.

use std::time::{Duration, Instant, SystemTime};

/// The rate of the pipeline behind the resampler, in hertz.
pub const PIPELINE_RATE_HZ: u32 = 16_000;

/// A position in a source, counted in samples at [`PIPELINE_RATE_HZ`] from its start.
///
/// Lost samples are counted too, so the index stays in step with the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SampleIdx(pub u64);

impl SampleIdx {
    /// Seconds since the start of the source.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / f64::from(PIPELINE_RATE_HZ)
    }

    /// The nearest index to `seconds` after the start; negative and NaN give the start.
    pub fn from_secs_f64(seconds: f64) -> Self {
        SampleIdx((seconds.max(0.0) * f64::from(PIPELINE_RATE_HZ)).round() as u64)
    }

    /// The distance back to `earlier`, zero where that is later.
    pub fn since(self, earlier: SampleIdx) -> Duration {
        Duration::from_secs_f64(
            self.0.saturating_sub(earlier.0) as f64 / f64::from(PIPELINE_RATE_HZ),
        )
    }
}

impl std::ops::Add<u64> for SampleIdx {
    type Output = SampleIdx;

    fn add(self, samples: u64) -> SampleIdx {
        SampleIdx(self.0.saturating_add(samples))
    }
}

/// Maps sample indices to wall time and to monotonic time.
///
/// The anchor is moved by [`WallClock::observe`] whenever a block of samples arrives, so a drifting
/// sound card cannot pull event times away from the wall clock.
#[derive(Debug, Clone)]
pub struct WallClock {
    origin: Instant,
    at: SampleIdx,
    wall: SystemTime,
    mono: Instant,
}

impl WallClock {
    /// A clock whose sample 0 is now; `origin` is the start of the daemon, for `mono_us`.
    pub fn new(origin: Instant) -> Self {
        WallClock {
            origin,
            at: SampleIdx(0),
            wall: SystemTime::now(),
            mono: Instant::now(),
        }
    }

    /// Says that the sample `at` is arriving now.
    pub fn observe(&mut self, at: SampleIdx) {
        self.at = at;
        self.wall = SystemTime::now();
        self.mono = Instant::now();
    }

    /// Wall time of a sample.
    pub fn wall_time(&self, idx: SampleIdx) -> SystemTime {
        if idx >= self.at {
            self.wall + idx.since(self.at)
        } else {
            self.wall - self.at.since(idx)
        }
    }

    /// Monotonic time of a sample, in microseconds since the daemon started.
    pub fn mono_us(&self, idx: SampleIdx) -> u64 {
        let base = self.mono.duration_since(self.origin);
        let time = if idx >= self.at {
            base + idx.since(self.at)
        } else {
            base.saturating_sub(self.at.since(idx))
        };
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_runs_both_ways_from_the_anchor() {
        let mut clock = WallClock::new(Instant::now());
        clock.observe(SampleIdx(16_000));
        let before = clock.wall_time(SampleIdx(0));
        let after = clock.wall_time(SampleIdx(32_000));
        assert_eq!(
            after.duration_since(before).unwrap(),
            Duration::from_secs(2)
        );
    }

    #[test]
    fn an_index_before_the_daemon_saturates() {
        let clock = WallClock::new(Instant::now());
        assert!(clock.mono_us(SampleIdx(0)) < 1_000_000);
        assert_eq!(SampleIdx::from_secs_f64(f64::NAN), SampleIdx(0));
    }
}
