//! Attentional feature fusion (Dai et al., *Attentional Feature Fusion*, 2021), as
//! `ClapAudioAFFBlock` of transformers 5.23 computes it: a long clip as a whole and its chunks become
//! one image, each place taking from one or the other as much as a small network says.

use candle_core::Tensor;

use super::config::AudioConfig;
use super::swin::EPS;
use crate::models::ModelError;
use crate::nn::layers::{Activation, BatchNorm, Conv2d, Conv2dSpec, Linear, activate};
use crate::nn::params::{Params, Weight};

/// A convolution of one pixel and the batch normalisation behind it, as one linear layer.
fn pointwise(
    params: &Params,
    (conv, norm): (usize, usize),
    (inputs, outputs): (usize, usize),
) -> Result<Linear, ModelError> {
    let conv = params.pp(conv);
    let weight = conv.get("weight", &[outputs, inputs, 1, 1])?;
    let bias = conv.get("bias", &[outputs])?;
    let norm = BatchNorm::load(&params.pp(norm), outputs, EPS)?;
    let (scale, shift) = norm.scale_shift();
    let rows = weight.values().chunks_exact(inputs).zip(scale);
    let weight = rows.flat_map(|(row, scale)| row.iter().map(move |value| value * scale));
    let weight = Weight::from_values(weight.collect(), &[outputs, inputs]);
    let offsets = bias.values().iter().zip(scale).zip(shift);
    let bias = offsets.map(|((bias, scale), shift)| bias * scale + shift);
    let bias = Weight::from_values(bias.collect(), &[outputs]);
    Ok(Linear::new(weight, Some(bias)))
}

/// Two linear layers over the channels, narrow in between.
struct Attention {
    narrow: Linear,
    wide: Linear,
}

impl Attention {
    /// `first` is the number of the first convolution among the parts.
    fn load(params: &Params, first: usize, config: &AudioConfig) -> Result<Self, ModelError> {
        let channels = config.patch_embeds_hidden_size;
        let inner = channels / config.aff_block_r;
        Ok(Attention {
            narrow: pointwise(params, (first, first + 1), (channels, inner))?,
            wide: pointwise(params, (first + 3, first + 4), (inner, channels))?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.wide
            .forward(&self.narrow.forward_act(x, Activation::Relu)?)
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

    /// Patches of the whole `(1, rows, columns, channels)` and images of the chunks `(3, height, width,
    /// 1)` to patches of both, of the shape of the former.
    pub(super) fn forward(&self, whole: &Tensor, chunks: &Tensor) -> candle_core::Result<Tensor> {
        let (_, rows, columns, channels) = whole.dims4()?;
        let chunks = self.mel_conv2d.forward(chunks, Activation::Identity)?;
        let (count, chunk_rows, width, _) = chunks.dims4()?;
        // The chunks stand beside each other; what is left of the width is silence.
        let chunks = (0..count)
            .map(|index| chunks.narrow(0, index, 1))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let chunks = Tensor::cat(&chunks, 2)?;
        let rest = columns.checked_sub(count * width);
        let (Some(rest), true) = (rest, rows == chunk_rows) else {
            return Err(candle_core::Error::Msg(format!(
                "fusion: expected at most {rows} x {columns} patches of the chunks, got {chunk_rows} x {}",
                count * width
            )));
        };
        let chunks = chunks.pad_with_zeros(2, 0, rest)?;
        let sum = (whole + &chunks)?;
        let places = sum.reshape((rows * columns, channels))?;
        let local = self.local_att.forward(&places)?;
        let global = self.global_att.forward(&places.mean_keepdim(0)?)?;
        let share = activate(&local.broadcast_add(&global)?, Activation::Sigmoid)?;
        let share = share.reshape(whole.dims())?;
        // 2 (whole share + chunks (1 - share))
        (((whole - &chunks)? * share)? + chunks)? * 2.0
    }
}
