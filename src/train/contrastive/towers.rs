//! A CLAP in training: both towers with what is trained of them as variables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};

use super::loss::LogScales;
use crate::models::ModelError;
use crate::models::clap::{ClapAudio, ClapText};
use crate::models::layout::Layout;
use crate::nn::params::{Mode, Params, Trainable};

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
    trainable: Arc<Trainable>,
    audio: ClapAudio,
    text: ClapText,
    scales: LogScales,
    vars: BTreeMap<String, Var>,
}

impl Towers {
    /// Loads a directory with `ClapModel`; what `freeze` leaves becomes variables.
    ///
    /// # Errors
    /// When it is none, or a part of it cannot be trained.
    pub fn open(layout: &Layout, freeze: Freeze) -> Result<Self, ModelError> {
        let (params, trainable) = layout.params()?.trainable(move |key| freeze.trains(key));
        let audio = ClapAudio::load(layout, &params)?;
        let text = ClapText::load(layout, &params)?;
        for key in SCALES {
            params.parameter(key, &[])?;
        }
        let vars = trainable.variables();
        let [a, t] = SCALES.map(|key| vars.get(key).cloned());
        let (Some(a), Some(t)) = (a, t) else {
            return Err(layout.wrong("logit_scale_init_value", "expected scales that are trained"));
        };
        Ok(Towers {
            params,
            trainable,
            audio,
            text,
            scales: LogScales { a, t },
            vars,
        })
    }

    /// Drops values at random from now on, as many as the configuration says; the same ones for the
    /// same seed.
    pub fn drop_values(&self, seed: u64) {
        self.trainable.set_mode(Mode {
            batch_statistics: false,
            dropout: true,
        });
        self.trainable.seed(seed);
    }

    /// What is trained, by the keys of the checkpoint.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// The logarithms of the scales.
    pub fn scales(&self) -> &LogScales {
        &self.scales
    }

    /// The audio tower.
    pub fn audio(&self) -> &ClapAudio {
        &self.audio
    }

    /// The text tower.
    pub fn text(&self) -> &ClapText {
        &self.text
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// When it has more of them than there are positions.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.text.tokenizer().encode(text)
    }

    /// Writes the checkpoint with what training has made of it.
    ///
    /// # Errors
    /// When the disk refuses; what was there before stays then.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        Ok(self.params.save(path)?)
    }
}

/// The keys of the scales.
const SCALES: [&str; 2] = ["logit_scale_a", "logit_scale_t"];

/// A tensor of rows.
///
/// # Errors
/// When the rows have different lengths.
pub fn rows(rows: &[&[f32]]) -> candle_core::Result<Tensor> {
    let width = rows.first().map_or(0, |row| row.len());
    Tensor::from_vec(rows.concat(), (rows.len(), width), &Device::Cpu)
}
