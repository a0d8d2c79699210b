//! Dense layer on few rows: `out = x w + bias`, optionally rectified.
//!
//! The rows are the frequency positions of one frame (1 to 32), so the weights are streamed through
//! the cache once a frame; large products in training go through candle instead.

use super::{kernel, mul_add};

/// Columns that are accumulated in registers at a time: two vectors of AVX-512.
const BLOCK: usize = 32;

kernel! {
    /// `out (m, n) = x (m, k) w (k, n) + bias (n)`, then `max(0, _)` where `relu` is set.
    /// Row-major; `m` follows from `out`. Real-time safe.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn dense(x: &[f32], w: &[f32], bias: &[f32], relu: bool, out: &mut [f32]) = dense_body
}

#[inline(always)]
fn dense_body<const FMA: bool>(x: &[f32], w: &[f32], bias: &[f32], relu: bool, out: &mut [f32]) {
    let n = bias.len();
    let m = out.len() / n;
    let k = x.len() / m;
    assert!(
        x.len() == m * k && w.len() == k * n && out.len() == m * n,
        "dense: lengths do not fit"
    );
    let mut row = 0;
    while row < m {
        let rows = (m - row).min(4);
        let (x, out) = (
            &x[row * k..(row + rows) * k],
            &mut out[row * n..(row + rows) * n],
        );
        match rows {
            4 => rows_body::<FMA, 4>(x, w, bias, relu, out),
            3 => rows_body::<FMA, 3>(x, w, bias, relu, out),
            2 => rows_body::<FMA, 2>(x, w, bias, relu, out),
            _ => rows_body::<FMA, 1>(x, w, bias, relu, out),
        }
        row += rows;
    }
}

#[inline(always)]
fn rows_body<const FMA: bool, const R: usize>(
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    relu: bool,
    out: &mut [f32],
) {
    let n = bias.len();
    let mut col = 0;
    while col + BLOCK <= n {
        block::<FMA, R, BLOCK>(x, w, bias, relu, out, col);
        col += BLOCK;
    }
    while col + 8 <= n {
        block::<FMA, R, 8>(x, w, bias, relu, out, col);
        col += 8;
    }
    while col < n {
        block::<FMA, R, 1>(x, w, bias, relu, out, col);
        col += 1;
    }
}

#[inline(always)]
fn block<const FMA: bool, const R: usize, const C: usize>(
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    relu: bool,
    out: &mut [f32],
    col: usize,
) {
    let (n, k) = (bias.len(), x.len() / R);
    let mut acc = [[0.0f32; C]; R];
    for acc in &mut acc {
        acc.copy_from_slice(&bias[col..col + C]);
    }
    let rows: [&[f32]; R] = std::array::from_fn(|r| &x[r * k..(r + 1) * k]);
    for i in 0..k {
        let w: &[f32; C] = w[i * n + col..].first_chunk().unwrap_or(&[0.0; C]);
        for r in 0..R {
            let x = rows[r][i];
            for c in 0..C {
                acc[r][c] = mul_add::<FMA>(x, w[c], acc[r][c]);
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        for (out, &value) in out[r * n + col..r * n + col + C].iter_mut().zip(acc) {
            *out = if relu { value.max(0.0) } else { value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_equals_its_plain_twin_and_the_definition() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (m, k, n) in [
            (1, 1, 1),
            (1, 64, 96),
            (2, 25, 16),
            (5, 7, 41),
            (16, 32, 48),
            (33, 24, 15),
        ] {
            let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.f32() - 0.5).collect() };
            let (x, w, bias) = (draw(m * k), draw(k * n), draw(n));
            for relu in [false, true] {
                let (mut fast, mut plain) = (vec![0.0; m * n], vec![0.0; m * n]);
                dense(&x, &w, &bias, relu, &mut fast);
                dense_body::<false>(&x, &w, &bias, relu, &mut plain);
                for row in 0..m {
                    for col in 0..n {
                        let sum: f32 = (0..k).map(|i| x[row * k + i] * w[i * n + col]).sum();
                        let expected = if relu {
                            (sum + bias[col]).max(0.0)
                        } else {
                            sum + bias[col]
                        };
                        assert!((fast[row * n + col] - expected).abs() < 1e-5);
                        assert!((plain[row * n + col] - expected).abs() < 1e-5);
                    }
                }
            }
        }
    }
}
