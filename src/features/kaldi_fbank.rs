//! Kaldi's log mel energies as `ASTFeatureExtractor` makes them (transformers 5.23, which calls
//! `torchaudio.compliance.kaldi.fbank`): frames of 25 ms every 10 ms without the odd end, each with
//! its mean taken off, pre-emphasis and a symmetric Hann window, then padded or cut to a fixed length.
//!
//! Samples are taken in [-1, 1], not as 16 bit integers. Padding is a feature of 0 before the
//! normalisation, not silence.

use super::Spectrogram;
use super::mel::{MelBank, MelScale, MelSpec, Triangle};
use super::settings::{Settings, SettingsError};
use super::spectrum::{Edges, Spectrum, SpectrumSpec, Window};

/// Where the bands begin: the default of Kaldi's `low_freq`.
const LOW_HZ: f64 = 20.0;
/// Kaldi's default pre-emphasis.
const PRE_EMPHASIS: f64 = 0.97;
/// No energy is taken to be less: `numeric_limits<float>::epsilon()`, as in Kaldi.
const FLOOR: f32 = f32::EPSILON;

/// Settings of `ASTFeatureExtractor`.
#[derive(Debug, Clone, PartialEq)]
pub struct KaldiFbankConfig {
    /// Sample rate in hertz.
    pub sampling_rate: u32,
    /// Bands.
    pub num_mel_bins: usize,
    /// Frames of the result.
    pub max_length: usize,
    /// Whether `(x - mean) / (2 std)` is taken at the end.
    pub do_normalize: bool,
    /// Mean of the features that the model was trained on.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
}

impl Default for KaldiFbankConfig {
    /// The class defaults, which are AudioSet's.
    fn default() -> Self {
        KaldiFbankConfig {
            sampling_rate: 16_000,
            num_mel_bins: 128,
            max_length: 1024,
            do_normalize: true,
            mean: -4.267_739_3,
            std: 4.568_997_4,
        }
    }
}

impl KaldiFbankConfig {
    /// What the settings of a checkpoint say.
    ///
    /// # Errors
    /// When they belong to another front end or a key has a value that it cannot have.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingsError> {
        settings.expect_class("ASTFeatureExtractor")?;
        let class = KaldiFbankConfig::default();
        Ok(KaldiFbankConfig {
            sampling_rate: settings.rate_hz("sampling_rate", class.sampling_rate)?,
            num_mel_bins: settings.count("num_mel_bins", class.num_mel_bins, 1..=1024)?,
            max_length: settings.count("max_length", class.max_length, 1..=100_000)?,
            do_normalize: settings.flag("do_normalize", class.do_normalize)?,
            mean: settings.number("mean", class.mean)?,
            std: settings.positive("std", class.std)?,
        })
    }
}

/// The front end, with its plan and filters.
pub struct KaldiFbank {
    config: KaldiFbankConfig,
    spectrum: Spectrum,
    bank: MelBank,
    hop: usize,
}

impl KaldiFbank {
    /// Plans the transform and makes the filters.
    pub fn new(config: KaldiFbankConfig) -> Self {
        let rate_hz = config.sampling_rate as usize;
        let (window_len, hop) = (rate_hz * 25 / 1000, rate_hz / 100);
        let spectrum = Spectrum::new(SpectrumSpec {
            window: Window::HannSymmetric,
            window_len,
            hop,
            fft_len: window_len.next_power_of_two(),
            edges: Edges::Whole,
            remove_dc: true,
            pre_emphasis: PRE_EMPHASIS,
        });
        let bank = MelBank::new(&MelSpec {
            n_mels: config.num_mel_bins,
            n_bins: spectrum.n_bins(),
            rate_hz: rate_hz as f64,
            low_hz: LOW_HZ,
            high_hz: rate_hz as f64 / 2.0,
            scale: MelScale::Htk,
            triangle: Triangle::Mel,
            area_norm: false,
        });
        KaldiFbank {
            config,
            spectrum,
            bank,
            hop,
        }
    }

    /// The rate of the samples that it takes.
    pub fn rate_hz(&self) -> u32 {
        self.config.sampling_rate
    }

    /// Samples of the longest clip of which nothing is cut, rounded down to whole hops: 10.24 s of
    /// the AudioSet models.
    pub fn window_samples(&self) -> usize {
        self.config.max_length * self.hop
    }

    /// The features `(max_length, num_mel_bins)` of a clip of any length.
    pub fn compute(&self, pcm: &[f32]) -> Spectrogram {
        let (mels, length) = (self.config.num_mel_bins, self.config.max_length);
        let (shift, scale) = match self.config.do_normalize {
            true => (self.config.mean as f32, (2.0 * self.config.std) as f32),
            false => (0.0, 1.0),
        };
        let mut features = self.spectrum.rows(pcm, length, mels, |power, out| {
            self.bank.apply(power, out);
            for value in out {
                *value = (value.max(FLOOR).ln() - shift) / scale;
            }
        });
        features.values.resize(length * mels, (0.0 - shift) / scale);
        features.frames = length;
        features
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn noise(samples: usize, seed: u64) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..samples).map(|_| rng.f32() - 0.5).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn frames_of_a_clip_are_the_frames_of_its_parts(seed: u64, from in 0usize..200) {
            let fbank = KaldiFbank::new(KaldiFbankConfig { max_length: 256, ..Default::default() });
            let pcm = noise(400 + 160 * 255, seed);
            let whole = fbank.compute(&pcm);
            let part = fbank.compute(&pcm[160 * from..]);
            let rows = (256 - from) * 128;
            prop_assert_eq!(&part.values[..rows], &whole.values[128 * from..]);
        }
    }

    #[test]
    fn what_is_missing_is_a_feature_of_zero_and_what_is_too_long_is_cut() {
        let config = KaldiFbankConfig {
            max_length: 5,
            ..Default::default()
        };
        let padding = ((0.0 - config.mean) / (2.0 * config.std)) as f32;
        let fbank = KaldiFbank::new(config);
        let pcm = noise(2_000, 1);
        let short = fbank.compute(&pcm[..720]);
        assert_eq!(
            (short.frames, short.bins, short.values.len()),
            (5, 128, 640)
        );
        assert!(
            short.values[3 * 128..]
                .iter()
                .all(|&v| (v - padding).abs() < 1e-6)
        );
        let long = fbank.compute(&pcm);
        assert_eq!(long.frames, 5);
        assert_eq!(long.values[..3 * 128], short.values[..3 * 128]);
        assert!(
            fbank
                .compute(&[])
                .values
                .iter()
                .all(|&v| v == short.values[639])
        );
        assert_eq!(fbank.window_samples(), 800);
    }

    #[test]
    fn settings_are_those_of_the_file_over_the_class() {
        let text = r#"{"feature_extractor_type": "ASTFeatureExtractor", "max_length": 128,
            "mean": -6.845978, "std": 5.5654526, "return_attention_mask": false}"#;
        let settings = Settings::parse(Path::new("p.json"), text).unwrap();
        let config = KaldiFbankConfig::from_settings(&settings).unwrap();
        assert_eq!(config.max_length, 128);
        assert_eq!(config.mean, -6.845978);
        assert_eq!(config.num_mel_bins, 128);
    }
}
