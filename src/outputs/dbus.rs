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

mod object;
mod variant;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use zbus::Connection;
use zbus::connection::Builder;
use zbus::fdo::{RequestNameFlags, RequestNameReply};
use zbus::object_server::{InterfaceRef, SignalEmitter};

use crate::config::DbusConfig;
use crate::event::{Event, Kind, Phase};

use super::protocol::EventRecord;
use super::{Heard, Output, OutputCtx, OutputError, OutputFuture, ended};
use object::{Hark1, MAX_INHIBITORS};
use variant::{Fields, fields};

/// The well-known name.
const NAME: &str = "org.harkd.Hark1";

/// The one object.
const PATH: &str = "/org/harkd/Hark1";

/// How long the bus may take over anything.
const BUS_LIMIT: Duration = Duration::from_secs(5);

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
        cx.prompts.mark_unchanged();
        cx.taught.mark_unchanged();
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
                changed = cx.prompts.changed() => {
                    let Ok(()) = changed else { break };
                    cx.prompts.mark_unchanged();
                    within("telling the prompts", tell_prompts(&object)).await?;
                }
                changed = cx.taught.changed() => {
                    let Ok(()) = changed else { break };
                    cx.taught.mark_unchanged();
                    within("telling the taught sounds", tell_taught(&object)).await?;
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
            .serve_at(PATH, Hark1::new(cx, self.inhibitors.clone()))
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

async fn tell_prompts(object: &InterfaceRef<Hark1>) -> zbus::Result<()> {
    let hark = object.get().await;
    hark.prompts_changed(object.signal_emitter()).await
}

async fn tell_taught(object: &InterfaceRef<Hark1>) -> zbus::Result<()> {
    let hark = object.get().await;
    hark.taught_changed(object.signal_emitter()).await
}
