//! Normalisations: over a row (layer norm), over time in every channel, and with fixed statistics.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{Activation, TASK, apply, rows_of};
use crate::kernels::{norm, rows};
use crate::nn::params::{Params, Weight};
use crate::nn::weights::WeightsError;

/// Layer normalisation over the last dimension (Ba et al., 2016).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Weight,
    bias: Weight,
    eps: f32,
}

impl LayerNorm {
    /// Reads `weight (channels)` and `bias (channels)`.
    ///
    /// # Errors
    /// When either is missing or misshapen.
    pub fn load(params: &Params, channels: usize, eps: f64) -> Result<Self, WeightsError> {
        Ok(LayerNorm {
            weight: params.get("weight", &[channels])?,
            bias: params.get("bias", &[channels])?,
            eps: eps as f32,
        })
    }

    /// `(.., channels)` to the same.
    ///
    /// # Errors
    /// When the last dimension is not `channels`.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.forward_act(x, Activation::Identity)
    }

    /// [`LayerNorm::forward`], then an activation.
    ///
    /// # Errors
    /// The same.
    pub fn forward_act(&self, x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
        let layer = self.clone();
        apply(x, "layer_norm", move |x, dims| {
            let channels = layer.weight.dims()[0];
            rows_of(dims, channels, "layer_norm")?;
            let mut out = vec![0.0; x.len()];
            let part = TASK.div_ceil(channels.max(1)) * channels.max(1);
            // Copied by the task that works on it, so that it is in the cache and its pages are
            // brought in by every thread.
            out.par_chunks_mut(part)
                .zip(x.par_chunks(part))
                .for_each(|(out, x)| {
                    out.copy_from_slice(x);
                    rows::layer_norm(out, layer.weight.values(), layer.bias.values(), layer.eps);
                    activation.apply(out);
                });
            Ok((out, dims.into()))
        })
    }
}

/// Group normalisation with as many groups as channels (Wu and He, *Group Normalization*, 2018): in
/// every sequence and channel over all of time.
#[derive(Debug, Clone)]
pub struct ChannelNorm {
    weight: Weight,
    bias: Weight,
    eps: f32,
}

impl ChannelNorm {
    /// Reads `weight (channels)` and `bias (channels)`.
    ///
    /// # Errors
    /// When either is missing or misshapen.
    pub fn load(params: &Params, channels: usize, eps: f64) -> Result<Self, WeightsError> {
        Ok(ChannelNorm {
            weight: params.get("weight", &[channels])?,
            bias: params.get("bias", &[channels])?,
            eps: eps as f32,
        })
    }

    /// `(batch, time, channels)` to the same.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let layer = self.clone();
        apply(x, "channel_norm", move |x, dims| {
            let channels = layer.weight.dims()[0];
            rows_of(dims, channels, "channel_norm")?;
            let &[_, time, _] = dims else {
                return Err(candle_core::Error::Msg(format!(
                    "channel_norm: expected (batch, time, {channels}), got {dims:?}"
                )));
            };
            let mut out = vec![0.0; x.len()];
            let length = time * channels;
            for (x, out) in x.chunks_exact(length).zip(out.chunks_exact_mut(length)) {
                let (scale, shift) = layer.scale_shift(x, time);
                let part = TASK.div_ceil(channels) * channels;
                out.par_chunks_mut(part)
                    .zip(x.par_chunks(part))
                    .for_each(|(out, x)| norm::scale_shift(x, &scale, &shift, false, out));
            }
            Ok((out, dims.into()))
        })
    }

    /// What one sequence `(time, channels)` is multiplied by and what is added, a channel.
    fn scale_shift(&self, x: &[f32], time: usize) -> (Vec<f32>, Vec<f32>) {
        let (gamma, beta) = (self.weight.values(), self.bias.values());
        let channels = gamma.len();
        // Each task sums few rows in f32, the totals go on in f64. The first row is taken off every
        // row first, so that a mean far from zero does not drown the variance.
        let origin = &x[..channels];
        let (sum, square) = x
            .par_chunks(256 * channels)
            .map(|x| {
                let (mut sum, mut square) = (vec![0.0f32; channels], vec![0.0f32; channels]);
                let mut moved = x.to_vec();
                let minus: Vec<f32> = origin.iter().map(|value| -value).collect();
                moved
                    .chunks_exact_mut(channels)
                    .for_each(|row| rows::add(row, &minus));
                norm::moments(&moved, &mut sum, &mut square);
                let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect::<Vec<f64>>();
                (wide(sum), wide(square))
            })
            .reduce(
                || (vec![0.0; channels], vec![0.0; channels]),
                |mut a, b| {
                    a.0.iter_mut().zip(b.0).for_each(|(a, b)| *a += b);
                    a.1.iter_mut().zip(b.1).for_each(|(a, b)| *a += b);
                    a
                },
            );
        (0..channels)
            .map(|c| {
                let mean = sum[c] / time as f64;
                let var = (square[c] / time as f64 - mean * mean).max(0.0);
                let scale = f64::from(gamma[c]) / (var + f64::from(self.eps)).sqrt();
                let shift = f64::from(beta[c]) - (mean + f64::from(origin[c])) * scale;
                (scale as f32, shift as f32)
            })
            .unzip()
    }
}

/// Batch normalisation with the statistics of training, a factor and an offset a channel.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    scale: Weight,
    shift: Weight,
}

impl BatchNorm {
    /// Reads `weight`, `bias`, `running_mean` and `running_var`, all `(channels)`.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn load(params: &Params, channels: usize, eps: f64) -> Result<Self, WeightsError> {
        let get = |key| params.get(key, &[channels]);
        let (gamma, beta) = (get("weight")?, get("bias")?);
        let (mean, var) = (get("running_mean")?, get("running_var")?);
        let (scale, shift) = (0..channels)
            .map(|c| {
                let scale = gamma.values()[c] / (var.values()[c] + eps as f32).sqrt();
                (scale, beta.values()[c] - mean.values()[c] * scale)
            })
            .unzip();
        Ok(BatchNorm {
            scale: Weight::from_values(scale, &[channels]),
            shift: Weight::from_values(shift, &[channels]),
        })
    }

    /// The factor and the offset of every channel, to be folded into the layer before.
    pub fn scale_shift(&self) -> (&[f32], &[f32]) {
        (self.scale.values(), self.shift.values())
    }

    /// `(.., channels)` to the same.
    ///
    /// # Errors
    /// When the last dimension is not `channels`.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let layer = self.clone();
        apply(x, "batch_norm", move |x, dims| {
            let (scale, shift) = layer.scale_shift();
            rows_of(dims, scale.len(), "batch_norm")?;
            let mut out = vec![0.0; x.len()];
            let part = TASK.div_ceil(scale.len().max(1)) * scale.len();
            out.par_chunks_mut(part.max(1))
                .zip(x.par_chunks(part.max(1)))
                .for_each(|(out, x)| norm::scale_shift(x, scale, shift, false, out));
            Ok((out, dims.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::D;

    use super::super::testing::{assert_close, draw, weight};
    use super::*;

    /// `x` to zero mean and unit variance over `dim`, by candle.
    fn normal(x: &Tensor, dim: impl candle_core::shape::Dim + Copy, eps: f64) -> Tensor {
        let centred = x.broadcast_sub(&x.mean_keepdim(dim).unwrap()).unwrap();
        let var = centred.sqr().unwrap().mean_keepdim(dim).unwrap();
        centred
            .broadcast_div(&(var + eps).unwrap().sqrt().unwrap())
            .unwrap()
    }

    #[test]
    fn norms_equal_their_definitions() {
        // Far from zero, where a careless variance would drown.
        let x = (draw(1, &[2, 700, 48]) + 30.0).unwrap();
        let (gamma, beta) = (draw(2, &[48]), draw(3, &[48]));
        let finish = |x: Tensor| {
            x.broadcast_mul(&gamma)
                .unwrap()
                .broadcast_add(&beta)
                .unwrap()
        };
        let (weight, bias) = (weight(&gamma), weight(&beta));
        let layer = LayerNorm {
            weight: weight.clone(),
            bias: bias.clone(),
            eps: 1e-5,
        };
        assert_close(
            &layer.forward(&x).unwrap(),
            &finish(normal(&x, D::Minus1, 1e-5)),
            1e-4,
        );
        assert_close(
            &layer.forward_act(&x, Activation::Relu).unwrap(),
            &finish(normal(&x, D::Minus1, 1e-5)).relu().unwrap(),
            1e-4,
        );
        let layer = ChannelNorm {
            weight: weight.clone(),
            bias: bias.clone(),
            eps: 1e-5,
        };
        assert_close(
            &layer.forward(&x).unwrap(),
            &finish(normal(&x, 1, 1e-5)),
            1e-4,
        );
        let layer = BatchNorm {
            scale: weight,
            shift: bias,
        };
        assert_close(&layer.forward(&x).unwrap(), &finish(x.clone()), 1e-4);
        assert!(layer.forward(&draw(1, &[4, 47])).is_err());
    }
}
