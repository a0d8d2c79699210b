//! A small CLAP to be trained from random weights: 5 s at 16 kHz into a three-stage HTS-AT, phrases into a
//! two-layer RoBERTa, written as a directory of `ClapModel` (transformers 5.23) like any published one.
//!
//! Linear layers begin as PyTorch's do (uniform, by the number of inputs), embeddings normal at 0.02 as
//! RoBERTa's, distances of Swin at 0. Batch normalisation of the mel bands begins with the statistics of
//! the data, so that decibels come in near 0 and 1.

use std::collections::HashMap;
use std::path::Path;

use fastrand::Rng;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use super::files;
use super::loss::FIRST_LOG_SCALE;
use super::vocabulary;
use crate::features::clap_mel::{ClapMel, ClapMelConfig, ClapPadding, ClapTruncation};
use crate::models::ModelError;

/// The name of the recipe on the command line.
pub const NAME: &str = "small-clap";

/// Samples a second, as the clips and everything else here has it.
pub const RATE_HZ: u32 = 16_000;
/// Bands of the spectrogram.
const MELS: usize = 64;
/// Pixels a side of the image: 256 frames of 20 ms in two strips, of which 5 s fill 251.
const SPEC_SIZE: usize = 128;
const HOP: usize = 320;
const FFT: usize = 1024;
const SECONDS: usize = 5;
const LOW_HZ: u32 = 50;
const HIGH_HZ: u32 = 8_000;

/// Pixels a side of a patch.
const PATCH: usize = 4;
/// Values of a token in the first stage.
const WIDTH: usize = 32;
const DEPTHS: [usize; 3] = [2, 2, 2];
const HEADS: [usize; 3] = [2, 4, 8];
/// Tokens a side of an attention window; the last stage is one window.
const WINDOW: usize = 8;
const MLP_RATIO: usize = 4;

const TEXT_HIDDEN: usize = 128;
const TEXT_LAYERS: usize = 2;
const TEXT_HEADS: usize = 4;
const TEXT_INNER: usize = 512;
/// Tokens of the longest phrase.
pub const MAX_TOKENS: usize = 64;
/// Positions before that of the first token: RoBERTa counts from behind its padding token.
const POSITIONS_BEFORE: usize = 2;

/// Values of an embedding.
const DIM: usize = 128;

/// The most tokens of the vocabulary: 256 bytes, 5 special ones, and pieces of words.
pub const VOCABULARY: usize = 1536;

/// What the mel bands have in the data, in decibels.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Mean of each band.
    pub mean: Vec<f32>,
    /// Variance of each band.
    pub var: Vec<f32>,
}

fn mel_config() -> ClapMelConfig {
    ClapMelConfig {
        feature_size: MELS,
        sampling_rate: RATE_HZ,
        hop_length: HOP,
        max_length_s: SECONDS,
        fft_window_size: FFT,
        frequency_min: f64::from(LOW_HZ),
        frequency_max: f64::from(HIGH_HZ),
        truncation: ClapTruncation::RandTrunc,
        padding: ClapPadding::RepeatPad,
    }
}

/// What every band has over some clips.
pub fn statistics<'a>(clips: impl Iterator<Item = &'a [f32]>) -> Statistics {
    let front_end = ClapMel::new(mel_config());
    let (mut count, mut sum, mut squares) = (0.0, [0f64; MELS], [0f64; MELS]);
    for pcm in clips {
        for frame in front_end.compute(pcm).values.chunks_exact(MELS) {
            count += 1.0;
            for ((value, sum), square) in frame.iter().zip(&mut sum).zip(&mut squares) {
                *sum += f64::from(*value);
                *square += f64::from(*value) * f64::from(*value);
            }
        }
    }
    let count = f64::max(count, 1.0);
    Statistics {
        mean: sum.iter().map(|sum| (sum / count) as f32).collect(),
        var: sum
            .iter()
            .zip(&squares)
            .map(|(sum, square)| (square / count - (sum / count).powi(2)).max(1.0) as f32)
            .collect(),
    }
}

/// Writes the directory: configuration, tokenizer learnt from `texts`, front end and random weights.
///
/// # Errors
/// When the texts make no vocabulary or the disk refuses.
pub fn write(
    dir: &Path,
    texts: &[String],
    statistics: &Statistics,
    seed: u64,
) -> Result<(), ModelError> {
    let tokens = vocabulary::write(dir, texts, VOCABULARY, MAX_TOKENS)?;
    let put = |name: &str, value: &Value| {
        files::write(&dir.join(name), format!("{value:#}\n").as_bytes())
    };
    put("config.json", &config(tokens))?;
    put("preprocessor_config.json", &preprocessor())?;
    files::write(
        &dir.join("model.safetensors"),
        &weights(tokens, statistics, seed)?,
    )
}

fn config(tokens: usize) -> Value {
    json!({
        "architectures": ["ClapModel"],
        "model_type": "clap",
        "projection_dim": DIM,
        "projection_hidden_act": "relu",
        "logit_scale_init_value": 1.0 / 0.07,
        "audio_config": {
            "model_type": "clap_audio_model",
            "num_mel_bins": MELS,
            "spec_size": SPEC_SIZE,
            "patch_size": PATCH,
            "patch_stride": [PATCH, PATCH],
            "patch_embeds_hidden_size": WIDTH,
            "hidden_size": WIDTH << (DEPTHS.len() - 1),
            "depths": DEPTHS,
            "num_attention_heads": HEADS,
            "num_hidden_layers": DEPTHS.len(),
            "window_size": WINDOW,
            "mlp_ratio": MLP_RATIO as f64,
            "qkv_bias": true,
            "hidden_act": "gelu",
            "enable_fusion": false,
            "fusion_type": null,
            "projection_dim": DIM,
        },
        "text_config": {
            "model_type": "clap_text_model",
            "vocab_size": tokens,
            "hidden_size": TEXT_HIDDEN,
            "num_hidden_layers": TEXT_LAYERS,
            "num_attention_heads": TEXT_HEADS,
            "intermediate_size": TEXT_INNER,
            "max_position_embeddings": MAX_TOKENS + POSITIONS_BEFORE,
            "type_vocab_size": 1,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "projection_dim": DIM,
        },
    })
}

fn preprocessor() -> Value {
    json!({
        "feature_extractor_type": "ClapFeatureExtractor",
        "processor_class": "ClapProcessor",
        "feature_size": MELS,
        "sampling_rate": RATE_HZ,
        "hop_length": HOP,
        "fft_window_size": FFT,
        "max_length_s": SECONDS,
        "frequency_min": LOW_HZ,
        "frequency_max": HIGH_HZ,
        "truncation": "rand_trunc",
        "padding": "repeatpad",
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": false,
    })
}

/// How the values of a tensor begin.
enum First {
    Linear(usize),
    Normal,
    All(f32),
    Given(Vec<f32>),
}

/// Every tensor with its shape and how it begins, in the order of the network.
struct Listed(Vec<(String, Vec<usize>, First)>);

impl Listed {
    fn put(&mut self, key: String, shape: &[usize], first: First) {
        self.0.push((key, shape.to_vec(), first));
    }

    fn linear(&mut self, at: &str, inputs: usize, outputs: usize) {
        self.put(
            format!("{at}.weight"),
            &[outputs, inputs],
            First::Linear(inputs),
        );
        self.put(format!("{at}.bias"), &[outputs], First::All(0.0));
    }

    fn norm(&mut self, at: &str, width: usize) {
        self.put(format!("{at}.weight"), &[width], First::All(1.0));
        self.put(format!("{at}.bias"), &[width], First::All(0.0));
    }

    fn audio(&mut self, statistics: &Statistics) {
        let root = "audio_model.audio_encoder";
        self.norm(&format!("{root}.batch_norm"), MELS);
        for (part, values) in [("mean", &statistics.mean), ("var", &statistics.var)] {
            let key = format!("{root}.batch_norm.running_{part}");
            self.put(key, &[MELS], First::Given(values.clone()));
        }
        let embed = format!("{root}.patch_embed");
        self.put(
            format!("{embed}.proj.weight"),
            &[WIDTH, 1, PATCH, PATCH],
            First::Linear(PATCH * PATCH),
        );
        self.put(format!("{embed}.proj.bias"), &[WIDTH], First::All(0.0));
        self.norm(&format!("{embed}.norm"), WIDTH);
        let reach = 2 * WINDOW - 1;
        for (stage, (&depth, &heads)) in DEPTHS.iter().zip(&HEADS).enumerate() {
            let width = WIDTH << stage;
            let stage_at = format!("{root}.layers.{stage}");
            for block in 0..depth {
                let at = format!("{stage_at}.blocks.{block}");
                self.norm(&format!("{at}.layernorm_before"), width);
                self.norm(&format!("{at}.layernorm_after"), width);
                for part in ["self.query", "self.key", "self.value", "output.dense"] {
                    self.linear(&format!("{at}.attention.{part}"), width, width);
                }
                self.put(
                    format!("{at}.attention.self.relative_position_bias_table"),
                    &[reach * reach, heads],
                    First::All(0.0),
                );
                self.linear(
                    &format!("{at}.intermediate.dense"),
                    width,
                    MLP_RATIO * width,
                );
                self.linear(&format!("{at}.output.dense"), MLP_RATIO * width, width);
            }
            if stage + 1 < DEPTHS.len() {
                let at = format!("{stage_at}.downsample");
                self.norm(&format!("{at}.norm"), 4 * width);
                self.put(
                    format!("{at}.reduction.weight"),
                    &[2 * width, 4 * width],
                    First::Linear(4 * width),
                );
            }
        }
        self.norm(&format!("{root}.norm"), WIDTH << (DEPTHS.len() - 1));
    }

    fn text(&mut self, tokens: usize) {
        let root = "text_model";
        let embeddings = format!("{root}.embeddings");
        for (key, rows) in [
            ("word", tokens),
            ("position", MAX_TOKENS + POSITIONS_BEFORE),
            ("token_type", 1),
        ] {
            let key = format!("{embeddings}.{key}_embeddings.weight");
            self.put(key, &[rows, TEXT_HIDDEN], First::Normal);
        }
        self.norm(&format!("{embeddings}.LayerNorm"), TEXT_HIDDEN);
        for layer in 0..TEXT_LAYERS {
            let at = format!("{root}.encoder.layer.{layer}");
            for part in ["self.query", "self.key", "self.value", "output.dense"] {
                self.linear(&format!("{at}.attention.{part}"), TEXT_HIDDEN, TEXT_HIDDEN);
            }
            self.norm(&format!("{at}.attention.output.LayerNorm"), TEXT_HIDDEN);
            self.linear(&format!("{at}.intermediate.dense"), TEXT_HIDDEN, TEXT_INNER);
            self.linear(&format!("{at}.output.dense"), TEXT_INNER, TEXT_HIDDEN);
            self.norm(&format!("{at}.output.LayerNorm"), TEXT_HIDDEN);
        }
        self.linear(&format!("{root}.pooler.dense"), TEXT_HIDDEN, TEXT_HIDDEN);
    }

    fn rest(&mut self) {
        for (side, inputs) in [
            ("audio", WIDTH << (DEPTHS.len() - 1)),
            ("text", TEXT_HIDDEN),
        ] {
            self.linear(&format!("{side}_projection.linear1"), inputs, DIM);
            self.linear(&format!("{side}_projection.linear2"), DIM, DIM);
        }
        for key in ["logit_scale_a", "logit_scale_t"] {
            self.put(key.to_owned(), &[], First::All(FIRST_LOG_SCALE));
        }
    }
}

/// Spread of an embedding's values: `initializer_range` of RoBERTa.
const EMBEDDING_SPREAD: f32 = 0.02;

/// A value of the normal distribution (Box and Muller, 1958).
fn normal(rng: &mut Rng) -> f32 {
    let radius = (-2.0 * rng.f32().max(f32::MIN_POSITIVE).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.f32()).cos()
}

fn weights(tokens: usize, statistics: &Statistics, seed: u64) -> Result<Vec<u8>, ModelError> {
    let mut listed = Listed(Vec::new());
    listed.audio(statistics);
    listed.text(tokens);
    listed.rest();
    let mut rng = Rng::with_seed(seed);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = listed
        .0
        .into_iter()
        .map(|(key, shape, first)| {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = match first {
                First::Given(values) => values,
                First::All(value) => vec![value; count],
                First::Normal => (0..count)
                    .map(|_| EMBEDDING_SPREAD * normal(&mut rng))
                    .collect(),
                First::Linear(inputs) => {
                    let bound = (1.0 / inputs as f32).sqrt();
                    (0..count)
                        .map(|_| bound * (2.0 * rng.f32() - 1.0))
                        .collect()
                }
            };
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            (key, shape, bytes)
        })
        .collect();
    let failed = |error: safetensors::SafeTensorError| {
        ModelError::Format(format!("the weights of {NAME}: {error}"))
    };
    let views = tensors
        .iter()
        .map(|(key, shape, bytes)| Ok((key, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    // transformers refuses a file that does not say for which library it is.
    let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(note)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::clap::Clap;
    use crate::models::layout::Layout;

    #[test]
    fn it_is_a_clap_that_hears_and_reads_and_the_seed_decides() {
        let texts: Vec<String> = [
            "a dog barks",
            "the dog is barking",
            "a bell rings, bells ring",
        ]
        .map(str::to_owned)
        .into();
        let tone: Vec<f32> = (0..16_000).map(|n| (n as f32 * 0.2).sin()).collect();
        let found = statistics([tone.as_slice()].into_iter());
        assert!(
            found.var.iter().all(|var| *var >= 1.0) && found.mean.iter().any(|mean| *mean < 0.0)
        );
        let make = |seed| {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &texts, &found, seed).unwrap();
            let clap = Clap::load(&Layout::open(dir.path()).unwrap()).unwrap();
            let sound = clap.audio.embed(&tone).unwrap();
            // A word that was never seen, and one that is no English.
            let phrase = clap.text.embed("xylophone žluťoučký").unwrap();
            assert!((clap.logit_scale.a.exp() - 1.0 / 0.07).abs() < 1e-3);
            (sound, phrase)
        };
        let (sound, phrase) = make(1);
        assert_eq!((sound.len(), phrase.len()), (DIM, DIM));
        assert!(sound.iter().chain(&phrase).all(|value| value.is_finite()));
        assert_eq!(make(1), (sound.clone(), phrase));
        assert_ne!(make(2).0, sound);
    }
}
