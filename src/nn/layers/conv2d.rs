//! Convolutions over height and width, as matrix products of what every output sees.

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use super::conv1d::channels_last;
use super::function::{Backward, Function, Output, View, call_layer, tracks};
use super::{Activation, activate, apply, sum_rows};
use crate::kernels::gemm::{Finish, Matrix, gemm, product};
use crate::kernels::rows;
use crate::nn::params::{Parameter, Params, Weight};
use crate::nn::weights::WeightsError;

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

/// Height and width.
type Size = (usize, usize);

/// A convolution over height and width.
#[derive(Debug, Clone)]
pub struct Conv2d {
    spec: Conv2dSpec,
    /// `(outputs, kernel height * width, inputs)`; `(outputs, inputs, kernel height, kernel width)` as
    /// published where it is trained.
    weight: Parameter,
    bias: Option<Parameter>,
}

impl Conv2d {
    /// Reads `weight (outputs, inputs, kernel height, kernel width)`, and `bias (outputs)` where it is
    /// there.
    ///
    /// # Errors
    /// When one is missing or misshapen, or the specification makes no sense.
    pub fn load(params: &Params, spec: Conv2dSpec) -> std::result::Result<Self, WeightsError> {
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
        let weight = params.parameter("weight", &[spec.outputs, spec.inputs, height, width])?;
        let bias = match params.has("bias") {
            true => Some(params.parameter("bias", &[spec.outputs])?),
            false => None,
        };
        Ok(Conv2d::of(spec, weight, bias))
    }

    /// A convolution of weights that were made at load time, in PyTorch's order.
    pub fn new(spec: Conv2dSpec, weight: &Weight, bias: Option<Weight>) -> Self {
        Conv2d::of(spec, weight.clone().into(), bias.map(Parameter::from))
    }

    /// A convolution of parameters in the same order.
    pub fn of(spec: Conv2dSpec, weight: Parameter, bias: Option<Parameter>) -> Self {
        let taps = spec.kernel.0 * spec.kernel.1;
        let turned = weight
            .fixed()
            .map(|weight| channels_last(weight, spec.inputs, taps));
        Conv2d {
            weight: turned.map_or(weight, Parameter::from),
            spec,
            bias,
        }
    }

    /// `(batch, height, width, inputs)` to `(batch, out height, out width, outputs)`, then an
    /// activation.
    ///
    /// # Errors
    /// When the input has another shape or is smaller than the kernel.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        if tracks(x, [&self.weight].into_iter().chain(&self.bias)) {
            let weight = self.weight.tensor()?;
            let weight = match self.weight.is_trained() {
                true => weight.permute((0, 2, 3, 1))?,
                false => weight,
            };
            let out = call_layer(Convolve(self.spec), x, &weight, self.bias.as_ref())?;
            return activate(&out, activation);
        }
        let layer = self.clone();
        apply(x, "conv2d", move |x, dims| {
            let finish = Finish {
                bias: layer.bias.as_ref().map(Parameter::values),
                activation,
                residual: None,
            };
            layer
                .spec
                .run(View { values: x, dims }, layer.weight.values(), finish)
        })
    }
}

impl Conv2dSpec {
    /// Batch, height and width, and height and width of the output, for an input of these dimensions.
    fn sizes(&self, dims: &[usize]) -> Result<(usize, Size, Size)> {
        let &[batch, height, width, channels] = dims else {
            return Err(Error::Msg(format!(
                "conv2d: expected (batch, height, width, {}), got {dims:?}",
                self.inputs
            )));
        };
        let out = self.out_size((height, width));
        if channels != self.inputs || out.0 == 0 || out.1 == 0 {
            return Err(Error::Msg(format!(
                "conv2d: expected (batch, height, width, {}) of at least {:?}, got {dims:?}",
                self.inputs, self.kernel
            )));
        }
        Ok((batch, (height, width), out))
    }

    /// Rows of the output that one task takes, enough pixels for a product to be worth it.
    fn lines(&self, (out_height, out_width): (usize, usize)) -> usize {
        256usize.div_ceil(out_width).min(out_height)
    }

    fn run(&self, x: View, weight: &[f32], finish: Finish) -> Output {
        let (batch, size, (out_height, out_width)) = self.sizes(x.dims)?;
        let mut out = vec![0.0; batch * out_height * out_width * self.outputs];
        let taps = self.kernel.0 * self.kernel.1 * self.inputs;
        let weight = Matrix::row_major(weight, self.outputs, taps).transposed();
        if self.kernel == (1, 1) && self.stride == (1, 1) && self.padding == (0, 0) {
            let pixels = batch * size.0 * size.1;
            let seen = Matrix::row_major(x.values, pixels, self.inputs);
            product(seen, weight, finish, &mut out);
        } else {
            let image = size.0 * size.1 * self.inputs;
            let length = out_height * out_width * self.outputs;
            let lines = self.lines((out_height, out_width));
            for (x, out) in x
                .values
                .chunks_exact(image)
                .zip(out.chunks_exact_mut(length))
            {
                out.par_chunks_mut(lines * out_width * self.outputs)
                    .enumerate()
                    .for_each(|(part, out)| {
                        let pixels = out.len() / self.outputs;
                        let seen = self.patches(x, size, part * lines, out_width, pixels);
                        let seen = Matrix::row_major(&seen, pixels, taps);
                        gemm(1.0, seen, weight, 0.0, out, self.outputs);
                        for out in out.chunks_exact_mut(self.outputs) {
                            if let Some(bias) = finish.bias {
                                rows::add(out, bias);
                            }
                            finish.activation.apply(out);
                        }
                    });
            }
        }
        Ok((out, (batch, out_height, out_width, self.outputs).into()))
    }
}

/// The convolution of `x`, `weight (outputs, kernel height, kernel width, inputs)` and perhaps a bias.
struct Convolve(Conv2dSpec);

impl<const N: usize> Function<N> for Convolve {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn forward(&self, x: [View; N]) -> Output {
        let finish = Finish {
            bias: x.get(2).map(|bias| bias.values),
            ..Finish::default()
        };
        self.0.run(x[0], x[1].values, finish)
    }

    fn backward(&self, at: Backward<N>) -> Result<[Option<Vec<f32>>; N]> {
        let spec = self.0;
        let (x, weight) = (at.x[0], at.x[1].values);
        let (_, size, (out_height, out_width)) = spec.sizes(x.dims)?;
        let image = size.0 * size.1 * spec.inputs;
        let length = out_height * out_width * spec.outputs;
        let taps = spec.kernel.0 * spec.kernel.1 * spec.inputs;
        let lines = spec.lines((out_height, out_width));
        let back = |x: &[f32], grad: &[f32]| -> (Vec<f32>, Vec<f32>) {
            let mut of_x = vec![0.0; if at.wanted[0] { image } else { 0 }];
            let mut of_weight = vec![0.0; if at.wanted[1] { weight.len() } else { 0 }];
            for (part, grad) in grad.chunks(lines * out_width * spec.outputs).enumerate() {
                let pixels = grad.len() / spec.outputs;
                let grad = Matrix::row_major(grad, pixels, spec.outputs);
                if at.wanted[1] {
                    let seen = spec.patches(x, size, part * lines, out_width, pixels);
                    let seen = Matrix::row_major(&seen, pixels, taps);
                    gemm(1.0, grad.transposed(), seen, 1.0, &mut of_weight, taps);
                }
                if at.wanted[0] {
                    let mut seen = vec![0.0; pixels * taps];
                    let weight = Matrix::row_major(weight, spec.outputs, taps);
                    gemm(1.0, grad, weight, 0.0, &mut seen, taps);
                    spec.put_back(&seen, size, part * lines, out_width, &mut of_x);
                }
            }
            (of_x, of_weight)
        };
        let images: Vec<(Vec<f32>, Vec<f32>)> = x
            .values
            .par_chunks_exact(image)
            .zip(at.grad.par_chunks_exact(length))
            .map(|(x, grad)| back(x, grad))
            .collect();
        let mut of_weight = vec![0.0; if at.wanted[1] { weight.len() } else { 0 }];
        for (_, part) in &images {
            rows::add(&mut of_weight, part);
        }
        let parts: Vec<Vec<f32>> = images.into_iter().map(|(of_x, _)| of_x).collect();
        let (mut of_x, mut of_weight) = (Some(parts.concat()), Some(of_weight));
        Ok(std::array::from_fn(|i| match i {
            _ if !at.wanted[i] => None,
            0 => of_x.take(),
            1 => of_weight.take(),
            _ => Some(sum_rows(at.grad, spec.outputs)),
        }))
    }
}

impl Conv2dSpec {
    /// What the kernel at one pixel of the output covers of the image: how many values lie outside
    /// before a run, and for each line of the kernel where its run lies.
    fn cover(
        &self,
        size: (usize, usize),
        (row, column): (usize, usize),
    ) -> (usize, impl Iterator<Item = (usize, std::ops::Range<usize>)>) {
        let (height, width) = size;
        let (top, left) = (row * self.stride.0, column * self.stride.1);
        // The columns of the image that the kernel covers here, and where they begin in the run.
        let from = left.max(self.padding.1) - self.padding.1;
        let to = (left + self.kernel.1)
            .saturating_sub(self.padding.1)
            .min(width)
            .max(from);
        let skip = self.padding.1.saturating_sub(left) * self.inputs;
        let (inputs, above) = (self.inputs, self.padding.0);
        let lines = (0..self.kernel.0).filter_map(move |line| {
            let row = (top + line)
                .checked_sub(above)
                .filter(|row| *row < height)?;
            Some((
                line,
                (row * width + from) * inputs..(row * width + to) * inputs,
            ))
        });
        (skip, lines)
    }

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
        let run = self.kernel.1 * self.inputs;
        let mut seen = vec![0.0; pixels * self.kernel.0 * run];
        for (pixel, seen) in seen.chunks_exact_mut(self.kernel.0 * run).enumerate() {
            let at = (first + pixel / out_width, pixel % out_width);
            let (skip, lines) = self.cover(size, at);
            for (line, values) in lines {
                let values = &x[values];
                seen[line * run + skip..][..values.len()].copy_from_slice(values);
            }
        }
        seen
    }

    /// Adds what [`Conv2dSpec::patches`] took out of an image to it.
    fn put_back(
        &self,
        seen: &[f32],
        size: (usize, usize),
        first: usize,
        out_width: usize,
        image: &mut [f32],
    ) {
        let run = self.kernel.1 * self.inputs;
        for (pixel, seen) in seen.chunks_exact(self.kernel.0 * run).enumerate() {
            let at = (first + pixel / out_width, pixel % out_width);
            let (skip, lines) = self.cover(size, at);
            for (line, values) in lines {
                let length = values.len();
                rows::add(&mut image[values], &seen[line * run + skip..][..length]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, check_layer, draw, weight};
    use super::*;

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
    fn the_trained_form_is_the_same_and_gradients_are_those_of_differences() {
        for (inputs, outputs, kernel, stride, padding) in [
            (1, 3, (4, 4), (4, 4), (0, 0)),
            (2, 3, (3, 2), (2, 1), (1, 1)),
            (3, 4, (1, 1), (1, 1), (0, 0)),
            (1, 2, (2, 6), (2, 6), (0, 0)),
        ] {
            let spec = Conv2dSpec {
                inputs,
                outputs,
                kernel,
                stride,
                padding,
            };
            let inputs = [
                draw(1, &[2, 9, 13, inputs]),
                draw(2, &[outputs, inputs, kernel.0, kernel.1]),
                draw(3, &[outputs]),
            ];
            check_layer(&inputs, |[x, weight, bias]| {
                let layer = Conv2d::of(spec, weight.parameter(), Some(bias.parameter()));
                layer.forward(&x.tensor(), Activation::Tanh)
            });
        }
    }
}
