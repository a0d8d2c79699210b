//! Normalisations of every channel over many rows: those of a sequence (group normalisation with as
//! many groups as channels) and those of a batch.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use super::function::{Backward, Function, Output, View, call3, tracks};
use super::{TASK, apply, rows_of};
use crate::kernels::{norm, rows};
use crate::nn::ops::with_values;
use crate::nn::params::{Parameter, Params, RunningStatistics, Trainable, Weight};
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

/// `out = x * scale + shift` a channel.
fn scale_shift(x: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
    let part = (TASK.div_ceil(scale.len().max(1)) * scale.len()).max(1);
    out.par_chunks_mut(part)
        .zip(x.par_chunks(part))
        .for_each(|(out, x)| norm::scale_shift(x, scale, shift, false, out));
}

/// Mean and variance of every channel.
#[derive(Debug, Clone)]
struct Statistics {
    mean: Vec<f64>,
    var: Vec<f64>,
}

impl Statistics {
    /// Those of the rows of `x (rows, channels)`.
    fn of(x: &[f32], channels: usize) -> Self {
        let channels = channels.max(1);
        let rows = (x.len() / channels) as f64;
        if x.len() < channels {
            return Statistics {
                mean: vec![0.0; channels],
                var: vec![0.0; channels],
            };
        }
        // Each task sums few rows in f32, the totals go on in f64. The first row is taken off every
        // row first, so that a mean far from zero does not drown the variance.
        let origin = &x[..channels];
        let minus: Vec<f32> = origin.iter().map(|value| -value).collect();
        let (sum, square) = x
            .par_chunks(super::ROWS * channels)
            .map(|x| {
                let (mut sum, mut square) = (vec![0.0f32; channels], vec![0.0f32; channels]);
                let mut moved = x.to_vec();
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
        let (mean, var) = (0..channels)
            .map(|c| {
                let mean = sum[c] / rows;
                let var = (square[c] / rows - mean * mean).max(0.0);
                (mean + f64::from(origin[c]), var)
            })
            .unzip();
        Statistics { mean, var }
    }

    /// `1 / sqrt(var + eps)` of a channel.
    fn inverse(&self, channel: usize, eps: f32) -> f64 {
        1.0 / (self.var[channel] + f64::from(eps)).sqrt()
    }

    /// What rows are multiplied by and what is added, a channel.
    fn scale_shift(&self, weight: &[f32], bias: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
        (0..self.mean.len())
            .map(|c| {
                let scale = f64::from(weight[c]) * self.inverse(c, eps);
                (
                    scale as f32,
                    (f64::from(bias[c]) - self.mean[c] * scale) as f32,
                )
            })
            .unzip()
    }
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` of `x`, `weight` and `bias`. The rows of `x` are
/// divided evenly among the statistics.
struct Standardise {
    statistics: Vec<Statistics>,
    /// Whether they are those of the input, so that they move with it.
    of_input: bool,
    eps: f32,
}

impl Function<3> for Standardise {
    fn name(&self) -> &'static str {
        "channel_norm"
    }

    fn forward(&self, [x, weight, bias]: [View; 3]) -> Output {
        let mut out = vec![0.0; x.values.len()];
        let length = x.values.len().div_ceil(self.statistics.len().max(1)).max(1);
        for ((x, out), statistics) in x
            .values
            .chunks_exact(length)
            .zip(out.chunks_exact_mut(length))
            .zip(&self.statistics)
        {
            let (scale, shift) = statistics.scale_shift(weight.values, bias.values, self.eps);
            scale_shift(x, &scale, &shift, out);
        }
        Ok((out, x.dims.into()))
    }

    fn backward(&self, at: Backward<3>) -> Result<[Option<Vec<f32>>; 3]> {
        let [x, weight, _] = at.x;
        let channels = weight.values.len().max(1);
        let length = x.values.len().div_ceil(self.statistics.len().max(1)).max(1);
        let mut of_x = vec![0.0; x.values.len()];
        let (mut of_weight, mut of_bias) = (vec![0.0; channels], vec![0.0; channels]);
        let parts = of_x
            .chunks_exact_mut(length)
            .zip(x.values.chunks_exact(length))
            .zip(at.grad.chunks_exact(length));
        for (((of_x, x), grad), statistics) in parts.zip(&self.statistics) {
            let inverse: Vec<f32> = (0..channels)
                .map(|c| statistics.inverse(c, self.eps) as f32)
                .collect();
            let shift: Vec<f32> = (0..channels)
                .map(|c| (-statistics.mean[c] * statistics.inverse(c, self.eps)) as f32)
                .collect();
            let [sum, slant] = sums(x, grad, &inverse, &shift);
            rows::add(&mut of_bias, &sum);
            rows::add(&mut of_weight, &slant);
            // weight / std (grad - mean(grad) - normal mean(grad normal)), regrouped by grad, x and 1;
            // where the statistics stand still, the means are left out.
            let share = match self.of_input {
                true => channels as f32 / length as f32,
                false => 0.0,
            };
            let a: Vec<f32> = weight
                .values
                .iter()
                .zip(&inverse)
                .map(|(w, i)| w * i)
                .collect();
            let b: Vec<f32> = (0..channels)
                .map(|c| -a[c] * inverse[c] * slant[c] * share)
                .collect();
            let k: Vec<f32> = (0..channels)
                .map(|c| -a[c] * (sum[c] + shift[c] * slant[c]) * share)
                .collect();
            let task = super::ROWS * channels;
            of_x.par_chunks_mut(task)
                .zip(x.par_chunks(task))
                .zip(grad.par_chunks(task))
                .for_each(|((of_x, x), grad)| norm::grad_input(&pass(x, grad), &a, &b, &k, of_x));
        }
        Ok([Some(of_x), Some(of_weight), Some(of_bias)])
    }
}

/// What the kernels of the way back read, without a rectifier, for which alone they ask what went out.
fn pass<'a>(x: &'a [f32], grad: &'a [f32]) -> norm::Pass<'a> {
    norm::Pass {
        x,
        out: grad,
        grad,
        relu: false,
    }
}

/// The sums over all rows of the gradient, and of it times the normalised input.
fn sums(x: &[f32], grad: &[f32], inverse: &[f32], shift: &[f32]) -> [Vec<f32>; 2] {
    let channels = inverse.len();
    let task = super::ROWS * channels;
    let total = x
        .par_chunks(task)
        .zip(grad.par_chunks(task))
        .map(|(x, grad)| {
            let mut sums = [vec![0.0f32; channels], vec![0.0f32; channels]];
            let [sum, slant] = &mut sums;
            norm::grad_moments(&pass(x, grad), inverse, shift, sum, slant);
            sums.map(|sum| sum.into_iter().map(f64::from).collect::<Vec<f64>>())
        })
        .reduce(
            || [vec![0.0; channels], vec![0.0; channels]],
            |mut a, b| {
                for (a, b) in a.iter_mut().flatten().zip(b.iter().flatten()) {
                    *a += b;
                }
                a
            },
        );
    total.map(|sum| sum.into_iter().map(|sum| sum as f32).collect())
}

/// What of a batch goes into the running statistics; PyTorch's default.
const MOMENTUM: f32 = 0.1;

/// Batch normalisation (Ioffe and Szegedy, *Batch Normalization*, 2015), a factor and an offset a
/// channel: with the statistics that its training gathered, or, where it is trained itself and its
/// [`crate::nn::params::Mode`] says so, with those of the batch.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Parameter,
    bias: Parameter,
    running: Arc<Mutex<RunningStatistics>>,
    eps: f32,
    /// Both of them put together, where all is fixed.
    folded: Option<(Weight, Weight)>,
    trainable: Option<Arc<Trainable>>,
}

impl BatchNorm {
    /// Reads `weight`, `bias`, `running_mean` and `running_var`, all `(channels)`.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn load(
        params: &Params,
        channels: usize,
        eps: f64,
    ) -> std::result::Result<Self, WeightsError> {
        let parameter = |key| params.parameter(key, &[channels]);
        let (weight, bias) = (parameter("weight")?, parameter("bias")?);
        let buffer = |key| params.buffer(key, &[channels]);
        let running = RunningStatistics {
            mean: buffer("running_mean")?.values().to_vec(),
            var: buffer("running_var")?.values().to_vec(),
            batches: 0,
        };
        let trainable = match weight.is_trained() || bias.is_trained() {
            true => params.trains().cloned(),
            false => None,
        };
        let folded = weight.fixed().zip(bias.fixed()).map(|(weight, bias)| {
            let (scale, shift) = (0..channels)
                .map(|c| {
                    let scale = weight.values()[c] / (running.var[c] + eps as f32).sqrt();
                    (scale, bias.values()[c] - running.mean[c] * scale)
                })
                .unzip();
            let made = |values| Weight::from_values(values, &[channels]);
            (made(scale), made(shift))
        });
        Ok(BatchNorm {
            weight,
            bias,
            running: params.running_statistics(running),
            eps: eps as f32,
            folded,
            trainable,
        })
    }

    /// The factor and the offset of every channel, to be folded into the layer before; `None` where it
    /// is trained.
    pub fn scale_shift(&self) -> Option<(&[f32], &[f32])> {
        let (scale, shift) = self.folded.as_ref()?;
        Some((scale.values(), shift.values()))
    }

    /// `(.., channels)` to the same.
    ///
    /// # Errors
    /// When the last dimension is not `channels`, or the statistics of a batch of one row are asked
    /// for.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rows_of(x.dims(), self.weight.dims()[0], "batch_norm")?;
        if let (Some(folded), false) = (&self.folded, x.track_op()) {
            let (scale, shift) = folded.clone();
            return apply(x, "batch_norm", move |x, dims| {
                let mut out = vec![0.0; x.len()];
                scale_shift(x, scale.values(), shift.values(), &mut out);
                Ok((out, dims.into()))
            });
        }
        let of_input = match &self.trainable {
            Some(trainable) => trainable.mode().batch_statistics,
            None => false,
        };
        let standardise = Standardise {
            statistics: vec![match of_input {
                true => self.gather(x)?,
                false => self.gathered(),
            }],
            of_input,
            eps: self.eps,
        };
        call3(standardise, x, &self.weight.tensor()?, &self.bias.tensor()?)
    }

    /// The statistics of a batch, which go into the running ones too.
    fn gather(&self, x: &Tensor) -> Result<Statistics> {
        let channels = self.weight.dims()[0];
        let rows = x.elem_count() / channels.max(1);
        if rows < 2 {
            return Err(Error::Msg(format!(
                "batch_norm: the statistics of a batch need at least two rows, got {:?}",
                x.dims()
            )));
        }
        let statistics = with_values(x, |x| Ok(Statistics::of(x, channels)))?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // The running variance is that of a sample, divided by one row less; that of the batch is not.
        let sample = rows as f64 / (rows - 1) as f64;
        for c in 0..channels {
            let (mean, var) = (
                statistics.mean[c] as f32,
                (statistics.var[c] * sample) as f32,
            );
            running.mean[c] += MOMENTUM * (mean - running.mean[c]);
            running.var[c] += MOMENTUM * (var - running.var[c]);
        }
        running.batches += 1;
        Ok(statistics)
    }

    /// The running statistics.
    fn gathered(&self) -> Statistics {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect();
        Statistics {
            mean: wide(&running.mean),
            var: wide(&running.var),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;
    use safetensors::tensor::{Dtype, TensorView};

    use super::super::testing::{Input, assert_close, check_gradients, check_layer, draw, normal};
    use super::*;
    use crate::nn::params::Mode;

    fn finish(x: Tensor, gamma: &Tensor, beta: &Tensor) -> Tensor {
        x.broadcast_mul(gamma).unwrap().broadcast_add(beta).unwrap()
    }

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
        let expected = finish(normal(&x, 1, 1e-5), &gamma, &beta);
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

    /// A checkpoint with a batch normalisation of three channels at `norm`.
    fn checkpoint(path: &std::path::Path) -> Params {
        let of = |values: [f32; 3]| values.map(f32::to_le_bytes).concat();
        let tensors = [
            ("norm.weight", of([0.5, 1.5, -1.0])),
            ("norm.bias", of([0.1, -0.2, 0.3])),
            ("norm.running_mean", of([0.2, 0.0, -0.3])),
            ("norm.running_var", of([0.5, 1.0, 2.0])),
        ];
        let views = tensors
            .iter()
            .map(|(key, bytes)| (*key, TensorView::new(Dtype::F32, vec![3], bytes).unwrap()));
        let bytes = safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
        std::fs::write(path, bytes).unwrap();
        Params::open_file(path).unwrap()
    }

    #[test]
    fn a_fixed_and_a_trained_batch_norm_are_the_same_until_the_batch_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let params = checkpoint(&path);
        let fixed = BatchNorm::load(&params.pp("norm"), 3, 1e-5).unwrap();
        let (trained_params, trainable) = params.trainable(|_| true);
        let trained = BatchNorm::load(&trained_params.pp("norm"), 3, 1e-5).unwrap();
        assert!(fixed.scale_shift().is_some() && trained.scale_shift().is_none());
        // Running statistics are no variables.
        let keys: Vec<String> = trainable.variables().into_keys().collect();
        assert_eq!(keys, ["norm.bias", "norm.weight"]);
        let x = draw(1, &[2, 9, 3]);
        let out = fixed.forward(&x).unwrap();
        assert!(!out.track_op());
        assert_close(&trained.forward(&x).unwrap(), &out, 1e-5);
        check_gradients(std::slice::from_ref(&x), |x| fixed.forward(&x[0]));
        check_gradients(std::slice::from_ref(&x), |x| trained.forward(&x[0]));

        trainable.set_mode(Mode {
            batch_statistics: true,
            ..Mode::default()
        });
        let flat = x.reshape((18, 3)).unwrap();
        let gamma = Tensor::new(&[0.5f32, 1.5, -1.0], &Device::Cpu).unwrap();
        let beta = Tensor::new(&[0.1f32, -0.2, 0.3], &Device::Cpu).unwrap();
        let expected = finish(normal(&flat, 0, 1e-5), &gamma, &beta);
        let got = trained.forward(&x).unwrap().reshape((18, 3)).unwrap();
        assert_close(&got, &expected, 1e-5);
        // A tenth of the batch, whose variance is that of a sample.
        let mean = flat.mean(0).unwrap().to_vec1::<f32>().unwrap();
        let var = flat.var(0).unwrap().to_vec1::<f32>().unwrap();
        let running = trained.running.lock().unwrap().clone();
        for c in 0..3 {
            let (old_mean, old_var) = ([0.2, 0.0, -0.3][c], [0.5, 1.0, 2.0][c]);
            assert!((running.mean[c] - 0.9 * old_mean - 0.1 * mean[c]).abs() < 1e-6);
            assert!((running.var[c] - 0.9 * old_var - 0.1 * var[c]).abs() < 1e-6);
        }
        trained_params.save(&path).unwrap();
        let saved = Params::open_file(&path).unwrap();
        let saved = saved.buffer("norm.running_var", &[3]).unwrap();
        assert_eq!(saved.values(), running.var);
        check_gradients(&[x], |x| trained.forward(&x[0]));
        assert!(trained.forward(&draw(1, &[1, 3])).is_err());
        // A fixed one keeps to its own statistics whatever the mode.
        let (frozen, trainable) =
            params.trainable(|key| key != "norm.weight" && key != "norm.bias");
        trainable.set_mode(Mode {
            batch_statistics: true,
            dropout: true,
        });
        let frozen = BatchNorm::load(&frozen.pp("norm"), 3, 1e-5).unwrap();
        assert!(frozen.scale_shift().is_some());
    }

    #[test]
    fn variables_of_a_batch_norm_get_the_gradients_of_differences() {
        for of_input in [false, true] {
            let x = draw(1, &[2, 5, 3]);
            check_gradients(&[x.clone(), draw(2, &[3]), draw(3, &[3])], |vars| {
                let statistics = with_values(&vars[0], |x| Ok(Statistics::of(x, 3)))?;
                let statistics = match of_input {
                    true => statistics,
                    false => Statistics {
                        mean: vec![0.3; 3],
                        var: vec![0.6; 3],
                    },
                };
                let standardise = Standardise {
                    statistics: vec![statistics],
                    of_input,
                    eps: 1e-3,
                };
                call3(standardise, &vars[0], &vars[1], &vars[2])
            });
        }
    }
}
