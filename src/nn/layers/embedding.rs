//! The embedding table: a row of values for every number.

use candle_core::{Device, Error, Tensor};

use crate::nn::params::{Parameter, Params};
use crate::nn::weights::WeightsError;

/// A table `(rows, channels)`.
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Parameter,
}

impl Embedding {
    /// Reads `weight (rows, channels)`.
    ///
    /// # Errors
    /// When it is missing or misshapen.
    pub fn load(params: &Params, rows: usize, channels: usize) -> Result<Self, WeightsError> {
        Ok(Embedding {
            weight: params.parameter("weight", &[rows, channels])?,
        })
    }

    /// The rows of `ids`, `(ids, channels)`.
    ///
    /// # Errors
    /// When a number is not in the table.
    pub fn forward(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        let rows = self.weight.dims()[0];
        if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
            return Err(Error::Msg(format!(
                "embedding: expected a number below {rows}, got {id}"
            )));
        }
        if self.weight.is_trained() {
            let ids = Tensor::from_slice(ids, ids.len(), &Device::Cpu)?;
            return self.weight.tensor()?.index_select(&ids, 0);
        }
        let channels = self.weight.dims()[1];
        let mut values = Vec::with_capacity(ids.len() * channels);
        for &id in ids {
            let at = id as usize * channels;
            values.extend_from_slice(&self.weight.values()[at..at + channels]);
        }
        Tensor::from_vec(values, (ids.len(), channels), &Device::Cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, check_gradients, draw};
    use super::*;
    use crate::nn::params::Weight;

    #[test]
    fn rows_are_looked_up_and_strangers_refused() {
        let table = Embedding {
            weight: Weight::from_values((0..6).map(|i| i as f32).collect(), &[3, 2]).into(),
        };
        let rows = table.forward(&[2, 0]).unwrap();
        assert_eq!(rows.to_vec2::<f32>().unwrap(), [[4.0, 5.0], [0.0, 1.0]]);
        let error = table.forward(&[3]).unwrap_err().to_string();
        assert!(error.contains("below 3, got 3"), "{error}");
    }

    #[test]
    fn the_trained_form_is_the_same_and_gradients_add_up() {
        let table = draw(1, &[5, 3]);
        let values = table.flatten_all().unwrap().to_vec1().unwrap();
        let fixed = Embedding {
            weight: Weight::from_values(values, &[5, 3]).into(),
        };
        let ids = [4, 1, 4, 0];
        check_gradients(&[table], |vars| {
            let trained = Embedding {
                weight: vars[0].clone().into(),
            };
            assert!(trained.forward(&[5]).is_err());
            trained.forward(&ids)
        });
        let var = candle_core::Var::from_tensor(&draw(1, &[5, 3])).unwrap();
        let trained = Embedding { weight: var.into() };
        assert_close(
            &trained.forward(&ids).unwrap(),
            &fixed.forward(&ids).unwrap(),
            0.0,
        );
    }
}
