//! The block of the static networks (mn): MobileNetV3's inverted residual (Howard et al., *Searching
//! for MobileNetV3*, 2019) with squeeze-excitation over the channels (`models/mn/block_types.py`).

use candle_core::Tensor;

use super::Place;
use super::folded::{Loaded, depthwise, pointwise, shape};
use crate::nn::layers::{Activation, After, DepthwiseConv2d, Linear, Pointwise, pixel_means};
use crate::nn::params::Params;

/// Weighs the channels by what they are on average.
#[derive(Debug, Clone)]
struct SqueezeExcitation {
    fc1: Linear,
    fc2: Linear,
}

impl SqueezeExcitation {
    fn load(params: &Params, channels: usize) -> Loaded<Self> {
        if params.pp("conc_se_layers.1").keys().next().is_some() {
            return Err(params.wrong(
                "conc_se_layers.1",
                "expected squeeze-excitation over the channels alone, got more",
            ));
        }
        let params = params.pp("conc_se_layers.0");
        let [squeezed, _] = shape::<2>(&params, "fc1.weight")?;
        Ok(SqueezeExcitation {
            fc1: Linear::load(&params.pp("fc1"), channels, squeezed)?,
            fc2: Linear::load(&params.pp("fc2"), squeezed, channels)?,
        })
    }

    /// The weights of the channels.
    fn factors(&self, x: &Tensor) -> candle_core::Result<Vec<f32>> {
        let squeezed = self.fc1.forward_act(&pixel_means(x)?, Activation::Relu)?;
        let factors = self.fc2.forward_act(&squeezed, Activation::Sigmoid)?;
        factors.squeeze(0)?.to_vec1()
    }
}

/// Expansion, depthwise convolution, squeeze-excitation, projection.
#[derive(Debug, Clone)]
pub(super) struct InvertedResidual {
    expand: Option<Pointwise>,
    depthwise: DepthwiseConv2d,
    squeeze: Option<SqueezeExcitation>,
    project: Pointwise,
    activation: Activation,
    residual: bool,
}

impl InvertedResidual {
    /// Reads `block`; the parts that a block may lack are known by the keys of the others.
    pub(super) fn load(params: &Params, inputs: usize, place: Place) -> Loaded<Self> {
        let block = params.pp("block");
        let part = |index: usize| (block.pp(index).pp(0), block.pp(index).pp(1));
        let [_, _, taps, _] = shape::<4>(&block, "0.0.weight")?;
        let mut index = 0;
        let mut channels = inputs;
        let mut expand = None;
        if taps == 1 {
            let (conv, norm) = part(index);
            let layer = pointwise(&conv, &norm, inputs)?;
            channels = layer.outputs();
            expand = Some(layer);
            index += 1;
        }
        let (conv, norm) = part(index);
        let depthwise = depthwise(&conv, &norm, channels, place.stride)?;
        index += 1;
        let squeeze = block.pp(index);
        let squeeze = if squeeze.pp("conc_se_layers").keys().next().is_some() {
            index += 1;
            Some(SqueezeExcitation::load(&squeeze, channels)?)
        } else {
            None
        };
        let (conv, norm) = part(index);
        let project = pointwise(&conv, &norm, channels)?;
        Ok(InvertedResidual {
            expand,
            depthwise,
            squeeze,
            activation: place.activation,
            residual: place.stride == 1 && project.outputs() == inputs,
            project,
        })
    }

    /// Channels that go out.
    pub(super) fn outputs(&self) -> usize {
        self.project.outputs()
    }

    /// `(1, mels, frames, inputs)` to `(1, out_mels, out_frames, outputs)`.
    pub(super) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let residual = self.residual.then_some(x);
        let expanded = match &self.expand {
            Some(expand) => &expand.forward(x, self.activation, None)?,
            None => x,
        };
        let after = After::Activation(self.activation);
        let seen = self.depthwise.forward(expanded, after)?;
        match &self.squeeze {
            // The factors are put into the few weights rather than into the many pixels.
            Some(squeeze) => {
                let project = self.project.scaled(&squeeze.factors(&seen)?);
                project.forward(&seen, Activation::Identity, residual)
            }
            None => self.project.forward(&seen, Activation::Identity, residual),
        }
    }
}
