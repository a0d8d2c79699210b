//! The normalised waveform that wav2vec 2.0, HuBERT and WavLM hear, as `Wav2Vec2FeatureExtractor` makes
//! it (transformers 5.23): mean 0 and variance 1 over the clip, or the clip as it is.

use super::settings::{Settings, SettingsError};

/// Added to the variance.
const EPSILON: f64 = 1e-7;

/// Settings of `Wav2Vec2FeatureExtractor`.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveNormConfig {
    /// Sample rate in hertz.
    pub sampling_rate: u32,
    /// Whether clips are normalised.
    pub do_normalize: bool,
    /// The sample that a short clip is padded with.
    pub padding_value: f64,
    /// Whether the model is told what is padding; if not, padding counts as part of the clip.
    pub return_attention_mask: bool,
}

impl Default for WaveNormConfig {
    /// The class defaults.
    fn default() -> Self {
        WaveNormConfig {
            sampling_rate: 16_000,
            do_normalize: true,
            padding_value: 0.0,
            return_attention_mask: false,
        }
    }
}

impl WaveNormConfig {
    /// What the settings of a checkpoint say.
    ///
    /// # Errors
    /// When they belong to another front end or a key has a value that it cannot have.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingsError> {
        settings.expect_class("Wav2Vec2FeatureExtractor")?;
        settings.choice("padding_side", &[("right", ())])?;
        settings.count("feature_size", 1, 1..=1)?;
        let class = WaveNormConfig::default();
        Ok(WaveNormConfig {
            sampling_rate: settings.rate_hz("sampling_rate", class.sampling_rate)?,
            do_normalize: settings.flag("do_normalize", class.do_normalize)?,
            padding_value: settings.number("padding_value", class.padding_value)?,
            return_attention_mask: settings
                .flag("return_attention_mask", class.return_attention_mask)?,
        })
    }
}

/// The front end.
#[derive(Debug, Clone)]
pub struct WaveNorm {
    config: WaveNormConfig,
}

impl WaveNorm {
    /// A front end with these settings.
    pub fn new(config: WaveNormConfig) -> Self {
        WaveNorm { config }
    }

    /// The rate of the samples that it takes; any length of clip will do.
    pub fn rate_hz(&self) -> u32 {
        self.config.sampling_rate
    }

    /// Whether the model is to be told which samples are padding.
    pub fn return_attention_mask(&self) -> bool {
        self.config.return_attention_mask
    }

    /// The waveform `(samples)` of a clip.
    pub fn compute(&self, pcm: &[f32]) -> Vec<f32> {
        let mut wave = pcm.to_vec();
        if self.config.do_normalize {
            normalize(&mut wave);
        }
        wave
    }

    /// The waveform of a clip that is padded at its end to `samples`, as in a batch. With
    /// `return_attention_mask` the clip alone is normalised, otherwise the padding with it.
    pub fn compute_padded(&self, pcm: &[f32], samples: usize) -> Vec<f32> {
        let padding = self.config.padding_value as f32;
        let samples = samples.max(pcm.len());
        if self.config.return_attention_mask {
            let mut wave = self.compute(pcm);
            wave.resize(samples, padding);
            return wave;
        }
        let mut wave = pcm.to_vec();
        wave.resize(samples, padding);
        if self.config.do_normalize {
            normalize(&mut wave);
        }
        wave
    }
}

fn normalize(wave: &mut [f32]) {
    let count = wave.len().max(1) as f64;
    let mean = wave.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = wave
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / count;
    let scale = 1.0 / (variance + EPSILON).sqrt();
    for x in wave {
        *x = ((f64::from(*x) - mean) * scale) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(do_normalize: bool, return_attention_mask: bool) -> WaveNorm {
        WaveNorm::new(WaveNormConfig {
            do_normalize,
            return_attention_mask,
            ..Default::default()
        })
    }

    #[test]
    fn a_normalised_clip_has_mean_zero_and_variance_one() {
        let mut rng = fastrand::Rng::with_seed(2);
        let pcm: Vec<f32> = (0..9_000).map(|_| rng.f32() * 0.1 + 0.3).collect();
        let wave = front(true, false).compute(&pcm);
        let mean = wave.iter().sum::<f32>() / 9_000.0;
        let variance = wave.iter().map(|x| x * x).sum::<f32>() / 9_000.0;
        assert!(
            mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-3,
            "{mean} {variance}"
        );
        assert_eq!(front(false, true).compute(&pcm), pcm);
        assert_eq!(front(true, true).compute(&[0.0; 3]), [0.0; 3]);
        assert!(front(true, true).compute(&[]).is_empty());
    }

    #[test]
    fn padding_counts_only_where_the_model_does_not_know_of_it() {
        let pcm = [0.5, -0.5, 0.25, 0.75];
        let masked = front(true, true).compute_padded(&pcm, 6);
        assert_eq!(masked[..4], front(true, true).compute(&pcm));
        assert_eq!(masked[4..], [0.0, 0.0]);
        let counted = front(true, false).compute_padded(&pcm, 6);
        assert_eq!(
            counted,
            front(true, false).compute(&[0.5, -0.5, 0.25, 0.75, 0.0, 0.0])
        );
    }
}
