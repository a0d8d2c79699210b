//! What the configurations of wav2vec 2.0, HuBERT and WavLM have in common.

use serde::Deserialize;

use crate::models::ModelError;
use crate::models::layout::Layout;
use crate::nn::layers::{Activation, Conv1dSpec};

/// The largest size, stride, width or count that is believed: hundreds of times what any published
/// checkpoint has, and small enough that no product of a few overflows.
const MAX: usize = 1 << 16;

/// Where the convolutions are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatExtractNorm {
    /// The first one, every channel over time.
    Group,
    /// Every one, over its channels.
    Layer,
}

/// `config.json`, with the keys and the defaults that `Wav2Vec2Config`, `HubertConfig` and
/// `WavLMConfig` share.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Values of a step.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of an attention.
    pub num_attention_heads: usize,
    /// Values between the two linear layers of a feed-forward part.
    pub intermediate_size: usize,
    /// What stands between them.
    #[serde(skip)]
    pub hidden_act: Activation,
    /// Added to every variance but those of the convolutions and the adapters.
    pub layer_norm_eps: f64,
    /// Where the convolutions are normalised.
    pub feat_extract_norm: FeatExtractNorm,
    /// What follows every convolution, that of the positions too.
    #[serde(skip)]
    pub feat_extract_activation: Activation,
    /// Channels of every convolution.
    pub conv_dim: Vec<usize>,
    /// Steps between the outputs of every convolution.
    pub conv_stride: Vec<usize>,
    /// Taps of every convolution.
    pub conv_kernel: Vec<usize>,
    /// Whether the convolutions have an offset.
    pub conv_bias: bool,
    /// Taps of the convolution that knows positions.
    pub num_conv_pos_embeddings: usize,
    /// Its groups.
    pub num_conv_pos_embedding_groups: usize,
    /// Whether the normalisations stand before attention and feed-forward part rather than behind.
    pub do_stable_layer_norm: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-5,
            feat_extract_norm: FeatExtractNorm::Group,
            feat_extract_activation: Activation::Gelu,
            conv_dim: vec![512; 7],
            conv_stride: vec![5, 2, 2, 2, 2, 2, 2],
            conv_kernel: vec![10, 3, 3, 3, 3, 2, 2],
            conv_bias: false,
            num_conv_pos_embeddings: 128,
            num_conv_pos_embedding_groups: 16,
            do_stable_layer_norm: false,
        }
    }
}

impl Config {
    /// Reads it and refuses what makes no network.
    ///
    /// # Errors
    /// When a key has a value that it cannot have.
    pub fn read(layout: &Layout) -> Result<Self, ModelError> {
        let gelu = Activation::Gelu;
        let config = Config {
            hidden_act: layout.activation("hidden_act", gelu)?,
            feat_extract_activation: layout.activation("feat_extract_activation", gelu)?,
            ..layout.config::<Config>()?
        };
        for (key, value) in [
            ("hidden_size", config.hidden_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
            ("num_conv_pos_embeddings", config.num_conv_pos_embeddings),
            (
                "num_conv_pos_embedding_groups",
                config.num_conv_pos_embedding_groups,
            ),
        ] {
            count(layout, key, value)?;
        }
        for (key, value) in [
            ("num_attention_heads", config.num_attention_heads),
            (
                "num_conv_pos_embedding_groups",
                config.num_conv_pos_embedding_groups,
            ),
        ] {
            layout.expect_divisor((key, value), ("hidden_size", config.hidden_size))?;
        }
        counts(layout, "conv_dim", &config.conv_dim, None)?;
        let layers = Some(("conv_dim", config.conv_dim.len()));
        counts(layout, "conv_stride", &config.conv_stride, layers)?;
        counts(layout, "conv_kernel", &config.conv_kernel, layers)?;
        if config.layer_norm_eps < 0.0 {
            let what = format!("expected 0 or more, got {}", config.layer_norm_eps);
            return Err(layout.wrong("layer_norm_eps", &what));
        }
        Ok(config)
    }

    /// The convolutions over the sound.
    pub fn convolutions(&self) -> impl DoubleEndedIterator<Item = Conv1dSpec> + '_ {
        (0..self.conv_dim.len()).map(|layer| Conv1dSpec {
            stride: self.conv_stride[layer],
            ..Conv1dSpec::new(
                layer
                    .checked_sub(1)
                    .map_or(1, |before| self.conv_dim[before]),
                self.conv_dim[layer],
                self.conv_kernel[layer],
            )
        })
    }
}

/// Refuses a count that is nothing or more than any network has.
pub fn count(layout: &Layout, key: &str, value: usize) -> Result<(), ModelError> {
    match value {
        0 => Err(layout.wrong(key, "expected at least 1, got 0")),
        1..=MAX => Ok(()),
        _ => Err(layout.wrong(key, &format!("expected at most {MAX}, got {value}"))),
    }
}

/// Refuses a list that is empty, has no sound count in it, or is not as long as another.
pub fn counts(
    layout: &Layout,
    key: &str,
    values: &[usize],
    like: Option<(&str, usize)>,
) -> Result<(), ModelError> {
    if values.is_empty() {
        return Err(layout.wrong(key, "expected at least one layer, got none"));
    }
    if let Some((other, expected)) = like.filter(|(_, expected)| *expected != values.len()) {
        let what = format!(
            "expected {expected} values, as many as {other} has, got {}",
            values.len()
        );
        return Err(layout.wrong(key, &what));
    }
    for (layer, &value) in values.iter().enumerate() {
        count(layout, &format!("{key}[{layer}]"), value)?;
    }
    Ok(())
}
