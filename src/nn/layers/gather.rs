//! Rows in another order: the windows of an image and back, in one pass over memory.

use std::sync::Arc;

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use super::TASK;
use super::function::{Backward, Function, Output, View, call1};
use crate::kernels::rows;

/// Which row of the input each row of the output is.
#[derive(Debug, Clone)]
pub struct Gather {
    from: Arc<[u32]>,
    /// Rows that the input must have at least.
    rows: usize,
}

impl Gather {
    /// In the place of a row: zeros.
    pub const ZEROS: u32 = u32::MAX;

    /// Output row `i` is input row `from[i]`, or zeros where that is [`Gather::ZEROS`].
    pub fn new(from: Vec<u32>) -> Self {
        let last = from.iter().filter(|&&row| row != Gather::ZEROS).max();
        Gather {
            rows: last.map_or(0, |&last| last as usize + 1),
            from: from.into(),
        }
    }

    /// `(batch, rows, channels)` to `(batch, rows of the output, channels)`.
    ///
    /// # Errors
    /// When the shape is another or there are too few rows.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        call1(self.clone(), x)
    }

    /// Batch, rows and channels of what comes in.
    fn shape(&self, dims: &[usize]) -> Result<[usize; 3]> {
        match *dims {
            [batch, rows, channels] if rows >= self.rows => Ok([batch, rows, channels]),
            _ => Err(Error::Msg(format!(
                "gather: expected (batch, at least {}, channels), got {dims:?}",
                self.rows
            ))),
        }
    }
}

impl Function<1> for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn forward(&self, [x]: [View; 1]) -> Output {
        let [batch, rows, channels] = self.shape(x.dims)?;
        let from = &self.from;
        let mut out = vec![0.0; batch * from.len() * channels];
        // Without rows to take, all that is asked for are zeros.
        if rows > 0 && !out.is_empty() {
            let part = TASK.div_ceil(channels);
            for (x, out) in x
                .values
                .chunks_exact(rows * channels)
                .zip(out.chunks_exact_mut(from.len() * channels))
            {
                out.par_chunks_mut(part * channels)
                    .zip(from.par_chunks(part))
                    .for_each(|(out, from)| {
                        for (out, &row) in out.chunks_exact_mut(channels).zip(from) {
                            if row != Gather::ZEROS {
                                out.copy_from_slice(&x[row as usize * channels..][..channels]);
                            }
                        }
                    });
            }
        }
        Ok((out, (batch, from.len(), channels).into()))
    }

    fn backward(&self, at: Backward<1>) -> Result<[Option<Vec<f32>>; 1]> {
        let [x] = at.x;
        let [_, rows, channels] = self.shape(x.dims)?;
        let mut grad = vec![0.0; x.values.len()];
        if !grad.is_empty() && !at.grad.is_empty() {
            grad.par_chunks_exact_mut(rows * channels)
                .zip(at.grad.par_chunks_exact(self.from.len() * channels))
                .for_each(|(grad, up)| {
                    for (up, &row) in up.chunks_exact(channels).zip(self.from.iter()) {
                        if row != Gather::ZEROS {
                            rows::add(&mut grad[row as usize * channels..][..channels], up);
                        }
                    }
                });
        }
        Ok([Some(grad)])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::testing::{check_gradients, draw};
    use super::*;

    #[test]
    fn rows_come_in_the_order_that_is_asked_for() {
        let x = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap();
        let x = x.reshape((2, 3, 2)).unwrap();
        let out = Gather::new(vec![2, Gather::ZEROS, 0, 0]).forward(&x);
        assert_eq!(
            out.unwrap().to_vec3::<f32>().unwrap(),
            [
                [[4.0, 5.0], [0.0, 0.0], [0.0, 1.0], [0.0, 1.0]],
                [[10.0, 11.0], [0.0, 0.0], [6.0, 7.0], [6.0, 7.0]]
            ]
        );
        let error = Gather::new(vec![3]).forward(&x).unwrap_err().to_string();
        assert!(error.contains("at least 4"), "{error}");
        assert_eq!(Gather::new(vec![]).forward(&x).unwrap().dims(), [2, 0, 2]);
    }

    #[test]
    fn gradients_go_back_to_every_place_that_was_taken() {
        let gather = Gather::new(vec![2, Gather::ZEROS, 0, 0, 1]);
        check_gradients(&[draw(1, &[2, 3, 4])], |x| gather.forward(&x[0]));
    }
}
