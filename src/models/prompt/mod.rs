//! Label prompts: sounds described in plain words, found by CLAP in what is heard now.
//!
//! A [`Prompt`] is a name with phrases. [`PhraseEmbedder`] turns its phrases and those of the fixed
//! [`background`] into embeddings, from a cache on disk where it can; [`PromptSet`] holds them and
//! scores the embedding of a sound; [`PromptModel`] is the audio tower around a set that may change
//! while it runs. Where there is no CLAP, [`fallback`] says which labels of the other models mean the
//! same. Nothing here captures, schedules or decides.

mod background;
mod cache;
mod calibration;
mod embedder;
pub mod fallback;
mod installed;
mod model;
mod rivals;
pub mod sentence;
mod set;

pub use background::background;
pub use calibration::{Calibration, Calibrations};
pub use embedder::PhraseEmbedder;
pub use installed::InstalledClap;
pub use model::PromptModel;
pub use sentence::sentences;
pub use set::{PromptSet, Rival, Scored};

use std::sync::Arc;

/// A sound that someone describes and wants to hear of.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// What it is called; the label of its events.
    pub name: Arc<str>,
    /// What it sounds like, in plain words; several are averaged.
    pub phrases: Vec<String>,
    /// The least score that counts, from 0 to 1.
    pub threshold: f32,
}
