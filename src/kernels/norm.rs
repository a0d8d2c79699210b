//! Batch normalisation with an optional rectifier, forward and backward, over rows of channels.
//!
//! Ioffe and Szegedy, *Batch Normalization* (2015), with statistics over all rows. Training alone:
//! at run time it is folded into the dense layer before it.

use super::{kernel, mul_add};

/// What the backward pass of a rectified normalisation reads, each `(rows, channels)`.
pub struct Pass<'a> {
    /// What went in.
    pub x: &'a [f32],
    /// What came out.
    pub out: &'a [f32],
    /// The gradient of what came out.
    pub grad: &'a [f32],
    /// Whether the output was rectified.
    pub relu: bool,
}

impl Pass<'_> {
    /// Gradients pass where the output is over this.
    #[inline(always)]
    fn floor(&self) -> f32 {
        if self.relu { 0.0 } else { f32::NEG_INFINITY }
    }

    /// Input, output and gradient, row by row.
    #[inline(always)]
    fn rows(&self, channels: usize) -> impl Iterator<Item = ((&[f32], &[f32]), &[f32])> {
        let (x, out) = (
            self.x.chunks_exact(channels),
            self.out.chunks_exact(channels),
        );
        x.zip(out).zip(self.grad.chunks_exact(channels))
    }
}

kernel! {
    /// Adds the sum and the sum of squares of `x (rows, channels)` to `sum` and `square (channels)`.
    pub fn moments(x: &[f32], sum: &mut [f32], square: &mut [f32]) = moments_body
}

kernel! {
    /// `out = x * scale + shift` a channel, then `max(0, _)` where `relu` is set.
    pub fn scale_shift(x: &[f32], scale: &[f32], shift: &[f32], relu: bool, out: &mut [f32]) = scale_shift_body
}

kernel! {
    /// For the backward pass: adds to `sum_grad` the gradients that pass the rectifier, and to
    /// `sum_grad_x` their products with the normalised input `x * inv_std - mean * inv_std`.
    pub fn grad_moments(pass: &Pass<'_>, inv_std: &[f32], shift: &[f32], sum_grad: &mut [f32], sum_grad_x: &mut [f32]) = grad_moments_body
}

kernel! {
    /// `grad_x = a * grad + b * x + c` a channel for gradients that pass the rectifier.
    pub fn grad_input(pass: &Pass<'_>, a: &[f32], b: &[f32], c: &[f32], grad_x: &mut [f32]) = grad_input_body
}

#[inline(always)]
fn moments_body<const FMA: bool>(x: &[f32], sum: &mut [f32], square: &mut [f32]) {
    for row in x.chunks_exact(sum.len()) {
        for ((x, sum), square) in row.iter().zip(sum.iter_mut()).zip(square.iter_mut()) {
            *sum += x;
            *square = mul_add::<FMA>(*x, *x, *square);
        }
    }
}

#[inline(always)]
fn scale_shift_body<const FMA: bool>(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    relu: bool,
    out: &mut [f32],
) {
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    for (x, out) in x
        .chunks_exact(scale.len())
        .zip(out.chunks_exact_mut(scale.len()))
    {
        for (((x, out), scale), shift) in x.iter().zip(out).zip(scale).zip(shift) {
            *out = mul_add::<FMA>(*x, *scale, *shift).max(floor);
        }
    }
}

#[inline(always)]
fn grad_moments_body<const FMA: bool>(
    pass: &Pass<'_>,
    inv_std: &[f32],
    shift: &[f32],
    sum_grad: &mut [f32],
    sum_grad_x: &mut [f32],
) {
    let n = inv_std.len();
    let floor = pass.floor();
    for ((x, out), grad) in pass.rows(n) {
        // Lengths said once more, so that the loop below needs no checks and becomes vectors.
        let (x, out, grad) = (&x[..n], &out[..n], &grad[..n]);
        let (sum_grad, sum_grad_x, shift) = (&mut sum_grad[..n], &mut sum_grad_x[..n], &shift[..n]);
        for c in 0..n {
            let g = if out[c] > floor { grad[c] } else { 0.0 };
            sum_grad[c] += g;
            let normal = mul_add::<FMA>(x[c], inv_std[c], shift[c]);
            sum_grad_x[c] = mul_add::<FMA>(g, normal, sum_grad_x[c]);
        }
    }
}

#[inline(always)]
fn grad_input_body<const FMA: bool>(
    pass: &Pass<'_>,
    a: &[f32],
    b: &[f32],
    c: &[f32],
    grad_x: &mut [f32],
) {
    let (n, b, c) = (a.len(), &b[..a.len()], &c[..a.len()]);
    let floor = pass.floor();
    for (((x, out), grad), grad_x) in pass.rows(n).zip(grad_x.chunks_exact_mut(n)) {
        let (x, out, grad, grad_x) = (&x[..n], &out[..n], &grad[..n], &mut grad_x[..n]);
        for i in 0..n {
            let g = if out[i] > floor { grad[i] } else { 0.0 };
            grad_x[i] = mul_add::<FMA>(a[i], g, mul_add::<FMA>(b[i], x[i], c[i]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_equals_its_plain_twin() {
        let mut rng = fastrand::Rng::with_seed(3);
        for channels in [1, 16, 24, 33] {
            let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.f32() - 0.5).collect() };
            let (x, out, grad) = (draw(7 * channels), draw(7 * channels), draw(7 * channels));
            let (a, b, c) = (draw(channels), draw(channels), draw(channels));
            let pass = Pass {
                x: &x,
                out: &out,
                grad: &grad,
                relu: true,
            };
            let mut fast = [vec![0.0; channels], vec![0.0; channels], vec![0.0; x.len()]];
            let mut plain = fast.clone();
            let [s, q, o] = &mut fast;
            moments(&x, s, q);
            grad_moments(&pass, &a, &b, s, q);
            scale_shift(&x, &a, &b, true, o);
            let scaled = o.clone();
            grad_input(&pass, &a, &b, &c, o);
            let [s, q, o] = &mut plain;
            moments_body::<false>(&x, s, q);
            grad_moments_body::<false>(&pass, &a, &b, s, q);
            scale_shift_body::<false>(&x, &a, &b, true, o);
            for (fast, plain) in scaled.iter().zip(o.iter()) {
                assert!((fast - plain).abs() < 1e-5);
            }
            grad_input_body::<false>(&pass, &a, &b, &c, o);
            for (fast, plain) in fast.iter().flatten().zip(plain.iter().flatten()) {
                assert!((fast - plain).abs() < 1e-5);
            }
        }
    }
}
