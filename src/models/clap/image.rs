//! A spectrogram folded into a square image, as `reshape_mel2img` of transformers 5.23 does it: time
//! is stretched to fill the image, cut into strips, and the strips stand below each other with the
//! lowest band of each at its top.

use rayon::prelude::*;

/// The four frames around every frame of the stretched spectrogram, and what each of them counts.
pub(super) struct Stretch {
    /// The frame before each place.
    frames: Vec<(usize, [f32; 4])>,
    /// Frames of the spectrogram.
    length: usize,
}

/// Keys' cubic convolution with `a = -0.75`, which is PyTorch's: near the middle and farther out.
fn near(x: f32) -> f32 {
    ((-0.75 + 2.0) * x - (-0.75 + 3.0)) * x * x + 1.0
}

fn far(x: f32) -> f32 {
    ((-0.75 * x - 5.0 * -0.75) * x + 8.0 * -0.75) * x - 4.0 * -0.75
}

impl Stretch {
    /// From `length` frames to `stretched`, first on first and last on last, as
    /// `torch.nn.functional.interpolate(mode="bicubic", align_corners=True)` has it.
    pub(super) fn new(length: usize, stretched: usize) -> Self {
        // Places in f32 as in torch: among a thousand frames their roundoff shows.
        let scale = match stretched {
            0 | 1 => 0.0,
            _ => length.saturating_sub(1) as f32 / (stretched - 1) as f32,
        };
        let frames = (0..stretched).map(|frame| {
            let place = scale * frame as f32;
            let before = (place.floor() as usize).min(length.saturating_sub(1));
            let t = (place - before as f32).clamp(0.0, 1.0);
            let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
            (before, weights)
        });
        Stretch {
            frames: frames.collect(),
            length,
        }
    }

    /// Folds a spectrogram `(frames, bins)` into an image `(bins strips, stretched frames / strips)`.
    pub(super) fn fold(&self, mel: &[f32], bins: usize, strips: usize) -> Vec<f32> {
        let width = self.frames.len() / strips.max(1);
        let mut image = vec![0.0; bins * strips * width];
        if width == 0 || self.length == 0 {
            return image;
        }
        let last = self.length - 1;
        image
            .par_chunks_exact_mut(bins * width)
            .zip(self.frames.par_chunks_exact(width))
            .for_each(|(strip, frames)| {
                for (column, &(before, weights)) in frames.iter().enumerate() {
                    let row = |offset: usize| {
                        let frame = (before + offset).saturating_sub(1).min(last);
                        &mel[frame * bins..(frame + 1) * bins]
                    };
                    let rows = [row(0), row(1), row(2), row(3)];
                    for bin in 0..bins {
                        strip[bin * width + column] = rows
                            .iter()
                            .zip(weights)
                            .map(|(row, weight)| row[bin] * weight)
                            .sum();
                    }
                }
            });
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_already_is_only_folded() {
        // Four frames of two bands in two strips.
        let mel: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let image = Stretch::new(4, 4).fold(&mel, 2, 2);
        assert_eq!(image, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn stretching_is_torchs_bicubic() {
        // torch.nn.functional.interpolate(torch.tensor([1., 4., 2., 8.])[None, None, :, None], (7, 1),
        // mode="bicubic", align_corners=True)
        let expected = [1.0, 2.6875, 4.0, 2.71875, 2.0, 4.8125, 8.0];
        let got = Stretch::new(4, 7).fold(&[1.0, 4.0, 2.0, 8.0], 1, 1);
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }
}
