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
/// Slices kept: 10.24 s, the longest window of any model.
const KEPT: usize = 1024;
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

    /// Level of the newest `samples` in dBFS, to the grain of 10 ms; at most the last 10.24 s, and
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
