//! Convolutions with the batch norm behind them folded into their weights, as EfficientAT has them
//! everywhere.

use crate::kernels::depthwise2d::Geometry;
use crate::nn::layers::{BatchNorm, DepthwiseConv2d, Pointwise};
use crate::nn::params::{Params, Weight};
use crate::nn::weights::WeightsError;

/// What the batch norms of the convolutions add to the variance (`MN.__init__`).
pub(super) const NORM_EPS: f64 = 1e-3;

pub(super) type Loaded<T> = Result<T, WeightsError>;

/// The lengths of a tensor that must be there with `N` dimensions, none of them zero.
pub(super) fn shape<const N: usize>(params: &Params, key: &str) -> Loaded<[usize; N]> {
    let got = params.shape(key);
    got.and_then(|shape| shape.try_into().ok())
        .filter(|shape: &[usize; N]| !shape.contains(&0))
        .ok_or_else(|| {
            let got = got.map_or_else(|| "no such tensor".to_owned(), |got| format!("{got:?}"));
            params.wrong(key, &format!("expected {N} dimensions, got {got}"))
        })
}

/// A batch norm as a factor and an offset a channel.
pub(super) struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Norm {
    /// Reads the four tensors of a batch norm of `channels`.
    pub(super) fn load(params: &Params, channels: usize, eps: f64) -> Loaded<Self> {
        let norm = BatchNorm::load(params, channels, eps)?;
        let Some((scale, shift)) = norm.scale_shift() else {
            let what = "this part of the network cannot be trained yet; leave the key out of those that are";
            return Err(params.wrong("weight", what));
        };
        Ok(Norm {
            scale: scale.to_vec(),
            shift: shift.to_vec(),
        })
    }

    /// `weight (.., channels, values of a channel)` times the factor of each channel.
    pub(super) fn fold(&self, weight: &Weight) -> Vec<f32> {
        let channels = self.scale.len();
        let run = match weight.dims() {
            // Kernels of a dynamic convolution.
            [1, 1, _, values] => values / channels,
            [_, rest @ ..] => rest.iter().product(),
            [] => 1,
        };
        weight
            .values()
            .chunks_exact(run.max(1))
            .zip(self.scale.iter().cycle())
            .flat_map(|(values, scale)| values.iter().map(move |value| value * scale))
            .collect()
    }

    /// The offsets as a bias.
    pub(super) fn bias(&self) -> Weight {
        Weight::from_values(self.shift.clone(), &[self.shift.len()])
    }
}

/// A convolution of one tap, `conv.weight (outputs, inputs, 1, 1)`.
pub(super) fn pointwise(conv: &Params, norm: &Params, inputs: usize) -> Loaded<Pointwise> {
    pointwise_with(conv, norm, inputs, NORM_EPS)
}

/// The same with another constant in the norm.
pub(super) fn pointwise_with(
    conv: &Params,
    norm: &Params,
    inputs: usize,
    eps: f64,
) -> Loaded<Pointwise> {
    let [outputs, ..] = shape::<4>(conv, "weight")?;
    let weight = conv.get("weight", &[outputs, inputs, 1, 1])?;
    let norm = Norm::load(norm, outputs, eps)?;
    let weight = Weight::from_values(norm.fold(&weight), &[outputs, inputs]);
    Ok(Pointwise::new(weight, norm.bias()))
}

/// A depthwise convolution that keeps the size but for its stride, `conv.weight (channels, 1, taps,
/// taps)`.
pub(super) fn depthwise(
    conv: &Params,
    norm: &Params,
    channels: usize,
    stride: usize,
) -> Loaded<DepthwiseConv2d> {
    let [_, _, kernel, _] = shape::<4>(conv, "weight")?;
    let weight = conv.get("weight", &[channels, 1, kernel, kernel])?;
    let norm = Norm::load(norm, channels, NORM_EPS)?;
    let values = norm.fold(&weight);
    let weight = Weight::from_values(values, weight.dims());
    let geometry = Geometry {
        channels,
        kernel,
        stride,
        padding: (kernel - 1) / 2,
    };
    Ok(DepthwiseConv2d::new(geometry, &weight, norm.bias()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_channel_gets_its_factor() {
        let norm = Norm {
            scale: vec![2.0, 10.0],
            shift: vec![0.0; 2],
        };
        let values: Vec<f32> = (1u8..=8).map(f32::from).collect();
        let expected = [2.0, 4.0, 6.0, 8.0, 50.0, 60.0, 70.0, 80.0];
        let weight = Weight::from_values(values.clone(), &[2, 2, 1, 2]);
        assert_eq!(norm.fold(&weight), expected);
        // Two kernels of two channels of two values each.
        let weight = Weight::from_values(values, &[1, 1, 2, 4]);
        let expected = [2.0, 4.0, 30.0, 40.0, 10.0, 12.0, 70.0, 80.0];
        assert_eq!(norm.fold(&weight), expected);
    }
}
