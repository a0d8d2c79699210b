//! The log mel spectrogram of Whisper as `WhisperFeatureExtractor` makes it (transformers 5.23): the
//! clip padded or cut to 30 s, Slaney's bank to 8 kHz, base-10 logarithm, nothing more than 80 dB
//! below the loudest value, then `(x + 4) / 4`.
//!
//! `dither`, which is 0 in every published file, is left out: it would make results random.

use super::Spectrogram;
use super::mel::{MelBank, MelScale, MelSpec, Triangle};
use super::settings::{Settings, SettingsError};
use super::spectrum::{Edges, Spectrum, SpectrumSpec, Window};

/// Where the bands end in every Whisper, in hertz.
const HIGH_HZ: f64 = 8_000.0;
/// No energy is taken to be less.
const FLOOR: f32 = 1e-10;
/// How far below the loudest value, as a power of ten, the quietest is.
const RANGE: f32 = 8.0;

/// Settings of `WhisperFeatureExtractor`.
#[derive(Debug, Clone, PartialEq)]
pub struct WhisperMelConfig {
    /// Bands: 80, or 128 from large-v3 on.
    pub feature_size: usize,
    /// Sample rate in hertz.
    pub sampling_rate: u32,
    /// Samples from a frame to the next.
    pub hop_length: usize,
    /// Seconds of the clip that is looked at.
    pub chunk_length: usize,
    /// Samples of a frame, and points of the transform.
    pub n_fft: usize,
    /// The sample that a short clip is padded with.
    pub padding_value: f64,
}

impl Default for WhisperMelConfig {
    /// The class defaults.
    fn default() -> Self {
        WhisperMelConfig {
            feature_size: 80,
            sampling_rate: 16_000,
            hop_length: 160,
            chunk_length: 30,
            n_fft: 400,
            padding_value: 0.0,
        }
    }
}

impl WhisperMelConfig {
    /// What the settings of a checkpoint say.
    ///
    /// # Errors
    /// When they belong to another front end or a key has a value that it cannot have.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingsError> {
        settings.expect_class("WhisperFeatureExtractor")?;
        settings.choice("padding_side", &[("right", ())])?;
        let class = WhisperMelConfig::default();
        Ok(WhisperMelConfig {
            feature_size: settings.count("feature_size", class.feature_size, 1..=1024)?,
            sampling_rate: settings.rate_hz("sampling_rate", class.sampling_rate)?,
            hop_length: settings.count("hop_length", class.hop_length, 1..=65_536)?,
            chunk_length: settings.count("chunk_length", class.chunk_length, 1..=600)?,
            n_fft: settings.even("n_fft", class.n_fft)?,
            padding_value: settings.number("padding_value", class.padding_value)?,
        })
    }
}

/// The front end, with its plan and filters.
pub struct WhisperMel {
    config: WhisperMelConfig,
    spectrum: Spectrum,
    bank: MelBank,
}

impl WhisperMel {
    /// Plans the transform and makes the filters.
    pub fn new(config: WhisperMelConfig) -> Self {
        let spectrum = Spectrum::new(SpectrumSpec {
            window: Window::Hann,
            window_len: config.n_fft,
            hop: config.hop_length,
            fft_len: config.n_fft,
            edges: Edges::Reflected,
            remove_dc: false,
            pre_emphasis: 0.0,
        });
        let bank = MelBank::new(&MelSpec {
            n_mels: config.feature_size,
            n_bins: spectrum.n_bins(),
            rate_hz: f64::from(config.sampling_rate),
            low_hz: 0.0,
            high_hz: HIGH_HZ,
            scale: MelScale::Slaney,
            triangle: Triangle::Hertz,
            area_norm: true,
        });
        WhisperMel {
            config,
            spectrum,
            bank,
        }
    }

    /// The rate of the samples that it takes.
    pub fn rate_hz(&self) -> u32 {
        self.config.sampling_rate
    }

    /// Samples of the clip that is looked at.
    pub fn window_samples(&self) -> usize {
        self.config.chunk_length * self.config.sampling_rate as usize
    }

    /// The features `(frames, feature_size)` of a clip of any length: 3000 frames for 30 s. The
    /// reference has them the other way round.
    pub fn compute(&self, pcm: &[f32]) -> Spectrogram {
        let samples = self.window_samples();
        let mut clip = pcm[..pcm.len().min(samples)].to_vec();
        clip.resize(samples, self.config.padding_value as f32);
        // The frame that is centred at the very end is dropped.
        let frames = self.spectrum.frames(samples).saturating_sub(1);
        let mels = self.config.feature_size;
        let mut features = self.spectrum.rows(&clip, frames, mels, |power, out| {
            self.bank.apply(power, out);
            for value in out {
                *value = value.max(FLOOR).log10();
            }
        });
        let loudest = features
            .values
            .iter()
            .copied()
            .fold(FLOOR.log10(), f32::max);
        for value in &mut features.values {
            *value = (value.max(loudest - RANGE) + 4.0) / 4.0;
        }
        features
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn clips_are_padded_and_cut_to_the_window() {
        let mel = WhisperMel::new(WhisperMelConfig {
            chunk_length: 1,
            ..Default::default()
        });
        let mut rng = fastrand::Rng::with_seed(5);
        let pcm: Vec<f32> = (0..20_000).map(|_| rng.f32() - 0.5).collect();
        let long = mel.compute(&pcm);
        assert_eq!((long.frames, long.bins), (100, 80));
        assert_eq!(long, mel.compute(&pcm[..16_000]));
        let short = mel.compute(&pcm[..8_000]);
        assert_eq!(short.values.len(), 8_000);
        // Frames that see nothing beyond the shorter clip are the same, unless the range cuts them.
        assert_eq!(short.values[..49 * 80], long.values[..49 * 80]);
        let quietest = short.values[52 * 80..].iter().copied();
        assert!(quietest.clone().all(|value| value == short.values[7_999]));
        let loudest = short.values.iter().copied().fold(f32::MIN, f32::max);
        assert!((loudest - short.values[7_999] - 2.0).abs() < 1e-5);
        assert_eq!(mel.compute(&[]).values, vec![-1.5; 8_000]);
    }

    #[test]
    fn an_odd_transform_is_refused() {
        let settings = Settings::parse(Path::new("p.json"), r#"{"n_fft": 401}"#).unwrap();
        let error = WhisperMelConfig::from_settings(&settings).unwrap_err();
        assert_eq!(
            error.to_string(),
            "p.json: n_fft: expected an even number from 2 to 65536, got 401"
        );
    }
}
