//! The normalisation of every channel over a sequence.

use candle_core::{Error, Result, Tensor};

use super::apply;
use super::function::{call3, tracks};
use super::standardise::{Standardise, Statistics, scale_shift};
use crate::nn::ops::with_values;
use crate::nn::params::{Parameter, Params};
use crate::nn::weights::WeightsError;

/// Group normalisation with as many groups as channels (Wu and He, *Group Normalization*, 2018): in
/// every sequence and channel over all of time.
#[derive(Debug, Clone)]
pub struct ChannelNorm {
    weight: Parameter,
    bias: Parameter,
    eps: f32,
}

impl ChannelNorm {
    /// Reads `weight (channels)` and `bias (channels)`.
    ///
    /// # Errors
    /// When either is missing or misshapen.
    pub fn load(
        params: &Params,
        channels: usize,
        eps: f64,
    ) -> std::result::Result<Self, WeightsError> {
        Ok(ChannelNorm {
            weight: params.parameter("weight", &[channels])?,
            bias: params.parameter("bias", &[channels])?,
            eps: eps as f32,
        })
    }

    #[cfg(test)]
    pub(super) fn new(weight: Parameter, bias: Parameter, eps: f64) -> Self {
        ChannelNorm {
            weight,
            bias,
            eps: eps as f32,
        }
    }

    /// Weight, bias and epsilon, for a layer that folds them into another; `None` where one is trained.
    pub(super) fn fixed(&self) -> Option<(&[f32], &[f32], f32)> {
        let (weight, bias) = (self.weight.fixed()?, self.bias.fixed()?);
        Some((weight.values(), bias.values(), self.eps))
    }

    /// `(batch, time, channels)` to the same.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let channels = self.weight.dims()[0];
        let &[_, time, last] = x.dims() else {
            return Err(misfit(channels, x.dims()));
        };
        if last != channels {
            return Err(misfit(channels, x.dims()));
        }
        let eps = self.eps;
        if tracks(x, [&self.weight, &self.bias]) {
            let statistics = with_values(x, |x| {
                let sequences = x.chunks_exact((time * channels).max(1));
                Ok(sequences.map(|x| Statistics::of(x, channels)).collect())
            })?;
            let standardise = Standardise {
                statistics,
                of_input: true,
                eps,
            };
            return call3(standardise, x, &self.weight.tensor()?, &self.bias.tensor()?);
        }
        let layer = self.clone();
        apply(x, "channel_norm", move |x, dims| {
            let (weight, bias) = (layer.weight.values(), layer.bias.values());
            let mut out = vec![0.0; x.len()];
            let length = (time * channels).max(1);
            for (x, out) in x.chunks_exact(length).zip(out.chunks_exact_mut(length)) {
                let (scale, shift) = Statistics::of(x, channels).scale_shift(weight, bias, eps);
                scale_shift(x, &scale, &shift, out);
            }
            Ok((out, dims.into()))
        })
    }
}

fn misfit(channels: usize, dims: &[usize]) -> Error {
    Error::Msg(format!(
        "channel_norm: expected (batch, time, {channels}), got {dims:?}"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Input, assert_close, check_layer, draw, normal};
    use super::*;

    fn channel_norm(weight: &Input, bias: &Input, eps: f64) -> ChannelNorm {
        ChannelNorm::new(weight.parameter(), bias.parameter(), eps)
    }

    #[test]
    fn over_time_it_equals_its_definition() {
        // Far from zero, where a careless variance would drown.
        let x = (draw(1, &[2, 700, 48]) + 30.0).unwrap();
        let (gamma, beta) = (draw(2, &[48]), draw(3, &[48]));
        let (weight, bias) = (Input::Fixed(gamma.clone()), Input::Fixed(beta.clone()));
        let layer = channel_norm(&weight, &bias, 1e-5);
        let expected = normal(&x, 1, 1e-5)
            .broadcast_mul(&gamma)
            .unwrap()
            .broadcast_add(&beta)
            .unwrap();
        assert_close(&layer.forward(&x).unwrap(), &expected, 1e-4);
        assert!(layer.forward(&draw(1, &[2, 4, 47])).is_err());
        assert!(layer.forward(&draw(1, &[4, 48])).is_err());
    }

    #[test]
    fn over_time_the_trained_form_is_the_same_and_gradients_are_those_of_differences() {
        let inputs = [draw(1, &[2, 7, 3]), draw(2, &[3]), draw(3, &[3])];
        check_layer(&inputs, |[x, weight, bias]| {
            channel_norm(weight, bias, 1e-3).forward(&x.tensor())
        });
    }
}
