//! A convolution of one channel and the normalisation of each of its outputs over time, in one pass.
//!
//! What a channel `w . x + b` has for mean and variance follows from the mean and the covariance of the
//! windows `x` that the kernel sees: `w . mean + b` and `w' cov w`. So the sound is looked at first, and
//! factor and offset of the normalisation go into the kernel before it runs. The first layer of wav2vec
//! 2.0 gives 512 channels for one: this spares three passes over an output a hundred times larger than
//! the sound. Where it is trained, one follows the other.

use candle_core::{Error, Tensor};
use rayon::prelude::*;

use super::channel_norm::ChannelNorm;
use super::conv1d::{Conv1d, Conv1dSpec};
use super::{Activation, activate};
use crate::nn::ops::with_values;
use crate::nn::params::{Parameter, Params, Weight};
use crate::nn::weights::WeightsError;

/// A convolution over time of one channel, then [`super::ChannelNorm`].
#[derive(Debug, Clone)]
pub struct NormedConv1d {
    spec: Conv1dSpec,
    /// `(outputs, 1, kernel)`.
    weight: Parameter,
    norm: ChannelNorm,
}

/// Windows that one task sums.
const WINDOWS: usize = 1 << 12;

impl NormedConv1d {
    /// Reads the convolution's `weight (outputs, 1, kernel)` and the normalisation's `weight (outputs)`
    /// and `bias (outputs)`. A bias of the convolution would be gone after the normalisation.
    ///
    /// # Errors
    /// When one is missing or misshapen, or the specification is not of one channel without padding.
    pub fn load(
        conv: &Params,
        norm: &Params,
        spec: Conv1dSpec,
        eps: f64,
    ) -> Result<Self, WeightsError> {
        let plain = Conv1dSpec {
            stride: spec.stride,
            ..Conv1dSpec::new(1, spec.outputs, spec.kernel)
        };
        if spec != plain || spec.kernel == 0 || spec.stride == 0 {
            return Err(conv.wrong(
                "weight",
                &format!("expected a convolution of one channel without padding, got {spec:?}"),
            ));
        }
        Ok(NormedConv1d {
            spec,
            weight: conv.parameter("weight", &[spec.outputs, 1, spec.kernel])?,
            norm: ChannelNorm::load(norm, spec.outputs, eps)?,
        })
    }

    /// `(batch, time, 1)` to `(batch, out_time, outputs)`, then an activation.
    ///
    /// # Errors
    /// When the input has another shape or is shorter than the kernel.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
        let batch = match *x.dims() {
            [batch, time, 1] if self.spec.out_time(time) > 0 => batch,
            _ => {
                return Err(Error::Msg(format!(
                    "normed_conv: expected (batch, at least {}, 1), got {:?}",
                    self.spec.kernel,
                    x.dims()
                )));
            }
        };
        let folds = self.weight.fixed().zip(self.norm.fixed());
        let (Some((weight, norm)), false) = (folds, x.track_op()) else {
            let conv = Conv1d::of(self.spec, self.weight.clone(), None);
            let out = self.norm.forward(&conv.forward(x, Activation::Identity)?)?;
            return activate(&out, activation);
        };
        // What the kernels become depends on the sound, so every sequence has its own.
        let parts = (0..batch)
            .map(|at| {
                let x = x.narrow(0, at, 1)?;
                self.fitted(&x, weight, norm)?.forward(&x, activation)
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        match &parts[..] {
            [one] => Ok(one.clone()),
            _ => Tensor::cat(&parts, 0),
        }
    }

    /// The convolution whose output on `x (1, time, 1)` is normalised.
    fn fitted(
        &self,
        x: &Tensor,
        weight: &Weight,
        (gamma, beta, eps): (&[f32], &[f32], f32),
    ) -> candle_core::Result<Conv1d> {
        let (mean, covariance) = with_values(x, |x| Ok(self.windows(x)))?;
        let (outputs, taps) = (self.spec.outputs, self.spec.kernel);
        let mut weight = weight.values().to_vec();
        let mut bias = Vec::with_capacity(outputs);
        for (c, w) in weight.chunks_exact_mut(taps).enumerate() {
            let dot = |a: &[f64]| -> f64 { w.iter().zip(a).map(|(&w, a)| f64::from(w) * a).sum() };
            let centre = dot(&mean);
            let rows: Vec<f64> = covariance.chunks_exact(taps).map(dot).collect();
            let variance = dot(&rows).max(0.0);
            let scale = f64::from(gamma[c]) / (variance + f64::from(eps)).sqrt();
            bias.push((f64::from(beta[c]) - centre * scale) as f32);
            w.iter_mut()
                .for_each(|w| *w = (f64::from(*w) * scale) as f32);
        }
        Ok(Conv1d::new(
            self.spec,
            &Weight::from_values(weight, &[outputs, 1, taps]),
            Some(Weight::from_values(bias, &[outputs])),
        ))
    }

    /// Mean `(kernel)` and covariance `(kernel, kernel)` of all windows of `x (time)`.
    fn windows(&self, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let (taps, stride) = (self.spec.kernel, self.spec.stride);
        let count = self.spec.out_time(x.len());
        let zeros = || (vec![0.0f64; taps], vec![0.0f64; taps * taps]);
        let (mut mean, mut product) = (0..count.div_ceil(WINDOWS))
            .into_par_iter()
            .map(|part| {
                let (mut sum, mut product) = zeros();
                let mut window = vec![0.0; taps];
                for at in part * WINDOWS..((part + 1) * WINDOWS).min(count) {
                    for (wide, &x) in window.iter_mut().zip(&x[at * stride..]) {
                        *wide = f64::from(x);
                    }
                    for (row, &a) in product.chunks_exact_mut(taps).zip(&window) {
                        row.iter_mut().zip(&window).for_each(|(p, b)| *p += a * b);
                    }
                    sum.iter_mut().zip(&window).for_each(|(s, a)| *s += a);
                }
                (sum, product)
            })
            .reduce(zeros, |mut a, b| {
                a.0.iter_mut().zip(b.0).for_each(|(a, b)| *a += b);
                a.1.iter_mut().zip(b.1).for_each(|(a, b)| *a += b);
                a
            });
        let count = count as f64;
        mean.iter_mut().for_each(|mean| *mean /= count);
        for (row, a) in product.chunks_exact_mut(taps).zip(&mean) {
            for (product, b) in row.iter_mut().zip(&mean) {
                *product = *product / count - a * b;
            }
        }
        (mean, product)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::super::testing::{assert_close, check_layer, draw, weight};
    use super::*;

    #[test]
    fn it_equals_the_convolution_and_the_normalisation_one_after_the_other() {
        let spec = Conv1dSpec {
            stride: 5,
            ..Conv1dSpec::new(1, 24, 10)
        };
        let (w, gamma, beta) = (draw(2, &[24, 1, 10]), draw(3, &[24]), draw(4, &[24]));
        let layer = NormedConv1d {
            spec,
            weight: weight(&w).into(),
            norm: ChannelNorm::new(weight(&gamma).into(), weight(&beta).into(), 1e-5),
        };
        // Two sequences of different loudness, one of them far from zero.
        let quiet = (draw(1, &[1, 9000, 1]) * 0.1).unwrap();
        let moved = (draw(5, &[1, 9000, 1]) + 1.0).unwrap();
        let x = Tensor::cat(&[quiet, moved], 0).unwrap();
        let plain = Conv1d::new(spec, &weight(&w), None)
            .forward(&x, Activation::Identity)
            .unwrap();
        let centred = plain
            .broadcast_sub(&plain.mean_keepdim(1).unwrap())
            .unwrap();
        let var = centred.sqr().unwrap().mean_keepdim(1).unwrap();
        let expected = centred
            .broadcast_div(&(var + 1e-5).unwrap().sqrt().unwrap())
            .unwrap()
            .broadcast_mul(&gamma)
            .unwrap()
            .broadcast_add(&beta)
            .unwrap()
            .relu()
            .unwrap();
        assert_close(
            &layer.forward(&x, Activation::Relu).unwrap(),
            &expected,
            2e-5,
        );
        // Silence has no variance: the offset is all that is left.
        let silence = (x * 0.0).unwrap();
        let out = layer.forward(&silence, Activation::Identity).unwrap();
        let expected = beta.broadcast_as(out.shape()).unwrap();
        assert_close(&out, &expected, 0.0);
        assert!(
            layer
                .forward(&draw(1, &[1, 9, 1]), Activation::Relu)
                .is_err()
        );
    }

    #[test]
    fn the_trained_form_is_the_same_and_gradients_are_those_of_differences() {
        let spec = Conv1dSpec {
            stride: 2,
            ..Conv1dSpec::new(1, 4, 3)
        };
        let inputs = [
            draw(1, &[2, 15, 1]),
            draw(2, &[4, 1, 3]),
            draw(3, &[4]),
            draw(4, &[4]),
        ];
        check_layer(&inputs, |[x, w, gamma, beta]| {
            let layer = NormedConv1d {
                spec,
                weight: w.parameter(),
                norm: ChannelNorm::new(gamma.parameter(), beta.parameter(), 1e-2),
            };
            layer.forward(&x.tensor(), Activation::Gelu)
        });
    }
}
