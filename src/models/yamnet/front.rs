//! The front end inside the file: a waveform to log-mel frames, with the int8 mel matrix that the
//! file brings.
//!
//! `tensorflow/models` `research/audioset/yamnet/features.py`: periodic Hann of 25 ms, hop of 10 ms,
//! 512-point transform, *magnitudes* (not powers) through 64 HTK bands of 125 to 7500 Hz,
//! `ln(mel + 0.001)`. It is not [`crate::features::LogMel`], which has the same bands on powers: the
//! converted file quantises its mel matrix to 8 bits and the magnitudes of every frame to 8 bits as
//! well, so that quiet bands of a loud frame come out coarse. The transform runs in double precision,
//! as the RFFT2D of TensorFlow Lite does; the logarithm is XNNPACK's rational one (google/XNNPACK
//! 0197735, `src/f32-vlog/rational-3-3.c.in`).

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex64};

use crate::kernels::int8::{Int8Dense, Int8Rows};
use crate::kernels::log::ln;

/// Length of a frame in samples (25 ms).
pub const WINDOW: usize = 400;
/// Distance between frames in samples (10 ms).
pub const HOP: usize = 160;
/// Points of the transform.
pub const N_FFT: usize = 512;
/// Bins of a spectrum.
pub const N_BINS: usize = N_FFT / 2 + 1;
/// Mel bands of a frame.
pub const N_MELS: usize = 64;
/// Frames of a patch.
pub const PATCH: usize = 96;
/// Frames between patches.
pub const PATCH_HOP: usize = 48;
/// Samples of a single patch: 96 hops and what the last frame reaches over its own.
pub const PATCH_SAMPLES: usize = 15_600;
/// Samples between patches (0.48 s).
pub const PATCH_HOP_SAMPLES: usize = PATCH_HOP * HOP;

/// How many patches a sound of so many samples has: one, and another for every 0.48 s that begins
/// after it, as the file's own graph pads (in floats, as it does).
pub fn patches(samples: usize) -> usize {
    let beyond = samples.saturating_sub(PATCH_SAMPLES);
    let hops = (beyond as f32 * (1.0 / PATCH_HOP_SAMPLES as f32)).ceil();
    1 + hops as usize
}

/// Turns sound into frames; the buffers grow with the longest sound seen.
pub struct Front {
    fft: Arc<dyn RealToComplex<f64>>,
    window: Vec<f32>,
    mel: Int8Dense,
    samples: Vec<f64>,
    bins: Vec<Complex64>,
    scratch: Vec<Complex64>,
    magnitudes: Vec<f32>,
    rows: Int8Rows,
    frames: Vec<f32>,
}

impl Front {
    /// With the window `(WINDOW)` and the mel matrix (from `N_BINS` to `N_MELS`) of the file.
    pub fn new(window: Vec<f32>, mel: Int8Dense) -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(N_FFT);
        Front {
            window,
            mel,
            samples: fft.make_input_vec(),
            bins: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            magnitudes: Vec::new(),
            rows: Int8Rows::default(),
            frames: Vec::new(),
            fft,
        }
    }

    /// The log-mel frames `(frames, N_MELS)` of `patches(pcm.len())` patches of `pcm`, with silence
    /// after its end.
    pub fn frames(&mut self, pcm: &[f32]) -> &[f32] {
        let count = PATCH + (patches(pcm.len()) - 1) * PATCH_HOP;
        self.magnitudes.resize(count * N_BINS, 0.0);
        self.frames.resize(count * N_MELS, 0.0);
        for (at, magnitudes) in self.magnitudes.chunks_exact_mut(N_BINS).enumerate() {
            let heard = pcm.get(at * HOP..).unwrap_or_default();
            self.samples.fill(0.0);
            let windowed = heard.iter().zip(&self.window).map(|(x, w)| x * w);
            for (sample, value) in self.samples.iter_mut().zip(windowed) {
                *sample = value.into();
            }
            // The buffers have the lengths that the plan itself asked for, which is all it checks.
            let transformed =
                self.fft
                    .process_with_scratch(&mut self.samples, &mut self.bins, &mut self.scratch);
            debug_assert!(transformed.is_ok());
            for (magnitude, bin) in magnitudes.iter_mut().zip(&self.bins) {
                // The reference holds the bins as floats before it takes their magnitude.
                let (re, im) = (f64::from(bin.re as f32), f64::from(bin.im as f32));
                *magnitude = (re * re + im * im).sqrt() as f32;
            }
        }
        let (mel, rows) = (&self.mel, &mut self.rows);
        mel.apply(&self.magnitudes, rows, false, &mut self.frames);
        ln(&mut self.frames);
        &self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_begin_every_half_second_and_cover_the_sound() {
        let check = |samples, expected| assert_eq!(patches(samples), expected, "{samples}");
        check(0, 1);
        check(400, 1);
        check(PATCH_SAMPLES, 1);
        check(PATCH_SAMPLES + 1, 2);
        check(PATCH_SAMPLES + PATCH_HOP_SAMPLES, 2);
        check(16_000 * 10, 20);
    }
}
