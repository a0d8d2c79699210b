//! wav2vec 2.0, HuBERT and WavLM against transformers, and what they refuse.

use harkd::models::layout::Layout;
use harkd::models::network::Network;
use harkd::models::speech_encoder::{SpeechModel, Stage};
use harkd::models::{ModelError, hubert, wav2vec2, wavlm};
use serde_json::json;

use crate::spoil::{Spoil, config, refuses, settings};
use crate::support::{Fixture, check_scores, check_state, clip, golden};

const TOLERANCE: f32 = 1e-4;

type Load = fn(&Layout) -> Result<SpeechModel, ModelError>;

fn layout(case: &str) -> Layout {
    Layout::open(&golden("fixtures").join(case)).unwrap()
}

/// The key under which the fixtures keep a stage, and whether channels come before time there.
fn key(stage: Stage, last_conv: usize) -> Option<(String, bool)> {
    Some(match stage {
        Stage::Conv(0) => ("conv.0".to_owned(), true),
        Stage::Conv(layer) if layer == last_conv => ("conv.last".to_owned(), true),
        Stage::Conv(_) => return None,
        Stage::Projection => ("projection".to_owned(), false),
        Stage::Positions => ("positions".to_owned(), false),
        Stage::Hidden(layer) => (format!("hidden.{layer}"), false),
        Stage::Last => ("last".to_owned(), false),
        Stage::Adapter => ("adapter".to_owned(), false),
        Stage::Weighted => ("weighted".to_owned(), false),
        Stage::Pooled => ("pooled".to_owned(), false),
        Stage::Tdnn(layer) => (format!("tdnn.{layer}"), false),
        Stage::Statistics => ("statistics".to_owned(), false),
    })
}

/// Compares everything that the fixture keeps of its first clip, but the outputs.
fn check_layers(case: &str, model: &SpeechModel) {
    let fixture = Fixture::open(case);
    let first = fixture.note("audio").unwrap();
    let wave = model.features(&clip(first).pcm).unwrap();
    let flat = wave.squeeze(2).unwrap();
    check_state(&fixture, &format!("features/{first}"), &flat, TOLERANCE);
    let mut unseen = fixture.keys("");
    unseen.retain(|key| {
        let kind = key.split('/').next().unwrap();
        key.ends_with(first) && !["features", "logits", "scores", "embedding"].contains(&kind)
    });
    model
        .forward(&wave, &mut |stage, x| {
            let Some((key, channels_first)) = key(stage, 6) else {
                return Ok(());
            };
            let key = format!("{key}/{first}");
            if let Some(at) = unseen.iter().position(|other| *other == key) {
                unseen.remove(at);
                let x = match channels_first {
                    true => x.transpose(1, 2)?,
                    false => x.clone(),
                };
                check_state(&fixture, &key, &x, TOLERANCE);
            }
            Ok(())
        })
        .unwrap();
    assert!(unseen.is_empty(), "{case}: not seen: {unseen:?}");
}

/// A checkpoint that classifies.
fn classifies(case: &str, load: Load) {
    let mut network = load(&layout(case)).unwrap();
    check_layers(case, &network);
    assert!(network.classifies());
    assert_eq!(network.embedding_dim(), None);
    check_scores(&Fixture::open(case), &layout(case), &mut network, TOLERANCE);
}

/// A checkpoint that embeds; `key` is what its embeddings are kept as.
fn embeds(case: &str, load: Load, key: &str) {
    let mut network = load(&layout(case)).unwrap();
    check_layers(case, &network);
    assert!(!network.classifies());
    let dim = network.embedding_dim().unwrap();
    let fixture = Fixture::open(case);
    let keys = fixture.keys(key);
    assert!(!keys.is_empty(), "{case}");
    for of_clip in keys {
        let clip = clip(of_clip.strip_prefix(key).unwrap());
        let embedding = network.run(&clip.pcm).unwrap();
        fixture.check(&of_clip, &[dim], &embedding, TOLERANCE);
    }
}

#[test]
fn wav2vec2_of_a_config_without_optional_keys_equals_the_reference() {
    classifies("wav2vec2-group", wav2vec2::load);
}

#[test]
fn xls_r_with_a_weighted_sum_of_layers_equals_the_reference() {
    classifies("wav2vec2-stable", wav2vec2::load);
}

#[test]
fn wav2vec2_of_sound_as_it_is_equals_the_reference() {
    classifies("wav2vec2-raw", wav2vec2::load);
}

#[test]
fn adapters_in_the_layers_equal_the_reference() {
    classifies("wav2vec2-attention-adapter", wav2vec2::load);
}

#[test]
fn an_adapter_above_the_encoder_equals_the_reference() {
    embeds("wav2vec2-adapter", wav2vec2::load, "pooled/");
}

#[test]
fn hubert_equals_the_reference() {
    classifies("hubert-sequence", hubert::load);
}

#[test]
fn hubert_with_stable_norms_equals_the_reference() {
    classifies("hubert-stable", hubert::load);
}

#[test]
fn hubert_with_batch_normalised_positions_equals_the_reference() {
    classifies("hubert-batch-norm", hubert::load);
}

#[test]
fn a_bare_hubert_gives_the_mean_over_time() {
    for case in ["hubert-base", "distilhubert"] {
        embeds(case, hubert::load, "pooled/");
    }
}

#[test]
fn distilhubert_with_a_genre_head_equals_the_reference() {
    classifies("distilhubert-genre", hubert::load);
}

#[test]
fn wavlm_equals_the_reference() {
    classifies("wavlm-sequence", wavlm::load);
}

#[test]
fn wavlm_with_stable_norms_equals_the_reference() {
    classifies("wavlm-stable", wavlm::load);
}

#[test]
fn x_vectors_of_wavlm_equal_the_reference() {
    embeds("wavlm-sv", wavlm::load, "embedding/");
}

#[test]
fn a_clip_that_is_too_short_is_filled_with_silence() {
    let mut model = wav2vec2::load(&layout("wav2vec2-raw")).unwrap();
    assert_eq!((model.rate_hz(), model.window()), (16_000, 80_000));
    let pcm = clip("words16k.flac").pcm;
    let mut run = |samples: &[f32]| model.run(samples).unwrap();
    let mut filled = pcm[9_000..9_300].to_vec();
    filled.resize(400, 0.0);
    assert_eq!(run(&pcm[9_000..9_300]), run(&filled));
    assert_eq!(run(&[]), run(&[0.0; 400]));
    // Five convolutions of an x-vector need 16 steps of 20 ms to leave two.
    let mut speaker = wavlm::load(&layout("wavlm-sv")).unwrap();
    for samples in [0, 1, 399, 400, 5_199, 5_200] {
        let embedding = speaker.run(&pcm[..samples]).unwrap();
        assert!(embedding.iter().all(|value| value.is_finite()), "{samples}");
    }
}

#[test]
fn a_batch_gives_what_each_clip_gives() {
    let case = "wavlm-sequence";
    let model = wavlm::load(&layout(case)).unwrap();
    let pcm = clip("words16k.flac").pcm;
    let clips = [&pcm[..30_000], &pcm[30_000..60_000]].map(|pcm| model.features(pcm).unwrap());
    let batch = candle_core::Tensor::cat(&clips, 0).unwrap();
    let mut ignore = |_: Stage, _: &candle_core::Tensor| Ok(());
    let together = model.forward(&batch, &mut ignore).unwrap();
    for (row, clip) in clips.iter().enumerate() {
        let alone = model.forward(clip, &mut ignore).unwrap();
        let diff = (together.narrow(0, row, 1).unwrap() - alone).unwrap();
        let diff = diff.abs().unwrap().max_all().unwrap();
        assert!(diff.to_scalar::<f32>().unwrap() < 1e-5);
    }
}

#[test]
fn what_makes_no_wav2vec2_is_refused() {
    let query = "wav2vec2.encoder.layers.1.attention.q_proj.weight";
    let length = "wav2vec2.encoder.pos_conv_embed.conv.weight_g";
    refuses(
        "wav2vec2-stable",
        wav2vec2::load,
        &[
            (
                config("num_attention_heads", 0),
                "config.json: num_attention_heads: expected at least 1, got 0",
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
                config("hidden_size", u64::MAX),
                "config.json: hidden_size: expected at most 65536",
            ),
            (
                config("hidden_size", 64),
                "projector.weight: expected shape [20, 64], got [20, 32]",
            ),
            (
                config("num_hidden_layers", 0),
                "config.json: num_hidden_layers: expected at least 1, got 0",
            ),
            (
                config("num_hidden_layers", 65_536),
                "layer_weights: expected shape [65537], got [3]",
            ),
            (
                config("conv_dim", json!([])),
                "config.json: conv_dim: expected at least one layer, got none",
            ),
            (
                config("conv_dim", vec![16, 16, 16, 16, 16, 0, 24]),
                "config.json: conv_dim[5]: expected at least 1, got 0",
            ),
            (
                config("conv_kernel", vec![10, 3, 3]),
                "config.json: conv_kernel: expected 7 values, as many as conv_dim has, got 3",
            ),
            (
                config("conv_kernel", 10),
                "config.json: conv_kernel: invalid type: integer `10`",
            ),
            (
                config("conv_kernel", vec![10, 3, 3, 4, 3, 2, 2]),
                "conv_layers.3.conv.weight: expected shape [16, 16, 4], got [16, 16, 3]",
            ),
            (
                config("conv_stride", vec![5, 2, 2, 0, 2, 2, 2]),
                "config.json: conv_stride[3]: expected at least 1, got 0",
            ),
            (
                config("conv_stride", vec![1u64 << 62; 7]),
                "config.json: conv_stride[0]: expected at most 65536",
            ),
            (
                config("conv_stride", vec![65_536; 7]),
                "config.json: conv_stride: expected a network that answers to 16777216 samples",
            ),
            (
                config("feat_extract_norm", "batch"),
                "config.json: feat_extract_norm: unknown variant `batch`",
            ),
            (
                config("feat_extract_activation", "maxout"),
                "config.json: feat_extract_activation: expected the name of an activation",
            ),
            (
                config("num_conv_pos_embeddings", 0),
                "num_conv_pos_embeddings: expected at least 1, got 0",
            ),
            (
                config("num_conv_pos_embeddings", 64),
                "pos_conv_embed.conv.weight_g: expected shape [1, 1, 64], got [1, 1, 128]",
            ),
            (
                config("num_conv_pos_embedding_groups", 3),
                "num_conv_pos_embedding_groups: expected a divisor of hidden_size",
            ),
            (
                config("layer_norm_eps", -1.0),
                "config.json: layer_norm_eps: expected 0 or more, got -1",
            ),
            (
                config("adapter_attn_dim", 0),
                "config.json: adapter_attn_dim: expected at least 1, got 0",
            ),
            (
                config("adapter_attn_dim", 8),
                "layers.0.adapter_layer.norm.weight: expected shape [32], got no such tensor",
            ),
            (
                config("add_adapter", true),
                "config.json: add_adapter: expected false where a clip is classified",
            ),
            (
                config("classifier_proj_size", 0),
                "config.json: classifier_proj_size: expected at least 1, got 0",
            ),
            (
                config("id2label", json!({"0": "a"})),
                "classifier.bias: expected shape [1], got [7]",
            ),
            (
                config("architectures", vec!["Wav2Vec2ForXVector"]),
                "projector.bias: expected shape [512], got [20]",
            ),
            (
                settings("sampling_rate", 0),
                "preprocessor_config.json: sampling_rate: ",
            ),
            (
                Spoil::Drop(query),
                "layers.1.attention.q_proj.weight: expected shape [32, 32], got no such tensor",
            ),
            (
                Spoil::Reshape(query, &[1024]),
                "layers.1.attention.q_proj.weight: expected shape [32, 32], got [1024]",
            ),
            (
                Spoil::Drop(length),
                "conv.weight_g: expected shape [1, 1, 128], got no such tensor",
            ),
            (
                Spoil::Reshape(length, &[128]),
                "conv.weight_g: expected shape [1, 1, 128], got [128]",
            ),
            (
                Spoil::Drop("wav2vec2.feature_extractor.conv_layers.0.conv.bias"),
                "conv_layers.0.conv.bias: expected shape [16], got no such tensor",
            ),
            (
                Spoil::Drop("layer_weights"),
                "layer_weights: expected shape [3], got no such tensor",
            ),
            (
                Spoil::Drop("classifier.weight"),
                "classifier.weight: expected shape [7, 20], got no such tensor",
            ),
        ],
    );
}

#[test]
fn an_adapter_that_does_not_fit_is_refused() {
    refuses(
        "wav2vec2-adapter",
        wav2vec2::load,
        &[
            (
                config("adapter_stride", 0),
                "config.json: adapter_stride: expected at least 1, got 0",
            ),
            (
                config("adapter_stride", "2"),
                "config.json: adapter_stride: invalid type",
            ),
            (
                config("adapter_kernel_size", 5),
                "adapter.layers.0.conv.weight: expected shape [48, 24, 5], got [48, 24, 3]",
            ),
            (
                config("adapter_kernel_size", 1u64 << 63),
                "config.json: adapter_kernel_size: expected at most 65536",
            ),
            (
                config("num_adapter_layers", 4),
                "adapter.layers.3.conv.bias: expected shape [48], got no such tensor",
            ),
            (
                config("output_hidden_size", 20),
                "adapter.proj.bias: expected shape [20], got [24]",
            ),
            (
                config("output_hidden_size", 1u64 << 40),
                "config.json: output_hidden_size: expected at most 65536",
            ),
            (
                Spoil::Drop("adapter.layers.1.conv.bias"),
                "adapter.layers.1.conv.bias: expected shape [48], got no such tensor",
            ),
        ],
    );
}

#[test]
fn what_makes_no_hubert_is_refused() {
    refuses(
        "hubert-batch-norm",
        hubert::load,
        &[
            (
                config("conv_pos_batch_norm", false),
                "conv.parametrizations.weight.original0: expected shape [1, 1, 128]",
            ),
            (
                config("feat_proj_layer_norm", 7),
                "config.json: feat_proj_layer_norm: invalid type",
            ),
            (
                Spoil::Drop("hubert.encoder.pos_conv_embed.batch_norm.running_var"),
                "batch_norm.running_var: expected shape [32], got no such tensor",
            ),
        ],
    );
}

#[test]
fn what_makes_no_wavlm_is_refused() {
    let gate = "wavlm.encoder.layers.1.attention.gru_rel_pos_linear.weight";
    let table = "wavlm.encoder.layers.0.attention.rel_attn_embed.weight";
    let speaker = |key, value| {
        let keys = [
            ("architectures", json!(["WavLMForXVector"])),
            ("tdnn_dim", json!([20, 24])),
            ("tdnn_kernel", json!([5, 3])),
            ("tdnn_dilation", json!([1, 2])),
            (key, value),
        ];
        Spoil::All(keys.map(|(key, value)| config(key, value)).into())
    };
    refuses(
        "wavlm-sequence",
        wavlm::load,
        &[
            (
                config("num_buckets", 0),
                "config.json: num_buckets: expected at least 1, got 0",
            ),
            (
                config("num_buckets", 3),
                "config.json: num_buckets: expected at least 4, got 3",
            ),
            (
                config("num_buckets", 160),
                "attention.rel_attn_embed.weight: expected shape [160, 4], got [320, 4]",
            ),
            (
                config("max_bucket_distance", 80),
                "max_bucket_distance: expected more than a quarter of num_buckets, which is 80",
            ),
            (
                Spoil::Reshape(gate, &[4, 16]),
                "gru_rel_pos_linear.weight: expected shape [8, 8], got [4, 16]",
            ),
            (
                Spoil::Drop(table),
                "rel_attn_embed.weight: expected shape [320, 4], got no such tensor",
            ),
            (
                speaker("tdnn_dim", json!([])),
                "config.json: tdnn_dim: expected at least one layer, got none",
            ),
            (
                speaker("tdnn_kernel", json!([5])),
                "config.json: tdnn_kernel: expected 2 values, as many as tdnn_dim has, got 1",
            ),
            (
                speaker("tdnn_dilation", json!([1, 0])),
                "config.json: tdnn_dilation[1]: expected at least 1, got 0",
            ),
            (
                speaker("xvector_output_dim", json!(0)),
                "config.json: xvector_output_dim: expected at least 1, got 0",
            ),
            (
                speaker("add_adapter", json!(false)),
                "tdnn.0.kernel.weight: expected shape [20, 100], got no such tensor",
            ),
        ],
    );
}
