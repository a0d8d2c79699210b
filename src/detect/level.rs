//! Level and noise floor of the sound, in dB relative to full scale.
//!
//! Levels are root mean squares: a constant 1.0 is 0 dBFS, a sine that just reaches full scale
//! -3 dBFS. The noise floor follows minimum statistics (Martin 2001) on the 100 ms level: the
//! lowest of the last ten seconds, so sound that comes and goes does not raise it.

use crate::clock::PIPELINE_RATE_HZ;

/// The lowest level that is reported: below the quantisation noise of 16-bit sound.
pub const SILENCE_DBFS: f32 = -120.0;

/// Samples in a slice (10 ms), the grain of every level.
const SLICE: usize = (PIPELINE_RATE_HZ / 100) as usize;
/// Slices kept: 30.72 s, longer than the longest window.
const KEPT: usize = 3072;
/// Slices in the live level (100 ms).
const LIVE: usize = 10;
/// Slices in one minimum of the noise floor (1 s).
const MINIMUM: usize = 100;
/// Minima that the noise floor looks back on.
const MINIMA: usize = 10;

/// A mean square as a level in dBFS, at least [`SILENCE_DBFS`].
pub fn mean_square_dbfs(mean_square: f32) -> f32 {
    // `max` drops NaN.
    (10.0 * mean_square.log10()).max(SILENCE_DBFS)
}

/// Level of a block of samples in dBFS; samples that are not finite count as 0, and an empty block
/// is silence.
pub fn rms_dbfs(pcm: &[f32]) -> f32 {
    mean_square_dbfs(energy(pcm) / pcm.len().max(1) as f32)
}

fn energy(pcm: &[f32]) -> f32 {
    pcm.iter()
        .map(|sample| {
            if sample.is_finite() {
                sample * sample
            } else {
                0.0
            }
        })
        .sum()
}

/// Follows level and noise floor. Any chunking of the sound gives the same values, to rounding.
#[derive(Debug, Clone)]
pub struct LevelMeter {
    /// Mean squares of slices, a ring.
    slices: Box<[f32; KEPT]>,
    /// Finished slices since the start.
    count: usize,
    /// Energy and samples of the slice under way.
    partial: f32,
    filled: usize,
    /// Lowest 100 ms mean square of each of the last seconds, a ring.
    minima: [f32; MINIMA],
    /// The same of the second under way.
    minimum: f32,
}

impl Default for LevelMeter {
    fn default() -> Self {
        Self::new()
    }
}

impl LevelMeter {
    /// A meter that has heard nothing.
    pub fn new() -> Self {
        LevelMeter {
            slices: Box::new([0.0; KEPT]),
            count: 0,
            partial: 0.0,
            filled: 0,
            minima: [f32::INFINITY; MINIMA],
            minimum: f32::INFINITY,
        }
    }

    /// Takes mono samples at the pipeline rate. Real-time safe.
    pub fn push(&mut self, mut pcm: &[f32]) {
        while !pcm.is_empty() {
            let (now, rest) = pcm.split_at(pcm.len().min(SLICE - self.filled));
            self.partial += energy(now);
            self.filled += now.len();
            if self.filled == SLICE {
                self.finish_slice();
            }
            pcm = rest;
        }
    }

    /// Level of the newest 100 ms in dBFS.
    pub fn level_dbfs(&self) -> f32 {
        self.over(LIVE)
    }

    /// Level of the newest `samples` in dBFS, to the grain of 10 ms; at most the last 30.72 s, and
    /// no more than was heard.
    pub fn level_over_dbfs(&self, samples: usize) -> f32 {
        self.over(samples.div_ceil(SLICE))
    }

    /// Estimated noise floor in dBFS: the lowest 100 ms of the last 10 s.
    pub fn noise_floor_dbfs(&self) -> f32 {
        let lowest = self.minima.iter().copied().fold(self.minimum, f32::min);
        if lowest.is_finite() {
            mean_square_dbfs(lowest)
        } else {
            SILENCE_DBFS
        }
    }

    /// Forgets the sound so far, as after a gap; the noise floor stays, for the room is the same.
    pub fn reset(&mut self) {
        self.count = 0;
        self.partial = 0.0;
        self.filled = 0;
    }

    fn finish_slice(&mut self) {
        self.slices[self.count % KEPT] = self.partial / SLICE as f32;
        self.partial = 0.0;
        self.filled = 0;
        self.count += 1;
        if self.count >= LIVE {
            self.minimum = self.minimum.min(self.mean_square(LIVE));
        }
        if self.count.is_multiple_of(MINIMUM) {
            self.minima[self.count / MINIMUM % MINIMA] = self.minimum;
            self.minimum = f32::INFINITY;
        }
    }

    fn over(&self, slices: usize) -> f32 {
        mean_square_dbfs(self.mean_square(slices))
    }

    fn mean_square(&self, slices: usize) -> f32 {
        let n = slices.min(self.count).min(KEPT);
        let sum: f32 = (self.count - n..self.count)
            .map(|at| self.slices[at % KEPT])
            .sum();
        sum / n.max(1) as f32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sine(amplitude: f32, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|at| amplitude * (at as f32 * std::f32::consts::TAU / 16.0).sin())
            .collect()
    }

    #[test]
    fn levels_are_root_mean_squares() {
        let check = |pcm: &[f32], expected: f32| {
            let got = rms_dbfs(pcm);
            assert!((got - expected).abs() < 0.01, "{got} for {expected}");
        };
        check(&[1.0, -1.0], 0.0);
        check(&sine(1.0, 1600), -3.01);
        check(&sine(0.1, 1600), -23.01);
        check(&[0.0; 10], SILENCE_DBFS);
        check(&[], SILENCE_DBFS);
        check(&[f32::NAN, 1.0, f32::INFINITY, -1.0], -3.01);
    }

    #[test]
    fn the_floor_stays_under_sound_that_comes_and_goes() {
        let mut meter = LevelMeter::new();
        assert_eq!(meter.noise_floor_dbfs(), SILENCE_DBFS);
        for _ in 0..20 {
            meter.push(&sine(0.5, 12_000));
            meter.push(&sine(0.001, 4_000));
        }
        meter.push(&sine(0.5, 16_000));
        assert!((meter.level_dbfs() - -9.03).abs() < 0.05);
        assert!((meter.noise_floor_dbfs() - -63.01).abs() < 0.05);
        // A room that has become louder for good is the new floor after eleven seconds.
        meter.push(&sine(0.01, 11 * 16_000));
        assert!((meter.noise_floor_dbfs() - -43.01).abs() < 0.05);
        assert!((meter.level_over_dbfs(16_000) - -43.01).abs() < 0.05);
    }

    #[test]
    fn a_gap_empties_the_level_and_keeps_the_floor() {
        let mut meter = LevelMeter::new();
        meter.push(&sine(0.1, 32_000));
        meter.reset();
        assert_eq!(meter.level_dbfs(), SILENCE_DBFS);
        assert!((meter.noise_floor_dbfs() - -23.01).abs() < 0.05);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_levels(
            sizes in prop::collection::vec(0_usize..700, 1..60),
            seed in any::<u32>(),
        ) {
            let total: usize = sizes.iter().sum();
            let mut state = seed;
            let pcm: Vec<f32> = (0..total)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state as f32 / u32::MAX as f32 - 0.5
                })
                .collect();
            let mut whole = LevelMeter::new();
            whole.push(&pcm);
            let mut pieces = LevelMeter::new();
            let mut rest = pcm.as_slice();
            for size in sizes {
                let (now, later) = rest.split_at(size);
                pieces.push(now);
                rest = later;
            }
            prop_assert!((whole.level_dbfs() - pieces.level_dbfs()).abs() < 1e-3);
            prop_assert!((whole.noise_floor_dbfs() - pieces.noise_floor_dbfs()).abs() < 1e-3);
        }
    }
}
