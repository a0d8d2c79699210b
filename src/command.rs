//! What can be asked of a running daemon, and what it answers: plain types between the outputs
//! (which translate from their wires) and the daemon's loop (which alone acts on them).

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::PromptLabel;
use crate::event::{Event, Kind, LabelScore};

/// What the daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Models are being loaded and warmed up.
    Loading,
    /// Sound arrives and is recognised.
    Listening,
    /// Asked not to listen, by `pause` or an inhibitor.
    Paused,
    /// No sound arrives; the source is being retried.
    Stalled,
    /// Sound arrives, but a model or window work has failed or cannot keep up.
    Degraded,
}

impl State {
    /// The name on every wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Loading => "loading",
            State::Listening => "listening",
            State::Paused => "paused",
            State::Stalled => "stalled",
            State::Degraded => "degraded",
        }
    }
}

/// One thing asked of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Everything about the daemon at this moment.
    Status,
    /// The `n` best labels over all models at this moment.
    Top {
        /// How many.
        n: usize,
    },
    /// Stop listening, for a time or until resumed.
    Pause {
        /// `None`: until resumed.
        duration: Option<Duration>,
    },
    /// Listen again.
    Resume,
    /// Read the configuration again; a bad file leaves the old one running.
    Reload,
    /// Stop listening until the inhibitor is released.
    Inhibit {
        /// Who asks.
        who: String,
        /// And why.
        why: String,
    },
    /// Release an inhibitor.
    Release {
        /// The number that [`Answer::Inhibited`] gave.
        inhibitor: u64,
    },
    /// Set the threshold of a rule until the next reload.
    SetThreshold {
        /// Name of the rule.
        rule: String,
        /// `0.0..=1.0`.
        threshold: f32,
    },
    /// The newest `n` events, oldest first.
    History {
        /// How many.
        n: usize,
    },
    /// The prompts.
    Prompts,
    /// Listen for a sound that is named in plain words, from now on and after the next start.
    AddPrompt {
        /// The prompt, checked.
        label: PromptLabel,
        /// Whether it may take the place of one of the same name.
        replace: bool,
    },
    /// Listen for it no longer.
    RemovePrompt {
        /// Its name.
        name: String,
    },
    /// The taught sounds.
    Taught,
    /// Learn a sound from examples.
    Teach {
        /// What it is called from now on, checked.
        name: String,
        /// What sort of sound.
        kind: TaughtKind,
        /// Absolute paths of the examples.
        files: Vec<PathBuf>,
        /// Whether it may take the place of one of the same name.
        replace: bool,
    },
    /// Forget a taught sound.
    Forget {
        /// Its name.
        name: String,
    },
    /// The taught sounds on disk have changed: read them again.
    TaughtChanged,
}

/// What the daemon answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It is done.
    Done,
    /// To [`Command::Status`].
    Status(Box<Status>),
    /// To [`Command::Top`], best first.
    Top(Vec<LabelScore>),
    /// To [`Command::Inhibit`]: the number to release it with.
    Inhibited(u64),
    /// To [`Command::History`], oldest first.
    History(Vec<Arc<Event>>),
    /// To [`Command::Prompts`], in their order.
    Prompts(Arc<[PromptStatus]>),
    /// To [`Command::AddPrompt`]: what has become of it.
    Prompt(Box<PromptStatus>),
    /// To [`Command::Taught`], in their order.
    Taught(Arc<[TaughtStatus]>),
    /// To [`Command::Teach`]: what was learned, and what should be looked at.
    Learned(Box<TaughtStatus>, Vec<String>),
}

/// Why the daemon did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request makes no sense; the text says which value and what is allowed.
    #[error("{0}")]
    BadParams(String),
    /// Not now.
    #[error("{0}")]
    Busy(String),
    /// Something broke; the text says what.
    #[error("{0}")]
    Internal(String),
}

/// A command on its way to the daemon's loop.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// Where the answer goes; a closed receiver is no error.
    pub reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// What the daemon tells every output.
#[derive(Debug, Clone)]
pub enum Notice {
    /// Something was heard.
    Event(Arc<Event>),
    /// The state has changed; the text says why.
    State(State, Arc<str>),
    /// The live picture, several times a second.
    Live(Arc<Live>),
    /// The prompts are others, or in another state.
    Prompts(Arc<[PromptStatus]>),
    /// The taught sounds are others, or in another state.
    Taught(Arc<[TaughtStatus]>),
}

/// The live picture: what `hark watch` draws.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Level of the newest 100 ms, in dB relative to full scale.
    pub level_dbfs: f32,
    /// Estimated noise floor, in dB relative to full scale.
    pub noise_floor_dbfs: f32,
    /// Best labels of every model, best first per model.
    pub top: Vec<TopScore>,
    /// The smoothed content state, empty before the first window.
    pub content: Arc<str>,
}

/// A label in the live picture.
#[derive(Debug, Clone, PartialEq)]
pub struct TopScore {
    /// What rules call its kind.
    pub kind: Kind,
    /// Name of its model.
    pub model: Arc<str>,
    /// Label and score.
    pub score: LabelScore,
}

/// What has become of a prompt or of a taught sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AskedState {
    /// Its model listens for it.
    Ready,
    /// Its model is being loaded.
    Loading,
    /// Its model is not installed, or does not run; nothing listens for it yet.
    Waiting,
    /// Another model answers for it, as well as it can.
    Fallback,
    /// Its model cannot be loaded; nothing listens for it.
    Failed,
}

impl AskedState {
    /// The name on every wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            AskedState::Ready => "ready",
            AskedState::Loading => "loading",
            AskedState::Waiting => "waiting",
            AskedState::Fallback => "fallback",
            AskedState::Failed => "failed",
        }
    }
}

/// A prompt as `status` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptStatus {
    /// Its name, the label of its events.
    pub name: Arc<str>,
    /// What it sounds like, in plain words.
    pub phrases: Vec<String>,
    /// Threshold in force.
    pub threshold: f32,
    /// What has become of it.
    pub state: AskedState,
    /// Name of the model that answers; empty where none does.
    pub by: Arc<str>,
    /// What there is to know: the labels that answer, the command that helps, why it failed.
    pub detail: String,
    /// Whether its scores take the room into account (`hark calibrate`).
    pub calibrated: bool,
    /// Where it stands in the configuration; empty where it was added while the daemon ran.
    pub place: String,
}

/// What sort of sound is taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaughtKind {
    /// Any sound, by the embedding of a sound model.
    Sound,
    /// A word in any language, by the embedding of the keyword model.
    Word,
}

impl TaughtKind {
    /// The name on every wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaughtKind::Sound => "sound",
            TaughtKind::Word => "word",
        }
    }
}

impl FromStr for TaughtKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sound" => Ok(TaughtKind::Sound),
            "word" => Ok(TaughtKind::Word),
            _ => Err(format!("unknown kind '{text}': expected sound or word")),
        }
    }
}

/// A taught sound as `status` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaughtStatus {
    /// Its name, the label of its events.
    pub name: Arc<str>,
    /// What sort of sound.
    pub kind: TaughtKind,
    /// How many examples it was learned from.
    pub examples: usize,
    /// Threshold in force.
    pub threshold: f32,
    /// What has become of it.
    pub state: AskedState,
    /// Name of the model whose embedding it is of.
    pub by: Arc<str>,
    /// What there is to know: the command that helps, why it failed.
    pub detail: String,
}

/// A source as `status` shows it.
#[derive(Debug, Clone, Default)]
pub struct SourceStatus {
    /// The specification it was opened with (`mic`, `file:a.wav`, ...).
    pub spec: String,
    /// Stable name of the device or file.
    pub name: String,
    /// Native rate in hertz, 0 before it was opened.
    pub rate_hz: u32,
    /// Native channels, 0 before it was opened.
    pub channels: u16,
    /// Samples at the pipeline rate that were handled.
    pub samples: u64,
    /// Samples at the native rate that are known to be lost.
    pub lost_samples: u64,
    /// How often sound was interrupted.
    pub gaps: u64,
    /// How often the source was opened again.
    pub reopened: u64,
    /// Why it is stalled, empty when it is not.
    pub fault: String,
}

/// A model as `status` shows it.
#[derive(Debug, Clone)]
pub struct ModelStatus {
    /// Registry name.
    pub name: Arc<str>,
    /// SHA-256 of the weights.
    pub sha256: Arc<str>,
    /// What it answers (`keyword`, `event`).
    pub task: &'static str,
    /// How many labels.
    pub labels: usize,
    /// Frames or windows scored.
    pub steps: u64,
    /// Windows skipped because a newer one was due, or for another model.
    pub skipped: u64,
    /// Windows that were not scored because nothing in them stood out from the room.
    pub gated: u64,
    /// Whether its windows are left out for another model that cannot keep up beside it.
    pub is_aside: bool,
    /// Length and distance of its windows in seconds; `None` where it is stepped on every frame.
    pub windows_s: Option<(f64, f64)>,
    /// Median time of a step, in microseconds.
    pub p50_us: f32,
    /// 99th percentile of the same.
    pub p99_us: f32,
}

/// A rule as `status` shows it.
#[derive(Debug, Clone)]
pub struct RuleStatus {
    /// Its name.
    pub name: Arc<str>,
    /// What it listens to.
    pub kind: Kind,
    /// Threshold in force.
    pub threshold: f32,
    /// Events since the start.
    pub fired: u64,
}

/// Everything about a running daemon.
#[derive(Debug, Clone)]
pub struct Status {
    /// Version of the package.
    pub version: &'static str,
    /// State in force.
    pub state: State,
    /// Why, in plain words; empty when listening.
    pub reason: String,
    /// Time since the start.
    pub uptime: Duration,
    /// Configuration files in the order they were read.
    pub config_files: Vec<String>,
    /// The sources.
    pub sources: Vec<SourceStatus>,
    /// The models.
    pub models: Vec<ModelStatus>,
    /// The rules.
    pub rules: Vec<RuleStatus>,
    /// The prompts.
    pub prompts: Arc<[PromptStatus]>,
    /// The taught sounds.
    pub taught: Arc<[TaughtStatus]>,
    /// Who inhibits, and why.
    pub inhibitors: Vec<(String, String)>,
    /// The live picture.
    pub live: Arc<Live>,
    /// Events since the start.
    pub events: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Processor time used so far.
    pub cpu: Duration,
}
