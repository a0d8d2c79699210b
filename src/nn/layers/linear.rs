//! The linear layer, with what usually follows it in the same pass.

use candle_core::Tensor;

use super::function::{Backward, Function, Output, View, call_layer, tracks};
use super::{Dropout, activate, apply, rows_of, sum_rows};
use crate::kernels::gemm::{Finish, Matrix, product};
use crate::kernels::rows::Activation;
use crate::nn::ops::with_values;
use crate::nn::params::{Parameter, Params, Weight};
use crate::nn::weights::WeightsError;

/// `y = x W^T + b` over the last dimension.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `(out, in)`.
    weight: Parameter,
    /// `(out)`.
    bias: Option<Parameter>,
}

impl Linear {
    /// Reads `weight (outputs, inputs)` and `bias (outputs)`.
    ///
    /// # Errors
    /// When either is missing or misshapen.
    pub fn load(params: &Params, inputs: usize, outputs: usize) -> Result<Self, WeightsError> {
        Ok(Linear {
            bias: Some(params.parameter("bias", &[outputs])?),
            ..Linear::load_no_bias(params, inputs, outputs)?
        })
    }

    /// Reads `weight (outputs, inputs)` alone.
    ///
    /// # Errors
    /// When it is missing or misshapen.
    pub fn load_no_bias(
        params: &Params,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, WeightsError> {
        Ok(Linear {
            weight: params.parameter("weight", &[outputs, inputs])?,
            bias: None,
        })
    }

    /// A layer of weights that were made at load time: `weight (outputs, inputs)`, `bias (outputs)`.
    pub fn new(weight: Weight, bias: Option<Weight>) -> Self {
        Linear {
            weight: weight.into(),
            bias: bias.map(Parameter::from),
        }
    }

    /// `(.., inputs)` to `(.., outputs)`.
    ///
    /// # Errors
    /// When the last dimension is not `inputs`.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.run(x, Activation::Identity, None)
    }

    /// [`Linear::forward`], then an activation.
    ///
    /// # Errors
    /// The same.
    pub fn forward_act(&self, x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
        self.run(x, activation, None)
    }

    /// [`Linear::forward`] plus `residual (.., outputs)`.
    ///
    /// # Errors
    /// The same, or when the residual has another shape.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        self.run(x, Activation::Identity, Some(residual))
    }

    /// [`Linear::forward_add`] with some values dropped before the residual is added.
    ///
    /// # Errors
    /// The same.
    pub fn forward_drop_add(
        &self,
        x: &Tensor,
        dropout: &Dropout,
        residual: &Tensor,
    ) -> candle_core::Result<Tensor> {
        match dropout.acts() {
            false => self.forward_add(x, residual),
            true => dropout.forward(&self.forward(x)?)? + residual,
        }
    }

    fn run(
        &self,
        x: &Tensor,
        activation: Activation,
        residual: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        let parameters = [&self.weight].into_iter().chain(&self.bias);
        if tracks(x, parameters) || residual.is_some_and(Tensor::track_op) {
            let out = call_layer(Product, x, &self.weight.tensor()?, self.bias.as_ref())?;
            let out = activate(&out, activation)?;
            return match residual {
                None => Ok(out),
                Some(residual) if residual.dims() != out.dims() => {
                    Err(misfit(out.dims(), residual.dims()))
                }
                Some(residual) => out + residual,
            };
        }
        let (layer, residual) = (self.clone(), residual.cloned());
        apply(x, "linear", move |x, dims| {
            let x = View { values: x, dims };
            let weight = View {
                values: layer.weight.values(),
                dims: layer.weight.dims(),
            };
            let finish = Finish {
                bias: layer.bias.as_ref().map(Parameter::values),
                activation,
                residual: None,
            };
            match &residual {
                None => multiply(x, weight, finish),
                Some(residual) => with_values(residual, |values| {
                    let out_dims = out_dims(x.dims, weight.dims)?;
                    if residual.dims() != out_dims {
                        return Err(misfit(&out_dims, residual.dims()));
                    }
                    let residual = Some(values);
                    multiply(x, weight, Finish { residual, ..finish })
                }),
            }
        })
    }
}

fn misfit(expected: &[usize], got: &[usize]) -> candle_core::Error {
    candle_core::Error::Msg(format!(
        "linear: expected a residual of {expected:?}, got {got:?}"
    ))
}

/// The shape of what a `weight (outputs, inputs)` makes of `x (.., inputs)`.
fn out_dims(x: &[usize], weight: &[usize]) -> candle_core::Result<Vec<usize>> {
    let &[outputs, inputs] = weight else {
        return Err(candle_core::Error::Msg(
            "linear: expected a matrix".to_owned(),
        ));
    };
    rows_of(x, inputs, "linear")?;
    let mut dims = x.to_vec();
    dims[x.len() - 1] = outputs;
    Ok(dims)
}

/// `x weight^T`, finished.
fn multiply(x: View, weight: View, finish: Finish) -> Output {
    let dims = out_dims(x.dims, weight.dims)?;
    let (outputs, inputs) = (weight.dims[0], weight.dims[1]);
    let rows = rows_of(x.dims, inputs, "linear")?;
    let mut out = vec![0.0; rows * outputs];
    product(
        Matrix::row_major(x.values, rows, inputs),
        Matrix::row_major(weight.values, outputs, inputs).transposed(),
        finish,
        &mut out,
    );
    Ok((out, dims.into()))
}

/// `x weight^T + bias` of `x`, `weight` and perhaps `bias`.
struct Product;

impl<const N: usize> Function<N> for Product {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, x: [View; N]) -> Output {
        let finish = Finish {
            bias: x.get(2).map(|bias| bias.values),
            ..Finish::default()
        };
        multiply(x[0], x[1], finish)
    }

    fn backward(&self, at: Backward<N>) -> candle_core::Result<[Option<Vec<f32>>; N]> {
        let (x, weight) = (at.x[0], at.x[1]);
        let (outputs, inputs) = (weight.dims[0], weight.dims[1]);
        let rows = rows_of(x.dims, inputs, "linear")?;
        let grad = Matrix::row_major(at.grad, rows, outputs);
        let multiply = |a: Matrix, b: Matrix, length: usize| {
            let mut out = vec![0.0; length];
            product(a, b, Finish::default(), &mut out);
            out
        };
        Ok(std::array::from_fn(|i| match i {
            _ if !at.wanted[i] => None,
            0 => {
                let weight = Matrix::row_major(weight.values, outputs, inputs);
                Some(multiply(grad, weight, rows * inputs))
            }
            1 => {
                let x = Matrix::row_major(x.values, rows, inputs);
                Some(multiply(grad.transposed(), x, outputs * inputs))
            }
            _ => Some(sum_rows(at.grad, outputs)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, check_layer, draw};
    use super::*;

    #[test]
    fn linear_equals_candle_with_and_without_what_follows() {
        let (weight, bias) = (draw(1, &[24, 10]), draw(2, &[24]));
        let values =
            |t: &Tensor| Weight::from_values(t.flatten_all().unwrap().to_vec1().unwrap(), t.dims());
        let layer = Linear::new(values(&weight), Some(values(&bias)));
        let x = draw(3, &[2, 7, 10]);
        let expected = x
            .reshape((14, 10))
            .unwrap()
            .matmul(&weight.t().unwrap())
            .unwrap()
            .broadcast_add(&bias)
            .unwrap()
            .reshape((2, 7, 24))
            .unwrap();
        assert_close(&layer.forward(&x).unwrap(), &expected, 1e-5);
        let rectified = layer.forward_act(&x, Activation::Relu).unwrap();
        assert_close(&rectified, &expected.relu().unwrap(), 1e-5);
        let residual = draw(4, &[2, 7, 24]);
        let sum = layer.forward_add(&x, &residual).unwrap();
        assert_close(&sum, &(expected + &residual).unwrap(), 1e-5);
        // A transposed input is not where its shape says; the layer must see its values in order.
        let turned = draw(3, &[10, 14]).t().unwrap();
        let straight = turned.contiguous().unwrap();
        assert_close(
            &layer.forward(&turned).unwrap(),
            &layer.forward(&straight).unwrap(),
            0.0,
        );
        assert!(layer.forward(&draw(5, &[2, 9])).is_err());
        assert!(layer.forward_add(&x, &draw(4, &[2, 7, 10])).is_err());
    }

    #[test]
    fn the_trained_form_is_the_same_and_gradients_are_those_of_differences() {
        let (weight, bias) = (draw(1, &[6, 5]), draw(2, &[6]));
        let (x, residual) = (draw(3, &[2, 3, 5]), draw(4, &[2, 3, 6]));
        let inputs = [x, weight, bias, residual];
        check_layer(&inputs, |[x, weight, bias, residual]| {
            let layer = Linear {
                weight: weight.parameter(),
                bias: Some(bias.parameter()),
            };
            let acted = layer.forward_act(&x.tensor(), Activation::Silu)?;
            acted + layer.forward_add(&x.tensor(), &residual.tensor())?
        });
        let [x, weight, ..] = inputs;
        check_layer(&[x, weight], |[x, weight]| {
            let layer = Linear {
                weight: weight.parameter(),
                bias: None,
            };
            layer.forward(&x.tensor())
        });
    }
}
