//! The batch form of a network, on candle, for training: variables, forward pass, and the way back
//! to a [`Checkpoint`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Result, Tensor, Var};

use super::{
    column::gather,
    ops::{Depthwise, NormRelu, RunningStats},
    spec::NetSpec,
    weights::{Checkpoint, expected_tensors},
};
use crate::features::N_MELS;
use crate::kernels::depthwise::Geometry;

/// A network in training.
pub struct BatchNet {
    net: NetSpec,
    vars: BTreeMap<String, Var>,
    running: BTreeMap<String, Arc<Mutex<RunningStats>>>,
}

/// A network's layer needs a variable that is not there.
fn missing(key: &str) -> candle_core::Error {
    candle_core::Error::Msg(format!("{key}: no such tensor"))
}

impl BatchNet {
    /// Starts from a checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let net = checkpoint.card.net.clone();
        let (mut vars, mut running) = (BTreeMap::new(), BTreeMap::new());
        for (key, shape) in expected_tensors(&net) {
            let data = checkpoint
                .tensors
                .get(&key)
                .ok_or_else(|| missing(&key))?
                .clone();
            if let Some(prefix) = key.strip_suffix(".running_mean") {
                let var = checkpoint
                    .tensors
                    .get(&format!("{prefix}.running_var"))
                    .ok_or_else(|| missing(&key))?;
                let stats = RunningStats {
                    mean: data,
                    var: var.clone(),
                };
                running.insert(prefix.to_owned(), Arc::new(Mutex::new(stats)));
            } else if !key.ends_with(".running_var") {
                vars.insert(
                    key,
                    Var::from_tensor(&Tensor::from_vec(data, shape, &Device::Cpu)?)?,
                );
            }
        }
        Ok(BatchNet { net, vars, running })
    }

    /// The variables by key, running statistics aside.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    fn var(&self, key: &str) -> Result<&Tensor> {
        self.vars
            .get(key)
            .map(Var::as_tensor)
            .ok_or_else(|| missing(key))
    }

    fn norm_relu(&self, x: &Tensor, prefix: &str) -> Result<Tensor> {
        let key = format!("{prefix}.norm");
        let running = self.running.get(&key).ok_or_else(|| missing(&key))?.clone();
        let (gamma, beta) = (
            self.var(&format!("{key}.weight"))?,
            self.var(&format!("{key}.bias"))?,
        );
        x.apply_op3(gamma, beta, NormRelu::new(running))
    }

    /// Log-mel frames `(batch, frames, N_MELS)` to the embeddings of every step,
    /// `(batch, steps, embedding)`, with the statistics of the batch.
    ///
    /// # Errors
    /// When the length does not fit.
    pub fn embeddings(&self, frames: &[f32], batch: usize) -> Result<Tensor> {
        let time = frames.len() / N_MELS / batch;
        let geometry = self.net.stem.geometry();
        let shapes = self.net.shapes();
        let (mut steps, mut freqs) = (geometry.out_frames(time), shapes[1].freqs);
        let patches = stem_patches(&geometry, frames, batch, time, freqs)?;
        let mut x = patches.matmul(self.var("stem.weight")?)?;
        x = self.norm_relu(&x, "stem")?;
        for (at, block) in self.net.blocks.iter().enumerate() {
            let prefix = format!("blocks.{at}");
            let channels = shapes[at + 1].channels;
            let input = x.reshape((batch, steps, freqs, channels))?;
            let geometry = block.geometry();
            let mixed = input.apply_op2(
                self.var(&format!("{prefix}.depthwise.weight"))?,
                Depthwise(geometry),
            )?;
            (steps, freqs) = (geometry.out_frames(steps), shapes[at + 2].freqs);
            let mixed = mixed.reshape((batch * steps * freqs, channels))?;
            let out = mixed.matmul(self.var(&format!("{prefix}.pointwise.weight"))?)?;
            let out = self.norm_relu(&out, &prefix)?;
            x = if self.net.is_residual(at) {
                (out + x)?
            } else {
                out
            };
        }
        x.reshape((batch, steps, self.net.embedding()))
    }

    /// The mean over the newest `pool` steps that [`super::column::Column`] sees after the last
    /// frame: `(batch, steps, embedding)` to `(batch, embedding)`.
    ///
    /// # Errors
    /// When there is no step.
    pub fn pooled(&self, embeddings: &Tensor) -> Result<Tensor> {
        let steps = embeddings.dim(1)?;
        let taken = steps.min(self.net.pool);
        embeddings.narrow(1, steps - taken, taken)?.mean(1)
    }

    /// The head: `(batch, embedding)` to logits `(batch, outputs)`.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn head(&self, pooled: &Tensor) -> Result<Tensor> {
        pooled
            .matmul(self.var("head.weight")?)?
            .broadcast_add(self.var("head.bias")?)
    }

    /// The present values of all tensors, running statistics included.
    ///
    /// # Errors
    /// When candle cannot give the values.
    pub fn tensors(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        let mut tensors = BTreeMap::new();
        for (key, var) in &self.vars {
            tensors.insert(key.clone(), var.flatten_all()?.to_vec1::<f32>()?);
        }
        for (key, stats) in &self.running {
            let stats = stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
            tensors.insert(format!("{key}.running_mean"), stats.mean);
            tensors.insert(format!("{key}.running_var"), stats.var);
        }
        Ok(tensors)
    }
}

/// What the stem's kernel sees, `(batch * out_frames * out_freqs, kernel values)`.
fn stem_patches(
    geometry: &Geometry,
    frames: &[f32],
    batch: usize,
    time: usize,
    freqs: usize,
) -> Result<Tensor> {
    let (out_frames, size) = (
        geometry.out_frames(time),
        geometry.kernel.0 * geometry.kernel.1,
    );
    let mut patches = vec![0.0f32; batch * out_frames * freqs * size];
    let per_example = (out_frames * freqs * size).max(1);
    for (example, patches) in patches.chunks_exact_mut(per_example).enumerate() {
        let frames = &frames[example * time * N_MELS..][..time * N_MELS];
        for (out, patches) in patches.chunks_exact_mut(freqs * size).enumerate() {
            for tap in 0..geometry.kernel.0 {
                if let Some(from) = geometry.input_frame(out, tap) {
                    gather(geometry, &frames[from * N_MELS..][..N_MELS], tap, patches);
                }
            }
        }
    }
    Tensor::from_vec(patches, (batch * out_frames * freqs, size), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{column::Column, spec::sample, weights::random_checkpoint};

    /// A checkpoint whose running statistics are those of `frames`, so that both forms normalise alike.
    fn settled(net: NetSpec, frames: &[f32], batch: usize) -> (BatchNet, Checkpoint) {
        let mut checkpoint = random_checkpoint(net, 11);
        let net = BatchNet::new(&checkpoint).unwrap();
        for _ in 0..400 {
            net.embeddings(frames, batch).unwrap();
        }
        checkpoint.tensors = net.tensors().unwrap();
        (net, checkpoint)
    }

    #[test]
    fn the_per_frame_form_equals_the_batch_form() {
        let (batch, time) = (3, 57);
        let mut rng = fastrand::Rng::with_seed(12);
        let frames: Vec<f32> = (0..batch * time * N_MELS)
            .map(|_| rng.f32() * 3.0 - 1.5)
            .collect();
        let (net, checkpoint) = settled(sample(), &frames, batch);
        let embeddings = net.embeddings(&frames, batch).unwrap();
        let logits = net
            .head(&net.pooled(&embeddings).unwrap())
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        for (example, expected) in frames.chunks_exact(time * N_MELS).zip(logits) {
            let mut column = Column::new(&checkpoint);
            let steps = example
                .chunks_exact(N_MELS)
                .filter(|frame| column.step(frame))
                .count();
            assert_eq!(steps, embeddings.dim(1).unwrap());
            for (got, expected) in column.logits().iter().zip(expected) {
                assert!((got - expected).abs() < 1e-4, "{got} {expected}");
            }
        }
    }

    #[test]
    fn every_variable_gets_a_finite_gradient_that_is_not_zero() {
        let mut rng = fastrand::Rng::with_seed(13);
        let frames: Vec<f32> = (0..4 * 40 * N_MELS)
            .map(|_| rng.f32() * 2.0 - 1.0)
            .collect();
        let net = BatchNet::new(&random_checkpoint(sample(), 14)).unwrap();
        let logits = net
            .head(&net.pooled(&net.embeddings(&frames, 4).unwrap()).unwrap())
            .unwrap();
        let grads = logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        for (key, var) in net.vars() {
            let grad = grads
                .get(var)
                .unwrap_or_else(|| panic!("{key} has no gradient"));
            let norm = grad
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!(norm.is_finite() && norm > 0.0, "{key}: {norm}");
        }
    }
}
