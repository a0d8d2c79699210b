//! CLAP: with and without fusion, both layouts of a directory, layer by layer and at the scores.

use harkd::features::clap_mel::{ClapInput, ClapStarts};
use harkd::models::clap::{Clap, similarity};
use harkd::models::layout::Layout;
use serde_json::Value;

use super::support::{Fixture, clip, golden, max_abs_diff};

const TOLERANCE: f32 = 1e-4;

struct Case {
    fixture: Fixture,
    clap: Clap,
    prompts: Vec<String>,
}

fn open(case: &str) -> Case {
    let fixture = Fixture::open(case);
    let layout = Layout::open(&golden("fixtures").join(case)).unwrap();
    let prompts = fixture.json("prompts").unwrap();
    Case {
        clap: Clap::load(&layout).unwrap(),
        prompts: serde_json::from_value(prompts).unwrap(),
        fixture,
    }
}

/// The features of a clip, cut where the reference cut it.
fn features(case: &Case, name: &str) -> ClapInput {
    let sound = clip(name);
    let front_end = case.clap.audio.front_end();
    assert_eq!(front_end.rate_hz(), sound.rate_hz);
    let note = |key: &str| case.fixture.json(&format!("{key}/{name}"));
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let starts = match (note("start_sample"), note("chunk_frames")) {
        (Some(sample), _) => ClapStarts::Sample(number(&sample)),
        (_, Some(frames)) => ClapStarts::Frames([0, 1, 2].map(|n| number(&frames[n]))),
        _ => ClapStarts::Middle,
    };
    let features = front_end.compute_at(&sound.pcm, starts);
    assert_eq!(Some(features.is_longer.into()), note("is_longer"), "{name}");
    features
}

fn check_text(case: &Case) {
    let Case {
        fixture,
        clap,
        prompts,
    } = case;
    let expected: Vec<Vec<u32>> =
        serde_json::from_value(fixture.json("token_ids").unwrap()).unwrap();
    let tokenizer = clap.text.tokenizer();
    for (prompt, expected) in prompts.iter().zip(&expected) {
        assert_eq!(&tokenizer.encode(prompt).unwrap(), expected, "{prompt}");
    }
    let ids = tokenizer
        .encode(fixture.note("text_layers_of").unwrap())
        .unwrap();
    let states = clap.text.hidden_states(&ids).unwrap();
    let (pooled, hidden) = states.split_last().unwrap();
    for (layer, state) in hidden.iter().enumerate() {
        let state = state.squeeze(0).unwrap();
        let values = state.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        fixture.check(
            &format!("text.hidden.{layer}"),
            state.dims(),
            &values,
            TOLERANCE,
        );
    }
    let values = pooled.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    fixture.check("text.pooled", &[values.len()], &values, TOLERANCE);
    let embeddings = clap.text.embed_all(prompts, &mut |_| {}).unwrap();
    let shape = [prompts.len(), embeddings[0].len()];
    fixture.check("text.embedding", &shape, &embeddings.concat(), TOLERANCE);
    for (prompt, embedding) in prompts.iter().zip(&embeddings) {
        let alone = clap.text.embed(prompt).unwrap();
        assert!(max_abs_diff(&alone, embedding) < 1e-6, "{prompt}");
    }
}

/// Every stage that the fixture holds of a clip, the embedding and what follows from it.
fn check_audio(case: &Case, name: &str, features: &ClapInput, suffix: &str) {
    let Case {
        fixture,
        clap,
        prompts,
    } = case;
    let key = |stage: &str| format!("{stage}{suffix}/{name}");
    let held = fixture.keys("");
    let shape = [features.channels, features.frames, features.bins];
    let mut stages = 0;
    if held.contains(&key("features")) {
        fixture.check(&key("features"), &shape, &features.values, TOLERANCE);
    }
    for (stage, state) in clap.audio.hidden_states(features).unwrap() {
        if !held.contains(&key(&stage)) {
            continue;
        }
        stages += 1;
        // Channels come last here; images have one, and what was fused has them first there.
        let state = match stage.as_str() {
            "image" => state.squeeze(3).unwrap(),
            "fused" => state.squeeze(0).unwrap().permute((2, 0, 1)).unwrap(),
            _ => state.squeeze(0).unwrap(),
        };
        let values = state.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        fixture.check(&key(&stage), state.dims(), &values, TOLERANCE);
    }
    assert!(stages >= 3, "{name}: {stages} stages");
    let embedding = clap.audio.embed_features(features).unwrap();
    fixture.check(&key("embedding"), &[embedding.len()], &embedding, TOLERANCE);
    let texts = clap.text.embed_all(prompts, &mut |_| {}).unwrap();
    let cosines: Vec<f32> = texts
        .iter()
        .map(|text| similarity(&embedding, text))
        .collect();
    fixture.check(&key("similarity"), &[cosines.len()], &cosines, TOLERANCE);
    let scale = clap.logit_scale.a.exp();
    let logits: Vec<f32> = cosines.iter().map(|cosine| cosine * scale).collect();
    fixture.check(&key("logits"), &[logits.len()], &logits, TOLERANCE);
    if suffix.is_empty() {
        let scores = clap.logit_scale.scores(&cosines);
        fixture.check(&key("scores"), &[scores.len()], &scores, TOLERANCE);
    }
}

fn check(case: &str, clips: &[&str]) -> Case {
    let case = open(case);
    check_text(&case);
    for name in clips {
        check_audio(&case, name, &features(&case, name), "");
    }
    case
}

#[test]
fn clap_without_fusion_is_the_reference() {
    let clips = ["words48k.flac", "alarm48k.flac", "sounds48k.flac"];
    let case = check("clap-unfused", &clips);
    // What fits is embedded from its samples alone.
    let sound = clip("alarm48k.flac");
    let embedding = case.clap.audio.embed(&sound.pcm).unwrap();
    let key = "embedding/alarm48k.flac";
    case.fixture
        .check(key, &[embedding.len()], &embedding, TOLERANCE);
}

#[test]
fn clap_as_it_lies_on_the_hub_is_the_reference() {
    check("clap-unfused-old", &["words48k.flac"]);
}

#[test]
fn clap_with_fusion_is_the_reference() {
    let case = check("clap-fused", &["sounds48k.flac", "words48k.flac"]);
    let mut short = features(&case, "words48k.flac");
    short.is_longer = false;
    check_audio(&case, "words48k.flac", &short, ".short");
}
