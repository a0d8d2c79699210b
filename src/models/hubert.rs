//! HuBERT (Hsu et al., *HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of
//! Hidden Units*, 2021) and DistilHuBERT (Chang et al., 2022), as `HubertModel` and
//! `HubertForSequenceClassification` of transformers 5.23 compute them.
//!
//! What it shares with wav2vec 2.0 and WavLM is in [`super::speech_encoder`]; its own are features that
//! are projected as they are (DistilHuBERT) and positions of batch-normalised steps. A checkpoint
//! without a head for clips gives the mean over time of the encoder's output. Nothing here is trained.

use serde::Deserialize;

use super::ModelError;
use super::layout::Layout;
use super::speech_encoder::{Config, Options, SpeechModel, count};

/// The keys of `HubertConfig` that the other families have not, with its defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct OwnConfig {
    /// Whether the features are normalised before they are projected; not in DistilHuBERT.
    feat_proj_layer_norm: bool,
    /// Whether positions are made of batch-normalised steps.
    conv_pos_batch_norm: bool,
    /// The width of adapters in the layers. `HubertConfig` has no such key, but its layers look for it.
    adapter_attn_dim: Option<usize>,
}

impl Default for OwnConfig {
    fn default() -> Self {
        OwnConfig {
            feat_proj_layer_norm: true,
            conv_pos_batch_norm: false,
            adapter_attn_dim: None,
        }
    }
}

/// Loads a directory with a classifier or a bare encoder.
///
/// # Errors
/// When the configuration makes no network, or a tensor is missing or misshapen.
pub fn load(layout: &Layout) -> Result<SpeechModel, ModelError> {
    let config = Config::read(layout)?;
    let own: OwnConfig = layout.config()?;
    if let Some(width) = own.adapter_attn_dim {
        count(layout, "adapter_attn_dim", width)?;
    }
    let options = Options {
        feat_proj_layer_norm: own.feat_proj_layer_norm,
        conv_pos_batch_norm: own.conv_pos_batch_norm,
        adapter_attn_dim: own.adapter_attn_dim,
        ..Options::default()
    };
    let params = layout.params()?;
    let base = params.base("hubert");
    SpeechModel::load(layout, &params, &base, &config, options)
}
