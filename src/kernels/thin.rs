//! Products of a few rows with a large matrix: one phrase, one pooled state, one step.
//!
//! Such a product waits for memory. The general one would first copy the matrix into another order;
//! this one reads every value once, where it lies.

use super::{kernel, mul_add};

/// The most rows that are worth it: with more, the general product is faster.
pub const ROWS: usize = 16;

/// Products that are summed side by side: one vector of AVX-512.
const LANES: usize = 16;
/// Rows of either side that are taken together; their sums stay in registers.
const TILE: usize = 4;

kernel! {
    /// `out (m, n) = x (m, k) w^T` of `w (n, k)`, all row-major; `m` and `n` follow from the lengths.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn dot_rows(x: &[f32], w: &[f32], k: usize, out: &mut [f32]) = dot_rows_body
}

#[inline(always)]
fn dot_rows_body<const FMA: bool>(x: &[f32], w: &[f32], k: usize, out: &mut [f32]) {
    let (m, n) = (x.len() / k, w.len() / k);
    assert!(
        x.len() == m * k && w.len() == n * k && out.len() == m * n,
        "dot_rows: lengths do not fit"
    );
    for (tile, w) in w.chunks(TILE * k).enumerate() {
        for (band, x) in x.chunks(TILE * k).enumerate() {
            let at = band * TILE * n + tile * TILE;
            match (x.len() / k, w.len() / k) {
                (TILE, TILE) => tile_body::<FMA, TILE, TILE>(x, w, k, &mut out[at..], n),
                (TILE, columns) => {
                    for (column, w) in w.chunks_exact(k).take(columns).enumerate() {
                        tile_body::<FMA, TILE, 1>(x, w, k, &mut out[at + column..], n);
                    }
                }
                (rows, TILE) => {
                    for (row, x) in x.chunks_exact(k).take(rows).enumerate() {
                        tile_body::<FMA, 1, TILE>(x, w, k, &mut out[at + row * n..], n);
                    }
                }
                _ => {
                    for (row, x) in x.chunks_exact(k).enumerate() {
                        for (column, w) in w.chunks_exact(k).enumerate() {
                            tile_body::<FMA, 1, 1>(x, w, k, &mut out[at + row * n + column..], n);
                        }
                    }
                }
            }
        }
    }
}

/// `R` rows of `x` times `C` rows of `w` to `out`, whose rows are `stride` apart.
#[inline(always)]
fn tile_body<const FMA: bool, const R: usize, const C: usize>(
    x: &[f32],
    w: &[f32],
    k: usize,
    out: &mut [f32],
    stride: usize,
) {
    let xs: [&[f32]; R] = std::array::from_fn(|row| &x[row * k..][..k]);
    let ws: [&[f32]; C] = std::array::from_fn(|column| &w[column * k..][..k]);
    let mut sums = [[[0.0f32; LANES]; C]; R];
    let whole = k / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let x: [&[f32; LANES]; R] = std::array::from_fn(|row| lanes(xs[row], at));
        let w: [&[f32; LANES]; C] = std::array::from_fn(|column| lanes(ws[column], at));
        for row in 0..R {
            for column in 0..C {
                for lane in 0..LANES {
                    let sum = &mut sums[row][column][lane];
                    *sum = mul_add::<FMA>(x[row][lane], w[column][lane], *sum);
                }
            }
        }
    }
    for row in 0..R {
        for column in 0..C {
            let rest = xs[row][whole..].iter().zip(&ws[column][whole..]);
            let rest: f32 = rest.map(|(x, w)| x * w).sum();
            out[row * stride + column] = sums[row][column].iter().sum::<f32>() + rest;
        }
    }
}

/// The lanes of a row from `at` on.
#[inline(always)]
fn lanes(row: &[f32], at: usize) -> &[f32; LANES] {
    row[at..].first_chunk().unwrap_or(&[0.0; LANES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_equal_the_plain_twin_and_the_definition() {
        let mut rng = fastrand::Rng::with_seed(6);
        for (m, k, n) in [
            (1, 1, 1),
            (1, 768, 13),
            (4, 33, 8),
            (7, 50, 9),
            (12, 64, 21),
            (16, 16, 4),
        ] {
            let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.f32() - 0.5).collect() };
            let (x, w) = (draw(m * k), draw(n * k));
            let (mut fast, mut plain) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
            dot_rows(&x, &w, k, &mut fast);
            dot_rows_body::<false>(&x, &w, k, &mut plain);
            for row in 0..m {
                for column in 0..n {
                    let expected: f32 = (0..k).map(|i| x[row * k + i] * w[column * k + i]).sum();
                    for got in [fast[row * n + column], plain[row * n + column]] {
                        assert!(
                            (got - expected).abs() < 1e-4,
                            "{m} {k} {n}: {got} {expected}"
                        );
                    }
                }
            }
        }
    }
}
