//! Power spectra of whole clips: the short-time transform that all batch front ends share.
//!
//! Covers the framings of Kaldi (whole frames, mean removal and pre-emphasis within a frame) and of
//! `torch.stft` and transformers' `audio_utils.spectrogram` (frames centred, the ends reflected or
//! taken as silence).
//!
//! The transform runs in f64; its power is f32, since what follows is sums of what is not negative.
//! Front ends take logarithms far below the loudest bin, where the roundoff of an f32 transform shows.
//! On a recorded bell one in f32 is 4.8e-4 away from AST's features by torchaudio, which has an f32
//! transform of its own, and this one 2.5e-4; from the same features by transformers' numpy, which is
//! in f64, 3.1e-4 and 1.2e-7.

use std::sync::Arc;

use rayon::prelude::*;
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use super::Spectrogram;

/// Frames that one thread takes at a time; fewer than two such blocks stay on the calling thread.
const BLOCK_FRAMES: usize = 64;

/// The weights of the samples of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Hann, periodic: `torch.hann_window`.
    Hann,
    /// Hann, zero at both ends: Kaldi's `hanning`.
    HannSymmetric,
    /// Hamming, periodic: `torch.hamming_window`.
    Hamming,
    /// Hamming, symmetric: Kaldi's `hamming`.
    HammingSymmetric,
    /// Symmetric Hann to the power of 0.85: Kaldi's `povey`.
    Povey,
}

/// Where frames lie, and what is taken for samples beyond the ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edges {
    /// Frames begin at multiples of the hop and lie wholly within the clip.
    Whole,
    /// Frames are centred at multiples of the hop; the clip is mirrored at its ends.
    Reflected,
    /// Frames are centred at multiples of the hop; beyond the ends is silence.
    Silent,
}

/// What a transform is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpectrumSpec {
    /// The weights of a frame.
    pub window: Window,
    /// Samples of a frame.
    pub window_len: usize,
    /// Samples from a frame to the next, at least 1.
    pub hop: usize,
    /// Points of the transform, at least `window_len`; the rest is zero.
    pub fft_len: usize,
    /// Where frames lie.
    pub edges: Edges,
    /// Whether each frame has its mean taken off.
    pub remove_dc: bool,
    /// What part of the sample before is taken off each sample of a frame, after the mean; the
    /// first sample stands before itself, as in Kaldi.
    pub pre_emphasis: f64,
}

/// A transform with its plan and window; shared by threads, no state between calls.
pub struct Spectrum {
    spec: SpectrumSpec,
    fft: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    pre_emphasis: Option<f64>,
}

/// What one thread needs to transform frames.
struct Work {
    frame: Vec<f64>,
    bins: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
    power: Vec<f32>,
}

impl Window {
    /// The weights, `len` of them.
    pub fn weights(self, len: usize) -> Vec<f64> {
        let periodic = matches!(self, Window::Hann | Window::Hamming);
        let turns = (len + usize::from(periodic)).max(2) - 1;
        (0..len)
            .map(|n| (std::f64::consts::TAU * n as f64 / turns as f64).cos())
            .map(|cos| match self {
                Window::Hann | Window::HannSymmetric => 0.5 - 0.5 * cos,
                Window::Hamming | Window::HammingSymmetric => 0.54 - 0.46 * cos,
                Window::Povey => (0.5 - 0.5 * cos).powf(0.85),
            })
            .collect()
    }
}

impl Spectrum {
    /// Plans the transform. A hop of 0 is taken as 1, and a transform shorter than its window as long
    /// as that.
    pub fn new(mut spec: SpectrumSpec) -> Self {
        spec.hop = spec.hop.max(1);
        spec.window_len = spec.window_len.max(1);
        spec.fft_len = spec.fft_len.max(spec.window_len);
        Spectrum {
            fft: RealFftPlanner::new().plan_fft_forward(spec.fft_len),
            window: spec.window.weights(spec.window_len),
            pre_emphasis: (spec.pre_emphasis != 0.0).then_some(spec.pre_emphasis),
            spec,
        }
    }

    /// Bins of a power spectrum.
    pub fn n_bins(&self) -> usize {
        self.spec.fft_len / 2 + 1
    }

    /// How many frames a clip of `samples` has.
    pub fn frames(&self, samples: usize) -> usize {
        let spec = &self.spec;
        match spec.edges {
            Edges::Whole if samples < spec.window_len => 0,
            Edges::Whole => 1 + (samples - spec.window_len) / spec.hop,
            _ if samples == 0 => 0,
            // A transform of odd length has half a sample less on each side.
            _ => 1 + (samples - spec.fft_len % 2) / spec.hop,
        }
    }

    /// Calls `row` with the power spectrum `(n_bins)` of each of the first `max_frames` frames of
    /// `pcm` and the row `(bins)` that it makes of it; long clips on all threads of the pool.
    pub fn rows(
        &self,
        pcm: &[f32],
        max_frames: usize,
        bins: usize,
        row: impl Fn(&[f32], &mut [f32]) + Sync,
    ) -> Spectrogram {
        let frames = self.frames(pcm.len()).min(max_frames);
        let mut values = vec![0.0; frames * bins];
        let block_len = (BLOCK_FRAMES * bins).max(1);
        let block = |(index, out): (usize, &mut [f32])| {
            let mut work = self.work();
            for (frame, out) in out.chunks_exact_mut(bins.max(1)).enumerate() {
                self.power(pcm, index * BLOCK_FRAMES + frame, &mut work);
                row(&work.power, out);
            }
        };
        if frames < 2 * BLOCK_FRAMES {
            values.chunks_mut(block_len).enumerate().for_each(block);
        } else {
            values.par_chunks_mut(block_len).enumerate().for_each(block);
        }
        Spectrogram {
            frames,
            bins,
            values,
        }
    }

    fn work(&self) -> Work {
        Work {
            frame: self.fft.make_input_vec(),
            bins: self.fft.make_output_vec(),
            scratch: self.fft.make_scratch_vec(),
            power: vec![0.0; self.n_bins()],
        }
    }

    /// The power spectrum of frame `index` into `work.power`.
    fn power(&self, pcm: &[f32], index: usize, work: &mut Work) {
        let (frame, rest) = work.frame.split_at_mut(self.spec.window_len);
        if !self.fill(pcm, index, frame) {
            // Padding is often most of a clip, and the spectrum of silence needs no transform.
            work.power.fill(0.0);
            return;
        }
        if self.spec.remove_dc {
            let mean = frame.iter().sum::<f64>() / self.spec.window_len as f64;
            for sample in frame.iter_mut() {
                *sample -= mean;
            }
        }
        if let Some(part) = self.pre_emphasis {
            let mut before = frame[0];
            for sample in frame.iter_mut() {
                let now = *sample;
                *sample = now - part * before;
                before = now;
            }
        }
        for (sample, &weight) in frame.iter_mut().zip(&self.window) {
            *sample *= weight;
        }
        rest.fill(0.0);
        // The buffers have the lengths that the plan itself asked for, which is all that it checks.
        let transformed =
            self.fft
                .process_with_scratch(&mut work.frame, &mut work.bins, &mut work.scratch);
        debug_assert!(transformed.is_ok());
        for (power, bin) in work.power.iter_mut().zip(&work.bins) {
            *power = bin.norm_sqr() as f32;
        }
    }

    /// Copies the samples of frame `index` and says whether any of them is not 0.
    fn fill(&self, pcm: &[f32], index: usize, frame: &mut [f64]) -> bool {
        let spec = &self.spec;
        // A window shorter than the transform lies in its middle.
        let lead = match spec.edges {
            Edges::Whole => 0,
            _ => spec.fft_len / 2 - (spec.fft_len - spec.window_len) / 2,
        };
        let start = index * spec.hop;
        let inside = start
            .checked_sub(lead)
            .and_then(|start| pcm.get(start..start + spec.window_len));
        let mut any = false;
        let mut put = |out: &mut f64, sample: f32| {
            any |= sample != 0.0;
            *out = f64::from(sample);
        };
        match inside {
            Some(samples) => {
                for (out, &sample) in frame.iter_mut().zip(samples) {
                    put(out, sample);
                }
            }
            None => {
                for (n, out) in frame.iter_mut().enumerate() {
                    let at = (start + n) as i64 - lead as i64;
                    put(out, beyond(pcm, at, spec.edges));
                }
            }
        }
        any
    }
}

/// Sample `at` of a clip that goes on beyond its ends.
fn beyond(pcm: &[f32], at: i64, edges: Edges) -> f32 {
    let at = match edges {
        Edges::Reflected if pcm.len() > 1 => {
            let last = pcm.len() as i64 - 1;
            last - (at.rem_euclid(2 * last) - last).abs()
        }
        Edges::Reflected => 0,
        Edges::Whole | Edges::Silent => at,
    };
    usize::try_from(at)
        .ok()
        .and_then(|at| pcm.get(at))
        .copied()
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEC: SpectrumSpec = SpectrumSpec {
        window: Window::Hann,
        window_len: 40,
        hop: 16,
        fft_len: 64,
        edges: Edges::Whole,
        remove_dc: true,
        pre_emphasis: 0.97,
    };

    fn powers(spec: SpectrumSpec, pcm: &[f32]) -> Spectrogram {
        let spectrum = Spectrum::new(spec);
        spectrum.rows(pcm, usize::MAX, 33, |power, out| out.copy_from_slice(power))
    }

    proptest! {
        #[test]
        fn frames_of_a_clip_are_the_frames_of_its_parts(
            seed: u64, frames in 1usize..300, from in 0usize..300, take in 1usize..300,
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let pcm: Vec<f32> = (0..40 + 16 * (frames - 1) + rng.usize(..16))
                .map(|_| rng.f32() - 0.5)
                .collect();
            let whole = powers(SPEC, &pcm);
            prop_assert_eq!(whole.frames, frames);
            let from = from % frames;
            let take = take.min(frames - from);
            let part = powers(SPEC, &pcm[16 * from..16 * (from + take - 1) + 40]);
            prop_assert_eq!(part.values, &whole.values[33 * from..33 * (from + take)]);
        }
    }

    #[test]
    fn centred_frames_see_the_clip_beyond_its_ends() {
        let spec = |edges| SpectrumSpec {
            edges,
            remove_dc: false,
            pre_emphasis: 0.0,
            ..SPEC
        };
        let mut rng = fastrand::Rng::with_seed(3);
        let pcm: Vec<f32> = (0..97).map(|_| rng.f32() - 0.5).collect();
        // The window of 40 in the transform of 64 begins 20 before the centre.
        let mirrored: Vec<f32> = (1..=20)
            .rev()
            .map(|n| pcm[n])
            .chain(pcm.iter().copied())
            .chain((1..=20).map(|n| pcm[96 - n]))
            .collect();
        let silent: Vec<f32> = [&[0.0; 20], pcm.as_slice(), &[0.0; 20]].concat();
        for (edges, padded) in [(Edges::Reflected, mirrored), (Edges::Silent, silent)] {
            let centred = powers(spec(edges), &pcm);
            let whole = powers(spec(Edges::Whole), &padded);
            assert_eq!(centred.frames, 7);
            assert_eq!(centred, whole, "{edges:?}");
        }
    }

    #[test]
    fn clips_shorter_than_a_frame_are_no_trouble() {
        for samples in 0..5 {
            for edges in [Edges::Whole, Edges::Reflected, Edges::Silent] {
                let power = powers(SpectrumSpec { edges, ..SPEC }, &vec![0.5; samples]);
                assert!(power.values.iter().all(|value| value.is_finite()));
                assert_eq!(
                    power.frames,
                    usize::from(samples > 0 && edges != Edges::Whole)
                );
            }
        }
    }

    #[test]
    fn windows_are_those_of_their_references() {
        // numpy 2.4.6: hanning(5), hamming(5), hanning(5) ** 0.85; torch 2.15: hann_window(4), hamming_window(4).
        let check = |window: Window, expected: &[f64]| {
            for (weight, expected) in window.weights(expected.len()).iter().zip(expected) {
                assert!(
                    (weight - expected).abs() < 1e-6,
                    "{window:?} {weight} {expected}"
                );
            }
        };
        check(Window::HannSymmetric, &[0.0, 0.5, 1.0, 0.5, 0.0]);
        check(Window::HammingSymmetric, &[0.08, 0.54, 1.0, 0.54, 0.08]);
        check(Window::Povey, &[0.0, 0.554_785, 1.0, 0.554_785, 0.0]);
        check(Window::Hann, &[0.0, 0.5, 1.0, 0.5]);
        check(Window::Hamming, &[0.08, 0.54, 1.0, 0.54]);
    }
}
