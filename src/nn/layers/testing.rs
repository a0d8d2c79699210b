//! What the tests of the layers share.

use candle_core::{Device, Tensor};

use crate::nn::params::Weight;

pub fn draw(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = fastrand::Rng::with_seed(seed);
    let data: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.f32() - 0.5)
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

pub fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32) {
    assert_eq!(a.dims(), b.dims());
    let diff = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    let diff = diff.max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(diff <= tolerance, "differs by {diff}");
}

/// The values of a tensor as those of a checkpoint.
pub fn weight(values: &Tensor) -> Weight {
    Weight::from_values(
        values.flatten_all().unwrap().to_vec1().unwrap(),
        values.dims(),
    )
}
