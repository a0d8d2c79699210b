//! Every front end against the feature extractor that it stands for, on the same sound.

use std::path::Path;

use harkd::features::Settings;
use harkd::features::clap_mel::{ClapMel, ClapMelConfig, ClapStarts};
use harkd::features::kaldi_fbank::{KaldiFbank, KaldiFbankConfig};
use harkd::features::speechbrain_fbank::{SpeechbrainFbank, SpeechbrainFbankConfig};
use harkd::features::wave_norm::{WaveNorm, WaveNormConfig};
use harkd::features::whisper_mel::{WhisperMel, WhisperMelConfig};

use crate::support::{Clip, Fixture, clip};

const TOLERANCE: f32 = 1e-4;

/// Calls `check` with every tensor below `prefix`, its clip and the settings of its extractor.
fn each(prefix: &str, check: impl Fn(&Fixture, &str, &Clip, &Settings)) {
    let fixture = Fixture::open("front-ends");
    let keys = fixture.keys(prefix);
    assert!(!keys.is_empty(), "{prefix}");
    for key in keys {
        let clip = clip(fixture.note(&format!("{key}.audio")).unwrap());
        let text = fixture.note(&format!("{key}.settings")).unwrap();
        let settings = Settings::parse(Path::new("preprocessor_config.json"), text).unwrap();
        check(&fixture, &key, &clip, &settings);
    }
}

/// `(rows, columns)` as `(columns, rows)`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| values.iter().skip(column).step_by(columns))
        .copied()
        .collect()
}

#[test]
fn kaldi_fbank_is_that_of_ast() {
    each("ast.", |fixture, key, clip, settings| {
        let config = KaldiFbankConfig::from_settings(settings).unwrap();
        let front = KaldiFbank::new(config.clone());
        assert_eq!(front.rate_hz(), clip.rate_hz);
        let features = front.compute(&clip.pcm);
        let shape = [features.frames, features.bins];
        // Without the division by 2 std the reference's f32 transform is off by as much more.
        let scale = match config.do_normalize {
            true => 1.0,
            false => 2.0 * config.std as f32,
        };
        fixture.check(key, &shape, &features.values, scale * TOLERANCE);
    });
}

#[test]
fn whisper_mel_is_that_of_whisper() {
    each("whisper.", |fixture, key, clip, settings| {
        let front = WhisperMel::new(WhisperMelConfig::from_settings(settings).unwrap());
        assert_eq!(front.rate_hz(), clip.rate_hz);
        let features = front.compute(&clip.pcm);
        let values = transposed(&features.values, features.bins);
        fixture.check(key, &[features.bins, features.frames], &values, TOLERANCE);
    });
}

#[test]
fn wave_norm_is_that_of_wav2vec2() {
    each("wav2vec2.", |fixture, key, clip, settings| {
        let front = WaveNorm::new(WaveNormConfig::from_settings(settings).unwrap());
        assert_eq!(front.rate_hz(), clip.rate_hz);
        let wave = front.compute(&clip.pcm);
        fixture.check(key, &[wave.len()], &wave, TOLERANCE);
    });
}

#[test]
fn clap_mel_is_that_of_clap() {
    each("clap.", |fixture, key, clip, settings| {
        let front = ClapMel::new(ClapMelConfig::from_settings(settings).unwrap());
        assert_eq!(front.rate_hz(), clip.rate_hz);
        let note = |name: &str| fixture.json(&format!("{key}.{name}"));
        let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
        let starts = match (note("start_sample"), note("chunk_frames")) {
            (Some(sample), _) => ClapStarts::Sample(number(&sample)),
            (_, Some(frames)) => ClapStarts::Frames([0, 1, 2].map(|n| number(&frames[n]))),
            _ => ClapStarts::Middle,
        };
        let input = front.compute_at(&clip.pcm, starts);
        assert_eq!(Some(input.is_longer.into()), note("is_longer"), "{key}");
        // The fixture keeps one of the four views where all are the same.
        let channels = fixture.tensor(key).shape[0];
        let view = input.frames * input.bins;
        let kept = &input.values[..channels * view];
        for other in input.values.chunks_exact(view).skip(channels) {
            assert_eq!(*other, kept[..view], "{key}");
        }
        fixture.check(key, &[channels, input.frames, input.bins], kept, TOLERANCE);
    });
}

#[test]
fn speechbrain_fbank_is_that_of_speechbrain() {
    each("speechbrain.", |fixture, key, clip, _| {
        let front = SpeechbrainFbank::new(SpeechbrainFbankConfig::default());
        assert_eq!(front.rate_hz(), clip.rate_hz);
        let features = if key.starts_with("speechbrain.fbank") {
            front.decibels(&clip.pcm)
        } else {
            front.compute(&clip.pcm)
        };
        let shape = [features.frames, features.bins];
        fixture.check(key, &shape, &features.values, TOLERANCE);
    });
}
