//! wav2vec 2.0 (Baevski et al., *wav2vec 2.0: A Framework for Self-Supervised Learning of Speech
//! Representations*, 2020), XLS-R (Babu et al., 2021) and MMS (Pratap et al., 2023), as
//! `Wav2Vec2Model`, `Wav2Vec2ForSequenceClassification` and `Wav2Vec2ForXVector` of transformers 5.23
//! compute them.
//!
//! What it shares with HuBERT and WavLM is in [`super::speech_encoder`]; its own are the adapters: small
//! ones in every layer, and strided convolutions above the encoder. A checkpoint without a head for
//! clips gives the mean over time of the encoder's output. Nothing here is trained.

use serde::Deserialize;

use super::ModelError;
use super::layout::Layout;
use super::speech_encoder::{AdapterConfig, Config, Options, SpeechModel, count};

/// The key of `Wav2Vec2Config` that the other families have not.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OwnConfig {
    /// The width of the adapters in the layers, where there are such.
    adapter_attn_dim: Option<usize>,
}

/// Loads a directory with a classifier, an x-vector or a bare encoder.
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
        adapter_attn_dim: own.adapter_attn_dim,
        adapter: AdapterConfig::read(layout)?,
        ..Options::default()
    };
    let params = layout.params()?;
    let base = params.base("wav2vec2");
    SpeechModel::load(layout, &params, &base, &config, options)
}
