//! The log mel spectrogram of EfficientAT (Schmid et al. 2023; `fschmid56/EfficientAT`
//! `models/preprocess.py` `AugmentMelSTFT` at commit bcaaae8, without its augmentation): pre-emphasis
//! over the whole clip, a window of 25 ms in a transform of 32 ms, Kaldi's mel bank, natural
//! logarithm, then `(x + 4.5) / 5`.

use super::Spectrogram;
use super::mel::{MelBank, MelScale, MelSpec, Triangle};
use super::spectrum::{Edges, Spectrum, SpectrumSpec, Window};

/// What part of the sample before is taken off each sample.
const PRE_EMPHASIS: f32 = 0.97;
/// Added to the energy of every band.
const FLOOR: f32 = 1e-5;

/// Arguments of `AugmentMelSTFT`, of which releases have only the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct EfficientAtMelConfig {
    /// Bands.
    pub n_mels: usize,
    /// Sample rate in hertz.
    pub sr: u32,
    /// Samples of the window.
    pub win_length: usize,
    /// Samples from a frame to the next.
    pub hopsize: usize,
    /// Points of the transform.
    pub n_fft: usize,
    /// Where the bands begin, in hertz.
    pub fmin: f64,
    /// Where the bands end, in hertz; without it `sr / 2 - fmax_aug_range / 2`, 1000 Hz below the top.
    pub fmax: Option<f64>,
}

impl Default for EfficientAtMelConfig {
    fn default() -> Self {
        EfficientAtMelConfig {
            n_mels: 128,
            sr: 32_000,
            win_length: 800,
            hopsize: 320,
            n_fft: 1024,
            fmin: 0.0,
            fmax: None,
        }
    }
}

/// The front end, with its plan and filters.
pub struct EfficientAtMel {
    config: EfficientAtMelConfig,
    spectrum: Spectrum,
    bank: MelBank,
}

impl EfficientAtMel {
    /// Plans the transform and makes the filters.
    pub fn new(config: EfficientAtMelConfig) -> Self {
        let spectrum = Spectrum::new(SpectrumSpec {
            window: Window::HannSymmetric,
            window_len: config.win_length,
            hop: config.hopsize,
            fft_len: config.n_fft,
            edges: Edges::Reflected,
            remove_dc: false,
            pre_emphasis: 0.0,
        });
        let rate_hz = f64::from(config.sr);
        let bank = MelBank::new(&MelSpec {
            n_mels: config.n_mels,
            n_bins: spectrum.n_bins(),
            rate_hz,
            low_hz: config.fmin,
            high_hz: config.fmax.unwrap_or(rate_hz / 2.0 - 1_000.0),
            scale: MelScale::Htk,
            triangle: Triangle::Mel,
            area_norm: false,
        });
        EfficientAtMel {
            config,
            spectrum,
            bank,
        }
    }

    /// The rate of the samples that it takes.
    pub fn rate_hz(&self) -> u32 {
        self.config.sr
    }

    /// Samples of the clips that the models were trained on: 10 s. Others will do as well.
    pub fn window_samples(&self) -> usize {
        10 * self.config.sr as usize
    }

    /// The features `(frames, n_mels)` of a clip, a frame each 10 ms: 1000 for 10 s. The reference
    /// has them the other way round.
    pub fn compute(&self, pcm: &[f32]) -> Spectrogram {
        let wave: Vec<f32> = pcm
            .windows(2)
            .map(|pair| pair[1] - PRE_EMPHASIS * pair[0])
            .collect();
        self.spectrum
            .rows(&wave, usize::MAX, self.config.n_mels, |power, out| {
                self.bank.apply(power, out);
                for value in out {
                    *value = ((*value + FLOOR).ln() + 4.5) / 5.0;
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn frames_away_from_the_ends_are_the_frames_of_the_parts(seed: u64, from in 0usize..80) {
            let mel = EfficientAtMel::new(EfficientAtMelConfig::default());
            let mut rng = fastrand::Rng::with_seed(seed);
            let pcm: Vec<f32> = (0..32_001).map(|_| rng.f32() - 0.5).collect();
            let whole = mel.compute(&pcm);
            prop_assert_eq!(whole.frames, 101);
            let part = mel.compute(&pcm[320 * from..]);
            // A frame reaches 400 samples to both sides, which is less than two hops.
            prop_assert_eq!(&part.values[128 * 2..], &whole.values[128 * (from + 2)..]);
        }
    }

    #[test]
    fn ten_seconds_are_a_thousand_frames_and_silence_is_the_floor() {
        let mel = EfficientAtMel::new(EfficientAtMelConfig::default());
        let silence = mel.compute(&vec![0.0; mel.window_samples()]);
        assert_eq!((silence.frames, silence.bins), (1000, 128));
        let floor = (1e-5f32.ln() + 4.5) / 5.0;
        assert!(silence.values.iter().all(|&v| (v - floor).abs() < 1e-6));
        for samples in 0..3 {
            assert!(mel.compute(&vec![0.1; samples]).frames <= 1);
        }
    }
}
