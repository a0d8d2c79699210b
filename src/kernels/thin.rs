//! Products of a few rows with a large matrix: one phrase, one pooled state, one step.
//!
//! Such a product waits for memory. The general one would first copy the matrix into another order;
//! this one reads every value once, where it lies.

#[cfg(target_arch = "x86_64")]
use super::has_avx512;

/// The most rows that are worth it: with more, the general product is faster.
pub const ROWS: usize = 16;

/// Whether this machine has what makes it worth it.
pub fn is_worth_it() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_avx512();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `out (m, n) = x (m, k) w^T` of `w (n, k)`, all row-major; `m` and `n` follow from the lengths.
///
/// # Panics
/// When the lengths do not fit together.
pub fn dot_rows(x: &[f32], w: &[f32], k: usize, out: &mut [f32]) {
    let (m, n) = (x.len() / k, w.len() / k);
    assert!(
        x.len() == m * k && w.len() == n * k && out.len() == m * n,
        "dot_rows: lengths do not fit"
    );
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the processor was just asked for it, and the lengths were just checked.
        return unsafe { avx512::dot_rows(x, w, k, out) };
    }
    plain(x, w, k, out);
}

/// The plain twin.
fn plain(x: &[f32], w: &[f32], k: usize, out: &mut [f32]) {
    let n = w.len() / k;
    for (x, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
        for (w, out) in w.chunks_exact(k).zip(out) {
            *out = x.iter().zip(w).map(|(x, w)| x * w).sum();
        }
    }
}

/// Written out, for the compiler keeps the sums of the plain code in memory.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps, _mm512_reduce_add_ps,
        _mm512_setzero_ps,
    };

    /// Values of one vector.
    const LANES: usize = 16;

    /// # Safety
    /// The processor must have AVX-512; the lengths must fit together.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn dot_rows(x: &[f32], w: &[f32], k: usize, out: &mut [f32]) {
        let (m, n) = (x.len() / k, w.len() / k);
        // Pairs of rows of `w` pass once through the cache, for four rows of `x` at a time.
        for column in (0..n).step_by(2) {
            for row in (0..m).step_by(4) {
                let (x, w) = (&x[row * k..], &w[column * k..]);
                let out = &mut out[row * n + column..];
                // SAFETY: as many rows are asked for as there are.
                unsafe {
                    match ((m - row).min(4), (n - column).min(2)) {
                        (4, 2) => tile::<4, 2>(x, w, k, out, n),
                        (3, 2) => tile::<3, 2>(x, w, k, out, n),
                        (2, 2) => tile::<2, 2>(x, w, k, out, n),
                        (_, 2) => tile::<1, 2>(x, w, k, out, n),
                        (4, _) => tile::<4, 1>(x, w, k, out, n),
                        (3, _) => tile::<3, 1>(x, w, k, out, n),
                        (2, _) => tile::<2, 1>(x, w, k, out, n),
                        _ => tile::<1, 1>(x, w, k, out, n),
                    }
                }
            }
        }
    }

    /// `R` rows of `x` times `C` rows of `w`, to rows of `out` that are `stride` apart.
    ///
    /// # Safety
    /// The processor must have AVX-512; `x` and `w` must have as many rows of `k` values.
    #[target_feature(enable = "avx512f")]
    unsafe fn tile<const R: usize, const C: usize>(
        x: &[f32],
        w: &[f32],
        k: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        assert!(x.len() >= R * k && w.len() >= C * k, "tile: too short");
        let mut sums = [[_mm512_setzero_ps(); C]; R];
        let whole = k / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            // SAFETY: `LANES` values are left in every row, as just asserted.
            let w: [__m512; C] = std::array::from_fn(|column| unsafe {
                _mm512_loadu_ps(w.as_ptr().add(column * k + at))
            });
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the same.
                let x = unsafe { _mm512_loadu_ps(x.as_ptr().add(row * k + at)) };
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm512_fmadd_ps(x, w, *sum);
                }
            }
        }
        if whole < k {
            let rest = (1u16 << (k - whole)) - 1;
            for (row, sums) in sums.iter_mut().enumerate() {
                for (column, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: only the values that are left are read.
                    let (x, w) = unsafe {
                        (
                            _mm512_maskz_loadu_ps(rest, x.as_ptr().add(row * k + whole)),
                            _mm512_maskz_loadu_ps(rest, w.as_ptr().add(column * k + whole)),
                        )
                    };
                    *sum = _mm512_fmadd_ps(x, w, *sum);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (column, sum) in sums.into_iter().enumerate() {
                out[row * stride + column] = _mm512_reduce_add_ps(sum);
            }
        }
    }
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
            let (mut fast, mut twin) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
            dot_rows(&x, &w, k, &mut fast);
            plain(&x, &w, k, &mut twin);
            for row in 0..m {
                for column in 0..n {
                    let expected: f32 = (0..k).map(|i| x[row * k + i] * w[column * k + i]).sum();
                    for got in [fast[row * n + column], twin[row * n + column]] {
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
