//! The object on the bus: properties, methods and the shapes of the signals.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use zbus::object_server::SignalEmitter;
use zbus::{fdo, interface};

use super::variant::{Fields, fields};
use crate::command::{Answer, Command, PromptStatus, Refusal, State, Status, TaughtStatus};
use crate::outputs::ask::{Asker, unexpected};
use crate::outputs::protocol::{
    EventRecord, LearnedResult, PromptRecord, ScoreRecord, StatusRecord, TaughtRecord,
};
use crate::outputs::{OutputCtx, StateNow, request};

/// Inhibitors held over D-Bus at once; each holds a file descriptor.
pub const MAX_INHIBITORS: usize = 64;

fn refused(refusal: Refusal) -> fdo::Error {
    match refusal {
        Refusal::BadParams(why) => fdo::Error::InvalidArgs(why),
        Refusal::Busy(why) => fdo::Error::LimitsExceeded(why),
        Refusal::Internal(why) => fdo::Error::Failed(why),
    }
}

/// The one object.
pub struct Hark1 {
    asker: Asker,
    state: watch::Receiver<StateNow>,
    prompts: watch::Receiver<Arc<[PromptStatus]>>,
    taught: watch::Receiver<Arc<[TaughtStatus]>>,
    inhibitors: Arc<Semaphore>,
}

impl Hark1 {
    /// An object that asks the daemon through `cx`.
    pub fn new(cx: &OutputCtx, inhibitors: Arc<Semaphore>) -> Self {
        Hark1 {
            asker: cx.asker.clone(),
            state: cx.state.clone(),
            prompts: cx.prompts.clone(),
            taught: cx.taught.clone(),
            inhibitors,
        }
    }

    async fn ask(&self, command: Command) -> fdo::Result<Answer> {
        self.asker.ask(command).await.map_err(refused)
    }

    async fn order(&self, command: Command) -> fdo::Result<()> {
        self.ask(command).await.map(drop)
    }

    async fn status(&self) -> fdo::Result<Box<Status>> {
        match self.ask(Command::Status).await? {
            Answer::Status(status) => Ok(status),
            other => Err(refused(unexpected(&other))),
        }
    }
}

#[interface(name = "org.harkd.Hark1")]
impl Hark1 {
    /// Stops listening for so many seconds; 0: until resumed.
    async fn pause(&self, seconds: u32) -> fdo::Result<()> {
        let duration = match seconds {
            0 => None,
            _ => Some(request::pause_time(f64::from(seconds)).map_err(fdo::Error::InvalidArgs)?),
        };
        self.order(Command::Pause { duration }).await
    }

    /// Listens again.
    async fn resume(&self) -> fdo::Result<()> {
        self.order(Command::Resume).await
    }

    /// Reads the configuration again; a bad file leaves the old one running.
    async fn reload(&self) -> fdo::Result<()> {
        self.order(Command::Reload).await
    }

    /// Stops listening until the returned file descriptor, and every copy of it, is closed.
    async fn inhibit(&self, who: String, why: String) -> fdo::Result<zbus::OwnedFd> {
        let who = request::named(who).map_err(fdo::Error::InvalidArgs)?;
        let permit = self.inhibitors.clone().try_acquire_owned().map_err(|_| {
            fdo::Error::LimitsExceeded(format!("{MAX_INHIBITORS} inhibitors are held already"))
        })?;
        let io = |error: std::io::Error| fdo::Error::Failed(error.to_string());
        let (mut ours, theirs) = UnixStream::pair().map_err(io)?;
        let theirs = OwnedFd::from(theirs.into_std().map_err(io)?);
        let inhibitor = self.asker.inhibit(who, why).await.map_err(refused)?;
        tokio::spawn(async move {
            // Nothing is expected: the end of the stream is the message.
            let mut junk = [0; 64];
            while matches!(ours.read(&mut junk).await, Ok(1..)) {}
            drop((inhibitor, permit));
        });
        Ok(theirs.into())
    }

    /// The best labels at this moment, best first.
    async fn top(&self, n: u32) -> fdo::Result<Vec<(String, f64)>> {
        let n = request::entries(n as usize).map_err(fdo::Error::InvalidArgs)?;
        match self.ask(Command::Top { n }).await? {
            Answer::Top(top) => Ok(top
                .iter()
                .map(ScoreRecord::from)
                .map(|entry| (entry.label.into_owned(), entry.score))
                .collect()),
            other => Err(refused(unexpected(&other))),
        }
    }

    /// Listens for a sound in plain words from now on, and after the next start; a threshold of 0 or
    /// below is the default one. The property `Prompts` tells what has become of it.
    async fn add_prompt(
        &self,
        name: String,
        phrases: Vec<String>,
        threshold: f64,
    ) -> fdo::Result<()> {
        // NaN is no default: it goes on and is refused.
        let threshold = (threshold.is_nan() || threshold > 0.0).then_some(threshold as f32);
        let command = request::add_prompt(name, phrases, threshold, false)
            .map_err(fdo::Error::InvalidArgs)?;
        self.order(command).await
    }

    /// Listens for it no longer.
    async fn remove_prompt(&self, name: String) -> fdo::Result<()> {
        self.order(Command::RemovePrompt { name }).await
    }

    /// Learns a sound (kind `sound`) or a word (`word`) from examples, sound files by their absolute
    /// paths. Gives what was learned, and warnings.
    async fn teach(&self, name: String, files: Vec<String>, kind: String) -> fdo::Result<Fields> {
        let files = files.into_iter().map(Into::into).collect();
        let command = request::teach(name, &kind, files, false).map_err(fdo::Error::InvalidArgs)?;
        match self.ask(command).await? {
            Answer::Learned(taught, warnings) => Ok(fields(&LearnedResult {
                taught: TaughtRecord::from(&*taught),
                warnings: warnings.iter().map(|text| text.as_str().into()).collect(),
            })),
            other => Err(refused(unexpected(&other))),
        }
    }

    /// Forgets a taught sound.
    async fn forget(&self, name: String) -> fdo::Result<()> {
        self.order(Command::Forget { name }).await
    }

    /// Sets the threshold of a rule until the next reload.
    async fn set_threshold(&self, rule: String, threshold: f64) -> fdo::Result<()> {
        let threshold = request::unit(threshold as f32)
            .map_err(|why| fdo::Error::InvalidArgs(format!("threshold: {why}")))?;
        self.order(Command::SetThreshold { rule, threshold }).await
    }

    /// The newest events, oldest first.
    async fn history(&self, n: u32) -> fdo::Result<Vec<Fields>> {
        let n = request::entries(n as usize).map_err(fdo::Error::InvalidArgs)?;
        match self.ask(Command::History { n }).await? {
            Answer::History(events) => Ok(events
                .iter()
                .map(|event| fields(&EventRecord::from(&**event)))
                .collect()),
            other => Err(refused(unexpected(&other))),
        }
    }

    /// Everything about the daemon: sources, models, rules, losses, cost.
    async fn stats(&self) -> fdo::Result<Fields> {
        let status = self.status().await?;
        Ok(fields(&StatusRecord::from(&*status)))
    }

    /// loading, listening, paused, stalled or degraded.
    #[zbus(property)]
    fn state(&self) -> String {
        self.state.borrow().0.as_str().to_owned()
    }

    /// Whether it is paused; setting it pauses until resumed, or resumes.
    #[zbus(property)]
    fn paused(&self) -> bool {
        self.state.borrow().0 == State::Paused
    }

    #[zbus(property)]
    async fn set_paused(&self, paused: bool) -> fdo::Result<()> {
        self.order(if paused {
            Command::Pause { duration: None }
        } else {
            Command::Resume
        })
        .await
    }

    /// Version of the package.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Stable names of the sources.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn sources(&self) -> fdo::Result<Vec<String>> {
        let status = self.status().await?;
        Ok(status.sources.into_iter().map(|s| s.name).collect())
    }

    /// Registry names of the models.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn models(&self) -> fdo::Result<Vec<String>> {
        let status = self.status().await?;
        Ok(status.models.iter().map(|m| m.name.to_string()).collect())
    }

    /// The prompts: name, phrases, threshold, state, by, detail, calibrated, place.
    #[zbus(property)]
    fn prompts(&self) -> Vec<Fields> {
        let prompts = self.prompts.borrow();
        prompts
            .iter()
            .map(|p| fields(&PromptRecord::from(p)))
            .collect()
    }

    /// The taught sounds: name, kind, examples, threshold, state, by, detail.
    #[zbus(property)]
    fn taught(&self) -> Vec<Fields> {
        let taught = self.taught.borrow();
        taught
            .iter()
            .map(|t| fields(&TaughtRecord::from(t)))
            .collect()
    }

    /// A sound has begun; `more` carries the rest of the record.
    #[zbus(signal)]
    pub async fn event_started(
        emitter: &SignalEmitter<'_>,
        id: &str,
        kind: &str,
        label: &str,
        score: f64,
        more: Fields,
    ) -> zbus::Result<()>;

    /// It is over.
    #[zbus(signal)]
    pub async fn event_ended(
        emitter: &SignalEmitter<'_>,
        id: &str,
        peak: f64,
        duration_ms: u64,
        more: Fields,
    ) -> zbus::Result<()>;

    /// A word was spoken.
    #[zbus(signal)]
    pub async fn keyword(
        emitter: &SignalEmitter<'_>,
        label: &str,
        score: f64,
        more: Fields,
    ) -> zbus::Result<()>;
}
