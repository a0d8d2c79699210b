//! Layers of the published networks, on candle tensors whose values are all `(batch, time, channels)`
//! or `(batch, height, width, channels)`: channels last, which is how products want them.
//!
//! Every layer is one of our kernels behind a candle custom operation, in one of two forms, which it
//! chooses itself when it is run:
//!
//! - Where nothing before it or in it is trained: one pass with everything that follows fused into it,
//!   over weights that stay where they lie in the mapped checkpoint.
//! - Where gradients may be asked for, because a weight of its own is a variable or because what comes
//!   in tracks them (a fixed layer behind a trained one passes them on): a `function::Function`, with
//!   its gradient computed by kernels too, and what follows as functions of their own.
//!
//! So a network is written once. An operation without a gradient (those of `mobile`) is an error in
//! training, never a silent end of the graph; weights that it takes can be trained nowhere, which
//! [`crate::nn::params::Params::get`] says when a network is loaded.

mod activate;
mod attention;
mod batch_norm;
mod channel_norm;
mod conv1d;
mod conv2d;
mod dropout;
mod embedding;
pub(crate) mod function;
mod gather;
mod layer_sum;
mod linear;
mod mobile;
mod norm;
mod normed_conv;
mod pool;
mod standardise;

pub use activate::{activate, glu, softmax};
pub use attention::{attention, attention_dropping, relative_attention};
pub use batch_norm::BatchNorm;
pub use channel_norm::ChannelNorm;
pub use conv1d::{Conv1d, Conv1dSpec};
pub use conv2d::{Conv2d, Conv2dSpec};
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use gather::Gather;
pub use layer_sum::{LayerSum, LayerWeights};
pub use linear::Linear;
pub use mobile::{After, DepthwiseConv2d, Pointwise, pixel_means, side_means};
pub use norm::LayerNorm;
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

/// The sum of all rows of `values (rows, cols)`.
fn sum_rows(values: &[f32], cols: usize) -> Vec<f32> {
    let zeros = || vec![0.0; cols];
    // Few rows are summed in f32 at a time, so that the last of many does not count for less.
    let (part, cols) = (ROWS * cols.max(1), cols.max(1));
    let total = values
        .par_chunks(part)
        .map(|part| {
            let mut sum = zeros();
            part.chunks_exact(cols)
                .for_each(|row| rows::add(&mut sum, row));
            sum.into_iter().map(f64::from).collect::<Vec<f64>>()
        })
        .reduce(
            || vec![0.0; cols],
            |mut a, b| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                a
            },
        );
    total.into_iter().map(|sum| sum as f32).collect()
}

/// Rows that one task sums in f32.
const ROWS: usize = 256;

/// Values that one task handles in a pass over memory.
const TASK: usize = 1 << 15;

#[cfg(test)]
pub(in crate::nn) mod testing;
