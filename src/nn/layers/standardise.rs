//! Every channel to zero mean and unit variance over many rows: what the normalisations of a sequence
//! and of a batch have in common.

use candle_core::Result;
use rayon::prelude::*;

use super::function::{Backward, Function, Output, View};
use super::{ROWS, TASK};
use crate::kernels::{norm, rows};

/// `out = x * scale + shift` a channel.
pub(super) fn scale_shift(x: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
    let part = (TASK.div_ceil(scale.len().max(1)) * scale.len()).max(1);
    out.par_chunks_mut(part)
        .zip(x.par_chunks(part))
        .for_each(|(out, x)| norm::scale_shift(x, scale, shift, false, out));
}

/// Mean and variance of every channel.
#[derive(Debug, Clone)]
pub(super) struct Statistics {
    pub mean: Vec<f64>,
    pub var: Vec<f64>,
}

impl Statistics {
    /// Those of the rows of `x (rows, channels)`.
    pub fn of(x: &[f32], channels: usize) -> Self {
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
            .par_chunks(ROWS * channels)
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
    pub fn scale_shift(&self, weight: &[f32], bias: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
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
pub(super) struct Standardise {
    pub statistics: Vec<Statistics>,
    /// Whether they are those of the input, so that they move with it.
    pub of_input: bool,
    pub eps: f32,
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
            let task = ROWS * channels;
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
    let task = ROWS * channels;
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

#[cfg(test)]
mod tests {
    use super::super::function::call3;
    use super::super::testing::{check_gradients, draw};
    use super::*;
    use crate::nn::ops::with_values;

    #[test]
    fn gradients_are_those_of_differences_whether_or_not_the_statistics_move() {
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
