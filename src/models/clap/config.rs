//! `config.json` of CLAP: keys and defaults of `ClapConfig`, `ClapAudioConfig` and `ClapTextConfig`
//! (transformers 5.23), and what of it makes a network.
//!
//! What the reference accepts and then fails on at the first clip is refused when it is loaded.

use serde::Deserialize;

use crate::kernels::rows::Activation;
use crate::models::ModelError;
use crate::models::layout::Layout;

/// The largest image that is accepted, in pixels a side; published ones have 256.
const MAX_SPEC_SIZE: usize = 1024;
/// The most tokens of the first stage that are accepted; published ones have 4096.
const MAX_TOKENS: usize = 1 << 16;
/// The most stages that are accepted; published ones have 4.
const MAX_STAGES: usize = 8;

/// `ClapConfig`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The audio tower.
    pub audio_config: AudioConfig,
    /// The text tower.
    pub text_config: TextConfig,
    /// Values of an embedding; it stands above that of the towers.
    pub projection_dim: usize,
    /// Between the two layers of a projection; it stands above that of the towers.
    pub projection_hidden_act: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            audio_config: AudioConfig::default(),
            text_config: TextConfig::default(),
            projection_dim: 512,
            projection_hidden_act: "relu".to_owned(),
        }
    }
}

/// One number, or one for height and one for width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Pair {
    /// The same for both.
    One(usize),
    /// Height and width.
    Two([usize; 2]),
}

impl Pair {
    /// Height and width.
    pub fn get(self) -> (usize, usize) {
        match self {
            Pair::One(both) => (both, both),
            Pair::Two([height, width]) => (height, width),
        }
    }
}

/// `ClapAudioConfig`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct AudioConfig {
    /// Tokens a side of an attention window.
    pub window_size: usize,
    /// Bands of the spectrogram.
    pub num_mel_bins: usize,
    /// Pixels a side of the image that the spectrogram is folded into.
    pub spec_size: usize,
    /// Between the two linear layers of a block.
    pub hidden_act: String,
    /// Pixels of a patch.
    pub patch_size: Pair,
    /// Pixels from a patch to the next.
    pub patch_stride: Pair,
    /// Values that the tower gives; those of a token in the last stage.
    pub hidden_size: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Heads of each stage.
    pub num_attention_heads: Vec<usize>,
    /// Whether long clips are seen whole and in chunks.
    pub enable_fusion: bool,
    /// How they are put together: `aff_2d`, or nothing for the same.
    pub fusion_type: Option<String>,
    /// Channels of the image.
    pub patch_embed_input_channels: usize,
    /// Whether patches come out one after the other; always.
    pub flatten_patch_embeds: bool,
    /// Values of a token in the first stage.
    pub patch_embeds_hidden_size: usize,
    /// Whether patches are normalised.
    pub enable_patch_layer_norm: bool,
    /// Whether queries, keys and values have an offset.
    pub qkv_bias: bool,
    /// How many times wider a block is between its two linear layers.
    pub mlp_ratio: f64,
    /// How many times narrower the fusion's attention is inside.
    pub aff_block_r: usize,
    /// Added to every variance of a block.
    pub layer_norm_eps: f64,
    /// How many values are dropped behind the second linear layer of a block while it is trained.
    pub hidden_dropout_prob: f64,
    /// How many weights of an attention are, and values behind it.
    pub attention_probs_dropout_prob: f64,
}

impl Default for AudioConfig {
    fn default() -> Self {
        AudioConfig {
            window_size: 8,
            num_mel_bins: 64,
            spec_size: 256,
            hidden_act: "gelu".to_owned(),
            patch_size: Pair::One(4),
            patch_stride: Pair::One(4),
            hidden_size: 768,
            depths: vec![2, 2, 6, 2],
            num_attention_heads: vec![4, 8, 16, 32],
            enable_fusion: false,
            fusion_type: None,
            patch_embed_input_channels: 1,
            flatten_patch_embeds: true,
            patch_embeds_hidden_size: 96,
            enable_patch_layer_norm: true,
            qkv_bias: true,
            mlp_ratio: 4.0,
            aff_block_r: 4,
            layer_norm_eps: 1e-5,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.0,
        }
    }
}

/// `ClapTextConfig`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Tokens that there are.
    pub vocab_size: usize,
    /// Values of a token.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of an attention.
    pub num_attention_heads: usize,
    /// Values between the two linear layers of a layer.
    pub intermediate_size: usize,
    /// Between them.
    pub hidden_act: String,
    /// Positions that there are, those up to that of padding included.
    pub max_position_embeddings: usize,
    /// Kinds of token that there are; only the first is used.
    pub type_vocab_size: usize,
    /// Added to every variance.
    pub layer_norm_eps: f64,
    /// The token of padding; the first token stands at the position behind its number.
    pub pad_token_id: u32,
    /// How many values are dropped behind the embeddings and the linear layers while it is trained.
    pub hidden_dropout_prob: f64,
    /// How many weights of an attention are.
    pub attention_probs_dropout_prob: f64,
}

impl Default for TextConfig {
    fn default() -> Self {
        TextConfig {
            vocab_size: 50_265,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            max_position_embeddings: 514,
            type_vocab_size: 1,
            layer_norm_eps: 1e-12,
            pad_token_id: 1,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
        }
    }
}

/// The activation that `key` names.
pub(super) fn activation(layout: &Layout, key: &str, name: &str) -> Result<Activation, ModelError> {
    Activation::named(name).ok_or_else(|| {
        let what = format!("expected the name of an activation such as gelu, got \"{name}\"");
        layout.wrong(key, &what)
    })
}

/// Refuses what `holds` is false of.
fn demand(
    layout: &Layout,
    holds: bool,
    key: &str,
    expected: impl std::fmt::Display,
    got: impl std::fmt::Debug,
) -> Result<(), ModelError> {
    if holds {
        Ok(())
    } else {
        Err(layout.wrong(key, &format!("expected {expected}, got {got:?}")))
    }
}

impl Config {
    /// Reads it; the towers check their own parts.
    pub(super) fn read(layout: &Layout) -> Result<Self, ModelError> {
        let config: Config = layout.config()?;
        let dim = config.projection_dim;
        demand(layout, dim > 0, "projection_dim", "at least 1", dim)?;
        Ok(config)
    }
}

impl AudioConfig {
    /// Refuses what makes no tower.
    pub(super) fn check(&self, layout: &Layout) -> Result<(), ModelError> {
        let demand = |holds, key: &str, expected: &str, got: &dyn std::fmt::Debug| {
            demand(layout, holds, &format!("audio_config.{key}"), expected, got)
        };
        let spec_size = self.spec_size;
        let size = format!("from 1 to {MAX_SPEC_SIZE}");
        let fits = (1..=MAX_SPEC_SIZE).contains(&spec_size);
        demand(fits, "spec_size", &size, &spec_size)?;
        let mels = self.num_mel_bins;
        let divides = mels > 0 && spec_size.is_multiple_of(mels);
        // Frames behind each other in as many strips as there are mels in the height.
        let folds = divides && spec_size.is_multiple_of(spec_size / mels);
        let divisor = format!("a divisor of spec_size, which is {spec_size}");
        demand(folds, "num_mel_bins", &divisor, &mels)?;
        self.check_patches(layout)?;
        let stages = self.depths.len();
        let some = (1..=MAX_STAGES).contains(&stages);
        demand(
            some,
            "depths",
            &format!("1 to {MAX_STAGES} stages"),
            &self.depths,
        )?;
        demand(
            self.num_attention_heads.len() == stages,
            "num_attention_heads",
            &format!("{stages} numbers, as depths has"),
            &self.num_attention_heads,
        )?;
        let (grid, width) = (self.grid(), self.patch_embeds_hidden_size);
        let narrow = (1..=MAX_TOKENS).contains(&width);
        demand(
            narrow,
            "patch_embeds_hidden_size",
            &format!("from 1 to {MAX_TOKENS}"),
            &width,
        )?;
        for (stage, &heads) in self.num_attention_heads.iter().enumerate() {
            let dim = self.dim(stage);
            demand(
                heads > 0 && dim.is_multiple_of(heads),
                "num_attention_heads",
                &format!("divisors of the widths, which is {dim} in stage {stage}"),
                &self.num_attention_heads,
            )?;
            let (height, breadth) = (grid.0 >> stage, grid.1 >> stage);
            let smaller = height.min(breadth);
            demand(
                (1..=smaller).contains(&self.window_size),
                "window_size",
                &format!("at most {smaller}, the tokens a side of stage {stage}"),
                &self.window_size,
            )?;
            demand(
                stage + 1 == stages || (height | breadth).is_multiple_of(2),
                "depths",
                &format!(
                    "stages as long as the tokens can be halved; there are {height} x {breadth} in stage {stage}"
                ),
                &self.depths,
            )?;
        }
        let last = self.dim(stages - 1);
        demand(
            self.hidden_size == last,
            "hidden_size",
            &format!("{last}, the width of the last stage"),
            &self.hidden_size,
        )?;
        let ratio = self.mlp_ratio;
        let wide = (0.0..=64.0).contains(&ratio) && (ratio * width as f64) as usize > 0;
        demand(wide, "mlp_ratio", "a factor up to 64", &ratio)?;
        let eps = self.layer_norm_eps;
        demand(eps >= 0.0, "layer_norm_eps", "0 or more", &eps)?;
        for (key, share) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            (
                "attention_probs_dropout_prob",
                self.attention_probs_dropout_prob,
            ),
        ] {
            demand(
                (0.0..1.0).contains(&share),
                key,
                "from 0 to below 1",
                &share,
            )?;
        }
        Ok(())
    }

    fn check_patches(&self, layout: &Layout) -> Result<(), ModelError> {
        let demand = |holds, key: &str, expected: &str, got: &dyn std::fmt::Debug| {
            demand(layout, holds, &format!("audio_config.{key}"), expected, got)
        };
        let ((height, width), (down, across)) = (self.patch_size.get(), self.patch_stride.get());
        let side = 1..=self.spec_size;
        demand(
            side.contains(&down) && side.contains(&across),
            "patch_stride",
            &format!("from 1 to spec_size, which is {}", self.spec_size),
            &(down, across),
        )?;
        demand(
            (down..=self.spec_size).contains(&height) && (across..=self.spec_size).contains(&width),
            "patch_size",
            "at least patch_stride and at most spec_size",
            &(height, width),
        )?;
        let (rows, columns) = self.grid();
        demand(
            rows * columns <= MAX_TOKENS,
            "patch_stride",
            &format!("at most {MAX_TOKENS} patches"),
            &(down, across),
        )?;
        let flat = self.flatten_patch_embeds;
        demand(flat, "flatten_patch_embeds", "true", &flat)?;
        let channels = self.patch_embed_input_channels;
        demand(channels == 1, "patch_embed_input_channels", "1", &channels)?;
        if self.enable_fusion {
            let mapped = self.fusion_type.as_deref() == Some("channel_map");
            demand(!mapped, "fusion_type", "aff_2d", &self.fusion_type)?;
            let r = self.aff_block_r;
            let some = (1..=self.patch_embeds_hidden_size).contains(&r);
            demand(
                some,
                "aff_block_r",
                "from 1 to patch_embeds_hidden_size",
                &r,
            )?;
            let fits = 3 * width <= self.spec_size;
            demand(
                fits,
                "patch_size",
                "a third of spec_size at most",
                &(height, width),
            )?;
        }
        Ok(())
    }

    /// Tokens of the first stage, down and across.
    pub(super) fn grid(&self) -> (usize, usize) {
        let (down, across) = self.patch_stride.get();
        (self.spec_size / down.max(1), self.spec_size / across.max(1))
    }

    /// Values of a token in a stage.
    pub(super) fn dim(&self, stage: usize) -> usize {
        self.patch_embeds_hidden_size << stage
    }

    /// Strips that the spectrogram is cut into, which stand below each other in the image.
    pub(super) fn freq_ratio(&self) -> usize {
        self.spec_size / self.num_mel_bins
    }

    /// Frames that fill the image.
    pub(super) fn image_frames(&self) -> usize {
        self.spec_size * self.freq_ratio()
    }
}

impl TextConfig {
    /// Refuses what makes no tower.
    pub(super) fn check(&self, layout: &Layout) -> Result<(), ModelError> {
        let demand = |holds, key: &str, expected: &str, got: &dyn std::fmt::Debug| {
            demand(layout, holds, &format!("text_config.{key}"), expected, got)
        };
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("type_vocab_size", self.type_vocab_size),
        ] {
            demand(value > 0, key, "at least 1", &value)?;
        }
        demand(
            self.hidden_size.is_multiple_of(self.num_attention_heads),
            "num_attention_heads",
            &format!("a divisor of hidden_size, which is {}", self.hidden_size),
            &self.num_attention_heads,
        )?;
        demand(
            self.max_tokens() >= 3,
            "max_position_embeddings",
            &format!(
                "at least 4 beyond pad_token_id, which is {}",
                self.pad_token_id
            ),
            &self.max_position_embeddings,
        )?;
        let eps = self.layer_norm_eps;
        demand(eps >= 0.0, "layer_norm_eps", "0 or more", &eps)?;
        for (key, share) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            (
                "attention_probs_dropout_prob",
                self.attention_probs_dropout_prob,
            ),
        ] {
            demand(
                (0.0..1.0).contains(&share),
                key,
                "from 0 to below 1",
                &share,
            )?;
        }
        Ok(())
    }

    /// Tokens that have a position: those behind that of padding.
    pub(super) fn max_tokens(&self) -> usize {
        self.max_position_embeddings
            .saturating_sub(self.pad_token_id as usize + 1)
    }
}
