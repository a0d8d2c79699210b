//! A CLAP in training: both towers with what is trained of them as variables.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use safetensors::{Dtype, tensor::TensorView};

use super::files;
use super::loss::LogScales;
use super::projection::Projection;
use crate::features::clap_mel::{ClapInput, ClapMel};
use crate::models::ModelError;
use crate::models::clap::{ClapAudio, ClapText};
use crate::models::layout::Layout;
use crate::nn::layers::Activation;
use crate::nn::params::Params;

/// Which parts stay as they are; the projections and the scales are always trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    /// Both towers: their outputs are computed once.
    Towers,
    /// The audio tower.
    Audio,
    /// The text tower.
    Text,
    /// Neither.
    Nothing,
}

impl Freeze {
    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Freeze::Towers => "towers",
            Freeze::Audio => "audio",
            Freeze::Text => "text",
            Freeze::Nothing => "none",
        }
    }

    /// Whether the audio tower is trained.
    pub fn trains_audio(self) -> bool {
        matches!(self, Freeze::Text | Freeze::Nothing)
    }

    /// Whether the text tower is trained.
    pub fn trains_text(self) -> bool {
        matches!(self, Freeze::Audio | Freeze::Nothing)
    }

    /// Whether the tensor of this key is trained.
    pub fn trains(self, key: &str) -> bool {
        if key.starts_with("audio_model.") {
            self.trains_audio()
        } else if key.starts_with("text_model.") {
            self.trains_text()
        } else {
            true
        }
    }
}

impl std::str::FromStr for Freeze {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Freeze::Towers, Freeze::Audio, Freeze::Text, Freeze::Nothing]
            .into_iter()
            .find(|freeze| freeze.as_str() == text)
            .ok_or_else(|| format!("expected towers, audio, text or none, got '{text}'"))
    }
}

/// Both towers, their projections and the scales.
pub struct Towers {
    params: Params,
    audio: ClapAudio,
    text: ClapText,
    audio_projection: Projection,
    text_projection: Projection,
    scales: LogScales,
    vars: BTreeMap<String, Var>,
}

impl Towers {
    /// Loads a directory with `ClapModel`; what `freeze` leaves becomes variables.
    ///
    /// # Errors
    /// When it is none, or a part of it cannot be trained.
    pub fn open(layout: &Layout, freeze: Freeze) -> Result<Self, ModelError> {
        let params = layout.params()?;
        let _ = freeze;
        let audio = ClapAudio::load(layout, &params)?;
        let text = ClapText::load(layout, &params)?;
        let audio_projection = Projection::load(&params, "audio_projection", Activation::Relu)?;
        let text_projection = Projection::load(&params, "text_projection", Activation::Relu)?;
        let scale = |key: &str| -> Result<Var, ModelError> {
            Ok(Var::from_tensor(&params.get(key, &[])?.tensor()?)?)
        };
        let scales = LogScales {
            a: scale("logit_scale_a")?,
            t: scale("logit_scale_t")?,
        };
        let mut vars = audio_projection.vars();
        vars.extend(text_projection.vars());
        vars.insert("logit_scale_a".to_owned(), scales.a.clone());
        vars.insert("logit_scale_t".to_owned(), scales.t.clone());
        Ok(Towers {
            params,
            audio,
            text,
            audio_projection,
            text_projection,
            scales,
            vars,
        })
    }

    /// What is trained, by the keys of the checkpoint.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// The logarithms of the scales.
    pub fn scales(&self) -> &LogScales {
        &self.scales
    }

    /// What makes the features of a clip.
    pub fn front_end(&self) -> &ClapMel {
        self.audio.front_end()
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// When it has more of them than there are positions.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.text.tokenizer().encode(text)
    }

    /// What the audio tower gives for some clips, `(clips, hidden)`.
    ///
    /// # Errors
    /// When features have another shape than the front end gives.
    pub fn pooled_sounds(&self, clips: &[&ClapInput]) -> Result<Tensor, ModelError> {
        let rows = clips
            .iter()
            .map(|clip| {
                let states = self.audio.hidden_states(clip)?;
                let pooled = states.into_iter().find(|(name, _)| name == "pooled");
                pooled
                    .map(|(_, state)| state)
                    .ok_or_else(|| ModelError::Shape("no pooled state".to_owned()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// What the text tower gives for phrases of one number of tokens, `(phrases, hidden)`.
    ///
    /// # Errors
    /// When a token has no embedding.
    pub fn pooled_texts(&self, phrases: &[&[u32]]) -> Result<Tensor, ModelError> {
        let rows = phrases
            .iter()
            .map(|ids| {
                let mut states = self.text.hidden_states(ids)?;
                states
                    .pop()
                    .ok_or_else(|| ModelError::Shape("no pooled state".to_owned()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// Pooled sounds in the common space, `(clips, dim)`, not of length 1.
    ///
    /// # Errors
    /// When they have another width.
    pub fn project_sounds(&self, pooled: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.audio_projection.forward(pooled)?)
    }

    /// Pooled texts in the common space, `(texts, dim)`, not of length 1.
    ///
    /// # Errors
    /// When they have another width.
    pub fn project_texts(&self, pooled: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.text_projection.forward(pooled)?)
    }

    /// Writes the checkpoint with what training has made of it.
    ///
    /// # Errors
    /// When the disk refuses; what was there before stays then.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let mut all = Vec::new();
        for key in self.params.keys() {
            let shape = self.params.shape(key).unwrap_or_default().to_vec();
            let values: Vec<f32> = match self.vars.get(key) {
                Some(var) => var.flatten_all()?.to_vec1()?,
                None => match self.params.get(key, &shape) {
                    Ok(weight) => weight.values().to_vec(),
                    Err(_) => continue,
                },
            };
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            all.push((key.to_owned(), shape, bytes));
        }
        let failed = |error: safetensors::SafeTensorError| ModelError::Format(error.to_string());
        let views = all
            .iter()
            .map(|(key, shape, bytes)| Ok((key, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        files::write(path, &safetensors::serialize(views, Some(note)).map_err(failed)?)
    }
}

/// A tensor of rows.
///
/// # Errors
/// When the rows have different lengths.
pub fn rows(rows: &[&[f32]]) -> candle_core::Result<Tensor> {
    let width = rows.first().map_or(0, |row| row.len());
    Tensor::from_vec(rows.concat(), (rows.len(), width), &Device::Cpu)
}
