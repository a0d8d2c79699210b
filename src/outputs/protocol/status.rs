//! The part of the wire format that tells how the daemon is: `status`, the live picture, the state.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::asked::{PromptRecord, TaughtRecord, records};
use super::{level, score};
use crate::command::{Live, State, Status};

/// A change of state; sent to those who subscribe with `live`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord<'a> {
    /// Always `state`.
    pub r#type: Cow<'a, str>,
    /// State in force.
    pub state: Cow<'a, str>,
    /// Why, in plain words.
    pub reason: Cow<'a, str>,
}

impl<'a> StateRecord<'a> {
    /// This state for this reason.
    pub fn new(state: State, reason: &'a str) -> Self {
        StateRecord {
            r#type: Cow::Borrowed("state"),
            state: Cow::Borrowed(state.as_str()),
            reason: Cow::Borrowed(reason),
        }
    }
}

/// A label, its score and its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopRecord<'a> {
    /// Sort of recogniser.
    pub kind: Cow<'a, str>,
    /// Name of the model; empty where a daemon of an earlier version does not say.
    #[serde(default)]
    pub model: Cow<'a, str>,
    /// Display name.
    pub label: Cow<'a, str>,
    /// `0.0..=1.0`.
    pub score: f64,
}

/// The live picture; sent to those who subscribe with `live`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveRecord<'a> {
    /// Always `live`.
    pub r#type: Cow<'a, str>,
    /// Level of the newest 100 ms, in dB relative to full scale.
    pub level_dbfs: f64,
    /// Estimated noise floor, in dB relative to full scale.
    pub noise_floor_dbfs: f64,
    /// The smoothed content state, empty before the first window.
    pub content: Cow<'a, str>,
    /// Best labels of every model, best first per model.
    pub top: Vec<TopRecord<'a>>,
}

impl<'a> From<&'a Live> for LiveRecord<'a> {
    fn from(live: &'a Live) -> Self {
        LiveRecord {
            r#type: Cow::Borrowed("live"),
            level_dbfs: level(live.level_dbfs),
            noise_floor_dbfs: level(live.noise_floor_dbfs),
            content: Cow::Borrowed(&live.content),
            top: live
                .top
                .iter()
                .map(|entry| TopRecord {
                    kind: Cow::Borrowed(entry.kind.as_str()),
                    model: Cow::Borrowed(&entry.model),
                    label: Cow::Borrowed(&entry.score.label),
                    score: score(entry.score.score),
                })
                .collect(),
        }
    }
}

/// A source in [`StatusRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord<'a> {
    /// Specification it was opened with.
    pub spec: Cow<'a, str>,
    /// Stable name.
    pub name: Cow<'a, str>,
    /// Native rate in hertz.
    pub rate_hz: u32,
    /// Native channels.
    pub channels: u16,
    /// Samples at 16 kHz that were handled.
    pub samples: u64,
    /// Native samples known to be lost.
    pub lost_samples: u64,
    /// How often sound was interrupted.
    pub gaps: u64,
    /// How often the source was opened again.
    pub reopened: u64,
    /// Why it is stalled, empty when it is not.
    pub fault: Cow<'a, str>,
}

/// A model in [`StatusRecord`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord<'a> {
    /// Registry name.
    pub name: Cow<'a, str>,
    /// SHA-256 of the weights.
    pub sha256: Cow<'a, str>,
    /// What it answers.
    pub task: Cow<'a, str>,
    /// How many labels.
    pub labels: usize,
    /// Frames or windows scored.
    pub steps: u64,
    /// Windows skipped because a newer one was due, or for another model.
    pub skipped: u64,
    /// Windows that were not scored because nothing in them stood out from the room.
    #[serde(default)]
    pub gated: u64,
    /// Whether its windows are left out for another model that cannot keep up beside it.
    #[serde(default)]
    pub set_aside: bool,
    /// Length of its windows in seconds; `null` where it is stepped on every frame.
    #[serde(default)]
    pub window_s: Option<f64>,
    /// Distance between its windows in seconds; `null` likewise.
    #[serde(default)]
    pub hop_s: Option<f64>,
    /// Median time of a step, in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the same.
    pub p99_us: f64,
}

/// A rule in [`StatusRecord`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleRecord<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// What it listens to.
    pub kind: Cow<'a, str>,
    /// Threshold in force.
    pub threshold: f64,
    /// Events since the start.
    pub fired: u64,
}

/// An inhibitor in [`StatusRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InhibitorRecord<'a> {
    /// Who asked.
    pub who: Cow<'a, str>,
    /// And why.
    pub why: Cow<'a, str>,
}

/// Everything about a running daemon: the result of `status`, and of `Stats` on D-Bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusRecord<'a> {
    /// Version of the package.
    pub version: Cow<'a, str>,
    /// State in force.
    pub state: Cow<'a, str>,
    /// Why, in plain words; empty when listening.
    pub reason: Cow<'a, str>,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// Configuration files in the order they were read.
    pub config_files: Vec<Cow<'a, str>>,
    /// The sources.
    pub sources: Vec<SourceRecord<'a>>,
    /// The models.
    pub models: Vec<ModelRecord<'a>>,
    /// The rules.
    pub rules: Vec<RuleRecord<'a>>,
    /// The prompts.
    #[serde(default)]
    pub prompts: Vec<PromptRecord<'a>>,
    /// The taught sounds.
    #[serde(default)]
    pub taught: Vec<TaughtRecord<'a>>,
    /// Who inhibits, and why.
    pub inhibitors: Vec<InhibitorRecord<'a>>,
    /// The live picture.
    pub live: LiveRecord<'a>,
    /// Events since the start.
    pub events: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Processor time used so far, in seconds.
    pub cpu_s: f64,
}

impl<'a> From<&'a Status> for StatusRecord<'a> {
    fn from(status: &'a Status) -> Self {
        StatusRecord {
            version: Cow::Borrowed(status.version),
            state: Cow::Borrowed(status.state.as_str()),
            reason: Cow::Borrowed(&status.reason),
            uptime_s: millis(status.uptime),
            config_files: status
                .config_files
                .iter()
                .map(|f| Cow::Borrowed(f.as_str()))
                .collect(),
            sources: status
                .sources
                .iter()
                .map(|source| SourceRecord {
                    spec: Cow::Borrowed(&source.spec),
                    name: Cow::Borrowed(&source.name),
                    rate_hz: source.rate_hz,
                    channels: source.channels,
                    samples: source.samples,
                    lost_samples: source.lost_samples,
                    gaps: source.gaps,
                    reopened: source.reopened,
                    fault: Cow::Borrowed(&source.fault),
                })
                .collect(),
            models: status
                .models
                .iter()
                .map(|model| ModelRecord {
                    name: Cow::Borrowed(&model.name),
                    sha256: Cow::Borrowed(&model.sha256),
                    task: Cow::Borrowed(model.task),
                    labels: model.labels,
                    steps: model.steps,
                    skipped: model.skipped,
                    gated: model.gated,
                    set_aside: model.is_aside,
                    window_s: model.windows_s.map(|(window_s, _)| window_s),
                    hop_s: model.windows_s.map(|(_, hop_s)| hop_s),
                    p50_us: score(model.p50_us),
                    p99_us: score(model.p99_us),
                })
                .collect(),
            rules: status
                .rules
                .iter()
                .map(|rule| RuleRecord {
                    name: Cow::Borrowed(&rule.name),
                    kind: Cow::Borrowed(rule.kind.as_str()),
                    threshold: score(rule.threshold),
                    fired: rule.fired,
                })
                .collect(),
            prompts: records(&status.prompts),
            taught: records(&status.taught),
            inhibitors: status
                .inhibitors
                .iter()
                .map(|(who, why)| InhibitorRecord {
                    who: Cow::Borrowed(who),
                    why: Cow::Borrowed(why),
                })
                .collect(),
            live: LiveRecord::from(&*status.live),
            events: status.events,
            rss_bytes: status.rss_bytes,
            cpu_s: millis(status.cpu),
        }
    }
}

/// Seconds with millisecond resolution.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::line;
    use super::*;
    use crate::command::TopScore;
    use crate::event::{Kind, LabelScore};

    #[test]
    fn a_status_reads_back() {
        let status = Status {
            version: "0.1.0",
            state: State::Stalled,
            reason: "no samples".into(),
            uptime: Duration::from_millis(1500),
            config_files: vec!["/etc/hark/config.toml".into()],
            sources: vec![Default::default()],
            models: Vec::new(),
            rules: Vec::new(),
            prompts: Arc::new([]),
            taught: Arc::new([]),
            inhibitors: vec![("me".into(), "a call".into())],
            live: Arc::new(Live {
                level_dbfs: -30.0,
                noise_floor_dbfs: -60.0,
                top: vec![TopScore {
                    kind: Kind::Keyword,
                    model: "hark-keyword".into(),
                    score: LabelScore {
                        label: "yes".into(),
                        score: 0.5,
                    },
                }],
                content: "speech".into(),
            }),
            events: 3,
            rss_bytes: 1,
            cpu: Duration::ZERO,
        };
        let record = StatusRecord::from(&status);
        let back: StatusRecord = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!(back, record);
    }
}
