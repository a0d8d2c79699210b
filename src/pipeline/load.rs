//! Makes the models of a pipeline and warms them up.
//!
//! The first frames and windows touch cold memory and would be late; they are spent on silence
//! before anything is called ready.

use std::sync::Arc;

use super::slot::{Factory, Slot};
use super::window::FrameWindow;
use crate::event::Kind;
use crate::features::N_MELS;
use crate::models::{Classifier, ModelError, ModelInfo, Spotter};

/// Frames and windows that each model scores before it is ready.
const WARM_UP: usize = 5;

/// The event model and its schedule.
#[derive(Clone)]
pub struct EventModel {
    /// Makes the model.
    pub make: Factory<dyn Classifier>,
    /// Length of a window in frames of 10 ms.
    pub window_frames: usize,
    /// Distance between windows in frames of 10 ms.
    pub hop_frames: usize,
}

/// The models of a pipeline, warm.
pub struct Models {
    /// The keyword model, `None` where it is switched off.
    pub keyword: Option<(ModelInfo, Slot<dyn Spotter>)>,
    /// The event model and its windows, `None` where it is switched off.
    pub event: Option<(ModelInfo, Slot<dyn Classifier>, FrameWindow)>,
}

impl Models {
    /// Makes and warms the models.
    ///
    /// # Errors
    /// When a model cannot be made, or fails on silence.
    pub fn load(
        keyword: Option<Factory<dyn Spotter>>,
        event: Option<EventModel>,
    ) -> Result<Self, ModelError> {
        Ok(Models {
            keyword: keyword.map(load_keyword).transpose()?,
            event: event.map(load_event).transpose()?,
        })
    }

    /// The labels of the models, by what rules call their kind.
    pub fn labels(&self) -> Vec<(Kind, Arc<[Arc<str>]>)> {
        let keyword = self.keyword.iter().map(|(info, _)| (Kind::Keyword, info));
        let event = self.event.iter().map(|(info, ..)| (Kind::Event, info));
        keyword
            .chain(event)
            .map(|(kind, info)| (kind, info.labels.clone()))
            .collect()
    }
}

fn load_keyword(make: Factory<dyn Spotter>) -> Result<(ModelInfo, Slot<dyn Spotter>), ModelError> {
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
        .map_err(|reason| ModelError::Format(reason.to_string()))?;
    Ok((info, slot))
}

fn load_event(
    model: EventModel,
) -> Result<(ModelInfo, Slot<dyn Classifier>, FrameWindow), ModelError> {
    let window = FrameWindow::new(model.window_frames, model.hop_frames);
    let mut slot = Slot::new(model.make)?;
    let info = slot
        .run(|classifier| {
            let info = classifier.info().clone();
            let silence = vec![0.0; window.frames() * N_MELS];
            let mut scores = Vec::with_capacity(info.labels.len());
            for _ in 0..WARM_UP {
                scores.clear();
                classifier.classify(&silence, &mut scores)?;
            }
            if scores.len() == info.labels.len() {
                Ok(info)
            } else {
                Err(ModelError::Shape(format!(
                    "model {}: expected {} scores, got {}",
                    info.name,
                    info.labels.len(),
                    scores.len()
                )))
            }
        })
        .map_err(|reason| ModelError::Format(reason.to_string()))?;
    Ok((info, slot, window))
}
