//! ECAPA-TDNN, a speaker embedding (Desplanques, Thienpondt and Demuynck, 2020,
//! <https://arxiv.org/abs/2005.07143>), as speechbrain 1.1 computes it
//! (`lobes/models/ECAPA_TDNN.py`), from the files of speechbrain/spkrec-ecapa-voxceleb.
//!
//! Every size follows from the shapes of the tensors, so that `hyperparams.yaml` is not read; only
//! the dilations 1, 2, 3, 4 of the blocks are taken as published. The classifier of the training
//! speakers is left out.

use std::path::Path;

use candle_core::{D, Device, Tensor};

use super::ModelError;
use super::network::Network;
use crate::features::speechbrain_fbank::{SpeechbrainFbank, SpeechbrainFbankConfig};
use crate::nn::layers::{Activation, BatchNorm, Conv1d, Conv1dSpec, Linear, activate, softmax};
use crate::nn::params::{Params, Weight};
use crate::nn::weights::WeightsError;

/// What PyTorch's batch norm adds to the variance.
const NORM_EPS: f64 = 1e-5;
/// The least variance in the pooling.
const POOL_EPS: f64 = 1e-12;

type Loaded<T> = Result<T, WeightsError>;
type Forward = candle_core::Result<Tensor>;

/// The three lengths of a kernel's shape, which must be there.
fn kernel_shape(params: &Params, key: &str) -> Loaded<[usize; 3]> {
    let shape = params.shape(key);
    shape
        .and_then(|shape| shape.try_into().ok())
        .ok_or_else(|| {
            params.wrong(
                key,
                &match shape {
                    Some(shape) => format!("expected (outputs, inputs, taps), got {shape:?}"),
                    None => "expected (outputs, inputs, taps), got no such tensor".to_owned(),
                },
            )
        })
}

/// How many of `blocks.0`, `blocks.1` and so on there are.
fn count_blocks(params: &Params) -> usize {
    (0..)
        .take_while(|index| params.pp("blocks").pp(index).keys().next().is_some())
        .count()
}

/// A convolution that keeps the length: the sound is mirrored at its ends.
#[derive(Debug, Clone)]
struct SameConv {
    conv: Conv1d,
    outputs: usize,
    /// Steps that are mirrored at each end.
    padding: usize,
}

impl SameConv {
    fn load(params: &Params, inputs: usize, dilation: usize) -> Loaded<Self> {
        let params = params.pp("conv");
        let [outputs, seen, kernel] = kernel_shape(&params, "weight")?;
        if seen == 0 || !inputs.is_multiple_of(seen) || kernel % 2 == 0 {
            return Err(params.wrong(
                "weight",
                &format!(
                    "expected {inputs} inputs or a whole part of them and an odd number of taps, \
                     got {:?}",
                    [outputs, seen, kernel]
                ),
            ));
        }
        let spec = Conv1dSpec {
            dilation,
            groups: inputs / seen,
            ..Conv1dSpec::new(inputs, outputs, kernel)
        };
        params.get("bias", &[outputs])?;
        Ok(SameConv {
            conv: Conv1d::load(&params, spec)?,
            outputs,
            padding: dilation * (kernel - 1) / 2,
        })
    }

    fn forward(&self, x: &Tensor, activation: Activation) -> Forward {
        if self.padding == 0 {
            return self.conv.forward(x, activation);
        }
        let (_, time, _) = x.dims3()?;
        if time <= self.padding {
            return Err(candle_core::Error::Msg(format!(
                "expected more than {} frames, got {time}",
                self.padding
            )));
        }
        let before = (1..=self.padding).rev();
        let after = (0..self.padding).map(|step| time - 2 - step);
        let order: Vec<u32> = before
            .chain(0..time)
            .chain(after)
            .map(|index| index as u32)
            .collect();
        let order = Tensor::from_vec(order, time + 2 * self.padding, &Device::Cpu)?;
        let mirrored = x.contiguous()?.index_select(&order, 1)?;
        self.conv.forward(&mirrored, activation)
    }
}

/// Convolution, rectifier, batch norm.
#[derive(Debug, Clone)]
struct TdnnBlock {
    conv: SameConv,
    norm: BatchNorm,
}

impl TdnnBlock {
    fn load(params: &Params, inputs: usize, dilation: usize) -> Loaded<Self> {
        let conv = SameConv::load(&params.pp("conv"), inputs, dilation)?;
        let norm = BatchNorm::load(&params.pp("norm.norm"), conv.outputs, NORM_EPS)?;
        Ok(TdnnBlock { conv, norm })
    }

    fn forward(&self, x: &Tensor) -> Forward {
        self.norm.forward(&self.conv.forward(x, Activation::Relu)?)
    }
}

/// Parts of the channels, each convolved together with the outcome of the part before.
#[derive(Debug, Clone)]
struct Res2NetBlock {
    blocks: Vec<TdnnBlock>,
    /// Channels of a part.
    width: usize,
}

impl Res2NetBlock {
    fn load(params: &Params, channels: usize, dilation: usize) -> Loaded<Self> {
        let count = count_blocks(params);
        if !channels.is_multiple_of(count + 1) {
            return Err(params.wrong(
                "blocks",
                &format!(
                    "expected {channels} channels in equal parts, got {} parts",
                    count + 1
                ),
            ));
        }
        let width = channels / (count + 1);
        let blocks = (0..count)
            .map(|index| TdnnBlock::load(&params.pp("blocks").pp(index), width, dilation))
            .collect::<Loaded<Vec<_>>>()?;
        match blocks.iter().position(|block| block.conv.outputs != width) {
            None => Ok(Res2NetBlock { blocks, width }),
            Some(index) => Err(params.wrong(
                &format!("blocks.{index}.conv.conv.weight"),
                &format!(
                    "expected {width} outputs, got {}",
                    blocks[index].conv.outputs
                ),
            )),
        }
    }

    fn forward(&self, x: &Tensor) -> Forward {
        let part = |index: usize| x.narrow(D::Minus1, index * self.width, self.width);
        let mut parts = vec![part(0)?];
        for (index, block) in (1..).zip(&self.blocks) {
            let mut seen = part(index)?;
            if index > 1 {
                seen = (seen + &parts[index - 1])?;
            }
            parts.push(block.forward(&seen)?);
        }
        Tensor::cat(&parts, D::Minus1)
    }
}

/// Weighs the channels by what they are on average.
#[derive(Debug, Clone)]
struct SeBlock {
    conv1: SameConv,
    conv2: SameConv,
}

impl SeBlock {
    fn load(params: &Params, channels: usize) -> Loaded<Self> {
        let conv1 = SameConv::load(&params.pp("conv1"), channels, 1)?;
        let conv2 = SameConv::load(&params.pp("conv2"), conv1.outputs, 1)?;
        expect_outputs(&params.pp("conv2"), &conv2, channels)?;
        Ok(SeBlock { conv1, conv2 })
    }

    fn forward(&self, x: &Tensor) -> Forward {
        let squeezed = self.conv1.forward(&x.mean_keepdim(1)?, Activation::Relu)?;
        x.broadcast_mul(&self.conv2.forward(&squeezed, Activation::Sigmoid)?)
    }
}

fn expect_outputs(params: &Params, conv: &SameConv, outputs: usize) -> Loaded<()> {
    if conv.outputs == outputs {
        return Ok(());
    }
    Err(params.wrong(
        "conv.weight",
        &format!("expected {outputs} outputs, got {}", conv.outputs),
    ))
}

/// TDNN, Res2Net, TDNN, squeeze-excitation, and a way around them.
#[derive(Debug, Clone)]
struct SeRes2NetBlock {
    tdnn1: TdnnBlock,
    res2net_block: Res2NetBlock,
    tdnn2: TdnnBlock,
    se_block: SeBlock,
    shortcut: Option<SameConv>,
}

impl SeRes2NetBlock {
    fn load(params: &Params, inputs: usize, dilation: usize) -> Loaded<Self> {
        let tdnn1 = TdnnBlock::load(&params.pp("tdnn1"), inputs, 1)?;
        let channels = tdnn1.conv.outputs;
        let res2net_block = Res2NetBlock::load(&params.pp("res2net_block"), channels, dilation)?;
        let tdnn2 = TdnnBlock::load(&params.pp("tdnn2"), channels, 1)?;
        expect_outputs(&params.pp("tdnn2.conv"), &tdnn2.conv, channels)?;
        let se_block = SeBlock::load(&params.pp("se_block"), channels)?;
        let shortcut = if inputs == channels {
            None
        } else {
            let shortcut = SameConv::load(&params.pp("shortcut"), inputs, 1)?;
            expect_outputs(&params.pp("shortcut"), &shortcut, channels)?;
            Some(shortcut)
        };
        Ok(SeRes2NetBlock {
            tdnn1,
            res2net_block,
            tdnn2,
            se_block,
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor) -> Forward {
        let around = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, Activation::Identity)?,
            None => x.clone(),
        };
        let x = self.tdnn1.forward(x)?;
        let x = self.res2net_block.forward(&x)?;
        let x = self.tdnn2.forward(&x)?;
        self.se_block.forward(&x)? + around
    }
}

/// Mean and standard deviation over time, weighed in every channel by attention.
#[derive(Debug, Clone)]
struct AttentiveStatisticsPooling {
    /// The part of `tdnn.conv` that sees the frame.
    frame: Linear,
    /// The part that sees mean and deviation of the whole clip, where there is one: it adds the same
    /// to every frame.
    context: Option<Linear>,
    norm: BatchNorm,
    conv: SameConv,
}

impl AttentiveStatisticsPooling {
    fn load(params: &Params, channels: usize) -> Loaded<Self> {
        let tdnn = params.pp("tdnn.conv.conv");
        let [attention, seen, _] = kernel_shape(&tdnn, "weight")?;
        let global = seen == 3 * channels;
        let seen = if global { seen } else { channels };
        let weight = tdnn.get("weight", &[attention, seen, 1])?;
        let bias = tdnn.get("bias", &[attention])?;
        let part = |from: usize, to: usize| {
            let rows = weight.values().chunks_exact(seen.max(1));
            let values = rows.flat_map(|row| &row[from..to]).copied().collect();
            Weight::from_values(values, &[attention, to - from])
        };
        let conv = SameConv::load(&params.pp("conv"), attention, 1)?;
        expect_outputs(&params.pp("conv"), &conv, channels)?;
        Ok(AttentiveStatisticsPooling {
            frame: Linear::new(part(0, channels), Some(bias)),
            context: global.then(|| Linear::new(part(channels, seen), None)),
            norm: BatchNorm::load(&params.pp("tdnn.norm.norm"), attention, NORM_EPS)?,
            conv,
        })
    }

    /// `x (1, time, channels)` to `(1, 1, 2 channels)`.
    fn forward(&self, x: &Tensor) -> Forward {
        let turned = x.transpose(1, 2)?.contiguous()?;
        let mut attention = self.frame.forward(x)?;
        if let Some(context) = &self.context {
            let mean = turned.mean_keepdim(2)?;
            let var = turned.broadcast_sub(&mean)?.sqr()?.mean_keepdim(2)?;
            let whole = statistics(&mean, &var)?;
            attention = attention.broadcast_add(&context.forward(&whole)?)?;
        }
        let attention = self
            .norm
            .forward(&activate(&attention, Activation::Relu)?)?;
        let attention = activate(&attention, Activation::Tanh)?;
        let attention = self.conv.forward(&attention, Activation::Identity)?;
        let share = softmax(&attention.transpose(1, 2)?.contiguous()?)?;
        let mean = (&share * &turned)?.sum_keepdim(2)?;
        let var = (share * turned.broadcast_sub(&mean)?.sqr()?)?.sum_keepdim(2)?;
        statistics(&mean, &var)
    }
}

/// Mean and deviation side by side: `(1, channels, 1)` twice to `(1, 1, 2 channels)`.
fn statistics(mean: &Tensor, var: &Tensor) -> Forward {
    let deviation = var.maximum(POOL_EPS)?.sqrt()?;
    Tensor::cat(&[mean, &deviation], 1)?
        .transpose(1, 2)?
        .contiguous()
}

/// The network with its front end.
pub struct Ecapa {
    front: SpeechbrainFbank,
    first: TdnnBlock,
    blocks: Vec<SeRes2NetBlock>,
    mfa: TdnnBlock,
    asp: AttentiveStatisticsPooling,
    asp_bn: BatchNorm,
    fc: SameConv,
    /// The mean embedding of the training set.
    glob_mean: Option<Weight>,
    parameters: usize,
}

impl Ecapa {
    /// Reads `embedding_model.ckpt`, and `mean_var_norm_emb.ckpt` where it is there.
    ///
    /// # Errors
    /// When a file cannot be read, or a tensor is missing or misshapen.
    pub fn open_dir(dir: &Path) -> Result<Self, ModelError> {
        let params = Params::open_file(&dir.join("embedding_model.ckpt"))?;
        let mut model = Ecapa::load(&params)?;
        let path = dir.join("mean_var_norm_emb.ckpt");
        if path.is_file() {
            let params = Params::open_file(&path)?;
            // Older versions of speechbrain kept a dimension of one.
            let shape = params.shape("glob_mean").unwrap_or_default();
            let shape = match shape {
                [1, _] => vec![1, model.fc.outputs],
                _ => vec![model.fc.outputs],
            };
            model.glob_mean = Some(params.get("glob_mean", &shape)?);
        }
        Ok(model)
    }

    fn load(params: &Params) -> Loaded<Self> {
        let count = count_blocks(params);
        if count < 2 {
            return Err(params.wrong(
                "blocks",
                &format!("expected at least 2 blocks, got {count}"),
            ));
        }
        let blocks = params.pp("blocks");
        let [_, mels, _] = kernel_shape(&blocks.pp("0.conv.conv"), "weight")?;
        let first = TdnnBlock::load(&blocks.pp(0), mels, 1)?;
        let mut inputs = first.conv.outputs;
        let mut later = Vec::new();
        for index in 1..count {
            let block = SeRes2NetBlock::load(&blocks.pp(index), inputs, index + 1)?;
            inputs = block.tdnn1.conv.outputs;
            later.push(block);
        }
        let together = later.iter().map(|block| block.tdnn1.conv.outputs).sum();
        let mfa = TdnnBlock::load(&params.pp("mfa"), together, 1)?;
        let channels = mfa.conv.outputs;
        Ok(Ecapa {
            front: SpeechbrainFbank::new(SpeechbrainFbankConfig {
                n_mels: mels,
                ..SpeechbrainFbankConfig::default()
            }),
            first,
            blocks: later,
            mfa,
            asp: AttentiveStatisticsPooling::load(&params.pp("asp"), channels)?,
            asp_bn: BatchNorm::load(&params.pp("asp_bn.norm"), 2 * channels, NORM_EPS)?,
            fc: SameConv::load(&params.pp("fc"), 2 * channels, 1)?,
            glob_mean: None,
            parameters: params.parameters(),
        })
    }

    /// Length of an embedding.
    pub fn dim(&self) -> usize {
        self.fc.outputs
    }

    /// Number of values in the checkpoint.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The front end.
    pub fn front(&self) -> &SpeechbrainFbank {
        &self.front
    }

    /// Features `(1, frames, mels)` to the embedding `(1, 1, dim)`; `seen` is called with the name and
    /// the output `(1, frames, channels)` of each part.
    ///
    /// # Errors
    /// When the features have another shape or are fewer frames than the convolutions reach over.
    pub fn forward(&self, features: &Tensor, mut seen: impl FnMut(&str, &Tensor)) -> Forward {
        let mut x = self.first.forward(features)?;
        seen("block.0", &x);
        let mut outputs = Vec::new();
        for (index, block) in (1..).zip(&self.blocks) {
            x = block.forward(&x)?;
            seen(&format!("block.{index}"), &x);
            outputs.push(x.clone());
        }
        let x = self.mfa.forward(&Tensor::cat(&outputs, D::Minus1)?)?;
        seen("mfa", &x);
        let x = self.asp.forward(&x)?;
        seen("pooled", &x);
        let x = self.asp_bn.forward(&x)?;
        seen("statistics", &x);
        self.fc.forward(&x, Activation::Identity)
    }

    /// Takes the mean embedding of the training set off `embedding (dim)`, where the checkpoint has
    /// it: `encode_batch(.., normalize=True)` of speechbrain. Its verification does not do this.
    pub fn centre(&self, embedding: &mut [f32]) {
        let mean = self.glob_mean.as_ref().map_or(&[][..], Weight::values);
        for (value, mean) in embedding.iter_mut().zip(mean) {
            *value -= mean;
        }
    }

    /// Frames that a clip must have for the ends to be mirrored.
    fn least_frames(&self) -> usize {
        let later = self
            .blocks
            .iter()
            .flat_map(|block| &block.res2net_block.blocks);
        std::iter::once(&self.first)
            .chain(later)
            .chain([&self.mfa])
            .map(|block| block.conv.padding + 1)
            .max()
            .unwrap_or(1)
    }
}

impl Network for Ecapa {
    fn rate_hz(&self) -> u32 {
        self.front.rate_hz()
    }

    fn window(&self) -> usize {
        self.front.window_samples()
    }

    fn classifies(&self) -> bool {
        false
    }

    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        // A frame every 10 ms, and one more.
        let least = (self.least_frames() - 1) * self.front.rate_hz() as usize / 100;
        let features = if pcm.len() < least {
            let mut filled = pcm.to_vec();
            filled.resize(least, 0.0);
            self.front.compute(&filled)
        } else {
            self.front.compute(pcm)
        };
        let shape = (1, features.frames, features.bins);
        let features = Tensor::from_vec(features.values, shape, &Device::Cpu)?;
        let embedding = self.forward(&features, |_, _| {})?;
        Ok(embedding.flatten_all()?.to_vec1()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::path::PathBuf;

    use safetensors::tensor::{Dtype, TensorView};

    use super::*;

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fixtures/ecapa")
    }

    /// What the checkpoint says after one change of its shapes.
    fn changed(change: impl Fn(&mut BTreeMap<String, Vec<usize>>)) -> Result<Ecapa, String> {
        let params = Params::open_file(&fixture().join("embedding_model.ckpt")).unwrap();
        let mut shapes: BTreeMap<String, Vec<usize>> = params
            .keys()
            .filter(|key| !key.ends_with("num_batches_tracked"))
            .map(|key| (key.to_owned(), params.shape(key).unwrap().to_vec()))
            .collect();
        change(&mut shapes);
        let zeros = vec![0; 1 << 20];
        let views = shapes.into_iter().map(|(key, shape)| {
            let bytes = &zeros[..4 * shape.iter().product::<usize>()];
            (key, TensorView::new(Dtype::F32, shape, bytes).unwrap())
        });
        let bytes = safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        std::fs::write(&path, bytes).unwrap();
        Ecapa::load(&Params::open_file(&path).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_missing_or_misshapen_tensor_is_an_error_that_names_it() {
        assert!(changed(|_| {}).is_ok());
        for (key, shape, part) in [
            ("fc.conv.weight", &[24, 95, 1][..], "got [24, 95, 1]"),
            (
                "blocks.1.tdnn1.conv.conv.weight",
                &[16, 16, 2],
                "got [16, 16, 2]",
            ),
            (
                "blocks.0.norm.norm.running_var",
                &[17],
                "expected shape [16], got [17]",
            ),
            ("blocks.2.tdnn2.conv.conv.weight", &[16, 16], "got [16, 16]"),
            ("blocks.3.se_block.conv2.conv.bias", &[15], "got [15]"),
            (
                "asp.tdnn.conv.conv.weight",
                &[8, 96, 1],
                "expected shape [8, 48, 1], got [8, 96, 1]",
            ),
            ("mfa.conv.conv.weight", &[48, 49, 1], "got [48, 49, 1]"),
        ] {
            let error = changed(|shapes| {
                shapes.insert(key.to_owned(), shape.to_vec());
            })
            .err()
            .unwrap();
            assert!(error.contains(key) && error.contains(part), "{error}");
            let error = changed(|shapes| {
                shapes.remove(key);
            })
            .err()
            .unwrap();
            assert!(
                error.contains(key) && error.contains("no such tensor"),
                "{error}"
            );
        }
        let error = changed(|shapes| {
            shapes.retain(|key, _| !key.contains("res2net_block.blocks.6"));
        });
        assert!(error.err().unwrap().contains("got 7 parts"));
        assert!(Ecapa::open_dir(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn clips_of_any_length_have_an_embedding() {
        let mut model = Ecapa::open_dir(&fixture()).unwrap();
        assert_eq!(
            (model.dim(), model.rate_hz(), model.window()),
            (24, 16_000, 48_000)
        );
        for samples in [0, 1, 100, 639, 640, 2_000] {
            let embedding = model.run(&vec![0.1; samples]).unwrap();
            assert_eq!(embedding.len(), 24);
            assert!(embedding.iter().all(|value| value.is_finite()), "{samples}");
        }
    }
}
