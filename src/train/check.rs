//! Looks at every clip of a data set for what would spoil training or flatter a measurement.
//!
//! Findings say what is wrong; whether that stops the work is the caller's affair: see
//! [`Kind::is_error`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::manifest::{Clip, Manifest, Split};
use crate::audio::file::FileReader;
use crate::clock::PIPELINE_RATE_HZ;

/// A clip whose highest sample is under this (-60 dBFS) is taken for silent.
const SILENT_PEAK: f32 = 1e-3;
/// A sample at least this high may be clipped.
const CLIPPED_PEAK: f32 = 0.997;
/// So many clipped samples in a row are a flat top, not a peak that just fits.
const CLIPPED_RUN: usize = 3;
/// A clip with so many samples in flat tops is reported.
const CLIPPED_SAMPLES: usize = 16;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The file is missing, is no sound, holds no sample or samples that are no numbers.
    Corrupt,
    /// Nothing is heard in it.
    Silent,
    /// The same sound is in train and in dev: a measurement on dev is flattered.
    Leak,
    /// The same speaker is in train and in dev.
    SpeakerLeak,
    /// The same sound has two labels.
    Conflict,
    /// The same sound is there twice, with one label and in one split.
    Duplicate,
    /// It was recorded too loud: the tops of the wave are cut off.
    Clipped,
}

impl Kind {
    /// Every kind, the gravest first.
    pub const ALL: [Kind; 7] = [
        Kind::Corrupt,
        Kind::Silent,
        Kind::Leak,
        Kind::SpeakerLeak,
        Kind::Conflict,
        Kind::Duplicate,
        Kind::Clipped,
    ];

    /// The name on the command line and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Corrupt => "corrupt",
            Kind::Silent => "silent",
            Kind::Leak => "leak",
            Kind::SpeakerLeak => "speaker-leak",
            Kind::Conflict => "conflict",
            Kind::Duplicate => "duplicate",
            Kind::Clipped => "clipped",
        }
    }

    /// Whether the data should not be used as it is; the others are worth knowing.
    pub const fn is_error(self) -> bool {
        !matches!(self, Kind::Duplicate | Kind::Clipped)
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// The clip, as the data set names it (the first one, where it is about a speaker).
    pub clip: String,
    /// The rest in plain words.
    pub detail: String,
}

/// How much there is of a label.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Balance {
    /// Clips to learn from.
    pub train: usize,
    /// Clips to measure on.
    pub dev: usize,
    /// Sound of both in seconds, of the clips that could be read.
    pub seconds: f64,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How many clips there are.
    pub clips: usize,
    /// Everything found, the gravest first, in the order of names.
    pub findings: Vec<Finding>,
    /// How much there is of every set and label.
    pub balance: BTreeMap<(String, String), Balance>,
}

/// What is kept of a clip once it was read.
struct Heard {
    samples: usize,
    invalid: u64,
    peak: f32,
    flat: usize,
    digest: [u8; 32],
}

/// Reads every clip, on all cores, and calls `progress` after each.
pub fn check(manifest: &Manifest, progress: impl Fn() + Sync) -> Report {
    let heard: Vec<Result<Heard, String>> = manifest
        .clips
        .par_iter()
        .map(|clip| {
            let heard = hear(clip);
            progress();
            heard
        })
        .collect();
    let mut findings = Vec::new();
    let mut balance: BTreeMap<(String, String), Balance> = BTreeMap::new();
    for (clip, heard) in manifest.clips.iter().zip(&heard) {
        let entry = balance
            .entry((clip.set.clone(), clip.label.clone()))
            .or_default();
        match clip.split {
            Split::Train => entry.train += 1,
            Split::Dev => entry.dev += 1,
        }
        if let Ok(heard) = heard {
            entry.seconds += heard.samples as f64 / f64::from(PIPELINE_RATE_HZ);
        }
        findings.extend(alone(clip, heard));
    }
    findings.extend(twins(&manifest.clips, &heard));
    findings.extend(speakers(&manifest.clips));
    findings.sort();
    Report {
        clips: manifest.clips.len(),
        findings,
        balance,
    }
}

fn hear(clip: &Clip) -> Result<Heard, String> {
    let mut reader = FileReader::open(&clip.path).map_err(|error| error.to_string())?;
    let mut heard = Heard {
        samples: 0,
        invalid: 0,
        peak: 0.0,
        flat: 0,
        digest: [0; 32],
    };
    let mut digest = Sha256::new();
    let mut run = 0;
    while let Some(block) = reader.next_block().map_err(|error| error.to_string())? {
        heard.samples += block.len();
        for &sample in block {
            heard.peak = heard.peak.max(sample.abs());
            // The same recording in another container may differ beyond 16 bit.
            let rounded = (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
            digest.update(rounded.to_le_bytes());
            run = if sample.abs() >= CLIPPED_PEAK {
                run + 1
            } else {
                0
            };
            heard.flat += match run {
                ..CLIPPED_RUN => 0,
                CLIPPED_RUN => CLIPPED_RUN,
                _ => 1,
            };
        }
    }
    heard.invalid = reader.invalid_samples();
    heard.digest = digest.finalize().into();
    Ok(heard)
}

/// What is wrong with a clip by itself.
fn alone(clip: &Clip, heard: &Result<Heard, String>) -> Vec<Finding> {
    let finding = |kind, detail: String| Finding {
        kind,
        clip: clip.name.clone(),
        detail,
    };
    let heard = match heard {
        Err(reason) => return vec![finding(Kind::Corrupt, reason.clone())],
        Ok(heard) if heard.samples == 0 => {
            return vec![finding(Kind::Corrupt, "holds no sample".to_owned())];
        }
        Ok(heard) => heard,
    };
    let mut findings = Vec::new();
    if heard.invalid > 0 {
        let text = format!("{} samples are no numbers", heard.invalid);
        findings.push(finding(Kind::Corrupt, text));
    }
    let meant = matches!(clip.label.as_str(), "_silence_" | "silence" | "Silence");
    if heard.peak < SILENT_PEAK && !meant {
        let text = format!(
            "its peak is {:.1} dBFS",
            20.0 * heard.peak.max(1e-9).log10()
        );
        findings.push(finding(Kind::Silent, text));
    }
    if heard.flat >= CLIPPED_SAMPLES {
        let text = format!("{} of {} samples in flat tops", heard.flat, heard.samples);
        findings.push(finding(Kind::Clipped, text));
    }
    findings
}

/// The same sound more than once. Silent clips are all alike and are left out.
fn twins(clips: &[Clip], heard: &[Result<Heard, String>]) -> Vec<Finding> {
    let mut first: HashMap<[u8; 32], usize> = HashMap::new();
    let mut findings = Vec::new();
    for (at, (clip, heard)) in clips.iter().zip(heard).enumerate() {
        let Ok(heard) = heard else { continue };
        if heard.samples == 0 || heard.peak < SILENT_PEAK {
            continue;
        }
        let other = &clips[*first.entry(heard.digest).or_insert(at)];
        if other.name == clip.name {
            continue;
        }
        let finding = |kind, detail: String| Finding {
            kind,
            clip: clip.name.clone(),
            detail,
        };
        let (mine, its) = (clip.split.as_str(), other.split.as_str());
        if mine != its {
            let text = format!("in {mine}, and the same sound in {its} as {}", other.name);
            findings.push(finding(Kind::Leak, text));
        }
        if clip.label != other.label {
            let text = format!(
                "'{}', and the same sound is '{}' as {}",
                clip.label, other.label, other.name
            );
            findings.push(finding(Kind::Conflict, text));
        }
        if mine == its && clip.label == other.label {
            findings.push(finding(
                Kind::Duplicate,
                format!("same sound as {}", other.name),
            ));
        }
    }
    findings
}

/// Speakers in both splits: one finding each, with the first clip in dev.
fn speakers(clips: &[Clip]) -> Vec<Finding> {
    let mut by_speaker: BTreeMap<(&str, &str), BTreeMap<Split, BTreeSet<&str>>> = BTreeMap::new();
    for clip in clips {
        if let Some(speaker) = &clip.speaker {
            by_speaker
                .entry((&clip.source, speaker))
                .or_default()
                .entry(clip.split)
                .or_default()
                .insert(&clip.name);
        }
    }
    let both = |((_, speaker), splits): (&(&str, &str), &BTreeMap<Split, BTreeSet<&str>>)| {
        let (train, dev) = (splits.get(&Split::Train)?, splits.get(&Split::Dev)?);
        Some(Finding {
            kind: Kind::SpeakerLeak,
            clip: (*dev.first()?).to_owned(),
            detail: format!(
                "speaker '{speaker}' has {} clips in train and {} in dev",
                train.len(),
                dev.len()
            ),
        })
    };
    by_speaker.iter().filter_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn wave(amplitude: f32, hz: f32) -> Vec<f32> {
        (0..8_000)
            .map(|n| amplitude * (std::f32::consts::TAU * hz * n as f32 / 16_000.0).sin())
            .collect()
    }

    fn write(path: &Path, pcm: &[f32]) {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for &sample in pcm {
            writer
                .write_sample((sample.clamp(-1.0, 1.0) * 32_767.0) as i16)
                .unwrap();
        }
        writer.finalize().unwrap();
    }

    /// `(name, label, split, speaker, sound)`; without a sound the file is garbage.
    type Row<'a> = (&'a str, &'a str, &'a str, &'a str, Option<Vec<f32>>);

    /// What is found in a data set of these rows.
    fn findings(rows: &[Row<'_>]) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let mut table = "path,label,split,speaker\n".to_owned();
        for (name, label, split, speaker, pcm) in rows {
            table += &format!("{name},{label},{split},{speaker}\n");
            match pcm {
                Some(pcm) => write(&folder.path().join(name), pcm),
                None => std::fs::write(folder.path().join(name), b"RIFFgarbage").unwrap(),
            }
        }
        std::fs::write(folder.path().join("manifest.csv"), table).unwrap();
        check(&Manifest::open(folder.path()).unwrap(), || ())
    }

    fn kinds(report: &Report) -> Vec<(Kind, &str)> {
        let found = report.findings.iter();
        found.map(|x| (x.kind, x.clip.as_str())).collect()
    }

    #[test]
    fn sound_data_has_no_findings() {
        let report = findings(&[
            ("a.wav", "x", "train", "ann", Some(wave(0.5, 300.0))),
            ("b.wav", "x", "dev", "bob", Some(wave(0.5, 400.0))),
            ("s.wav", "_silence_", "dev", "", Some(vec![0.0; 16_000])),
        ]);
        assert_eq!(kinds(&report), []);
        let balance = report.balance[&(String::new(), "x".to_owned())];
        assert_eq!((balance.train, balance.dev), (1, 1));
        assert!((balance.seconds - 1.0).abs() < 0.01);
    }

    #[test]
    fn each_fault_is_found_and_named() {
        let report = findings(&[
            ("a.wav", "x", "train", "ann", Some(wave(0.5, 300.0))),
            ("bad.wav", "x", "train", "", None),
            ("clipped.wav", "x", "train", "", Some(wave(3.0, 500.0))),
            ("leak.wav", "x", "dev", "ann", Some(wave(0.5, 300.0))),
            ("other.wav", "y", "train", "", Some(wave(0.5, 300.0))),
            ("quiet.wav", "x", "train", "", Some(wave(0.0005, 300.0))),
            ("twin.wav", "x", "train", "", Some(wave(0.5, 300.0))),
        ]);
        assert_eq!(
            kinds(&report),
            [
                (Kind::Corrupt, "bad.wav"),
                (Kind::Silent, "quiet.wav"),
                (Kind::Leak, "leak.wav"),
                (Kind::SpeakerLeak, "leak.wav"),
                (Kind::Conflict, "other.wav"),
                (Kind::Duplicate, "twin.wav"),
                (Kind::Clipped, "clipped.wav"),
            ]
        );
        assert!(report.findings[2].detail.contains("a.wav"));
        assert!(
            report.findings[3]
                .detail
                .contains("'ann' has 1 clips in train and 1 in dev")
        );
    }

    #[test]
    fn a_loud_sine_that_just_fits_is_not_clipped() {
        let report = findings(&[("a.wav", "x", "train", "", Some(wave(0.99, 100.0)))]);
        assert_eq!(kinds(&report), []);
    }
}
