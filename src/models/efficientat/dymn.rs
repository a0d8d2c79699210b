//! The block of the dynamic networks (dymn; Schmid, Koutini and Widmer, *Dynamic Convolutional Neural
//! Networks as Efficient Pre-trained Audio Models*, 2023; `models/dymn/dy_block.py`): a summary of
//! the input decides the kernels, the non-linearity and the weights of frequencies and frames.

use candle_core::{Device, Tensor};

use super::Place;
use super::folded::{Loaded, NORM_EPS, Norm, pointwise, shape};
use crate::kernels::depthwise2d::Geometry;
use crate::kernels::gemm::{Finish, Matrix, product};
use crate::nn::layers::{
    Activation, After, DepthwiseConv2d, Linear, Pointwise, side_means, softmax,
};
use crate::nn::params::{Params, Weight};

/// The lines of a dynamic ReLU, `dyrelu_k`.
const LINES: usize = 2;

fn values(x: &Tensor) -> candle_core::Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// Kernels that are mixed anew for every clip, with the norm behind them folded in.
#[derive(Debug, Clone)]
struct DynamicConv {
    /// From the summary to the share of each kernel.
    residuals: Linear,
    /// `(kernels, values of a kernel)`.
    weight: Weight,
    bias: Weight,
}

impl DynamicConv {
    /// Reads `<name>_conv` and `<name>_norm`; `size` is the number of values of a kernel.
    fn load(
        params: &Params,
        name: &str,
        context: usize,
        outputs: usize,
        size: usize,
    ) -> Loaded<Self> {
        let conv = params.pp(format!("{name}_conv"));
        let [_, _, kernels, _] = shape::<4>(&conv, "weight")?;
        let weight = conv.get("weight", &[1, 1, kernels, size])?;
        let norm = Norm::load(&params.pp(format!("{name}_norm")), outputs, NORM_EPS)?;
        Ok(DynamicConv {
            residuals: Linear::load(&conv.pp("residuals.0"), context, kernels)?,
            weight: Weight::from_values(norm.fold(&weight), &[kernels, size]),
            bias: norm.bias(),
        })
    }

    /// The kernel for a summary `(1, context)`. The shares are a plain softmax: the temperature has
    /// come down to 1 by the end of training on AudioSet.
    fn mixed(&self, context: &Tensor, shape: &[usize]) -> candle_core::Result<Weight> {
        let shares = values(&softmax(&self.residuals.forward(context)?)?)?;
        let &[kernels, size] = self.weight.dims() else {
            return Err(candle_core::Error::Msg("expected kernels".to_owned()));
        };
        let mut mixed = vec![0.0; size];
        product(
            Matrix::row_major(&shares, 1, kernels),
            Matrix::row_major(self.weight.values(), kernels, size),
            Finish::default(),
            &mut mixed,
        );
        Ok(Weight::from_values(mixed, shape))
    }
}

/// What is known of the whole input.
struct Context {
    /// `(1, context)`.
    summary: Tensor,
    /// `(out_mels, channels)`.
    mel_weights: Weight,
    /// `(out_frames, channels)`.
    frame_weights: Weight,
}

/// `context_gen`: the summary, and the weights of coordinate attention.
#[derive(Debug, Clone)]
struct ContextGen {
    joint: Pointwise,
    conv_f: Pointwise,
    conv_t: Pointwise,
    stride: usize,
}

impl ContextGen {
    fn load(params: &Params, inputs: usize, channels: usize, stride: usize) -> Loaded<Self> {
        let joint = pointwise(&params.pp("joint_conv"), &params.pp("joint_norm"), inputs)?;
        let conv = |name: &str| -> Loaded<Pointwise> {
            let params = params.pp(name);
            let weight = params.get("weight", &[channels, joint.outputs(), 1, 1])?;
            let weight =
                Weight::from_values(weight.values().to_vec(), &[channels, joint.outputs()]);
            Ok(Pointwise::new(weight, params.get("bias", &[channels])?))
        };
        Ok(ContextGen {
            conv_f: conv("conv_f")?,
            conv_t: conv("conv_t")?,
            joint,
            stride,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Context> {
        let (_, mels, frames, _) = x.dims4()?;
        let joint = self
            .joint
            .forward(&side_means(x)?, Activation::HardSwish, None)?;
        let weights = |conv: &Pointwise, from: usize, length: usize| {
            let pooled = self.pool(&joint.narrow(1, from, length)?)?;
            let weights = conv.forward(&pooled, Activation::Sigmoid, None)?;
            candle_core::Result::Ok(Weight::from_values(
                values(&weights)?,
                &[weights.dim(1)?, conv.outputs()],
            ))
        };
        Ok(Context {
            mel_weights: weights(&self.conv_f, 0, mels)?,
            frame_weights: weights(&self.conv_t, mels, frames)?,
            summary: joint.mean(1)?,
        })
    }

    /// The mean of three neighbours at every step of the stride, zeros beyond the ends counted in.
    fn pool(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if self.stride == 1 {
            return x.contiguous();
        }
        let (_, length, channels) = x.dims3()?;
        let x = values(x)?;
        let count = (length - 1) / self.stride + 1;
        let mut pooled = vec![0.0; count * channels];
        for (index, pooled) in pooled.chunks_exact_mut(channels).enumerate() {
            let middle = index * self.stride;
            let seen = middle.saturating_sub(1)..(middle + 2).min(length);
            for row in x[seen.start * channels..seen.end * channels].chunks_exact(channels) {
                for (pooled, value) in pooled.iter_mut().zip(row) {
                    *pooled += value / 3.0;
                }
            }
        }
        Tensor::from_vec(pooled, (1, count, channels), &Device::Cpu)
    }
}

/// `depth_act`: two lines a channel, of which the upper one counts.
#[derive(Debug, Clone)]
struct DynamicRelu {
    coef_net: Linear,
    /// How far each of the slopes and offsets can move, `(2 lines)`.
    lambdas: Weight,
    /// Where they move from.
    init_v: Weight,
}

impl DynamicRelu {
    fn load(params: &Params, context: usize, channels: usize) -> Loaded<Self> {
        Ok(DynamicRelu {
            coef_net: Linear::load(&params.pp("coef_net.0"), context, 2 * LINES * channels)?,
            lambdas: params.get("lambdas", &[2 * LINES])?,
            init_v: params.get("init_v", &[2 * LINES])?,
        })
    }

    /// Slopes and offsets, each `(lines, channels)`.
    fn lines(&self, context: &Tensor) -> candle_core::Result<(Weight, Weight)> {
        let theta = self.coef_net.forward_act(context, Activation::Sigmoid)?;
        let theta = values(&theta)?;
        let channels = theta.len() / (2 * LINES);
        let part = |from: usize| {
            let lines = (from..from + LINES).flat_map(|line| {
                let (lambda, start) = (self.lambdas.values()[line], self.init_v.values()[line]);
                let theta = theta.iter().skip(line).step_by(2 * LINES);
                theta.map(move |theta| (2.0 * theta - 1.0) * lambda + start)
            });
            Weight::from_values(lines.collect(), &[LINES, channels])
        };
        Ok((part(0), part(LINES)))
    }
}

/// Expansion, depthwise convolution and projection, all dynamic.
#[derive(Debug, Clone)]
pub(super) struct DyBlock {
    context_gen: ContextGen,
    exp_conv: Option<DynamicConv>,
    depth_conv: DynamicConv,
    depth_act: DynamicRelu,
    proj_conv: DynamicConv,
    geometry: Geometry,
    activation: Activation,
    inputs: usize,
    outputs: usize,
    residual: bool,
}

impl DyBlock {
    /// Reads the block.
    pub(super) fn load(params: &Params, inputs: usize, place: Place) -> Loaded<Self> {
        let [context, ..] = shape::<4>(params, "context_gen.joint_conv.weight")?;
        let [channels] = shape::<1>(params, "depth_norm.weight")?;
        let [outputs] = shape::<1>(params, "proj_norm.weight")?;
        let [_, _, _, size] = shape::<4>(params, "depth_conv.weight")?;
        let kernel = (1..=9).step_by(2).find(|k| k * k * channels == size);
        let kernel = kernel.ok_or_else(|| {
            params.wrong(
                "depth_conv.weight",
                &format!("expected {channels} square kernels, got {size} values"),
            )
        })?;
        let exp_conv = if params.has("exp_conv.weight") || channels != inputs {
            let size = channels * inputs;
            Some(DynamicConv::load(params, "exp", context, channels, size)?)
        } else {
            None
        };
        let project = channels * outputs;
        Ok(DyBlock {
            context_gen: ContextGen::load(
                &params.pp("context_gen"),
                inputs,
                channels,
                place.stride,
            )?,
            exp_conv,
            depth_conv: DynamicConv::load(params, "depth", context, channels, size)?,
            depth_act: DynamicRelu::load(&params.pp("depth_act"), context, channels)?,
            proj_conv: DynamicConv::load(params, "proj", context, outputs, project)?,
            geometry: Geometry {
                channels,
                kernel,
                stride: place.stride,
                padding: (kernel - 1) / 2,
            },
            activation: place.activation,
            inputs,
            outputs,
            residual: place.stride == 1 && inputs == outputs,
        })
    }

    /// Channels that go out.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `(1, mels, frames, inputs)` to `(1, out_mels, out_frames, outputs)`.
    pub(super) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let channels = self.geometry.channels;
        let context = self.context_gen.forward(x)?;
        let pointwise = |conv: &DynamicConv, shape: [usize; 2]| {
            let weight = conv.mixed(&context.summary, &shape)?;
            candle_core::Result::Ok(Pointwise::new(weight, conv.bias.clone()))
        };
        let expanded = match &self.exp_conv {
            Some(conv) => {
                let layer = pointwise(conv, [channels, self.inputs])?;
                &layer.forward(x, self.activation, None)?
            }
            None => x,
        };
        let (slopes, offsets) = self.depth_act.lines(&context.summary)?;
        let after = After::Dynamic {
            slopes,
            offsets,
            row_weights: context.mel_weights.clone(),
            column_weights: context.frame_weights.clone(),
        };
        let taps = self.geometry.kernel * self.geometry.kernel;
        let weight = self.depth_conv.mixed(&context.summary, &[channels, taps])?;
        let bias = self.depth_conv.bias.clone();
        let seen = DepthwiseConv2d::new(self.geometry, &weight, bias).forward(expanded, after)?;
        let residual = self.residual.then_some(x);
        pointwise(&self.proj_conv, [self.outputs, channels])?.forward(
            &seen,
            Activation::Identity,
            residual,
        )
    }
}
