//! From sound to the steps of a transformer: convolutions that shorten it by hundreds, and a projection
//! to the transformer's width.

use candle_core::Tensor;

use super::config::{Config, FeatExtractNorm};
use super::{Stage, Watch};
use crate::models::ModelError;
use crate::nn::layers::{Activation, Conv1d, Conv1dSpec, LayerNorm, Linear, NormedConv1d};
use crate::nn::params::Params;

/// What PyTorch's normalisations add to a variance where they are not told otherwise.
pub const EPS: f64 = 1e-5;

/// One convolution with what normalises it.
enum ConvLayer {
    /// Every channel over time: `layer_norm` is a group norm in the checkpoint.
    Group(NormedConv1d),
    /// Over the channels.
    Layer { conv: Conv1d, layer_norm: LayerNorm },
    /// Not at all.
    Plain(Conv1d),
}

impl ConvLayer {
    fn load(
        params: &Params,
        config: &Config,
        layer: usize,
        spec: Conv1dSpec,
    ) -> Result<Self, ModelError> {
        let (conv, norm) = (params.pp("conv"), params.pp("layer_norm"));
        if config.feat_extract_norm == FeatExtractNorm::Group && layer == 0 {
            if config.conv_bias {
                // It must be there, but would be gone after the normalisation.
                conv.buffer("bias", &[spec.outputs])?;
            }
            return Ok(ConvLayer::Group(NormedConv1d::load(
                &conv, &norm, spec, EPS,
            )?));
        }
        let weight = conv.parameter("weight", &[spec.outputs, spec.inputs, spec.kernel])?;
        let bias = match config.conv_bias {
            true => Some(conv.parameter("bias", &[spec.outputs])?),
            false => None,
        };
        let conv = Conv1d::of(spec, weight, bias);
        Ok(match config.feat_extract_norm {
            FeatExtractNorm::Group => ConvLayer::Plain(conv),
            FeatExtractNorm::Layer => ConvLayer::Layer {
                conv,
                layer_norm: LayerNorm::load(&norm, spec.outputs, EPS)?,
            },
        })
    }

    /// `(batch, time, inputs)` to `(batch, out_time, outputs)`.
    fn forward(&self, x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
        match self {
            ConvLayer::Group(conv) => conv.forward(x, activation),
            ConvLayer::Layer { conv, layer_norm } => {
                layer_norm.forward_act(&conv.forward(x, Activation::Identity)?, activation)
            }
            ConvLayer::Plain(conv) => conv.forward(x, activation),
        }
    }
}

/// The convolutions.
pub struct FeatureEncoder {
    conv_layers: Vec<ConvLayer>,
    activation: Activation,
}

impl FeatureEncoder {
    /// Reads `conv_layers`.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub fn load(params: &Params, config: &Config) -> Result<Self, ModelError> {
        let layers = params.pp("conv_layers");
        Ok(FeatureEncoder {
            conv_layers: config
                .convolutions()
                .enumerate()
                .map(|(layer, spec)| ConvLayer::load(&layers.pp(layer), config, layer, spec))
                .collect::<Result<_, _>>()?,
            activation: config.feat_extract_activation,
        })
    }

    /// `wave (batch, samples, 1)` to `(batch, steps, channels)`.
    ///
    /// # Errors
    /// When the sound is too short.
    pub fn forward(&self, wave: &Tensor, watch: &mut Watch) -> candle_core::Result<Tensor> {
        let mut x = wave.clone();
        for (layer, conv) in self.conv_layers.iter().enumerate() {
            x = conv.forward(&x, self.activation)?;
            watch(Stage::Conv(layer), &x)?;
        }
        Ok(x)
    }
}

/// The projection to the transformer's width.
pub struct FeatureProjection {
    layer_norm: Option<LayerNorm>,
    projection: Linear,
}

impl FeatureProjection {
    /// Reads `projection`, and `layer_norm` where the network has one.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub fn load(params: &Params, config: &Config, layer_norm: bool) -> Result<Self, ModelError> {
        let channels = config.conv_dim.last().copied().unwrap_or_default();
        let layer_norm = match layer_norm {
            true => Some(LayerNorm::load(
                &params.pp("layer_norm"),
                channels,
                config.layer_norm_eps,
            )?),
            false => None,
        };
        Ok(FeatureProjection {
            layer_norm,
            projection: Linear::load(&params.pp("projection"), channels, config.hidden_size)?,
        })
    }

    /// `(batch, steps, channels)` to `(batch, steps, hidden)`.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match &self.layer_norm {
            Some(layer_norm) => self.projection.forward(&layer_norm.forward(x)?),
            None => self.projection.forward(x),
        }
    }
}
