//! The Audio Spectrogram Transformer against transformers, and what it refuses.

use harkd::models::ast::Ast;
use harkd::models::layout::Layout;
use harkd::models::network::Network;
use serde_json::json;

use crate::spoil::{Spoil, config, refuses, settings};
use crate::support::{Fixture, check_scores, check_state, clip, golden};

const TOLERANCE: f32 = 1e-4;

fn equals_the_reference(case: &str) {
    let fixture = Fixture::open(case);
    let layout = Layout::open(&golden("fixtures").join(case)).unwrap();
    let mut ast = Ast::load(&layout).unwrap();
    let first = fixture.note("audio").unwrap();
    let features = ast.features(&clip(first).pcm).unwrap();
    check_state(&fixture, &format!("features/{first}"), &features, TOLERANCE);
    let states = ast.hidden_states(&features).unwrap();
    let (last, layers) = states.split_last().unwrap();
    for (layer, state) in layers.iter().enumerate() {
        check_state(
            &fixture,
            &format!("hidden.{layer}/{first}"),
            state,
            TOLERANCE,
        );
    }
    check_state(&fixture, &format!("last/{first}"), last, TOLERANCE);
    let pooled = ast.pooled(&features).unwrap();
    check_state(&fixture, &format!("pooled/{first}"), &pooled, TOLERANCE);
    check_scores(&fixture, &layout, &mut ast, TOLERANCE);
}

#[test]
fn events_in_ten_seconds_equal_the_reference() {
    equals_the_reference("ast-event");
}

#[test]
fn words_in_one_second_equal_the_reference() {
    equals_the_reference("ast-keyword");
}

#[test]
fn a_pickle_beside_settings_that_say_little_equals_the_reference() {
    equals_the_reference("ast-pickle");
}

#[test]
fn shards_without_offsets_and_with_other_strides_equal_the_reference() {
    equals_the_reference("ast-sharded");
}

#[test]
fn a_bare_model_gives_the_pooled_state() {
    let whole = golden("fixtures/ast-keyword");
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(whole.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let bare = tensors.iter().filter_map(|(key, view)| {
        Some((key.strip_prefix("audio_spectrogram_transformer.")?, view))
    });
    let path = dir.path().join("model.safetensors");
    std::fs::write(path, safetensors::serialize(bare, None).unwrap()).unwrap();
    let config = std::fs::read_to_string(whole.join("config.json")).unwrap();
    let config = config.replace("ASTForAudioClassification", "ASTModel");
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    // Without a file of its own the front end has the class defaults in the lengths of the network.
    let mut ast = Ast::load(&Layout::open(dir.path()).unwrap()).unwrap();
    assert_eq!((ast.rate_hz(), ast.window()), (16_000, 128 * 160));
    let classifying = Ast::load(&Layout::open(&whole).unwrap()).unwrap();
    let pcm = clip("word16k.flac").pcm;
    let pooled = classifying
        .pooled(&ast.features(&pcm).unwrap())
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    assert!(classifying.classifies() && !ast.classifies());
    assert_eq!(ast.run(&pcm).unwrap(), pooled);
    assert_eq!(ast.run(&[]).unwrap().len(), 32);
}

#[test]
fn features_of_another_shape_are_an_error() {
    let ast = Ast::load(&Layout::open(&golden("fixtures/ast-keyword")).unwrap()).unwrap();
    let features = ast.features(&[]).unwrap();
    for wrong in [
        features.narrow(1, 0, 16).unwrap(),
        features.narrow(2, 0, 64).unwrap(),
        features.squeeze(0).unwrap(),
    ] {
        let error = ast.pooled(&wrong).unwrap_err().to_string();
        assert!(
            error.contains("expected features (batch, 128, 128)"),
            "{error}"
        );
    }
}

#[test]
fn settings_that_make_no_network_are_refused() {
    refuses(
        "ast-keyword",
        Ast::load,
        &[
            (
                config("num_attention_heads", 0),
                "num_attention_heads: expected at least 1, got 0",
            ),
            (
                config("num_attention_heads", 5),
                "num_attention_heads: expected a divisor of hidden_size, which is 32, got 5",
            ),
            (
                config("num_attention_heads", -4),
                "config.json: num_attention_heads: invalid value: integer `-4`",
            ),
            (
                config("hidden_size", "32"),
                "config.json: hidden_size: invalid type: string \"32\"",
            ),
            (
                config("hidden_size", 0),
                "hidden_size: expected at least 1, got 0",
            ),
            (
                config("hidden_size", 64),
                "patch_embeddings.projection.weight: expected shape [64, 1, 16, 16], got [32, 1, 16, 16]",
            ),
            (
                config("hidden_size", 1u64 << 62),
                "patch_embeddings.projection.weight: expected shape",
            ),
            (
                config("num_hidden_layers", u64::MAX),
                "encoder.layer.2.layernorm_before.weight: expected shape [32], got no such tensor",
            ),
            (
                config("intermediate_size", 0),
                "intermediate_size: expected at least 1, got 0",
            ),
            (
                config("layer_norm_eps", -1.0),
                "layer_norm_eps: expected 0 or more, got -1",
            ),
            (
                config("patch_size", 0),
                "patch_size: expected at least 1, got 0",
            ),
            (
                config("patch_size", 129),
                "patch_size: expected at most num_mel_bins, which is 128, got 129",
            ),
            (
                config("patch_size", json!([16, 16])),
                "config.json: patch_size: invalid type: sequence",
            ),
            (
                config("frequency_stride", 0),
                "frequency_stride: expected at least 1, got 0",
            ),
            (
                config("time_stride", 0),
                "time_stride: expected at least 1, got 0",
            ),
            (
                config("time_stride", 1),
                "position_embeddings: expected shape [1, 1358, 32], got [1, 146, 32]",
            ),
            (
                config("max_length", u64::MAX),
                "position_embeddings: expected shape",
            ),
            // One more leaves the number of patches, so that the tensors alone do not tell.
            (
                config("max_length", 129),
                "max_length: expected 128 as the feature extractor has it, got 129",
            ),
            (
                config("num_mel_bins", 129),
                "num_mel_bins: expected 128 as the feature extractor has it, got 129",
            ),
            (
                config("qkv_bias", "yes"),
                "config.json: qkv_bias: invalid type",
            ),
            (
                config("hidden_act", "maxout"),
                "config.json: hidden_act: expected the name of an activation",
            ),
            (
                config("id2label", json!({"0": "a"})),
                "classifier.dense.bias: expected shape [1], got [10]",
            ),
            (
                settings("max_length", 0),
                "preprocessor_config.json: max_length: expected",
            ),
            (
                settings("feature_extractor_type", "ClapFeatureExtractor"),
                "preprocessor_config.json: feature_extractor_type: expected ASTFeatureExtractor",
            ),
        ],
    );
}

#[test]
fn missing_and_misshapen_tensors_are_refused() {
    const BASE: &str = "audio_spectrogram_transformer";
    let projection = format!("{BASE}.embeddings.patch_embeddings.projection.weight");
    let positions = format!("{BASE}.embeddings.position_embeddings");
    let query = format!("{BASE}.encoder.layer.1.attention.attention.query.weight");
    let norm = format!("{BASE}.layernorm.bias");
    let text = |key: &str, rest: &str| format!("model.safetensors: {key}: {rest}");
    refuses(
        "ast-keyword",
        Ast::load,
        &[
            (
                Spoil::Drop(&query),
                &text(&query, "expected shape [32, 32], got no such tensor"),
            ),
            (
                Spoil::Drop(&norm),
                &text(&norm, "expected shape [32], got no such tensor"),
            ),
            (
                Spoil::Drop("classifier.dense.bias"),
                &text(
                    "classifier.dense.bias",
                    "expected shape [10], got no such tensor",
                ),
            ),
            (
                Spoil::Drop("classifier.layernorm.weight"),
                &text(
                    "classifier.layernorm.weight",
                    "expected shape [32], got no such tensor",
                ),
            ),
            (
                Spoil::Reshape(&query, &[1024]),
                &text(&query, "expected shape [32, 32], got [1024]"),
            ),
            (
                Spoil::Reshape(&positions, &[146, 32]),
                &text(&positions, "expected shape [1, 146, 32], got [146, 32]"),
            ),
            (
                Spoil::Reshape(&projection, &[32, 256]),
                &text(&projection, "expected shape [32, 1, 16, 16], got [32, 256]"),
            ),
        ],
    );
}
