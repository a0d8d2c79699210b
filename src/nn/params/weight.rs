//! One tensor of a checkpoint: fixed, where it lies in the mapped file, or trained, as a variable.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor, Var};
use memmap2::Mmap;

/// Where the values of a weight are.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Mapped(Arc<Mmap>, Range<usize>),
    Owned(Arc<[f32]>),
}

impl Values {
    /// Values of `N` bytes each, as f32.
    pub(super) fn owned<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Self {
        Values::Owned(bytes.as_chunks::<N>().0.iter().map(|b| value(*b)).collect())
    }
}

/// One tensor of a checkpoint; a clone shares its values.
#[derive(Debug, Clone)]
pub struct Weight {
    shape: Arc<[usize]>,
    values: Values,
}

impl Weight {
    /// A tensor of a file.
    pub(super) fn new(shape: &[usize], values: Values) -> Self {
        Weight {
            shape: shape.into(),
            values,
        }
    }

    /// Whether its values are those in the mapped file.
    #[cfg(test)]
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.values, Values::Mapped(..))
    }

    /// A tensor made at load time, such as a kernel in another order.
    ///
    /// # Panics
    /// When there are not as many values as the shape says.
    pub fn from_values(values: Vec<f32>, shape: &[usize]) -> Self {
        assert_eq!(
            values.len(),
            shape.iter().product::<usize>(),
            "values do not fit {shape:?}"
        );
        Weight {
            shape: shape.into(),
            values: Values::Owned(values.into()),
        }
    }

    /// Its shape.
    pub fn dims(&self) -> &[usize] {
        &self.shape
    }

    /// Its values, row-major.
    pub fn values(&self) -> &[f32] {
        match &self.values {
            // The cast was tried when this was made.
            Values::Mapped(file, bytes) => {
                bytemuck::try_cast_slice(&file[bytes.clone()]).unwrap_or(&[])
            }
            Values::Owned(values) => values,
        }
    }

    /// A copy as a candle tensor.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn tensor(&self) -> candle_core::Result<Tensor> {
        Tensor::from_slice(self.values(), self.dims(), &Device::Cpu)
    }
}

/// A tensor that a layer can follow while it is trained; a clone is the same tensor.
#[derive(Debug, Clone)]
pub struct Parameter(State);

#[derive(Debug, Clone)]
enum State {
    Fixed {
        weight: Weight,
        /// A copy for operations that gradients pass, made when the first of them asks.
        tensor: Arc<OnceLock<Tensor>>,
    },
    /// A variable, or what is made of variables on this run.
    Trained(Tensor),
}

impl From<Weight> for Parameter {
    fn from(weight: Weight) -> Self {
        Parameter(State::Fixed {
            weight,
            tensor: Arc::default(),
        })
    }
}

impl From<Var> for Parameter {
    fn from(var: Var) -> Self {
        Parameter(State::Trained(var.as_tensor().clone()))
    }
}

impl From<Tensor> for Parameter {
    /// What was made of variables for one run.
    fn from(tensor: Tensor) -> Self {
        Parameter(State::Trained(tensor))
    }
}

impl Parameter {
    /// Its shape.
    pub fn dims(&self) -> &[usize] {
        match &self.0 {
            State::Fixed { weight, .. } => weight.dims(),
            State::Trained(tensor) => tensor.dims(),
        }
    }

    /// Whether it is trained.
    pub fn is_trained(&self) -> bool {
        matches!(self.0, State::Trained(_))
    }

    /// What it is for good; `None` where it is trained.
    pub fn fixed(&self) -> Option<&Weight> {
        match &self.0 {
            State::Fixed { weight, .. } => Some(weight),
            State::Trained(_) => None,
        }
    }

    /// Its values, row-major, where it is fixed; none where it is trained.
    pub(in crate::nn) fn values(&self) -> &[f32] {
        self.fixed().map_or(&[], Weight::values)
    }

    /// It as a tensor: where it is trained the variable, which gradients reach.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn tensor(&self) -> candle_core::Result<Tensor> {
        match &self.0 {
            State::Trained(tensor) => Ok(tensor.clone()),
            State::Fixed { weight, tensor } => match tensor.get() {
                Some(tensor) => Ok(tensor.clone()),
                None => {
                    let made = weight.tensor()?;
                    Ok(tensor.get_or_init(|| made).clone())
                }
            },
        }
    }
}
