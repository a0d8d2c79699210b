//! Attentional feature fusion (Dai et al., *Attentional Feature Fusion*, 2021), as
//! `ClapAudioAFFBlock` of transformers 5.23 computes it: a long clip as a whole and its chunks become
//! one image, each place taking from one or the other as much as a small network says.

use candle_core::Tensor;

use super::config::AudioConfig;
use super::swin::EPS;
use crate::models::ModelError;
use crate::nn::layers::{Activation, BatchNorm, Conv2d, Conv2dSpec, Linear, activate};
use crate::nn::params::{Params, Weight};

/// A convolution of one pixel and the batch normalisation behind it.
enum Pointwise {
    /// Both as one linear layer.
    Folded(Linear),
    /// One after the other, where either is trained.
    Apart { conv: Conv2d, norm: Box<BatchNorm> },
}

impl Pointwise {
    fn load(
        params: &Params,
        (conv, norm): (usize, usize),
        (inputs, outputs): (usize, usize),
    ) -> Result<Self, ModelError> {
        let conv = params.pp(conv);
        let weight = conv.parameter("weight", &[outputs, inputs, 1, 1])?;
        let bias = conv.parameter("bias", &[outputs])?;
        let norm = BatchNorm::load(&params.pp(norm), outputs, EPS)?;
        let fixed = weight.fixed().zip(bias.fixed()).zip(norm.scale_shift());
        if let Some(((weight, bias), (scale, shift))) = fixed {
            let rows = weight.values().chunks_exact(inputs).zip(scale);
            let weight = rows.flat_map(|(row, scale)| row.iter().map(move |value| value * scale));
            let weight = Weight::from_values(weight.collect(), &[outputs, inputs]);
            let offsets = bias.values().iter().zip(scale).zip(shift);
            let bias = offsets.map(|((bias, scale), shift)| bias * scale + shift);
            let bias = Weight::from_values(bias.collect(), &[outputs]);
            return Ok(Pointwise::Folded(Linear::new(weight, Some(bias))));
        }
        let spec = Conv2dSpec {
            inputs,
            outputs,
            kernel: (1, 1),
            stride: (1, 1),
            padding: (0, 0),
        };
        Ok(Pointwise::Apart {
            conv: Conv2d::of(spec, weight, Some(bias)),
            norm: Box::new(norm),
        })
    }

    /// `(images, rows, columns, inputs)` to `(images, rows, columns, outputs)`.
    fn forward(&self, x: &Tensor, act: Activation) -> candle_core::Result<Tensor> {
        match self {
            Pointwise::Folded(linear) => linear.forward_act(x, act),
            Pointwise::Apart { conv, norm } => {
                activate(&norm.forward(&conv.forward(x, Activation::Identity)?)?, act)
            }
        }
    }
}

/// Two linear layers over the channels, narrow in between.
struct Attention {
    narrow: Pointwise,
    wide: Pointwise,
}

impl Attention {
    /// `first` is the number of the first convolution among the parts.
    fn load(params: &Params, first: usize, config: &AudioConfig) -> Result<Self, ModelError> {
        let channels = config.patch_embeds_hidden_size;
        let inner = channels / config.aff_block_r;
        Ok(Attention {
            narrow: Pointwise::load(params, (first, first + 1), (channels, inner))?,
            wide: Pointwise::load(params, (first + 3, first + 4), (inner, channels))?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let narrow = self.narrow.forward(x, Activation::Relu)?;
        self.wide.forward(&narrow, Activation::Identity)
    }
}

/// Puts the chunks of a long clip together with the whole.
pub(super) struct Fusion {
    /// Patches of the chunks, three times as wide, so that three chunks are as wide as the whole.
    mel_conv2d: Conv2d,
    local_att: Attention,
    global_att: Attention,
}

impl Fusion {
    /// Loads it from where the patch embedding is, with the shape of whose convolution it has its own.
    pub(super) fn load(
        params: &Params,
        config: &AudioConfig,
        proj: Conv2dSpec,
    ) -> Result<Self, ModelError> {
        let spec = Conv2dSpec {
            kernel: (proj.kernel.0, proj.kernel.1 * 3),
            stride: (proj.stride.0, proj.stride.1 * 3),
            ..proj
        };
        let model = params.pp("fusion_model");
        Ok(Fusion {
            mel_conv2d: Conv2d::load(&params.pp("mel_conv2d"), spec)?,
            local_att: Attention::load(&model.pp("local_att"), 0, config)?,
            // Its first part is the mean, which has no tensors.
            global_att: Attention::load(&model.pp("global_att"), 1, config)?,
        })
    }

    /// Patches of the whole of some clips `(clips, rows, columns, channels)` and images of their chunks,
    /// three a clip, `(3 clips, height, width, 1)`, to patches of both, of the shape of the former.
    pub(super) fn forward(&self, whole: &Tensor, chunks: &Tensor) -> candle_core::Result<Tensor> {
        let (clips, rows, columns, channels) = whole.dims4()?;
        let chunks = self.mel_conv2d.forward(chunks, Activation::Identity)?;
        let (count, chunk_rows, width, _) = chunks.dims4()?;
        let count = count / clips.max(1);
        // The chunks of a clip stand beside each other; what is left of the width is silence.
        let rest = columns.checked_sub(count * width);
        let (Some(rest), true) = (rest, rows == chunk_rows) else {
            return Err(candle_core::Error::Msg(format!(
                "fusion: expected at most {rows} x {columns} patches of the chunks, got {chunk_rows} x {}",
                count * width
            )));
        };
        let chunks = chunks
            .reshape((clips, count, rows, width * channels))?
            .transpose(1, 2)?
            .reshape((clips, rows, count * width, channels))?
            .pad_with_zeros(2, 0, rest)?;
        let sum = (whole + &chunks)?;
        let local = self.local_att.forward(&sum)?;
        let mean = sum.reshape((clips, rows * columns, channels))?.mean(1)?;
        let mean = mean.reshape((clips, 1, 1, channels))?;
        let global = self.global_att.forward(&mean)?;
        let share = activate(&local.broadcast_add(&global)?, Activation::Sigmoid)?;
        // 2 (whole share + chunks (1 - share))
        (((whole - &chunks)? * share)? + chunks)? * 2.0
    }
}
