//! The linear layer, with what usually follows it in the same pass.

use candle_core::Tensor;

use super::{apply, rows_of};
use crate::kernels::gemm::{Finish, Matrix, product};
use crate::kernels::rows::Activation;
use crate::nn::ops::with_values;
use crate::nn::params::{Params, Weight};
use crate::nn::weights::WeightsError;

/// `y = x W^T + b` over the last dimension.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `(out, in)`.
    weight: Weight,
    /// `(out)`.
    bias: Option<Weight>,
}

impl Linear {
    /// Reads `weight (outputs, inputs)` and `bias (outputs)`.
    ///
    /// # Errors
    /// When either is missing or misshapen.
    pub fn load(params: &Params, inputs: usize, outputs: usize) -> Result<Self, WeightsError> {
        Ok(Linear {
            bias: Some(params.get("bias", &[outputs])?),
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
            weight: params.get("weight", &[outputs, inputs])?,
            bias: None,
        })
    }

    /// A layer of weights that were made at load time: `weight (outputs, inputs)`, `bias (outputs)`.
    pub fn new(weight: Weight, bias: Option<Weight>) -> Self {
        Linear { weight, bias }
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
        self.run(x, Activation::Identity, Some(residual.clone()))
    }

    fn run(
        &self,
        x: &Tensor,
        activation: Activation,
        residual: Option<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let layer = self.clone();
        apply(x, "linear", move |x, dims| {
            let &[outputs, inputs] = layer.weight.dims() else {
                return Err(candle_core::Error::Msg(
                    "linear: expected a matrix".to_owned(),
                ));
            };
            let rows = rows_of(dims, inputs, "linear")?;
            let mut out_dims = dims.to_vec();
            out_dims[dims.len() - 1] = outputs;
            let mut out = vec![0.0; rows * outputs];
            let mut multiply = |residual: Option<&[f32]>| {
                let finish = Finish {
                    bias: layer.bias.as_ref().map(Weight::values),
                    activation,
                    residual,
                };
                let weight = Matrix::row_major(layer.weight.values(), outputs, inputs);
                product(
                    Matrix::row_major(x, rows, inputs),
                    weight.transposed(),
                    finish,
                    &mut out,
                );
            };
            match &residual {
                None => multiply(None),
                Some(residual) if residual.dims() != out_dims => {
                    return Err(candle_core::Error::Msg(format!(
                        "linear: expected a residual of {out_dims:?}, got {:?}",
                        residual.dims()
                    )));
                }
                Some(residual) => with_values(residual, |values| {
                    multiply(Some(values));
                    Ok(())
                })?,
            }
            Ok((out, out_dims.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, draw};
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
}
