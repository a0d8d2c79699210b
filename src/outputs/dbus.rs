//! D-Bus: the interface `org.harkd.Hark1`, its properties, methods and signals.
//!
//! The object is served before the name is requested, so that whoever waits for the name finds
//! it. When the bus dies this output ends with an error, and `supervise` runs it again until the
//! bus is back; what happens in between is not told later, as nobody was there to hear it.
//!
//! Records are those of `protocol`, field by field: numbers are `d` or `t`, objects `a{sv}`, lists
//! of objects `aa{sv}`; null is left out, as D-Bus has none. Keywords are `Keyword`; every other
//! instant (a change of content) is an `EventStarted` whose `more` says `phase: instant`, and has
//! no `EventEnded`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Semaphore, watch};
use zbus::connection::Builder;
use zbus::fdo::{RequestNameFlags, RequestNameReply};
use zbus::object_server::{InterfaceRef, SignalEmitter};
use zbus::{Connection, Variant, fdo, interface};

use crate::command::{Answer, Command, Refusal, State, Status};
use crate::config::DbusConfig;
use crate::event::{Event, Kind, Phase};

use super::ask::{Asker, unexpected};
use super::protocol::{EventRecord, ScoreRecord, StatusRecord};
use super::{
    Heard, NO_PROMPT_MODEL, Output, OutputCtx, OutputError, OutputFuture, StateNow, ended, request,
};

/// The well-known name.
const NAME: &str = "org.harkd.Hark1";

/// The one object.
const PATH: &str = "/org/harkd/Hark1";

/// How long the bus may take over anything.
const BUS_LIMIT: Duration = Duration::from_secs(5);

/// Inhibitors held over D-Bus at once; each holds a file descriptor.
const MAX_INHIBITORS: usize = 64;

/// A record as D-Bus carries it, `a{sv}`.
type Fields = HashMap<String, Variant<'static>>;

/// Which bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// The session bus of the user.
    Session,
    /// The system bus.
    System,
    /// A bus at this address, as in `DBUS_SESSION_BUS_ADDRESS`.
    Address(String),
}

impl Bus {
    /// The bus of the configuration; `None` for `none`.
    pub fn from_config(config: &DbusConfig) -> Option<Self> {
        match config.bus.as_str() {
            "none" => None,
            "system" => Some(Bus::System),
            address if address.contains(':') => Some(Bus::Address(address.to_owned())),
            _ => Some(Bus::Session),
        }
    }

    fn builder(&self) -> Builder<'_> {
        match self {
            Bus::Session => Builder::session(),
            Bus::System => Builder::system(),
            Bus::Address(address) => Builder::address(address.as_str()),
        }
    }
}

/// D-Bus as an output.
#[derive(Debug)]
pub struct Dbus {
    bus: Bus,
    inhibitors: Arc<Semaphore>,
}

impl Dbus {
    /// Serves on this bus.
    pub fn new(bus: Bus) -> Self {
        Dbus {
            bus,
            inhibitors: Arc::new(Semaphore::new(MAX_INHIBITORS)),
        }
    }

    async fn serve(&self, mut cx: OutputCtx) -> Result<(), OutputError> {
        // Before the bus is reached: what is heard meanwhile is told once it is.
        let mut events = cx.events.subscribe();
        cx.state.mark_unchanged();
        let connection = within("connecting", self.connect(&cx)).await?;
        let object = connection
            .object_server()
            .interface::<_, Hark1>(PATH)
            .await
            .map_err(bus_error)?;
        cx.tried.send_replace(true);
        loop {
            tokio::select! {
                heard = events.recv() => match heard {
                    Ok(heard) => tell(&connection, &heard.event).await?,
                    Err(RecvError::Lagged(count)) => lagged(count),
                    Err(RecvError::Closed) => break,
                },
                changed = cx.state.changed() => {
                    let Ok(()) = changed else { break };
                    cx.state.mark_unchanged();
                    within("telling the state", tell_state(&object)).await?;
                }
                () = connection.closed() => {
                    return Err(OutputError::Bus("the bus has gone".into()));
                }
                () = ended(&mut cx.shutdown) => break,
            }
        }
        self.drain(&connection, &mut events).await?;
        drop(object);
        within("closing", connection.close()).await
    }

    async fn connect(&self, cx: &OutputCtx) -> zbus::Result<Connection> {
        let connection = self
            .bus
            .builder()
            .method_timeout(BUS_LIMIT)
            .serve_at(
                PATH,
                Hark1 {
                    asker: cx.asker.clone(),
                    state: cx.state.clone(),
                    inhibitors: self.inhibitors.clone(),
                },
            )
            .build()
            .await?;
        // Without DO_NOT_QUEUE: where another owns the name, the bus hands it on when that one
        // leaves, and the object server is told.
        let reply = connection
            .request_name_with_flags(NAME, RequestNameFlags::empty())
            .await?;
        match reply {
            RequestNameReply::InQueue => {
                tracing::warn!("D-Bus: another program owns {NAME}; waiting until it leaves");
            }
            _ => tracing::info!("D-Bus: serving {NAME}"),
        }
        Ok(connection)
    }

    /// Tells what was published before shutdown.
    async fn drain(
        &self,
        connection: &Connection,
        events: &mut Receiver<Arc<Heard>>,
    ) -> Result<(), OutputError> {
        loop {
            match events.try_recv() {
                Ok(heard) => tell(connection, &heard.event).await?,
                Err(TryRecvError::Lagged(count)) => lagged(count),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }
}

impl Output for Dbus {
    fn name(&self) -> &'static str {
        "D-Bus"
    }

    fn run(self: Arc<Self>, cx: OutputCtx) -> OutputFuture {
        Box::pin(async move { self.serve(cx).await })
    }
}

fn bus_error(error: zbus::Error) -> OutputError {
    OutputError::Bus(error.to_string())
}

fn lagged(count: u64) {
    tracing::warn!("D-Bus: {count} events came faster than the bus took them, and are not told");
}

async fn within<T>(
    what: &str,
    future: impl Future<Output = zbus::Result<T>>,
) -> Result<T, OutputError> {
    match tokio::time::timeout(BUS_LIMIT, future).await {
        Ok(result) => result.map_err(bus_error),
        Err(_) => {
            let limit = BUS_LIMIT.as_secs();
            Err(OutputError::Bus(format!(
                "{what}: the bus did not answer within {limit} s"
            )))
        }
    }
}

/// Emits the signal of an event.
async fn tell(connection: &Connection, event: &Event) -> Result<(), OutputError> {
    let emitter = SignalEmitter::new(connection, PATH).map_err(bus_error)?;
    let record = EventRecord::from(event);
    let mut more = fields(&record);
    let (score, peak) = (record.score, record.peak);
    let without = |more: &mut Fields, keys: &[&str]| {
        more.retain(|key, _| !keys.contains(&key.as_str()));
    };
    let emit = async {
        match (event.phase, event.kind) {
            (Phase::Instant, Kind::Keyword) => {
                without(&mut more, &["label", "score"]);
                Hark1::keyword(&emitter, &record.label, score, more).await
            }
            (Phase::Start | Phase::Instant, _) => {
                without(&mut more, &["id", "kind", "label", "score"]);
                Hark1::event_started(
                    &emitter,
                    &record.id,
                    &record.kind,
                    &record.label,
                    score,
                    more,
                )
                .await
            }
            (Phase::End, _) => {
                without(&mut more, &["id", "peak"]);
                let length = event.end.unwrap_or(event.start).since(event.start);
                let duration_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
                Hark1::event_ended(&emitter, &record.id, peak, duration_ms, more).await
            }
        }
    };
    within("telling an event", emit).await
}

async fn tell_state(object: &InterfaceRef<Hark1>) -> zbus::Result<()> {
    let emitter = object.signal_emitter();
    let hark = object.get().await;
    hark.state_changed(emitter).await?;
    hark.paused_changed(emitter).await?;
    hark.sources_invalidate(emitter).await?;
    hark.models_invalidate(emitter).await
}

/// The fields of a record, without those that are null.
fn fields<T: Serialize>(record: &T) -> Fields {
    match serde_json::to_value(record) {
        Ok(Value::Object(object)) => object_fields(object),
        // The records are structures with string keys: they are always objects.
        Ok(_) | Err(_) => Fields::new(),
    }
}

fn object_fields(object: serde_json::Map<String, Value>) -> Fields {
    object
        .into_iter()
        .filter_map(|(key, value)| Some((key, variant(value)?)))
        .collect()
}

fn variant(value: Value) -> Option<Variant<'static>> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Variant::from(value),
        Value::Number(number) => match number.as_u64() {
            Some(value) => Variant::from(value),
            None => Variant::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Variant::from(text),
        Value::Object(object) => Variant::from(object_fields(object)),
        Value::Array(list) if list.iter().any(Value::is_string) => Variant::from(
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect::<Vec<String>>(),
        ),
        Value::Array(list) => Variant::from(
            list.into_iter()
                .filter_map(|entry| match entry {
                    Value::Object(object) => Some(object_fields(object)),
                    _ => None,
                })
                .collect::<Vec<Fields>>(),
        ),
    })
}

fn refused(refusal: Refusal) -> fdo::Error {
    match refusal {
        Refusal::BadParams(why) => fdo::Error::InvalidArgs(why),
        Refusal::Busy(why) => fdo::Error::LimitsExceeded(why),
        Refusal::Internal(why) => fdo::Error::Failed(why),
    }
}

/// The object at [`PATH`].
struct Hark1 {
    asker: Asker,
    state: watch::Receiver<StateNow>,
    inhibitors: Arc<Semaphore>,
}

impl Hark1 {
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

    /// Not in this version: no prompt model is installed.
    #[expect(unused_variables, reason = "the shape is fixed")]
    async fn add_prompt(
        &self,
        name: &str,
        phrases: Vec<String>,
        threshold: f64,
    ) -> fdo::Result<()> {
        Err(fdo::Error::NotSupported(NO_PROMPT_MODEL.into()))
    }

    /// Not in this version: no prompt model is installed.
    #[expect(unused_variables, reason = "the shape is fixed")]
    async fn remove_prompt(&self, name: &str) -> fdo::Result<()> {
        Err(fdo::Error::NotSupported(NO_PROMPT_MODEL.into()))
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

    /// Names of the live prompts; none in this version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn prompts(&self) -> Vec<String> {
        Vec::new()
    }

    /// A sound has begun; `more` carries the rest of the record.
    #[zbus(signal)]
    async fn event_started(
        emitter: &SignalEmitter<'_>,
        id: &str,
        kind: &str,
        label: &str,
        score: f64,
        more: Fields,
    ) -> zbus::Result<()>;

    /// It is over.
    #[zbus(signal)]
    async fn event_ended(
        emitter: &SignalEmitter<'_>,
        id: &str,
        peak: f64,
        duration_ms: u64,
        more: Fields,
    ) -> zbus::Result<()>;

    /// A word was spoken.
    #[zbus(signal)]
    async fn keyword(
        emitter: &SignalEmitter<'_>,
        label: &str,
        score: f64,
        more: Fields,
    ) -> zbus::Result<()>;
}
