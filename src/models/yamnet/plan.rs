//! Reads YAMNet's layers out of the operators of a TensorFlow Lite file.
//!
//! The file must be the network of `tensorflow/models` `research/audioset/yamnet/yamnet.py` as its
//! converter writes it: transform, magnitude, mel, logarithm, one full convolution, thirteen pairs of
//! depthwise and pointwise convolution, mean, dense, sigmoid. Whatever lies between these (framing,
//! reshaping) is fixed by the architecture and not run from the file.

use super::front::{N_BINS, N_MELS, PATCH, WINDOW};
use crate::kernels::conv3x3::{BLOCK, Image};
use crate::kernels::int8::Int8Dense;
use crate::nn::tflite::{
    Activation, Conv, Dtype, Operator, Options, Padding, Tflite, TfliteError, code,
};

/// Depthwise and pointwise pairs.
const PAIRS: usize = 13;
/// The most channels of any layer, which bounds the memory that a file can ask for.
const MAX_CHANNELS: usize = 1024;

/// One layer after the first.
pub enum Layer {
    /// 3 by 3, a kernel a channel.
    Depthwise(Depthwise),
    /// 1 by 1 over all channels, with its output's channels.
    Pointwise(Int8Dense),
}

/// A depthwise convolution; the weights are floats, or whole numbers times `scale`.
pub struct Depthwise {
    /// Its input.
    pub image: Image,
    /// `(3, 3, channels)`.
    pub weights: Vec<f32>,
    /// `(channels)`, where the weights are whole numbers.
    pub scale: Option<Vec<f32>>,
    /// `(channels)`.
    pub bias: Vec<f32>,
}

/// All that the file holds.
pub struct Plan {
    /// Analysis window `(WINDOW)`.
    pub window: Vec<f32>,
    /// From `N_BINS` to `N_MELS`.
    pub mel: Int8Dense,
    /// The patch, of which the first convolution makes an image.
    pub patch: Image,
    /// Weights `(3, 3, channels)` and bias of the first convolution.
    pub first: (Vec<f32>, Vec<f32>),
    /// What follows.
    pub layers: Vec<Layer>,
    /// Places of the last image, over which the embedding is the mean.
    pub places: usize,
    /// Values of the embedding.
    pub embedding: usize,
    /// From the embedding to the logits.
    pub dense: Int8Dense,
}

/// The operators that hold weights or stand for the shape of the network.
struct Spine<'a> {
    file: &'a Tflite,
    operators: Vec<(usize, &'a Operator)>,
}

impl Spine<'_> {
    fn error(&self, layer: usize, what: impl Into<String>) -> TfliteError {
        self.file
            .operator_error(self.operators[layer].0, what.into())
    }

    /// The tensor that goes into `layer` at place `place`.
    fn input(&self, layer: usize, place: usize) -> Result<usize, TfliteError> {
        match self.operators[layer].1.inputs.get(place) {
            Some(&Some(index)) => Ok(index),
            _ => Err(self.error(layer, format!("expected an input {place}"))),
        }
    }

    /// Shape of the weights of `layer`.
    fn weights_shape(&self, layer: usize) -> Result<&[usize], TfliteError> {
        Ok(&self.file.tensors()[self.input(layer, 1)?].shape)
    }

    /// Bias of `layer` for so many outputs.
    fn bias(&self, layer: usize, outputs: usize) -> Result<Vec<f32>, TfliteError> {
        self.file.f32s(self.input(layer, 2)?, &[outputs])
    }

    /// Int8 weights of `layer` from so many inputs, as a dense layer at every place; `shape` is that
    /// of the tensor, outputs first.
    fn dense(
        &self,
        layer: usize,
        inputs: usize,
        shape: &[usize],
    ) -> Result<Int8Dense, TfliteError> {
        let weights = self.file.quantised(self.input(layer, 1)?, shape)?;
        if weights.axis != 0 {
            return Err(self.error(layer, "expected weights with a scale for each output"));
        }
        let bias = self.bias(layer, shape[0])?;
        Ok(Int8Dense::new(inputs, weights.data, &weights.scales, &bias))
    }

    /// Options of convolution `layer`; of both directions' strides there is one.
    fn conv(&self, layer: usize) -> Result<usize, TfliteError> {
        let options = &self.operators[layer].1.options;
        match options {
            Options::Conv(Conv {
                padding: Padding::Same,
                stride: (down, across),
                dilation: (1, 1),
                depth_multiplier: 1,
                activation: Activation::Relu,
            }) if down == across && *down <= 2 => Ok(*down),
            _ => Err(self.error(
                layer,
                format!("expected SAME padding, one stride of 1 or 2, no dilation and ReLU, got {options:?}"),
            )),
        }
    }

    fn channels(&self, layer: usize, channels: usize) -> Result<usize, TfliteError> {
        if channels.is_multiple_of(BLOCK) && (1..=MAX_CHANNELS).contains(&channels) {
            return Ok(channels);
        }
        let what = format!("expected channels in multiples of {BLOCK} up to {MAX_CHANNELS}");
        Err(self.error(layer, format!("{what}, got {channels}")))
    }

    fn depthwise(&self, layer: usize, image: Image) -> Result<Depthwise, TfliteError> {
        let index = self.input(layer, 1)?;
        let shape = [1, 3, 3, image.channels];
        let (weights, scale) = if self.file.tensors()[index].dtype == Dtype::I8 {
            let weights = self.file.quantised(index, &shape)?;
            if weights.axis != 3 {
                return Err(self.error(layer, "expected weights with a scale for each channel"));
            }
            let whole = weights.data.iter().map(|&w| f32::from(w)).collect();
            (whole, Some(weights.scales))
        } else {
            (self.file.f32s(index, &shape)?, None)
        };
        Ok(Depthwise {
            image,
            weights,
            scale,
            bias: self.bias(layer, image.channels)?,
        })
    }
}

/// The kinds of the spine's operators, in their order.
fn expected() -> Vec<i32> {
    let mut kinds = vec![
        code::RFFT2D,
        code::COMPLEX_ABS,
        code::FULLY_CONNECTED,
        code::LOG,
        code::CONV_2D,
    ];
    for _ in 0..PAIRS {
        kinds.extend([code::DEPTHWISE_CONV_2D, code::CONV_2D]);
    }
    kinds.extend([code::MEAN, code::FULLY_CONNECTED, code::LOGISTIC]);
    kinds
}

/// Reads all layers; `outputs` is how many labels there must be.
///
/// # Errors
/// When the file is another network, or a tensor is missing or misshapen.
pub fn read(file: &Tflite, outputs: usize) -> Result<Plan, TfliteError> {
    let expected = expected();
    let spine = Spine {
        file,
        operators: (0..)
            .zip(file.operators())
            .filter(|(_, operator)| expected.contains(&operator.code))
            .collect(),
    };
    let kinds = spine.operators.iter().map(|(_, operator)| operator.code);
    if !kinds.clone().eq(expected.iter().copied()) {
        let same = kinds.zip(&expected).take_while(|(a, b)| a == *b).count();
        let got = spine.operators.get(same);
        return Err(file.operator_error(
            got.map_or(file.operators().len(), |(index, _)| *index),
            format!(
                "this is not YAMNet: expected operators {expected:?}, got {:?} after {same} of them",
                got.map(|(_, operator)| operator.code)
            ),
        ));
    }
    // Each layer of the network must take what the one before it gives.
    const FIRST: usize = 4;
    for layer in FIRST + 1..expected.len() {
        let given = spine.operators[layer - 1].1.outputs.first();
        if given != Some(&spine.input(layer, 0)?) {
            return Err(spine.error(layer, format!("expected its input to be tensor {given:?}")));
        }
    }
    let last = expected.len() - 1;
    if file.outputs().first() != spine.operators[last].1.outputs.first() {
        return Err(spine.error(last, "expected its output to be the first of the file"));
    }

    let window = window(file, spine.operators[0].0)?;
    let mel = spine.dense(2, N_BINS, &[N_MELS, N_BINS])?;
    let mut channels =
        spine.channels(FIRST, spine.weights_shape(FIRST)?.first().map_or(0, |&c| c))?;
    let kernels = file.f32s(spine.input(FIRST, 1)?, &[channels, 3, 3, 1])?;
    let by_tap = (0..9).flat_map(|tap| kernels.iter().skip(tap).step_by(9).copied());
    let patch = Image {
        height: PATCH,
        width: N_MELS,
        channels: 1,
        stride: spine.conv(FIRST)?,
    };
    let first = (by_tap.collect(), spine.bias(FIRST, channels)?);

    let (mut height, mut width) = patch.out();
    let mut layers = Vec::with_capacity(2 * PAIRS);
    for layer in (FIRST + 1..).step_by(2).take(PAIRS) {
        let image = Image {
            height,
            width,
            channels,
            stride: spine.conv(layer)?,
        };
        layers.push(Layer::Depthwise(spine.depthwise(layer, image)?));
        (height, width) = image.out();
        let pointwise = layer + 1;
        if spine.conv(pointwise)? != 1 {
            return Err(spine.error(pointwise, "expected a stride of 1"));
        }
        let shape = spine.weights_shape(pointwise)?;
        let more = spine.channels(pointwise, shape.first().map_or(0, |&c| c))?;
        let dense = spine.dense(pointwise, channels, &[more, 1, 1, channels])?;
        layers.push(Layer::Pointwise(dense));
        channels = more;
    }
    Ok(Plan {
        window,
        mel,
        patch,
        first,
        layers,
        places: height * width,
        embedding: channels,
        dense: spine.dense(last - 1, channels, &[outputs, channels])?,
    })
}

/// The constant that frames are multiplied by before the transform at operator `before`.
fn window(file: &Tflite, before: usize) -> Result<Vec<f32>, TfliteError> {
    (file.operators().iter().take(before))
        .filter(|operator| operator.code == code::MUL)
        .flat_map(|operator| operator.inputs.iter().flatten())
        .find_map(|&index| file.f32s(index, &[WINDOW]).ok())
        .ok_or_else(|| {
            let what = format!("expected a product with a window of {WINDOW} floats before it");
            file.operator_error(before, what)
        })
}
