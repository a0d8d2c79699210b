//! EfficientAT: sound events by mobile networks that learned from transformers (Schmid, Koutini and
//! Widmer, *Efficient Large-scale Audio Tagging via Transformer-to-CNN Knowledge Distillation*, 2022,
//! <https://arxiv.org/abs/2211.04772>; dynamic ones 2023, <https://arxiv.org/abs/2310.15648>), as
//! `fschmid56/EfficientAT` computes them at commit a425fdc.
//!
//! Its release files are plain state dicts. Width, kernels, squeeze-excitation, head and whether the
//! network is dynamic follow from their keys and shapes. What no tensor tells is taken as in all
//! releases but those named `hop`, `mels` and `s22..`: four strides of 2, 128 bands every 10 ms.
//! The outputs are logits, one a label, each for a sigmoid of its own.

mod dymn;
mod folded;
mod mn;

use std::path::Path;

use candle_core::{Device, Tensor};

use self::folded::{Loaded, NORM_EPS, Norm, pointwise, pointwise_with, shape};
use super::ModelError;
use super::network::Network;
use crate::features::efficientat_mel::{EfficientAtMel, EfficientAtMelConfig};
use crate::nn::layers::{Activation, Conv2d, Conv2dSpec, Linear, Pointwise, pixel_means};
use crate::nn::params::{Params, Weight};

/// What the norm of the fully convolutional head adds to the variance: PyTorch's default.
const HEAD_EPS: f64 = 1e-5;
/// Samples below which the front end cannot mirror the ends of a clip: half of `n_fft`, one for the
/// pre-emphasis and one more.
const LEAST_SAMPLES: usize = 514;

/// What the shapes of a block do not tell.
#[derive(Debug, Clone, Copy)]
struct Place {
    stride: usize,
    activation: Activation,
}

/// The blocks in order (`_mobilenet_v3_conf`, which is Table 1 of *Searching for MobileNetV3*).
const PLACES: [Place; 15] = {
    const fn place(stride: usize, activation: Activation) -> Place {
        Place { stride, activation }
    }
    use Activation::{HardSwish, Relu};
    [
        place(1, Relu),
        place(2, Relu),
        place(1, Relu),
        place(2, Relu),
        place(1, Relu),
        place(1, Relu),
        place(2, HardSwish),
        place(1, HardSwish),
        place(1, HardSwish),
        place(1, HardSwish),
        place(1, HardSwish),
        place(1, HardSwish),
        place(2, HardSwish),
        place(1, HardSwish),
        place(1, HardSwish),
    ]
};

/// A block of either kind.
enum Block {
    Static(Box<mn::InvertedResidual>),
    Dynamic(Box<dymn::DyBlock>),
}

impl Block {
    fn load(params: &Params, inputs: usize, place: Place) -> Loaded<Self> {
        // Some dynamic networks have static blocks in between.
        if params.pp("block").keys().next().is_some() {
            mn::InvertedResidual::load(params, inputs, place)
                .map(|block| Block::Static(Box::new(block)))
        } else {
            dymn::DyBlock::load(params, inputs, place).map(|block| Block::Dynamic(Box::new(block)))
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Block::Static(block) => block.outputs(),
            Block::Dynamic(block) => block.outputs(),
        }
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Block::Static(block) => block.forward(x),
            Block::Dynamic(block) => block.forward(x),
        }
    }
}

/// From the mean over all pixels to logits.
enum Head {
    /// Two linear layers.
    Mlp(Linear, Linear),
    /// One convolution of every pixel, whose mean is that of the mean pixel.
    FullyConvolutional(Pointwise),
}

impl Head {
    fn load(params: &Params, inputs: usize) -> Loaded<(Self, usize)> {
        if params.has("subspace_proj.weight") {
            return Err(params.wrong(
                "subspace_proj.weight",
                "expected a head of type mlp or fully_convolutional, got attention pooling",
            ));
        }
        if params.has("0.weight") {
            let layer = pointwise_with(&params.pp(0), &params.pp(1), inputs, HEAD_EPS)?;
            let labels = layer.outputs();
            return Ok((Head::FullyConvolutional(layer), labels));
        }
        let [hidden, _] = shape::<2>(params, "2.weight")?;
        let [labels, _] = shape::<2>(params, "5.weight")?;
        let first = Linear::load(&params.pp(2), inputs, hidden)?;
        let second = Linear::load(&params.pp(5), hidden, labels)?;
        Ok((Head::Mlp(first, second), labels))
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mean = pixel_means(x)?;
        match self {
            Head::Mlp(first, second) => {
                second.forward(&first.forward_act(&mean, Activation::HardSwish)?)
            }
            Head::FullyConvolutional(layer) => layer.forward(&mean, Activation::Identity, None),
        }
    }
}

/// A network of EfficientAT with its front end.
pub struct EfficientAt {
    front: EfficientAtMel,
    first: Conv2d,
    blocks: Vec<Block>,
    last: Pointwise,
    head: Head,
    labels: usize,
    parameters: usize,
}

impl EfficientAt {
    /// Reads a state dict of the releases, such as `mn04_as_mAP_432.pt` or `dymn04_as.pt`.
    ///
    /// # Errors
    /// When the file cannot be read, or a tensor is missing or misshapen.
    pub fn open_file(path: &Path) -> Result<Self, ModelError> {
        EfficientAt::open_with(path, EfficientAtMelConfig::default())
    }

    /// The same for a network that was trained on another number of bands or another hop, such as
    /// `mn10_as_mels_64_mAP_461.pt`, which the file does not tell.
    ///
    /// # Errors
    /// The same.
    pub fn open_with(path: &Path, config: EfficientAtMelConfig) -> Result<Self, ModelError> {
        let params = Params::open_file(path)?;
        Ok(EfficientAt::load(&params, config)?)
    }

    fn load(params: &Params, config: EfficientAtMelConfig) -> Loaded<Self> {
        let dynamic = params.has("in_c.0.weight");
        let features = params.pp("features");
        let (first, last) = if dynamic {
            (params.pp("in_c"), params.pp("out_c"))
        } else {
            (features.pp(0), features.pp(PLACES.len() + 1))
        };
        let block = |index: usize| {
            if dynamic {
                params.pp("layers").pp(index)
            } else {
                features.pp(index + 1)
            }
        };
        let [mut channels, ..] = shape::<4>(&first, "0.weight")?;
        let spec = Conv2dSpec {
            inputs: 1,
            outputs: channels,
            kernel: (3, 3),
            stride: (2, 2),
            padding: (1, 1),
        };
        let weight = first.get("0.weight", &[channels, 1, 3, 3])?;
        let norm = Norm::load(&first.pp(1), channels, NORM_EPS)?;
        let weight = Weight::from_values(norm.fold(&weight), weight.dims());
        let first = Conv2d::new(spec, &weight, Some(norm.bias()));
        let mut blocks = Vec::new();
        for (index, place) in PLACES.into_iter().enumerate() {
            let block = Block::load(&block(index), channels, place)?;
            channels = block.outputs();
            blocks.push(block);
        }
        let last = pointwise(&last.pp(0), &last.pp(1), channels)?;
        let (head, labels) = Head::load(&params.pp("classifier"), last.outputs())?;
        Ok(EfficientAt {
            front: EfficientAtMel::new(config),
            first,
            blocks,
            last,
            head,
            labels,
            parameters: params.parameters(),
        })
    }

    /// Number of labels; the releases have the 527 of AudioSet.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// Number of values in the checkpoint.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The front end.
    pub fn front(&self) -> &EfficientAtMel {
        &self.front
    }

    /// Features `(1, frames, mels)` to logits `(1, labels)`; `seen` is called with the number and the
    /// output `(1, mels, frames, channels)` of each part.
    ///
    /// # Errors
    /// When the features have another shape.
    pub fn forward(
        &self,
        features: &Tensor,
        mut seen: impl FnMut(usize, &Tensor),
    ) -> candle_core::Result<Tensor> {
        let image = features.transpose(1, 2)?.unsqueeze(3)?.contiguous()?;
        let mut x = self.first.forward(&image, Activation::HardSwish)?;
        seen(0, &x);
        for (number, block) in (1..).zip(&self.blocks) {
            x = block.forward(&x)?;
            seen(number, &x);
        }
        let x = self.last.forward(&x, Activation::HardSwish, None)?;
        seen(self.blocks.len() + 1, &x);
        self.head.forward(&x)
    }
}

impl Network for EfficientAt {
    fn rate_hz(&self) -> u32 {
        self.front.rate_hz()
    }

    fn window(&self) -> usize {
        self.front.window_samples()
    }

    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        let features = if pcm.len() < LEAST_SAMPLES {
            let mut filled = pcm.to_vec();
            filled.resize(LEAST_SAMPLES, 0.0);
            self.front.compute(&filled)
        } else {
            self.front.compute(pcm)
        };
        let shape = (1, features.frames, features.bins);
        let features = Tensor::from_vec(features.values, shape, &Device::Cpu)?;
        Ok(self.forward(&features, |_, _| {})?.squeeze(0)?.to_vec1()?)
    }
}
