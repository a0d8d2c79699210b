//! Positions by a wide grouped convolution, whose kernel is published as a direction and a length
//! (Salimans and Kingma, *Weight Normalization*, 2016).

use candle_core::Tensor;

use super::config::Config;
use super::feature_encoder::EPS;
use crate::models::ModelError;
use crate::nn::layers::{Activation, BatchNorm, Conv1d, Conv1dSpec};
use crate::nn::params::{Parameter, Params, Weight};

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
    conv: Conv,
    activation: Activation,
}

enum Conv {
    /// With its kernel as it is.
    Plain(Conv1d),
    /// With a kernel that is made on every run, because what it is made of is trained.
    Normalised(WeightNorm, Conv1dSpec, Parameter),
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
        let bias = conv.parameter("bias", &[hidden])?;
        let (batch_norm, conv) = if batch_norm {
            let norm = BatchNorm::load(&params.pp("batch_norm"), hidden, EPS)?;
            let weight = conv.parameter("weight", &shape)?;
            (
                Some(norm),
                Conv::Plain(Conv1d::of(spec, weight, Some(bias))),
            )
        } else {
            let norm = WeightNorm::load(&conv, &shape)?;
            let conv = match norm.fixed() {
                Some(weight) => Conv::Plain(Conv1d::of(spec, weight.into(), Some(bias))),
                None => Conv::Normalised(norm, spec, bias),
            };
            (None, conv)
        };
        Ok(PositionalConvEmbedding {
            batch_norm,
            conv,
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
        let seen = normal.as_ref().unwrap_or(x);
        let positions = match &self.conv {
            Conv::Plain(conv) => conv.forward(seen, self.activation)?,
            Conv::Normalised(norm, spec, bias) => {
                let conv = Conv1d::of(*spec, norm.tensor()?.into(), Some(bias.clone()));
                conv.forward(seen, self.activation)?
            }
        };
        // An even kernel has one place more than there are steps; the last is left out.
        positions.narrow(1, 0, x.dim(1)?)
    }
}

/// A kernel `length * direction / |direction|`, with a length for every tap.
struct WeightNorm {
    /// `(1, 1, taps)`.
    length: Parameter,
    /// `(outputs, inputs / groups, taps)`.
    direction: Parameter,
}

impl WeightNorm {
    fn load(params: &Params, shape: &[usize; 3]) -> Result<Self, ModelError> {
        let [old, new] = WEIGHT_NORM;
        let (length, direction) = if params.has(old.0) || params.has(old.1) {
            old
        } else {
            new
        };
        Ok(WeightNorm {
            length: params.parameter(length, &[1, 1, shape[2]])?,
            direction: params.parameter(direction, shape)?,
        })
    }

    /// The kernel, where neither is trained.
    fn fixed(&self) -> Option<Weight> {
        let (length, direction) = (self.length.fixed()?, self.direction.fixed()?);
        let taps = length.values().len();
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
        Some(Weight::from_values(weight, direction.dims()))
    }

    /// The kernel as a tensor that gradients pass.
    fn tensor(&self) -> candle_core::Result<Tensor> {
        let direction = self.direction.tensor()?;
        let size = direction.sqr()?.sum_keepdim((0, 1))?.sqrt()?;
        direction.broadcast_mul(&(self.length.tensor()? / size)?)
    }
}
