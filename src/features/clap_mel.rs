//! The mel spectrograms of CLAP as `ClapFeatureExtractor` makes them (transformers 5.23): 10 s in
//! decibels, short clips repeated or padded, long ones cut (`rand_trunc`) or seen four times: shrunk
//! whole and in three chunks (`fusion`).
//!
//! The reference draws at random where a long clip is cut. Here the same clip gives the same features:
//! `rand_trunc` cuts out the middle, `fusion` takes from the front, middle and back third of all
//! places where a chunk may start the one in its middle. [`ClapMel::compute_at`] takes other places.

use super::Spectrogram;
use super::mel::{MelBank, MelScale, MelSpec, Triangle};
use super::settings::{Settings, SettingsError};
use super::spectrum::{Edges, Spectrum, SpectrumSpec, Window};

/// No energy is taken to be less.
const FLOOR: f32 = 1e-10;

/// What becomes of a clip that is too long, and with it the mel scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClapTruncation {
    /// Four views of the clip, HTK scale: the models with fusion.
    Fusion,
    /// A cut, Slaney's scale: the models without.
    RandTrunc,
}

/// What becomes of a clip that is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClapPadding {
    /// Repeated while it fits whole, then silence.
    RepeatPad,
    /// Repeated and cut.
    Repeat,
    /// Silence.
    Pad,
}

/// Settings of `ClapFeatureExtractor`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClapMelConfig {
    /// Bands.
    pub feature_size: usize,
    /// Sample rate in hertz.
    pub sampling_rate: u32,
    /// Samples from a frame to the next.
    pub hop_length: usize,
    /// Seconds of the clip that the model hears.
    pub max_length_s: usize,
    /// Samples of a frame, and points of the transform.
    pub fft_window_size: usize,
    /// Where the bands begin, in hertz.
    pub frequency_min: f64,
    /// Where the bands end, in hertz.
    pub frequency_max: f64,
    /// What becomes of a clip that is too long.
    pub truncation: ClapTruncation,
    /// What becomes of a clip that is too short.
    pub padding: ClapPadding,
}

impl Default for ClapMelConfig {
    /// The class defaults.
    fn default() -> Self {
        ClapMelConfig {
            feature_size: 64,
            sampling_rate: 48_000,
            hop_length: 480,
            max_length_s: 10,
            fft_window_size: 1024,
            frequency_min: 0.0,
            frequency_max: 14_000.0,
            truncation: ClapTruncation::Fusion,
            padding: ClapPadding::RepeatPad,
        }
    }
}

impl ClapMelConfig {
    /// What the settings of a checkpoint say.
    ///
    /// # Errors
    /// When they belong to another front end or a key has a value that it cannot have.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingsError> {
        settings.expect_class("ClapFeatureExtractor")?;
        let class = ClapMelConfig::default();
        Ok(ClapMelConfig {
            feature_size: settings.count("feature_size", class.feature_size, 1..=1024)?,
            sampling_rate: settings.rate_hz("sampling_rate", class.sampling_rate)?,
            hop_length: settings.count("hop_length", class.hop_length, 1..=65_536)?,
            max_length_s: settings.count("max_length_s", class.max_length_s, 1..=600)?,
            fft_window_size: settings.even("fft_window_size", class.fft_window_size)?,
            frequency_min: settings.number("frequency_min", class.frequency_min)?,
            frequency_max: settings.number("frequency_max", class.frequency_max)?,
            truncation: settings.choice(
                "truncation",
                &[
                    ("fusion", ClapTruncation::Fusion),
                    ("rand_trunc", ClapTruncation::RandTrunc),
                ],
            )?,
            padding: settings.choice(
                "padding",
                &[
                    ("repeatpad", ClapPadding::RepeatPad),
                    ("repeat", ClapPadding::Repeat),
                    ("pad", ClapPadding::Pad),
                ],
            )?,
        })
    }
}

/// What the audio tower takes.
#[derive(Debug, Clone, PartialEq)]
pub struct ClapInput {
    /// Views of the clip: 4 with fusion, 1 without.
    pub channels: usize,
    /// Frames of a view: 1001 for 10 s.
    pub frames: usize,
    /// Bands.
    pub bins: usize,
    /// Decibels, row-major `(channels, frames, bins)`.
    pub values: Vec<f32>,
    /// Whether the tower is to fuse the views. With fusion always: the reference says so of one clip of
    /// every batch, be it long or not, and a batch here is one clip.
    pub is_longer: bool,
}

/// Where a clip that is too long is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClapStarts {
    /// As the rule of this front end has it.
    Middle,
    /// `rand_trunc`: the first sample.
    Sample(usize),
    /// `fusion`: the first frames of the front, middle and back chunk.
    Frames([usize; 3]),
}

/// The front end, with its plan and filters.
pub struct ClapMel {
    config: ClapMelConfig,
    spectrum: Spectrum,
    bank: MelBank,
}

impl ClapMel {
    /// Plans the transform and makes the filters.
    pub fn new(config: ClapMelConfig) -> Self {
        let spectrum = Spectrum::new(SpectrumSpec {
            window: Window::Hann,
            window_len: config.fft_window_size,
            hop: config.hop_length,
            fft_len: config.fft_window_size,
            edges: Edges::Reflected,
            remove_dc: false,
            pre_emphasis: 0.0,
        });
        let (scale, area_norm) = match config.truncation {
            ClapTruncation::Fusion => (MelScale::Htk, false),
            ClapTruncation::RandTrunc => (MelScale::Slaney, true),
        };
        let bank = MelBank::new(&MelSpec {
            n_mels: config.feature_size,
            n_bins: spectrum.n_bins(),
            rate_hz: f64::from(config.sampling_rate),
            low_hz: config.frequency_min,
            high_hz: config.frequency_max,
            scale,
            triangle: Triangle::Hertz,
            area_norm,
        });
        ClapMel {
            config,
            spectrum,
            bank,
        }
    }

    /// The rate of the samples that it takes.
    pub fn rate_hz(&self) -> u32 {
        self.config.sampling_rate
    }

    /// Samples of the longest clip that the model hears whole.
    pub fn window_samples(&self) -> usize {
        self.config.max_length_s * self.config.sampling_rate as usize
    }

    /// The features of a clip of any length; a long one is cut by the rule of this front end.
    pub fn compute(&self, pcm: &[f32]) -> ClapInput {
        self.compute_at(pcm, ClapStarts::Middle)
    }

    /// The features of a clip of any length; a long one is cut at `starts`, as far as they are for this
    /// truncation and within the clip.
    pub fn compute_at(&self, pcm: &[f32], starts: ClapStarts) -> ClapInput {
        let samples = self.window_samples();
        let overflow = pcm.len().saturating_sub(samples);
        match self.config.truncation {
            ClapTruncation::RandTrunc => {
                let start = match starts {
                    ClapStarts::Sample(start) => start.min(overflow),
                    _ => overflow / 2,
                };
                let mel = match overflow {
                    0 => self.decibels(&self.padded(pcm)),
                    _ => self.decibels(&pcm[start..start + samples]),
                };
                input(&[&mel], overflow > 0)
            }
            ClapTruncation::Fusion if overflow == 0 => {
                let mel = self.decibels(&self.padded(pcm));
                input(&[&mel; 4], true)
            }
            ClapTruncation::Fusion => self.fused(&self.decibels(pcm), starts),
        }
    }

    fn fused(&self, mel: &Spectrogram, starts: ClapStarts) -> ClapInput {
        let chunk = self.window_samples() / self.config.hop_length + 1;
        let Some(places) = mel.frames.checked_sub(chunk).filter(|&more| more > 0) else {
            return input(&[mel; 4], true);
        };
        let starts = match starts {
            ClapStarts::Frames(starts) => starts,
            _ => middle_of_thirds(places + 1),
        };
        let [front, middle, back] = starts.map(|start| {
            let at = start.min(places) * mel.bins;
            Spectrogram {
                frames: chunk,
                bins: mel.bins,
                values: mel.values[at..at + chunk * mel.bins].to_vec(),
            }
        });
        input(&[&shrunk(mel, chunk), &front, &middle, &back], true)
    }

    fn decibels(&self, pcm: &[f32]) -> Spectrogram {
        let mels = self.config.feature_size;
        self.spectrum.rows(pcm, usize::MAX, mels, |power, out| {
            self.bank.apply(power, out);
            for value in out {
                *value = 10.0 * value.max(FLOOR).log10();
            }
        })
    }

    /// A clip that is not too long, filled up to the window.
    fn padded(&self, pcm: &[f32]) -> Vec<f32> {
        let samples = self.window_samples();
        let filled = match self.config.padding {
            ClapPadding::RepeatPad => samples / pcm.len().max(1) * pcm.len(),
            ClapPadding::Repeat => samples,
            ClapPadding::Pad => pcm.len(),
        };
        let mut clip: Vec<f32> = pcm.iter().copied().cycle().take(filled).collect();
        clip.resize(samples, 0.0);
        clip
    }
}

fn input(views: &[&Spectrogram], is_longer: bool) -> ClapInput {
    ClapInput {
        channels: views.len(),
        frames: views[0].frames,
        bins: views[0].bins,
        values: views
            .iter()
            .flat_map(|view| &view.values)
            .copied()
            .collect(),
        is_longer,
    }
}

/// The middles of the front, middle and back third of `places`, which are split as
/// `numpy.array_split` does: the first ones are longer by one where it does not divide. A third
/// without a place starts at the front.
fn middle_of_thirds(places: usize) -> [usize; 3] {
    let mut begin = 0;
    [0, 1, 2].map(|third| {
        let len = places / 3 + usize::from(third < places % 3);
        let middle = if len == 0 { 0 } else { begin + (len - 1) / 2 };
        begin += len;
        middle
    })
}

/// `mel` with `frames` frames, each between the two that it falls on, as
/// `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` has it.
///
/// The place is computed in f32 as in torch: among thousands of frames its roundoff shows.
fn shrunk(mel: &Spectrogram, frames: usize) -> Spectrogram {
    let scale = mel.frames as f32 / frames as f32;
    let row = |frame: usize| &mel.values[frame * mel.bins..(frame + 1) * mel.bins];
    let mut values = Vec::with_capacity(frames * mel.bins);
    for frame in 0..frames {
        let place = (scale * (frame as f32 + 0.5) - 0.5).max(0.0);
        let first = (place as usize).min(mel.frames - 1);
        let second = (first + 1).min(mel.frames - 1);
        let part = (place - first as f32).clamp(0.0, 1.0);
        values.extend(
            row(first)
                .iter()
                .zip(row(second))
                .map(|(a, b)| (1.0 - part) * a + part * b),
        );
    }
    Spectrogram {
        frames,
        bins: mel.bins,
        values,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn clap(truncation: ClapTruncation, padding: ClapPadding) -> ClapMel {
        ClapMel::new(ClapMelConfig {
            sampling_rate: 8_000,
            hop_length: 80,
            max_length_s: 1,
            fft_window_size: 256,
            frequency_max: 4_000.0,
            truncation,
            padding,
            ..Default::default()
        })
    }

    fn noise(samples: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(4);
        (0..samples).map(|_| rng.f32() - 0.5).collect()
    }

    #[test]
    fn short_clips_are_filled_as_the_settings_say() {
        let pcm = [1.0, 2.0, 3.0];
        let check = |padding, expected: [f32; 5]| {
            let mut clap = clap(ClapTruncation::RandTrunc, padding);
            clap.config.sampling_rate = 5;
            assert_eq!(clap.padded(&pcm), expected, "{padding:?}");
            assert_eq!(clap.padded(&[]), [0.0; 5], "{padding:?}");
            assert_eq!(clap.padded(&[1.0; 5]), [1.0; 5], "{padding:?}");
        };
        check(ClapPadding::RepeatPad, [1.0, 2.0, 3.0, 0.0, 0.0]);
        check(ClapPadding::Repeat, [1.0, 2.0, 3.0, 1.0, 2.0]);
        check(ClapPadding::Pad, [1.0, 2.0, 3.0, 0.0, 0.0]);
    }

    #[test]
    fn a_long_clip_is_cut_in_its_middle_or_where_it_is_said() {
        let clap = clap(ClapTruncation::RandTrunc, ClapPadding::RepeatPad);
        let pcm = noise(9_001);
        let middle = clap.compute(&pcm);
        assert_eq!((middle.channels, middle.frames, middle.bins), (1, 101, 64));
        assert!(middle.is_longer);
        assert_eq!(middle.values, clap.compute(&pcm[500..8_500]).values);
        assert!(!clap.compute(&pcm[500..8_500]).is_longer);
        let end = clap.compute_at(&pcm, ClapStarts::Sample(5_000));
        assert_eq!(end.values, clap.compute(&pcm[1_001..]).values);
    }

    #[test]
    fn fusion_sees_a_long_clip_whole_and_in_three_chunks() {
        let clap = clap(ClapTruncation::Fusion, ClapPadding::RepeatPad);
        let pcm = noise(80 * 109);
        let long = clap.compute(&pcm);
        assert_eq!((long.channels, long.frames, long.bins), (4, 101, 64));
        // 110 frames have 10 places for a chunk of 101, which are 4, 3 and 3.
        assert_eq!(middle_of_thirds(10), [1, 5, 8]);
        assert_eq!(long, clap.compute_at(&pcm, ClapStarts::Frames([1, 5, 8])));
        let mel = clap.decibels(&pcm);
        let view = 101 * 64;
        for (channel, start) in [(1, 1), (2, 5), (3, 8)] {
            assert_eq!(
                long.values[channel * view..(channel + 1) * view],
                mel.values[start * 64..start * 64 + view]
            );
        }
        let beyond = clap.compute_at(&pcm, ClapStarts::Frames([usize::MAX; 3]));
        assert_eq!(beyond.values[view..2 * view], mel.values[9 * 64..]);
    }

    #[test]
    fn fusion_repeats_one_view_of_a_clip_that_fits_and_fuses_it_all_the_same() {
        let clap = clap(ClapTruncation::Fusion, ClapPadding::RepeatPad);
        // The last is longer than the window and yet has no more frames.
        for samples in [0, 1, 3_000, 8_000, 8_079] {
            let input = clap.compute(&noise(samples));
            assert_eq!((input.channels, input.frames), (4, 101), "{samples}");
            assert!(input.is_longer);
            assert_eq!(input.values[..101 * 64], input.values[3 * 101 * 64..]);
        }
    }

    #[test]
    fn shrinking_is_torchs_bilinear() {
        // torch 2.15: interpolate(arange(5.)[None, None, :, None] ** 2, size=[3, 1], mode="bilinear").
        let mel = Spectrogram {
            frames: 5,
            bins: 1,
            values: vec![0.0, 1.0, 4.0, 9.0, 16.0],
        };
        let small = shrunk(&mel, 3);
        for (value, expected) in small.values.iter().zip([0.333_333_3, 4.0, 13.666_667]) {
            assert!((value - expected).abs() < 1e-5, "{value} {expected}");
        }
        assert_eq!(middle_of_thirds(2), [0, 1, 0]);
    }

    #[test]
    fn settings_that_no_checkpoint_has_are_refused() {
        let parse = |text| {
            let settings = Settings::parse(Path::new("p.json"), text).unwrap();
            ClapMelConfig::from_settings(&settings)
        };
        let text = r#"{"truncation": "rand_trunc", "frequency_min": 50, "top_db": null}"#;
        let config = parse(text).unwrap();
        assert_eq!(config.truncation, ClapTruncation::RandTrunc);
        assert_eq!(config.frequency_min, 50.0);
        let error = parse(r#"{"padding": "wrap"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "p.json: padding: expected repeatpad or repeat or pad, got \"wrap\""
        );
    }
}
