//! The one record of what was heard, plain and free of any wire format.
//!
//! `outputs::protocol` turns it into JSON and D-Bus; nothing here knows of either.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use ulid::Ulid;

use crate::clock::SampleIdx;

/// Where in its life an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has begun and will be followed by exactly one `End` with the same id.
    Start,
    /// It is over.
    End,
    /// It has no duration (keywords, content changes).
    Instant,
}

impl Phase {
    /// The name on every wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Start => "start",
            Phase::End => "end",
            Phase::Instant => "instant",
        }
    }
}

/// What sort of recogniser an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A spoken word of the keyword model.
    Keyword,
    /// A sound event of the event model.
    Event,
    /// The smoothed content state: speech, music, environment or silence.
    Content,
    /// A label prompt in plain words.
    Prompt,
    /// A sound taught from a few clips.
    Taught,
    /// The level alone.
    Level,
    /// A pattern of other events.
    Pattern,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Kind; 7] = [
        Kind::Keyword,
        Kind::Event,
        Kind::Content,
        Kind::Prompt,
        Kind::Taught,
        Kind::Level,
        Kind::Pattern,
    ];

    /// The name on every wire and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Keyword => "keyword",
            Kind::Event => "event",
            Kind::Content => "content",
            Kind::Prompt => "prompt",
            Kind::Taught => "taught",
            Kind::Level => "level",
            Kind::Pattern => "pattern",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("unknown kind '{text}': expected one of keyword, event, content, prompt, taught, level, pattern"))
    }
}

/// A label and what a model gives it, in `0.0..=1.0`.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelScore {
    /// Display name (AudioSet's where AudioSet has one).
    pub label: Arc<str>,
    /// Probability-like score.
    pub score: f32,
}

/// Which weights an event comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// Registry name.
    pub name: Arc<str>,
    /// SHA-256 of the weights file, in lower-case hexadecimal.
    pub sha256: Arc<str>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// One id for the start and the end of an episode.
    pub id: Ulid,
    /// Start, end or instant.
    pub phase: Phase,
    /// The sort of recogniser.
    pub kind: Kind,
    /// Name of the rule that fired.
    pub rule: Arc<str>,
    /// The label that fired it.
    pub label: Arc<str>,
    /// Score at this phase, `0.0..=1.0`.
    pub score: f32,
    /// Threshold that was in force.
    pub threshold: f32,
    /// Wall time of the sample at which this phase was decided.
    pub time: SystemTime,
    /// Monotonic time of the same moment, in microseconds since the daemon started.
    pub mono_us: u64,
    /// Name of the source.
    pub source: Arc<str>,
    /// First sample of the episode.
    pub start: SampleIdx,
    /// Last sample of the episode; `None` while it lasts.
    pub end: Option<SampleIdx>,
    /// Highest score of the episode so far.
    pub peak: f32,
    /// Level at this phase, in dB relative to full scale.
    pub level_dbfs: f32,
    /// Estimated noise floor at this phase, in dB relative to full scale.
    pub noise_floor_dbfs: f32,
    /// The weights; `None` for rules on the level alone.
    pub model: Option<ModelRef>,
    /// Best labels of the same model at this phase, best first.
    pub scores: Vec<LabelScore>,
    /// A stored recording, where clips are switched on.
    pub clip: Option<PathBuf>,
}
