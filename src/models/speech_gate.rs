//! A model that is asked only where somebody speaks: Silero VAD looks at a window first.
//!
//! Large models of languages, intents and voices cost seconds a window, and most of a day nobody
//! speaks. A window without speech scores nothing at all, which also ends what was open.

use std::sync::Arc;

use super::silero::{CHUNK, Silero};
use super::{Classifier, Input, ModelError, ModelInfo};
use crate::clock::PIPELINE_RATE_HZ;

/// Probability from which a chunk counts as speech, Silero's own default.
const THRESHOLD: f32 = 0.5;

/// A model behind a gate.
pub struct SpeechGate {
    model: Box<dyn Classifier>,
    vad: Silero,
}

impl SpeechGate {
    /// Puts `model` behind the gate.
    ///
    /// # Errors
    /// When it does not take samples at 16 kHz, which is what the gate hears.
    pub fn new(model: Box<dyn Classifier>, vad: Silero) -> Result<Self, ModelError> {
        let heard = Input::Samples {
            rate_hz: PIPELINE_RATE_HZ,
        };
        if model.info().input != heard {
            return Err(ModelError::Unknown(format!(
                "model '{}' does not take samples at 16 kHz, and only such models can wait for speech",
                model.info().name
            )));
        }
        Ok(SpeechGate { model, vad })
    }
}

impl Classifier for SpeechGate {
    fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        if self.vad.most(window, THRESHOLD) >= THRESHOLD {
            return self.model.classify(window, scores);
        }
        scores.clear();
        scores.resize(self.model.labels().len(), 0.0);
        Ok(())
    }

    fn labels(&self) -> Arc<[Arc<str>]> {
        self.model.labels()
    }
}

impl Silero {
    /// The highest probability of a chunk of `pcm` (mono, 16 kHz), heard from silence; what is left at
    /// the end is filled up with silence. Stops at the first that reaches `enough`.
    pub fn most(&mut self, pcm: &[f32], enough: f32) -> f32 {
        self.reset();
        let mut most = 0.0f32;
        for part in pcm.chunks(CHUNK) {
            let mut chunk = [0.0; CHUNK];
            chunk[..part.len()].copy_from_slice(part);
            most = most.max(self.step(&chunk));
            if most >= enough {
                break;
            }
        }
        most
    }
}
