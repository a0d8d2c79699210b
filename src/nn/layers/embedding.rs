//! The embedding table: a row of values for every number.

use candle_core::{Device, Tensor};

use crate::nn::params::{Params, Weight};
use crate::nn::weights::WeightsError;

/// A table `(rows, channels)`.
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Weight,
}

impl Embedding {
    /// Reads `weight (rows, channels)`.
    ///
    /// # Errors
    /// When it is missing or misshapen.
    pub fn load(params: &Params, rows: usize, channels: usize) -> Result<Self, WeightsError> {
        Ok(Embedding {
            weight: params.get("weight", &[rows, channels])?,
        })
    }

    /// The rows of `ids`, `(ids, channels)`.
    ///
    /// # Errors
    /// When a number is not in the table.
    pub fn forward(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        let channels = self.weight.dims()[1];
        let mut values = Vec::with_capacity(ids.len() * channels);
        for &id in ids {
            let row = self
                .weight
                .values()
                .chunks_exact(channels.max(1))
                .nth(id as usize)
                .ok_or_else(|| {
                    candle_core::Error::Msg(format!(
                        "embedding: expected a number below {}, got {id}",
                        self.weight.dims()[0]
                    ))
                })?;
            values.extend_from_slice(row);
        }
        Tensor::from_vec(values, (ids.len(), channels), &Device::Cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_looked_up_and_strangers_refused() {
        let table = Embedding {
            weight: Weight::from_values((0..6).map(|i| i as f32).collect(), &[3, 2]),
        };
        let rows = table.forward(&[2, 0]).unwrap();
        assert_eq!(rows.to_vec2::<f32>().unwrap(), [[4.0, 5.0], [0.0, 1.0]]);
        let error = table.forward(&[3]).unwrap_err().to_string();
        assert!(error.contains("below 3, got 3"), "{error}");
    }
}
