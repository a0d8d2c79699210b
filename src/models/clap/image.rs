//! A spectrogram folded into a square image, as `reshape_mel2img` of transformers 5.23 does it: time
//! is stretched to fill the image, cut into strips, and the strips stand below each other with the
//! lowest band of each at its top.

use std::ops::Range;

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use crate::nn::layers::function::{Backward, Function, Output, View, call1};

/// Some spectrograms of `mels (views, frames, bins)`, those of `chosen`, as images `(chosen, stretched
/// frames * bins / width, width, 1)` in `strips` strips.
///
/// # Errors
/// When the shape is another or a view is not there.
pub(super) fn images(
    mels: &Tensor,
    chosen: Vec<usize>,
    stretched: usize,
    strips: usize,
) -> Result<Tensor> {
    let (_, frames, _) = mels.dims3()?;
    let stretch = Stretch::new(frames, stretched);
    let fold = Fold {
        stretch,
        chosen,
        strips,
    };
    call1(fold, mels)
}

/// The folding of some views as a function.
struct Fold {
    stretch: Stretch,
    chosen: Vec<usize>,
    strips: usize,
}

impl Fold {
    /// Where each chosen view lies, and its bins.
    fn views(&self, dims: &[usize]) -> Result<(Vec<Range<usize>>, usize)> {
        match *dims {
            [views, frames, bins]
                if frames == self.stretch.length && self.chosen.iter().all(|at| *at < views) =>
            {
                let size = frames * bins;
                let range = |&view: &usize| view * size..(view + 1) * size;
                Ok((self.chosen.iter().map(range).collect(), bins))
            }
            _ => Err(Error::Msg(format!(
                "CLAP: expected views of {} frames, among them {:?}, got {dims:?}",
                self.stretch.length, self.chosen
            ))),
        }
    }
}

impl Function<1> for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn forward(&self, [mels]: [View; 1]) -> Output {
        let (views, bins) = self.views(mels.dims)?;
        let images: Vec<f32> = views
            .into_iter()
            .flat_map(|view| self.stretch.fold(&mels.values[view], bins, self.strips))
            .collect();
        let width = self.stretch.frames.len() / self.strips.max(1);
        let shape = (self.chosen.len(), bins * self.strips, width, 1);
        Ok((images, shape.into()))
    }

    fn backward(&self, at: Backward<1>) -> Result<[Option<Vec<f32>>; 1]> {
        let [mels] = at.x;
        let (views, bins) = self.views(mels.dims)?;
        let mut grad = vec![0.0; mels.values.len()];
        let size = at.grad.len() / views.len().max(1);
        for (view, image) in views.into_iter().zip(at.grad.chunks_exact(size.max(1))) {
            self.stretch
                .unfold(image, bins, self.strips, &mut grad[view]);
        }
        Ok([Some(grad)])
    }
}

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
                    let rows = around(before, last).map(|at| &mel[at * bins..(at + 1) * bins]);
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

    /// Adds the gradient of a folded image to that of its spectrogram, which has the shape of `mel` in
    /// [`Stretch::fold`].
    fn unfold(&self, image: &[f32], bins: usize, strips: usize, mel: &mut [f32]) {
        let width = self.frames.len() / strips.max(1);
        if width == 0 || self.length == 0 {
            return;
        }
        for (strip, frames) in image
            .chunks_exact(bins * width)
            .zip(self.frames.chunks_exact(width))
        {
            for (column, &(before, weights)) in frames.iter().enumerate() {
                for (at, weight) in around(before, self.length - 1).into_iter().zip(weights) {
                    for (bin, value) in mel[at * bins..(at + 1) * bins].iter_mut().enumerate() {
                        *value += strip[bin * width + column] * weight;
                    }
                }
            }
        }
    }
}

/// The four frames around a place behind the frame `before`, of which `last` is the last.
fn around(before: usize, last: usize) -> [usize; 4] {
    [0, 1, 2, 3].map(|offset| (before + offset).saturating_sub(1).min(last))
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

    #[test]
    fn gradients_go_back_to_the_frames_that_an_image_was_made_of() {
        // The fold is linear: its gradient is the sum of what every value adds.
        let mels = Tensor::zeros(
            (3, 5, 2),
            candle_core::DType::F32,
            &candle_core::Device::Cpu,
        );
        let var = candle_core::Var::from_tensor(&mels.unwrap()).unwrap();
        let image = images(&var, vec![2, 0], 8, 4).unwrap();
        assert_eq!(image.dims(), [2, 8, 2, 1]);
        let weight = Tensor::arange(0f32, 32.0, image.device()).unwrap();
        let weight = weight.reshape(image.shape()).unwrap();
        let grads = (image * &weight)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let grad: Vec<f32> = grads
            .get(&var)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let stretch = Stretch::new(5, 8);
        let weight: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
        for (view, part) in [(2, &weight[..16]), (0, &weight[16..])] {
            for at in 0..10 {
                let mut one = vec![0.0; 10];
                one[at] = 1.0;
                let folded = stretch.fold(&one, 2, 4);
                let expected: f32 = folded.iter().zip(part).map(|(a, b)| a * b).sum();
                assert!(
                    (grad[view * 10 + at] - expected).abs() < 1e-4,
                    "{view} {at}"
                );
            }
        }
        assert_eq!(grad[10..20], [0.0; 10]);
        assert!(images(&var, vec![3], 8, 4).is_err());
    }
}
