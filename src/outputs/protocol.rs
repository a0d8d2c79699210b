//! The one wire format: every type that is written as JSON is here, and nothing else is.
//!
//! D-Bus carries the same records: `dbus` turns them into variants field by field. Requests, which
//! are only read, are in `request`. Numbers are finite on the wire: scores are rounded to four
//! decimals and levels to two, an endless level is clamped to +-200 dB.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::event::{Event, LabelScore};

/// Version of the wire format.
pub const VERSION: u32 = 1;

/// Scores without the noise of `f32`: four decimals, NaN as 0.
fn score(value: f32) -> f64 {
    if value.is_finite() {
        (f64::from(value) * 1e4).round() / 1e4
    } else {
        0.0
    }
}

/// Levels: two decimals, clamped so that digital silence stays a number.
fn level(value: f32) -> f64 {
    let value = if value.is_nan() { -200.0 } else { value };
    (f64::from(value.clamp(-200.0, 200.0)) * 1e2).round() / 1e2
}

/// RFC 3339 in UTC with milliseconds.
fn rfc3339(time: SystemTime) -> String {
    // Beyond year 9999 the clock is broken, and the nearest end of the range says so.
    let stamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
    format!("{stamp:.3}")
}

/// A label and its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRecord<'a> {
    /// Display name.
    pub label: Cow<'a, str>,
    /// `0.0..=1.0`.
    pub score: f64,
}

impl<'a> From<&'a LabelScore> for ScoreRecord<'a> {
    fn from(entry: &'a LabelScore) -> Self {
        ScoreRecord {
            label: Cow::Borrowed(&entry.label),
            score: score(entry.score),
        }
    }
}

/// The weights an event comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRefRecord<'a> {
    /// Registry name.
    pub name: Cow<'a, str>,
    /// SHA-256 of the weights.
    pub sha256: Cow<'a, str>,
}

/// The event record, in the order of the documentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord<'a> {
    /// [`VERSION`].
    pub v: u32,
    /// Always `event`.
    pub r#type: Cow<'a, str>,
    /// ULID, the same for the start and the end of an episode.
    pub id: Cow<'a, str>,
    /// `start`, `end` or `instant`.
    pub phase: Cow<'a, str>,
    /// Sort of recogniser.
    pub kind: Cow<'a, str>,
    /// Rule that fired.
    pub rule: Cow<'a, str>,
    /// Label that fired it.
    pub label: Cow<'a, str>,
    /// Score at this phase.
    pub score: f64,
    /// Threshold in force.
    pub threshold: f64,
    /// Wall time, RFC 3339 with milliseconds, UTC.
    pub time: Cow<'a, str>,
    /// Microseconds since the daemon started.
    pub mono_us: u64,
    /// Name of the source.
    pub source: Cow<'a, str>,
    /// First sample, in seconds since the start of the source.
    pub start_s: f64,
    /// Last sample in seconds; null while it lasts.
    pub end_s: Option<f64>,
    /// Highest score so far.
    pub peak: f64,
    /// Level in dB relative to full scale.
    pub level_dbfs: f64,
    /// Noise floor in dB relative to full scale.
    pub noise_floor_dbfs: f64,
    /// The weights; null for rules on the level alone.
    pub model: Option<ModelRefRecord<'a>>,
    /// Best labels of the same model, best first.
    pub scores: Vec<ScoreRecord<'a>>,
    /// Path of a stored recording, or null.
    pub clip: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Event> for EventRecord<'a> {
    fn from(event: &'a Event) -> Self {
        EventRecord {
            v: VERSION,
            r#type: Cow::Borrowed("event"),
            id: Cow::Owned(event.id.to_string()),
            phase: Cow::Borrowed(event.phase.as_str()),
            kind: Cow::Borrowed(event.kind.as_str()),
            rule: Cow::Borrowed(&event.rule),
            label: Cow::Borrowed(&event.label),
            score: score(event.score),
            threshold: score(event.threshold),
            time: Cow::Owned(rfc3339(event.time)),
            mono_us: event.mono_us,
            source: Cow::Borrowed(&event.source),
            start_s: event.start.as_secs_f64(),
            end_s: event.end.map(|end| end.as_secs_f64()),
            peak: score(event.peak),
            level_dbfs: level(event.level_dbfs),
            noise_floor_dbfs: level(event.noise_floor_dbfs),
            model: event.model.as_ref().map(|model| ModelRefRecord {
                name: Cow::Borrowed(&model.name),
                sha256: Cow::Borrowed(&model.sha256),
            }),
            scores: event.scores.iter().map(ScoreRecord::from).collect(),
            clip: event.clip.as_ref().map(|path| path.to_string_lossy()),
        }
    }
}

/// The JSON line of an event, without a line end: the socket, `hark watch --json` and
/// `hark run --json` all write exactly this.
pub fn event_line(event: &Event) -> String {
    line(&EventRecord::from(event))
}

/// One JSON line, without a line end.
pub(crate) fn line<T: Serialize>(value: &T) -> String {
    // The types of this file have string keys and finite numbers, so this cannot fail; should a
    // field ever break that, the reader gets an error record instead of nothing.
    serde_json::to_string(value).unwrap_or_else(|error| {
        format!("{{\"id\":null,\"error\":{{\"code\":\"internal\",\"message\":\"{error}\"}}}}")
    })
}
