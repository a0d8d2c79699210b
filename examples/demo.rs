//! Makes the sound of the demo clip: a quiet room in which somebody speaks single words and things
//! make themselves heard, one after the other. `make demo` runs it and packs the result as FLAC.
//!
//! All of it is synthetic: words by espeak-ng, sounds by `harkd::audio::synth`. Nothing is random:
//! the same espeak-ng gives the same clip.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use fastrand::Rng;
use harkd::audio::file::decode_mono_16k;
use harkd::audio::synth::parts::{self, Colour};
use harkd::audio::synth::{self, Sound};
use harkd::clock::PIPELINE_RATE_HZ;

/// Length of the clip in seconds.
const LENGTH_S: f32 = 29.0;
/// Root mean square of the room's own noise: -66 dBFS, a quiet evening.
const ROOM_RMS: f32 = 5e-4;

/// One thing that is heard.
struct Scene {
    at_s: f32,
    peak: f32,
    what: What,
}

enum What {
    /// A word, by a voice of espeak-ng at so many words a minute.
    Word(&'static str, &'static str, u32),
    /// A synthesised sound of so many seconds, drawn with this seed.
    Sound(Sound, f32, u64),
}

const SCENES: [Scene; 8] = [
    Scene {
        at_s: 2.0,
        peak: 0.4,
        what: What::Word("computer", "en-gb", 160),
    },
    Scene {
        at_s: 4.0,
        peak: 0.4,
        what: What::Word("stop", "en-us+m3", 160),
    },
    Scene {
        at_s: 6.0,
        peak: 0.4,
        what: What::Word("yes", "en-gb", 160),
    },
    Scene {
        at_s: 8.0,
        peak: 0.3,
        what: What::Sound(Sound::SmokeAlarm, 6.0, 1),
    },
    Scene {
        at_s: 16.0,
        peak: 0.4,
        what: What::Sound(Sound::Doorbell, 2.0, 68),
    },
    Scene {
        at_s: 19.0,
        peak: 0.5,
        what: What::Sound(Sound::GlassBreak, 1.2, 26),
    },
    Scene {
        at_s: 21.5,
        peak: 0.5,
        what: What::Sound(Sound::Knock, 1.2, 57),
    },
    Scene {
        at_s: 24.0,
        peak: 0.3,
        what: What::Sound(Sound::Music, 4.0, 142),
    },
];

fn main() -> anyhow::Result<()> {
    let out = std::env::args_os()
        .nth(1)
        .context("usage: demo OUT.wav: name the file to write")?;
    let mut rng = Rng::with_seed(0);
    let mut clip = parts::noise(&mut rng, parts::samples(LENGTH_S), Colour::Pink);
    clip.iter_mut().for_each(|x| *x *= ROOM_RMS);
    for scene in &SCENES {
        let mut sound = match scene.what {
            What::Word(word, voice, speed) => say(word, voice, speed)?,
            What::Sound(sound, seconds, seed) => {
                synth::render(sound, &mut Rng::with_seed(seed), seconds)
            }
        };
        parts::normalise(&mut sound, scene.peak);
        parts::add(&mut clip, &sound, parts::samples(scene.at_s), 1.0);
    }
    write(Path::new(&out), &clip)
}

/// A spoken word at the pipeline rate.
fn say(word: &str, voice: &str, speed: u32) -> anyhow::Result<Vec<f32>> {
    let dir = tempfile::tempdir()?;
    let wav = dir.path().join("word.wav");
    let status = Command::new("espeak-ng")
        .args(["-v", voice, "-s", &speed.to_string(), "-w"])
        .arg(&wav)
        .arg(word)
        .status()
        .context("cannot run espeak-ng; install it")?;
    ensure!(
        status.success(),
        "espeak-ng cannot say '{word}' with voice {voice}: {status}"
    );
    Ok(decode_mono_16k(&wav)?)
}

fn write(path: &Path, clip: &[f32]) -> anyhow::Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: PIPELINE_RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec)
        .with_context(|| format!("cannot write {}", path.display()))?;
    for sample in clip {
        // 14 bits, so that FLAC does not spend most of the file on the noise of the room.
        wav.write_sample((sample.clamp(-1.0, 1.0) * 8_191.0).round() as i16 * 4)?;
    }
    wav.finalize()?;
    Ok(())
}
