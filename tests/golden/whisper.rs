//! The Whisper encoder with its classifier against transformers, and what it refuses.

use harkd::models::layout::Layout;
use harkd::models::network::Network;
use harkd::models::whisper::Whisper;
use serde_json::json;

use crate::spoil::{Spoil, config, refuses, settings};
use crate::support::{Fixture, check_scores, check_state, clip, golden};

const TOLERANCE: f32 = 1e-4;

fn equals_the_reference(case: &str) {
    let fixture = Fixture::open(case);
    let layout = Layout::open(&golden("fixtures").join(case)).unwrap();
    let mut whisper = Whisper::load(&layout).unwrap();
    let first = fixture.note("audio").unwrap();
    let check = |key: &str, state: &candle_core::Tensor| {
        check_state(&fixture, &format!("{key}/{first}"), state, TOLERANCE)
    };
    let features = whisper.features(&clip(first).pcm).unwrap();
    // The reference has the bands before the frames.
    check("features", &features.transpose(1, 2).unwrap());
    let states = whisper.hidden_states(&features).unwrap();
    let (last, layers) = states.split_last().unwrap();
    for (layer, state) in layers.iter().enumerate() {
        check(&format!("hidden.{layer}"), state);
    }
    check("last", last);
    let encoded = whisper.encode(&features).unwrap();
    match fixture.keys("weighted").is_empty() {
        true => check("last", &encoded),
        false => check("weighted", &encoded),
    }
    check("pooled", &whisper.pooled(&encoded).unwrap());
    check_scores(&fixture, &layout, &mut whisper, TOLERANCE);
}

#[test]
fn languages_equal_the_reference() {
    equals_the_reference("whisper-language");
}

#[test]
fn the_mels_of_large_v3_in_a_pickle_equal_the_reference() {
    equals_the_reference("whisper-128");
}

#[test]
fn a_weighted_sum_of_layers_and_a_shorter_clip_equal_the_reference() {
    equals_the_reference("whisper-weighted");
}

#[test]
fn the_window_is_that_of_the_feature_extractor() {
    let load = |case: &str| Whisper::load(&Layout::open(&golden(case)).unwrap()).unwrap();
    let whisper = load("fixtures/whisper-language");
    assert_eq!((whisper.rate_hz(), whisper.window()), (16_000, 480_000));
    let mut whisper = load("fixtures/whisper-weighted");
    assert_eq!((whisper.rate_hz(), whisper.window()), (16_000, 160_000));
    assert_eq!(whisper.run(&[]).unwrap().len(), 12);
    let features = whisper.features(&[]).unwrap();
    let error = whisper
        .encode(&features.narrow(1, 0, 998).unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected features (batch, 1000, 80), got [1, 998, 80]"),
        "{error}"
    );
}

#[test]
fn settings_that_make_no_network_are_refused() {
    refuses(
        "whisper-weighted",
        Whisper::load,
        &[
            (
                config("encoder_attention_heads", 0),
                "encoder_attention_heads: expected at least 1, got 0",
            ),
            (
                config("encoder_attention_heads", 5),
                "encoder_attention_heads: expected a divisor of d_model, which is 32, got 5",
            ),
            (
                config("encoder_attention_heads", 2.5),
                "config.json: encoder_attention_heads: invalid type: floating point",
            ),
            (config("d_model", 0), "d_model: expected at least 1, got 0"),
            (
                config("d_model", 64),
                "encoder.embed_positions.weight: expected shape [500, 64], got [500, 32]",
            ),
            (
                config("d_model", 1u64 << 62),
                "encoder.embed_positions.weight: expected shape",
            ),
            (
                config("encoder_ffn_dim", 0),
                "encoder_ffn_dim: expected at least 1, got 0",
            ),
            (
                config("encoder_layers", 1),
                "layer_weights: expected shape [2], got [3]",
            ),
            (
                config("encoder_layers", u64::MAX),
                "encoder.layers.2.self_attn_layer_norm.weight: expected shape [32], got no such tensor",
            ),
            (
                config("max_source_positions", 0),
                "max_source_positions: expected at least 1, got 0",
            ),
            (
                config("max_source_positions", u64::MAX),
                "encoder.embed_positions.weight: expected shape",
            ),
            (
                config("num_mel_bins", 128),
                "encoder.conv1.weight: expected shape [32, 128, 3], got [32, 80, 3]",
            ),
            (
                config("classifier_proj_size", 0),
                "classifier_proj_size: expected at least 1, got 0",
            ),
            (
                config("classifier_proj_size", 21),
                "projector.bias: expected shape [21], got [20]",
            ),
            (
                config("activation_function", "maxout"),
                "config.json: activation_function: expected the name of an activation",
            ),
            (
                config("use_weighted_layer_sum", 1),
                "config.json: use_weighted_layer_sum: invalid type",
            ),
            (
                config("id2label", json!({"0": "a", "1": "b"})),
                "classifier.bias: expected shape [2], got [12]",
            ),
            (
                settings("chunk_length", 30),
                "max_source_positions: expected half of the 3000 frames that the feature extractor makes, got 500",
            ),
            (
                settings("feature_size", 128),
                "num_mel_bins: expected 128, the feature_size of the feature extractor, got 80",
            ),
            (
                settings("hop_length", 0),
                "preprocessor_config.json: hop_length: expected",
            ),
        ],
    );
}

#[test]
fn missing_and_misshapen_tensors_are_refused() {
    let conv = "encoder.conv2.weight";
    let query = "encoder.layers.1.self_attn.q_proj.bias";
    let inner = "encoder.layers.0.fc1.weight";
    let text = |key: &str, rest: &str| format!("model.safetensors: {key}: {rest}");
    refuses(
        "whisper-weighted",
        Whisper::load,
        &[
            (
                Spoil::Drop(query),
                &text(query, "expected shape [32], got no such tensor"),
            ),
            (
                Spoil::Drop("layer_weights"),
                &text("layer_weights", "expected shape [3], got no such tensor"),
            ),
            (
                Spoil::Drop("projector.bias"),
                &text("projector.bias", "expected shape [20], got no such tensor"),
            ),
            (
                Spoil::Drop("classifier.weight"),
                &text(
                    "classifier.weight",
                    "expected shape [12, 20], got no such tensor",
                ),
            ),
            (
                Spoil::Reshape(inner, &[32, 48]),
                &text(inner, "expected shape [48, 32], got [32, 48]"),
            ),
            (
                Spoil::Reshape(conv, &[32, 3, 32]),
                &text(conv, "expected shape [32, 32, 3], got [32, 3, 32]"),
            ),
        ],
    );
}
