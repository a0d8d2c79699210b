//! Examples from a source: waits for a sound to stand out from the room, and keeps it.
//!
//! What is said to the person at the microphone goes to standard error.

use std::time::{Duration, Instant};

use crate::audio::resample::Resampler;
use crate::audio::ring::pcm_ring;
use crate::audio::spec::{self, SourceSpec};
use crate::audio::{AudioError, Health, PERIOD};
use crate::cli::out;
use crate::clock::PIPELINE_RATE_HZ;
use crate::detect::LevelMeter;
use crate::features::HOP;
use crate::models::taught::{Clip, TeachError};

/// How far the newest 20 ms must stand out from the noise floor to be the beginning of a sound, in dB.
const ONSET_DB: f32 = 12.0;
/// Nothing quieter is one, in dBFS.
const LEAST_DBFS: f32 = -55.0;
/// What is kept from before the beginning, in seconds.
const BEFORE_S: f64 = 0.15;
/// The room is listened to for so long before the first sound counts, in seconds, so that its noise
/// floor is known.
const SETTLE_S: f64 = 0.5;
/// So long without a sound, in seconds, and it is given up.
const PATIENCE_S: f64 = 30.0;
/// Of the ring between source and here, in seconds.
const RING_S: f64 = 2.0;

/// Finds sounds in a stream: each begins where the level stands out, and is as long as was asked.
struct Cutter {
    meter: LevelMeter,
    /// The newest samples while nothing is heard, then the sound.
    kept: Vec<f32>,
    /// Samples to come of the sound that has begun.
    missing: Option<usize>,
    before: usize,
    len: usize,
    /// Samples that must pass before a sound may begin.
    settle: usize,
}

impl Cutter {
    fn new(seconds: f64) -> Self {
        let samples = |seconds: f64| (seconds * f64::from(PIPELINE_RATE_HZ)) as usize;
        Cutter {
            meter: LevelMeter::new(),
            kept: Vec::new(),
            missing: None,
            before: samples(BEFORE_S),
            len: samples(seconds),
            settle: samples(SETTLE_S),
        }
    }

    /// Takes a hop of samples; gives a sound when it is whole.
    fn push(&mut self, hop: &[f32]) -> Option<Vec<f32>> {
        self.meter.push(hop);
        self.kept.extend_from_slice(hop);
        self.settle = self.settle.saturating_sub(hop.len());
        if let Some(missing) = self.missing {
            let left = missing.saturating_sub(hop.len());
            self.missing = (left > 0).then_some(left);
            if left > 0 {
                return None;
            }
            // The end of this sound is not the beginning of the next.
            self.settle = self.before;
            return Some(std::mem::take(&mut self.kept));
        }
        let level = self.meter.level_over_dbfs(2 * HOP);
        let stands_out = level >= (self.meter.noise_floor_dbfs() + ONSET_DB).max(LEAST_DBFS);
        if stands_out && self.settle == 0 {
            self.missing = Some(self.len);
        }
        let from = self.kept.len().saturating_sub(self.before);
        self.kept.drain(..from);
        None
    }
}

/// Records `count` examples of `seconds` each, prompting for each.
///
/// # Errors
/// When the source fails or ends, or nobody makes a sound.
pub fn examples(spec: &SourceSpec, seconds: f64, count: u64) -> anyhow::Result<Vec<Clip>> {
    let source = spec::open(spec, false)?;
    let (name, format) = (source.name().to_owned(), source.format());
    let (writer, mut reader) = pcm_ring(format, RING_S);
    let mut resampler = Resampler::between(format.rate_hz, PIPELINE_RATE_HZ)?;
    let mut running = source.start(writer)?;
    out::note(format_args!("listening to {name}; be quiet for a moment"));
    let ask = |at: usize| {
        out::note(format_args!("make the sound now: {} of {count}", at + 1));
    };
    let mut cutter = Cutter::new(seconds);
    let mut clips: Vec<Clip> = Vec::new();
    let (mut native, mut pcm) = (Vec::new(), Vec::new());
    let mut heard_at = Instant::now();
    let period = (f64::from(format.rate_hz) * PERIOD.as_secs_f64()) as usize;
    let mut asked = false;
    while (clips.len() as u64) < count {
        if let Health::Failed(error) = running.health() {
            return Err(error.into());
        }
        reader.wait(period, Duration::from_millis(200));
        native.clear();
        let block = reader.read(&mut native, period);
        resampler.push(&native, &mut pcm);
        if block.samples == 0 && reader.is_finished() {
            return Err(AudioError::Device(format!(
                "{name}: it has ended after {} of {count} sounds; each must stand out from the room by {ONSET_DB:.0} dB",
                clips.len()
            ))
            .into());
        }
        let whole = pcm.len() - pcm.len() % HOP;
        for hop in pcm[..whole].chunks_exact(HOP) {
            if cutter.settle == 0 && !asked {
                ask(clips.len());
                asked = true;
                heard_at = Instant::now();
            }
            let Some(sound) = cutter.push(hop) else {
                continue;
            };
            let clip = Clip::new(&format!("recording {}", clips.len() + 1), sound)?;
            out::note(format_args!("heard {:.1} s", clip.seconds()));
            clips.push(clip);
            asked = false;
            if clips.len() as u64 == count {
                break;
            }
        }
        pcm.drain(..whole);
        if heard_at.elapsed().as_secs_f64() > PATIENCE_S + seconds {
            return Err(TeachError::Examples(format!(
                "{name}: no sound stood out from the room for {PATIENCE_S:.0} s; see 'hark devices', or give files"
            ))
            .into());
        }
    }
    Ok(clips)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sound_that_stands_out_is_kept_with_its_beginning() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut room = |len: usize, level: f32| -> Vec<f32> {
            (0..len).map(|_| level * (rng.f32() - 0.5)).collect()
        };
        let mut pcm = room(16_000, 0.002);
        for _ in 0..2 {
            pcm.extend(room(4_800, 0.5));
            pcm.extend(room(24_000, 0.002));
        }
        let mut cutter = Cutter::new(0.5);
        let sounds: Vec<Vec<f32>> = pcm
            .chunks_exact(HOP)
            .filter_map(|hop| cutter.push(hop))
            .collect();
        assert_eq!(sounds.len(), 2);
        for sound in sounds {
            assert!((8_000..=11_000).contains(&sound.len()), "{}", sound.len());
            let begins = sound.iter().position(|x| x.abs() > 0.05).unwrap();
            assert!((1_600..2_600).contains(&begins), "{begins}");
        }
    }
}
