//! The layers of which mobile networks are made (Howard et al., *MobileNets*, 2017): depthwise and
//! pointwise convolutions and means over images `(batch, height, width, channels)`.
//!
//! There are many pixels and few channels here, so that work is divided among the threads by rows of
//! the image, and what follows a convolution is done while its outputs are in the cache.

use candle_core::{Error, Tensor};
use rayon::prelude::*;

use super::{Activation, TASK, apply, rows_of};
use crate::kernels::depthwise2d::{Dynamic, Geometry, convolve_row, dynamic_row};
use crate::kernels::gemm::{Finish, Matrix, gemm, product};
use crate::kernels::rows;
use crate::nn::ops::with_values;
use crate::nn::params::Weight;

/// Height, width and channels of an image, and how many there are.
fn image(dims: &[usize], channels: usize, name: &str) -> candle_core::Result<[usize; 3]> {
    match *dims {
        [batch, height, width, last] if last == channels && height * width > 0 => {
            Ok([batch, height, width])
        }
        _ => Err(Error::Msg(format!(
            "{name}: expected (batch, height, width, {channels}), got {dims:?}"
        ))),
    }
}

/// What follows a depthwise convolution.
#[derive(Debug, Clone)]
pub enum After {
    /// The same function everywhere.
    Activation(Activation),
    /// [`dynamic_row`].
    Dynamic {
        /// Two slopes a channel, `(2, channels)`.
        slopes: Weight,
        /// Two offsets a channel, `(2, channels)`.
        offsets: Weight,
        /// What rows are multiplied by, `(out_height, channels)`.
        row_weights: Weight,
        /// What columns are multiplied by, `(out_width, channels)`.
        column_weights: Weight,
    },
}

impl After {
    fn fits(&self, height: usize, width: usize, channels: usize) -> bool {
        match self {
            After::Activation(_) => true,
            After::Dynamic {
                slopes,
                offsets,
                row_weights,
                column_weights,
            } => {
                slopes.dims() == [2, channels]
                    && offsets.dims() == [2, channels]
                    && row_weights.dims() == [height, channels]
                    && column_weights.dims() == [width, channels]
            }
        }
    }

    fn apply(&self, row: usize, channels: usize, values: &mut [f32]) {
        match self {
            After::Activation(activation) => activation.apply(values),
            After::Dynamic {
                slopes,
                offsets,
                row_weights,
                column_weights,
            } => {
                let dynamic = Dynamic {
                    slopes: slopes.values(),
                    offsets: offsets.values(),
                    row_weights: &row_weights.values()[row * channels..][..channels],
                    column_weights: column_weights.values(),
                };
                dynamic_row(dynamic, values);
            }
        }
    }
}

/// A convolution in which every channel sees itself alone.
#[derive(Debug, Clone)]
pub struct DepthwiseConv2d {
    geometry: Geometry,
    /// `(kernel * kernel, channels)`.
    weight: Weight,
    /// `(channels)`.
    bias: Weight,
}

impl DepthwiseConv2d {
    /// A convolution of weights in PyTorch's order, `weight (channels, 1, kernel, kernel)`, or of any
    /// shape with as many values, and `bias (channels)`.
    ///
    /// # Panics
    /// When the lengths do not fit the geometry.
    pub fn new(geometry: Geometry, weight: &Weight, bias: Weight) -> Self {
        let (channels, taps) = (geometry.channels, geometry.kernel * geometry.kernel);
        let values = weight.values();
        assert_eq!(
            (values.len(), bias.values().len()),
            (channels * taps, channels),
            "depthwise: {geometry:?}"
        );
        let turned = (0..taps)
            .flat_map(|tap| values.iter().skip(tap).step_by(taps))
            .copied()
            .collect();
        DepthwiseConv2d {
            geometry,
            weight: Weight::from_values(turned, &[taps, channels]),
            bias,
        }
    }

    /// `(batch, height, width, channels)` to `(batch, out_height, out_width, channels)`, then `after`.
    ///
    /// # Errors
    /// When the input has another shape or is smaller than the kernel, or `after` has another.
    pub fn forward(&self, x: &Tensor, after: After) -> candle_core::Result<Tensor> {
        let layer = self.clone();
        apply(x, "depthwise_conv2d", move |x, dims| {
            let geometry = layer.geometry;
            let channels = geometry.channels;
            let [batch, height, width] = image(dims, channels, "depthwise_conv2d")?;
            let (out_height, out_width) = (geometry.out_size(height), geometry.out_size(width));
            if out_height * out_width == 0 || !after.fits(out_height, out_width, channels) {
                return Err(Error::Msg(format!(
                    "depthwise_conv2d: {geometry:?} and what follows it do not fit {dims:?}"
                )));
            }
            let mut out = vec![0.0; batch * out_height * out_width * channels];
            out.par_chunks_exact_mut(out_width * channels)
                .enumerate()
                .for_each(|(row, out)| {
                    let (index, row) = (row / out_height, row % out_height);
                    let size = height * width * channels;
                    let x = &x[index * size..][..size];
                    let (weight, bias) = (layer.weight.values(), layer.bias.values());
                    convolve_row(&geometry, width, row, x, weight, bias, out);
                    after.apply(row, channels, out);
                });
            Ok((out, (batch, out_height, out_width, channels).into()))
        })
    }
}

/// A convolution of one tap, in which every pixel sees itself alone: a linear layer for many rows
/// and few columns.
#[derive(Debug, Clone)]
pub struct Pointwise {
    /// `(outputs, inputs)`.
    weight: Weight,
    /// `(outputs)`.
    bias: Weight,
}

impl Pointwise {
    /// Fewer pixels than this are divided among the threads by outputs instead.
    const MANY: usize = 1024;

    /// A layer of `weight (outputs, inputs)` and `bias (outputs)`.
    ///
    /// # Panics
    /// When they do not fit together.
    pub fn new(weight: Weight, bias: Weight) -> Self {
        assert_eq!(weight.dims()[..1], *bias.dims(), "pointwise");
        Pointwise { weight, bias }
    }

    /// Channels that go out.
    pub fn outputs(&self) -> usize {
        self.bias.dims()[0]
    }

    /// The same layer for inputs that are still to be multiplied by `factors (inputs)`.
    ///
    /// # Panics
    /// When there are not as many factors as inputs.
    pub fn scaled(&self, factors: &[f32]) -> Self {
        assert_eq!(self.weight.dims()[1], factors.len(), "pointwise");
        let rows = self.weight.values().chunks_exact(factors.len().max(1));
        let values = rows.flat_map(|row| row.iter().zip(factors).map(|(w, f)| w * f));
        Pointwise {
            weight: Weight::from_values(values.collect(), self.weight.dims()),
            bias: self.bias.clone(),
        }
    }

    /// `(.., inputs)` to `(.., outputs)`, then an activation, then plus `residual (.., outputs)`.
    ///
    /// # Errors
    /// When the input or the residual has another shape.
    pub fn forward(
        &self,
        x: &Tensor,
        activation: Activation,
        residual: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        let layer = self.clone();
        let residual = residual.cloned();
        apply(x, "pointwise", move |x, dims| {
            let inputs = layer.weight.dims()[1];
            let pixels = rows_of(dims, inputs, "pointwise")?;
            let mut out_dims = dims.to_vec();
            out_dims[dims.len() - 1] = layer.outputs();
            let mut out = vec![0.0; pixels * layer.outputs()];
            match &residual {
                None => layer.run(x, pixels, activation, None, &mut out),
                Some(residual) if residual.dims() == out_dims => {
                    with_values(residual, |values| {
                        layer.run(x, pixels, activation, Some(values), &mut out);
                        Ok(())
                    })?;
                }
                Some(residual) => {
                    return Err(Error::Msg(format!(
                        "pointwise: expected a residual of {out_dims:?}, got {:?}",
                        residual.dims()
                    )));
                }
            }
            Ok((out, out_dims.into()))
        })
    }

    fn run(
        &self,
        x: &[f32],
        pixels: usize,
        activation: Activation,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let (outputs, inputs) = (self.outputs(), self.weight.dims()[1]);
        let weight = Matrix::row_major(self.weight.values(), outputs, inputs).transposed();
        let bias = self.bias.values();
        if pixels < Pointwise::MANY {
            let finish = Finish {
                bias: Some(bias),
                activation,
                residual,
            };
            return product(Matrix::row_major(x, pixels, inputs), weight, finish, out);
        }
        let lines = (TASK / inputs.max(outputs).max(1)).max(128);
        out.par_chunks_mut(lines * outputs)
            .zip(x.par_chunks(lines * inputs))
            .enumerate()
            .for_each(|(part, (out, x))| {
                let seen = Matrix::row_major(x, out.len() / outputs, inputs);
                gemm(1.0, seen, weight, 0.0, out, outputs);
                for out in out.chunks_exact_mut(outputs) {
                    rows::add(out, bias);
                }
                activation.apply(out);
                if let Some(residual) = residual {
                    rows::add(out, &residual[part * lines * outputs..][..out.len()]);
                }
            });
    }
}

/// Adds up rows of `channels`.
fn sum(x: &[f32], channels: usize) -> Vec<f32> {
    let mut sum = vec![0.0; channels];
    for row in x.chunks_exact(channels) {
        rows::add(&mut sum, row);
    }
    sum
}

/// The mean of every channel over all pixels, `(batch, channels)`.
///
/// # Errors
/// When `x` is no image.
pub fn pixel_means(x: &Tensor) -> candle_core::Result<Tensor> {
    apply(x, "pixel_means", |x, dims| {
        let channels = dims.last().copied().unwrap_or(0);
        let [batch, height, width] = image(dims, channels, "pixel_means")?;
        let rows: Vec<Vec<f32>> = x
            .par_chunks_exact(width * channels)
            .map(|row| sum(row, channels))
            .collect();
        let mut out = Vec::with_capacity(batch * channels);
        for rows in rows.chunks_exact(height) {
            // The rows are added in f64, or the last of many would count for less.
            out.extend((0..channels).map(|c| {
                let total: f64 = rows.iter().map(|row| f64::from(row[c])).sum();
                (total / (height * width) as f64) as f32
            }));
        }
        Ok((out, (batch, channels).into()))
    })
}

/// The mean of every row, then that of every column: `(batch, height + width, channels)`.
///
/// # Errors
/// When `x` is no image.
pub fn side_means(x: &Tensor) -> candle_core::Result<Tensor> {
    apply(x, "side_means", |x, dims| {
        let channels = dims.last().copied().unwrap_or(0);
        let [batch, height, width] = image(dims, channels, "side_means")?;
        let mut out = Vec::with_capacity(batch * (height + width) * channels);
        for x in x.chunks_exact(height * width * channels) {
            let rows: Vec<Vec<f32>> = x
                .par_chunks_exact(width * channels)
                .map(|row| sum(row, channels))
                .collect();
            out.extend(rows.iter().flatten().map(|sum| sum / width as f32));
            let mut columns = vec![0.0; width * channels];
            let part = width.div_ceil(rayon::current_num_threads()) * channels;
            columns
                .par_chunks_mut(part)
                .enumerate()
                .for_each(|(index, columns)| {
                    for row in x.chunks_exact(width * channels) {
                        rows::add(columns, &row[index * part..][..columns.len()]);
                    }
                });
            out.extend(columns.iter().map(|sum| sum / height as f32));
        }
        Ok((out, (batch, height + width, channels).into()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, draw, weight};
    use super::*;

    #[test]
    fn depthwise_equals_candle_with_groups() {
        for (channels, kernel, stride, height, width) in
            [(24, 3, 1, 7, 9), (40, 5, 2, 8, 11), (8, 3, 2, 1, 1)]
        {
            let geometry = Geometry {
                channels,
                kernel,
                stride,
                padding: kernel / 2,
            };
            let x = draw(1, &[2, height, width, channels]);
            let w = draw(2, &[channels, 1, kernel, kernel]);
            let bias = draw(3, &[channels]);
            let layer = DepthwiseConv2d::new(geometry, &weight(&w), weight(&bias));
            let expected = x
                .permute((0, 3, 1, 2))
                .unwrap()
                .contiguous()
                .unwrap()
                .conv2d(&w, kernel / 2, stride, 1, channels)
                .unwrap()
                .permute((0, 2, 3, 1))
                .unwrap()
                .broadcast_add(&bias)
                .unwrap();
            let identity = After::Activation(Activation::Identity);
            assert_close(&layer.forward(&x, identity).unwrap(), &expected, 1e-5);
            let relu = After::Activation(Activation::Relu);
            let expected = expected.relu().unwrap();
            assert_close(&layer.forward(&x, relu.clone()).unwrap(), &expected, 1e-5);
            assert!(
                layer
                    .forward(&draw(1, &[2, 4, 4, 7]), relu.clone())
                    .is_err()
            );
            assert!(layer.forward(&draw(1, &[4, 4, channels]), relu).is_err());
            let one = weight(&draw(4, &[2, channels]));
            let wrong = After::Dynamic {
                slopes: one.clone(),
                offsets: one.clone(),
                row_weights: one.clone(),
                column_weights: weight(&draw(4, &[3, channels])),
            };
            assert!(layer.forward(&x, wrong).is_err());
        }
    }

    #[test]
    fn pointwise_equals_a_product_for_few_and_many_pixels() {
        let (w, bias) = (draw(1, &[24, 16]), draw(2, &[24]));
        let layer = Pointwise::new(weight(&w), weight(&bias));
        for pixels in [3, 5000] {
            let x = draw(3, &[1, pixels, 1, 16]);
            let residual = draw(4, &[1, pixels, 1, 24]);
            let expected = x
                .reshape((pixels, 16))
                .unwrap()
                .matmul(&w.t().unwrap())
                .unwrap()
                .broadcast_add(&bias)
                .unwrap()
                .relu()
                .unwrap()
                .reshape((1, pixels, 1, 24))
                .unwrap();
            let expected = (expected + &residual).unwrap();
            let out = layer
                .forward(&x, Activation::Relu, Some(&residual))
                .unwrap();
            assert_close(&out, &expected, 1e-5);
            let factors: Vec<f32> = (0..16).map(|i| i as f32 / 8.0).collect();
            let scaled = (x.clone() * 1.0).unwrap();
            let scaled = scaled
                .broadcast_mul(&Tensor::new(&factors[..], x.device()).unwrap())
                .unwrap();
            let plain = Activation::Identity;
            let expected = layer.forward(&scaled, plain, None).unwrap();
            let out = layer.scaled(&factors).forward(&x, plain, None).unwrap();
            assert_close(&out, &expected, 1e-5);
            assert!(layer.forward(&residual, plain, None).is_err());
            assert!(layer.forward(&x, plain, Some(&x)).is_err());
        }
    }

    #[test]
    fn means_equal_candle() {
        let x = draw(5, &[2, 6, 10, 8]);
        let all = x.mean(1).unwrap().mean(1).unwrap();
        assert_close(&pixel_means(&x).unwrap(), &all, 1e-6);
        let sides = Tensor::cat(&[x.mean(2).unwrap(), x.mean(1).unwrap()], 1).unwrap();
        assert_close(&side_means(&x).unwrap(), &sides, 1e-6);
        assert!(pixel_means(&draw(5, &[2, 6, 8])).is_err());
        assert!(side_means(&draw(5, &[6, 8])).is_err());
    }
}
