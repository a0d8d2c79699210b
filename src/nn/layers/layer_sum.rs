//! The weighted sum of a network's layers that heads listen to (Yang et al., *SUPERB*, 2021).
//!
//! It is summed while the network runs, so that no layer's output has to be kept, unless gradients
//! are to pass.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::function::{Backward, Function, Output, View, call2};
use super::{TASK, softmax};
use crate::kernels::rows;
use crate::nn::ops::with_values;
use crate::nn::params::{Parameter, Params};
use crate::nn::weights::WeightsError;

/// The share of every layer.
#[derive(Debug, Clone)]
pub struct LayerWeights {
    /// `(layers)`, whose softmax are the shares.
    layer_weights: Parameter,
    /// The shares, where they are fixed.
    shares: Arc<[f32]>,
}

impl LayerWeights {
    /// Reads `layer_weights (layers)`, whose softmax are the shares.
    ///
    /// # Errors
    /// When it is missing or misshapen.
    pub fn load(params: &Params, layers: usize) -> Result<Self, WeightsError> {
        Ok(LayerWeights::new(
            params.parameter("layer_weights", &[layers])?,
        ))
    }

    fn new(layer_weights: Parameter) -> Self {
        let mut shares = layer_weights.values().to_vec();
        rows::softmax(&mut shares, layer_weights.dims()[0]);
        LayerWeights {
            layer_weights,
            shares: shares.into(),
        }
    }

    /// A sum to which nothing has been added.
    pub fn sum(&self) -> LayerSum {
        LayerSum {
            weights: self.clone(),
            next: 0,
            total: Total::Nothing,
            dims: Vec::new(),
        }
    }
}

/// A sum in the making.
#[derive(Debug)]
pub struct LayerSum {
    weights: LayerWeights,
    /// The layer that comes next.
    next: usize,
    total: Total,
    dims: Vec<usize>,
}

#[derive(Debug)]
enum Total {
    Nothing,
    /// Values that no gradient passes.
    Values(Vec<f32>),
    /// Part of the graph.
    Tensor(Tensor),
}

impl LayerSum {
    fn layers(&self) -> usize {
        self.weights.layer_weights.dims()[0]
    }

    /// Adds the output of the next layer.
    ///
    /// # Errors
    /// When there are more layers than shares, or they differ in shape.
    pub fn add(&mut self, x: &Tensor) -> candle_core::Result<()> {
        let layer = self.next;
        if layer == 0 {
            self.dims = x.dims().to_vec();
        }
        if layer >= self.layers() || x.dims() != self.dims {
            return Err(candle_core::Error::Msg(format!(
                "layer_sum: expected {} layers of {:?}, got layer {layer} of {:?}",
                self.layers(),
                self.dims,
                x.dims()
            )));
        }
        self.next += 1;
        let trained = self.weights.layer_weights.is_trained();
        let passes = trained || x.track_op() || matches!(self.total, Total::Tensor(_));
        let total = std::mem::replace(&mut self.total, Total::Nothing);
        self.total = if passes {
            let shares = softmax(&self.weights.layer_weights.tensor()?)?;
            let part = call2(Part { layer }, x, &shares)?;
            Total::Tensor(match total {
                Total::Nothing => part,
                Total::Values(total) => (Tensor::from_vec(total, x.shape(), &Device::Cpu)? + part)?,
                Total::Tensor(total) => (total + part)?,
            })
        } else {
            let mut total = match total {
                Total::Values(total) => total,
                _ => vec![0.0; x.elem_count()],
            };
            let share = self.weights.shares[layer];
            with_values(x, |x| {
                rows::add_scaled(&mut total, share, x);
                Ok(())
            })?;
            Total::Values(total)
        };
        Ok(())
    }

    /// The sum.
    ///
    /// # Errors
    /// When layers are missing.
    pub fn finish(self) -> candle_core::Result<Tensor> {
        if self.next != self.layers() {
            return Err(candle_core::Error::Msg(format!(
                "layer_sum: expected {} layers, got {}",
                self.layers(),
                self.next
            )));
        }
        match self.total {
            Total::Tensor(total) => Ok(total),
            Total::Values(total) => Tensor::from_vec(total, self.dims, &Device::Cpu),
            Total::Nothing => Tensor::zeros(self.dims, candle_core::DType::F32, &Device::Cpu),
        }
    }
}

/// The output of a layer times its share, of both.
struct Part {
    layer: usize,
}

impl Function<2> for Part {
    fn name(&self) -> &'static str {
        "layer_sum"
    }

    fn forward(&self, [x, shares]: [View; 2]) -> Output {
        let share = shares.values[self.layer];
        let mut out = vec![0.0; x.values.len()];
        out.par_chunks_mut(TASK)
            .zip(x.values.par_chunks(TASK))
            .for_each(|(out, x)| rows::add_scaled(out, share, x));
        Ok((out, x.dims.into()))
    }

    fn backward(&self, at: Backward<2>) -> candle_core::Result<[Option<Vec<f32>>; 2]> {
        let [x, shares] = at.x;
        let share = shares.values[self.layer];
        let mut of_x = vec![0.0; x.values.len()];
        let dots: Vec<f64> = of_x
            .par_chunks_mut(TASK)
            .zip(x.values.par_chunks(TASK))
            .zip(at.grad.par_chunks(TASK))
            .map(|((of_x, x), grad)| {
                rows::add_scaled(of_x, share, grad);
                let pairs = x.iter().zip(grad);
                pairs.map(|(x, grad)| f64::from(x * grad)).sum()
            })
            .collect();
        let mut of_shares = vec![0.0; shares.values.len()];
        of_shares[self.layer] = dots.iter().sum::<f64>() as f32;
        Ok([Some(of_x), Some(of_shares)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, check_layer, draw};
    use super::*;
    use crate::nn::params::Weight;

    #[test]
    fn the_sum_is_complete_or_an_error() {
        let layer_weights = Weight::from_values(vec![0.0, 3f32.ln()], &[2]);
        let weights = LayerWeights::new(layer_weights.into());
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

    #[test]
    fn the_trained_form_is_the_same_and_gradients_are_those_of_differences() {
        let inputs = [draw(1, &[2, 4]), draw(2, &[2, 4]), draw(3, &[2])];
        check_layer(&inputs, |[a, b, layer_weights]| {
            let mut sum = LayerWeights::new(layer_weights.parameter()).sum();
            sum.add(&a.tensor())?;
            sum.add(&b.tensor())?;
            sum.finish()
        });
        // A layer that is fixed below those that are trained.
        let weights = LayerWeights::new(Weight::from_values(vec![0.0, 3f32.ln()], &[2]).into());
        let (a, b) = (draw(1, &[2, 4]), draw(2, &[2, 4]));
        let mut sum = weights.sum();
        sum.add(&a).unwrap();
        sum.add(&candle_core::Var::from_tensor(&b).unwrap())
            .unwrap();
        let sum = sum.finish().unwrap();
        assert!(sum.track_op());
        let expected = ((a * 0.25).unwrap() + (b * 0.75).unwrap()).unwrap();
        assert_close(&sum, &expected, 1e-6);
    }
}
