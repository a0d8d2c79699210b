//! The sections of the configuration file as plain types with their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::prompt::{PromptConfig, TaughtConfig};
use super::seconds::Seconds;
use crate::event::Kind;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where sound comes from; empty means the default microphone.
    pub source: Vec<SourceConfig>,
    /// The keyword model.
    pub keyword: KeywordConfig,
    /// The event model.
    pub event: EventConfig,
    /// Further models that run on windows beside it.
    pub model: Vec<ModelConfig>,
    /// Label prompts.
    pub prompt: PromptConfig,
    /// Sounds taught from examples.
    pub taught: TaughtConfig,
    /// The smoothed content state.
    pub content: ContentConfig,
    /// What turns scores into events.
    pub rule: Vec<RuleConfig>,
    /// The Unix socket.
    pub socket: SocketConfig,
    /// D-Bus.
    pub dbus: DbusConfig,
}

/// One source of sound.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// `mic`, `mic:NAME`, `file:PATH`, `raw:RATE:CHANNELS` or `cmd:...`.
    pub spec: String,
}

/// The keyword model, stepped on every frame of 10 ms.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeywordConfig {
    /// Whether it runs at all.
    pub enabled: bool,
    /// Registry name or directory; empty means the embedded one.
    pub model: String,
}

impl Default for KeywordConfig {
    fn default() -> Self {
        KeywordConfig {
            enabled: true,
            model: String::new(),
        }
    }
}

/// The event model, run on windows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventConfig {
    /// Whether it runs at all.
    pub enabled: bool,
    /// Registry name or directory; empty means the embedded one.
    pub model: String,
    /// Length of a window in seconds; `None`: the model's own.
    pub window_s: Option<f64>,
    /// Distance between windows in seconds, at most the window; `None`: half of it.
    pub hop_s: Option<f64>,
    /// Whether it is asked only where somebody speaks.
    pub speech_only: bool,
}

impl Default for EventConfig {
    fn default() -> Self {
        EventConfig {
            enabled: true,
            model: String::new(),
            window_s: None,
            hop_s: None,
            speech_only: false,
        }
    }
}

/// A model that runs on windows beside that of `[event]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Registry name or directory, unique; a later file with the same name changes this model key by
    /// key.
    pub name: String,
    /// Whether it runs.
    pub enabled: bool,
    /// Length of a window in seconds; `None`: the model's own.
    pub window_s: Option<f64>,
    /// Distance between windows in seconds, at most the window; `None`: half of it.
    pub hop_s: Option<f64>,
    /// Whether it is asked only where somebody speaks.
    pub speech_only: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            name: String::new(),
            enabled: true,
            window_s: None,
            hop_s: None,
            speech_only: false,
        }
    }
}

/// The content state.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContentConfig {
    /// Whether content changes are reported.
    pub enabled: bool,
    /// How long a new state must hold before it is reported, in seconds.
    pub hold_s: f64,
}

impl Default for ContentConfig {
    fn default() -> Self {
        ContentConfig {
            enabled: true,
            hold_s: 2.0,
        }
    }
}

/// `hits` of the last `of` observations must be over the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Confirm {
    /// How many.
    pub hits: u32,
    /// Out of how many.
    pub of: u32,
}

impl Default for Confirm {
    fn default() -> Self {
        Confirm { hits: 1, of: 1 }
    }
}

/// One rule: which labels turn into events, and when.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, unique; a later file with the same name changes this rule key by key.
    pub name: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// What it listens to: `keyword`, `event`, `prompt` or `taught`.
    #[serde(deserialize_with = "rule_kind")]
    pub kind: Kind,
    /// The model whose labels they are; `None`: for each label the first that has it.
    pub model: Option<String>,
    /// Labels that fire it; empty means every reportable label of the kind.
    pub labels: Vec<String>,
    /// The prompt that fires it, in place of `labels`.
    pub prompt: Option<String>,
    /// The taught sound that fires it, in place of `labels`.
    pub taught: Option<String>,
    /// Score at or over which an observation counts, `0.0..=1.0`.
    pub threshold: f32,
    /// Thresholds of single labels, in place of `threshold`.
    pub thresholds: BTreeMap<String, f32>,
    /// Score below which it ends; `None`: 0.75 of the threshold. Labels with a threshold of their
    /// own keep the same ratio.
    pub release: Option<f32>,
    /// Confirmation.
    pub confirm: Confirm,
    /// Time after the end of an event in which the same label does not fire again.
    pub refractory: Seconds,
    /// Events: how long the score must stay below `release` before the event ends.
    pub hold: Seconds,
    /// Keywords: over how long the scores of frames are averaged; `None`: 40 ms.
    pub smooth: Option<Seconds>,
    /// Keywords: time after a word in which the other labels of the rule do not fire; `None`:
    /// 250 ms.
    pub lockout: Option<Seconds>,
    /// Level below which it does not fire, in dB relative to full scale.
    pub min_level_db: Option<f32>,
    /// Labels, of any model, that keep it from starting.
    pub veto: Vec<String>,
    /// Score at or over which a label of `veto` does so.
    pub veto_threshold: f32,
}

impl Default for RuleConfig {
    fn default() -> Self {
        RuleConfig {
            name: String::new(),
            enabled: true,
            kind: Kind::Event,
            model: None,
            labels: Vec::new(),
            prompt: None,
            taught: None,
            threshold: 0.5,
            thresholds: BTreeMap::new(),
            release: None,
            confirm: Confirm::default(),
            refractory: Seconds::ONE,
            hold: Seconds::ZERO,
            smooth: None,
            lockout: None,
            min_level_db: None,
            veto: Vec::new(),
            veto_threshold: 0.5,
        }
    }
}

/// Reads the kind of a rule; kinds that no recogniser of this version serves are refused.
fn rule_kind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse() {
        Ok(kind @ (Kind::Keyword | Kind::Event | Kind::Prompt | Kind::Taught)) => Ok(kind),
        Ok(Kind::Content) => Err(serde::de::Error::custom(
            "content changes need no rule; set them up in [content]",
        )),
        _ => Err(serde::de::Error::custom(format!(
            "unknown kind '{text}'; use 'keyword', 'event', 'prompt' or 'taught'"
        ))),
    }
}

/// The Unix socket.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketConfig {
    /// Whether it is served.
    pub enabled: bool,
    /// Its path; `None`: `$XDG_RUNTIME_DIR/hark/hark.sock`.
    pub path: Option<PathBuf>,
}

impl Default for SocketConfig {
    fn default() -> Self {
        SocketConfig {
            enabled: true,
            path: None,
        }
    }
}

/// D-Bus.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DbusConfig {
    /// `auto`, `session`, `system` or `none`.
    pub bus: String,
}

impl Default for DbusConfig {
    fn default() -> Self {
        DbusConfig {
            bus: "auto".to_owned(),
        }
    }
}
