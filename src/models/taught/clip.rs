//! An example: decoded, judged, and cut into the windows that live listening would see of it.
//!
//! Live windows come at a fixed beat and a sound falls into them anywhere, so an example is cut at
//! several phases of that beat, in faint noise in place of the room around it.

use std::path::Path;

use fastrand::Rng;

use super::TeachError;
use crate::audio::file::decode_mono_16k;
use crate::audio::resample::Resampler;
use crate::audio::synth::parts::{Colour, noise};
use crate::clock::PIPELINE_RATE_HZ;
use crate::command::TaughtKind;
use crate::features::{HOP, LogMel, log_mel::WINDOW};
use crate::models::{Input, ModelError, ModelInfo};

/// Shortest example in seconds: three frames of the front end do not make a sound.
pub const MIN_S: f64 = 0.1;
/// Longest stretch of an example that is heard, in seconds; the loudest one is.
pub const MAX_S: f64 = 30.0;
/// An example whose loudest 10 ms are below this holds no sound, in dB relative to full scale: a quiet
/// room is at about -60.
pub const SILENT_DBFS: f32 = -60.0;
/// Samples at or over this are clipped, relative to full scale: the last step of 16 bit apart.
const FULL: f32 = 0.9999;
/// Clipped samples in a row that a recording does not have by chance.
const FULL_RUN: usize = 4;
/// A stretch this far below the loudest 10 ms is not the sound itself, in dB. The same is the border of
/// a sound when the event network is trained.
const LOUD_DB: f32 = 15.0;
/// The same for the ends of a word, whose last consonants are faint.
const WORD_DB: f32 = 25.0;
/// Level of the noise around an example, relative to its loudest 10 ms, in dB.
const AROUND_DB: f32 = -50.0;
/// Phases of the beat of windows at which an example is cut.
const PHASES: usize = 4;
/// Frames by which a word is moved about in its window, and how often: the beat of live windows of words
/// is 10 frames, so it is never further off than half of that.
const WORD_SHIFTS: [i64; 5] = [-4, -2, 0, 2, 4];
/// Frames that the keyword network answers later than it hears: half of what its layers look back to.
const WORD_LAG: usize = 12;
/// Frames of half of what of a word stands in its embedding (0.8 s).
const WORD_HALF_FRAMES: usize = 40;

/// An example of a sound.
#[derive(Debug, Clone)]
pub struct Clip {
    /// The name of its file, or what stands for it.
    pub name: String,
    /// Mono samples at the pipeline rate.
    pub pcm: Vec<f32>,
}

/// When windows of a kind come, in frames of 10 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Length of a window.
    pub window_frames: usize,
    /// Distance between windows.
    pub hop_frames: usize,
}

impl Beat {
    /// The windows in which live listening looks for taught sounds of `kind` with an embedder: the
    /// model's own, at most 2 s of them, every half of one; for words every 0.1 s.
    pub fn of(kind: TaughtKind, info: &ModelInfo) -> Beat {
        let window_frames = info.window_frames.clamp(1, 200);
        let hop_frames = match kind {
            TaughtKind::Sound => window_frames / 2,
            TaughtKind::Word => 10,
        };
        Beat {
            window_frames,
            hop_frames: hop_frames.max(1),
        }
    }
}

/// Windows of an example, ready for its embedder.
#[derive(Debug, Clone, Default)]
pub struct Cut {
    /// The windows as live listening sees them at each phase of its beat, phase by phase.
    pub phases: Vec<Vec<Vec<f32>>>,
    /// The windows that hold the sound itself: what is learnt from.
    pub heart: Vec<Vec<f32>>,
}

impl Clip {
    /// Decodes a file; of a long one the loudest [`MAX_S`] seconds are kept.
    ///
    /// # Errors
    /// When it is no sound, or too short or too quiet to learn from; the text names it.
    pub fn open(path: &Path) -> Result<Clip, TeachError> {
        let name = path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        Clip::new(&name, decode_mono_16k(path)?)
    }

    /// An example of samples at the pipeline rate.
    ///
    /// # Errors
    /// When it is too short or too quiet to learn from; the text names it.
    pub fn new(name: &str, mut pcm: Vec<f32>) -> Result<Clip, TeachError> {
        pcm.iter_mut()
            .filter(|sample| !sample.is_finite())
            .for_each(|sample| *sample = 0.0);
        let most = (MAX_S * f64::from(PIPELINE_RATE_HZ)) as usize;
        if pcm.len() > most {
            let loudest = (0..=pcm.len() - most)
                .step_by(PIPELINE_RATE_HZ as usize)
                .max_by(|&a, &b| rms(&pcm[a..a + most]).total_cmp(&rms(&pcm[b..b + most])))
                .unwrap_or(0);
            pcm = pcm[loudest..loudest + most].to_vec();
        }
        let clip = Clip {
            name: name.to_owned(),
            pcm,
        };
        if clip.seconds() < MIN_S {
            return Err(TeachError::Examples(format!(
                "{name}: {:.2} s is too short to learn from; give examples of {MIN_S} s or more",
                clip.seconds()
            )));
        }
        let peak_db = 20.0 * clip.loudest().max(1e-9).log10();
        if peak_db < SILENT_DBFS {
            return Err(TeachError::Examples(format!(
                "{name}: it is silent (its loudest 10 ms are at {peak_db:.0} dBFS, a sound is at {SILENT_DBFS:.0} or over); record it again, nearer or louder"
            )));
        }
        Ok(clip)
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.pcm.len() as f64 / f64::from(PIPELINE_RATE_HZ)
    }

    /// Root mean square of the loudest 10 ms, relative to full scale.
    fn loudest(&self) -> f32 {
        self.pcm.chunks(HOP).map(rms).fold(0.0, f32::max)
    }

    /// Whether it is cut off at full scale.
    pub fn is_clipped(&self) -> bool {
        let mut run = 0;
        self.pcm.iter().any(|sample| {
            run = if sample.abs() >= FULL { run + 1 } else { 0 };
            run >= FULL_RUN
        })
    }

    /// From the first to the last 10 ms within `below_db` of the loudest, in samples.
    pub fn active(&self, below_db: f32) -> std::ops::Range<usize> {
        let gate = self.loudest() * 10f32.powf(-below_db / 20.0);
        let loud: Vec<bool> = self
            .pcm
            .chunks(HOP)
            .map(|block| rms(block) >= gate)
            .collect();
        let first = loud.iter().position(|&loud| loud).unwrap_or(0);
        let last = loud.iter().rposition(|&loud| loud).unwrap_or(0);
        first * HOP..((last + 1) * HOP).min(self.pcm.len())
    }

    /// How long the sound itself is, in seconds.
    pub fn sounding_s(&self, kind: TaughtKind) -> f64 {
        self.active(below_db(kind)).len() as f64 / f64::from(PIPELINE_RATE_HZ)
    }

    /// Its windows for an embedder that hears `input`, as live listening sees them at several phases
    /// of `beat`, and those that hold the sound.
    ///
    /// # Errors
    /// When the rate of `input` is out of reach.
    pub fn cut(&self, kind: TaughtKind, input: Input, beat: Beat) -> Result<Cut, ModelError> {
        let window = beat.window_frames * HOP;
        let hop = beat.hop_frames * HOP;
        let active = self.active(below_db(kind));
        let tape = Tape::new(self.in_noise(window), input)?;
        let take = |start: usize| tape.window(start, beat.window_frames);
        // Places on the tape, where the example begins at `window`.
        let (first, last) = (window + active.start, window + active.end);
        let phases = (0..PHASES)
            .map(|phase| {
                // From the first window that ends in the sound to the last that begins in it.
                let from = first + HOP - window + phase * hop / PHASES;
                let starts = (from..last.max(from + 1)).step_by(hop);
                starts.map(take).collect()
            })
            .collect();
        let starts = match kind {
            TaughtKind::Word => {
                // The window ends where the network has heard the word and a little more, so that the
                // parts that it compares are those around the middle of the word.
                let end = (first + last) / 2 + (WORD_HALF_FRAMES + WORD_LAG) * HOP;
                let shifted = |shift: &i64| end as i64 + shift * HOP as i64 - window as i64;
                let starts = WORD_SHIFTS.iter().map(shifted);
                starts.map(|at| usize::try_from(at).unwrap_or(0)).collect()
            }
            TaughtKind::Sound => self.hearts(&tape.pcm, window, hop, first..last),
        };
        Ok(Cut {
            phases,
            heart: starts.into_iter().map(take).collect(),
        })
    }

    /// Every window of the example on one phase of `beat`, with nothing around it: what a background is
    /// made of. An example shorter than a window has none.
    ///
    /// # Errors
    /// When the rate of `input` is out of reach.
    pub fn windows(&self, input: Input, beat: Beat) -> Result<Vec<Vec<f32>>, ModelError> {
        let window = beat.window_frames * HOP;
        let tape = Tape::new(self.pcm.clone(), input)?;
        let starts =
            (0..(self.pcm.len() + 1).saturating_sub(window)).step_by(beat.hop_frames * HOP);
        Ok(starts
            .map(|start| tape.window(start, beat.window_frames))
            .collect())
    }

    /// Where the windows of a sound at `sound` begin: all that hold loud parts of it where it is longer
    /// than a window, else a few in which it lies late to early.
    fn hearts(
        &self,
        around: &[f32],
        window: usize,
        hop: usize,
        sound: std::ops::Range<usize>,
    ) -> Vec<usize> {
        if sound.len() <= window {
            let slack = window - sound.len();
            return (0..=4).map(|part| sound.start - slack * part / 4).collect();
        }
        let gate = self.loudest() * 10f32.powf(-LOUD_DB / 20.0);
        let holds_sound = |start: &usize| {
            let mut blocks = around[*start..*start + window].chunks(HOP);
            blocks.any(|block| rms(block) >= gate)
        };
        (sound.start..=sound.end - window)
            .step_by((hop / 2).max(1))
            .filter(holds_sound)
            .collect()
    }

    /// The samples with a window of faint noise before and behind them, and the same noise below.
    fn in_noise(&self, window: usize) -> Vec<f32> {
        // The same clip always gives the same windows.
        let mut rng = Rng::with_seed(self.pcm.len() as u64);
        let len = self.pcm.len() + 2 * window + WINDOW;
        let mut around = noise(&mut rng, len, Colour::Pink);
        let gain = self.loudest() * 10f32.powf(AROUND_DB / 20.0) / rms(&around).max(1e-9);
        around.iter_mut().for_each(|sample| *sample *= gain);
        for (sum, sample) in around[window..].iter_mut().zip(&self.pcm) {
            *sum += sample;
        }
        around
    }
}

/// What is not the sound itself, below its loudest 10 ms.
fn below_db(kind: TaughtKind) -> f32 {
    match kind {
        TaughtKind::Sound => LOUD_DB,
        TaughtKind::Word => WORD_DB,
    }
}

/// Sound that windows are taken of, as an embedder hears it.
struct Tape {
    pcm: Vec<f32>,
    /// The same at another rate, and the rate.
    other: Option<(Vec<f32>, u32)>,
    input: Input,
}

impl Tape {
    fn new(pcm: Vec<f32>, input: Input) -> Result<Self, ModelError> {
        let other = match input {
            Input::Samples { rate_hz } if rate_hz != PIPELINE_RATE_HZ => {
                let mut resampler = Resampler::between(PIPELINE_RATE_HZ, rate_hz)
                    .map_err(|error| ModelError::Shape(error.to_string()))?;
                let mut out = Vec::new();
                resampler.push(&pcm, &mut out);
                resampler.flush(&mut out);
                Some((out, rate_hz))
            }
            _ => None,
        };
        Ok(Tape { pcm, other, input })
    }

    /// A window of `frames` frames from sample `start` (at the pipeline rate) on; silence follows the
    /// end of the tape.
    fn window(&self, start: usize, frames: usize) -> Vec<f32> {
        let part = |pcm: &[f32], from: usize, len: usize| {
            let end = (from + len).min(pcm.len());
            let mut part = pcm[from.min(end)..end].to_vec();
            part.resize(len, 0.0);
            part
        };
        match (self.input, &self.other) {
            (Input::LogMel, _) => {
                LogMel::batch(&part(&self.pcm, start, (frames - 1) * HOP + WINDOW))
            }
            (Input::Samples { .. }, None) => part(&self.pcm, start, frames * HOP),
            (Input::Samples { .. }, Some((pcm, rate_hz))) => {
                let at = |sample: usize| {
                    (sample as u64 * u64::from(*rate_hz) / u64::from(PIPELINE_RATE_HZ)) as usize
                };
                part(pcm, at(start), at(frames * HOP))
            }
        }
    }
}

fn rms(pcm: &[f32]) -> f32 {
    let sum: f32 = pcm.iter().map(|x| x * x).sum();
    (sum / pcm.len().max(1) as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Beat = Beat {
        window_frames: 100,
        hop_frames: 50,
    };

    /// A tone of `len` samples at `level` in `silence` samples at either side.
    fn tone(len: usize, silence: usize, level: f32) -> Vec<f32> {
        let mut pcm = vec![0.0; silence];
        pcm.extend((0..len).map(|n| level * (n as f32 * 0.4).sin()));
        pcm.resize(pcm.len() + silence, 0.0);
        pcm
    }

    fn refused(pcm: Vec<f32>, expected: &str) {
        let error = Clip::new("a.wav", pcm).unwrap_err().to_string();
        assert!(error.starts_with("a.wav: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn silent_and_short_examples_are_refused_by_name() {
        refused(vec![0.0; 16_000], "it is silent");
        refused(tone(16_000, 0, 0.0005), "it is silent");
        refused(vec![0.5; 1_000], "0.06 s is too short");
        refused(Vec::new(), "too short");
        refused(vec![f32::NAN; 16_000], "it is silent");
    }

    #[test]
    fn the_sound_is_found_in_the_silence_around_it() {
        let clip = Clip::new("a.wav", tone(4_800, 16_000, 0.5)).unwrap();
        let active = clip.active(LOUD_DB);
        assert!((15_800..=16_000).contains(&active.start), "{active:?}");
        assert!((20_700..=21_000).contains(&active.end), "{active:?}");
        assert!(!clip.is_clipped());
        let loud = tone(4_800, 0, 3.0)
            .iter()
            .map(|x| x.clamp(-1.0, 1.0))
            .collect();
        assert!(Clip::new("b.wav", loud).unwrap().is_clipped());
        let long = Clip::new("c.wav", tone(1_600, 40 * 16_000, 0.5)).unwrap();
        assert!((long.seconds() - MAX_S).abs() < 0.01);
        assert!(long.sounding_s(TaughtKind::Sound) < 0.12);
    }

    #[test]
    fn windows_are_those_of_live_listening_and_hold_the_sound() {
        for (len, kind, beat) in [
            (1_600, TaughtKind::Sound, SOUND),
            (40_000, TaughtKind::Sound, SOUND),
            (
                9_600,
                TaughtKind::Word,
                Beat {
                    window_frames: 110,
                    hop_frames: 10,
                },
            ),
        ] {
            let clip = Clip::new("a.wav", tone(len, 3_000, 0.5)).unwrap();
            for input in [
                Input::LogMel,
                Input::Samples { rate_hz: 16_000 },
                Input::Samples { rate_hz: 48_000 },
            ] {
                let values = match input {
                    Input::LogMel => beat.window_frames * crate::features::N_MELS,
                    Input::Samples { rate_hz } => beat.window_frames * rate_hz as usize / 100,
                };
                let cut = clip.cut(kind, input, beat).unwrap();
                assert_eq!(cut.phases.len(), PHASES);
                let all = cut.phases.iter().flatten().chain(&cut.heart);
                assert!(all.clone().count() > 8);
                assert!(all.clone().all(|window| window.len() == values));
                if input != Input::LogMel {
                    let loud = |window: &Vec<f32>| rms(window) > 0.05;
                    assert!(cut.heart.iter().all(loud), "{len} {input:?}");
                }
            }
            assert_eq!(
                clip.cut(kind, Input::LogMel, beat).unwrap().heart,
                clip.cut(kind, Input::LogMel, beat).unwrap().heart
            );
        }
    }
}
