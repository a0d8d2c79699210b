//! The projections of CLAP in the form that trains: variables under the checkpoint's own keys, and
//! operations of candle that gradients pass.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};

use crate::models::ModelError;
use crate::nn::layers::Activation;
use crate::nn::params::Params;

/// The parts of a projection that are trained.
const PARTS: [&str; 4] = [
    "linear1.weight",
    "linear1.bias",
    "linear2.weight",
    "linear2.bias",
];

/// From what a tower gives `(rows, inputs)` to the common space `(rows, dim)`, not yet of length 1.
#[derive(Debug, Clone)]
pub struct Projection {
    prefix: &'static str,
    vars: [Var; 4],
    activation: Activation,
}

impl Projection {
    /// Reads the projection below `prefix` (`audio_projection`, `text_projection`) into variables.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen, or the activation has no gradient here.
    pub fn load(
        params: &Params,
        prefix: &'static str,
        activation: Activation,
    ) -> std::result::Result<Self, ModelError> {
        let here = params.pp(prefix);
        if !matches!(
            activation,
            Activation::Identity
                | Activation::Relu
                | Activation::Gelu
                | Activation::GeluTanh
                | Activation::Silu
                | Activation::Tanh
        ) {
            return Err(ModelError::Format(format!(
                "{}: projection_hidden_act: expected relu, gelu, gelu_new, silu or tanh to train with, got {activation:?}",
                params.path().display()
            )));
        }
        let var = |key: &str| -> std::result::Result<Var, ModelError> {
            let shape = here
                .shape(key)
                .ok_or_else(|| here.wrong(key, "expected the tensor of a projection, got none"))?
                .to_vec();
            Ok(Var::from_tensor(&here.get(key, &shape)?.tensor()?)?)
        };
        let [w1, b1, w2, b2] = PARTS;
        Ok(Projection {
            prefix,
            vars: [var(w1)?, var(b1)?, var(w2)?, var(b2)?],
            activation,
        })
    }

    /// The variables by their full keys.
    pub fn vars(&self) -> BTreeMap<String, Var> {
        PARTS
            .iter()
            .zip(&self.vars)
            .map(|(part, var)| (format!("{}.{part}", self.prefix), var.clone()))
            .collect()
    }

    /// `(rows, inputs)` to `(rows, dim)`.
    ///
    /// # Errors
    /// When `inputs` is another number than the weights have.
    pub fn forward(&self, pooled: &Tensor) -> Result<Tensor> {
        let [w1, b1, w2, b2] = &self.vars;
        let linear = |x: &Tensor, weight: &Var, bias: &Var| -> Result<Tensor> {
            x.matmul(&weight.as_tensor().t()?)?.broadcast_add(bias)
        };
        let inner = linear(pooled, w1, b1)?;
        let inner = match self.activation {
            Activation::Relu => inner.relu()?,
            Activation::Gelu => inner.gelu_erf()?,
            Activation::GeluTanh => inner.gelu()?,
            Activation::Silu => inner.silu()?,
            Activation::Tanh => inner.tanh()?,
            _ => inner,
        };
        linear(&inner, w2, b2)
    }
}
