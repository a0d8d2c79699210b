//! Layer normalisation: over the channels of every row.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::function::{Backward, Function, Output, View, call3, tracks};
use super::{Activation, ROWS, TASK, activate, apply, rows_of};
use crate::kernels::{backward, rows};
use crate::nn::params::{Parameter, Params};
use crate::nn::weights::WeightsError;

/// Layer normalisation over the last dimension (Ba et al., 2016).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Parameter,
    bias: Parameter,
    eps: f32,
}

impl LayerNorm {
    /// Reads `weight (channels)` and `bias (channels)`.
    ///
    /// # Errors
    /// When either is missing or misshapen.
    pub fn load(
        params: &Params,
        channels: usize,
        eps: f64,
    ) -> std::result::Result<Self, WeightsError> {
        Ok(LayerNorm {
            weight: params.parameter("weight", &[channels])?,
            bias: params.parameter("bias", &[channels])?,
            eps: eps as f32,
        })
    }

    /// `(.., channels)` to the same.
    ///
    /// # Errors
    /// When the last dimension is not `channels`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_act(x, Activation::Identity)
    }

    /// [`LayerNorm::forward`], then an activation.
    ///
    /// # Errors
    /// The same.
    pub fn forward_act(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        if tracks(x, [&self.weight, &self.bias]) {
            let (weight, bias) = (self.weight.tensor()?, self.bias.tensor()?);
            let out = call3(Normalise { eps: self.eps }, x, &weight, &bias)?;
            return activate(&out, activation);
        }
        let layer = self.clone();
        apply(x, "layer_norm", move |x, dims| {
            rows_of(dims, layer.weight.dims()[0], "layer_norm")?;
            let (weight, bias) = (layer.weight.values(), layer.bias.values());
            Ok((
                normalise(x, weight, bias, layer.eps, activation),
                dims.into(),
            ))
        })
    }
}

/// Every row to zero mean and unit variance, then times `weight` plus `bias`, then an activation.
fn normalise(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    activation: Activation,
) -> Vec<f32> {
    let channels = weight.len().max(1);
    let mut out = vec![0.0; x.len()];
    let part = TASK.div_ceil(channels) * channels;
    // Copied by the task that works on it, so that it is in the cache and its pages are brought in by
    // every thread.
    out.par_chunks_mut(part)
        .zip(x.par_chunks(part))
        .for_each(|(out, x)| {
            out.copy_from_slice(x);
            rows::layer_norm(out, weight, bias, eps);
            activation.apply(out);
        });
    out
}

/// Layer normalisation of `x`, `weight` and `bias`.
struct Normalise {
    eps: f32,
}

impl Function<3> for Normalise {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn forward(&self, [x, weight, bias]: [View; 3]) -> Output {
        rows_of(x.dims, weight.values.len(), "layer_norm")?;
        let (weight, bias) = (weight.values, bias.values);
        let out = normalise(x.values, weight, bias, self.eps, Activation::Identity);
        Ok((out, x.dims.into()))
    }

    fn backward(&self, at: Backward<3>) -> Result<[Option<Vec<f32>>; 3]> {
        let [x, weight, _] = at.x;
        let channels = weight.values.len().max(1);
        let part = ROWS * channels;
        let mut grad = at.grad.to_vec();
        let sums: Vec<[Vec<f32>; 2]> = grad
            .par_chunks_mut(part)
            .zip(x.values.par_chunks(part))
            .map(|(grad, x)| {
                let mut sums = [vec![0.0; channels], vec![0.0; channels]];
                let [of_weight, of_bias] = &mut sums;
                backward::layer_norm(x, weight.values, self.eps, grad, of_weight, of_bias);
                sums
            })
            .collect();
        let [mut of_weight, mut of_bias] = [vec![0.0; channels], vec![0.0; channels]];
        for [weight, bias] in &sums {
            rows::add(&mut of_weight, weight);
            rows::add(&mut of_bias, bias);
        }
        Ok([Some(grad), Some(of_weight), Some(of_bias)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, check_layer, draw, normal, weight};
    use super::*;
    use candle_core::D;

    #[test]
    fn it_equals_its_definition() {
        // Far from zero, where a careless variance would drown.
        let x = (draw(1, &[2, 700, 48]) + 30.0).unwrap();
        let (gamma, beta) = (draw(2, &[48]), draw(3, &[48]));
        let expected = normal(&x, D::Minus1, 1e-5)
            .broadcast_mul(&gamma)
            .unwrap()
            .broadcast_add(&beta)
            .unwrap();
        let layer = LayerNorm {
            weight: weight(&gamma).into(),
            bias: weight(&beta).into(),
            eps: 1e-5,
        };
        assert_close(&layer.forward(&x).unwrap(), &expected, 1e-4);
        assert_close(
            &layer.forward_act(&x, Activation::Relu).unwrap(),
            &expected.relu().unwrap(),
            1e-4,
        );
        assert!(layer.forward(&draw(1, &[4, 47])).is_err());
    }

    #[test]
    fn the_trained_form_is_the_same_and_gradients_are_those_of_differences() {
        let inputs = [draw(1, &[2, 3, 9]), draw(2, &[9]), draw(3, &[9])];
        check_layer(&inputs, |[x, weight, bias]| {
            let layer = LayerNorm {
                weight: weight.parameter(),
                bias: bias.parameter(),
                eps: 1e-3,
            };
            layer.forward_act(&x.tensor(), Activation::Tanh)
        });
    }
}
