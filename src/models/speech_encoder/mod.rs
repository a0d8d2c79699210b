//! Encoders over the raw waveform: what wav2vec 2.0, HuBERT and WavLM have in common.
//!
//! Convolutions make a step of every 20 ms of sound, a transformer relates the steps, and a head
//! answers. The families differ in a few places, which [`Options`] names; each has a file of its own
//! beside this folder. Everything is as transformers 5.23 computes it for a single clip, whose attention
//! mask, where the feature extractor makes one, hides nothing. Masking and quantisation, which only
//! training knows, are no part of this.

mod adapter;
mod config;
mod encoder;
mod feature_encoder;
mod head;
mod positions;

pub use adapter::AdapterConfig;
pub use config::{Config, FeatExtractNorm, count};
pub use encoder::RelativePositions;

use candle_core::{Device, Tensor};

use self::adapter::Adapter;
use self::encoder::Encoder;
use self::feature_encoder::{FeatureEncoder, FeatureProjection};
use self::head::Head;
use super::ModelError;
use super::layout::Layout;
use super::network::Network;
use crate::features::Settings;
use crate::features::wave_norm::{WaveNorm, WaveNormConfig};
use crate::nn::layers::Conv1dSpec;
use crate::nn::params::Params;

/// Seconds of the native window. The encoders take any length; commands and speakers are told from a
/// few seconds, and attention grows with the square of more.
const WINDOW_S: usize = 5;
/// The longest sound, in samples, that a network may need before it answers at all: 17 minutes.
const MAX_REACH: usize = 1 << 24;

/// What one family has and another has not.
pub struct Options {
    /// Whether the features are normalised before they are projected.
    pub feat_proj_layer_norm: bool,
    /// Whether positions are made of batch-normalised steps, by a kernel that is not weight-normalised.
    pub conv_pos_batch_norm: bool,
    /// The width of the adapters in the layers, where there are such.
    pub adapter_attn_dim: Option<usize>,
    /// The adapter above the encoder, where there is one.
    pub adapter: Option<AdapterConfig>,
    /// Positions that attention itself knows of, where it does.
    pub relative: Option<Box<dyn RelativePositions>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            feat_proj_layer_norm: true,
            conv_pos_batch_norm: false,
            adapter_attn_dim: None,
            adapter: None,
            relative: None,
        }
    }
}

/// A place in the network, in the order in which a clip passes them; what is seen there is `(batch,
/// steps, channels)`, from [`Stage::Pooled`] on without the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Behind a convolution with its normalisation and activation.
    Conv(usize),
    /// Behind the projection of the features.
    Projection,
    /// What is added for positions.
    Positions,
    /// Before the first layer (0), or behind a layer, from 1 on: the hidden states of the reference.
    Hidden(usize),
    /// Behind the encoder.
    Last,
    /// Behind the adapter.
    Adapter,
    /// What the head sees: the weighted sum of the layers, or the last.
    Weighted,
    /// Behind the mean over time.
    Pooled,
    /// Behind a convolution of the x-vector.
    Tdnn(usize),
    /// Mean and deviation over time.
    Statistics,
}

/// Sees what a clip is at every [`Stage`].
pub type Watch<'a> = dyn FnMut(Stage, &Tensor) -> candle_core::Result<()> + 'a;

/// A loaded encoder with its head.
pub struct SpeechModel {
    front_end: WaveNorm,
    feature_extractor: FeatureEncoder,
    feature_projection: FeatureProjection,
    encoder: Encoder,
    adapter: Option<Adapter>,
    head: Head,
    embedding_dim: Option<usize>,
    /// The fewest samples that give the head enough steps.
    reach: usize,
}

impl SpeechModel {
    /// Loads the encoder from `base`, which is below `params` in a checkpoint with a head, and the head
    /// from `params`.
    ///
    /// # Errors
    /// When the configuration makes no network, or a tensor is missing or misshapen.
    pub fn load(
        layout: &Layout,
        params: &Params,
        base: &Params,
        config: &Config,
        options: Options,
    ) -> Result<Self, ModelError> {
        let settings = Settings::in_dir(layout.dir())?;
        let front_end = match settings {
            Some(settings) => WaveNormConfig::from_settings(&settings)?,
            None => WaveNormConfig::default(),
        };
        let width = options.adapter.as_ref().map(|own| own.width(config));
        let head = Head::load(layout, params, config, width)?;
        // The sum of the encoder's layers leaves the adapter aside.
        let adapter = options
            .adapter
            .clone()
            .filter(|_| head.layer_sum().is_none());
        let above: Vec<Conv1dSpec> = adapter
            .iter()
            .flat_map(|own| own.convolutions(config))
            .collect();
        let specs: Vec<Conv1dSpec> = config.convolutions().chain(above).collect();
        let reach = reach(&specs, head.steps()).ok_or_else(|| {
            let what = format!("expected a network that answers to {MAX_REACH} samples or fewer");
            layout.wrong("conv_stride", &what)
        })?;
        Ok(SpeechModel {
            front_end: WaveNorm::new(front_end),
            feature_extractor: FeatureEncoder::load(&base.pp("feature_extractor"), config)?,
            feature_projection: FeatureProjection::load(
                &base.pp("feature_projection"),
                config,
                options.feat_proj_layer_norm,
            )?,
            adapter: adapter
                .map(|own| Adapter::load(&base.pp("adapter"), config, &own))
                .transpose()?,
            encoder: Encoder::load(&base.pp("encoder"), config, options)?,
            embedding_dim: head.embedding_dim(width.unwrap_or(config.hidden_size)),
            head,
            reach,
        })
    }

    /// Values of the embedding that it gives; `None` where it gives logits.
    pub fn embedding_dim(&self) -> Option<usize> {
        self.embedding_dim
    }

    /// The waveform `(1, samples, 1)` of mono samples, normalised and long enough for the network.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn features(&self, pcm: &[f32]) -> Result<Tensor, ModelError> {
        let wave = self.front_end.compute_padded(pcm, self.reach);
        let samples = wave.len();
        Ok(Tensor::from_vec(wave, (1, samples, 1), &Device::Cpu)?)
    }

    /// The outputs of a `wave (batch, samples, 1)`: logits `(batch, labels)` or embeddings `(batch,
    /// dim)`. `watch` sees everything on the way.
    ///
    /// # Errors
    /// When the wave has another shape or is too short.
    pub fn forward(&self, wave: &Tensor, watch: &mut Watch) -> Result<Tensor, ModelError> {
        let x = self.feature_extractor.forward(wave, watch)?;
        let x = self.feature_projection.forward(&x)?;
        watch(Stage::Projection, &x)?;
        let mut sum = self.head.layer_sum();
        let mut x = self.encoder.forward(&x, &mut |stage, x| {
            if let (Some(sum), Stage::Hidden(_)) = (&mut sum, stage) {
                sum.add(x)?;
            }
            watch(stage, x)
        })?;
        if let Some(adapter) = &self.adapter {
            x = adapter.forward(&x)?;
            watch(Stage::Adapter, &x)?;
        }
        if let Some(sum) = sum {
            x = sum.finish()?;
        }
        watch(Stage::Weighted, &x)?;
        Ok(self.head.forward(&x, watch)?)
    }
}

impl Network for SpeechModel {
    fn rate_hz(&self) -> u32 {
        self.front_end.rate_hz()
    }

    fn window(&self) -> usize {
        (WINDOW_S * self.rate_hz() as usize).max(self.reach)
    }

    fn classifies(&self) -> bool {
        self.embedding_dim.is_none()
    }

    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        let outputs = self.forward(&self.features(pcm)?, &mut |_, _| Ok(()))?;
        Ok(outputs.flatten_all()?.to_vec1()?)
    }
}

/// The fewest samples of which convolutions one above the other leave `steps`; `None` where they are
/// more than can be meant.
fn reach(specs: &[Conv1dSpec], steps: usize) -> Option<usize> {
    specs.iter().rev().try_fold(steps, |outputs, spec| {
        let inputs = outputs
            .checked_sub(1)?
            .checked_mul(spec.stride)?
            .checked_add(spec.kernel)?
            .saturating_sub(2 * spec.padding)
            .max(1);
        (inputs <= MAX_REACH).then_some(inputs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_samples_are_the_receptive_field() {
        let config = Config::default();
        let specs: Vec<_> = config.convolutions().collect();
        // 25 ms, and 20 ms more for every further step.
        assert_eq!(reach(&specs, 1), Some(400));
        assert_eq!(reach(&specs, 16), Some(400 + 15 * 320));
        for samples in [399, 400, 719, 720, 5200] {
            let steps = specs.iter().fold(samples, |time, spec| spec.out_time(time));
            let least = reach(&specs, steps.max(1)).unwrap();
            assert!((least <= samples) == (steps > 0), "{samples}");
        }
        let huge = Conv1dSpec {
            stride: 1 << 16,
            ..Conv1dSpec::new(1, 1, 1)
        };
        assert_eq!(reach(&[huge; 9], 2), None);
        assert_eq!(reach(&[huge; 9], 1), Some(1));
        assert_eq!(reach(&[Conv1dSpec::new(1, 1, 1)], MAX_REACH + 1), None);
    }
}
