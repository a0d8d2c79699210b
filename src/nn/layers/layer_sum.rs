//! The weighted sum of a network's layers that heads listen to (Yang et al., *SUPERB*, 2021).
//!
//! It is summed while the network runs, so that no layer's output has to be kept.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::kernels::rows;
use crate::nn::ops::with_values;
use crate::nn::params::Params;
use crate::nn::weights::WeightsError;

/// The share of every layer.
#[derive(Debug, Clone)]
pub struct LayerWeights {
    shares: Arc<[f32]>,
}

impl LayerWeights {
    /// Reads `layer_weights (layers)`, whose softmax are the shares.
    ///
    /// # Errors
    /// When it is missing or misshapen.
    pub fn load(params: &Params, layers: usize) -> Result<Self, WeightsError> {
        let mut shares = params.get("layer_weights", &[layers])?.values().to_vec();
        rows::softmax(&mut shares, layers);
        Ok(LayerWeights {
            shares: shares.into(),
        })
    }

    /// A sum to which nothing has been added.
    pub fn sum(&self) -> LayerSum {
        LayerSum {
            shares: self.shares.clone(),
            next: 0,
            total: Vec::new(),
            dims: Vec::new(),
        }
    }
}

/// A sum in the making.
#[derive(Debug)]
pub struct LayerSum {
    shares: Arc<[f32]>,
    /// The layer that comes next.
    next: usize,
    total: Vec<f32>,
    dims: Vec<usize>,
}

impl LayerSum {
    /// Adds the output of the next layer.
    ///
    /// # Errors
    /// When there are more layers than shares, or they differ in shape.
    pub fn add(&mut self, x: &Tensor) -> candle_core::Result<()> {
        if self.next == 0 {
            self.total = vec![0.0; x.elem_count()];
            self.dims = x.dims().to_vec();
        }
        let Some(&share) = self.shares.get(self.next).filter(|_| x.dims() == self.dims) else {
            return Err(candle_core::Error::Msg(format!(
                "layer_sum: expected {} layers of {:?}, got layer {} of {:?}",
                self.shares.len(),
                self.dims,
                self.next,
                x.dims()
            )));
        };
        self.next += 1;
        with_values(x, |x| {
            rows::add_scaled(&mut self.total, share, x);
            Ok(())
        })
    }

    /// The sum.
    ///
    /// # Errors
    /// When layers are missing.
    pub fn finish(self) -> candle_core::Result<Tensor> {
        if self.next != self.shares.len() {
            return Err(candle_core::Error::Msg(format!(
                "layer_sum: expected {} layers, got {}",
                self.shares.len(),
                self.next
            )));
        }
        Tensor::from_vec(self.total, self.dims, &Device::Cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, draw};
    use super::*;

    #[test]
    fn the_sum_is_complete_or_an_error() {
        let weights = LayerWeights {
            shares: [0.25, 0.75].into(),
        };
        let (a, b) = (draw(1, &[2, 3, 4]), draw(2, &[2, 3, 4]));
        let mut sum = weights.sum();
        sum.add(&a).unwrap();
        assert!(sum.add(&draw(2, &[2, 4, 3])).is_err());
        sum.add(&b).unwrap();
        assert!(sum.add(&b).is_err());
        let expected = ((a * 0.25).unwrap() + (b * 0.75).unwrap()).unwrap();
        assert_close(&sum.finish().unwrap(), &expected, 1e-6);
        assert!(weights.sum().finish().is_err());
    }
}
