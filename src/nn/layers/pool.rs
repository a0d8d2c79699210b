//! What is left of a sequence when its time is taken away.

use candle_core::{Error, Tensor};

use super::apply;

/// The mean over time of `(batch, time, channels)`, `(batch, channels)`.
///
/// # Errors
/// When the shape is another or no time is left.
pub fn mean(x: &Tensor) -> candle_core::Result<Tensor> {
    apply(x, "mean", |x, dims| {
        let (batch, time, channels) = sequence(dims, 1)?;
        let out = x
            .chunks_exact(time * channels)
            .flat_map(|x| moments(x, time, channels).0)
            .map(|mean| mean as f32)
            .collect();
        Ok((out, (batch, channels).into()))
    })
}

/// The mean and the standard deviation over time of `(batch, time, channels)`, side by side as `(batch,
/// 2 * channels)`; the deviation is that of a sample, divided by `time - 1`.
///
/// # Errors
/// When the shape is another or fewer than two steps are left.
pub fn mean_std(x: &Tensor) -> candle_core::Result<Tensor> {
    apply(x, "mean_std", |x, dims| {
        let (batch, time, channels) = sequence(dims, 2)?;
        let mut out = Vec::with_capacity(batch * 2 * channels);
        for x in x.chunks_exact(time * channels) {
            let (mean, square) = moments(x, time, channels);
            out.extend(mean.iter().map(|&mean| mean as f32));
            out.extend(square.iter().map(|s| (s / (time - 1) as f64).sqrt() as f32));
        }
        Ok((out, (batch, 2 * channels).into()))
    })
}

/// Batch, time and channels, of at least `least` steps.
fn sequence(dims: &[usize], least: usize) -> candle_core::Result<(usize, usize, usize)> {
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

    use super::super::testing::draw;
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
}
