//! Makes the models of a pipeline and warms them up.
//!
//! The first frames and windows touch cold memory and would be late; they are spent on silence
//! before anything is called ready.

use std::sync::Arc;

use super::slot::{Factory, Slot};
use super::window::Windows;
use super::worker::pool_steps_back;
use crate::audio::resample::Resampler;
use crate::clock::PIPELINE_RATE_HZ;
use crate::config::KnownModel;
use crate::event::Kind;
use crate::features::N_MELS;
use crate::models::{Classifier, Input, ModelError, ModelInfo, Spotter};

/// Frames, and windows of frames, that a small model scores before it is ready.
const WARM_UP: usize = 5;

/// A model that is stepped on every frame, warm.
pub struct Stepped {
    /// What it is.
    pub info: ModelInfo,
    /// The model.
    pub slot: Slot<dyn Spotter>,
}

/// A model that is run on windows, warm, and its schedule.
pub struct Windowed {
    /// What it is.
    pub info: ModelInfo,
    /// The model.
    pub slot: Slot<dyn Classifier>,
    /// Length of a window in frames of 10 ms.
    pub window_frames: usize,
    /// Distance between windows in frames of 10 ms.
    pub hop_frames: usize,
    /// What its labels are to rules.
    pub kind: Kind,
    /// Whether its windows are scored only where something in them stands out from the room.
    pub gated: bool,
    /// A label's own threshold, in the order of the labels; empty where none has one.
    pub thresholds: Arc<[Option<f32>]>,
}

/// The models of a pipeline, warm.
#[derive(Default)]
pub struct Models {
    /// The keyword model, `None` where it is switched off.
    pub keyword: Option<Stepped>,
    /// The models on windows, in the order of the configuration.
    pub windows: Vec<Windowed>,
}

impl Models {
    /// The models as rules see them; their order is that of the streams of observations.
    pub fn known(&self) -> Vec<KnownModel> {
        let keyword = self.keyword.iter().map(Stepped::known);
        keyword
            .chain(self.windows.iter().map(Windowed::known))
            .collect()
    }
}

impl Stepped {
    /// Makes and warms a model.
    ///
    /// # Errors
    /// When it cannot be made, or fails on silence.
    pub fn load(make: Factory<dyn Spotter>) -> Result<Self, ModelError> {
        let mut slot = Slot::new(make)?;
        let info = slot
            .run(|model| {
                let info = model.info().clone();
                let mut scores = vec![0.0; info.labels.len()];
                for _ in 0..WARM_UP {
                    model.step(&[0.0; N_MELS], &mut scores);
                }
                model.reset();
                Ok(info)
            })
            .map_err(failed)?;
        Ok(Stepped { info, slot })
    }

    /// The model as rules see it.
    pub fn known(&self) -> KnownModel {
        KnownModel {
            kind: Kind::Keyword,
            name: self.info.name.clone(),
            labels: self.info.labels.clone(),
            thresholds: Arc::default(),
        }
    }
}

impl Windowed {
    /// Makes and warms a model of sound events that is run on every window. Without `window_frames`
    /// its windows are its own, without `hop_frames` they come every half a window. The labels of its
    /// info are those that it answers with now.
    ///
    /// # Errors
    /// When it cannot be made, or fails on silence.
    pub fn load(
        make: Factory<dyn Classifier>,
        window_frames: Option<usize>,
        hop_frames: Option<usize>,
    ) -> Result<Self, ModelError> {
        let mut slot = Slot::new(make)?;
        let (info, window_frames) = slot
            .run(|model| {
                let mut info = model.info().clone();
                let window_frames = window_frames.unwrap_or(info.window_frames).max(1);
                info.labels = warm_up(model, &info, window_frames)?;
                Ok((info, window_frames))
            })
            .map_err(failed)?;
        Ok(Windowed {
            info,
            slot,
            window_frames,
            hop_frames: hop_frames.unwrap_or(window_frames / 2).max(1),
            kind: Kind::Event,
            gated: false,
            thresholds: Arc::default(),
        })
    }

    /// The model as rules see it.
    pub fn known(&self) -> KnownModel {
        KnownModel {
            kind: self.kind,
            name: self.info.name.clone(),
            labels: self.info.labels.clone(),
            thresholds: self.thresholds.clone(),
        }
    }

    /// Its windows, with nothing in them yet.
    pub fn windows(&self) -> Windows {
        Windows::new(self.info.input, self.window_frames, self.hop_frames)
    }
}

/// Small models see a few windows of silence; of a large one each takes a while, so it sees one. Gives
/// the labels that it answered with.
fn warm_up(
    model: &mut dyn Classifier,
    info: &ModelInfo,
    window_frames: usize,
) -> Result<Arc<[Arc<str>]>, ModelError> {
    let (silence, turns) = match info.input {
        Input::LogMel => (vec![0.0; window_frames * N_MELS], WARM_UP),
        Input::Samples { rate_hz } => {
            // Whatever rate it hears must be within reach.
            Resampler::between(PIPELINE_RATE_HZ, rate_hz)
                .map_err(|error| ModelError::Shape(format!("model {}: {error}", info.name)))?;
            pool_steps_back();
            (vec![0.0; window_frames * rate_hz as usize / 100], 1)
        }
    };
    let mut scores = Vec::with_capacity(info.labels.len());
    for _ in 0..turns {
        scores.clear();
        model.classify(&silence, &mut scores)?;
    }
    let labels = model.labels();
    if scores.len() == labels.len() {
        return Ok(labels);
    }
    Err(ModelError::Shape(format!(
        "model {}: expected {} scores, got {}",
        info.name,
        labels.len(),
        scores.len()
    )))
}

fn failed(reason: Arc<str>) -> ModelError {
    ModelError::Format(reason.to_string())
}
