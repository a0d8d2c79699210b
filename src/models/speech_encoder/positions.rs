//! Positions by a wide grouped convolution, whose kernel is published as a direction and a length
//! (Salimans and Kingma, *Weight Normalization*, 2016).

use candle_core::Tensor;

use super::config::Config;
use super::feature_encoder::EPS;
use crate::models::ModelError;
use crate::nn::layers::{Activation, BatchNorm, Conv1d, Conv1dSpec};
use crate::nn::params::{Params, Weight};

/// Names of length and direction of a normalised kernel: those from before and since PyTorch 2.1.
const WEIGHT_NORM: [(&str, &str); 2] = [
    ("weight_g", "weight_v"),
    (
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ),
];

/// The convolution that knows positions.
pub struct PositionalConvEmbedding {
    batch_norm: Option<BatchNorm>,
    conv: Conv1d,
    activation: Activation,
}

impl PositionalConvEmbedding {
    /// Reads `conv`, and `batch_norm` where the network has that rather than a normalised kernel.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub fn load(params: &Params, config: &Config, batch_norm: bool) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let taps = config.num_conv_pos_embeddings;
        let spec = Conv1dSpec {
            padding: taps / 2,
            groups: config.num_conv_pos_embedding_groups,
            ..Conv1dSpec::new(hidden, hidden, taps)
        };
        let shape = [hidden, hidden / spec.groups, taps];
        let conv = params.pp("conv");
        let (batch_norm, weight) = if batch_norm {
            let norm = BatchNorm::load(&params.pp("batch_norm"), hidden, EPS)?;
            (Some(norm), conv.get("weight", &shape)?)
        } else {
            (None, normalised(&conv, &shape)?)
        };
        Ok(PositionalConvEmbedding {
            batch_norm,
            conv: Conv1d::new(spec, &weight, Some(conv.get("bias", &[hidden])?)),
            activation: config.feat_extract_activation,
        })
    }

    /// What `x (batch, steps, hidden)` gets added.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let normal = self
            .batch_norm
            .as_ref()
            .map(|norm| norm.forward(x))
            .transpose()?;
        let positions = self
            .conv
            .forward(normal.as_ref().unwrap_or(x), self.activation)?;
        // An even kernel has one place more than there are steps; the last is left out.
        positions.narrow(1, 0, x.dim(1)?)
    }
}

/// `length * direction / |direction|`, where there is a length `(1, 1, taps)` for every tap.
fn normalised(params: &Params, shape: &[usize; 3]) -> Result<Weight, ModelError> {
    let [old, new] = WEIGHT_NORM;
    let (length, direction) = if params.has(old.0) || params.has(old.1) {
        old
    } else {
        new
    };
    let taps = shape[2];
    let length = params.get(length, &[1, 1, taps])?;
    let direction = params.get(direction, shape)?;
    let mut square = vec![0.0f64; taps];
    for row in direction.values().chunks_exact(taps) {
        for (square, &value) in square.iter_mut().zip(row) {
            *square += f64::from(value).powi(2);
        }
    }
    let factors: Vec<f32> = square
        .iter()
        .zip(length.values())
        .map(|(square, &length)| (f64::from(length) / square.sqrt()) as f32)
        .collect();
    let mut weight = direction.values().to_vec();
    for row in weight.chunks_exact_mut(taps) {
        row.iter_mut().zip(&factors).for_each(|(w, f)| *w *= f);
    }
    Ok(Weight::from_values(weight, shape))
}
