//! Published models on their real weights against their own run times on real clips.
//!
//! The fixtures hold what the references say (`tests/golden/real.py`, with versions); weights and clips
//! are not in the repository. They are looked for in `$HARKD_DATA` and in `../shared/data`; where there are
//! none, these tests say so and pass.

use std::path::{Path, PathBuf};

use harkd::audio::file::decode_mono_16k;
use harkd::models::silero::{CHUNK, Silero};
use harkd::models::speech_gate::SpeechGate;
use harkd::models::yamnet::{EMBEDDING, Yamnet};
use harkd::models::{Classifier, Input, ModelError, ModelInfo, Task};
use harkd::nn::tflite::{Dtype, Options, Tflite, code};
use proptest::prelude::*;
use serde_json::Value;

/// The most that a score may differ from the reference.
const TOLERANCE: f32 = 1e-3;

/// The folder with `models/` and the clips.
fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let found = std::env::var_os("HARKD_DATA").map_or(beside, PathBuf::from);
    if found.join("models/yamnet.tflite").is_file() {
        return Some(found);
    }
    eprintln!("skipped: no models/yamnet.tflite in {}", found.display());
    None
}

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fixtures");
    let text = std::fs::read_to_string(path.join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    let values = value.as_array().unwrap().iter();
    values.map(|v| v.as_f64().unwrap() as f32).collect()
}

/// The clips of a fixture with their sound, cut as the reference cut them.
fn clips<'a>(data: &Path, fixture: &'a Value) -> Vec<(&'a Value, Vec<f32>)> {
    let most = fixture["seconds"].as_u64().unwrap() as usize * 16_000;
    let clips = fixture["clips"].as_array().unwrap();
    assert!(clips.len() >= 20);
    let hear = |clip: &'a Value| {
        let mut pcm = decode_mono_16k(&data.join(clip["path"].as_str().unwrap())).unwrap();
        pcm.truncate(most);
        (clip, pcm)
    };
    clips.iter().map(hear).collect()
}

fn max_abs_diff(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let pairs = got.iter().zip(expected);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Indices of the five highest scores, the first of equal ones first.
fn top5(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(5);
    order
}

#[test]
fn yamnet_scores_and_embeddings_are_those_of_litert() {
    let Some(data) = data() else { return };
    let mut yamnet = Yamnet::open(&data.join("models/yamnet.tflite")).unwrap();
    let labels = yamnet.labels().len();
    let fixture = fixture("yamnet.json");
    let step = fixture["step"].as_f64().unwrap() as f32;
    let (mut scores, mut mean, mut embeddings) = (Vec::new(), Vec::new(), Vec::new());
    for (clip, pcm) in clips(&data, &fixture) {
        let path = &clip["path"];
        assert_eq!(clip["samples"], pcm.len(), "{path}");
        let expected: Vec<Vec<f32>> = clip["scores"]
            .as_array()
            .unwrap()
            .iter()
            .map(floats)
            .collect();
        let patches = yamnet.classify_patches(&pcm, &mut scores);
        assert_eq!(
            (patches, scores.len()),
            (expected.len(), patches * labels),
            "{path}"
        );
        for (patch, expected) in scores.chunks_exact(labels).zip(&expected) {
            let expected: Vec<f32> = expected.iter().map(|score| score * step).collect();
            let apart = max_abs_diff(patch, &expected);
            assert!(apart < TOLERANCE, "{path}: {apart}");
        }
        yamnet.classify(&pcm, &mut mean);
        let top: Vec<Value> = top5(&mean).into_iter().map(Value::from).collect();
        assert_eq!(clip["top5"], Value::Array(top), "{path}");
        yamnet.embed_patches(&pcm, &mut embeddings);
        let few = embeddings
            .chunks_exact(EMBEDDING)
            .map(|e| e.iter().step_by(64).copied());
        for (few, expected) in few.zip(clip["embeddings"].as_array().unwrap()) {
            let apart = max_abs_diff(&few.collect::<Vec<_>>(), &floats(expected));
            assert!(apart < TOLERANCE, "{path}: embedding {apart}");
        }
    }
}

#[test]
fn a_clip_is_the_mean_of_its_patches() {
    let Some(data) = data() else { return };
    let mut yamnet = Yamnet::open(&data.join("models/yamnet.tflite")).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    for samples in [0, 300, 15_600, 15_601, 40_000] {
        let pcm: Vec<f32> = (0..samples).map(|_| rng.f32() * 0.2 - 0.1).collect();
        let (mut all, mut mean) = (Vec::new(), Vec::new());
        for (width, embeds) in [(521, false), (EMBEDDING, true)] {
            let patches = if embeds {
                yamnet.embed(&pcm, &mut mean);
                yamnet.embed_patches(&pcm, &mut all)
            } else {
                yamnet.classify(&pcm, &mut mean);
                yamnet.classify_patches(&pcm, &mut all)
            };
            let expected: Vec<f32> = (0..width)
                .map(|at| all.iter().skip(at).step_by(width).sum::<f32>() / patches as f32)
                .collect();
            assert!(max_abs_diff(&mean, &expected) < 1e-5, "{samples}");
        }
    }
    // No panic on what no microphone gives; the next sound is heard as ever.
    let (mut before, mut after) = (Vec::new(), Vec::new());
    yamnet.classify(&[0.1; 16_000], &mut before);
    yamnet.classify(
        &[f32::NAN, f32::INFINITY, f32::MIN, f32::MAX].repeat(4_000),
        &mut after,
    );
    yamnet.classify(&[0.1; 16_000], &mut after);
    assert_eq!(before, after);
}

#[test]
fn silero_probabilities_are_those_of_onnxruntime() {
    let Some(data) = data() else { return };
    let mut vad = Silero::open(&data.join("models/silero_vad_16k.safetensors")).unwrap();
    let fixture = fixture("silero.json");
    let (mut speech, mut other) = (0, 0);
    for (clip, pcm) in clips(&data, &fixture) {
        vad.reset();
        let (chunks, _) = pcm.as_chunks::<CHUNK>();
        let got: Vec<f32> = chunks.iter().map(|chunk| vad.step(chunk)).collect();
        let apart = max_abs_diff(&got, &floats(&clip["probabilities"]));
        assert!(apart < TOLERANCE, "{}: {apart}", clip["path"]);
        speech += got.iter().filter(|&&p| p > 0.9).count();
        other += got.iter().filter(|&&p| p < 0.1).count();
    }
    assert!(speech > 50 && other > 500, "{speech} {other}");
}

/// Both published files; the reader has them whole.
fn tflites(data: &Path) -> [Vec<u8>; 2] {
    ["yamnet", "kwt1"]
        .map(|name| std::fs::read(data.join(format!("models/{name}.tflite"))).unwrap())
}

#[test]
fn the_reader_lists_tensors_and_operators_of_published_files() {
    let Some(data) = data() else { return };
    let [yamnet, kwt] = tflites(&data);
    let file = Tflite::from_bytes(yamnet, "yamnet.tflite").unwrap();
    assert_eq!((file.tensors().len(), file.operators().len()), (193, 104));
    assert_eq!(file.tensors()[file.inputs()[0]].name, "waveform");
    assert_eq!(file.outputs().len(), 3);
    let strided = file.operators().iter().filter(
        |operator| matches!(operator.options, Options::Conv(conv) if conv.stride == (2, 2)),
    );
    assert_eq!(strided.count(), 5);
    let last = file
        .operators()
        .iter()
        .rposition(|op| op.code == code::FULLY_CONNECTED)
        .unwrap();
    let weights = file.operators()[last].inputs[1].unwrap();
    assert_eq!(file.tensors()[weights].dtype, Dtype::I8);
    assert_eq!(
        file.quantised(weights, &[521, 1024]).unwrap().scales.len(),
        521
    );
    let wrong = file
        .quantised(weights, &[521, 1023])
        .unwrap_err()
        .to_string();
    assert!(wrong.contains("expected I8 [521, 1023]"), "{wrong}");
    assert!(
        wrong.starts_with("yamnet.tflite: Tensor at byte "),
        "{wrong}"
    );

    let kwt = Tflite::from_bytes(kwt, "kwt1.tflite").unwrap();
    let Err(error) = Yamnet::from_tflite(&kwt) else {
        panic!("a keyword transformer is no YAMNet");
    };
    assert!(error.to_string().contains("kwt1.tflite"), "{error}");
    assert!(error.to_string().contains("this is not YAMNet"), "{error}");
}

#[test]
fn no_damage_makes_the_reader_panic() {
    let Some(data) = data() else { return };
    let [yamnet, kwt] = tflites(&data);
    // In the published file the tables stand in the last 175 kB, but for the first 64 bytes.
    const TABLES: usize = 180_000;
    let head = yamnet.len() - TABLES;
    for cut in (0..64).chain((head..yamnet.len()).step_by(1_009)) {
        assert!(
            Tflite::from_bytes(yamnet[..cut].to_vec(), "cut").is_err(),
            "{cut}"
        );
        let _ = Tflite::from_bytes(kwt[..cut.min(kwt.len())].to_vec(), "cut");
    }
    let config = ProptestConfig::with_cases(300);
    let places = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40);
    proptest!(config, |(places in places, front: bool)| {
        let mut bytes = yamnet.clone();
        for (place, value) in places {
            let at = if front { place.index(64) } else { head + place.index(TABLES) };
            bytes[at] = value;
        }
        if let Ok(file) = Tflite::from_bytes(bytes, "damaged") {
            let _ = Yamnet::from_tflite(&file).map(|mut yamnet| {
                yamnet.classify(&[0.1; 400], &mut Vec::new());
            });
        }
    });
}

/// Says that it was asked.
struct Asked(ModelInfo);

impl Classifier for Asked {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    fn classify(&mut self, _: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        *scores = vec![1.0];
        Ok(())
    }
}

#[test]
fn a_model_behind_the_gate_is_asked_where_somebody_speaks() {
    let Some(data) = data() else { return };
    let vad = || Silero::open(&data.join("models/silero_vad_16k.safetensors")).unwrap();
    let asked = |rate_hz| {
        Box::new(Asked(ModelInfo {
            name: "asked".into(),
            sha256: "".into(),
            task: Task::Language,
            labels: vec!["any".into()].into(),
            input: Input::Samples { rate_hz },
            window_frames: 100,
            parameters: 0,
            licence: "".into(),
        }))
    };
    let mut gate = SpeechGate::new(asked(16_000), vad()).unwrap();
    let fixture = fixture("silero.json");
    let (mut open, mut shut) = (0, 0);
    for (clip, pcm) in clips(&data, &fixture) {
        let most = floats(&clip["probabilities"])
            .into_iter()
            .fold(0.0, f32::max);
        let mut scores = Vec::new();
        gate.classify(&pcm, &mut scores).unwrap();
        assert_eq!(scores, [f32::from(most >= 0.5)], "{clip}");
        *if most >= 0.5 { &mut open } else { &mut shut } += 1;
    }
    assert!(open >= 3 && shut >= 3, "{open} open, {shut} shut");
    assert!(SpeechGate::new(asked(48_000), vad()).is_err());
}
