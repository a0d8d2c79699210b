//! The sections of the configuration file as plain types with their defaults.

use std::path::PathBuf;

use serde::Deserialize;

use crate::event::Kind;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where sound comes from; empty means the default microphone.
    pub source: Vec<SourceConfig>,
    /// The keyword model.
    pub keyword: ModelConfig,
    /// The event model.
    pub event: ModelConfig,
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

/// A model that runs live.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Whether it runs at all.
    pub enabled: bool,
    /// Registry name or directory; empty means the embedded one.
    pub model: String,
    /// Length of a window in seconds (windowed models alone).
    pub window_s: f64,
    /// Distance between windows in seconds (windowed models alone).
    pub hop_s: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            enabled: true,
            model: String::new(),
            window_s: 1.0,
            hop_s: 0.5,
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
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// How many.
    pub hits: u32,
    /// Out of how many.
    pub of: u32,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, unique.
    pub name: String,
    /// What it listens to.
    pub kind: String,
    /// Labels that fire it; empty means every reportable label of the kind.
    pub labels: Vec<String>,
    /// Score at which it fires.
    pub threshold: f32,
    /// Score below which it ends; `None`: 0.75 of the threshold.
    pub release: Option<f32>,
    /// Confirmation.
    pub confirm: Confirm,
    /// Seconds after the end of an event in which it does not fire again.
    pub refractory: f64,
    /// Level below which it does not fire, in dB relative to full scale.
    pub min_level_db: Option<f32>,
    /// Labels that suppress it.
    pub veto: Vec<String>,
}

impl Default for RuleConfig {
    fn default() -> Self {
        RuleConfig {
            name: String::new(),
            kind: Kind::Event.as_str().to_owned(),
            labels: Vec::new(),
            threshold: 0.5,
            release: None,
            confirm: Confirm { hits: 1, of: 1 },
            refractory: 1.0,
            min_level_db: None,
            veto: Vec::new(),
        }
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
