//! What is left of a sequence when its time is taken away.

use candle_core::{Error, Result, Tensor};

use super::function::{Backward, Function, Output, View, call1};

/// The mean over time of `(batch, time, channels)`, `(batch, channels)`.
///
/// # Errors
/// When the shape is another or no time is left.
pub fn mean(x: &Tensor) -> Result<Tensor> {
    call1(Pool { deviation: false }, x)
}

/// The mean and the standard deviation over time of `(batch, time, channels)`, side by side as `(batch,
/// 2 * channels)`; the deviation is that of a sample, divided by `time - 1`.
///
/// # Errors
/// When the shape is another or fewer than two steps are left.
pub fn mean_std(x: &Tensor) -> Result<Tensor> {
    call1(Pool { deviation: true }, x)
}

struct Pool {
    deviation: bool,
}

impl Pool {
    fn shape(&self, dims: &[usize]) -> Result<(usize, usize, usize)> {
        sequence(dims, if self.deviation { 2 } else { 1 })
    }
}

impl Function<1> for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn forward(&self, [x]: [View; 1]) -> Output {
        let (batch, time, channels) = self.shape(x.dims)?;
        let width = if self.deviation { 2 } else { 1 } * channels;
        let mut out = Vec::with_capacity(batch * width);
        for x in x.values.chunks_exact(time * channels) {
            let (mean, square) = moments(x, time, channels);
            out.extend(mean.iter().map(|&mean| mean as f32));
            if self.deviation {
                out.extend(square.iter().map(|s| (s / (time - 1) as f64).sqrt() as f32));
            }
        }
        Ok((out, (batch, width).into()))
    }

    fn backward(&self, at: Backward<1>) -> Result<[Option<Vec<f32>>; 1]> {
        let [x] = at.x;
        let (batch, time, channels) = self.shape(x.dims)?;
        let width = at.grad.len() / batch.max(1);
        let mut grad = vec![0.0; x.values.len()];
        for (((grad, x), up), out) in grad
            .chunks_exact_mut(time * channels)
            .zip(x.values.chunks_exact(time * channels))
            .zip(at.grad.chunks_exact(width))
            .zip(at.out.values.chunks_exact(width))
        {
            for (grad, x) in grad
                .chunks_exact_mut(channels)
                .zip(x.chunks_exact(channels))
            {
                for c in 0..channels {
                    grad[c] = up[c] / time as f32;
                    // What does not deviate has no slope; the reference takes zero there too.
                    if self.deviation && out[channels + c] > 0.0 {
                        let slope = (x[c] - out[c]) / ((time - 1) as f32 * out[channels + c]);
                        grad[c] += up[channels + c] * slope;
                    }
                }
            }
        }
        Ok([Some(grad)])
    }
}

/// Batch, time and channels, of at least `least` steps.
fn sequence(dims: &[usize], least: usize) -> Result<(usize, usize, usize)> {
    match *dims {
        [batch, time, channels] if time >= least && channels > 0 => Ok((batch, time, channels)),
        _ => Err(Error::Msg(format!(
            "pool: expected (batch, at least {least}, channels), got {dims:?}"
        ))),
    }
}

/// The mean of every channel, and its sum of squared distances from that.
fn moments(x: &[f32], time: usize, channels: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut mean, mut square) = (vec![0.0; channels], vec![0.0; channels]);
    for row in x.chunks_exact(channels) {
        for (mean, &x) in mean.iter_mut().zip(row) {
            *mean += f64::from(x);
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= time as f64);
    for row in x.chunks_exact(channels) {
        for ((square, mean), &x) in square.iter_mut().zip(&mean).zip(row) {
            *square += (f64::from(x) - mean).powi(2);
        }
    }
    (mean, square)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::testing::{check_gradients, draw};
    use super::*;

    #[test]
    fn pools_equal_their_definitions() {
        let x = Tensor::from_slice(
            &[1.0f32, 10.0, 2.0, 10.0, 6.0, 10.0],
            (1, 3, 2),
            &Device::Cpu,
        )
        .unwrap();
        let values = |x: Tensor| x.to_vec2::<f32>().unwrap().concat();
        assert_eq!(values(mean(&x).unwrap()), [3.0, 10.0]);
        // ((-2)^2 + (-1)^2 + 3^2) / 2 = 7.
        assert_eq!(
            values(mean_std(&x).unwrap()),
            [3.0, 10.0, 7.0f32.sqrt(), 0.0]
        );
        assert!(mean_std(&draw(1, &[2, 1, 3])).is_err());
        assert!(mean(&draw(1, &[2, 3])).is_err());
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let x = draw(1, &[2, 5, 3]);
        check_gradients(std::slice::from_ref(&x), |x| mean(&x[0]));
        check_gradients(&[x], |x| mean_std(&x[0]));
        let still = candle_core::Var::ones((1, 3, 2), candle_core::DType::F32, &Device::Cpu);
        let still = still.unwrap();
        let loss = mean_std(&still).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        let grad = grads.get(&still).unwrap().flatten_all().unwrap();
        assert_eq!(grad.to_vec1::<f32>().unwrap(), [1.0 / 3.0; 6]);
    }
}
