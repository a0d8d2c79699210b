//! Depthwise convolution over `(time, frequency, channel)`, channels last: one kernel a channel.
//!
//! Time is causal (padding before the first frame alone), frequency is padded by the caller's
//! choice; the same row kernel serves the per-frame form (one output frame at a time) and, over the
//! batch, training with both gradients.

use super::{kernel, mul_add};

/// What a depthwise convolution does to its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Kernel length in frames and in frequency positions.
    pub kernel: (usize, usize),
    /// Stride in frames and in frequency positions.
    pub stride: (usize, usize),
    /// Distance between the kernel's frames.
    pub dilation: usize,
    /// Zeros before the first (and after the last) frequency position.
    pub pad_freq: usize,
}

impl Geometry {
    /// Frequency positions of the output for `freqs` of the input.
    pub fn out_freqs(&self, freqs: usize) -> usize {
        (freqs + 2 * self.pad_freq).saturating_sub(self.kernel.1) / self.stride.1 + 1
    }

    /// Frames of the output for `frames` of the input: one for every `stride` frames that began.
    ///
    /// Output `t` sees input frames up to and including `t * stride + (stride - 1)`, so that the
    /// last frame of a full stride is the newest one in view.
    pub fn out_frames(&self, frames: usize) -> usize {
        frames / self.stride.0
    }

    /// The input frame that tap `tap` of output frame `out` sees; `None` before the first one.
    pub fn input_frame(&self, out: usize, tap: usize) -> Option<usize> {
        let newest = out * self.stride.0 + self.stride.0 - 1;
        newest.checked_sub((self.kernel.0 - 1 - tap) * self.dilation)
    }

    /// Output positions that frequency tap `tap` serves, as a range.
    fn served(&self, tap: usize, freqs: usize, out_freqs: usize) -> std::ops::Range<usize> {
        let first = self.pad_freq.saturating_sub(tap).div_ceil(self.stride.1);
        let end = (freqs + self.pad_freq)
            .saturating_sub(tap)
            .div_ceil(self.stride.1);
        first.min(out_freqs)..end.min(out_freqs)
    }
}

kernel! {
    /// Adds one input frame `x (freqs, channels)` through the weights of one time tap
    /// `w (kernel_freq, channels)` to the output frame `out (out_freqs, channels)`. Real-time safe.
    pub fn accumulate(geometry: &Geometry, channels: usize, x: &[f32], w: &[f32], out: &mut [f32]) = accumulate_body
}

kernel! {
    /// The gradient of [`accumulate`] in its input: adds to `grad_x (freqs, channels)`.
    pub fn accumulate_grad_x(geometry: &Geometry, channels: usize, grad_out: &[f32], w: &[f32], grad_x: &mut [f32]) = grad_x_body
}

kernel! {
    /// The gradient of [`accumulate`] in its weights: adds to `grad_w (kernel_freq, channels)`.
    pub fn accumulate_grad_w(geometry: &Geometry, channels: usize, x: &[f32], grad_out: &[f32], grad_w: &mut [f32]) = grad_w_body
}

/// `out += a * b`, element by element.
#[inline(always)]
fn add_product<const FMA: bool>(out: &mut [f32], a: &[f32], b: &[f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = mul_add::<FMA>(*a, *b, *out);
    }
}

#[inline(always)]
fn at(index: usize, channels: usize) -> std::ops::Range<usize> {
    index * channels..(index + 1) * channels
}

#[inline(always)]
fn accumulate_body<const FMA: bool>(
    geometry: &Geometry,
    channels: usize,
    x: &[f32],
    w: &[f32],
    out: &mut [f32],
) {
    let (freqs, out_freqs) = (x.len() / channels, out.len() / channels);
    for tap in 0..geometry.kernel.1 {
        let w = &w[at(tap, channels)];
        for f in geometry.served(tap, freqs, out_freqs) {
            let from = f * geometry.stride.1 + tap - geometry.pad_freq;
            add_product::<FMA>(&mut out[at(f, channels)], &x[at(from, channels)], w);
        }
    }
}

#[inline(always)]
fn grad_x_body<const FMA: bool>(
    geometry: &Geometry,
    channels: usize,
    grad_out: &[f32],
    w: &[f32],
    grad_x: &mut [f32],
) {
    let (freqs, out_freqs) = (grad_x.len() / channels, grad_out.len() / channels);
    for tap in 0..geometry.kernel.1 {
        let w = &w[at(tap, channels)];
        for f in geometry.served(tap, freqs, out_freqs) {
            let from = f * geometry.stride.1 + tap - geometry.pad_freq;
            add_product::<FMA>(
                &mut grad_x[at(from, channels)],
                &grad_out[at(f, channels)],
                w,
            );
        }
    }
}

#[inline(always)]
fn grad_w_body<const FMA: bool>(
    geometry: &Geometry,
    channels: usize,
    x: &[f32],
    grad_out: &[f32],
    grad_w: &mut [f32],
) {
    let (freqs, out_freqs) = (x.len() / channels, grad_out.len() / channels);
    for tap in 0..geometry.kernel.1 {
        let grad_w = &mut grad_w[at(tap, channels)];
        for f in geometry.served(tap, freqs, out_freqs) {
            let from = f * geometry.stride.1 + tap - geometry.pad_freq;
            add_product::<FMA>(grad_w, &x[at(from, channels)], &grad_out[at(f, channels)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [(Geometry, usize, usize); 4] = [
        (
            Geometry {
                kernel: (1, 3),
                stride: (1, 1),
                dilation: 1,
                pad_freq: 1,
            },
            8,
            5,
        ),
        (
            Geometry {
                kernel: (1, 3),
                stride: (1, 2),
                dilation: 1,
                pad_freq: 1,
            },
            16,
            24,
        ),
        (
            Geometry {
                kernel: (1, 4),
                stride: (1, 4),
                dilation: 1,
                pad_freq: 0,
            },
            4,
            17,
        ),
        (
            Geometry {
                kernel: (1, 1),
                stride: (1, 1),
                dilation: 1,
                pad_freq: 0,
            },
            1,
            96,
        ),
    ];

    /// `(grad of x, grad of w)` and output by the definition, one multiply at a time.
    fn defined(g: &Geometry, c: usize, x: &[f32], w: &[f32], go: &[f32]) -> [Vec<f32>; 3] {
        let freqs = x.len() / c;
        let out_freqs = g.out_freqs(freqs);
        let mut all = [
            vec![0.0; out_freqs * c],
            vec![0.0; x.len()],
            vec![0.0; w.len()],
        ];
        for f in 0..out_freqs {
            for tap in 0..g.kernel.1 {
                let Some(from) = (f * g.stride.1 + tap)
                    .checked_sub(g.pad_freq)
                    .filter(|&i| i < freqs)
                else {
                    continue;
                };
                for ch in 0..c {
                    all[0][f * c + ch] += x[from * c + ch] * w[tap * c + ch];
                    all[1][from * c + ch] += go[f * c + ch] * w[tap * c + ch];
                    all[2][tap * c + ch] += go[f * c + ch] * x[from * c + ch];
                }
            }
        }
        all
    }

    #[test]
    fn output_and_gradients_equal_the_definition_and_the_plain_twins() {
        let mut rng = fastrand::Rng::with_seed(2);
        for (g, freqs, c) in CASES {
            let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.f32() - 0.5).collect() };
            let (x, w, go) = (
                draw(freqs * c),
                draw(g.kernel.1 * c),
                draw(g.out_freqs(freqs) * c),
            );
            let expected = defined(&g, c, &x, &w, &go);
            let zeros = || [vec![0.0; go.len()], vec![0.0; x.len()], vec![0.0; w.len()]];
            let (mut fast, mut plain) = (zeros(), zeros());
            accumulate(&g, c, &x, &w, &mut fast[0]);
            accumulate_grad_x(&g, c, &go, &w, &mut fast[1]);
            accumulate_grad_w(&g, c, &x, &go, &mut fast[2]);
            accumulate_body::<false>(&g, c, &x, &w, &mut plain[0]);
            grad_x_body::<false>(&g, c, &go, &w, &mut plain[1]);
            grad_w_body::<false>(&g, c, &x, &go, &mut plain[2]);
            for part in 0..3 {
                for (i, expected) in expected[part].iter().enumerate() {
                    assert!((fast[part][i] - expected).abs() < 1e-5, "{g:?} part {part}");
                    assert!(
                        (plain[part][i] - expected).abs() < 1e-5,
                        "{g:?} part {part}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_strided_output_sees_the_newest_frame_last() {
        let g = Geometry {
            kernel: (3, 1),
            stride: (2, 1),
            dilation: 2,
            pad_freq: 0,
        };
        assert_eq!(g.out_frames(7), 3);
        assert_eq!(
            [0, 1, 2].map(|tap| g.input_frame(1, tap)),
            [None, Some(1), Some(3)]
        );
    }
}
