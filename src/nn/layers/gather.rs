//! Rows in another order: the windows of an image and back, in one pass over memory.

use std::sync::Arc;

use candle_core::{Error, Tensor};
use rayon::prelude::*;

use super::{TASK, apply};

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
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let Gather { from, rows: needed } = self.clone();
        apply(x, "gather", move |x, dims| {
            let (batch, rows, channels) = match *dims {
                [batch, rows, channels] if rows >= needed => (batch, rows, channels),
                _ => {
                    return Err(Error::Msg(format!(
                        "gather: expected (batch, at least {needed}, channels), got {dims:?}"
                    )));
                }
            };
            let mut out = vec![0.0; batch * from.len() * channels];
            // Without rows to take, all that is asked for are zeros.
            if rows > 0 && !out.is_empty() {
                let part = TASK.div_ceil(channels);
                for (x, out) in x
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
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

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
}
