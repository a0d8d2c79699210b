//! The blocks of a Swin transformer (Liu et al., *Swin Transformer*, 2021), as `ClapAudioLayer` and
//! `ClapAudioPatchMerging` of transformers 5.23 compute them.
//!
//! Cutting an image into windows and putting it together again are one pass over memory each; what a
//! moved window may not see and what a distance is worth are one table, made when the block is loaded
//! unless it is trained.

use candle_core::Tensor;

use super::config::AudioConfig;
use super::windows::{Bias, Windows};
use crate::models::ModelError;
use crate::nn::layers::{Activation, Dropout, Gather, LayerNorm, Linear, attention_dropping};
use crate::nn::params::Params;

/// The epsilon of the normalisations that the configuration does not name: PyTorch's default.
pub(super) const EPS: f64 = 1e-5;

/// Attention within windows.
struct WindowAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    windows: Windows,
    /// Into the windows and back.
    gathers: (Gather, Gather),
    bias: Bias,
    /// Of the weights and of what is seen.
    dropout: Dropout,
}

impl WindowAttention {
    fn load(
        params: &Params,
        config: &AudioConfig,
        (dim, heads): (usize, usize),
        windows: Windows,
    ) -> Result<Self, ModelError> {
        let own = params.pp("self");
        let part = |key: &str| match config.qkv_bias {
            true => Linear::load(&own.pp(key), dim, dim),
            false => Linear::load_no_bias(&own.pp(key), dim, dim),
        };
        let reach = 2 * windows.window - 1;
        let table = own.parameter("relative_position_bias_table", &[reach * reach, heads])?;
        Ok(WindowAttention {
            query: part("query")?,
            key: part("key")?,
            value: part("value")?,
            output: Linear::load(&params.pp("output.dense"), dim, dim)?,
            heads,
            windows,
            gathers: windows.gathers(),
            bias: Bias::new(windows, table)?,
            dropout: Dropout::at(params, config.attention_probs_dropout_prob),
        })
    }

    /// `x (batch, tokens, dim)` to the same, added to `residual` of the same shape.
    fn forward(&self, x: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, _, dim) = x.dims3()?;
        let tokens = self.windows.tokens();
        let cut = self.gathers.0.forward(x)?;
        let cut = cut.reshape((batch * self.windows.count(), tokens, dim))?;
        let scale = ((dim / self.heads) as f32).powf(-0.5);
        let seen = attention_dropping(
            &self.query.forward(&cut)?,
            &self.key.forward(&cut)?,
            &self.value.forward(&cut)?,
            self.heads,
            scale,
            Some(&self.bias.tensor()?),
            self.dropout.of_weights(),
        )?;
        let seen = seen.reshape((batch, self.windows.count() * tokens, dim))?;
        let seen = self.gathers.1.forward(&seen)?;
        self.output.forward_drop_add(&seen, &self.dropout, residual)
    }
}

/// Attention within windows, then two linear layers, each behind a normalisation and beside a residual.
struct Block {
    layernorm_before: LayerNorm,
    attention: WindowAttention,
    layernorm_after: LayerNorm,
    intermediate: Linear,
    hidden_act: Activation,
    output: Linear,
    dropout: Dropout,
}

impl Block {
    fn load(
        params: &Params,
        config: &AudioConfig,
        hidden_act: Activation,
        (dim, heads): (usize, usize),
        windows: Windows,
    ) -> Result<Self, ModelError> {
        let inner = (config.mlp_ratio * dim as f64) as usize;
        let norm = |key| LayerNorm::load(&params.pp(key), dim, config.layer_norm_eps);
        let attention = params.pp("attention");
        Ok(Block {
            layernorm_before: norm("layernorm_before")?,
            attention: WindowAttention::load(&attention, config, (dim, heads), windows)?,
            layernorm_after: norm("layernorm_after")?,
            intermediate: Linear::load(&params.pp("intermediate.dense"), dim, inner)?,
            hidden_act,
            output: Linear::load(&params.pp("output.dense"), inner, dim)?,
            dropout: Dropout::at(params, config.hidden_dropout_prob),
        })
    }

    /// `(batch, tokens, dim)` to the same.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let normal = self.layernorm_before.forward(x)?;
        let x = self.attention.forward(&normal, x)?;
        drop(normal);
        let inner = self
            .intermediate
            .forward_act(&self.layernorm_after.forward(&x)?, self.hidden_act)?;
        self.output.forward_drop_add(&inner, &self.dropout, &x)
    }
}

/// Four neighbours become one token of twice the values.
struct PatchMerging {
    neighbours: Gather,
    norm: LayerNorm,
    reduction: Linear,
}

impl PatchMerging {
    fn load(params: &Params, dim: usize, size: (usize, usize)) -> Result<Self, ModelError> {
        let (height, width) = size;
        let mut from = Vec::with_capacity(height * width);
        for y in (0..height).step_by(2) {
            for x in (0..width).step_by(2) {
                // Down first, then across.
                let at = |down: usize, across: usize| ((y + down) * width + x + across) as u32;
                from.extend([at(0, 0), at(1, 0), at(0, 1), at(1, 1)]);
            }
        }
        Ok(PatchMerging {
            neighbours: Gather::new(from),
            norm: LayerNorm::load(&params.pp("norm"), 4 * dim, EPS)?,
            reduction: Linear::load_no_bias(&params.pp("reduction"), 4 * dim, 2 * dim)?,
        })
    }

    /// `(batch, tokens, dim)` to `(batch, tokens / 4, 2 dim)`.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, tokens, dim) = x.dims3()?;
        let x = self.neighbours.forward(x)?;
        let x = x.reshape((batch, tokens / 4, 4 * dim))?;
        self.reduction.forward(&self.norm.forward(&x)?)
    }
}

/// Blocks over an image of one size, and where another stage follows what makes it smaller.
pub(super) struct Stage {
    blocks: Vec<Block>,
    downsample: Option<PatchMerging>,
}

impl Stage {
    /// Loads stage `index` of a checked configuration.
    pub(super) fn load(
        params: &Params,
        config: &AudioConfig,
        hidden_act: Activation,
        index: usize,
    ) -> Result<Self, ModelError> {
        let grid = config.grid();
        let size = (grid.0 >> index, grid.1 >> index);
        let (dim, heads) = (config.dim(index), config.num_attention_heads[index]);
        // A window that covers the image in one direction is not moved.
        let moved = size.0.min(size.1) > config.window_size;
        let blocks = (0..config.depths[index])
            .map(|block| {
                let windows = Windows {
                    size,
                    window: config.window_size,
                    shift: if moved && block % 2 == 1 {
                        config.window_size / 2
                    } else {
                        0
                    },
                };
                let params = params.pp("blocks").pp(block);
                Block::load(&params, config, hidden_act, (dim, heads), windows)
            })
            .collect::<Result<_, _>>()?;
        let downsample = match index + 1 == config.depths.len() {
            true => None,
            false => Some(PatchMerging::load(&params.pp("downsample"), dim, size)?),
        };
        Ok(Stage { blocks, downsample })
    }

    /// `(batch, tokens, dim)` to `(batch, tokens / 4, 2 dim)`, in the last stage to the same; shows what
    /// the last block gives.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        seen: &mut dyn FnMut(&Tensor),
    ) -> candle_core::Result<Tensor> {
        let mut x = x.clone();
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        seen(&x);
        match &self.downsample {
            Some(downsample) => downsample.forward(&x),
            None => Ok(x),
        }
    }
}
