//! Words as the daemon hears them: one long stream through front end, model and rules.
//!
//! The dev clips stand in a stream with 0.6 to 1.6 s of background noise between them, and a word
//! is found when the rules report it between its start and half a second after its end. False
//! accepts are counted there too, but the figure an hour is taken from sound that holds none of
//! the words: speech, noise, events, other wake words.

use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;
use serde::Serialize;

use super::{Wanted, bar, find_label};
use crate::audio::synth::parts::{Colour, noise};
use crate::cli::out;
use crate::clock::{PIPELINE_RATE_HZ, WallClock};
use crate::config::{Config, DEFAULT_TOML};
use crate::detect::{Engine, Rule};
use crate::event::{Event, Kind};
use crate::features::LogMel;
use crate::models::{ModelInfo, Spotter};
use crate::pipeline::stats::{ModelStats, Stats};
use crate::pipeline::{Factory, Parts, Recogniser, Slot};
use crate::train::augment::{from_db, rms};
use crate::train::library::{Library, Sound};
use crate::train::metrics::{Found, Present, match_stream, per_hour};
use crate::train::{Clip, Split};

/// Level of the noise between words, in dB relative to full scale: a quiet room.
const ROOM_DB: f32 = -45.0;
/// How long after its end a word may still be reported, in seconds.
const LATE_S: f64 = 0.5;
/// Samples handed over at a time: 60 ms, as a microphone delivers them.
const BLOCK: usize = 960;
/// The order of the clips and the gaps between them are drawn from this.
const SEED: u64 = 20;

/// Words found in the stream, one row a word.
#[derive(Debug, Serialize)]
pub struct WordRow {
    label: String,
    present: usize,
    found: usize,
}

/// False accepts over one sort of sound.
#[derive(Debug, Serialize)]
pub struct Material {
    name: &'static str,
    minutes: f64,
    false_accepts: usize,
    false_accepts_per_hour: f64,
    which: Vec<FalseAccept>,
}

/// A word that was reported and not said.
#[derive(Debug, Serialize)]
pub struct FalseAccept {
    label: String,
    score: f32,
    clip: String,
}

/// What was measured on streams.
#[derive(Debug, Serialize)]
pub struct StreamFigures {
    threshold: f32,
    present: usize,
    found: usize,
    false_reject_rate: f64,
    stream_minutes: f64,
    /// Words reported in the stream that were not the ones said, or twice.
    stream_false_accepts: Vec<FalseAccept>,
    words: Vec<WordRow>,
    /// Over speech and noise together.
    false_accepts_per_hour: f64,
    material: Vec<Material>,
}

/// Which clips the measurement needs.
pub fn wants(clip: &Clip) -> bool {
    matches!(
        clip.set.as_str(),
        "keywords" | "wakewords" | "speech" | "noise" | "events" | "digits"
    )
}

/// Measures the model that `make` makes: words from `split`, false accepts over everything without
/// words.
///
/// # Errors
/// When the model cannot be made again, or the default rules do not suit it.
pub fn measure(
    make: Factory<dyn Spotter>,
    info: &ModelInfo,
    library: &Library,
    split: Wanted,
    threshold: Option<f32>,
) -> anyhow::Result<StreamFigures> {
    let mut ear = Ear::new(make, info, threshold)?;
    let mut rng = Rng::with_seed(SEED);
    let is_word = |clip: &Clip| find_label(&info.labels, &clip.label).is_some();
    let spoken: Vec<&Sound> = library
        .sounds
        .iter()
        .filter(|sound| {
            let clip = &sound.clip;
            split.takes(clip)
                && (clip.set == "keywords" || clip.set == "wakewords" && is_word(clip))
        })
        .collect();
    let beds: Vec<&Sound> = library
        .sounds
        .iter()
        .filter(|sound| sound.clip.set == "noise")
        .collect();
    let tape = Tape::with_gaps(&mut rng, &spoken, &beds);
    let events = ear.hear(&tape.pcm)?;
    let mut figures = found_words(info, &tape, &events);
    figures.threshold = ear.threshold;

    let mut heard = (0, 0.0);
    for (name, counts, takes) in materials() {
        let sounds: Vec<&Sound> = library
            .sounds
            .iter()
            .filter(|sound| takes(&sound.clip, is_word(&sound.clip)))
            .collect();
        if sounds.is_empty() {
            continue;
        }
        let tape = Tape::with_gaps(&mut rng, &sounds, &beds);
        let which: Vec<FalseAccept> = ear
            .hear(&tape.pcm)?
            .iter()
            .map(|event| tape.false_accept(event))
            .collect();
        let seconds: f64 = sounds.iter().map(|sound| seconds(sound.len())).sum();
        if counts {
            heard = (heard.0 + which.len(), heard.1 + seconds);
        }
        figures.material.push(Material {
            name,
            minutes: seconds / 60.0,
            false_accepts: which.len(),
            false_accepts_per_hour: per_hour(which.len(), seconds),
            which,
        });
    }
    figures.false_accepts_per_hour = per_hour(heard.0, heard.1);
    Ok(figures)
}

/// Whether a clip belongs to a material, given whether the model knows its label.
type Takes = fn(&Clip, bool) -> bool;

/// Sound without any of the words; the second value says whether it counts for the figure.
fn materials() -> [(&'static str, bool, Takes); 5] {
    [
        ("speech", true, |clip, _| {
            clip.set == "speech" && clip.label != "_background_noise_"
        }),
        ("noise", true, |clip, _| {
            clip.set == "noise" || clip.set == "speech" && clip.label == "_background_noise_"
        }),
        ("events", false, |clip, _| clip.set == "events"),
        ("digits", false, |clip, _| {
            clip.set == "digits" && clip.split == Split::Dev
        }),
        ("other wake words", false, |clip, word| {
            clip.set == "wakewords" && !word && clip.split == Split::Dev
        }),
    ]
}

fn found_words(info: &ModelInfo, tape: &Tape<'_>, events: &[Event]) -> StreamFigures {
    let label_of = |name: &str| find_label(&info.labels, name);
    let present: Vec<Present> = tape
        .spans
        .iter()
        .filter(|span| !span.sound.clip.label.starts_with('_'))
        .filter_map(|span| {
            Some(Present {
                label: label_of(&span.sound.clip.label)?,
                start_s: span.start_s,
                end_s: span.end_s + LATE_S,
            })
        })
        .collect();
    let found: Vec<Found> = events
        .iter()
        .filter_map(|event| {
            Some(Found {
                label: label_of(&event.label)?,
                at_s: time_of(event),
            })
        })
        .collect();
    let matched = match_stream(&present, &found);
    let words = (0..info.labels.len())
        .filter_map(|label| {
            let of = |(present, _): &(&Present, &bool)| present.label == label;
            let pairs = || present.iter().zip(&matched.found).filter(of);
            (pairs().count() > 0).then(|| WordRow {
                label: info.labels[label].to_string(),
                present: pairs().count(),
                found: pairs().filter(|(_, found)| **found).count(),
            })
        })
        .collect();
    let false_accepts = events
        .iter()
        .filter(|event| {
            let this = |found: &Found| {
                found.at_s == time_of(event) && Some(found.label) == label_of(&event.label)
            };
            matched.false_accepts.iter().any(this)
        })
        .map(|event| tape.false_accept(event))
        .collect();
    StreamFigures {
        threshold: 0.0,
        present: present.len(),
        found: matched.found.iter().filter(|found| **found).count(),
        false_reject_rate: matched.false_reject_rate(),
        stream_minutes: seconds(tape.pcm.len()) / 60.0,
        stream_false_accepts: false_accepts,
        words,
        false_accepts_per_hour: 0.0,
        material: Vec::new(),
    }
}

fn seconds(samples: usize) -> f64 {
    samples as f64 / f64::from(PIPELINE_RATE_HZ)
}

fn time_of(event: &Event) -> f64 {
    event.end.unwrap_or(event.start).as_secs_f64()
}

/// Clips one after the other, and where each of them is.
struct Tape<'a> {
    pcm: Vec<f32>,
    spans: Vec<Span<'a>>,
}

struct Span<'a> {
    start_s: f64,
    end_s: f64,
    sound: &'a Sound,
}

impl<'a> Tape<'a> {
    /// The clips in a random order with noise between them, taken from `beds`, or made where there
    /// are none.
    fn with_gaps(rng: &mut Rng, sounds: &[&'a Sound], beds: &[&Sound]) -> Self {
        let mut order: Vec<&'a Sound> = sounds.to_vec();
        rng.shuffle(&mut order);
        let mut tape = Tape {
            pcm: Vec::new(),
            spans: Vec::with_capacity(order.len()),
        };
        tape.gap(rng, beds);
        for sound in order {
            let start_s = seconds(tape.pcm.len());
            tape.pcm.extend(sound.pcm());
            tape.spans.push(Span {
                start_s,
                end_s: seconds(tape.pcm.len()),
                sound,
            });
            tape.gap(rng, beds);
        }
        tape
    }

    fn gap(&mut self, rng: &mut Rng, beds: &[&Sound]) {
        const RAMP: usize = 160;
        let length = rng.usize(9_600..25_600);
        let long: Vec<&&Sound> = beds.iter().filter(|bed| bed.len() > length).collect();
        let mut bed = if long.is_empty() {
            noise(rng, length, Colour::Pink)
        } else {
            let bed = long[rng.usize(..long.len())];
            let from = rng.usize(..bed.len() - length);
            bed.part(from..from + length)
        };
        let gain = from_db(ROOM_DB) / rms(&bed).max(1e-6);
        let last = bed.len() - 1;
        for (at, sample) in bed.iter_mut().enumerate() {
            let edge = (at.min(last - at) as f32 / RAMP as f32).min(1.0);
            *sample *= gain * edge;
        }
        self.pcm.extend(bed);
    }

    /// Names an event by the clip that is heard with it.
    fn false_accept(&self, event: &Event) -> FalseAccept {
        let at_s = time_of(event);
        let clip = self.spans.iter().rev().find(|span| span.start_s <= at_s);
        FalseAccept {
            label: event.label.to_string(),
            score: event.peak,
            clip: clip.map_or_else(String::new, |span| {
                format!("{} at {:.2} s", span.sound.clip.name, at_s - span.start_s)
            }),
        }
    }
}

/// The keyword path of the daemon, made anew for every stream.
struct Ear {
    make: Factory<dyn Spotter>,
    info: ModelInfo,
    config: Config,
    threshold: f32,
}

impl Ear {
    /// With the default rules for words; `threshold` takes the place of theirs.
    fn new(
        make: Factory<dyn Spotter>,
        info: &ModelInfo,
        threshold: Option<f32>,
    ) -> anyhow::Result<Self> {
        let mut config: Config = toml::from_str(DEFAULT_TOML)?;
        config.rule.retain(|rule| rule.kind == Kind::Keyword);
        for rule in &mut config.rule {
            if let Some(threshold) = threshold {
                rule.threshold = threshold;
                rule.thresholds.clear();
            }
        }
        Ok(Ear {
            make,
            info: info.clone(),
            threshold: config.rule.first().map_or(0.0, |rule| rule.threshold),
            config,
        })
    }

    /// Every word that the rules report in `pcm`.
    fn hear(&mut self, pcm: &[f32]) -> anyhow::Result<Vec<Event>> {
        let stats = Stats::new("eval", Some(ModelStats::new(self.info.clone())), Vec::new());
        let known = stats.known();
        let rules = Rule::all_from_config(&self.config.rule, &known)?;
        let mut recogniser = Recogniser::new(Parts {
            front: Box::new(LogMel::new()),
            keyword: Some(Slot::new(self.make.clone())?),
            windows: Vec::new(),
            engine: Engine::new(rules, &known),
            content: None,
            stats: Arc::new(stats),
            clock: WallClock::new(Instant::now()),
            complete: true,
        });
        let mut events = Vec::new();
        let bar = bar(pcm.len());
        for block in pcm.chunks(BLOCK) {
            recogniser.push(block, &mut |event| events.push(event));
            bar.inc(block.len() as u64);
        }
        recogniser.finish(&mut |event| events.push(event));
        bar.finish_and_clear();
        Ok(events)
    }
}

impl StreamFigures {
    /// Whether the clips held any of the words.
    pub fn has_words(&self) -> bool {
        self.present > 0
    }

    /// Shows the figures as text.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub fn show(&self, model: &str) -> anyhow::Result<()> {
        out::line(format_args!(
            "{model}: {} of {} words found in a stream of {:.1} minutes at threshold {} ({:.1} %), \
             {} false accepts in it",
            self.found,
            self.present,
            self.stream_minutes,
            self.threshold,
            100.0 * (1.0 - self.false_reject_rate),
            self.stream_false_accepts.len()
        ))?;
        for row in &self.words {
            out::line(format_args!(
                "{:<12} {:>4} of {:>4}",
                row.label, row.found, row.present
            ))?;
        }
        out::line(format_args!(
            "\nfalse accepts an hour over speech and noise: {:.2}",
            self.false_accepts_per_hour
        ))?;
        for material in &self.material {
            out::line(format_args!(
                "{:<18} {:>7.1} minutes {:>4} false accepts {:>8.2} an hour",
                material.name,
                material.minutes,
                material.false_accepts,
                material.false_accepts_per_hour
            ))?;
        }
        let all = self.material.iter().flat_map(|material| &material.which);
        for accept in self.stream_false_accepts.iter().chain(all) {
            out::line(format_args!(
                "  {:<10} {:.2}  {}",
                accept.label, accept.score, accept.clip
            ))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Task;

    /// Says "yes" while a frame is loud.
    struct Loud(ModelInfo);

    impl Spotter for Loud {
        fn info(&self) -> &ModelInfo {
            &self.0
        }
        fn step(&mut self, frame: &[f32], scores: &mut [f32]) {
            let mean = frame.iter().sum::<f32>() / frame.len() as f32;
            let loud = f32::from(mean > 0.6);
            scores.fill(0.0);
            (scores[0], scores[1]) = (1.0 - loud, loud);
        }
        fn reset(&mut self) {}
    }

    fn write(path: &std::path::Path, amplitude: f32) {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut rng = Rng::with_seed(1);
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for at in 0..16_000 {
            // Loud in the middle third alone.
            let level = if (5_000..11_000).contains(&at) {
                amplitude
            } else {
                0.001
            };
            let sample = level * (2.0 * rng.f32() - 1.0);
            writer.write_sample((sample * 32_767.0) as i16).unwrap();
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn words_are_found_and_what_sounds_like_them_is_a_false_accept() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = "path,label,split\n".to_owned();
        for set in ["keywords", "speech"] {
            std::fs::create_dir(folder.path().join(set)).unwrap();
        }
        for (name, label, split, amplitude) in [
            ("keywords/a.wav", "yes", "dev", 0.5),
            ("keywords/b.wav", "yes", "dev", 0.5),
            ("keywords/c.wav", "yes", "dev", 0.002),
            ("keywords/d.wav", "yes", "train", 0.5),
            ("speech/e.wav", "order", "train", 0.5),
            ("speech/f.wav", "order", "train", 0.002),
        ] {
            write(&folder.path().join(name), amplitude);
            table += &format!("{name},{label},{split}\n");
        }
        std::fs::write(folder.path().join("manifest.csv"), table).unwrap();
        let library = Library::open(folder.path(), wants).unwrap();
        let labels = [
            "_silence_",
            "yes",
            "no",
            "up",
            "down",
            "left",
            "right",
            "on",
            "off",
            "stop",
        ];
        let labels: Vec<Arc<str>> = labels
            .into_iter()
            .chain(["go", "computer", "jarvis", "alexa"])
            .map(Arc::from)
            .collect();
        let info = ModelInfo {
            name: "loud".into(),
            sha256: "".into(),
            task: Task::Keyword,
            labels: labels.into(),
            input: crate::models::Input::LogMel,
            window_frames: 98,
            parameters: 0,
            licence: "Apache-2.0".into(),
        };
        let made = info.clone();
        let make: Factory<dyn Spotter> = Arc::new(move || Ok(Box::new(Loud(made.clone()))));
        let dev = Wanted(Some(Split::Dev));
        let figures = measure(make, &info, &library, dev, None).unwrap();
        assert_eq!((figures.present, figures.found), (3, 2));
        assert!((figures.false_reject_rate - 1.0 / 3.0).abs() < 1e-9);
        assert!(figures.stream_false_accepts.is_empty());
        let speech = &figures.material[0];
        assert_eq!((speech.name, speech.false_accepts), ("speech", 1));
        assert!(speech.which[0].clip.starts_with("speech/e.wav at 0."));
        assert!((figures.false_accepts_per_hour - 1800.0).abs() < 1e-6);
    }
}
