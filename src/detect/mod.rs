//! The decision engine: scores and sample indices in, decisions out. Pure: no clock, no thread, no I/O.
//!
//! | file | does |
//! |---|---|
//! | `rule` | compiles one `[[rule]]` into thresholds and sample counts |
//! | `engine` | binds rules to labels and runs them; the only type the pipeline needs |
//! | `carry` | an engine with other rules or models goes on where the old one stood |
//! | `track` | one label of one rule: confirmation, hysteresis, refractory time |
//! | `tracks` | what an engine was told, for running other rules over it |
//! | `search` | the lowest thresholds that keep a room from firing rules |
//! | `poisson` | how sure a count of false accepts is |
//! | `content` | the smoothed state speech, music, environment or silence |
//! | `gate` | whether anything in a window stands out from the room |
//! | `level` | level and noise floor of the sound |

mod carry;
pub mod content;
mod engine;
mod gate;
pub mod level;
pub mod poisson;
mod rule;
pub mod search;
mod track;
pub mod tracks;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod searching;

pub use content::Content;
pub use engine::Engine;
pub use gate::Gate;
pub use level::LevelMeter;
pub use rule::{Rule, RuleError};

use std::sync::Arc;

use crate::clock::SampleIdx;
use crate::event::{Kind, Phase};

/// The scores of one model over one stretch of sound.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// Which of the models, by its place in the list that the engine was told.
    pub stream: usize,
    /// First sample of the frame or window.
    pub start: SampleIdx,
    /// One past its last sample.
    pub end: SampleIdx,
    /// One score a label in the model's order, `0.0..=1.0`.
    pub scores: &'a [f32],
    /// Level of the stretch, in dB relative to full scale.
    pub level_dbfs: f32,
}

/// What a rule has decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Start, end or instant.
    pub phase: Phase,
    /// What the rule listens to.
    pub kind: Kind,
    /// The model it comes from, by its place in the list that the engine was told.
    pub stream: usize,
    /// Name of the rule.
    pub rule: Arc<str>,
    /// The label that fired it.
    pub label: Arc<str>,
    /// One number for the start and the end of an episode, unique within the engine.
    pub episode: u64,
    /// Score at this phase.
    pub score: f32,
    /// Threshold in force.
    pub threshold: f32,
    /// First sample of the episode.
    pub start: SampleIdx,
    /// Last sample of it; `None` while it lasts.
    pub end: Option<SampleIdx>,
    /// Highest score so far.
    pub peak: f32,
}
