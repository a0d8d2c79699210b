//! Natural logarithm of many floats, by the rational function of XNNPACK.
//!
//! google/XNNPACK 0197735, `src/f32-vlog/rational-3-3.c.in`: `x = m * 2^e` with `m` between
//! `sqrt(1/2)` and `sqrt(2)`, then `ln(x) = e * ln(2) + p(m - 1) / q(m - 1)`; the same to the bit
//! where multiply-add is fused, and within two units in the last place of the true value.

use super::{kernel, mul_add};

/// Two factors whose product is one in floats, close to `sqrt(2)` and `sqrt(1/2)`.
const SQRT_2: f32 = 1.414_213_4;
const SQRT_HALF: f32 = 0.707_106_9;
/// Third coefficient of the numerator; the others are 1.
const ALPHA: f32 = 0.182_499_69;
/// Coefficients of the denominator after 1.
const BETA: [f32; 3] = [1.5, 0.599_17, 0.049_584_996];

kernel! {
    /// `x = ln(x)` for normal positive numbers; others give no useful value. Real-time safe.
    pub fn ln(x: &mut [f32]) = ln_body
}

#[inline(always)]
fn ln_body<const FMA: bool>(x: &mut [f32]) {
    for x in x {
        let bits = (*x * SQRT_2).to_bits();
        let exponent = ((bits >> 23) as i32 - 127) as f32;
        let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
        let m = m * SQRT_HALF - 1.0;
        let p = mul_add::<FMA>(m, ALPHA, 1.0);
        let p = m * mul_add::<FMA>(m, p, 1.0);
        let q = mul_add::<FMA>(m, BETA[2], BETA[1]);
        let q = mul_add::<FMA>(m, mul_add::<FMA>(m, q, BETA[0]), 1.0);
        *x = mul_add::<FMA>(exponent, std::f32::consts::LN_2, p / q);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_logarithm_on_any_machine() {
        let x: Vec<f32> = (-80..80).map(|at| 1.7f32.powi(at / 2) * 1.13).collect();
        let (mut fast, mut plain) = (x.clone(), x.clone());
        ln(&mut fast);
        ln_body::<false>(&mut plain);
        for ((x, fast), plain) in x.iter().zip(fast).zip(plain) {
            let expected = f64::from(*x).ln() as f32;
            let most = expected.abs().max(1.0) * 3e-7;
            assert!((fast - expected).abs() < most, "{x}: {fast} {expected}");
            assert!((plain - expected).abs() < most, "{x}: {plain} {expected}");
        }
    }

    #[test]
    fn the_constants_are_those_of_the_reference() {
        assert_eq!(SQRT_2, 1.414_213_419_0_f64 as f32);
        assert_eq!(SQRT_HALF, 0.707_106_882_9_f64 as f32);
        assert_eq!(SQRT_2 * SQRT_HALF, 1.0);
        assert_eq!(ALPHA, 1.824_996_918_440e-1_f64 as f32);
        assert_eq!(
            BETA,
            [
                1.5,
                0.599_170_029_163_f64 as f32,
                0.049_584_995_955_f64 as f32
            ]
        );
    }
}
