//! Dense layer with int8 weights on activations that are quantised row by row at run time.
//!
//! The arithmetic is that of XNNPACK's `qd8-f32-qc8w` kernels (google/XNNPACK 028aae4,
//! `src/xnnpack/quantization.h` and `src/qd8-f32-qc8w-gemm`), to the bit where multiply-add is fused:
//! a row becomes 8-bit integers between its own smallest and largest value (zero always among them),
//! products are summed exactly in 32 bits, and the sum is scaled by the row, then by the column with
//! the bias added in one rounding. Activations are held unsigned (128 more than XNNPACK's), which is
//! what the dot products of VNNI take.

use super::{kernel, mul_add};

/// Columns that are accumulated at a time: two vectors of AVX-512.
const BLOCK: usize = 32;
/// Neighbours along the inner dimension that one dot product takes.
const GROUP: usize = 4;
/// Added and taken away again, it rounds a small float to an integer, ties to even: 1.5 * 2^23.
const MAGIC: f32 = 12_582_912.0;

/// Int8 weights `(outputs, inputs)` laid out for the kernels, with what follows the sum.
#[derive(Debug, Clone)]
pub struct Int8Dense {
    inputs: usize,
    outputs: usize,
    groups: usize,
    /// `(block, group, column, neighbour)`, zeros where the matrix ends.
    weights: Vec<i8>,
    /// Sum of a column's weights, by which its zero point counts.
    sums: Vec<i32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

/// Rows of activations, quantised.
#[derive(Debug, Clone, Default)]
pub struct Int8Rows {
    /// `(row, group)` of four unsigned bytes each.
    values: Vec<i32>,
    /// Scale and zero point of every row.
    params: Vec<(f32, i32)>,
    groups: usize,
}

impl Int8Dense {
    /// Lays out `weights (outputs, inputs)`, whose values are `weight * scale (outputs)`.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn new(inputs: usize, weights: &[i8], scale: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        assert!(
            weights.len() == inputs * outputs && scale.len() == outputs,
            "Int8Dense: lengths do not fit"
        );
        let groups = inputs.div_ceil(GROUP);
        let padded = outputs.next_multiple_of(BLOCK);
        let mut packed = vec![0; padded * groups * GROUP];
        for (at, &weight) in weights.iter().enumerate() {
            let (output, input) = (at / inputs, at % inputs);
            let block = (output / BLOCK) * groups + input / GROUP;
            packed[(block * BLOCK + output % BLOCK) * GROUP + input % GROUP] = weight;
        }
        let mut sums: Vec<i32> = weights
            .chunks_exact(inputs)
            .map(|row| row.iter().map(|&w| i32::from(w)).sum())
            .collect();
        sums.resize(padded, 0);
        let fill = |values: &[f32]| {
            let mut values = values.to_vec();
            values.resize(padded, 0.0);
            values
        };
        Int8Dense {
            inputs,
            outputs,
            groups,
            weights: packed,
            sums,
            scale: fill(scale),
            bias: fill(bias),
        }
    }

    /// Columns of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out (rows, outputs) = x (rows, inputs) w + bias`, then `max(0, _)` where `relu` is set;
    /// `rows` holds the quantised input between. Allocates only where `rows` must grow.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn apply(&self, x: &[f32], rows: &mut Int8Rows, relu: bool, out: &mut [f32]) {
        let count = x.len() / self.inputs;
        assert!(
            x.len() == count * self.inputs && out.len() == count * self.outputs,
            "Int8Dense: lengths do not fit"
        );
        rows.groups = self.groups;
        rows.values.resize(count * self.groups, 0);
        rows.params.resize(count, (0.0, 0));
        quantise_rows(x, rows);
        dense_int8(self, rows, relu, out);
    }
}

kernel! {
    /// Quantises every row of `x` into `rows`, whose vectors have their lengths already.
    fn quantise_rows(x: &[f32], rows: &mut Int8Rows) = quantise_rows_body
}

/// Smallest and largest of a row and zero.
#[inline(always)]
pub(super) fn range(row: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([0.0f32; 16], [0.0f32; 16]);
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for ((low, high), &x) in low.iter_mut().zip(&mut high).zip(chunk) {
            *low = if x < *low { x } else { *low };
            *high = if x > *high { x } else { *high };
        }
    }
    for ((low, high), &x) in low.iter_mut().zip(&mut high).zip(rest) {
        *low = if x < *low { x } else { *low };
        *high = if x > *high { x } else { *high };
    }
    (
        low.into_iter().fold(0.0, f32::min),
        high.into_iter().fold(0.0, f32::max),
    )
}

#[inline(always)]
fn quantise_rows_body<const FMA: bool>(x: &[f32], rows: &mut Int8Rows) {
    let inputs = x.len() / rows.params.len().max(1);
    if inputs == 0 {
        return;
    }
    let values = rows.values.chunks_exact_mut(rows.groups);
    for ((row, values), params) in x.chunks_exact(inputs).zip(values).zip(&mut rows.params) {
        let (low, high) = range(row);
        let factor = if low == high {
            1.0
        } else {
            255.0 / (high - low)
        };
        let (low, high) = (low * factor, high * factor);
        let zero = if (-128.0 + low) + (127.0 + high) > 0.0 {
            -128.0 - low
        } else {
            127.0 - high
        };
        let zero = zero.clamp(-128.0, 127.0).round_ties_even() + 128.0;
        *params = (1.0 / factor, zero as i32);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        let (least, most) = (-zero, 255.0 - zero);
        for (byte, &x) in bytes.iter_mut().zip(row) {
            let x = x * factor;
            let x = if x < most { x } else { most };
            let x = if x > least { x } else { least };
            *byte = ((x + MAGIC) + zero).to_bits() as u8;
        }
    }
}

/// The product of quantised rows and weights.
fn dense_int8(w: &Int8Dense, rows: &Int8Rows, relu: bool, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if super::has_avx512() && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: the processor was just asked for every feature that is enabled.
            return unsafe { x86::avx512vnni(w, rows, relu, out) };
        }
        if super::has_avx2() && is_x86_feature_detected!("avxvnni") {
            // SAFETY: the same.
            return unsafe { x86::avxvnni(w, rows, relu, out) };
        }
        if super::has_avx2() {
            // SAFETY: the same.
            return unsafe { x86::avx2(w, rows, relu, out) };
        }
    }
    dense_plain(w, rows, relu, out);
}

/// For any machine.
fn dense_plain(w: &Int8Dense, rows: &Int8Rows, relu: bool, out: &mut [f32]) {
    dense_body::<false>(w, rows, relu, out);
}

/// What becomes of the sums of one row in one block of columns.
#[inline(always)]
fn finish<const FMA: bool>(
    w: &Int8Dense,
    block: usize,
    (scale, zero): (f32, i32),
    sums: &[i32; BLOCK],
    relu: bool,
    out: &mut [f32],
) {
    let columns = block * BLOCK..(block + 1) * BLOCK;
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let parts = (w.sums[columns.clone()].iter())
        .zip(&w.scale[columns.clone()])
        .zip(&w.bias[columns]);
    for ((out, &sum), ((&all, &column), &bias)) in out.iter_mut().zip(sums).zip(parts) {
        let sum = sum.wrapping_sub(zero.wrapping_mul(all)) as f32;
        let value = mul_add::<FMA>(sum * scale, column, bias);
        *out = if value > floor { value } else { floor };
    }
}

#[inline(always)]
fn dense_body<const FMA: bool>(w: &Int8Dense, rows: &Int8Rows, relu: bool, out: &mut [f32]) {
    let blocks = w.weights.chunks_exact(w.groups * BLOCK * GROUP);
    for (block, weights) in blocks.enumerate() {
        let values = rows.values.chunks_exact(w.groups);
        for ((row, &params), out) in values
            .zip(&rows.params)
            .zip(out.chunks_exact_mut(w.outputs))
        {
            let mut sums = [0i32; BLOCK];
            let (groups, _) = weights.as_chunks::<{ BLOCK * GROUP }>();
            for (&x, weights) in row.iter().zip(groups) {
                let x = x.to_ne_bytes().map(i16::from);
                let (columns, _) = weights.as_chunks::<GROUP>();
                for (sum, w) in sums.iter_mut().zip(columns) {
                    let w = w.map(i16::from);
                    *sum += i32::from(x[0]) * i32::from(w[0]) + i32::from(x[1]) * i32::from(w[1]);
                    *sum += i32::from(x[2]) * i32::from(w[2]) + i32::from(x[3]) * i32::from(w[3]);
                }
            }
            let out = &mut out[block * BLOCK..];
            finish::<FMA>(w, block, params, &sums, relu, out);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, GROUP, Int8Dense, Int8Rows, finish};

    /// Runs `rows!(n)` for every chunk of `$most` rows or fewer, in every block of columns.
    macro_rules! over_rows {
        ($w:ident, $rows:ident, $relu:ident, $out:ident, $block:ident, [$($count:literal),*]) => {
            let most = [$($count),*][0];
            let blocks = $w.weights.chunks_exact($w.groups * BLOCK * GROUP);
            for (block, weights) in blocks.enumerate() {
                let mut row = 0;
                while row < $rows.params.len() {
                    let count = ($rows.params.len() - row).min(most);
                    match count {
                        $($count => $block::<$count>($w, $rows, weights, block, row, $relu, $out),)*
                        _ => {}
                    }
                    row += count;
                }
            }
        };
    }

    /// Eight rows at a time against 32 columns, sixteen sums in registers.
    #[target_feature(enable = "avx512f,avx512vl,avx512vnni,avx2,fma")]
    pub fn avx512vnni(w: &Int8Dense, rows: &Int8Rows, relu: bool, out: &mut [f32]) {
        over_rows!(w, rows, relu, out, block512, [8, 7, 6, 5, 4, 3, 2, 1]);
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512vnni,avx2,fma")]
    fn block512<const R: usize>(
        w: &Int8Dense,
        rows: &Int8Rows,
        weights: &[i8],
        block: usize,
        row: usize,
        relu: bool,
        out: &mut [f32],
    ) {
        let mut sums = [[_mm512_setzero_si512(); 2]; R];
        let (groups, _) = weights.as_chunks::<{ BLOCK * GROUP }>();
        let x: [&[i32]; R] =
            std::array::from_fn(|r| &rows.values[(row + r) * w.groups..][..groups.len()]);
        for (group, weights) in groups.iter().enumerate() {
            // SAFETY: a group of weights is 128 bytes, two whole vectors.
            let (low, high) = unsafe {
                let at = weights.as_ptr();
                (
                    _mm512_loadu_si512(at.cast()),
                    _mm512_loadu_si512(at.add(64).cast()),
                )
            };
            for (sums, x) in sums.iter_mut().zip(&x) {
                // SAFETY: each slice was cut to the number of groups above.
                let x = _mm512_set1_epi32(unsafe { *x.get_unchecked(group) });
                sums[0] = _mm512_dpbusd_epi32(sums[0], x, low);
                sums[1] = _mm512_dpbusd_epi32(sums[1], x, high);
            }
        }
        for (r, sums) in (row..).zip(&sums) {
            let mut stored = [0i32; BLOCK];
            for (part, sum) in stored.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
                // SAFETY: sixteen numbers of 32 bits are one whole vector.
                unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), *sum) };
            }
            let out = &mut out[r * w.outputs..(r + 1) * w.outputs][block * BLOCK..];
            finish::<true>(w, block, rows.params[r], &stored, relu, out);
        }
    }

    /// Three rows at a time against 32 columns, twelve sums in registers.
    #[target_feature(enable = "avxvnni,avx2,fma")]
    pub fn avxvnni(w: &Int8Dense, rows: &Int8Rows, relu: bool, out: &mut [f32]) {
        over_rows!(w, rows, relu, out, block256, [3, 2, 1]);
    }

    #[target_feature(enable = "avxvnni,avx2,fma")]
    fn block256<const R: usize>(
        w: &Int8Dense,
        rows: &Int8Rows,
        weights: &[i8],
        block: usize,
        row: usize,
        relu: bool,
        out: &mut [f32],
    ) {
        let mut sums = [[_mm256_setzero_si256(); 4]; R];
        let (groups, _) = weights.as_chunks::<{ BLOCK * GROUP }>();
        let x: [&[i32]; R] =
            std::array::from_fn(|r| &rows.values[(row + r) * w.groups..][..groups.len()]);
        for (group, weights) in groups.iter().enumerate() {
            for part in 0..4 {
                // SAFETY: a group of weights is 128 bytes, four whole vectors.
                let w = unsafe {
                    _mm256_loadu_si256(weights.as_ptr().add(part * 32).cast::<__m256i>())
                };
                for (sums, x) in sums.iter_mut().zip(&x) {
                    // SAFETY: each slice was cut to the number of groups above.
                    let x = _mm256_set1_epi32(unsafe { *x.get_unchecked(group) });
                    sums[part] = _mm256_dpbusd_avx_epi32(sums[part], x, w);
                }
            }
        }
        for (r, sums) in (row..).zip(&sums) {
            let mut stored = [0i32; BLOCK];
            for (part, sum) in stored.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
                // SAFETY: eight numbers of 32 bits are one whole vector.
                unsafe { _mm256_storeu_si256(part.as_mut_ptr().cast(), *sum) };
            }
            let out = &mut out[r * w.outputs..(r + 1) * w.outputs][block * BLOCK..];
            finish::<true>(w, block, rows.params[r], &stored, relu, out);
        }
    }

    /// One row at a time: no dot products of bytes here, so bytes are widened to 16 bits.
    #[target_feature(enable = "avx2,fma")]
    pub fn avx2(w: &Int8Dense, rows: &Int8Rows, relu: bool, out: &mut [f32]) {
        let blocks = w.weights.chunks_exact(w.groups * BLOCK * GROUP);
        for (block, weights) in blocks.enumerate() {
            let (groups, _) = weights.as_chunks::<{ BLOCK * GROUP }>();
            let values = rows.values.chunks_exact(w.groups).zip(&rows.params);
            for ((row, &params), out) in values.zip(out.chunks_exact_mut(w.outputs)) {
                let mut sums = [_mm256_setzero_si256(); 8];
                for (&x, weights) in row.iter().zip(groups) {
                    let x = _mm256_cvtepu8_epi16(_mm_set1_epi32(x));
                    for (part, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: a group of weights is 128 bytes, eight of 16.
                        let w = unsafe { _mm_loadu_si128(weights.as_ptr().add(part * 16).cast()) };
                        let products = _mm256_madd_epi16(x, _mm256_cvtepi8_epi16(w));
                        *sum = _mm256_add_epi32(*sum, products);
                    }
                }
                let mut stored = [0i32; BLOCK];
                let pairs = sums.as_chunks::<2>().0.iter();
                for (part, [low, high]) in stored.as_chunks_mut::<8>().0.iter_mut().zip(pairs) {
                    // Neighbouring sums belong to one column; adding them mixes up the quarters.
                    let mixed = _mm256_hadd_epi32(*low, *high);
                    let sum = _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed);
                    // SAFETY: eight numbers of 32 bits are one whole vector.
                    unsafe { _mm256_storeu_si256(part.as_mut_ptr().cast(), sum) };
                }
                finish::<true>(w, block, params, &stored, relu, &mut out[block * BLOCK..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights, their scales, bias and rows of one size.
    fn draw(rng: &mut fastrand::Rng, rows: usize, inputs: usize, outputs: usize) -> Case {
        Case {
            w: (0..inputs * outputs).map(|_| rng.i8(-127..=127)).collect(),
            scale: (0..outputs).map(|_| rng.f32() * 0.01 + 1e-4).collect(),
            bias: (0..outputs).map(|_| rng.f32() - 0.5).collect(),
            x: (0..rows * inputs).map(|_| rng.f32() * 6.0 - 2.0).collect(),
        }
    }

    struct Case {
        w: Vec<i8>,
        scale: Vec<f32>,
        bias: Vec<f32>,
        x: Vec<f32>,
    }

    const SIZES: [(usize, usize, usize); 5] = [
        (1, 1, 1),
        (3, 257, 64),
        (9, 32, 40),
        (6, 1024, 31),
        (11, 6, 521),
    ];

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let mut rng = fastrand::Rng::with_seed(3);
        for (rows, inputs, outputs) in SIZES {
            let case = draw(&mut rng, rows, inputs, outputs);
            let dense = Int8Dense::new(inputs, &case.w, &case.scale, &case.bias);
            for relu in [false, true] {
                let mut quantised = Int8Rows::default();
                let mut expected = vec![0.0; rows * outputs];
                dense.apply(&case.x, &mut quantised, relu, &mut expected);
                let mut plain = expected.clone();
                // On a machine that fuses, so does the fast form.
                if super::super::instruction_set() != "portable" {
                    dense_body::<true>(&dense, &quantised, relu, &mut plain);
                    assert_eq!(plain, expected, "plain twin, fused");
                }
                plain.fill(9.0);
                dense_plain(&dense, &quantised, relu, &mut plain);
                for (plain, expected) in plain.iter().zip(&expected) {
                    assert!((plain - expected).abs() <= expected.abs() * 1e-5 + 1e-5);
                }
                #[cfg(target_arch = "x86_64")]
                if super::super::has_avx2() && is_x86_feature_detected!("avxvnni") {
                    plain.fill(9.0);
                    // SAFETY: the processor was just asked for every feature that is enabled.
                    unsafe { x86::avxvnni(&dense, &quantised, relu, &mut plain) };
                    assert_eq!(plain, expected, "avxvnni");
                }
                #[cfg(target_arch = "x86_64")]
                if super::super::has_avx2() {
                    plain.fill(9.0);
                    // SAFETY: the same.
                    unsafe { x86::avx2(&dense, &quantised, relu, &mut plain) };
                    assert_eq!(plain, expected, "avx2");
                }
            }
        }
    }

    #[test]
    fn the_product_is_the_float_product_to_the_step_of_the_quantisation() {
        let mut rng = fastrand::Rng::with_seed(4);
        for (rows, inputs, outputs) in SIZES {
            let Case { w, scale, bias, x } = draw(&mut rng, rows, inputs, outputs);
            let dense = Int8Dense::new(inputs, &w, &scale, &bias);
            let mut out = vec![0.0; rows * outputs];
            dense.apply(&x, &mut Int8Rows::default(), false, &mut out);
            for (at, out) in out.iter().enumerate() {
                let (row, column) = (at / outputs, at % outputs);
                let (x, w) = (&x[row * inputs..], &w[column * inputs..]);
                let sum: f32 = (0..inputs).map(|i| x[i] * f32::from(w[i])).sum();
                let expected = sum * scale[column] + bias[column];
                // Half a step of 6/255 an input, all the same way at worst.
                let weights: f32 = (0..inputs).map(|i| f32::from(w[i]).abs()).sum();
                let most = weights * scale[column] * 0.5 * 6.0 / 255.0 + 1e-3;
                assert!((out - expected).abs() <= most, "{out} {expected} {most}");
            }
        }
    }

    #[test]
    fn zero_is_exact_and_odd_input_is_no_panic() {
        let dense = Int8Dense::new(4, &[100, -100, 50, 7], &[0.5], &[0.25]);
        let mut rows = Int8Rows::default();
        let mut out = [9.0; 3];
        let x = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -3.0];
        dense.apply(&x, &mut rows, false, &mut out);
        assert_eq!(out[..2], [0.25, 0.25]);
        assert!((out[2] + 3.0 * 3.5 - 0.25).abs() < 1e-4, "{out:?}");
        let odd = [f32::NAN, f32::INFINITY, f32::MIN, 1e-45].repeat(3);
        dense.apply(&odd, &mut rows, true, &mut out);
        dense.apply(&[], &mut rows, true, &mut []);
    }
}
