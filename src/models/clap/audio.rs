//! The audio tower: HTS-AT (Chen et al., *HTS-AT: A Hierarchical Token-Semantic Audio Transformer*,
//! 2022) and the projection behind it, as `ClapAudioModel` and `ClapProjectionLayer` of transformers
//! 5.23 compute them.

use candle_core::{Device, Tensor};

use super::Projection;
use super::config::{AudioConfig, Config, activation};
use super::fusion::Fusion;
use super::image::images;
use super::swin::{EPS, Stage};
use crate::features::Settings;
use crate::features::clap_mel::{ClapInput, ClapMel, ClapMelConfig, ClapTruncation};
use crate::models::ModelError;
use crate::models::layout::Layout;
use crate::models::network::Network;
use crate::nn::layers::{Activation, BatchNorm, Conv2d, Conv2dSpec, LayerNorm, mean};
use crate::nn::params::Params;

/// Patches of the image, of a long clip those of its chunks too.
struct PatchEmbed {
    proj: Conv2d,
    fusion: Option<Fusion>,
    norm: Option<LayerNorm>,
}

impl PatchEmbed {
    fn load(params: &Params, layout: &Layout, config: &AudioConfig) -> Result<Self, ModelError> {
        let (kernel, stride) = (config.patch_size.get(), config.patch_stride.get());
        let channels = config.patch_embeds_hidden_size;
        let spec = Conv2dSpec {
            inputs: 1,
            outputs: channels,
            kernel,
            stride,
            padding: ((kernel.0 - stride.0) / 2, (kernel.1 - stride.1) / 2),
        };
        let (grid, patches) = (
            config.grid(),
            spec.out_size((config.spec_size, config.spec_size)),
        );
        if grid != patches {
            let what = format!(
                "expected patches of {kernel:?} that fill {grid:?} places, got {patches:?}"
            );
            return Err(layout.wrong("audio_config.patch_stride", &what));
        }
        Ok(PatchEmbed {
            proj: Conv2d::load(&params.pp("proj"), spec)?,
            fusion: match config.enable_fusion {
                true => Some(Fusion::load(params, config, spec)?),
                false => None,
            },
            norm: match config.enable_patch_layer_norm {
                true => Some(LayerNorm::load(&params.pp("norm"), channels, EPS)?),
                false => None,
            },
        })
    }

    /// Images to `(clips, patches, channels)`.
    fn forward(
        &self,
        images: &Images,
        seen: &mut dyn FnMut(&str, &Tensor),
    ) -> candle_core::Result<Tensor> {
        let mut patches = self.proj.forward(&images.whole, Activation::Identity)?;
        if let (Some(fusion), Some((chunks, longer))) = (&self.fusion, &images.chunks) {
            patches = fuse(fusion, &patches, chunks, longer)?;
            seen("fused", &patches);
        }
        let patches = patches.flatten(1, 2)?;
        match &self.norm {
            Some(norm) => norm.forward(&patches),
            None => Ok(patches),
        }
    }
}

/// What the tower looks at.
struct Images {
    /// Of every clip the whole, `(clips, height, width, 1)`.
    whole: Tensor,
    /// The chunks of clips that are longer than the window, three a clip, `(3 longer, height, width, 1)`,
    /// and which clips these are.
    chunks: Option<(Tensor, Vec<usize>)>,
}

/// Patches of all clips, of which those of the longer ones have their chunks in them.
fn fuse(
    fusion: &Fusion,
    patches: &Tensor,
    chunks: &Tensor,
    longer: &[usize],
) -> candle_core::Result<Tensor> {
    let clips = patches.dim(0)?;
    if longer.len() == clips {
        return fusion.forward(patches, chunks);
    }
    let pick = |clips: &[usize]| {
        let clips: Vec<u32> = clips.iter().map(|&clip| clip as u32).collect();
        Tensor::from_slice(&clips, clips.len(), &Device::Cpu)
    };
    let fused = fusion.forward(&patches.index_select(&pick(longer)?, 0)?, chunks)?;
    // The fused ones stand behind all; every longer clip takes its own from there.
    let mut order: Vec<usize> = (0..clips).collect();
    for (at, &clip) in longer.iter().enumerate() {
        order[clip] = clips + at;
    }
    Tensor::cat(&[patches, &fused], 0)?.index_select(&pick(&order)?, 0)
}

/// The audio tower with its front end.
pub struct ClapAudio {
    config: AudioConfig,
    front_end: ClapMel,
    batch_norm: BatchNorm,
    patch_embed: PatchEmbed,
    layers: Vec<Stage>,
    norm: LayerNorm,
    projection: Projection,
}

impl ClapAudio {
    /// Loads it from the tensors of a directory.
    ///
    /// # Errors
    /// When the configuration makes no network, the feature extractor does not go with it, or a
    /// tensor is missing or misshapen.
    pub fn load(layout: &Layout, params: &Params) -> Result<Self, ModelError> {
        let whole = Config::read(layout)?;
        let config = &whole.audio_config;
        config.check(layout)?;
        let hidden_act = activation(layout, "audio_config.hidden_act", &config.hidden_act)?;
        let encoder = params.pp("audio_model.audio_encoder");
        let layers = (0..config.depths.len())
            .map(|stage| Stage::load(&encoder.pp("layers").pp(stage), config, hidden_act, stage))
            .collect::<Result<_, _>>()?;
        Ok(ClapAudio {
            front_end: front_end(layout, config)?,
            batch_norm: BatchNorm::load(&encoder.pp("batch_norm"), config.num_mel_bins, EPS)?,
            patch_embed: PatchEmbed::load(&encoder.pp("patch_embed"), layout, config)?,
            layers,
            norm: LayerNorm::load(&encoder.pp("norm"), config.hidden_size, EPS)?,
            projection: Projection::load(
                &params.pp("audio_projection"),
                layout,
                &whole,
                config.hidden_size,
            )?,
            config: whole.audio_config,
        })
    }

    /// What makes the features of a clip for the audio tower of a directory, whose tensors are not read.
    ///
    /// # Errors
    /// When the configuration makes no network, or the feature extractor does not go with it.
    pub fn front_end_of(layout: &Layout) -> Result<ClapMel, ModelError> {
        let config = Config::read(layout)?.audio_config;
        config.check(layout)?;
        front_end(layout, &config)
    }

    /// What makes the features of a clip.
    pub fn front_end(&self) -> &ClapMel {
        &self.front_end
    }

    /// The embedding of mono samples `(samples)` at the rate of [`ClapAudio::front_end`], of length 1;
    /// what is longer than the model's window is cut or fused as its front end has it.
    ///
    /// # Errors
    /// When the parts of the network do not fit together.
    pub fn embed(&self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        self.embed_features(&self.front_end.compute(pcm))
    }

    /// [`ClapAudio::embed`] of features that were made before.
    ///
    /// # Errors
    /// When they have another shape than the front end gives.
    pub fn embed_features(&self, features: &ClapInput) -> Result<Vec<f32>, ModelError> {
        let embedding = self.forward(std::slice::from_ref(features))?;
        Ok(embedding.flatten_all()?.to_vec1()?)
    }

    /// The embeddings of the features of some clips, `(clips, dim)`, each of length 1, as a tensor
    /// through which gradients pass.
    ///
    /// # Errors
    /// When they have another shape than the front end gives, or not all of them the same.
    pub fn forward(&self, clips: &[ClapInput]) -> Result<Tensor, ModelError> {
        self.project(&self.pooled(clips)?)
    }

    /// What the tower makes of some clips before the projection, `(clips, hidden)`.
    ///
    /// # Errors
    /// The same.
    pub fn pooled(&self, clips: &[ClapInput]) -> Result<Tensor, ModelError> {
        self.run_features(clips, &mut |_, _| {})
    }

    /// From [`ClapAudio::pooled`] to embeddings of length 1, `(clips, dim)`.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn project(&self, pooled: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.projection.embed(pooled)?)
    }

    /// Everything on the way, by names: `image (views, height, width, 1)`; `fused (1, rows, columns,
    /// channels)` where there is a fusion; `patch_embed`, `block.N` (the last of each stage), `stage.N`
    /// and `norm`, all `(1, tokens, channels)`; `pooled (1, hidden)`; `projection (1, projection_dim)`.
    ///
    /// # Errors
    /// As [`ClapAudio::embed_features`].
    pub fn hidden_states(&self, features: &ClapInput) -> Result<Vec<(String, Tensor)>, ModelError> {
        let mut states = Vec::new();
        let pooled = self.run_features(std::slice::from_ref(features), &mut |name, state| {
            states.push((name.to_owned(), state.clone()));
        })?;
        let projection = self.projection.forward(&pooled)?;
        states.push(("projection".to_owned(), projection));
        Ok(states)
    }

    fn run_features(
        &self,
        clips: &[ClapInput],
        seen: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor, ModelError> {
        let images = self.images(clips)?;
        match &images.chunks {
            None => seen("image", &images.whole),
            Some((chunks, _)) => seen("image", &Tensor::cat(&[&images.whole, chunks], 0)?),
        }
        let mut x = self.patch_embed.forward(&images, seen)?;
        drop(images);
        seen("patch_embed", &x);
        for (index, stage) in self.layers.iter().enumerate() {
            x = stage.forward(&x, &mut |block| seen(&format!("block.{index}"), block))?;
            seen(&format!("stage.{index}"), &x);
        }
        x = self.norm.forward(&x)?;
        seen("norm", &x);
        let pooled = mean(&x)?;
        seen("pooled", &pooled);
        Ok(pooled)
    }

    /// The normalised views of some clips as images.
    fn images(&self, clips: &[ClapInput]) -> Result<Images, ModelError> {
        let (views, mels) = (self.views(), self.config.num_mel_bins);
        let most = self.config.image_frames();
        let frames = clips.first().map_or(0, |clip| clip.frames);
        for clip in clips {
            let got = (clip.channels, clip.frames, clip.bins);
            if got != (views, frames, mels)
                || !(1..=most).contains(&frames)
                || clip.values.len() != views * frames * mels
            {
                return Err(ModelError::Shape(format!(
                    "CLAP: expected features ({views}, 1 to {most}, {mels}), all of one length, got {got:?}"
                )));
            }
        }
        if clips.is_empty() {
            return Err(ModelError::Shape("CLAP: expected a clip, got none".into()));
        }
        let values: Vec<f32> = clips
            .iter()
            .flat_map(|clip| &clip.values)
            .copied()
            .collect();
        let shape = (clips.len() * views, frames, mels);
        let mel = Tensor::from_vec(values, shape, &Device::Cpu)?;
        let mel = self.batch_norm.forward(&mel)?;
        // Only fusion looks at more than the first.
        let longer: Vec<usize> = match self.config.enable_fusion {
            true => (0..clips.len()).filter(|&at| clips[at].is_longer).collect(),
            false => Vec::new(),
        };
        let fold = |chosen| images(&mel, chosen, most, self.config.freq_ratio());
        let first = (0..clips.len()).map(|clip| clip * views).collect();
        let others = |&clip: &usize| clip * views + 1..(clip + 1) * views;
        Ok(Images {
            whole: fold(first)?,
            chunks: match longer.is_empty() {
                true => None,
                false => Some((fold(longer.iter().flat_map(others).collect())?, longer)),
            },
        })
    }

    /// Views of a clip that the tower takes.
    fn views(&self) -> usize {
        if self.config.enable_fusion { 4 } else { 1 }
    }
}

impl Network for ClapAudio {
    fn rate_hz(&self) -> u32 {
        self.front_end.rate_hz()
    }

    fn window(&self) -> usize {
        self.front_end.window_samples()
    }

    fn classifies(&self) -> bool {
        false
    }

    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        self.embed(pcm)
    }
}

/// The front end, which must make what the tower takes.
fn front_end(layout: &Layout, config: &AudioConfig) -> Result<ClapMel, ModelError> {
    let needed = match config.enable_fusion {
        true => ClapTruncation::Fusion,
        false => ClapTruncation::RandTrunc,
    };
    let made = match Settings::in_dir(layout.dir())? {
        Some(settings) => ClapMelConfig::from_settings(&settings)?,
        None => ClapMelConfig {
            truncation: needed,
            feature_size: config.num_mel_bins,
            ..Default::default()
        },
    };
    if made.truncation != needed {
        let what = format!(
            "expected what goes with the feature extractor's truncation, which is {:?}, got {}",
            made.truncation, config.enable_fusion
        );
        return Err(layout.wrong("audio_config.enable_fusion", &what));
    }
    if made.feature_size != config.num_mel_bins {
        let what = format!(
            "expected {} as the feature extractor has it, got {}",
            made.feature_size, config.num_mel_bins
        );
        return Err(layout.wrong("audio_config.num_mel_bins", &what));
    }
    let samples = made
        .max_length_s
        .saturating_mul(made.sampling_rate as usize);
    let (frames, most) = (samples / made.hop_length + 1, config.image_frames());
    if frames > most {
        let what = format!(
            "expected an image for the {frames} frames that the feature extractor makes, got one for {most}"
        );
        return Err(layout.wrong("audio_config.spec_size", &what));
    }
    Ok(ClapMel::new(made))
}
