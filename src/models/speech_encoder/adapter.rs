//! Strided convolutions above the encoder, which some checkpoints have to shorten what it gives.

use candle_core::Tensor;
use serde::Deserialize;

use super::config::{Config, count};
use super::feature_encoder::EPS;
use crate::models::ModelError;
use crate::models::layout::Layout;
use crate::nn::layers::{Activation, Conv1d, Conv1dSpec, LayerNorm, Linear, glu};
use crate::nn::params::Params;

/// The adapter's keys in `config.json`, with the defaults of `Wav2Vec2Config` and `WavLMConfig`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct AdapterConfig {
    /// Whether there is one.
    pub add_adapter: bool,
    /// Taps of its convolutions.
    pub adapter_kernel_size: usize,
    /// Steps between their outputs.
    pub adapter_stride: usize,
    /// How many there are.
    pub num_adapter_layers: usize,
    /// Values of a step of its output; `hidden_size` where it is missing or 0.
    pub output_hidden_size: Option<usize>,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        AdapterConfig {
            add_adapter: false,
            adapter_kernel_size: 3,
            adapter_stride: 2,
            num_adapter_layers: 3,
            output_hidden_size: None,
        }
    }
}

impl AdapterConfig {
    /// Reads it; `None` where there is no adapter.
    ///
    /// # Errors
    /// When a key has a value that it cannot have.
    pub fn read(layout: &Layout) -> Result<Option<Self>, ModelError> {
        let config: AdapterConfig = layout.config()?;
        if !config.add_adapter {
            return Ok(None);
        }
        count(layout, "adapter_kernel_size", config.adapter_kernel_size)?;
        count(layout, "adapter_stride", config.adapter_stride)?;
        // Without a convolution the adapter is its projection.
        count(
            layout,
            "num_adapter_layers",
            config.num_adapter_layers.max(1),
        )?;
        let width = config.output_hidden_size.unwrap_or_default();
        count(layout, "output_hidden_size", width.max(1))?;
        Ok(Some(config))
    }

    /// Values of a step of its output.
    pub fn width(&self, config: &Config) -> usize {
        match self.output_hidden_size {
            None | Some(0) => config.hidden_size,
            Some(width) => width,
        }
    }

    /// Its convolutions; the gate takes half of what they give.
    pub fn convolutions(&self, config: &Config) -> impl DoubleEndedIterator<Item = Conv1dSpec> {
        let width = self.width(config);
        let spec = Conv1dSpec {
            stride: self.adapter_stride,
            padding: 1,
            ..Conv1dSpec::new(width, 2 * width, self.adapter_kernel_size)
        };
        (0..self.num_adapter_layers).map(move |_| spec)
    }
}

/// The adapter.
pub struct Adapter {
    /// `proj` and `proj_layer_norm`, where its width is another than the encoder's.
    proj: Option<(Linear, LayerNorm)>,
    layers: Vec<Conv1d>,
}

impl Adapter {
    /// Reads `proj`, `proj_layer_norm` and `layers`.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub fn load(
        params: &Params,
        config: &Config,
        adapter: &AdapterConfig,
    ) -> Result<Self, ModelError> {
        let width = adapter.width(config);
        let proj = if width == config.hidden_size {
            None
        } else {
            Some((
                Linear::load(&params.pp("proj"), config.hidden_size, width)?,
                LayerNorm::load(&params.pp("proj_layer_norm"), width, EPS)?,
            ))
        };
        let layers = params.pp("layers");
        Ok(Adapter {
            proj,
            layers: adapter
                .convolutions(config)
                .enumerate()
                .map(|(layer, spec)| {
                    let params = layers.pp(layer).pp("conv");
                    params.buffer("bias", &[spec.outputs])?;
                    Conv1d::load(&params, spec)
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// `(batch, steps, hidden)` to `(batch, fewer steps, width)`.
    ///
    /// # Errors
    /// When there are too few steps.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut x = match &self.proj {
            Some((proj, norm)) => norm.forward(&proj.forward(x)?)?,
            None => x.clone(),
        };
        for conv in &self.layers {
            x = glu(&conv.forward(&x, Activation::Identity)?)?;
        }
        Ok(x)
    }
}
