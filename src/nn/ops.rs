//! Candle operations with gradients of their own: causal depthwise convolution and batch
//! normalisation with a rectifier, both channels last and parallel over the batch.
//!
//! Stock candle runs a grouped convolution as a loop over groups and normalisation as eight passes
//! over memory; these are one pass each, over [`crate::kernels`].

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernels::{
    depthwise::{Geometry, accumulate, accumulate_grad_w, accumulate_grad_x},
    norm,
};

/// The values of a contiguous f32 storage.
pub(super) fn values<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    op: &'static str,
) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(Error::RequiresContiguous { op })?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Runs `f` over the values of a tensor without copying them.
pub(super) fn with_values<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => f(values(storage, layout, "with_values")?),
        _ => Err(Error::Msg(
            "the embedded networks are trained on the CPU".to_owned(),
        )),
    }
}

/// Causal depthwise convolution: `x (batch, time, freq, channels)`, `w (kernel_time, kernel_freq,
/// channels)` to `(batch, out_time, out_freq, channels)`.
pub struct Depthwise(pub Geometry);

impl Depthwise {
    fn frames(&self, dims: &[usize]) -> Result<Frames> {
        let &[_, time, freqs, channels] = dims else {
            return Err(Error::Msg(format!(
                "depthwise: expected (batch, time, freq, channels), got {dims:?}"
            )));
        };
        Ok(Frames {
            geometry: self.0,
            channels,
            x: freqs * channels,
            out: self.0.out_freqs(freqs) * channels,
            time,
            out_time: self.0.out_frames(time),
        })
    }
}

/// Frame lengths of one depthwise convolution.
struct Frames {
    geometry: Geometry,
    channels: usize,
    x: usize,
    out: usize,
    time: usize,
    out_time: usize,
}

impl Frames {
    /// Calls `f(tap, input frame, output frame)` for every pair that meets, as value ranges.
    fn for_each_tap(
        &self,
        mut f: impl FnMut(usize, std::ops::Range<usize>, std::ops::Range<usize>),
    ) {
        for out in 0..self.out_time {
            for tap in 0..self.geometry.kernel.0 {
                if let Some(from) = self.geometry.input_frame(out, tap) {
                    f(
                        tap,
                        from * self.x..(from + 1) * self.x,
                        out * self.out..(out + 1) * self.out,
                    );
                }
            }
        }
    }

    fn tap_weights(&self, tap: usize) -> std::ops::Range<usize> {
        let len = self.geometry.kernel.1 * self.channels;
        tap * len..(tap + 1) * len
    }
}

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (xs, ws) = (
            values(x, x_layout, "depthwise")?,
            values(w, w_layout, "depthwise")?,
        );
        let dims = x_layout.dims();
        let frames = self.frames(dims)?;
        let mut out = vec![0.0f32; dims[0] * frames.out_time * frames.out];
        out.par_chunks_mut(frames.out_time * frames.out)
            .zip(xs.par_chunks(frames.time * frames.x))
            .for_each(|(out, x)| {
                frames.for_each_tap(|tap, from, to| {
                    let w = &ws[frames.tap_weights(tap)];
                    accumulate(&frames.geometry, frames.channels, &x[from], w, &mut out[to]);
                });
            });
        let shape = (
            dims[0],
            frames.out_time,
            frames.out / frames.channels,
            frames.channels,
        );
        Ok((CpuStorage::F32(out), shape.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let frames = self.frames(x.dims())?;
        let (grad_x, grad_w) = with_values(x, |xs| {
            with_values(w, |ws| {
                with_values(grad, |grads| {
                    let mut grad_x = vec![0.0f32; xs.len()];
                    let grad_w = grad_x
                        .par_chunks_mut(frames.time * frames.x)
                        .zip(xs.par_chunks(frames.time * frames.x))
                        .zip(grads.par_chunks(frames.out_time * frames.out))
                        .fold(
                            || vec![0.0f32; ws.len()],
                            |mut grad_w, ((grad_x, x), grad)| {
                                let (g, c) = (&frames.geometry, frames.channels);
                                frames.for_each_tap(|tap, from, to| {
                                    let weights = frames.tap_weights(tap);
                                    let grad = &grad[to];
                                    accumulate_grad_x(
                                        g,
                                        c,
                                        grad,
                                        &ws[weights.clone()],
                                        &mut grad_x[from.clone()],
                                    );
                                    accumulate_grad_w(g, c, &x[from], grad, &mut grad_w[weights]);
                                });
                                grad_w
                            },
                        )
                        .reduce(|| vec![0.0f32; ws.len()], sum);
                    Ok((grad_x, grad_w))
                })
            })
        })?;
        let grad_x = Tensor::from_vec(grad_x, x.shape(), &Device::Cpu)?;
        Ok((
            Some(grad_x),
            Some(Tensor::from_vec(grad_w, w.shape(), &Device::Cpu)?),
        ))
    }
}

fn sum(mut a: Vec<f32>, b: Vec<f32>) -> Vec<f32> {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    a
}

/// Mean and variance of every channel as batches pass by, for use without a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningStats {
    /// Mean a channel.
    pub mean: Vec<f32>,
    /// Variance a channel.
    pub var: Vec<f32>,
}

/// Added to the variance (PyTorch's default).
pub const NORM_EPS: f32 = 1e-5;
/// Share of a new batch in the running statistics.
const MOMENTUM: f32 = 0.05;

/// Batch normalisation of `x (.., channels)` with `gamma (channels)` and `beta (channels)`, then a
/// rectifier. Uses the statistics of the batch and moves the running ones towards them.
pub struct NormRelu {
    running: Arc<Mutex<RunningStats>>,
    /// Mean and inverse standard deviation of this batch, from forward to backward.
    batch: Mutex<(Vec<f32>, Vec<f32>)>,
}

impl NormRelu {
    /// A normalisation that moves `running`.
    pub fn new(running: Arc<Mutex<RunningStats>>) -> Self {
        NormRelu {
            running,
            batch: Mutex::default(),
        }
    }
}

/// Rows that one task handles.
const ROWS: usize = 2048;

impl CustomOp3 for NormRelu {
    fn name(&self) -> &'static str {
        "norm_relu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gamma: &CpuStorage,
        gamma_layout: &Layout,
        beta: &CpuStorage,
        beta_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let xs = values(x, x_layout, "norm_relu")?;
        let (gamma, beta) = (
            values(gamma, gamma_layout, "norm_relu")?,
            values(beta, beta_layout, "norm_relu")?,
        );
        let channels = gamma.len();
        let zeros = || (vec![0.0f32; channels], vec![0.0f32; channels]);
        // Each task sums few rows in f32; the totals go on in f64, where a mean of a large batch is safe.
        let (total, square) = xs
            .par_chunks(ROWS * channels)
            .map(|x| {
                let (mut total, mut square) = zeros();
                norm::moments(x, &mut total, &mut square);
                (widen(&total), widen(&square))
            })
            .reduce(
                || (vec![0.0; channels], vec![0.0; channels]),
                |a, b| (sum64(a.0, b.0), sum64(a.1, b.1)),
            );
        let rows = (xs.len() / channels).max(1) as f64;
        let mean: Vec<f32> = total.iter().map(|t| (t / rows) as f32).collect();
        let var: Vec<f32> = square
            .iter()
            .zip(&total)
            .map(|(s, t)| (s / rows - (t / rows).powi(2)).max(0.0) as f32)
            .collect();
        let inv_std: Vec<f32> = var.iter().map(|v| (v + NORM_EPS).sqrt().recip()).collect();
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let RunningStats {
                mean: running_mean,
                var: running_var,
            } = &mut *running;
            for (running, batch) in running_mean
                .iter_mut()
                .zip(&mean)
                .chain(running_var.iter_mut().zip(&var))
            {
                *running += MOMENTUM * (batch - *running);
            }
        }
        let scale: Vec<f32> = gamma.iter().zip(&inv_std).map(|(g, i)| g * i).collect();
        let shift: Vec<f32> = beta
            .iter()
            .zip(&mean)
            .zip(&scale)
            .map(|((b, m), s)| b - m * s)
            .collect();
        let mut out = vec![0.0f32; xs.len()];
        out.par_chunks_mut(ROWS * channels)
            .zip(xs.par_chunks(ROWS * channels))
            .for_each(|(out, x)| norm::scale_shift(x, &scale, &shift, true, out));
        *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = (mean, inv_std);
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _beta: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (mean, inv_std) = self
            .batch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let gammas = gamma.to_vec1::<f32>()?;
        let channels = gammas.len();
        let shift: Vec<f32> = mean.iter().zip(&inv_std).map(|(m, i)| -m * i).collect();
        let (grad_x, grad_gamma, grad_beta) = with_values(x, |xs| {
            with_values(out, |outs| {
                with_values(grad, |grads| {
                    let size = ROWS * channels;
                    let (sum_grad, sum_grad_x) = xs
                        .par_chunks(size)
                        .zip(outs.par_chunks(size))
                        .zip(grads.par_chunks(size))
                        .map(|((x, out), grad)| {
                            let (mut sg, mut sgx) =
                                (vec![0.0f32; channels], vec![0.0f32; channels]);
                            let pass = norm::Pass {
                                x,
                                out,
                                grad,
                                relu: true,
                            };
                            norm::grad_moments(&pass, &inv_std, &shift, &mut sg, &mut sgx);
                            (sg, sgx)
                        })
                        .reduce(
                            || (vec![0.0; channels], vec![0.0; channels]),
                            |a, b| (sum(a.0, b.0), sum(a.1, b.1)),
                        );
                    let rows = (xs.len() / channels).max(1) as f32;
                    // grad_x = gamma * inv_std * (g - mean(g) - normal * mean(g * normal)), regrouped by x.
                    let a: Vec<f32> = gammas.iter().zip(&inv_std).map(|(g, i)| g * i).collect();
                    let b: Vec<f32> = (0..channels)
                        .map(|c| -a[c] * inv_std[c] * sum_grad_x[c] / rows)
                        .collect();
                    let k: Vec<f32> = (0..channels)
                        .map(|c| -a[c] * (sum_grad[c] + shift[c] * sum_grad_x[c]) / rows)
                        .collect();
                    let mut grad_x = vec![0.0f32; xs.len()];
                    grad_x
                        .par_chunks_mut(size)
                        .zip(xs.par_chunks(size))
                        .zip(outs.par_chunks(size))
                        .zip(grads.par_chunks(size))
                        .for_each(|(((grad_x, x), out), grad)| {
                            let pass = norm::Pass {
                                x,
                                out,
                                grad,
                                relu: true,
                            };
                            norm::grad_input(&pass, &a, &b, &k, grad_x);
                        });
                    Ok((grad_x, sum_grad_x, sum_grad))
                })
            })
        })?;
        Ok((
            Some(Tensor::from_vec(grad_x, x.shape(), &Device::Cpu)?),
            Some(Tensor::from_vec(grad_gamma, channels, &Device::Cpu)?),
            Some(Tensor::from_vec(grad_beta, channels, &Device::Cpu)?),
        ))
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn sum64(mut a: Vec<f64>, b: Vec<f64>) -> Vec<f64> {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    a
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    fn tensor(rng: &mut fastrand::Rng, shape: &[usize]) -> Tensor {
        let data: Vec<f32> = (0..shape.iter().product())
            .map(|_| rng.f32() - 0.5)
            .collect();
        Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    /// Compares gradients of `sum(f(vars) * weight)` with central differences.
    fn check_gradients(vars: &[Var], f: impl Fn() -> Tensor) {
        let weight = tensor(&mut fastrand::Rng::with_seed(9), f().dims());
        let loss = || (f() * &weight).unwrap().sum_all().unwrap();
        let grads = loss().backward().unwrap();
        for var in vars {
            let grad = grads
                .get(var)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            let start = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for i in (0..start.len()).step_by(1 + start.len() / 17) {
                let at = |delta: f32| {
                    let mut moved = start.clone();
                    moved[i] += delta;
                    var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap())
                        .unwrap();
                    f64::from(loss().to_scalar::<f32>().unwrap())
                };
                let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
                at(0.0);
                let error = (numeric - f64::from(grad[i])).abs();
                assert!(
                    error < 2e-2 * (1.0 + numeric.abs()),
                    "{i}: {numeric} {}",
                    grad[i]
                );
            }
        }
    }

    #[test]
    fn depthwise_gradients_match_differences() {
        let mut rng = fastrand::Rng::with_seed(4);
        for geometry in [
            Geometry {
                kernel: (3, 3),
                stride: (1, 1),
                dilation: 1,
                pad_freq: 1,
            },
            Geometry {
                kernel: (3, 3),
                stride: (2, 2),
                dilation: 1,
                pad_freq: 1,
            },
            Geometry {
                kernel: (5, 1),
                stride: (1, 1),
                dilation: 2,
                pad_freq: 0,
            },
        ] {
            let x = Var::from_tensor(&tensor(&mut rng, &[2, 9, 6, 8])).unwrap();
            let w = Var::from_tensor(&tensor(
                &mut rng,
                &[geometry.kernel.0, geometry.kernel.1, 8],
            ))
            .unwrap();
            check_gradients(&[x.clone(), w.clone()], || {
                x.apply_op2(&w, Depthwise(geometry)).unwrap()
            });
        }
    }

    #[test]
    fn norm_relu_matches_its_definition_and_differences() {
        let mut rng = fastrand::Rng::with_seed(5);
        let x = Var::from_tensor(&tensor(&mut rng, &[2, 5, 3, 4])).unwrap();
        let gamma = Var::from_tensor(&(tensor(&mut rng, &[4]) + 1.0).unwrap()).unwrap();
        // Far from the rectifier's corner, where differences mean nothing.
        let beta = Var::from_tensor(&(tensor(&mut rng, &[4]) + 6.0).unwrap()).unwrap();
        let running = Arc::new(Mutex::new(RunningStats {
            mean: vec![0.0; 4],
            var: vec![1.0; 4],
        }));
        let f = || {
            x.apply_op3(&gamma, &beta, NormRelu::new(running.clone()))
                .unwrap()
        };
        let flat = x.reshape((30, 4)).unwrap();
        let mean = flat.mean_keepdim(0).unwrap();
        let centred = flat.broadcast_sub(&mean).unwrap();
        let var = centred.sqr().unwrap().mean_keepdim(0).unwrap();
        let normal = centred
            .broadcast_div(&(var + f64::from(NORM_EPS)).unwrap().sqrt().unwrap())
            .unwrap();
        let expected = normal
            .broadcast_mul(&gamma)
            .unwrap()
            .broadcast_add(&beta)
            .unwrap()
            .relu()
            .unwrap();
        let diff = (expected.reshape(x.dims()).unwrap() - f())
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        assert!(diff.to_scalar::<f32>().unwrap() < 1e-4);
        check_gradients(&[x.clone(), gamma.clone(), beta.clone()], f);
        beta.set(
            &Tensor::new(-60f32, &Device::Cpu)
                .unwrap()
                .broadcast_as(4)
                .unwrap()
                .contiguous()
                .unwrap(),
        )
        .unwrap();
        let grads = f().sum_all().unwrap().backward().unwrap();
        assert_eq!(
            grads.get(&beta).unwrap().to_vec1::<f32>().unwrap(),
            [0.0; 4]
        );
    }
}
