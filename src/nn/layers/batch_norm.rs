//! The normalisation of every channel over a batch.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Error, Result, Tensor};

use super::function::call3;
use super::standardise::{Standardise, Statistics, scale_shift};
use super::{apply, rows_of};
use crate::nn::ops::with_values;
use crate::nn::params::{Parameter, Params, RunningStatistics, Trainable, Weight};
use crate::nn::weights::WeightsError;

/// What of a batch goes into the running statistics; PyTorch's default.
const MOMENTUM: f32 = 0.1;

/// Batch normalisation (Ioffe and Szegedy, *Batch Normalization*, 2015), a factor and an offset a
/// channel: with the statistics that its training gathered, or, where it is trained itself and its
/// [`crate::nn::params::Mode`] says so, with those of the batch.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Parameter,
    bias: Parameter,
    running: Arc<Mutex<RunningStatistics>>,
    eps: f32,
    /// Both of them put together, where all is fixed.
    folded: Option<(Weight, Weight)>,
    trainable: Option<Arc<Trainable>>,
}

impl BatchNorm {
    /// Reads `weight`, `bias`, `running_mean` and `running_var`, all `(channels)`.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn load(
        params: &Params,
        channels: usize,
        eps: f64,
    ) -> std::result::Result<Self, WeightsError> {
        let parameter = |key| params.parameter(key, &[channels]);
        let (weight, bias) = (parameter("weight")?, parameter("bias")?);
        let buffer = |key| params.buffer(key, &[channels]);
        let running = RunningStatistics {
            mean: buffer("running_mean")?.values().to_vec(),
            var: buffer("running_var")?.values().to_vec(),
            batches: 0,
        };
        let trainable = match weight.is_trained() || bias.is_trained() {
            true => params.trains().cloned(),
            false => None,
        };
        let folded = weight.fixed().zip(bias.fixed()).map(|(weight, bias)| {
            let (scale, shift) = (0..channels)
                .map(|c| {
                    let scale = weight.values()[c] / (running.var[c] + eps as f32).sqrt();
                    (scale, bias.values()[c] - running.mean[c] * scale)
                })
                .unzip();
            let made = |values| Weight::from_values(values, &[channels]);
            (made(scale), made(shift))
        });
        Ok(BatchNorm {
            weight,
            bias,
            running: params.running_statistics(running),
            eps: eps as f32,
            folded,
            trainable,
        })
    }

    /// The factor and the offset of every channel, to be folded into the layer before; `None` where it
    /// is trained.
    pub fn scale_shift(&self) -> Option<(&[f32], &[f32])> {
        let (scale, shift) = self.folded.as_ref()?;
        Some((scale.values(), shift.values()))
    }

    /// `(.., channels)` to the same.
    ///
    /// # Errors
    /// When the last dimension is not `channels`, or the statistics of a batch of one row are asked
    /// for.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rows_of(x.dims(), self.weight.dims()[0], "batch_norm")?;
        if let (Some(folded), false) = (&self.folded, x.track_op()) {
            let (scale, shift) = folded.clone();
            return apply(x, "batch_norm", move |x, dims| {
                let mut out = vec![0.0; x.len()];
                scale_shift(x, scale.values(), shift.values(), &mut out);
                Ok((out, dims.into()))
            });
        }
        let of_input = match &self.trainable {
            Some(trainable) => trainable.mode().batch_statistics,
            None => false,
        };
        let standardise = Standardise {
            statistics: vec![match of_input {
                true => self.gather(x)?,
                false => self.gathered(),
            }],
            of_input,
            eps: self.eps,
        };
        call3(standardise, x, &self.weight.tensor()?, &self.bias.tensor()?)
    }

    /// The statistics of a batch, which go into the running ones too.
    fn gather(&self, x: &Tensor) -> Result<Statistics> {
        let channels = self.weight.dims()[0];
        let rows = x.elem_count() / channels.max(1);
        if rows < 2 {
            return Err(Error::Msg(format!(
                "batch_norm: the statistics of a batch need at least two rows, got {:?}",
                x.dims()
            )));
        }
        let statistics = with_values(x, |x| Ok(Statistics::of(x, channels)))?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // The running variance is that of a sample, divided by one row less; that of the batch is not.
        let sample = rows as f64 / (rows - 1) as f64;
        for c in 0..channels {
            let (mean, var) = (
                statistics.mean[c] as f32,
                (statistics.var[c] * sample) as f32,
            );
            running.mean[c] += MOMENTUM * (mean - running.mean[c]);
            running.var[c] += MOMENTUM * (var - running.var[c]);
        }
        running.batches += 1;
        Ok(statistics)
    }

    /// The running statistics.
    fn gathered(&self) -> Statistics {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect();
        Statistics {
            mean: wide(&running.mean),
            var: wide(&running.var),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;
    use safetensors::tensor::{Dtype, TensorView};

    use super::super::testing::{assert_close, check_gradients, draw, normal};
    use super::*;
    use crate::nn::params::Mode;

    fn finish(x: Tensor, gamma: &Tensor, beta: &Tensor) -> Tensor {
        x.broadcast_mul(gamma).unwrap().broadcast_add(beta).unwrap()
    }

    /// A checkpoint with a batch normalisation of three channels at `norm`.
    fn checkpoint(path: &std::path::Path) -> Params {
        let of = |values: [f32; 3]| values.map(f32::to_le_bytes).concat();
        let tensors = [
            ("norm.weight", of([0.5, 1.5, -1.0])),
            ("norm.bias", of([0.1, -0.2, 0.3])),
            ("norm.running_mean", of([0.2, 0.0, -0.3])),
            ("norm.running_var", of([0.5, 1.0, 2.0])),
        ];
        let views = tensors
            .iter()
            .map(|(key, bytes)| (*key, TensorView::new(Dtype::F32, vec![3], bytes).unwrap()));
        let bytes = safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
        std::fs::write(path, bytes).unwrap();
        Params::open_file(path).unwrap()
    }

    #[test]
    fn a_fixed_and_a_trained_batch_norm_are_the_same_until_the_batch_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let params = checkpoint(&path);
        let fixed = BatchNorm::load(&params.pp("norm"), 3, 1e-5).unwrap();
        let (trained_params, trainable) = params.trainable(|_| true);
        let trained = BatchNorm::load(&trained_params.pp("norm"), 3, 1e-5).unwrap();
        assert!(fixed.scale_shift().is_some() && trained.scale_shift().is_none());
        // Running statistics are no variables.
        let keys: Vec<String> = trainable.variables().into_keys().collect();
        assert_eq!(keys, ["norm.bias", "norm.weight"]);
        let x = draw(1, &[2, 9, 3]);
        let out = fixed.forward(&x).unwrap();
        assert!(!out.track_op());
        assert_close(&trained.forward(&x).unwrap(), &out, 1e-5);
        check_gradients(std::slice::from_ref(&x), |x| fixed.forward(&x[0]));
        check_gradients(std::slice::from_ref(&x), |x| trained.forward(&x[0]));

        trainable.set_mode(Mode {
            batch_statistics: true,
            ..Mode::default()
        });
        let flat = x.reshape((18, 3)).unwrap();
        let gamma = Tensor::new(&[0.5f32, 1.5, -1.0], &Device::Cpu).unwrap();
        let beta = Tensor::new(&[0.1f32, -0.2, 0.3], &Device::Cpu).unwrap();
        let expected = finish(normal(&flat, 0, 1e-5), &gamma, &beta);
        let got = trained.forward(&x).unwrap().reshape((18, 3)).unwrap();
        assert_close(&got, &expected, 1e-5);
        // A tenth of the batch, whose variance is that of a sample.
        let mean = flat.mean(0).unwrap().to_vec1::<f32>().unwrap();
        let var = flat.var(0).unwrap().to_vec1::<f32>().unwrap();
        let running = trained.running.lock().unwrap().clone();
        for c in 0..3 {
            let (old_mean, old_var) = ([0.2, 0.0, -0.3][c], [0.5, 1.0, 2.0][c]);
            assert!((running.mean[c] - 0.9 * old_mean - 0.1 * mean[c]).abs() < 1e-6);
            assert!((running.var[c] - 0.9 * old_var - 0.1 * var[c]).abs() < 1e-6);
        }
        trained_params.save(&path).unwrap();
        let saved = Params::open_file(&path).unwrap();
        let saved = saved.buffer("norm.running_var", &[3]).unwrap();
        assert_eq!(saved.values(), running.var);
        check_gradients(&[x], |x| trained.forward(&x[0]));
        assert!(trained.forward(&draw(1, &[1, 3])).is_err());
        // A fixed one keeps to its own statistics whatever the mode.
        let (frozen, trainable) =
            params.trainable(|key| key != "norm.weight" && key != "norm.bias");
        trainable.set_mode(Mode {
            batch_statistics: true,
            dropout: true,
        });
        let frozen = BatchNorm::load(&frozen.pp("norm"), 3, 1e-5).unwrap();
        assert!(frozen.scale_shift().is_some());
    }
}
