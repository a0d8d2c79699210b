//! Speech from `espeak-ng`: words for negatives, for tests and for the demo.
//!
//! The program is started by its argument list, never through a shell, and asked for WAV on its
//! standard output. Its voices are plainly synthetic: they widen what a model has heard, and do
//! not stand in for people.

use std::process::{Command, Stdio};

use fastrand::Rng;

use crate::audio::AudioError;
use crate::audio::resample::Resampler;

/// The program.
const PROGRAM: &str = "espeak-ng";

/// English voices that come with espeak-ng 1.51 itself.
const VOICES: [&str; 8] = [
    "en-us",
    "en-gb",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
];

/// Variants of a voice: larynx and vocal tract.
const VARIANTS: [&str; 24] = [
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "klatt",
    "klatt2", "klatt3", "klatt4", "steph", "linda", "quincy", "adam", "belinda", "john", "edward",
];

/// Common English words of one to four syllables that are none of the keywords and do not sound
/// like one ("know", "write" and "offer" are left out): what a keyword model must not answer.
pub const WORDS: &[&str] = &[
    "about",
    "above",
    "after",
    "again",
    "air",
    "almost",
    "alone",
    "always",
    "among",
    "animal",
    "another",
    "answer",
    "apple",
    "arm",
    "around",
    "autumn",
    "away",
    "baby",
    "back",
    "bag",
    "ball",
    "banana",
    "bank",
    "bath",
    "beach",
    "bear",
    "because",
    "bed",
    "before",
    "begin",
    "behind",
    "believe",
    "below",
    "better",
    "between",
    "big",
    "bird",
    "black",
    "blood",
    "blue",
    "boat",
    "body",
    "book",
    "bottle",
    "bowl",
    "box",
    "boy",
    "brave",
    "bread",
    "break",
    "bridge",
    "bring",
    "brother",
    "brown",
    "build",
    "butter",
    "button",
    "buy",
    "cake",
    "call",
    "camera",
    "candle",
    "carry",
    "cat",
    "catch",
    "chair",
    "change",
    "cheap",
    "cheese",
    "chicken",
    "child",
    "circle",
    "city",
    "clean",
    "clear",
    "climb",
    "clock",
    "close",
    "cloud",
    "coat",
    "coffee",
    "cold",
    "colour",
    "come",
    "corner",
    "cotton",
    "count",
    "country",
    "cover",
    "cow",
    "cream",
    "cross",
    "cry",
    "cup",
    "dance",
    "dark",
    "daughter",
    "day",
    "deep",
    "desk",
    "different",
    "dinner",
    "doctor",
    "dog",
    "door",
    "draw",
    "dream",
    "dress",
    "drink",
    "drive",
    "early",
    "earth",
    "east",
    "easy",
    "egg",
    "eight",
    "elephant",
    "empty",
    "enough",
    "evening",
    "every",
    "eye",
    "face",
    "family",
    "far",
    "farm",
    "fast",
    "father",
    "feather",
    "field",
    "finger",
    "finish",
    "fire",
    "first",
    "fish",
    "five",
    "floor",
    "flower",
    "follow",
    "food",
    "forest",
    "forget",
    "fork",
    "four",
    "fox",
    "friend",
    "garden",
    "girl",
    "give",
    "glass",
    "gold",
    "good",
    "grass",
    "great",
    "green",
    "ground",
    "guitar",
    "hair",
    "half",
    "hammer",
    "hand",
    "happy",
    "hat",
    "head",
    "hear",
    "heart",
    "heavy",
    "help",
    "hill",
    "history",
    "home",
    "honey",
    "horse",
    "hospital",
    "house",
    "hundred",
    "hungry",
    "ice",
    "idea",
    "important",
    "island",
    "jacket",
    "jump",
    "kettle",
    "key",
    "kitchen",
    "knife",
    "lady",
    "lake",
    "language",
    "laugh",
    "leaf",
    "learn",
    "lemon",
    "letter",
    "library",
    "light",
    "little",
    "long",
    "love",
    "machine",
    "market",
    "marvin",
    "maybe",
    "meat",
    "message",
    "middle",
    "milk",
    "minute",
    "mirror",
    "money",
    "moon",
    "morning",
    "mother",
    "mountain",
    "mouse",
    "mouth",
    "music",
    "name",
    "needle",
    "never",
    "new",
    "night",
    "nine",
    "north",
    "number",
    "ocean",
    "office",
    "old",
    "onion",
    "open",
    "orange",
    "paper",
    "party",
    "pencil",
    "people",
    "person",
    "picture",
    "piece",
    "pillow",
    "plane",
    "plant",
    "play",
    "please",
    "pocket",
    "police",
    "potato",
    "problem",
    "question",
    "quick",
    "quiet",
    "rabbit",
    "radio",
    "rain",
    "read",
    "ready",
    "red",
    "remember",
    "river",
    "road",
    "room",
    "round",
    "salt",
    "sand",
    "school",
    "science",
    "sea",
    "second",
    "seven",
    "sheila",
    "ship",
    "shoe",
    "short",
    "shoulder",
    "silver",
    "sister",
    "six",
    "sleep",
    "slow",
    "small",
    "smile",
    "snow",
    "soldier",
    "song",
    "south",
    "spoon",
    "spring",
    "square",
    "star",
    "station",
    "story",
    "street",
    "strong",
    "student",
    "summer",
];

/// How a text is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// Voice and variant, as in `en-us+f3`.
    pub name: String,
    /// Words a minute, 80 to 450.
    pub words_per_minute: u32,
    /// Pitch, 0 to 99.
    pub pitch: u32,
}

impl Voice {
    /// Any voice, variant, speed and pitch that can still be understood.
    pub fn random(rng: &mut Rng) -> Voice {
        let voice = VOICES[rng.usize(..VOICES.len())];
        let variant = VARIANTS[rng.usize(..VARIANTS.len())];
        Voice {
            name: format!("{voice}+{variant}"),
            words_per_minute: rng.u32(110..=220),
            pitch: rng.u32(15..=85),
        }
    }
}

/// Speaks `text` and gives it as mono samples at the pipeline rate. Blocks until it is made.
///
/// # Errors
/// When the program is not installed, refuses the voice, or writes no sound.
pub fn speak(text: &str, voice: &Voice) -> Result<Vec<f32>, AudioError> {
    let failed = |reason: String| AudioError::Device(format!("{PROGRAM}: {reason}"));
    let output = Command::new(PROGRAM)
        .arg("--stdout")
        .args(["-v", &voice.name])
        .args(["-s", &voice.words_per_minute.to_string()])
        .args(["-p", &voice.pitch.to_string()])
        .args(["--", text])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                failed("not installed: install the package espeak-ng".to_owned())
            }
            _ => failed(error.to_string()),
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = said.lines().next().unwrap_or("no reason given");
        return Err(failed(format!("voice '{}': {reason}", voice.name)));
    }
    let (rate_hz, mono) = read_wav(&output.stdout)
        .ok_or_else(|| failed(format!("no sound for '{text}' in voice '{}'", voice.name)))?;
    let mut resampler = Resampler::new(rate_hz)?;
    let mut pcm = Vec::new();
    resampler.push(&mono, &mut pcm);
    resampler.flush(&mut pcm);
    Ok(pcm)
}

/// Rate and samples of a 16-bit mono WAV that was written to a pipe: the writer could not know its
/// length, so the data runs to the end of the bytes whatever the header says.
fn read_wav(bytes: &[u8]) -> Option<(u32, Vec<f32>)> {
    let header = bytes.get(..44)?;
    let mono_16_bit = header[..4] == *b"RIFF"
        && header[8..16] == *b"WAVEfmt "
        && header[20..24] == [1, 0, 1, 0]
        && header[34..36] == [16, 0]
        && header[36..40] == *b"data";
    let rate_hz = u32::from_le_bytes(header[24..28].try_into().ok()?);
    let (samples, _) = bytes[44..].as_chunks::<2>();
    (mono_16_bit && !samples.is_empty()).then(|| {
        let samples = samples
            .iter()
            .map(|sample| f32::from(i16::from_le_bytes(*sample)) / 32_768.0);
        (rate_hz, samples.collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_words_are_no_keywords_and_stand_once() {
        let keywords = [
            "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "computer",
            "jarvis", "alexa", "know", "write",
        ];
        let words: HashSet<&str> = WORDS.iter().copied().collect();
        assert_eq!(words.len(), WORDS.len());
        assert!(keywords.iter().all(|keyword| !words.contains(keyword)));
    }

    #[test]
    fn a_header_that_is_no_wav_is_refused() {
        assert_eq!(read_wav(b""), None);
        assert_eq!(read_wav(&[0; 100]), None);
    }

    #[test]
    fn voices_speak_and_differ() {
        if Command::new(PROGRAM).arg("--version").output().is_err() {
            println!("skipped: {PROGRAM} is not installed");
            return;
        }
        let mut rng = Rng::with_seed(5);
        let mut spoken = HashSet::new();
        for _ in 0..4 {
            let voice = Voice::random(&mut rng);
            let pcm = speak("kettle", &voice).unwrap();
            assert!(
                (3_000..32_000).contains(&pcm.len()),
                "{voice:?} {}",
                pcm.len()
            );
            assert!(pcm.iter().any(|x| x.abs() > 0.02), "{voice:?}");
            spoken.insert(pcm.iter().map(|x| x.to_bits()).collect::<Vec<u32>>());
        }
        assert_eq!(spoken.len(), 4);
        let nobody = Voice {
            name: "xx-nobody".to_owned(),
            words_per_minute: 150,
            pitch: 50,
        };
        let error = speak("kettle", &nobody).unwrap_err().to_string();
        assert!(
            error.starts_with("espeak-ng: voice 'xx-nobody': "),
            "{error}"
        );
    }
}
