//! Convolutions of 3 by 3 over an image `(height, width, channels)`, channels last, as many outputs
//! as strides begin in the input (TensorFlow's `SAME`: zeros around it, the odd one behind).
//!
//! Sums run in the order of XNNPACK's kernels (google/XNNPACK 028aae4), bias first and every product
//! fused, so that they round alike: taps row by row in the full convolution (`f32-igemm`), column by
//! column in the depthwise one (`f32-dwconv`).

use super::{kernel, mul_add};

/// Channels that are accumulated in registers at a time: two vectors of AVX-512. Channels must be a
/// multiple of it.
pub const BLOCK: usize = 32;

/// Size of the input of a convolution, and its stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values at each place.
    pub channels: usize,
    /// Stride both ways.
    pub stride: usize,
}

impl Image {
    /// Rows and columns of the output.
    pub fn out(&self) -> (usize, usize) {
        (
            self.height.div_ceil(self.stride),
            self.width.div_ceil(self.stride),
        )
    }

    /// Zeros before the first row (`length` rows) or column.
    #[inline(always)]
    fn before(&self, length: usize) -> usize {
        let outputs = length.div_ceil(self.stride);
        ((outputs.max(1) - 1) * self.stride + 3).saturating_sub(length) / 2
    }

    /// The three input places that output `out` sees, with those that lie in the image.
    #[inline(always)]
    fn taps(&self, out: usize, length: usize) -> (isize, std::ops::Range<usize>) {
        let first = (out * self.stride) as isize - self.before(length) as isize;
        let begin = (-first).clamp(0, 3) as usize;
        let end = (length as isize - first).clamp(0, 3) as usize;
        (first, begin..end)
    }
}

/// What becomes of the sum of a depthwise convolution.
#[derive(Debug, Clone, Copy)]
pub enum After<'a> {
    /// It started from this bias `(channels)`; negative is cut to 0.
    Bias(&'a [f32]),
    /// It is `sum * scale (channels) * input + bias (channels)`, each step rounded, negative cut
    /// to 0: TensorFlow Lite's `DepthwiseConvHybridGeneral`, where sums of integers are exact.
    Scaled {
        /// Scale of the weights.
        scale: &'a [f32],
        /// Scale of the input.
        input: f32,
        /// Added last.
        bias: &'a [f32],
    },
}

kernel! {
    /// Full convolution of an image with one channel: `x (height, width)`, weights
    /// `(3, 3, channels of the output)`, negative cut to 0. Real-time safe.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn first(image: &Image, x: &[f32], w: &[f32], bias: &[f32], out: &mut [f32]) = first_body
}

kernel! {
    /// Depthwise convolution: `x (height, width, channels)`, weights `(3, 3, channels)`.
    /// Real-time safe.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn depthwise(image: &Image, x: &[f32], w: &[f32], after: After<'_>, out: &mut [f32]) = depthwise_body
}

kernel! {
    /// Rounds `x` in place to integers between its smallest and its largest value, zero staying
    /// zero, and gives the size of a step: TensorFlow Lite's `NeonAsymmetricQuantizeFloats`, which
    /// its builtin kernels run on x86 as well (tensorflow/tensorflow,
    /// `tensorflow/lite/kernels/internal/optimized/neon_tensor_utils.cc`), less the zero point.
    pub fn quantise(x: &mut [f32], step: &mut f32) = quantise_body
}

#[inline(always)]
fn block(values: &[f32], at: usize) -> &[f32; BLOCK] {
    values[at..].first_chunk().unwrap_or(&[0.0; BLOCK])
}

#[inline(always)]
fn first_body<const FMA: bool>(image: &Image, x: &[f32], w: &[f32], bias: &[f32], out: &mut [f32]) {
    let channels = bias.len();
    let (rows, columns) = image.out();
    assert!(
        x.len() == image.height * image.width
            && w.len() == 9 * channels
            && out.len() == rows * columns * channels
            && channels.is_multiple_of(BLOCK),
        "conv3x3::first: lengths do not fit"
    );
    for at in (0..channels).step_by(BLOCK) {
        let w: [&[f32; BLOCK]; 9] = std::array::from_fn(|tap| block(w, tap * channels + at));
        for row in 0..rows {
            let (top, down) = image.taps(row, image.height);
            for column in 0..columns {
                let (left, across) = image.taps(column, image.width);
                let mut sum = *block(bias, at);
                for ty in down.clone() {
                    let line = (top + ty as isize) as usize * image.width;
                    for tx in across.clone() {
                        let x = x[line + (left + tx as isize) as usize];
                        for (sum, w) in sum.iter_mut().zip(w[ty * 3 + tx]) {
                            *sum = mul_add::<FMA>(x, *w, *sum);
                        }
                    }
                }
                let to = (row * columns + column) * channels + at;
                for (out, sum) in out[to..to + BLOCK].iter_mut().zip(sum) {
                    *out = if sum > 0.0 { sum } else { 0.0 };
                }
            }
        }
    }
}

#[inline(always)]
fn depthwise_body<const FMA: bool>(
    image: &Image,
    x: &[f32],
    w: &[f32],
    after: After<'_>,
    out: &mut [f32],
) {
    let channels = image.channels;
    let (rows, columns) = image.out();
    assert!(
        x.len() == image.height * image.width * channels
            && w.len() == 9 * channels
            && out.len() == rows * columns * channels
            && channels.is_multiple_of(BLOCK),
        "conv3x3::depthwise: lengths do not fit"
    );
    for row in 0..rows {
        let (top, down) = image.taps(row, image.height);
        for column in 0..columns {
            let (left, across) = image.taps(column, image.width);
            let to = (row * columns + column) * channels;
            for at in (0..channels).step_by(BLOCK) {
                let mut sum = match after {
                    After::Bias(bias) => *block(bias, at),
                    After::Scaled { .. } => [0.0; BLOCK],
                };
                for tx in across.clone() {
                    let column = (left + tx as isize) as usize;
                    for ty in down.clone() {
                        let from = (top + ty as isize) as usize * image.width + column;
                        let x = block(x, from * channels + at);
                        let w = block(w, (ty * 3 + tx) * channels + at);
                        for ((sum, x), w) in sum.iter_mut().zip(x).zip(w) {
                            *sum = mul_add::<FMA>(*x, *w, *sum);
                        }
                    }
                }
                if let After::Scaled { scale, input, bias } = after {
                    let parts = block(scale, at).iter().zip(block(bias, at));
                    for (sum, (scale, bias)) in sum.iter_mut().zip(parts) {
                        *sum = *sum * scale * input + bias;
                    }
                }
                for (out, sum) in out[to + at..][..BLOCK].iter_mut().zip(sum) {
                    *out = if sum > 0.0 { sum } else { 0.0 };
                }
            }
        }
    }
}

#[inline(always)]
fn quantise_body<const FMA: bool>(x: &mut [f32], step: &mut f32) {
    let (low, high) = super::int8::range(x);
    if low == high {
        x.fill(0.0);
        *step = 1.0;
        return;
    }
    let scale = f64::from(high - low) / 255.0;
    let (low, high) = (f64::from(low) / scale, f64::from(high) / scale);
    let zero = if 128.0 + low.abs() < 127.0 + high.abs() {
        -128.0 - low
    } else {
        127.0 - high
    };
    let zero = zero.clamp(-128.0, 127.0).round() as f32;
    *step = scale as f32;
    let factor = (1.0 / f64::from(*step)) as f32;
    let (least, most) = (-128.0 - zero, 127.0 - zero);
    for x in x {
        let value = *x * factor;
        let value = (value + 0.5f32.copysign(value)).trunc();
        let value = if value < most { value } else { most };
        *x = if value > least { value } else { least };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(rng: &mut fastrand::Rng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.f32() - 0.5).collect()
    }

    /// The input place that tap `tap` of output `out` sees, by TensorFlow's definition of `SAME`.
    fn place(out: usize, tap: usize, stride: usize, length: usize) -> Option<usize> {
        let all = ((length.div_ceil(stride) - 1) * stride + 3).saturating_sub(length);
        (out * stride + tap)
            .checked_sub(all / 2)
            .filter(|&at| at < length)
    }

    const IMAGES: [Image; 4] = [
        image(6, 4, 32, 1),
        image(6, 4, 64, 2),
        image(5, 3, 32, 2),
        image(1, 1, 32, 1),
    ];

    const fn image(height: usize, width: usize, channels: usize, stride: usize) -> Image {
        Image {
            height,
            width,
            channels,
            stride,
        }
    }

    #[test]
    fn both_convolutions_equal_the_definition_and_their_plain_twins() {
        let mut rng = fastrand::Rng::with_seed(5);
        for image in IMAGES {
            let Image {
                height,
                width,
                channels,
                stride,
            } = image;
            let (rows, columns) = image.out();
            let (w, bias) = (draw(&mut rng, 9 * channels), draw(&mut rng, channels));
            let x = draw(&mut rng, height * width * channels);
            let flat = draw(&mut rng, height * width);
            let size = rows * columns * channels;
            let mut out = [(); 6].map(|()| vec![9.0; size]);
            let scaled = After::Scaled {
                scale: &bias,
                input: 0.5,
                bias: &bias,
            };
            first(&image, &flat, &w, &bias, &mut out[0]);
            first_body::<false>(&image, &flat, &w, &bias, &mut out[1]);
            depthwise(&image, &x, &w, After::Bias(&bias), &mut out[2]);
            depthwise_body::<false>(&image, &x, &w, After::Bias(&bias), &mut out[3]);
            depthwise(&image, &x, &w, scaled, &mut out[4]);
            depthwise_body::<false>(&image, &x, &w, scaled, &mut out[5]);
            let mut expected = [(); 3].map(|()| Vec::with_capacity(size));
            for at in 0..size {
                let (place_at, channel) = (at / channels, at % channels);
                let (row, column) = (place_at / columns, place_at % columns);
                let (mut full, mut deep) = (0.0, 0.0);
                for tap in 0..9 {
                    let from = place(row, tap / 3, stride, height).zip(place(
                        column,
                        tap % 3,
                        stride,
                        width,
                    ));
                    if let Some((y, x_at)) = from {
                        let w = w[tap * channels + channel];
                        full += flat[y * width + x_at] * w;
                        deep += x[(y * width + x_at) * channels + channel] * w;
                    }
                }
                let bias = bias[channel];
                let sums = [full + bias, deep + bias, deep * bias * 0.5 + bias];
                for (expected, sum) in expected.iter_mut().zip(sums) {
                    expected.push(f32::max(sum, 0.0));
                }
            }
            for (at, out) in out.iter().enumerate() {
                for (out, expected) in out.iter().zip(&expected[at / 2]) {
                    assert!((out - expected).abs() < 1e-5, "{image:?} form {at}");
                }
            }
        }
    }

    #[test]
    fn steps_are_whole_and_zero_stays_zero() {
        let check = |x: &[f32], expected: &[f32], expected_step: f32| {
            let (mut fast, mut plain) = (x.to_vec(), x.to_vec());
            let (mut step, mut plain_step) = (0.0, 0.0);
            quantise(&mut fast, &mut step);
            quantise_body::<false>(&mut plain, &mut plain_step);
            assert_eq!(fast, expected);
            assert_eq!(plain, expected);
            assert_eq!((step, plain_step), (expected_step, expected_step));
        };
        check(&[0.0, 2.55, 1.0, 0.004], &[0.0, 255.0, 100.0, 0.0], 0.01);
        check(&[0.0, 0.0], &[0.0, 0.0], 1.0);
        // Halves go away from zero; the zero point of an odd range is a whole step.
        check(
            &[-1.0, 254.0, 0.5, 1.5, -0.5],
            &[-1.0, 254.0, 1.0, 2.0, -1.0],
            1.0,
        );
        let mut odd = [f32::NAN, f32::INFINITY, -1.0];
        quantise(&mut odd, &mut 0.0);
        quantise(&mut [], &mut 0.0);
    }
}
