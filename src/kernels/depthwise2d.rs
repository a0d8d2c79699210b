//! Depthwise convolution over images `(height, width, channel)`, channels last, and what follows it in
//! the dynamic networks of EfficientAT.
//!
//! A call makes one row of the output, so that what follows is done while the row is in the cache.
//! Stride and zeros at the edges are the same in both directions, as in all MobileNets. The other
//! depthwise convolution of this house, [`super::depthwise`], is causal in time and can be trained.

use super::{kernel, mul_add};

/// What a convolution does to its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Channels.
    pub channels: usize,
    /// Taps in each direction.
    pub kernel: usize,
    /// Steps between outputs in each direction, at least 1.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
}

impl Geometry {
    /// Outputs along a side of the image of `size`; 0 where it is too small.
    pub fn out_size(&self, size: usize) -> usize {
        (size + 2 * self.padding)
            .checked_sub(self.kernel)
            .map_or(0, |rest| rest / self.stride + 1)
    }

    /// The taps of output `out` that lie inside an image side of `size`.
    #[inline(always)]
    fn taps(&self, out: usize, size: usize) -> std::ops::Range<usize> {
        let start = out * self.stride;
        let first = self.padding.saturating_sub(start);
        first..(size + self.padding).saturating_sub(start).min(self.kernel)
    }
}

kernel! {
    /// Row `row` of the output, `out (out_width, channels)`, of an image `x (height, width, channels)`
    /// with weights `w (kernel * kernel, channels)` and `bias (channels)`.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn convolve_row(geometry: &Geometry, width: usize, row: usize, x: &[f32], w: &[f32], bias: &[f32], out: &mut [f32]) = convolve_row_body
}

#[inline(always)]
fn convolve_row_body<const FMA: bool>(
    geometry: &Geometry,
    width: usize,
    row: usize,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    out: &mut [f32],
) {
    let channels = geometry.channels;
    let lines = geometry.taps(row, x.len() / (width * channels));
    for (column, out) in out.chunks_exact_mut(channels).enumerate() {
        let columns = geometry.taps(column, width);
        let taps = Taps {
            // Where the first tap would lie, were it inside; only sums with taps inside are used.
            lines: lines.clone(),
            columns,
            origin: (row * geometry.stride, column * geometry.stride),
            padding: geometry.padding,
            kernel: geometry.kernel,
            width,
            channels,
        };
        let mut at = 0;
        while at + 16 <= channels {
            taps.lanes::<FMA, 16>(at, x, w, bias, out);
            at += 16;
        }
        while at + 8 <= channels {
            taps.lanes::<FMA, 8>(at, x, w, bias, out);
            at += 8;
        }
        while at < channels {
            taps.lanes::<FMA, 1>(at, x, w, bias, out);
            at += 1;
        }
    }
}

/// What one output sees.
struct Taps {
    lines: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    origin: (usize, usize),
    padding: usize,
    kernel: usize,
    width: usize,
    channels: usize,
}

impl Taps {
    /// Channels `at .. at + N` of one output.
    #[inline(always)]
    fn lanes<const FMA: bool, const N: usize>(
        &self,
        at: usize,
        x: &[f32],
        w: &[f32],
        bias: &[f32],
        out: &mut [f32],
    ) {
        let mut sums = [0.0; N];
        sums.copy_from_slice(&bias[at..at + N]);
        for line in self.lines.clone() {
            let image_line = (self.origin.0 + line - self.padding) * self.width;
            for column in self.columns.clone() {
                let pixel = image_line + self.origin.1 + column - self.padding;
                let seen = &x[pixel * self.channels + at..][..N];
                let weights = &w[(line * self.kernel + column) * self.channels + at..][..N];
                for lane in 0..N {
                    sums[lane] = mul_add::<FMA>(seen[lane], weights[lane], sums[lane]);
                }
            }
        }
        out[at..at + N].copy_from_slice(&sums);
    }
}

/// The larger of two lines in every channel, and a weight for every channel of a line and of a
/// column of the image; see [`dynamic_row`].
#[derive(Debug, Clone, Copy)]
pub struct Dynamic<'a> {
    /// `(2, channels)`.
    pub slopes: &'a [f32],
    /// `(2, channels)`.
    pub offsets: &'a [f32],
    /// Of this row, `(channels)`.
    pub row_weights: &'a [f32],
    /// Of every column, `(width, channels)`.
    pub column_weights: &'a [f32],
}

kernel! {
    /// `values (width, channels)` to `max(slope0 x + offset0, slope1 x + offset1)` times the weights:
    /// dynamic ReLU B (Chen et al., *Dynamic ReLU*, 2020), then coordinate attention (Hou et al.,
    /// 2021).
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn dynamic_row(dynamic: Dynamic<'_>, values: &mut [f32]) = dynamic_row_body
}

#[inline(always)]
fn dynamic_row_body<const FMA: bool>(dynamic: Dynamic<'_>, values: &mut [f32]) {
    let channels = dynamic.row_weights.len();
    let (slope0, slope1) = dynamic.slopes.split_at(channels);
    let (offset0, offset1) = dynamic.offsets.split_at(channels);
    let (slope1, offset1) = (&slope1[..channels], &offset1[..channels]);
    let row_weights = &dynamic.row_weights[..channels];
    for (values, weights) in values
        .chunks_exact_mut(channels)
        .zip(dynamic.column_weights.chunks_exact(channels))
    {
        for c in 0..channels {
            let a = mul_add::<FMA>(values[c], slope0[c], offset0[c]);
            let b = mul_add::<FMA>(values[c], slope1[c], offset1[c]);
            let most = if a > b { a } else { b };
            values[c] = most * row_weights[c] * weights[c];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(rng: &mut fastrand::Rng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.f32() - 0.5).collect()
    }

    /// One output row by the definition, one multiply at a time.
    fn defined(g: &Geometry, width: usize, row: usize, x: &[f32], w: &[f32]) -> Vec<f32> {
        let (c, height) = (g.channels, x.len() / (width * g.channels));
        let mut out = vec![0.0; g.out_size(width) * c];
        for (i, out) in out.iter_mut().enumerate() {
            let (column, channel) = (i / c, i % c);
            for tap in 0..g.kernel * g.kernel {
                let y = (row * g.stride + tap / g.kernel).wrapping_sub(g.padding);
                let z = (column * g.stride + tap % g.kernel).wrapping_sub(g.padding);
                if y < height && z < width {
                    *out += x[(y * width + z) * c + channel] * w[tap * c + channel];
                }
            }
        }
        out
    }

    #[test]
    fn rows_equal_the_definition_and_the_plain_twin() {
        let mut rng = fastrand::Rng::with_seed(3);
        for (channels, kernel, stride, padding, height, width) in [
            (8, 3, 1, 1, 5, 7),
            (24, 3, 2, 1, 6, 9),
            (41, 5, 1, 2, 4, 3),
            (16, 5, 2, 2, 1, 1),
            (3, 3, 1, 0, 4, 4),
        ] {
            let g = Geometry {
                channels,
                kernel,
                stride,
                padding,
            };
            let x = draw(&mut rng, height * width * channels);
            let w = draw(&mut rng, kernel * kernel * channels);
            let bias = draw(&mut rng, channels);
            assert!(g.out_size(height) > 0);
            for row in 0..g.out_size(height) {
                let mut fast = vec![f32::NAN; g.out_size(width) * channels];
                let mut plain = fast.clone();
                convolve_row(&g, width, row, &x, &w, &bias, &mut fast);
                convolve_row_body::<false>(&g, width, row, &x, &w, &bias, &mut plain);
                let expected = defined(&g, width, row, &x, &w);
                for (i, expected) in expected.iter().enumerate() {
                    let expected = expected + bias[i % channels];
                    assert!((fast[i] - expected).abs() < 1e-5, "{g:?} row {row}");
                    assert!((plain[i] - expected).abs() < 1e-5, "{g:?} row {row}");
                }
            }
        }
        let g = Geometry {
            channels: 1,
            kernel: 5,
            stride: 1,
            padding: 1,
        };
        assert_eq!([g.out_size(0), g.out_size(2), g.out_size(3)], [0, 0, 1]);
    }

    #[test]
    fn a_dynamic_row_equals_its_plain_twin_and_its_definition() {
        let mut rng = fastrand::Rng::with_seed(4);
        let (channels, width) = (24, 5);
        let (slopes, offsets) = (draw(&mut rng, 48), draw(&mut rng, 48));
        let (row_weights, column_weights) = (draw(&mut rng, 24), draw(&mut rng, 120));
        let x = draw(&mut rng, channels * width);
        let dynamic = Dynamic {
            slopes: &slopes,
            offsets: &offsets,
            row_weights: &row_weights,
            column_weights: &column_weights,
        };
        let (mut fast, mut plain) = (x.clone(), x.clone());
        dynamic_row(dynamic, &mut fast);
        dynamic_row_body::<false>(dynamic, &mut plain);
        for (i, x) in x.iter().enumerate() {
            let c = i % channels;
            let lines = [c, c + channels].map(|c| x * slopes[c] + offsets[c]);
            let expected = lines[0].max(lines[1]) * row_weights[c] * column_weights[i];
            assert!((fast[i] - expected).abs() < 1e-6);
            assert!((plain[i] - expected).abs() < 1e-6);
        }
    }
}
