//! The one wire format: every type that is written as JSON is here or, for the state of the daemon,
//! in `status`, for prompts and taught sounds in `asked`, and nowhere else.
//!
//! D-Bus carries the same records: `dbus` turns them into variants field by field. Requests, which
//! are only read, are in `request`. Numbers are finite on the wire: scores are rounded to four
//! decimals and levels to two, an endless level is clamped to +-200 dB.

mod asked;
mod status;

use std::borrow::Cow;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::{Refusal, State};
use crate::event::{Event, LabelScore};

pub use asked::{
    LearnedResult, PromptRecord, PromptResult, PromptsResult, TaughtRecord, TaughtResult, records,
};
pub use status::{
    InhibitorRecord, LiveRecord, ModelRecord, RuleRecord, SourceRecord, StateRecord, StatusRecord,
    TopRecord,
};

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

/// Why a request was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// There is no such method.
    UnknownMethod,
    /// The line is not a request, or a value in it makes no sense.
    BadParams,
    /// The line is over 64 KiB.
    TooLarge,
    /// Too many clients or requests; try again.
    Busy,
    /// Something broke: a model that cannot be loaded, a disk that is full.
    Internal,
}

/// The `error` of a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// What kind of error.
    pub code: Code,
    /// What is wrong and what is allowed, in one line.
    pub message: String,
}

impl ErrorRecord {
    /// An error with this code and text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        ErrorRecord {
            code,
            message: message.into(),
        }
    }
}

impl From<Refusal> for ErrorRecord {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::BadParams(_) => Code::BadParams,
            Refusal::Busy(_) => Code::Busy,
            Refusal::Internal(_) => Code::Internal,
        };
        ErrorRecord::new(code, refusal.to_string())
    }
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    id: &'a Value,
    error: &'a ErrorRecord,
}

#[derive(Serialize)]
struct ResultLine<'a, T> {
    id: &'a Value,
    result: &'a T,
}

/// The line that answers request `id` with an error.
pub fn error_line(id: &Value, error: &ErrorRecord) -> String {
    line(&ErrorLine { id, error })
}

/// The line that answers request `id` with a result.
pub fn result_line<T: Serialize>(id: &Value, result: &T) -> String {
    line(&ResultLine { id, result })
}

/// The first line of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HelloRecord<'a> {
    /// Always `hello`.
    pub r#type: Cow<'a, str>,
    /// [`VERSION`].
    pub v: u32,
    /// Version of the package.
    pub version: Cow<'a, str>,
    /// State in force.
    pub state: Cow<'a, str>,
}

impl HelloRecord<'static> {
    /// The greeting in this state.
    pub fn new(state: State) -> Self {
        HelloRecord {
            r#type: Cow::Borrowed("hello"),
            v: VERSION,
            version: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
            state: Cow::Borrowed(state.as_str()),
        }
    }
}

/// Tells a slow reader how many events it has missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedRecord<'a> {
    /// Always `dropped`.
    pub r#type: Cow<'a, str>,
    /// How many since the last such record.
    pub count: u64,
}

impl DroppedRecord<'static> {
    /// `count` events were missed.
    pub fn new(count: u64) -> Self {
        DroppedRecord {
            r#type: Cow::Borrowed("dropped"),
            count,
        }
    }
}

/// The result of `top`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopResult<'a> {
    /// Best first.
    pub top: Vec<ScoreRecord<'a>>,
}

/// The result of `history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryResult<'a> {
    /// Oldest first.
    pub events: Vec<EventRecord<'a>>,
}

/// The result of methods that have nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneResult {}

/// One JSON line, without a line end.
pub(crate) fn line<T: Serialize>(value: &T) -> String {
    // The types of this file have string keys and finite numbers, so this cannot fail; should a
    // field ever break that, the reader gets an error record instead of nothing.
    serde_json::to_string(value).unwrap_or_else(|error| {
        format!("{{\"id\":null,\"error\":{{\"code\":\"internal\",\"message\":\"{error}\"}}}}")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::clock::SampleIdx;
    use crate::event::{Kind, ModelRef, Phase};

    use super::*;

    fn event() -> Event {
        Event {
            id: ulid::Ulid::from_parts(1_700_000_000_123, 7),
            phase: Phase::Start,
            kind: Kind::Event,
            rule: "alarm".into(),
            label: "Smoke detector, smoke alarm".into(),
            score: 0.93,
            threshold: 0.6,
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
            mono_us: 1_234_567,
            source: "mic \"built in\"\n".into(),
            start: SampleIdx(16_001),
            end: None,
            peak: 0.93,
            level_dbfs: -23.456,
            noise_floor_dbfs: f32::NEG_INFINITY,
            model: Some(ModelRef {
                name: "event-small".into(),
                sha256: "ab".repeat(32).into(),
            }),
            scores: vec![LabelScore {
                label: "Smoke detector, smoke alarm".into(),
                score: 0.93,
            }],
            clip: None,
        }
    }

    #[test]
    fn the_event_line_is_the_documented_one() {
        let sha = "ab".repeat(32);
        assert_eq!(
            event_line(&event()),
            format!(
                concat!(
                    r#"{{"v":1,"type":"event","id":"01HF7YAT3V0000000000000007","phase":"start","#,
                    r#""kind":"event","rule":"alarm","label":"Smoke detector, smoke alarm","#,
                    r#""score":0.93,"threshold":0.6,"time":"2023-11-14T22:13:20.123Z","#,
                    r#""mono_us":1234567,"source":"mic \"built in\"\n","start_s":1.0000625,"#,
                    r#""end_s":null,"peak":0.93,"level_dbfs":-23.46,"noise_floor_dbfs":-200.0,"#,
                    r#""model":{{"name":"event-small","sha256":"{}"}},"#,
                    r#""scores":[{{"label":"Smoke detector, smoke alarm","score":0.93}}],"clip":null}}"#
                ),
                sha
            )
        );
    }

    #[test]
    fn an_event_line_reads_back() {
        let mut event = event();
        event.end = Some(SampleIdx(32_000));
        event.clip = Some("/tmp/a b.flac".into());
        let text = event_line(&event);
        let back: EventRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(back, EventRecord::from(&event));
        assert_eq!(line(&back), text);
    }

    #[test]
    fn numbers_stay_finite() {
        fn check(input: f32, as_score: f64, as_level: f64) {
            assert_eq!(score(input), as_score, "score of {input}");
            assert_eq!(level(input), as_level, "level of {input}");
        }
        check(f32::NAN, 0.0, -200.0);
        check(f32::NEG_INFINITY, 0.0, -200.0);
        check(f32::INFINITY, 0.0, 200.0);
        check(0.1, 0.1, 0.1);
        check(-55.555, -55.555, -55.56);
    }

    #[test]
    fn times_out_of_range_are_still_times() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert!(rfc3339(far).starts_with("9999-12-"));
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn responses_carry_the_id_as_it_came() {
        fn check(id: Value, expected: &str) {
            assert_eq!(result_line(&id, &DoneResult {}), expected);
        }
        check(Value::from(7), r#"{"id":7,"result":{}}"#);
        check(Value::from("a"), r#"{"id":"a","result":{}}"#);
        check(Value::Null, r#"{"id":null,"result":{}}"#);
        assert_eq!(
            error_line(
                &Value::from(1),
                &ErrorRecord::new(Code::UnknownMethod, "no")
            ),
            r#"{"id":1,"error":{"code":"unknown_method","message":"no"}}"#
        );
        assert_eq!(
            line(&DroppedRecord::new(3)),
            r#"{"type":"dropped","count":3}"#
        );
        assert_eq!(
            line(&HelloRecord::new(State::Listening)),
            concat!(
                r#"{"type":"hello","v":1,"version":""#,
                env!("CARGO_PKG_VERSION"),
                r#"","state":"listening"}"#
            )
        );
    }
}
