//! The transformer: positions, then layers of attention and a feed-forward part, with the
//! normalisations behind them (the base models) or before them ("stable", the large ones).

use candle_core::Tensor;

use super::config::Config;
use super::feature_encoder::EPS;
use super::positions::PositionalConvEmbedding;
use super::{Options, Stage, Watch};
use crate::models::ModelError;
use crate::nn::layers::{Activation, LayerNorm, Linear, attention, relative_attention};
use crate::nn::params::Params;

/// Positions that attention itself knows of, beside those of the convolution.
pub trait RelativePositions: Send + Sync {
    /// A value for every distance of a key from a query, `(heads, 2 * steps - 1)`, the farthest before
    /// first.
    ///
    /// # Errors
    /// When candle refuses.
    fn table(&self, steps: usize) -> candle_core::Result<Tensor>;

    /// What the table is multiplied by for every query, `(batch, steps, heads)`, from what the attention
    /// of this layer looks at, `x (batch, steps, hidden)`.
    ///
    /// # Errors
    /// When the shape is another.
    fn gates(&self, layer: usize, x: &Tensor) -> candle_core::Result<Tensor>;
}

/// The relative positions of one layer on one clip.
#[derive(Clone, Copy)]
struct Relative<'a> {
    positions: &'a dyn RelativePositions,
    table: &'a Tensor,
    layer: usize,
}

/// Every step looks at all others.
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    /// `head_dim ** -0.5`.
    scale: f32,
}

impl Attention {
    fn load(params: &Params, config: &Config) -> Result<Self, ModelError> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let linear = |key| Linear::load(&params.pp(key), hidden, hidden);
        Ok(Attention {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            out_proj: linear("out_proj")?,
            heads,
            scale: ((hidden / heads) as f32).powf(-0.5),
        })
    }

    /// What the steps of `x (batch, steps, hidden)` see, added to `residual` of the same shape.
    fn forward(
        &self,
        x: &Tensor,
        residual: &Tensor,
        relative: Option<Relative>,
    ) -> candle_core::Result<Tensor> {
        let q = self.q_proj.forward(x)?;
        let k = self.k_proj.forward(x)?;
        let v = self.v_proj.forward(x)?;
        let seen = match relative {
            None => attention(&q, &k, &v, self.heads, self.scale, None)?,
            Some(relative) => {
                let gates = relative.positions.gates(relative.layer, x)?;
                relative_attention(&q, &k, &v, self.heads, self.scale, relative.table, &gates)?
            }
        };
        self.out_proj.forward_add(&seen, residual)
    }
}

/// Two linear layers that see one step at a time.
struct FeedForward {
    intermediate_dense: Linear,
    hidden_act: Activation,
    output_dense: Linear,
}

impl FeedForward {
    fn load(params: &Params, config: &Config) -> Result<Self, ModelError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        Ok(FeedForward {
            intermediate_dense: Linear::load(&params.pp("intermediate_dense"), hidden, inner)?,
            hidden_act: config.hidden_act,
            output_dense: Linear::load(&params.pp("output_dense"), inner, hidden)?,
        })
    }

    /// What becomes of `x`, added to `residual`, both `(batch, steps, hidden)`.
    fn forward(&self, x: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        let inner = self.intermediate_dense.forward_act(x, self.hidden_act)?;
        self.output_dense.forward_add(&inner, residual)
    }
}

/// Two narrow linear layers that were trained for one language while the rest stood still (MMS).
struct AttnAdapterLayer {
    norm: LayerNorm,
    linear_1: Linear,
    linear_2: Linear,
}

impl AttnAdapterLayer {
    fn load(params: &Params, hidden: usize, inner: usize) -> Result<Self, ModelError> {
        Ok(AttnAdapterLayer {
            norm: LayerNorm::load(&params.pp("norm"), hidden, EPS)?,
            linear_1: Linear::load(&params.pp("linear_1"), hidden, inner)?,
            linear_2: Linear::load(&params.pp("linear_2"), inner, hidden)?,
        })
    }

    /// `(batch, steps, hidden)` to the same.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let inner = self
            .linear_1
            .forward_act(&self.norm.forward(x)?, Activation::Relu)?;
        self.linear_2.forward_add(&inner, x)
    }
}

/// One layer.
struct EncoderLayer {
    attention: Attention,
    layer_norm: LayerNorm,
    feed_forward: FeedForward,
    final_layer_norm: LayerNorm,
    adapter_layer: Option<AttnAdapterLayer>,
    stable: bool,
}

impl EncoderLayer {
    fn load(params: &Params, config: &Config, options: &Options) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let norm = |key| LayerNorm::load(&params.pp(key), hidden, config.layer_norm_eps);
        // The layers of the base models have no place for an adapter, whatever the configuration says.
        let adapter_layer = match options.adapter_attn_dim {
            Some(inner) if config.do_stable_layer_norm => Some(AttnAdapterLayer::load(
                &params.pp("adapter_layer"),
                hidden,
                inner,
            )?),
            _ => None,
        };
        Ok(EncoderLayer {
            attention: Attention::load(&params.pp("attention"), config)?,
            layer_norm: norm("layer_norm")?,
            feed_forward: FeedForward::load(&params.pp("feed_forward"), config)?,
            final_layer_norm: norm("final_layer_norm")?,
            adapter_layer,
            stable: config.do_stable_layer_norm,
        })
    }

    /// `(batch, steps, hidden)` to the same.
    fn forward(&self, x: &Tensor, relative: Option<Relative>) -> candle_core::Result<Tensor> {
        if !self.stable {
            let x = self.attention.forward(x, x, relative)?;
            let x = self.layer_norm.forward(&x)?;
            return self
                .final_layer_norm
                .forward(&self.feed_forward.forward(&x, &x)?);
        }
        let normal = self.layer_norm.forward(x)?;
        let x = self.attention.forward(&normal, x, relative)?;
        let normal = self.final_layer_norm.forward(&x)?;
        let x = self.feed_forward.forward(&normal, &x)?;
        match &self.adapter_layer {
            Some(adapter) => adapter.forward(&x),
            None => Ok(x),
        }
    }
}

/// The transformer.
pub struct Encoder {
    pos_conv_embed: PositionalConvEmbedding,
    layer_norm: LayerNorm,
    layers: Vec<EncoderLayer>,
    relative: Option<Box<dyn RelativePositions>>,
    stable: bool,
}

impl Encoder {
    /// Reads `pos_conv_embed`, `layer_norm` and `layers`.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub fn load(params: &Params, config: &Config, options: Options) -> Result<Self, ModelError> {
        let layers = params.pp("layers");
        Ok(Encoder {
            pos_conv_embed: PositionalConvEmbedding::load(
                &params.pp("pos_conv_embed"),
                config,
                options.conv_pos_batch_norm,
            )?,
            layer_norm: LayerNorm::load(
                &params.pp("layer_norm"),
                config.hidden_size,
                config.layer_norm_eps,
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|layer| EncoderLayer::load(&layers.pp(layer), config, &options))
                .collect::<Result<_, _>>()?,
            relative: options.relative,
            stable: config.do_stable_layer_norm,
        })
    }

    /// `(batch, steps, hidden)` to the same.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn forward(&self, x: &Tensor, watch: &mut Watch) -> candle_core::Result<Tensor> {
        let positions = self.pos_conv_embed.forward(x)?;
        watch(Stage::Positions, &positions)?;
        let mut x = (x + positions)?;
        if !self.stable {
            x = self.layer_norm.forward(&x)?;
        }
        watch(Stage::Hidden(0), &x)?;
        let relative = match &self.relative {
            Some(positions) => Some((positions, positions.table(x.dim(1)?)?)),
            None => None,
        };
        for (layer, block) in self.layers.iter().enumerate() {
            let relative = relative.as_ref().map(|(positions, table)| Relative {
                positions: positions.as_ref(),
                table,
                layer,
            });
            x = block.forward(&x, relative)?;
            watch(Stage::Hidden(layer + 1), &x)?;
        }
        if self.stable {
            x = self.layer_norm.forward(&x)?;
        }
        watch(Stage::Last, &x)?;
        Ok(x)
    }
}
