//! The Audio Spectrogram Transformer (Gong et al., *AST: Audio Spectrogram Transformer*, 2021), as
//! `ASTModel` and `ASTForAudioClassification` of transformers 5.23 compute it.
//!
//! Overlapping patches of a log mel spectrogram of fixed length go through a transformer behind two
//! tokens, whose mean at the end is what is classified. A checkpoint of the bare `ASTModel` gives that
//! mean as an embedding. Keys are those of the published checkpoints, which transformers renames when
//! it loads them.

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::ModelError;
use super::layout::Layout;
use super::network::Network;
use crate::features::Settings;
use crate::features::kaldi_fbank::{KaldiFbank, KaldiFbankConfig};
use crate::nn::layers::{Activation, Conv2d, Conv2dSpec, LayerNorm, Linear, attention};
use crate::nn::params::{Parameter, Params};

/// The class token and the distillation token, which stand before the patches.
const TOKENS: usize = 2;

/// `config.json`, with the keys and the defaults of `ASTConfig`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Values of a token.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of an attention.
    pub num_attention_heads: usize,
    /// Values between the two linear layers of a block.
    pub intermediate_size: usize,
    /// Added to every variance.
    pub layer_norm_eps: f64,
    /// Bands and frames of a patch.
    pub patch_size: usize,
    /// Whether queries, keys and values have an offset.
    pub qkv_bias: bool,
    /// Bands from a patch to the next.
    pub frequency_stride: usize,
    /// Frames from a patch to the next.
    pub time_stride: usize,
    /// Frames of the spectrogram.
    pub max_length: usize,
    /// Bands of the spectrogram.
    pub num_mel_bins: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            layer_norm_eps: 1e-12,
            patch_size: 16,
            qkv_bias: true,
            frequency_stride: 10,
            time_stride: 10,
            max_length: 1024,
            num_mel_bins: 128,
        }
    }
}

impl Config {
    /// Reads it and refuses what makes no network.
    fn read(layout: &Layout) -> Result<Self, ModelError> {
        let config: Config = layout.config()?;
        layout.expect_positive(&[
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
            ("num_attention_heads", config.num_attention_heads),
            ("patch_size", config.patch_size),
            ("frequency_stride", config.frequency_stride),
            ("time_stride", config.time_stride),
        ])?;
        layout.expect_divisor(
            ("num_attention_heads", config.num_attention_heads),
            ("hidden_size", config.hidden_size),
        )?;
        for (key, size) in [
            ("num_mel_bins", config.num_mel_bins),
            ("max_length", config.max_length),
        ] {
            if config.patch_size > size {
                return Err(layout.wrong(
                    "patch_size",
                    &format!(
                        "expected at most {key}, which is {size}, got {}",
                        config.patch_size
                    ),
                ));
            }
        }
        if config.layer_norm_eps < 0.0 {
            return Err(layout.wrong(
                "layer_norm_eps",
                &format!("expected 0 or more, got {}", config.layer_norm_eps),
            ));
        }
        Ok(config)
    }

    /// The convolution that makes a token of every patch, over bands and frames.
    fn patches(&self) -> Conv2dSpec {
        Conv2dSpec {
            inputs: 1,
            outputs: self.hidden_size,
            kernel: (self.patch_size, self.patch_size),
            stride: (self.frequency_stride, self.time_stride),
            padding: (0, 0),
        }
    }

    /// The front end, which must make the spectrogram that the network takes.
    fn front_end(&self, layout: &Layout) -> Result<KaldiFbank, ModelError> {
        let config = match Settings::in_dir(layout.dir())? {
            Some(settings) => KaldiFbankConfig::from_settings(&settings)?,
            None => KaldiFbankConfig {
                num_mel_bins: self.num_mel_bins,
                max_length: self.max_length,
                ..Default::default()
            },
        };
        for (key, made, taken) in [
            ("num_mel_bins", config.num_mel_bins, self.num_mel_bins),
            ("max_length", config.max_length, self.max_length),
        ] {
            if made != taken {
                let what = format!("expected {made} as the feature extractor has it, got {taken}");
                return Err(layout.wrong(key, &what));
            }
        }
        Ok(KaldiFbank::new(config))
    }
}

/// Patches, tokens and positions.
struct Embeddings {
    projection: Conv2d,
    /// Class and distillation, `(1, 1, hidden)` each.
    tokens: [Parameter; TOKENS],
    /// Of the tokens and then of the patches, `(1, 2 + patches, hidden)`.
    position_embeddings: Parameter,
}

impl Embeddings {
    fn load(params: &Params, config: &Config) -> Result<Self, ModelError> {
        let spec = config.patches();
        let (bands, frames) = spec.out_size((config.num_mel_bins, config.max_length));
        let patches = bands.saturating_mul(frames);
        let hidden = config.hidden_size;
        let token = |key| params.parameter(key, &[1, 1, hidden]);
        let tokens = patches.saturating_add(TOKENS);
        Ok(Embeddings {
            projection: Conv2d::load(&params.pp("patch_embeddings.projection"), spec)?,
            tokens: [token("cls_token")?, token("distillation_token")?],
            position_embeddings: params.parameter("position_embeddings", &[1, tokens, hidden])?,
        })
    }

    /// `(batch, frames, bands)` to `(batch, tokens, hidden)`: the patches of the lowest bands come
    /// first, in the order of time.
    fn forward(&self, features: &Tensor) -> candle_core::Result<Tensor> {
        let image = features.transpose(1, 2)?.unsqueeze(3)?;
        let patches = self
            .projection
            .forward(&image, Activation::Identity)?
            .flatten(1, 2)?;
        let (batch, count, hidden) = patches.dims3()?;
        let positions = self.position_embeddings.tensor()?;
        let patches = patches.broadcast_add(&positions.narrow(1, TOKENS, count)?)?;
        let [class, distillation] = &self.tokens;
        let tokens = Tensor::cat(&[class.tensor()?, distillation.tensor()?], 1)?;
        let tokens = (tokens + positions.narrow(1, 0, TOKENS)?)?;
        let tokens = tokens.broadcast_as((batch, TOKENS, hidden))?;
        Tensor::cat(&[&tokens, &patches], 1)
    }
}

/// Every token looks at all others.
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    /// `head_dim ** -0.5`.
    scale: f32,
}

impl SelfAttention {
    fn load(params: &Params, config: &Config) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let part = |key: &str| {
            let params = params.pp("attention").pp(key);
            match config.qkv_bias {
                true => Linear::load(&params, hidden, hidden),
                false => Linear::load_no_bias(&params, hidden, hidden),
            }
        };
        let heads = config.num_attention_heads;
        Ok(SelfAttention {
            query: part("query")?,
            key: part("key")?,
            value: part("value")?,
            output: Linear::load(&params.pp("output.dense"), hidden, hidden)?,
            heads,
            scale: ((hidden / heads) as f32).powf(-0.5),
        })
    }

    /// What the first tokens of `x (batch, tokens, hidden)` see, added to `residual (batch, first
    /// tokens, hidden)`.
    fn forward(&self, x: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        let q = self.query.forward(&x.narrow(1, 0, residual.dim(1)?)?)?;
        let (k, v) = (self.key.forward(x)?, self.value.forward(x)?);
        let seen = attention(&q, &k, &v, self.heads, self.scale, None)?;
        self.output.forward_add(&seen, residual)
    }
}

/// One layer: attention, then two linear layers, each after a normalisation and beside a residual.
struct Layer {
    layernorm_before: LayerNorm,
    attention: SelfAttention,
    layernorm_after: LayerNorm,
    intermediate: Linear,
    hidden_act: Activation,
    output: Linear,
}

impl Layer {
    fn load(params: &Params, config: &Config, hidden_act: Activation) -> Result<Self, ModelError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |key| LayerNorm::load(&params.pp(key), hidden, config.layer_norm_eps);
        Ok(Layer {
            layernorm_before: norm("layernorm_before")?,
            attention: SelfAttention::load(&params.pp("attention"), config)?,
            layernorm_after: norm("layernorm_after")?,
            intermediate: Linear::load(&params.pp("intermediate.dense"), hidden, inner)?,
            hidden_act,
            output: Linear::load(&params.pp("output.dense"), inner, hidden)?,
        })
    }

    /// `(batch, tokens, hidden)` to the same.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.forward_first(x, x.dim(1)?)
    }

    /// The first `count` tokens of [`Layer::forward`], at the cost of little more than their own.
    fn forward_first(&self, x: &Tensor, count: usize) -> candle_core::Result<Tensor> {
        let normal = self.layernorm_before.forward(x)?;
        let x = self.attention.forward(&normal, &x.narrow(1, 0, count)?)?;
        drop(normal);
        let inner = self
            .intermediate
            .forward_act(&self.layernorm_after.forward(&x)?, self.hidden_act)?;
        self.output.forward_add(&inner, &x)
    }
}

/// The head of `ASTForAudioClassification`.
struct Classifier {
    layernorm: LayerNorm,
    dense: Linear,
}

impl Classifier {
    fn load(params: &Params, config: &Config, labels: usize) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        Ok(Classifier {
            layernorm: LayerNorm::load(&params.pp("layernorm"), hidden, config.layer_norm_eps)?,
            dense: Linear::load(&params.pp("dense"), hidden, labels)?,
        })
    }

    fn forward(&self, pooled: &Tensor) -> candle_core::Result<Tensor> {
        self.dense.forward(&self.layernorm.forward(pooled)?)
    }
}

/// A loaded Audio Spectrogram Transformer.
pub struct Ast {
    config: Config,
    front_end: KaldiFbank,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    layernorm: LayerNorm,
    classifier: Option<Classifier>,
}

impl Ast {
    /// Loads a directory with `ASTForAudioClassification` or with the bare `ASTModel`.
    ///
    /// # Errors
    /// When the configuration makes no network, the feature extractor does not go with it, or a
    /// tensor is missing or misshapen.
    pub fn load(layout: &Layout) -> Result<Self, ModelError> {
        let config = Config::read(layout)?;
        let hidden_act = layout.activation("hidden_act", Activation::Gelu)?;
        let root = layout.params()?;
        let params = root.base("audio_spectrogram_transformer");
        let embeddings = Embeddings::load(&params.pp("embeddings"), &config)?;
        let layers = params.pp("encoder.layer");
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&layers.pp(index), &config, hidden_act))
            .collect::<Result<_, _>>()?;
        let head = root.pp("classifier");
        let classifier = if layout.architecture() == "ASTForAudioClassification"
            || head.keys().next().is_some()
        {
            Some(Classifier::load(&head, &config, layout.labels()?.len())?)
        } else {
            None
        };
        Ok(Ast {
            front_end: config.front_end(layout)?,
            embeddings,
            layers,
            layernorm: LayerNorm::load(
                &params.pp("layernorm"),
                config.hidden_size,
                config.layer_norm_eps,
            )?,
            classifier,
            config,
        })
    }

    /// Whether it gives logits; a bare `ASTModel` gives an embedding.
    pub fn classifies(&self) -> bool {
        self.classifier.is_some()
    }

    /// The features `(1, frames, bands)` of mono samples.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn features(&self, pcm: &[f32]) -> Result<Tensor, ModelError> {
        let features = self.front_end.compute(pcm);
        let shape = (1, features.frames, features.bins);
        Ok(Tensor::from_vec(features.values, shape, &Device::Cpu)?)
    }

    /// Everything on the way from `features (batch, frames, bands)`: the embeddings, the output of
    /// every layer, and the last of them normalised, each `(batch, tokens, hidden)`.
    ///
    /// # Errors
    /// When the features have another shape.
    pub fn hidden_states(&self, features: &Tensor) -> Result<Vec<Tensor>, ModelError> {
        let mut x = self.embed(features)?;
        let mut states = vec![x.clone()];
        for layer in &self.layers {
            x = layer.forward(&x)?;
            states.push(x.clone());
        }
        states.push(self.layernorm.forward(&x)?);
        Ok(states)
    }

    /// The mean of the two tokens at the end `(batch, hidden)`, of `features (batch, frames, bands)`.
    ///
    /// # Errors
    /// When the features have another shape.
    pub fn pooled(&self, features: &Tensor) -> Result<Tensor, ModelError> {
        let mut x = self.embed(features)?;
        if let Some((last, layers)) = self.layers.split_last() {
            for layer in layers {
                x = layer.forward(&x)?;
            }
            // Nothing looks at the patches behind the last layer.
            x = last.forward_first(&x, TOKENS)?;
        }
        let tokens = self.layernorm.forward(&x.narrow(1, 0, TOKENS)?)?;
        Ok(tokens.mean(1)?)
    }

    /// The logits `(batch, labels)` of what [`Ast::pooled`] gives, or that itself where the
    /// checkpoint has no classifier.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn logits_of(&self, pooled: &Tensor) -> Result<Tensor, ModelError> {
        match &self.classifier {
            Some(classifier) => Ok(classifier.forward(pooled)?),
            None => Ok(pooled.clone()),
        }
    }

    fn embed(&self, features: &Tensor) -> Result<Tensor, ModelError> {
        let (frames, bands) = (self.config.max_length, self.config.num_mel_bins);
        match *features.dims() {
            [_, time, freqs] if (time, freqs) == (frames, bands) => {
                Ok(self.embeddings.forward(features)?)
            }
            ref other => Err(ModelError::Shape(format!(
                "AST: expected features (batch, {frames}, {bands}), got {other:?}"
            ))),
        }
    }
}

impl Network for Ast {
    fn rate_hz(&self) -> u32 {
        self.front_end.rate_hz()
    }

    fn window(&self) -> usize {
        self.front_end.window_samples()
    }

    fn classifies(&self) -> bool {
        self.classifier.is_some()
    }

    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        let pooled = self.pooled(&self.features(pcm)?)?;
        Ok(self.logits_of(&pooled)?.flatten_all()?.to_vec1()?)
    }
}
