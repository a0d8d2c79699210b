//! What is done to single rows of activations: activations, softmax, normalisation.
//!
//! `exp` and `erf` are short polynomials that the compiler turns into vectors; their largest errors
//! (2 units in the last place, and 1.5e-7) are far below what a network's output shows.

use super::{kernel, mul_add};

/// The non-linear functions of the published networks, by their name in `config.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activation {
    /// Leaves the value alone.
    #[default]
    Identity,
    /// `max(0, x)`.
    Relu,
    /// `min(max(0, x), 6)`.
    Relu6,
    /// `x Phi(x)` with the exact normal distribution (Hendrycks and Gimpel, 2016); `gelu`.
    Gelu,
    /// The same by the approximation with tanh; `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// `x sigmoid(1.702 x)`; `quick_gelu`.
    QuickGelu,
    /// `x sigmoid(x)`; `silu`, `swish`.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
    /// `x relu6(x + 3) / 6` (Howard et al., *MobileNetV3*, 2019); `hardswish`.
    HardSwish,
    /// `relu6(x + 3) / 6`; `hardsigmoid`.
    HardSigmoid,
}

impl Activation {
    /// The activation of a name as transformers 5 and PyTorch spell it.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "linear" | "identity" => Activation::Identity,
            "relu" => Activation::Relu,
            "relu6" => Activation::Relu6,
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "quick_gelu" => Activation::QuickGelu,
            "silu" | "swish" => Activation::Silu,
            "sigmoid" => Activation::Sigmoid,
            "tanh" => Activation::Tanh,
            "hardswish" => Activation::HardSwish,
            "hardsigmoid" => Activation::HardSigmoid,
            _ => return None,
        })
    }

    /// Applies it to every value, on this thread.
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Activation::Identity => {}
            Activation::Relu => relu(values),
            Activation::Relu6 => relu6(values),
            Activation::Gelu => gelu(values),
            Activation::GeluTanh => gelu_tanh(values),
            Activation::QuickGelu => quick_gelu(values),
            Activation::Silu => silu(values),
            Activation::Sigmoid => sigmoid(values),
            Activation::Tanh => tanh(values),
            Activation::HardSwish => hard_swish(values),
            Activation::HardSigmoid => hard_sigmoid(values),
        }
    }
}

/// Declares a kernel that maps every value.
macro_rules! map_kernel {
    ($name:ident, $body:ident, $x:ident => $value:expr) => {
        kernel! {
            /// Maps every value in place.
            fn $name(values: &mut [f32]) = $body
        }
        #[inline(always)]
        fn $body<const FMA: bool>(values: &mut [f32]) {
            for value in values {
                let $x = *value;
                *value = $value;
            }
        }
    };
}

map_kernel!(relu, relu_body, x => x.max(0.0));
map_kernel!(relu6, relu6_body, x => x.clamp(0.0, 6.0));
map_kernel!(gelu, gelu_body, x => 0.5 * x * (1.0 + erf_of::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2)));
map_kernel!(gelu_tanh, gelu_tanh_body, x => {
    // sqrt(2 / pi), and the cubic term of the approximation.
    let inner = 0.797_884_6 * mul_add::<FMA>(0.044_715 * x, x * x, x);
    0.5 * x * (1.0 + tanh_of::<FMA>(inner))
});
map_kernel!(quick_gelu, quick_gelu_body, x => x * sigmoid_of::<FMA>(1.702 * x));
map_kernel!(silu, silu_body, x => x * sigmoid_of::<FMA>(x));
map_kernel!(sigmoid, sigmoid_body, x => sigmoid_of::<FMA>(x));
map_kernel!(tanh, tanh_body, x => tanh_of::<FMA>(x));
map_kernel!(hard_swish, hard_swish_body, x => x * (x + 3.0).clamp(0.0, 6.0) / 6.0);
map_kernel!(hard_sigmoid, hard_sigmoid_body, x => (x + 3.0).clamp(0.0, 6.0) / 6.0);

/// `exp(x)`: the fraction of the power of two by a polynomial of degree 6 (its Taylor terms over
/// half an octave each way), the whole part by the exponent's bits.
#[inline(always)]
pub(super) fn exp_of<const FMA: bool>(x: f32) -> f32 {
    /// Adding it leaves the nearest whole number in the low bits of the sum: 1.5 times 2^23.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    // ln 2 in two parts, the first with few enough bits that the product is exact.
    let r = mul_add::<FMA>(whole, -0.693_145_75, x);
    let r = mul_add::<FMA>(whole, -1.428_606_8e-6, r);
    let mut p = 1.0 / 720.0;
    for factor in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = mul_add::<FMA>(p, r, factor);
    }
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// `erf(x)` to 1.5e-7 (Abramowitz and Stegun, *Handbook of Mathematical Functions*, 7.1.26).
#[inline(always)]
pub(super) fn erf_of<const FMA: bool>(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / mul_add::<FMA>(0.327_591_1, size, 1.0);
    let mut p = 1.061_405_4;
    for factor in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        p = mul_add::<FMA>(p, t, factor);
    }
    let value = 1.0 - p * t * exp_of::<FMA>(-size * size);
    value.copysign(x)
}

#[inline(always)]
pub(super) fn sigmoid_of<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp_of::<FMA>(-x))
}

#[inline(always)]
pub(super) fn tanh_of<const FMA: bool>(x: f32) -> f32 {
    let e = exp_of::<FMA>(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// Values that are summed side by side.
const LANES: usize = 16;

/// Folds a row into `LANES` running values, then those into one.
#[inline(always)]
fn fold(
    row: &[f32],
    start: f32,
    f: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = f(*lane, value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, value);
    }
    lanes.into_iter().fold(start, join)
}

kernel! {
    /// `values += other`.
    ///
    /// # Panics
    /// When `other` is shorter.
    pub fn add(values: &mut [f32], other: &[f32]) = add_body
}

#[inline(always)]
fn add_body<const FMA: bool>(values: &mut [f32], other: &[f32]) {
    let other = &other[..values.len()];
    for (value, other) in values.iter_mut().zip(other) {
        *value += other;
    }
}

kernel! {
    /// `values += factor * other`.
    ///
    /// # Panics
    /// When `other` is shorter.
    pub fn add_scaled(values: &mut [f32], factor: f32, other: &[f32]) = add_scaled_body
}

#[inline(always)]
fn add_scaled_body<const FMA: bool>(values: &mut [f32], factor: f32, other: &[f32]) {
    let other = &other[..values.len()];
    for (value, other) in values.iter_mut().zip(other) {
        *value = mul_add::<FMA>(factor, *other, *value);
    }
}

kernel! {
    /// Softmax of every row of `values (rows, cols)` in place.
    pub fn softmax(values: &mut [f32], cols: usize) = softmax_body
}

#[inline(always)]
fn softmax_body<const FMA: bool>(values: &mut [f32], cols: usize) {
    for row in values.chunks_exact_mut(cols.max(1)) {
        let max = fold(row, f32::NEG_INFINITY, f32::max, f32::max);
        for value in row.iter_mut() {
            *value = exp_of::<FMA>(*value - max);
        }
        let scale = 1.0 / fold(row, 0.0, |a, b| a + b, |a, b| a + b);
        for value in row.iter_mut() {
            *value *= scale;
        }
    }
}

kernel! {
    /// Every row of `values (rows, weight.len())` to zero mean and unit variance, then times `weight`
    /// plus `bias` (Ba et al., *Layer Normalization*, 2016).
    pub fn layer_norm(values: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) = layer_norm_body
}

#[inline(always)]
fn layer_norm_body<const FMA: bool>(values: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let cols = weight.len().max(1);
    for row in values.chunks_exact_mut(cols) {
        let mean = fold(row, 0.0, |a, b| a + b, |a, b| a + b) / cols as f32;
        for value in row.iter_mut() {
            *value -= mean;
        }
        let square = fold(row, 0.0, |a, b| mul_add::<FMA>(b, b, a), |a, b| a + b);
        let scale = 1.0 / (square / cols as f32 + eps).sqrt();
        for ((value, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
            *value = mul_add::<FMA>(*value * scale, *weight, *bias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(len: usize, scale: f32) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(2);
        (0..len).map(|_| (rng.f32() - 0.5) * scale).collect()
    }

    /// The normal distribution's integral by Simpson's rule, in f64.
    fn erf(x: f64) -> f64 {
        let n = 2000;
        let h = x / f64::from(n);
        let f = |t: f64| (-t * t).exp();
        let sum: f64 = (0..n)
            .map(|i| {
                let t = f64::from(i) * h;
                f(t) + 4.0 * f(t + h / 2.0) + f(t + h)
            })
            .sum();
        2.0 / std::f64::consts::PI.sqrt() * sum * h / 6.0
    }

    #[test]
    fn every_activation_is_what_its_definition_says() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        type Definition = Box<dyn Fn(f64) -> f64>;
        let cases: [(&str, Definition); 10] = [
            ("relu", Box::new(|x| x.max(0.0))),
            ("relu6", Box::new(|x| x.clamp(0.0, 6.0))),
            ("gelu", Box::new(|x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt())))),
            (
                "gelu_new",
                Box::new(|x| {
                    0.5 * x
                        * (1.0
                            + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3)))
                                .tanh())
                }),
            ),
            ("quick_gelu", Box::new(move |x| x * sigmoid(1.702 * x))),
            ("silu", Box::new(move |x| x * sigmoid(x))),
            ("sigmoid", Box::new(sigmoid)),
            ("tanh", Box::new(f64::tanh)),
            (
                "hardswish",
                Box::new(|x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
            ),
            ("hardsigmoid", Box::new(|x| (x + 3.0).clamp(0.0, 6.0) / 6.0)),
        ];
        let inputs = draw(1003, 24.0);
        for (name, expected) in cases {
            let mut got = inputs.clone();
            Activation::named(name).unwrap().apply(&mut got);
            for (&x, got) in inputs.iter().zip(got) {
                let expected = expected(f64::from(x)) as f32;
                assert!(
                    (got - expected).abs() < 2e-6 * (1.0 + expected.abs()),
                    "{name}({x}): {got} {expected}"
                );
            }
        }
        assert_eq!(Activation::named("maxout"), None);
    }

    #[test]
    fn exp_is_exact_to_two_units_and_ends_well() {
        for x in (-8000..8000).map(|i| i as f32 * 0.01) {
            for got in [exp_of::<true>(x), exp_of::<false>(x)] {
                let expected = f64::from(x).exp();
                assert!(
                    (f64::from(got) / expected - 1.0).abs() < 3e-7,
                    "{x}: {got} {expected}"
                );
            }
        }
        assert!(exp_of::<true>(f32::NEG_INFINITY) < 1e-37);
        assert!(exp_of::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn softmax_and_layer_norm_equal_their_plain_twins() {
        for cols in [1, 5, 16, 50, 257] {
            let rows = draw(cols * 3, 30.0);
            let (mut fast, mut plain) = (rows.clone(), rows.clone());
            softmax(&mut fast, cols);
            softmax_body::<false>(&mut plain, cols);
            for (row, (fast, plain)) in rows
                .chunks(cols)
                .zip(fast.chunks(cols).zip(plain.chunks(cols)))
            {
                let max = row.iter().copied().fold(f32::MIN, f32::max);
                let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
                for ((x, fast), plain) in row.iter().zip(fast).zip(plain) {
                    let expected = (f64::from(x - max).exp() / sum) as f32;
                    assert!((fast - expected).abs() < 1e-6 && (plain - expected).abs() < 1e-6);
                }
            }
            let (weight, bias) = (draw(cols, 2.0), draw(cols, 1.0));
            let (mut fast, mut plain) = (rows.clone(), rows.clone());
            layer_norm(&mut fast, &weight, &bias, 1e-5);
            layer_norm_body::<false>(&mut plain, &weight, &bias, 1e-5);
            for (row, (fast, plain)) in rows
                .chunks(cols)
                .zip(fast.chunks(cols).zip(plain.chunks(cols)))
            {
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / cols as f64;
                let var = row
                    .iter()
                    .map(|&x| (f64::from(x) - mean).powi(2))
                    .sum::<f64>()
                    / cols as f64;
                for i in 0..cols {
                    let expected = (f64::from(row[i]) - mean) / (var + 1e-5).sqrt()
                        * f64::from(weight[i])
                        + f64::from(bias[i]);
                    assert!(
                        (f64::from(fast[i]) - expected).abs() < 1e-5
                            && (f64::from(plain[i]) - expected).abs() < 1e-5
                    );
                }
            }
        }
    }
}
