//! The encoder of Whisper (Radford et al., *Robust Speech Recognition via Large-Scale Weak
//! Supervision*, 2022) with a head that classifies the whole clip, as `WhisperForAudioClassification`
//! of transformers 5.23 computes it.
//!
//! Two convolutions and a transformer over a clip that is always padded or cut to the same length, 30 s
//! in every published checkpoint. The decoder is no part of it.

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::ModelError;
use super::layout::Layout;
use super::network::Network;
use crate::features::Settings;
use crate::features::whisper_mel::{WhisperMel, WhisperMelConfig};
use crate::nn::layers::{
    Activation, Conv1d, Conv1dSpec, LayerNorm, LayerWeights, Linear, attention,
};
use crate::nn::params::Params;

/// What PyTorch's `LayerNorm` adds to every variance where it is not told otherwise.
const EPS: f64 = 1e-5;
/// Frames of the spectrogram for each position: the stride of the second convolution.
const STRIDE: usize = 2;

/// `config.json`, with the keys and the defaults of `WhisperConfig`.
///
/// `scale_embedding` is not among them: the reference does not use it in its encoder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Bands of the spectrogram: 80, or 128 from large-v3 on.
    pub num_mel_bins: usize,
    /// Values of a position.
    pub d_model: usize,
    /// Layers.
    pub encoder_layers: usize,
    /// Heads of an attention.
    pub encoder_attention_heads: usize,
    /// Values between the two linear layers of a block.
    pub encoder_ffn_dim: usize,
    /// Positions; the spectrogram has two frames for each.
    pub max_source_positions: usize,
    /// Whether the head sees a weighted sum of all layers rather than the last.
    pub use_weighted_layer_sum: bool,
    /// Values of a position in the head.
    pub classifier_proj_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            num_mel_bins: 80,
            d_model: 384,
            encoder_layers: 4,
            encoder_attention_heads: 6,
            encoder_ffn_dim: 1536,
            max_source_positions: 1500,
            use_weighted_layer_sum: false,
            classifier_proj_size: 256,
        }
    }
}

impl Config {
    /// Reads it and refuses what makes no network.
    fn read(layout: &Layout) -> Result<Self, ModelError> {
        let config: Config = layout.config()?;
        layout.expect_positive(&[
            ("num_mel_bins", config.num_mel_bins),
            ("d_model", config.d_model),
            ("encoder_attention_heads", config.encoder_attention_heads),
            ("encoder_ffn_dim", config.encoder_ffn_dim),
            ("max_source_positions", config.max_source_positions),
            ("classifier_proj_size", config.classifier_proj_size),
        ])?;
        layout.expect_divisor(
            ("encoder_attention_heads", config.encoder_attention_heads),
            ("d_model", config.d_model),
        )?;
        Ok(config)
    }

    /// Frames of the spectrogram that the encoder takes.
    fn frames(&self) -> usize {
        self.max_source_positions.saturating_mul(STRIDE)
    }

    /// The front end, which must make the spectrogram that the network takes.
    fn front_end(&self, layout: &Layout) -> Result<WhisperMel, ModelError> {
        let config = match Settings::in_dir(layout.dir())? {
            Some(settings) => WhisperMelConfig::from_settings(&settings)?,
            None => WhisperMelConfig {
                feature_size: self.num_mel_bins,
                ..Default::default()
            },
        };
        let made = config.feature_size;
        if made != self.num_mel_bins {
            let what = format!(
                "expected {made}, the feature_size of the feature extractor, got {}",
                self.num_mel_bins
            );
            return Err(layout.wrong("num_mel_bins", &what));
        }
        let frames = config.chunk_length * config.sampling_rate as usize / config.hop_length;
        if frames != self.frames() {
            let what = format!(
                "expected half of the {frames} frames that the feature extractor makes, got {}",
                self.max_source_positions
            );
            return Err(layout.wrong("max_source_positions", &what));
        }
        Ok(WhisperMel::new(config))
    }
}

/// Every position looks at all others.
struct SelfAttention {
    q_proj: Linear,
    /// Without an offset, which a softmax would not see.
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    /// `head_dim ** -0.5`.
    scale: f32,
}

impl SelfAttention {
    fn load(params: &Params, config: &Config) -> Result<Self, ModelError> {
        let (width, heads) = (config.d_model, config.encoder_attention_heads);
        Ok(SelfAttention {
            q_proj: Linear::load(&params.pp("q_proj"), width, width)?,
            k_proj: Linear::load_no_bias(&params.pp("k_proj"), width, width)?,
            v_proj: Linear::load(&params.pp("v_proj"), width, width)?,
            out_proj: Linear::load(&params.pp("out_proj"), width, width)?,
            heads,
            scale: ((width / heads) as f32).powf(-0.5),
        })
    }

    /// What the positions of `x (batch, time, width)` see, added to `residual` of the same shape.
    fn forward(&self, x: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        let q = self.q_proj.forward(x)?;
        let k = self.k_proj.forward(x)?;
        let v = self.v_proj.forward(x)?;
        let seen = attention(&q, &k, &v, self.heads, self.scale, None)?;
        self.out_proj.forward_add(&seen, residual)
    }
}

/// One layer: attention, then two linear layers, each after a normalisation and beside a residual.
struct EncoderLayer {
    self_attn_layer_norm: LayerNorm,
    self_attn: SelfAttention,
    final_layer_norm: LayerNorm,
    fc1: Linear,
    activation_function: Activation,
    fc2: Linear,
}

impl EncoderLayer {
    fn load(
        params: &Params,
        config: &Config,
        activation_function: Activation,
    ) -> Result<Self, ModelError> {
        let (width, inner) = (config.d_model, config.encoder_ffn_dim);
        let norm = |key| LayerNorm::load(&params.pp(key), width, EPS);
        Ok(EncoderLayer {
            self_attn_layer_norm: norm("self_attn_layer_norm")?,
            self_attn: SelfAttention::load(&params.pp("self_attn"), config)?,
            final_layer_norm: norm("final_layer_norm")?,
            fc1: Linear::load(&params.pp("fc1"), width, inner)?,
            activation_function,
            fc2: Linear::load(&params.pp("fc2"), inner, width)?,
        })
    }

    /// `(batch, time, width)` to the same.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let normal = self.self_attn_layer_norm.forward(x)?;
        let x = self.self_attn.forward(&normal, x)?;
        drop(normal);
        let inner = self.fc1.forward_act(
            &self.final_layer_norm.forward(&x)?,
            self.activation_function,
        )?;
        self.fc2.forward_add(&inner, &x)
    }
}

/// Convolutions, positions and layers.
struct Encoder {
    conv1: Conv1d,
    conv2: Conv1d,
    /// `(positions, width)`.
    embed_positions: Tensor,
    layers: Vec<EncoderLayer>,
    layer_norm: LayerNorm,
}

impl Encoder {
    fn load(
        params: &Params,
        config: &Config,
        activation_function: Activation,
    ) -> Result<Self, ModelError> {
        let width = config.d_model;
        let conv = |key, inputs, stride| {
            let spec = Conv1dSpec {
                stride,
                padding: 1,
                ..Conv1dSpec::new(inputs, width, 3)
            };
            Conv1d::load(&params.pp(key), spec)
        };
        let shape = [config.max_source_positions, width];
        // Sinusoids, which the reference does not train either.
        let positions = params.pp("embed_positions").buffer("weight", &shape)?;
        let layers = params.pp("layers");
        Ok(Encoder {
            conv1: conv("conv1", config.num_mel_bins, 1)?,
            conv2: conv("conv2", width, STRIDE)?,
            embed_positions: positions.tensor()?,
            layers: (0..config.encoder_layers)
                .map(|index| EncoderLayer::load(&layers.pp(index), config, activation_function))
                .collect::<Result<_, _>>()?,
            layer_norm: LayerNorm::load(&params.pp("layer_norm"), width, EPS)?,
        })
    }

    /// `(batch, frames, bands)` to `(batch, positions, width)`. The activation is GELU whatever the
    /// configuration says of the layers.
    fn embed(&self, features: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.conv1.forward(features, Activation::Gelu)?;
        let x = self.conv2.forward(&x, Activation::Gelu)?;
        x.broadcast_add(&self.embed_positions)
    }
}

/// A loaded Whisper encoder with its classifier.
pub struct Whisper {
    config: Config,
    front_end: WhisperMel,
    encoder: Encoder,
    /// Shares of the embeddings and of every layer in what the head sees.
    layer_weights: Option<LayerWeights>,
    projector: Linear,
    classifier: Linear,
}

impl Whisper {
    /// Loads a directory with `WhisperForAudioClassification`.
    ///
    /// # Errors
    /// When the configuration makes no network, the feature extractor does not go with it, or a
    /// tensor is missing or misshapen.
    pub fn load(layout: &Layout) -> Result<Self, ModelError> {
        let config = Config::read(layout)?;
        let activation_function = layout.activation("activation_function", Activation::Gelu)?;
        let params = layout.params()?;
        let encoder = Encoder::load(&params.pp("encoder"), &config, activation_function)?;
        let layer_weights = match config.use_weighted_layer_sum {
            false => None,
            true => {
                let states = config.encoder_layers.saturating_add(1);
                Some(LayerWeights::load(&params, states)?)
            }
        };
        let (width, projected) = (config.d_model, config.classifier_proj_size);
        Ok(Whisper {
            front_end: config.front_end(layout)?,
            encoder,
            layer_weights,
            projector: Linear::load(&params.pp("projector"), width, projected)?,
            classifier: Linear::load(&params.pp("classifier"), projected, layout.labels()?.len())?,
            config,
        })
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
    /// every layer, and the last of them normalised, each `(batch, positions, width)`.
    ///
    /// # Errors
    /// When the features have another shape.
    pub fn hidden_states(&self, features: &Tensor) -> Result<Vec<Tensor>, ModelError> {
        let mut x = self.embed(features)?;
        let mut states = vec![x.clone()];
        for layer in &self.encoder.layers {
            x = layer.forward(&x)?;
            states.push(x.clone());
        }
        states.push(self.encoder.layer_norm.forward(&x)?);
        Ok(states)
    }

    /// What the head sees of `features (batch, frames, bands)`: the last state, normalised, or the
    /// weighted sum of all, `(batch, positions, width)`.
    ///
    /// # Errors
    /// When the features have another shape.
    pub fn encode(&self, features: &Tensor) -> Result<Tensor, ModelError> {
        let mut x = self.embed(features)?;
        let mut sum = self.layer_weights.as_ref().map(LayerWeights::sum);
        for layer in &self.encoder.layers {
            if let Some(sum) = &mut sum {
                sum.add(&x)?;
            }
            x = layer.forward(&x)?;
        }
        // The reference counts the normalised state as the last layer's.
        let last = self.encoder.layer_norm.forward(&x)?;
        match sum {
            None => Ok(last),
            Some(mut sum) => {
                sum.add(&last)?;
                Ok(sum.finish()?)
            }
        }
    }

    /// The mean over time of the projected `encoded (batch, positions, width)`, `(batch, projected)`.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn pooled(&self, encoded: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.projector.forward(encoded)?.mean(1)?)
    }

    /// The logits `(batch, labels)` of what [`Whisper::pooled`] gives.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn logits_of(&self, pooled: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.classifier.forward(pooled)?)
    }

    fn embed(&self, features: &Tensor) -> Result<Tensor, ModelError> {
        let (frames, bands) = (self.config.frames(), self.config.num_mel_bins);
        match *features.dims() {
            [_, time, freqs] if (time, freqs) == (frames, bands) => {
                Ok(self.encoder.embed(features)?)
            }
            ref other => Err(ModelError::Shape(format!(
                "Whisper: expected features (batch, {frames}, {bands}), got {other:?}"
            ))),
        }
    }
}

impl Network for Whisper {
    fn rate_hz(&self) -> u32 {
        self.front_end.rate_hz()
    }

    fn window(&self) -> usize {
        self.front_end.window_samples()
    }

    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        let encoded = self.encode(&self.features(pcm)?)?;
        let pooled = self.pooled(&encoded)?;
        Ok(self.logits_of(&pooled)?.flatten_all()?.to_vec1()?)
    }
}
