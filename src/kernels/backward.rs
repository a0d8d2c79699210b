//! Gradients of what is done to single rows of activations; see [`super::rows`].

use super::rows::{Activation, erf_of, exp_of, sigmoid_of, tanh_of};
use super::{kernel, mul_add};

/// Declares a kernel that multiplies gradients by the slope of a function at what went in.
macro_rules! slope_kernel {
    ($name:ident, $body:ident, $x:ident => $slope:expr) => {
        kernel! {
            /// Multiplies every gradient by the slope.
            fn $name(x: &[f32], grad: &mut [f32]) = $body
        }
        #[inline(always)]
        fn $body<const FMA: bool>(x: &[f32], grad: &mut [f32]) {
            let x = &x[..grad.len()];
            for (grad, x) in grad.iter_mut().zip(x) {
                let $x = *x;
                *grad *= $slope;
            }
        }
    };
}

/// `1 / sqrt(2 pi)`.
const NORMAL: f32 = 0.398_942_3;
/// `sqrt(2 / pi)`.
const TANH_SCALE: f32 = 0.797_884_6;
/// The cubic term of the approximation with tanh.
const CUBIC: f32 = 0.044_715;

slope_kernel!(relu, relu_body, x => f32::from(u8::from(x > 0.0)));
slope_kernel!(relu6, relu6_body, x => f32::from(u8::from(x > 0.0 && x < 6.0)));
// Phi(x) + x phi(x).
slope_kernel!(gelu, gelu_body, x => {
    let below = 0.5 * (1.0 + erf_of::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2));
    mul_add::<FMA>(x, NORMAL * exp_of::<FMA>(-0.5 * x * x), below)
});
slope_kernel!(gelu_tanh, gelu_tanh_body, x => {
    let t = tanh_of::<FMA>(TANH_SCALE * mul_add::<FMA>(CUBIC * x, x * x, x));
    let inner = TANH_SCALE * mul_add::<FMA>(3.0 * CUBIC * x, x, 1.0);
    0.5 * mul_add::<FMA>(x * inner, 1.0 - t * t, 1.0 + t)
});
slope_kernel!(quick_gelu, quick_gelu_body, x => {
    let s = sigmoid_of::<FMA>(1.702 * x);
    s * mul_add::<FMA>(1.702 * x, 1.0 - s, 1.0)
});
slope_kernel!(silu, silu_body, x => {
    let s = sigmoid_of::<FMA>(x);
    s * mul_add::<FMA>(x, 1.0 - s, 1.0)
});
slope_kernel!(sigmoid, sigmoid_body, x => {
    let s = sigmoid_of::<FMA>(x);
    s * (1.0 - s)
});
slope_kernel!(tanh, tanh_body, x => {
    let t = tanh_of::<FMA>(x);
    1.0 - t * t
});
slope_kernel!(hard_swish, hard_swish_body, x => {
    if x < -3.0 {
        0.0
    } else if x > 3.0 {
        1.0
    } else {
        x / 3.0 + 0.5
    }
});
slope_kernel!(hard_sigmoid, hard_sigmoid_body, x => if x > -3.0 && x < 3.0 { 1.0 / 6.0 } else { 0.0 });

impl Activation {
    /// Multiplies every gradient of the output by the slope at `x`, what went in, on this thread. At a
    /// corner the slope is that which PyTorch takes.
    ///
    /// # Panics
    /// When `x` is shorter.
    pub fn back(self, x: &[f32], grad: &mut [f32]) {
        match self {
            Activation::Identity => {}
            Activation::Relu => relu(x, grad),
            Activation::Relu6 => relu6(x, grad),
            Activation::Gelu => gelu(x, grad),
            Activation::GeluTanh => gelu_tanh(x, grad),
            Activation::QuickGelu => quick_gelu(x, grad),
            Activation::Silu => silu(x, grad),
            Activation::Sigmoid => sigmoid(x, grad),
            Activation::Tanh => tanh(x, grad),
            Activation::HardSwish => hard_swish(x, grad),
            Activation::HardSigmoid => hard_sigmoid(x, grad),
        }
    }
}

/// Values that are summed side by side.
const LANES: usize = 16;

/// The sum of `f` over two rows of one length.
#[inline(always)]
fn sum_of(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += f(*a, *b);
    }
    lanes.iter().sum()
}

kernel! {
    /// The gradient of a softmax over every row: `grad` of what it gave, `out (rows, cols)`, becomes
    /// that of what went in.
    pub fn softmax(out: &[f32], grad: &mut [f32], cols: usize) = softmax_body
}

#[inline(always)]
fn softmax_body<const FMA: bool>(out: &[f32], grad: &mut [f32], cols: usize) {
    let cols = cols.max(1);
    for (out, grad) in out.chunks_exact(cols).zip(grad.chunks_exact_mut(cols)) {
        let dot = sum_of(out, grad, |a, b| a * b);
        for (grad, out) in grad.iter_mut().zip(out) {
            *grad = out * (*grad - dot);
        }
    }
}

kernel! {
    /// The gradient of a layer normalisation of `x (rows, weight.len())`: `grad` of what it gave
    /// becomes that of what went in, and what belongs to weight and bias is added to theirs.
    pub fn layer_norm(
        x: &[f32],
        weight: &[f32],
        eps: f32,
        grad: &mut [f32],
        grad_weight: &mut [f32],
        grad_bias: &mut [f32],
    ) = layer_norm_body
}

#[inline(always)]
fn layer_norm_body<const FMA: bool>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    grad: &mut [f32],
    grad_weight: &mut [f32],
    grad_bias: &mut [f32],
) {
    let n = weight.len().max(1);
    let count = n as f32;
    let (grad_weight, grad_bias) = (
        &mut grad_weight[..weight.len()],
        &mut grad_bias[..weight.len()],
    );
    let mut normal = vec![0.0; n];
    for (x, grad) in x.chunks_exact(n).zip(grad.chunks_exact_mut(n)) {
        let mean = sum_of(x, x, |x, _| x) / count;
        let var = sum_of(x, x, |x, _| (x - mean) * (x - mean)) / count;
        let scale = 1.0 / (var + eps).sqrt();
        for i in 0..n {
            normal[i] = (x[i] - mean) * scale;
            grad_weight[i] = mul_add::<FMA>(grad[i], normal[i], grad_weight[i]);
            grad_bias[i] += grad[i];
            grad[i] *= weight[i];
        }
        let mean_grad = sum_of(grad, grad, |grad, _| grad) / count;
        let slant = sum_of(grad, &normal, |grad, normal| grad * normal) / count;
        for (grad, normal) in grad.iter_mut().zip(&normal) {
            *grad = scale * (*grad - mean_grad - normal * slant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;

    fn draw(seed: u64, len: usize, scale: f32) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..len).map(|_| (rng.f32() - 0.5) * scale).collect()
    }

    fn assert_near(got: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(got.len(), expected.len());
        for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!(
                (got - expected).abs() <= tolerance,
                "{at}: {got} {expected}"
            );
        }
    }

    #[test]
    fn slopes_are_those_of_the_functions() {
        let all = [
            Activation::Identity,
            Activation::Relu,
            Activation::Relu6,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Silu,
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::HardSwish,
            Activation::HardSigmoid,
        ];
        // No corner is among them, nor within the step of one.
        let x: Vec<f32> = (0..157).map(|i| (i as f32 - 78.3) * 0.1).collect();
        let step = 1e-2;
        for activation in all {
            let mut slopes = vec![1.0; x.len()];
            activation.back(&x, &mut slopes);
            let moved = |by: f32| {
                let mut x: Vec<f32> = x.iter().map(|x| x + by).collect();
                activation.apply(&mut x);
                x
            };
            let numeric: Vec<f32> = moved(step)
                .iter()
                .zip(moved(-step))
                .map(|(a, b)| (a - b) / (2.0 * step))
                .collect();
            assert_near(&slopes, &numeric, 1e-3);
        }
        // At the corners as PyTorch has it.
        let mut slopes = [1.0; 2];
        Activation::Relu.back(&[0.0, 1e-9], &mut slopes);
        assert_eq!(slopes, [0.0, 1.0]);
    }

    #[test]
    fn the_gradient_of_a_row_is_that_of_its_definition() {
        let (rows, cols) = (3, 21);
        let (x, up) = (draw(1, rows * cols, 4.0), draw(2, rows * cols, 1.0));
        let mut out = x.clone();
        rows::softmax(&mut out, cols);
        let mut grad = up.clone();
        softmax(&out, &mut grad, cols);
        for row in 0..rows {
            let at = |i: usize| row * cols + i;
            for i in 0..cols {
                let expected: f64 = (0..cols)
                    .map(|j| {
                        let same = f64::from(u8::from(i == j));
                        let (a, b) = (f64::from(out[at(i)]), f64::from(out[at(j)]));
                        f64::from(up[at(j)]) * b * (same - a)
                    })
                    .sum();
                assert!((f64::from(grad[at(i)]) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn every_kernel_equals_its_plain_twin() {
        for cols in [1, 16, 33] {
            let (x, up) = (draw(3, 5 * cols, 4.0), draw(4, 5 * cols, 1.0));
            let weight = draw(5, cols, 1.0);
            let (mut fast, mut plain) = (up.clone(), up.clone());
            softmax(&x, &mut fast, cols);
            softmax_body::<false>(&x, &mut plain, cols);
            assert_near(&fast, &plain, 1e-4);
            let mut fast = [up.clone(), vec![0.0; cols], vec![0.0; cols]];
            let mut plain = fast.clone();
            let [grad, of_weight, of_bias] = &mut fast;
            layer_norm(&x, &weight, 1e-5, grad, of_weight, of_bias);
            let [grad, of_weight, of_bias] = &mut plain;
            layer_norm_body::<false>(&x, &weight, 1e-5, grad, of_weight, of_bias);
            assert_near(&fast.concat(), &plain.concat(), 1e-4);
            let (mut fast, mut plain) = (up.clone(), up.clone());
            Activation::Gelu.back(&x, &mut fast);
            gelu_body::<false>(&x, &mut plain);
            assert_near(&fast, &plain, 1e-5);
        }
    }
}
