//! Functions of single values and of rows that have no weights.

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use super::function::{Backward, Function, Output, View, call1};
use super::{Activation, TASK};
use crate::kernels::{backward, rows};

/// Applies an activation to every value.
///
/// # Errors
/// When candle refuses.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::Identity {
        return Ok(x.clone());
    }
    call1(Activate(activation), x)
}

/// Softmax over the last dimension.
///
/// # Errors
/// When candle refuses.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    call1(Softmax, x)
}

/// The first half of the last dimension times the sigmoid of the second (Dauphin et al., *Language
/// Modeling with Gated Convolutional Networks*, 2017).
///
/// # Errors
/// When the last dimension is odd.
pub fn glu(x: &Tensor) -> Result<Tensor> {
    call1(Glu, x)
}

struct Activate(Activation);

impl Function<1> for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn forward(&self, [x]: [View; 1]) -> Output {
        let mut out = x.values.to_vec();
        out.par_chunks_mut(TASK).for_each(|part| self.0.apply(part));
        Ok((out, x.dims.into()))
    }

    fn backward(&self, at: Backward<1>) -> Result<[Option<Vec<f32>>; 1]> {
        let mut grad = at.grad.to_vec();
        grad.par_chunks_mut(TASK)
            .zip(at.x[0].values.par_chunks(TASK))
            .for_each(|(grad, x)| self.0.back(x, grad));
        Ok([Some(grad)])
    }
}

struct Softmax;

/// The length of a row, and of what a task does.
fn row_task(dims: &[usize]) -> (usize, usize) {
    let cols = dims.last().copied().unwrap_or(1).max(1);
    (cols, TASK.div_ceil(cols) * cols)
}

impl Function<1> for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn forward(&self, [x]: [View; 1]) -> Output {
        let (cols, task) = row_task(x.dims);
        let mut out = x.values.to_vec();
        out.par_chunks_mut(task)
            .for_each(|part| rows::softmax(part, cols));
        Ok((out, x.dims.into()))
    }

    fn backward(&self, at: Backward<1>) -> Result<[Option<Vec<f32>>; 1]> {
        let (cols, task) = row_task(at.out.dims);
        let mut grad = at.grad.to_vec();
        grad.par_chunks_mut(task)
            .zip(at.out.values.par_chunks(task))
            .for_each(|(grad, out)| backward::softmax(out, grad, cols));
        Ok([Some(grad)])
    }
}

struct Glu;

impl Function<1> for Glu {
    fn name(&self) -> &'static str {
        "glu"
    }

    fn forward(&self, [x]: [View; 1]) -> Output {
        let width = match x.dims.last() {
            Some(&width) if width > 0 && width.is_multiple_of(2) => width / 2,
            _ => {
                return Err(Error::Msg(format!(
                    "glu: expected (.., an even number), got {:?}",
                    x.dims
                )));
            }
        };
        let mut out = vec![0.0; x.values.len() / 2];
        for (out, x) in out
            .chunks_exact_mut(width)
            .zip(x.values.chunks_exact(2 * width))
        {
            let (values, gates) = x.split_at(width);
            out.copy_from_slice(gates);
            Activation::Sigmoid.apply(out);
            out.iter_mut().zip(values).for_each(|(out, x)| *out *= x);
        }
        let mut dims = x.dims.to_vec();
        dims[x.dims.len() - 1] = width;
        Ok((out, dims.into()))
    }

    fn backward(&self, at: Backward<1>) -> Result<[Option<Vec<f32>>; 1]> {
        let [x] = at.x;
        let width = at.out.dims.last().copied().unwrap_or(1).max(1);
        let mut grad = vec![0.0; x.values.len()];
        for ((grad, x), up) in grad
            .chunks_exact_mut(2 * width)
            .zip(x.values.chunks_exact(2 * width))
            .zip(at.grad.chunks_exact(width))
        {
            let (values, gates) = x.split_at(width);
            let (of_values, of_gates) = grad.split_at_mut(width);
            of_values.copy_from_slice(gates);
            Activation::Sigmoid.apply(of_values);
            of_values
                .iter_mut()
                .zip(up)
                .for_each(|(grad, up)| *grad *= up);
            for ((grad, value), up) in of_gates.iter_mut().zip(values).zip(up) {
                *grad = up * value;
            }
            Activation::Sigmoid.back(gates, of_gates);
        }
        Ok([Some(grad)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradients, draw};
    use super::*;

    #[test]
    fn gradients_are_those_of_differences() {
        let x = draw(1, &[2, 3, 8]);
        check_gradients(&[(x * 4.0).unwrap()], |x| activate(&x[0], Activation::Gelu));
        let x = draw(2, &[2, 3, 8]);
        check_gradients(std::slice::from_ref(&x), |x| softmax(&x[0]));
        check_gradients(&[x], |x| glu(&x[0]));
        assert!(glu(&draw(3, &[2, 7])).is_err());
    }
}
