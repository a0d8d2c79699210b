//! Dropout (Srivastava et al., 2014): while a network is trained, values are left out at random.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::TASK;
use super::function::{Backward, Function, Output, View, call1};
pub use crate::kernels::attention_backward::Dropout as Dropped;
use crate::nn::params::{Params, Trainable};

/// What drops values where something at its place is trained and its [`crate::nn::params::Mode`] says
/// so, and lets all pass otherwise.
#[derive(Debug, Clone)]
pub struct Dropout {
    share: f32,
    trainable: Option<Arc<Trainable>>,
}

impl Dropout {
    /// Dropout of `share` of the values, from 0 up to but not including 1, in the part of the network
    /// at `params`: a part that is not trained at all is not disturbed either.
    pub fn at(params: &Params, share: f64) -> Self {
        Dropout {
            share: share as f32,
            trainable: match share > 0.0 {
                true => params.trains().cloned(),
                false => None,
            },
        }
    }

    /// Whether values are dropped now.
    pub fn acts(&self) -> bool {
        let trainable = self.trainable.as_ref();
        trainable.is_some_and(|trainable| trainable.mode().dropout)
    }

    /// What is dropped of the weights of the next attention, if anything.
    pub fn of_weights(&self) -> Option<Dropped> {
        let trainable = self.trainable.as_ref()?;
        self.acts().then(|| Dropped {
            share: self.share,
            seed: trainable.draw(),
        })
    }

    /// `x` of any shape, with some values zero and the others as much larger.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.of_weights() {
            None => Ok(x.clone()),
            Some(dropped) => call1(Drop(dropped), x),
        }
    }
}

struct Drop(Dropped);

impl Drop {
    fn apply(&self, values: &[f32]) -> Vec<f32> {
        let mut out = values.to_vec();
        out.par_chunks_mut(TASK)
            .enumerate()
            .for_each(|(part, out)| self.0.apply(part, out));
        out
    }
}

impl Function<1> for Drop {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward(&self, [x]: [View; 1]) -> Output {
        Ok((self.apply(x.values), x.dims.into()))
    }

    fn backward(&self, at: Backward<1>) -> Result<[Option<Vec<f32>>; 1]> {
        Ok([Some(self.apply(at.grad))])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradients, draw};
    use super::*;

    #[test]
    fn gradients_pass_where_values_passed() {
        let seed = 3;
        let dropped = Dropped { share: 0.4, seed };
        check_gradients(&[draw(1, &[4, 30])], |x| call1(Drop(dropped), &x[0]));
    }
}
