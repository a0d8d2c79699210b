//! The log-mel front end that all small models share: one incremental short-time spectrum, 64 bands,
//! 100 frames a second.
//!
//! The geometry is YAMNet's (Plakal and Ellis, `tensorflow/models` `research/audioset/yamnet`
//! `params.py`: 16 kHz, periodic Hann of 25 ms, hop of 10 ms, 512-point transform, 64 HTK bands from
//! 125 to 7500 Hz), so that a teacher and a student see the same stretch of sound; the value is
//! `(ln(power + 1e-6) + 5) / 5`, which stays within about -2 to 3.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex32};

use super::{Frontend, mel::MelBank};
use crate::clock::{PIPELINE_RATE_HZ, SampleIdx};

/// Distance between frames, in samples (10 ms).
pub const HOP: usize = 160;
/// Length of a frame, in samples (25 ms).
pub const WINDOW: usize = 400;
/// Mel bands of a frame.
pub const N_MELS: usize = 64;
/// What stands beside the weights of every model that was trained on this front end.
pub const SPEC: &str = "log-mel-64/16k/25ms/10ms/htk-125-7500/ln(power+1e-6)/v1";

const N_FFT: usize = 512;
const FLOOR: f32 = 1e-6;

/// Incremental log-mel; any chunking of the input gives the same frames.
pub struct LogMel {
    fft: Arc<dyn RealToComplex<f32>>,
    hann: Vec<f32>,
    bank: MelBank,
    /// The samples of the frame in the making, oldest first.
    held: Vec<f32>,
    next: SampleIdx,
    windowed: Vec<f32>,
    bins: Vec<Complex32>,
    scratch: Vec<Complex32>,
    power: Vec<f32>,
    frame: [f32; N_MELS],
}

impl LogMel {
    /// The front end with sample 0 next.
    pub fn new() -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(N_FFT);
        let hann = (0..WINDOW)
            .map(|n| 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / WINDOW as f32).cos())
            .collect();
        LogMel {
            hann,
            bank: MelBank::htk(
                N_MELS,
                N_FFT / 2 + 1,
                f64::from(PIPELINE_RATE_HZ),
                125.0,
                7_500.0,
            ),
            held: Vec::with_capacity(WINDOW),
            next: SampleIdx(0),
            windowed: fft.make_input_vec(),
            bins: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            power: vec![0.0; N_FFT / 2 + 1],
            frame: [0.0; N_MELS],
            fft,
        }
    }

    /// All frames of a whole sound, `(frames, N_MELS)`; shorter than one window gives none.
    pub fn batch(pcm: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity((pcm.len() / HOP + 1) * N_MELS);
        LogMel::new().push(pcm, &mut |_, frame| out.extend_from_slice(frame));
        out
    }

    /// The value of every band in digital silence.
    pub fn silence() -> f32 {
        (FLOOR.ln() + 5.0) / 5.0
    }

    fn transform(&mut self) {
        for ((out, sample), weight) in self.windowed.iter_mut().zip(&self.held).zip(&self.hann) {
            *out = sample * weight;
        }
        self.windowed[WINDOW..].fill(0.0);
        // The buffers have the lengths that the plan itself asked for, which is all that it checks.
        let transformed =
            self.fft
                .process_with_scratch(&mut self.windowed, &mut self.bins, &mut self.scratch);
        debug_assert!(transformed.is_ok());
        for (power, bin) in self.power.iter_mut().zip(&self.bins) {
            *power = bin.norm_sqr();
        }
        self.bank.apply(&self.power, &mut self.frame);
        for value in &mut self.frame {
            *value = ((*value + FLOOR).ln() + 5.0) * 0.2;
        }
    }
}

impl Default for LogMel {
    fn default() -> Self {
        LogMel::new()
    }
}

impl Frontend for LogMel {
    fn push(&mut self, mut pcm: &[f32], emit: &mut dyn FnMut(SampleIdx, &[f32])) {
        while !pcm.is_empty() {
            let take = (WINDOW - self.held.len()).min(pcm.len());
            self.held.extend_from_slice(&pcm[..take]);
            self.next = self.next + take as u64;
            pcm = &pcm[take..];
            if self.held.len() == WINDOW {
                self.transform();
                emit(self.next, &self.frame);
                self.held.copy_within(HOP.., 0);
                self.held.truncate(WINDOW - HOP);
            }
        }
    }

    fn reset(&mut self, at: SampleIdx) {
        self.held.clear();
        self.next = at;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(samples: usize, seed: u64) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..samples).map(|_| rng.f32() * 2.0 - 1.0).collect()
    }

    proptest! {
        #[test]
        fn any_chunking_equals_the_batch(seed: u64, chunks in prop::collection::vec(1usize..900, 1..40)) {
            let pcm = noise(chunks.iter().sum(), seed);
            let mut front = LogMel::new();
            let (mut frames, mut ends, mut at) = (Vec::new(), Vec::new(), 0);
            for chunk in chunks {
                front.push(&pcm[at..at + chunk], &mut |end, frame| {
                    ends.push(end.0);
                    frames.extend_from_slice(frame);
                });
                at += chunk;
            }
            prop_assert_eq!(frames, LogMel::batch(&pcm));
            for (index, end) in ends.into_iter().enumerate() {
                prop_assert_eq!(end, (index * HOP + WINDOW) as u64);
            }
        }
    }

    #[test]
    fn a_tone_peaks_in_its_band_and_silence_is_the_floor() {
        let tone: Vec<f32> = (0..WINDOW)
            .map(|n| (std::f32::consts::TAU * 1000.0 * n as f32 / 16_000.0).sin())
            .collect();
        let frame = LogMel::batch(&tone);
        let best = (0..N_MELS)
            .max_by(|&a, &b| frame[a].total_cmp(&frame[b]))
            .unwrap();
        let mel = super::super::mel::hz_to_mel_htk;
        let band = (mel(1000.0) - mel(125.0)) / (mel(7500.0) - mel(125.0)) * 65.0 - 1.0;
        assert!((best as f64 - band).abs() < 1.0, "{best} {band}");
        assert!(
            LogMel::batch(&[0.0; WINDOW])
                .iter()
                .all(|&v| (v - LogMel::silence()).abs() < 1e-6)
        );
    }

    #[test]
    fn frames_match_numpy() {
        // numpy 2.4.6: x = sin(0.05 n) + 0.5 sin(0.61 n); the same window, rfft(512) and HTK bank.
        let pcm: Vec<f32> = (0..WINDOW)
            .map(|n| (0.05 * n as f32).sin() + 0.5 * (0.61 * n as f32).sin())
            .collect();
        let frame = LogMel::batch(&pcm);
        for (band, expected) in NUMPY_FRAME {
            assert!(
                (frame[band] - expected).abs() < 1e-3,
                "band {band}: {} {expected}",
                frame[band]
            );
        }
    }

    const NUMPY_FRAME: [(usize, f32); 6] = [
        (0, 2.69149),
        (1, 2.25129),
        (10, -0.47052),
        (30, 0.25925),
        (31, -0.12277),
        (60, -1.76306),
    ];
}
