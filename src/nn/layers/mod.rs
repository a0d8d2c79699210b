//! Layers of the published networks, on candle tensors whose values are all `(batch, time, channels)`
//! or `(batch, height, width, channels)`: channels last, which is how products want them.
//!
//! Every layer is one of our kernels behind a candle custom operation. An operation without a
//! gradient is an error in training, never a silent end of the graph. Weights stay where they lie in
//! the mapped checkpoint.

mod attention;
mod conv;
mod embedding;
mod gather;
mod layer_sum;
mod linear;
mod mobile;
mod norm;
mod normed_conv;
mod pool;

pub use attention::{attention, relative_attention};
pub use conv::{Conv1d, Conv1dSpec, Conv2d, Conv2dSpec};
pub use embedding::Embedding;
pub use gather::Gather;
pub use layer_sum::{LayerSum, LayerWeights};
pub use linear::Linear;
pub use mobile::{After, DepthwiseConv2d, Pointwise, pixel_means, side_means};
pub use norm::{BatchNorm, ChannelNorm, LayerNorm};
pub use normed_conv::NormedConv1d;
pub use pool::{mean, mean_std};

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::ops::values;
use crate::kernels::rows;
pub use crate::kernels::rows::Activation;

/// An operation on the values and the dimensions of one tensor.
struct Op<F>(&'static str, F);

impl<F> CustomOp1 for Op<F>
where
    F: Fn(&[f32], &[usize]) -> candle_core::Result<(Vec<f32>, Shape)> + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.0
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (out, shape) = (self.1)(values(x, layout, self.0)?, layout.dims())?;
        Ok((CpuStorage::F32(out), shape))
    }
}

/// Applies `f` to the values and the dimensions of `x`, as one operation of candle's graph.
fn apply<F>(x: &Tensor, name: &'static str, f: F) -> candle_core::Result<Tensor>
where
    F: Fn(&[f32], &[usize]) -> candle_core::Result<(Vec<f32>, Shape)> + Send + Sync + 'static,
{
    x.contiguous()?.apply_op1(Op(name, f))
}

/// The last dimension and the product of those before it, where the last is `expected`.
fn rows_of(dims: &[usize], expected: usize, name: &str) -> candle_core::Result<usize> {
    match dims.split_last() {
        Some((&last, rest)) if last == expected => Ok(rest.iter().product()),
        _ => Err(candle_core::Error::Msg(format!(
            "{name}: expected (.., {expected}), got {dims:?}"
        ))),
    }
}

/// Values that one task handles in a pass over memory.
const TASK: usize = 1 << 15;

/// Applies an activation to every value.
///
/// # Errors
/// When candle refuses.
pub fn activate(x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
    if activation == Activation::Identity {
        return Ok(x.clone());
    }
    apply(x, "activate", move |x, dims| {
        let mut out = x.to_vec();
        out.par_chunks_mut(TASK)
            .for_each(|part| activation.apply(part));
        Ok((out, dims.into()))
    })
}

/// Softmax over the last dimension.
///
/// # Errors
/// When candle refuses.
pub fn softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    apply(x, "softmax", |x, dims| {
        let cols = dims.last().copied().unwrap_or(1).max(1);
        let mut out = x.to_vec();
        out.par_chunks_mut(TASK.div_ceil(cols) * cols)
            .for_each(|part| rows::softmax(part, cols));
        Ok((out, dims.into()))
    })
}

/// The first half of the last dimension times the sigmoid of the second (Dauphin et al., *Language
/// Modeling with Gated Convolutional Networks*, 2017).
///
/// # Errors
/// When the last dimension is odd.
pub fn glu(x: &Tensor) -> candle_core::Result<Tensor> {
    apply(x, "glu", |x, dims| {
        let width = match dims.last() {
            Some(&width) if width > 0 && width.is_multiple_of(2) => width / 2,
            _ => {
                return Err(candle_core::Error::Msg(format!(
                    "glu: expected (.., an even number), got {dims:?}"
                )));
            }
        };
        let mut out = vec![0.0; x.len() / 2];
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(2 * width)) {
            let (values, gates) = x.split_at(width);
            out.copy_from_slice(gates);
            Activation::Sigmoid.apply(out);
            out.iter_mut().zip(values).for_each(|(out, x)| *out *= x);
        }
        let mut out_dims = dims.to_vec();
        out_dims[dims.len() - 1] = width;
        Ok((out, out_dims.into()))
    })
}

#[cfg(test)]
pub(in crate::nn) mod testing;
