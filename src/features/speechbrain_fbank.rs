//! The log mel energies of speechbrain's ECAPA-TDNN (speechbrain 1.1, `lobes.features.Fbank` and
//! `InputNormalization(norm_type="sentence", std_norm=False)`): periodic Hamming window of 25 ms every
//! 10 ms, silence beyond the ends, triangles as wide above as below their centre, decibels of power
//! within 80 dB of the loudest of the clip, and the mean of each band over the clip taken off.

use super::Spectrogram;
use super::mel::MelBank;
use super::spectrum::{Edges, Spectrum, SpectrumSpec, Window};

/// No energy is taken to be less: `amin`.
const FLOOR: f32 = 1e-10;
/// How far below the loudest value the quietest is, in decibels: `top_db`.
const RANGE_DB: f32 = 80.0;

/// Arguments of `Fbank`.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechbrainFbankConfig {
    /// Sample rate in hertz.
    pub sample_rate: u32,
    /// Bands, from 0 Hz to half the rate.
    pub n_mels: usize,
    /// Points of the transform.
    pub n_fft: usize,
    /// Length of the window in milliseconds.
    pub win_length: usize,
    /// From a frame to the next, in milliseconds.
    pub hop_length: usize,
}

impl Default for SpeechbrainFbankConfig {
    /// The defaults of `Fbank` with the 80 bands of speechbrain/spkrec-ecapa-voxceleb.
    fn default() -> Self {
        SpeechbrainFbankConfig {
            sample_rate: 16_000,
            n_mels: 80,
            n_fft: 400,
            win_length: 25,
            hop_length: 10,
        }
    }
}

/// The front end, with its plan and filters.
pub struct SpeechbrainFbank {
    config: SpeechbrainFbankConfig,
    spectrum: Spectrum,
    bank: MelBank,
}

impl SpeechbrainFbank {
    /// Plans the transform and makes the filters.
    pub fn new(config: SpeechbrainFbankConfig) -> Self {
        let samples = |ms: usize| (config.sample_rate as usize * ms + 500) / 1000;
        let spectrum = Spectrum::new(SpectrumSpec {
            window: Window::Hamming,
            window_len: samples(config.win_length),
            hop: samples(config.hop_length),
            fft_len: config.n_fft,
            edges: Edges::Silent,
            remove_dc: false,
            pre_emphasis: 0.0,
        });
        let bank = bank(&config, spectrum.n_bins());
        SpeechbrainFbank {
            config,
            spectrum,
            bank,
        }
    }

    /// The rate of the samples that it takes.
    pub fn rate_hz(&self) -> u32 {
        self.config.sample_rate
    }

    /// Samples of the clips that ECAPA-TDNN was trained on: 3 s. Others will do as well.
    pub fn window_samples(&self) -> usize {
        3 * self.config.sample_rate as usize
    }

    /// The features `(frames, n_mels)` of a clip, a frame each 10 ms, with the mean of each band over
    /// the clip taken off.
    pub fn compute(&self, pcm: &[f32]) -> Spectrogram {
        let mut features = self.decibels(pcm);
        let bins = features.bins.max(1);
        let mut mean = vec![0.0f64; bins];
        for row in features.values.chunks_exact(bins) {
            for (mean, &value) in mean.iter_mut().zip(row) {
                *mean += f64::from(value);
            }
        }
        for row in features.values.chunks_exact_mut(bins) {
            for (value, sum) in row.iter_mut().zip(&mean) {
                *value -= (sum / features.frames as f64) as f32;
            }
        }
        features
    }

    /// The features before the mean is taken off: what `Fbank` gives.
    pub fn decibels(&self, pcm: &[f32]) -> Spectrogram {
        let mels = self.config.n_mels;
        let mut features = self.spectrum.rows(pcm, usize::MAX, mels, |power, out| {
            self.bank.apply(power, out);
            for value in out {
                *value = 10.0 * value.max(FLOOR).log10();
            }
        });
        let loudest = features.values.iter().copied().fold(f32::MIN, f32::max);
        for value in &mut features.values {
            *value = value.max(loudest - RANGE_DB);
        }
        features
    }
}

/// Triangles between equal steps on the HTK scale, straight in hertz, both sides of which are as wide
/// as the lower one.
///
/// Their edges are rounded where speechbrain rounds them: it computes them in f32, and at low
/// frequencies, where `10^x - 1` cancels, that moves a weight by 1e-5 and a feature by 2e-4 dB.
fn bank(config: &SpeechbrainFbankConfig, n_bins: usize) -> MelBank {
    let high_hz = f64::from(config.sample_rate / 2);
    let high = (2595.0 * (1.0 + high_hz / 700.0).log10()) as f32;
    let steps = config.n_mels + 1;
    let step = high / steps as f32;
    // torch.linspace counts from the nearer end.
    let mel = |edge: usize| match edge <= steps / 2 {
        true => step * edge as f32,
        false => high - step * (steps - edge) as f32,
    };
    let hz = |edge: usize| {
        let power = 10f64.powf(f64::from(mel(edge) / 2595.0)) as f32;
        f64::from(700.0 * (power - 1.0))
    };
    let band = |band: usize| {
        let (left, centre) = (hz(band), hz(band + 1));
        ([left, centre, 2.0 * centre - left], 1.0)
    };
    let bins: Vec<f64> = (0..n_bins)
        .map(|bin| bin as f64 * high_hz / (n_bins.max(2) - 1) as f64)
        .collect();
    MelBank::triangles(&bins, (0..config.n_mels).map(band))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_band_has_mean_zero_and_a_range_of_eighty_decibels() {
        let fbank = SpeechbrainFbank::new(SpeechbrainFbankConfig::default());
        let mut rng = fastrand::Rng::with_seed(8);
        let mut pcm: Vec<f32> = (0..16_000).map(|_| rng.f32() - 0.5).collect();
        pcm[8_000..].fill(0.0);
        let decibels = fbank.decibels(&pcm);
        assert_eq!((decibels.frames, decibels.bins), (101, 80));
        let loudest = decibels.values.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(decibels.values[8_079], loudest - 80.0);
        let features = fbank.compute(&pcm);
        for band in 0..80 {
            let sum: f32 = features.values.iter().skip(band).step_by(80).sum();
            assert!(sum.abs() < 0.01, "{band} {sum}");
        }
    }

    #[test]
    fn clips_of_next_to_nothing_give_next_to_nothing() {
        let fbank = SpeechbrainFbank::new(SpeechbrainFbankConfig::default());
        assert!(fbank.compute(&[]).values.is_empty());
        assert!(fbank.compute(&[0.2]).values.iter().all(|v| v.is_finite()));
    }
}
