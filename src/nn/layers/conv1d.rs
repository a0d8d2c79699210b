//! Convolutions over time, as matrix products.
//!
//! With channels last, the values that one output sees lie in one run, and the next output's run
//! begins `stride * channels` further on: a matrix that overlaps itself, which needs no copy. The
//! kernels are put in that order when they are loaded, those that are trained on every run.

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use super::function::{Backward, Function, Output, View, call_layer, tracks};
use super::{Activation, activate, apply, sum_rows};
use crate::kernels::gemm::{Finish, Matrix, gemm, product};
use crate::kernels::rows;
use crate::nn::params::{Parameter, Params, Weight};
use crate::nn::weights::WeightsError;

/// The shape of a convolution over time; names as in PyTorch's `Conv1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv1dSpec {
    /// Channels that come in.
    pub inputs: usize,
    /// Channels that go out.
    pub outputs: usize,
    /// Taps.
    pub kernel: usize,
    /// Steps between outputs.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Steps between taps.
    pub dilation: usize,
    /// Parts of the channels that see only themselves.
    pub groups: usize,
}

impl Conv1dSpec {
    /// A convolution of stride 1 without padding, dilation or groups.
    pub fn new(inputs: usize, outputs: usize, kernel: usize) -> Self {
        Conv1dSpec {
            inputs,
            outputs,
            kernel,
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        }
    }

    /// How many outputs `time` inputs give; 0 where they are too few.
    pub fn out_time(&self, time: usize) -> usize {
        let reach = self.dilation * (self.kernel - 1) + 1;
        match (time + 2 * self.padding).checked_sub(reach) {
            Some(rest) => rest / self.stride + 1,
            None => 0,
        }
    }

    fn is_sound(&self) -> bool {
        let positive = [
            self.inputs,
            self.outputs,
            self.kernel,
            self.stride,
            self.dilation,
            self.groups,
        ];
        !positive.contains(&0)
            && self.inputs.is_multiple_of(self.groups)
            && self.outputs.is_multiple_of(self.groups)
    }

    /// Batch, time and time of the output for an input of these dimensions.
    fn sizes(&self, dims: &[usize]) -> Result<(usize, usize, usize)> {
        match *dims {
            [batch, time, channels] if channels == self.inputs && self.out_time(time) > 0 => {
                Ok((batch, time, self.out_time(time)))
            }
            _ => Err(Error::Msg(format!(
                "conv1d: expected (batch, at least {}, {}), got {dims:?}",
                self.dilation * (self.kernel - 1) + 1,
                self.inputs
            ))),
        }
    }
}

/// A convolution over time.
#[derive(Debug, Clone)]
pub struct Conv1d {
    spec: Conv1dSpec,
    /// `(outputs, kernel, inputs / groups)`, or that with its last two as one; `(outputs, inputs /
    /// groups, kernel)` as published where it is trained.
    weight: Parameter,
    /// `(outputs)`.
    bias: Option<Parameter>,
}

impl Conv1d {
    /// Reads `weight (outputs, inputs / groups, kernel)`, and `bias (outputs)` where it is there.
    ///
    /// # Errors
    /// When one is missing or misshapen, or the specification makes no sense.
    pub fn load(params: &Params, spec: Conv1dSpec) -> std::result::Result<Self, WeightsError> {
        if !spec.is_sound() {
            return Err(params.wrong("weight", &format!("no convolution has the shape {spec:?}")));
        }
        let shape = [spec.outputs, spec.inputs / spec.groups, spec.kernel];
        let weight = params.parameter("weight", &shape)?;
        let bias = match params.has("bias") {
            true => Some(params.parameter("bias", &[spec.outputs])?),
            false => None,
        };
        Ok(Conv1d::of(spec, weight, bias))
    }

    /// Reads a convolution that was published as a linear layer over the taps side by side: `weight
    /// (outputs, kernel * inputs)` and `bias (outputs)`.
    ///
    /// # Errors
    /// When one is missing or misshapen, or the specification makes no sense.
    pub fn load_unfolded(
        params: &Params,
        spec: Conv1dSpec,
    ) -> std::result::Result<Self, WeightsError> {
        let width = spec.kernel.checked_mul(spec.inputs);
        let Some(width) = width.filter(|_| spec.is_sound() && spec.groups == 1) else {
            return Err(params.wrong("weight", &format!("no convolution has the shape {spec:?}")));
        };
        Ok(Conv1d {
            spec,
            weight: params.parameter("weight", &[spec.outputs, width])?,
            bias: Some(params.parameter("bias", &[spec.outputs])?),
        })
    }

    /// A convolution of weights that were made at load time: `weight (outputs, inputs / groups,
    /// kernel)`, `bias (outputs)`.
    pub fn new(spec: Conv1dSpec, weight: &Weight, bias: Option<Weight>) -> Self {
        Conv1d::of(spec, weight.clone().into(), bias.map(Parameter::from))
    }

    /// A convolution of parameters of the same shapes.
    pub fn of(spec: Conv1dSpec, weight: Parameter, bias: Option<Parameter>) -> Self {
        let turned = weight
            .fixed()
            .map(|weight| channels_last(weight, spec.inputs / spec.groups, spec.kernel));
        Conv1d {
            weight: turned.map_or(weight, Parameter::from),
            spec,
            bias,
        }
    }

    /// `(batch, time, inputs)` to `(batch, out_time, outputs)`, then an activation.
    ///
    /// # Errors
    /// When the input has another shape or is shorter than the kernel.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        if tracks(x, [&self.weight].into_iter().chain(&self.bias)) {
            let weight = self.weight.tensor()?;
            let weight = match (self.weight.is_trained(), weight.rank()) {
                (true, 3) => weight.transpose(1, 2)?,
                _ => weight,
            };
            let out = call_layer(Convolve(self.spec), x, &weight, self.bias.as_ref())?;
            return activate(&out, activation);
        }
        let layer = self.clone();
        apply(x, "conv1d", move |x, dims| {
            let bias = layer.bias.as_ref().map(Parameter::values);
            let x = View { values: x, dims };
            layer.spec.run(x, layer.weight.values(), bias, activation)
        })
    }
}

impl Conv1dSpec {
    fn run(&self, x: View, weight: &[f32], bias: Option<&[f32]>, activation: Activation) -> Output {
        let (batch, time, out_time) = self.sizes(x.dims)?;
        let length = out_time * self.outputs;
        let mut out = vec![0.0; batch * length];
        let finish = Finish {
            bias,
            activation,
            residual: None,
        };
        for (x, out) in x
            .values
            .chunks_exact(time * self.inputs)
            .zip(out.chunks_exact_mut(length))
        {
            if self.groups == 1 {
                self.whole(x, weight, finish, out);
            } else {
                self.grouped(x, weight, finish, out);
            }
        }
        Ok((out, (batch, out_time, self.outputs).into()))
    }

    /// The convolution of one group by itself.
    fn one_group(&self) -> Self {
        Conv1dSpec {
            inputs: self.inputs / self.groups,
            outputs: self.outputs / self.groups,
            groups: 1,
            ..*self
        }
    }

    /// One sequence, every channel seeing all others.
    fn whole(&self, x: &[f32], weight: &[f32], finish: Finish, out: &mut [f32]) {
        let padded;
        let x = if self.padding == 0 {
            x
        } else {
            padded = pad(x, self.inputs, 0..self.inputs, self.padding);
            &padded
        };
        let (rows, cols) = (out.len() / self.outputs, self.kernel * self.inputs);
        let mut unrolled = Vec::new();
        let windows = self.windows(x, rows, &mut unrolled);
        let weight = Matrix::row_major(weight, self.outputs, cols);
        product(windows, weight.transposed(), finish, out);
    }

    /// What the first `rows` outputs see of padded `x`, in a convolution without groups.
    fn windows<'a>(&self, x: &'a [f32], rows: usize, unrolled: &'a mut Vec<f32>) -> Matrix<'a> {
        let cols = self.kernel * self.inputs;
        if self.dilation == 1 {
            return Matrix::new(x, rows, cols, (self.stride * self.inputs, 1));
        }
        *unrolled = unroll(x, rows, *self);
        Matrix::row_major(unrolled, rows, cols)
    }

    /// One sequence, group by group.
    fn grouped(&self, x: &[f32], weight: &[f32], finish: Finish, out: &mut [f32]) {
        let one = self.one_group();
        let (rows, cols) = (out.len() / self.outputs, self.kernel * one.inputs);
        let parts: Vec<Vec<f32>> = (0..self.groups)
            .into_par_iter()
            .map(|group| {
                let x = pad(x, self.inputs, self.channels(group), self.padding);
                let mut part = vec![0.0; rows * one.outputs];
                let mut unrolled = Vec::new();
                let windows = one.windows(&x, rows, &mut unrolled);
                let weight = &weight[group * one.outputs * cols..][..one.outputs * cols];
                let weight = Matrix::row_major(weight, one.outputs, cols).transposed();
                gemm(1.0, windows, weight, 0.0, &mut part, one.outputs);
                part
            })
            .collect();
        out.par_chunks_exact_mut(self.outputs)
            .enumerate()
            .for_each(|(row, out)| {
                for (part, out) in parts.iter().zip(out.chunks_exact_mut(one.outputs)) {
                    out.copy_from_slice(&part[row * one.outputs..][..one.outputs]);
                }
                if let Some(bias) = finish.bias {
                    rows::add(out, bias);
                }
                finish.activation.apply(out);
            });
    }

    /// The channels that a group sees.
    fn channels(&self, group: usize) -> std::ops::Range<usize> {
        let inputs = self.inputs / self.groups;
        group * inputs..(group + 1) * inputs
    }
}

/// The convolution of `x`, `weight (outputs, kernel, inputs / groups)` and perhaps a bias.
struct Convolve(Conv1dSpec);

/// Outputs that one task of the way back takes at a time.
const ROWS: usize = 512;

/// What one task gives: the gradient of some channels of a sequence from one padded step on.
struct Part {
    sequence: usize,
    group: usize,
    step: usize,
    /// `(steps, inputs / groups)`.
    values: Vec<f32>,
}

impl Convolve {
    /// The gradient of what some outputs of one group saw, and that of their weight, which is added to
    /// `of_weight (outputs / groups, kernel * inputs / groups)`. `grad` has rows of all groups.
    fn back(
        &self,
        (x, weight): (&[f32], &[f32]),
        grad: Matrix,
        rows: usize,
        wanted: [bool; 2],
        of_weight: &mut [f32],
    ) -> Vec<f32> {
        let one = self.0.one_group();
        let cols = one.kernel * one.inputs;
        if wanted[1] {
            let mut unrolled = Vec::new();
            let windows = one.windows(x, rows, &mut unrolled);
            gemm(1.0, grad.transposed(), windows, 1.0, of_weight, cols);
        }
        if !wanted[0] {
            return Vec::new();
        }
        let mut seen = vec![0.0; rows * cols];
        let weight = Matrix::row_major(weight, one.outputs, cols);
        gemm(1.0, grad, weight, 0.0, &mut seen, cols);
        let steps = (rows - 1) * one.stride + one.dilation * (one.kernel - 1) + 1;
        let mut values = vec![0.0; steps * one.inputs];
        for (row, seen) in seen.chunks_exact(cols).enumerate() {
            let at = row * one.stride * one.inputs;
            if one.dilation == 1 {
                rows::add(&mut values[at..at + cols], seen);
                continue;
            }
            for (tap, seen) in seen.chunks_exact(one.inputs).enumerate() {
                let at = at + tap * one.dilation * one.inputs;
                rows::add(&mut values[at..at + one.inputs], seen);
            }
        }
        values
    }
}

impl<const N: usize> Function<N> for Convolve {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn forward(&self, x: [View; N]) -> Output {
        let bias = x.get(2).map(|bias| bias.values);
        self.0.run(x[0], x[1].values, bias, Activation::Identity)
    }

    fn backward(&self, at: Backward<N>) -> Result<[Option<Vec<f32>>; N]> {
        let (spec, one) = (self.0, self.0.one_group());
        let (x, weight) = (at.x[0], at.x[1].values);
        let (batch, time, out_time) = spec.sizes(x.dims)?;
        let wanted = [at.wanted[0], at.wanted[1]];
        let size = weight.len() / spec.groups;
        let blocks = out_time.div_ceil(ROWS);
        let task = |index: usize, of_weight: &mut [f32]| -> Part {
            let (sequence, rest) = (
                index / (spec.groups * blocks),
                index % (spec.groups * blocks),
            );
            let (group, first) = (rest / blocks, rest % blocks * ROWS);
            let rows = ROWS.min(out_time - first);
            // No more of the sequence than these outputs see.
            let from = (first * spec.stride).saturating_sub(spec.padding).min(time);
            let reach = (rows - 1) * spec.stride + spec.dilation * (spec.kernel - 1) + 1;
            let to = (first * spec.stride + reach)
                .saturating_sub(spec.padding)
                .min(time);
            let mut seen = vec![0.0; reach * one.inputs];
            let skip = spec.padding.saturating_sub(first * spec.stride);
            let sequence_values = &x.values[sequence * time * spec.inputs..][..time * spec.inputs];
            for (seen, step) in seen.chunks_exact_mut(one.inputs).skip(skip).zip(from..to) {
                let row = &sequence_values[step * spec.inputs..][..spec.inputs];
                seen.copy_from_slice(&row[spec.channels(group)]);
            }
            let start = (sequence * out_time + first) * spec.outputs + group * one.outputs;
            let grad = Matrix::new(&at.grad[start..], rows, one.outputs, (spec.outputs, 1));
            let weight = &weight[group * size..][..size];
            let of_weight = &mut of_weight[group * size..][..size];
            Part {
                sequence,
                group,
                step: first * spec.stride,
                values: self.back((&seen, weight), grad, rows, wanted, of_weight),
            }
        };
        // As many sums of the weight's gradient as threads: each of them is as large as the weight.
        let tasks = batch * spec.groups * blocks;
        let workers = rayon::current_num_threads().clamp(1, tasks.max(1));
        let done: Vec<(Vec<Part>, Vec<f32>)> = (0..workers)
            .into_par_iter()
            .map(|worker| {
                let mut of_weight = vec![0.0; weight.len()];
                let parts = (worker..tasks)
                    .step_by(workers)
                    .map(|at| task(at, &mut of_weight))
                    .collect();
                (parts, of_weight)
            })
            .collect();
        let mut of_x = vec![0.0; if wanted[0] { x.values.len() } else { 0 }];
        let mut of_weight = vec![0.0; weight.len()];
        for (parts, weight) in done {
            rows::add(&mut of_weight, &weight);
            for part in parts.into_iter().filter(|_| wanted[0]) {
                let sequence =
                    &mut of_x[part.sequence * time * spec.inputs..][..time * spec.inputs];
                for (offset, values) in part.values.chunks_exact(one.inputs).enumerate() {
                    // What is outside the sequence was padding.
                    let step = (part.step + offset).checked_sub(spec.padding);
                    if let Some(step) = step.filter(|step| *step < time) {
                        let row = &mut sequence[step * spec.inputs..][..spec.inputs];
                        rows::add(&mut row[spec.channels(part.group)], values);
                    }
                }
            }
        }
        let (mut of_x, mut of_weight) = (Some(of_x), Some(of_weight));
        Ok(std::array::from_fn(|i| match i {
            _ if !at.wanted[i] => None,
            0 => of_x.take(),
            1 => of_weight.take(),
            _ => Some(sum_rows(at.grad, spec.outputs)),
        }))
    }
}

/// `weight (outputs, inputs, taps)` as `(outputs, taps, inputs)`; as it is where they are the same.
pub(super) fn channels_last(weight: &Weight, inputs: usize, taps: usize) -> Weight {
    let outputs = weight.dims()[0];
    if inputs == 1 || taps == 1 {
        return weight.clone();
    }
    let mut turned = vec![0.0; weight.values().len()];
    turned
        .par_chunks_exact_mut(inputs * taps)
        .zip(weight.values().par_chunks_exact(inputs * taps))
        .for_each(|(turned, values)| {
            for (tap, turned) in turned.chunks_exact_mut(inputs).enumerate() {
                for (turned, values) in turned.iter_mut().zip(values.chunks_exact(taps)) {
                    *turned = values[tap];
                }
            }
        });
    Weight::from_values(turned, &[outputs, taps, inputs])
}

/// Some channels of `x (time, width)` with zeros before and after, `(time + 2 padding, channels)`.
fn pad(x: &[f32], width: usize, channels: std::ops::Range<usize>, padding: usize) -> Vec<f32> {
    let count = channels.len();
    let mut padded = vec![0.0; (x.len() / width + 2 * padding) * count];
    for (padded, x) in padded[padding * count..]
        .chunks_exact_mut(count)
        .zip(x.chunks_exact(width))
    {
        padded.copy_from_slice(&x[channels.clone()]);
    }
    padded
}

/// Every output's taps side by side, `(rows, kernel * inputs)`.
fn unroll(x: &[f32], rows: usize, spec: Conv1dSpec) -> Vec<f32> {
    let mut unrolled = vec![0.0; rows * spec.kernel * spec.inputs];
    for (row, taps) in unrolled
        .chunks_exact_mut(spec.kernel * spec.inputs)
        .enumerate()
    {
        for (tap, values) in taps.chunks_exact_mut(spec.inputs).enumerate() {
            let at = (row * spec.stride + tap * spec.dilation) * spec.inputs;
            values.copy_from_slice(&x[at..at + spec.inputs]);
        }
    }
    unrolled
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, check_layer, draw, weight};
    use super::*;

    #[test]
    fn convolutions_over_time_equal_candle() {
        for (inputs, outputs, kernel, stride, padding, dilation, groups) in [
            (1, 32, 10, 5, 0, 1, 1),
            (16, 24, 3, 2, 0, 1, 1),
            (16, 24, 1, 1, 0, 1, 1),
            (8, 12, 3, 1, 3, 3, 1),
            (12, 24, 8, 1, 4, 1, 4),
            (12, 12, 5, 2, 2, 2, 3),
        ] {
            let spec = Conv1dSpec {
                inputs,
                outputs,
                kernel,
                stride,
                padding,
                dilation,
                groups,
            };
            let x = draw(1, &[2, 41, inputs]);
            let (w, b) = (
                draw(2, &[outputs, inputs / groups, kernel]),
                draw(3, &[outputs]),
            );
            let expected = x
                .transpose(1, 2)
                .unwrap()
                .conv1d(&w, padding, stride, dilation, groups)
                .unwrap()
                .broadcast_add(&b.reshape((1, outputs, 1)).unwrap())
                .unwrap()
                .relu()
                .unwrap()
                .transpose(1, 2)
                .unwrap();
            let layer = Conv1d::new(spec, &weight(&w), Some(weight(&b)));
            assert_close(
                &layer.forward(&x, Activation::Relu).unwrap(),
                &expected,
                1e-5,
            );
        }
    }

    #[test]
    fn what_is_too_short_is_an_error() {
        let spec = Conv1dSpec::new(2, 3, 5);
        let layer = Conv1d::new(spec, &weight(&draw(1, &[3, 2, 5])), None);
        assert_eq!(
            layer
                .forward(&draw(2, &[1, 5, 2]), Activation::Identity)
                .unwrap()
                .dims(),
            [1, 1, 3]
        );
        assert!(
            layer
                .forward(&draw(2, &[1, 4, 2]), Activation::Identity)
                .is_err()
        );
        assert!(
            layer
                .forward(&draw(2, &[1, 5, 3]), Activation::Identity)
                .is_err()
        );
    }

    #[test]
    fn the_trained_form_is_the_same_and_gradients_are_those_of_differences() {
        for (inputs, outputs, kernel, stride, padding, dilation, groups) in [
            (1, 4, 5, 2, 0, 1, 1),
            (3, 4, 3, 2, 2, 1, 1),
            (2, 3, 3, 1, 3, 2, 1),
            (4, 6, 4, 1, 2, 1, 2),
            (4, 4, 3, 3, 1, 2, 2),
        ] {
            let spec = Conv1dSpec {
                inputs,
                outputs,
                kernel,
                stride,
                padding,
                dilation,
                groups,
            };
            let inputs = [
                draw(1, &[2, 11, inputs]),
                draw(2, &[outputs, inputs / groups, kernel]),
                draw(3, &[outputs]),
            ];
            check_layer(&inputs, |[x, weight, bias]| {
                let layer = Conv1d::of(spec, weight.parameter(), Some(bias.parameter()));
                layer.forward(&x.tensor(), Activation::Tanh)
            });
            let [x, weight, _] = inputs;
            check_layer(&[x, weight], |[x, weight]| {
                let layer = Conv1d::of(spec, weight.parameter(), None);
                layer.forward(&x.tensor(), Activation::Identity)
            });
        }
        // More outputs than a task takes: the parts meet without a seam.
        let spec = Conv1dSpec {
            padding: 1,
            ..Conv1dSpec::new(2, 2, 3)
        };
        let inputs = [draw(1, &[1, ROWS + 40, 2]), draw(2, &[2, 2, 3])];
        check_layer(&inputs, |[x, weight]| {
            let layer = Conv1d::of(spec, weight.parameter(), None);
            layer.forward(&x.tensor(), Activation::Identity)
        });
    }

    #[test]
    fn a_kernel_published_unfolded_is_trained_as_it_is() {
        let spec = Conv1dSpec::new(3, 4, 2);
        let inputs = [draw(1, &[2, 6, 3]), draw(2, &[4, 6])];
        check_layer(&inputs, |[x, weight]| {
            let layer = Conv1d {
                spec,
                weight: weight.parameter(),
                bias: None,
            };
            layer.forward(&x.tensor(), Activation::Identity)
        });
    }
}
