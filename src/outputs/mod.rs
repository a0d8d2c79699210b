//! What the outside sees: one wire format ([`protocol`]), the socket and D-Bus.
//!
//! All outputs run on one tokio runtime that [`Outputs`] owns. The daemon publishes with
//! [`Outputs::publish`], which never blocks, and receives [`Request`]s on the channel it gave.
//! An output that fails or panics is logged and started again with a growing delay; it never
//! stops the daemon. Nothing here decides anything: commands are acted on in the daemon's loop.

mod ask;
mod bind;
pub mod client;
mod connection;
mod dbus;
mod filter;
pub mod protocol;
mod request;
mod socket;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use crate::command::{Live, Notice, PromptStatus, Request, State, TaughtStatus};
use crate::config::paths::Paths;
use crate::config::{Config, SocketConfig};
use crate::event::Event;

pub use ask::{Asker, Inhibitor};
pub use request::pause_time;
pub use socket::MAX_CLIENTS;

/// Events that wait for an output that is late before the oldest is lost to it (and counted).
const EVENT_BACKLOG: usize = 8192;

/// First and longest delay before a failed output is started again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What can go wrong with the bus or the socket; exit code 6.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No daemon answers.
    #[error("no daemon listens on {}; start it with hark run", .0.display())]
    NoDaemon(PathBuf),
    /// A daemon already serves this socket.
    #[error("a daemon already listens on {}; stop it, or give this one another path with --socket", .0.display())]
    Taken(PathBuf),
    /// The socket cannot be made or used.
    #[error("{}: {why}", path.display())]
    Socket {
        /// Path of the socket.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// The daemon closed the connection or spoke nonsense.
    #[error("{0}")]
    Broken(String),
    /// The daemon refused; code and message are its own.
    #[error("the daemon refused: {message} ({code})")]
    Refused {
        /// One of the codes of [`protocol::Code`].
        code: String,
        /// The daemon's text.
        message: String,
    },
    /// The runtime of the outputs could not be started.
    #[error("cannot start the outputs: {0}")]
    Runtime(String),
}

/// Why an output ended before its time; it is started again.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The bus cannot be reached or has gone.
    #[error("D-Bus: {0}")]
    Bus(String),
    /// The listening socket failed.
    #[error("socket: {0}")]
    Socket(String),
}

/// An event on its way out, with its JSON line made at most once for all readers.
#[derive(Debug)]
pub struct Heard {
    /// What was heard.
    pub event: Arc<Event>,
    line: OnceLock<Arc<str>>,
}

impl Heard {
    fn new(event: Arc<Event>) -> Arc<Self> {
        Arc::new(Heard {
            event,
            line: OnceLock::new(),
        })
    }

    /// The JSON line, without a line end.
    pub fn line(&self) -> Arc<str> {
        self.line
            .get_or_init(|| protocol::event_line(&self.event).into())
            .clone()
    }
}

/// The state of the daemon and why.
pub type StateNow = (State, Arc<str>);

/// What an output is given to run with.
#[derive(Debug, Clone)]
pub struct OutputCtx {
    /// The configuration of the start; `[socket]` and `[dbus]` are not reloaded.
    pub config: Arc<Config>,
    /// Subscribe here for events; what is published after that is received.
    pub events: broadcast::Sender<Arc<Heard>>,
    /// The state in force.
    pub state: watch::Receiver<StateNow>,
    /// The prompts.
    pub prompts: watch::Receiver<Arc<[PromptStatus]>>,
    /// The taught sounds.
    pub taught: watch::Receiver<Arc<[TaughtStatus]>>,
    /// The newest live picture.
    pub live: watch::Receiver<Arc<Live>>,
    /// Clients that follow it.
    pub live_readers: Arc<AtomicUsize>,
    /// The way to the daemon's loop.
    pub asker: Asker,
    /// Turns true once: send what is queued, then return.
    pub shutdown: watch::Receiver<bool>,
    /// Set true when the first attempt to serve is over, whatever came of it.
    pub tried: Arc<watch::Sender<bool>>,
}

/// The future of a running output.
pub type OutputFuture = Pin<Box<dyn Future<Output = Result<(), OutputError>> + Send>>;

/// Something that tells the outside.
pub trait Output: Send + Sync + 'static {
    /// Its name in the log.
    fn name(&self) -> &'static str;
    /// Serves until `cx.shutdown` turns true, then sends what is queued and returns `Ok`.
    ///
    /// # Errors
    /// When it cannot serve any longer; it is called again after a delay.
    fn run(self: Arc<Self>, cx: OutputCtx) -> OutputFuture;
}

/// The running outputs and their runtime.
#[derive(Debug)]
pub struct Outputs {
    runtime: Runtime,
    tasks: JoinSet<()>,
    publisher: Publisher,
    live_readers: Arc<AtomicUsize>,
    shutdown: watch::Sender<bool>,
    tried: Vec<watch::Receiver<bool>>,
    socket: Option<PathBuf>,
}

/// Starts every configured output.
///
/// The socket is bound before this returns; the bus is tried in the background (see
/// [`Outputs::wait_tried`]). `requests` should be unbounded: at most a few dozen requests are under
/// way at once, the rest is refused as busy.
///
/// # Errors
/// When the socket cannot be bound, above all because another daemon serves it.
pub fn spawn_all(
    config: Arc<Config>,
    requests: crossbeam_channel::Sender<Request>,
) -> Result<Outputs, BusError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("outputs")
        .enable_all()
        .build()
        .map_err(|error| BusError::Runtime(error.to_string()))?;
    let mut outputs: Vec<Arc<dyn Output>> = Vec::new();
    let mut socket = None;
    if config.socket.enabled {
        let path = socket_path(&config.socket);
        outputs.push(Arc::new(socket::Socket::new(bind::Bound::new(&path)?)));
        socket = Some(path);
    }

    if let Some(bus) = dbus::Bus::from_config(&config.dbus) {
        outputs.push(Arc::new(dbus::Dbus::new(bus)));
    }

    let (events, _) = broadcast::channel(EVENT_BACKLOG);
    let (state, state_rx) = watch::channel((State::Loading, Arc::from("")));
    let (live, live_rx) = watch::channel(Arc::default());
    let (prompts, prompts_rx) = watch::channel(Arc::from([]));
    let (taught, taught_rx) = watch::channel(Arc::from([]));
    let (shutdown, shutdown_rx) = watch::channel(false);
    let live_readers = Arc::new(AtomicUsize::new(0));
    let asker = Asker::new(requests);
    let mut tasks = JoinSet::new();
    let mut tried = Vec::new();
    for output in outputs {
        let (tried_tx, tried_rx) = watch::channel(false);
        tried.push(tried_rx);
        let cx = OutputCtx {
            config: config.clone(),
            events: events.clone(),
            state: state_rx.clone(),
            prompts: prompts_rx.clone(),
            taught: taught_rx.clone(),
            live: live_rx.clone(),
            live_readers: live_readers.clone(),
            asker: asker.clone(),
            shutdown: shutdown_rx.clone(),
            tried: Arc::new(tried_tx),
        };
        tasks.spawn_on(supervise(output, cx), runtime.handle());
    }
    Ok(Outputs {
        runtime,
        tasks,
        publisher: Publisher {
            events,
            state,
            prompts,
            taught,
            live,
        },
        live_readers,
        shutdown,
        tried,
        socket,
    })
}

/// Tells every output; cheap to clone and usable from any thread.
#[derive(Debug, Clone)]
pub struct Publisher {
    events: broadcast::Sender<Arc<Heard>>,
    state: watch::Sender<StateNow>,
    prompts: watch::Sender<Arc<[PromptStatus]>>,
    taught: watch::Sender<Arc<[TaughtStatus]>>,
    live: watch::Sender<Arc<Live>>,
}

impl Publisher {
    /// Tells every output. Never waits: an output that is late loses the oldest and counts it.
    /// Allocates; not for the capture callback.
    pub fn publish(&self, notice: Notice) {
        match notice {
            // An error only says that nobody has subscribed.
            Notice::Event(event) => drop(self.events.send(Heard::new(event))),
            Notice::State(state, why) => drop(self.state.send_replace((state, why))),
            Notice::Live(live) => drop(self.live.send_replace(live)),
            Notice::Prompts(prompts) => drop(self.prompts.send_replace(prompts)),
            Notice::Taught(taught) => drop(self.taught.send_replace(taught)),
        }
    }
}

impl Outputs {
    /// Tells every output; see [`Publisher::publish`].
    pub fn publish(&self, notice: Notice) {
        self.publisher.publish(notice);
    }

    /// Whether anybody follows the live picture.
    pub fn is_live_wanted(&self) -> bool {
        self.live_readers.load(Ordering::Relaxed) > 0
    }

    /// A handle to publish from other threads; it may outlive the outputs.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Waits until every output has served or failed once, at most `limit`.
    ///
    /// Worth calling after the models are loaded and before sound is read: a short file would
    /// otherwise be over before the bus name is claimed.
    pub fn wait_tried(&mut self, limit: Duration) {
        let tried = &mut self.tried;
        let wait = async move {
            for rx in tried.iter_mut() {
                // A dropped sender means that the output is gone for good: nothing to wait for.
                drop(rx.wait_for(|tried| *tried).await);
            }
        };
        // A time-out is no error: the bus may come later.
        drop(
            self.runtime
                .block_on(async { tokio::time::timeout(limit, wait).await }),
        );
    }

    /// Path of the bound socket, `None` where it is switched off.
    pub fn socket_path(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Lets every output send what was published so far, and ends them; returns within `limit`
    /// and a little. Whether all of them were done in time.
    pub fn shutdown(self, limit: Duration) -> bool {
        let Outputs {
            runtime,
            mut tasks,
            publisher: _publisher,
            shutdown,
            ..
        } = self;
        shutdown.send_replace(true);
        let done = runtime.block_on(async {
            tokio::time::timeout(limit, async { while tasks.join_next().await.is_some() {} })
                .await
                .is_ok()
        });
        if !done {
            tracing::warn!(
                "some outputs did not end within {limit:?}; their last events may be lost"
            );
        }
        drop(tasks);
        runtime.shutdown_timeout(Duration::from_millis(200));
        done
    }
}

/// Runs one output again and again until shutdown.
async fn supervise(output: Arc<dyn Output>, cx: OutputCtx) {
    let mut shutdown = cx.shutdown.clone();
    let mut delay = BACKOFF.0;
    let mut told = String::new();
    loop {
        // A task of its own, so that a panic ends this attempt and nothing else.
        let mut attempt = JoinSet::new();
        attempt.spawn(output.clone().run(cx.clone()));
        let started = tokio::time::Instant::now();
        let outcome = attempt.join_next().await;
        cx.tried.send_replace(true);
        if started.elapsed() > BACKOFF.1 {
            delay = BACKOFF.0;
            told.clear();
        }
        let failure = match outcome {
            Some(Ok(Ok(()))) | None => return,
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(panic)) => format!("{} broke: {panic}", output.name()),
        };
        // A machine without a bus is told once, not every two seconds for ever.
        if failure == told {
            tracing::debug!("{failure}; trying again in {delay:?}");
        } else {
            tracing::warn!("{failure}; trying again until it works");
            told = failure;
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = ended(&mut shutdown) => return,
        }
        delay = (delay * 2).min(BACKOFF.1);
    }
}

/// Waits for shutdown; also when the outputs are gone without one.
async fn ended(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|end| *end).await);
}

/// The path of the socket: configured, or the default place of the user.
pub fn socket_path(config: &SocketConfig) -> PathBuf {
    match &config.path {
        Some(path) => path.clone(),
        None => Paths::current().socket(),
    }
}
