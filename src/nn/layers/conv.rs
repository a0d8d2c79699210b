//! Convolutions over time, and over height and width, as matrix products.
//!
//! With channels last, the values that one output sees lie in one run, and the next output's run
//! begins `stride * channels` further on: a matrix that overlaps itself, which needs no copy. The
//! kernels are put in that order when they are loaded.

use candle_core::{Error, Tensor};
use rayon::prelude::*;

use super::{Activation, apply};
use crate::kernels::gemm::{Finish, Matrix, gemm, product};
use crate::kernels::rows;
use crate::nn::params::{Params, Weight};
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
}

/// A convolution over time.
#[derive(Debug, Clone)]
pub struct Conv1d {
    spec: Conv1dSpec,
    /// `(outputs, kernel, inputs / groups)`.
    weight: Weight,
    /// `(outputs)`.
    bias: Option<Weight>,
}

impl Conv1d {
    /// Reads `weight (outputs, inputs / groups, kernel)`, and `bias (outputs)` where it is there.
    ///
    /// # Errors
    /// When one is missing or misshapen, or the specification makes no sense.
    pub fn load(params: &Params, spec: Conv1dSpec) -> Result<Self, WeightsError> {
        if !spec.is_sound() {
            return Err(params.wrong("weight", &format!("no convolution has the shape {spec:?}")));
        }
        let shape = [spec.outputs, spec.inputs / spec.groups, spec.kernel];
        let weight = params.get("weight", &shape)?;
        let bias = match params.has("bias") {
            true => Some(params.get("bias", &[spec.outputs])?),
            false => None,
        };
        Ok(Conv1d::new(spec, &weight, bias))
    }

    /// Reads a convolution that was published as a linear layer over the taps side by side: `weight
    /// (outputs, kernel * inputs)` and `bias (outputs)`.
    ///
    /// # Errors
    /// When one is missing or misshapen, or the specification makes no sense.
    pub fn load_unfolded(params: &Params, spec: Conv1dSpec) -> Result<Self, WeightsError> {
        let width = spec.kernel.checked_mul(spec.inputs);
        let Some(width) = width.filter(|_| spec.is_sound() && spec.groups == 1) else {
            return Err(params.wrong("weight", &format!("no convolution has the shape {spec:?}")));
        };
        Ok(Conv1d {
            spec,
            weight: params.get("weight", &[spec.outputs, width])?,
            bias: Some(params.get("bias", &[spec.outputs])?),
        })
    }

    /// A convolution of weights that were made at load time: `weight (outputs, inputs / groups,
    /// kernel)`, `bias (outputs)`.
    pub fn new(spec: Conv1dSpec, weight: &Weight, bias: Option<Weight>) -> Self {
        Conv1d {
            weight: channels_last(weight, spec.inputs / spec.groups, spec.kernel),
            spec,
            bias,
        }
    }

    /// `(batch, time, inputs)` to `(batch, out_time, outputs)`, then an activation.
    ///
    /// # Errors
    /// When the input has another shape or is shorter than the kernel.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
        let layer = self.clone();
        apply(x, "conv1d", move |x, dims| {
            let spec = layer.spec;
            let (batch, time, out_time) = match *dims {
                [batch, time, channels] if channels == spec.inputs && spec.out_time(time) > 0 => {
                    (batch, time, spec.out_time(time))
                }
                _ => {
                    return Err(Error::Msg(format!(
                        "conv1d: expected (batch, at least {}, {}), got {dims:?}",
                        spec.dilation * (spec.kernel - 1) + 1,
                        spec.inputs
                    )));
                }
            };
            let length = out_time * spec.outputs;
            let mut out = vec![0.0; batch * length];
            for (x, out) in x
                .chunks_exact(time * spec.inputs)
                .zip(out.chunks_exact_mut(length))
            {
                if spec.groups == 1 {
                    layer.whole(x, activation, out);
                } else {
                    layer.grouped(x, activation, out);
                }
            }
            Ok((out, (batch, out_time, spec.outputs).into()))
        })
    }

    /// One sequence, every channel seeing all others.
    fn whole(&self, x: &[f32], activation: Activation, out: &mut [f32]) {
        let spec = self.spec;
        let padded;
        let x = if spec.padding == 0 {
            x
        } else {
            padded = pad(x, spec.inputs, 0..spec.inputs, spec.padding);
            &padded
        };
        let (rows, cols) = (out.len() / spec.outputs, spec.kernel * spec.inputs);
        let unrolled;
        let windows = if spec.dilation == 1 {
            Matrix::new(x, rows, cols, (spec.stride * spec.inputs, 1))
        } else {
            unrolled = unroll(x, rows, spec);
            Matrix::row_major(&unrolled, rows, cols)
        };
        let finish = Finish {
            bias: self.bias.as_ref().map(Weight::values),
            activation,
            residual: None,
        };
        let weight = Matrix::row_major(self.weight.values(), spec.outputs, cols);
        product(windows, weight.transposed(), finish, out);
    }

    /// One sequence, group by group.
    fn grouped(&self, x: &[f32], activation: Activation, out: &mut [f32]) {
        let spec = self.spec;
        let (inputs, outputs) = (spec.inputs / spec.groups, spec.outputs / spec.groups);
        let (rows, cols) = (out.len() / spec.outputs, spec.kernel * inputs);
        let parts: Vec<Vec<f32>> = (0..spec.groups)
            .into_par_iter()
            .map(|group| {
                let x = pad(
                    x,
                    spec.inputs,
                    group * inputs..(group + 1) * inputs,
                    spec.padding,
                );
                let mut part = vec![0.0; rows * outputs];
                let windows =
                    (spec.dilation > 1).then(|| unroll(&x, rows, Conv1dSpec { inputs, ..spec }));
                let windows = match &windows {
                    Some(unrolled) => Matrix::row_major(unrolled, rows, cols),
                    None => Matrix::new(&x, rows, cols, (spec.stride * inputs, 1)),
                };
                let weight = &self.weight.values()[group * outputs * cols..][..outputs * cols];
                let weight = Matrix::row_major(weight, outputs, cols).transposed();
                gemm(1.0, windows, weight, 0.0, &mut part, outputs);
                part
            })
            .collect();
        out.par_chunks_exact_mut(spec.outputs)
            .enumerate()
            .for_each(|(row, out)| {
                for (part, out) in parts.iter().zip(out.chunks_exact_mut(outputs)) {
                    out.copy_from_slice(&part[row * outputs..][..outputs]);
                }
                if let Some(bias) = &self.bias {
                    rows::add(out, bias.values());
                }
                activation.apply(out);
            });
    }
}

/// `weight (outputs, inputs, taps)` as `(outputs, taps, inputs)`; as it is where they are the same.
fn channels_last(weight: &Weight, inputs: usize, taps: usize) -> Weight {
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

/// The shape of a convolution over height and width; names as in PyTorch's `Conv2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dSpec {
    /// Channels that come in.
    pub inputs: usize,
    /// Channels that go out.
    pub outputs: usize,
    /// Taps, height and width.
    pub kernel: (usize, usize),
    /// Steps between outputs, height and width.
    pub stride: (usize, usize),
    /// Zeros on each side, height and width.
    pub padding: (usize, usize),
}

impl Conv2dSpec {
    /// Height and width of the output of an input of this height and width; 0 where it is too small.
    pub fn out_size(&self, size: (usize, usize)) -> (usize, usize) {
        let one = |size: usize, kernel: usize, stride: usize, padding: usize| {
            (size + 2 * padding)
                .checked_sub(kernel)
                .map_or(0, |rest| rest / stride + 1)
        };
        (
            one(size.0, self.kernel.0, self.stride.0, self.padding.0),
            one(size.1, self.kernel.1, self.stride.1, self.padding.1),
        )
    }
}

/// A convolution over height and width.
#[derive(Debug, Clone)]
pub struct Conv2d {
    spec: Conv2dSpec,
    /// `(outputs, kernel height * width, inputs)`.
    weight: Weight,
    bias: Option<Weight>,
}

impl Conv2d {
    /// Reads `weight (outputs, inputs, kernel height, kernel width)`, and `bias (outputs)` where it is
    /// there.
    ///
    /// # Errors
    /// When one is missing or misshapen, or the specification makes no sense.
    pub fn load(params: &Params, spec: Conv2dSpec) -> Result<Self, WeightsError> {
        let (height, width) = spec.kernel;
        if [
            spec.inputs,
            spec.outputs,
            height,
            width,
            spec.stride.0,
            spec.stride.1,
        ]
        .contains(&0)
        {
            return Err(params.wrong("weight", &format!("no convolution has the shape {spec:?}")));
        }
        let weight = params.get("weight", &[spec.outputs, spec.inputs, height, width])?;
        let bias = match params.has("bias") {
            true => Some(params.get("bias", &[spec.outputs])?),
            false => None,
        };
        Ok(Conv2d::new(spec, &weight, bias))
    }

    /// A convolution of weights that were made at load time, in PyTorch's order.
    pub fn new(spec: Conv2dSpec, weight: &Weight, bias: Option<Weight>) -> Self {
        Conv2d {
            weight: channels_last(weight, spec.inputs, spec.kernel.0 * spec.kernel.1),
            spec,
            bias,
        }
    }

    /// `(batch, height, width, inputs)` to `(batch, out height, out width, outputs)`, then an
    /// activation.
    ///
    /// # Errors
    /// When the input has another shape or is smaller than the kernel.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
        let layer = self.clone();
        apply(x, "conv2d", move |x, dims| {
            let spec = layer.spec;
            let &[batch, height, width, channels] = dims else {
                return Err(Error::Msg(format!(
                    "conv2d: expected (batch, height, width, {}), got {dims:?}",
                    spec.inputs
                )));
            };
            let (out_height, out_width) = spec.out_size((height, width));
            if channels != spec.inputs || out_height == 0 || out_width == 0 {
                return Err(Error::Msg(format!(
                    "conv2d: expected (batch, height, width, {}) of at least {:?}, got {dims:?}",
                    spec.inputs, spec.kernel
                )));
            }
            let mut out = vec![0.0; batch * out_height * out_width * spec.outputs];
            let finish = Finish {
                bias: layer.bias.as_ref().map(Weight::values),
                activation,
                residual: None,
            };
            let taps = spec.kernel.0 * spec.kernel.1 * spec.inputs;
            let weight = Matrix::row_major(layer.weight.values(), spec.outputs, taps).transposed();
            if spec.kernel == (1, 1) && spec.stride == (1, 1) && spec.padding == (0, 0) {
                let pixels = batch * height * width;
                product(
                    Matrix::row_major(x, pixels, channels),
                    weight,
                    finish,
                    &mut out,
                );
            } else {
                let image = height * width * channels;
                let length = out_height * out_width * spec.outputs;
                // A task takes some rows of the output, enough pixels for a product to be worth it.
                let lines = 256usize.div_ceil(out_width).min(out_height);
                for (x, out) in x.chunks_exact(image).zip(out.chunks_exact_mut(length)) {
                    out.par_chunks_mut(lines * out_width * spec.outputs)
                        .enumerate()
                        .for_each(|(part, out)| {
                            let pixels = out.len() / spec.outputs;
                            let seen =
                                spec.patches(x, (height, width), part * lines, out_width, pixels);
                            let seen = Matrix::row_major(&seen, pixels, taps);
                            gemm(1.0, seen, weight, 0.0, out, spec.outputs);
                            for out in out.chunks_exact_mut(spec.outputs) {
                                if let Some(bias) = finish.bias {
                                    rows::add(out, bias);
                                }
                                activation.apply(out);
                            }
                        });
                }
            }
            Ok((out, (batch, out_height, out_width, spec.outputs).into()))
        })
    }
}

impl Conv2dSpec {
    /// What `pixels` outputs see, beginning with the output row `first`: `(pixels, kernel height *
    /// width * inputs)`, zeros outside the image.
    fn patches(
        &self,
        x: &[f32],
        size: (usize, usize),
        first: usize,
        out_width: usize,
        pixels: usize,
    ) -> Vec<f32> {
        let (height, width) = size;
        let run = self.kernel.1 * self.inputs;
        let mut seen = vec![0.0; pixels * self.kernel.0 * run];
        for (pixel, seen) in seen.chunks_exact_mut(self.kernel.0 * run).enumerate() {
            let top = (first + pixel / out_width) * self.stride.0;
            let left = pixel % out_width * self.stride.1;
            // The columns of the image that the kernel covers here, and where they begin in the run.
            let from = left.max(self.padding.1) - self.padding.1;
            let to = (left + self.kernel.1)
                .saturating_sub(self.padding.1)
                .min(width);
            let skip = self.padding.1.saturating_sub(left) * self.inputs;
            for (line, seen) in seen.chunks_exact_mut(run).enumerate() {
                let Some(row) = (top + line)
                    .checked_sub(self.padding.0)
                    .filter(|row| *row < height)
                else {
                    continue;
                };
                if from < to {
                    let values =
                        &x[(row * width + from) * self.inputs..(row * width + to) * self.inputs];
                    seen[skip..skip + values.len()].copy_from_slice(values);
                }
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, draw, weight};
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
    fn convolutions_over_images_equal_candle() {
        for (inputs, outputs, kernel, stride, padding) in [
            (1, 8, (16, 16), (10, 10), (0, 0)),
            (3, 8, (3, 3), (2, 2), (1, 1)),
            (5, 7, (1, 1), (1, 1), (0, 0)),
            (1, 4, (4, 12), (4, 12), (0, 0)),
            (2, 4, (5, 5), (1, 1), (2, 2)),
        ] {
            let spec = Conv2dSpec {
                inputs,
                outputs,
                kernel,
                stride,
                padding,
            };
            let x = draw(1, &[2, 31, 37, inputs]);
            let (w, b) = (
                draw(2, &[outputs, inputs, kernel.0, kernel.1]),
                draw(3, &[outputs]),
            );
            let layer = Conv2d::new(spec, &weight(&w), Some(weight(&b)));
            let got = layer.forward(&x, Activation::Identity).unwrap();
            // Candle's own has one stride and one padding for both directions; ask for every output
            // and keep those that are wanted.
            let padded = x
                .permute((0, 3, 1, 2))
                .unwrap()
                .pad_with_zeros(2, padding.0, padding.0)
                .unwrap()
                .pad_with_zeros(3, padding.1, padding.1)
                .unwrap();
            let all = padded.contiguous().unwrap().conv2d(&w, 0, 1, 1, 1).unwrap();
            let pick = |size: usize, stride: usize| -> Tensor {
                let at: Vec<u32> = (0..size as u32).step_by(stride).collect();
                Tensor::from_vec(at.clone(), at.len(), &candle_core::Device::Cpu).unwrap()
            };
            let (_, _, height, width) = all.dims4().unwrap();
            let expected = all
                .index_select(&pick(height, stride.0), 2)
                .unwrap()
                .index_select(&pick(width, stride.1), 3)
                .unwrap()
                .broadcast_add(&b.reshape((1, outputs, 1, 1)).unwrap())
                .unwrap()
                .permute((0, 2, 3, 1))
                .unwrap();
            assert_close(&got, &expected, 1e-4);
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
}
