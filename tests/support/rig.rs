//! A daemon in a thread of the test, with fake models, and clients of its socket.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use harkd::config::paths::Paths;
use harkd::config::{Config, Flags, load_from};
use harkd::daemon::signals::Signal;
use harkd::daemon::{self, DaemonError, Makers, Options};
use harkd::outputs::BusError;
use harkd::outputs::client::Client;
use harkd::pipeline::Limits;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fakes::{Device, Sounds, Tones, Words};
use crate::follow::{Followed, PATIENCE};

/// Rules that the tests rely on, whatever the default ones are tuned to.
const RULES: &str = "\
    [[rule]]\nname = \"words\"\nthreshold = 0.5\n\
    [[rule]]\nname = \"safety\"\nthreshold = 0.5\nhold = 2\n";

/// What a daemon of a test is started with.
pub struct Setup {
    pub makers: Makers,
    pub limits: Limits,
    pub wait_for_source: bool,
    /// The configuration file; may be written to before the start and before a reload.
    pub config: PathBuf,
    spec: &'static str,
    dir: TempDir,
}

impl Setup {
    /// A file that is played as fast as it can.
    pub fn file(device: &Device) -> Self {
        Setup::new(device, "file:told.wav")
    }

    /// A microphone that is waited for.
    pub fn mic(device: &Device) -> Self {
        Setup::new(device, "mic")
    }

    /// A program that is started again when it ends.
    pub fn program(device: &Device) -> Self {
        Setup::new(device, "cmd:told")
    }

    /// A source that is missing at the start is an error.
    pub fn impatient(mut self) -> Self {
        self.wait_for_source = false;
        self
    }

    fn new(device: &Device, spec: &'static str) -> Self {
        let device = device.clone();
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("config.toml");
        std::fs::write(&config, RULES).unwrap();
        let plain: Config = load_from(&Flags::default(), &paths(&dir), [])
            .unwrap()
            .config;
        let labels: Vec<String> = plain
            .rule
            .iter()
            .filter(|rule| rule.kind == harkd::event::Kind::Event)
            .flat_map(|rule| rule.labels.iter().cloned())
            .collect();
        Setup {
            makers: Makers {
                front: Arc::new(|| Box::new(Tones::default())),
                keyword: Arc::new(|_| Words::make()),
                event: Arc::new(move |_| Sounds::make(&labels)),
                source: Arc::new(move |_, _| device.open()),
            },
            limits: Limits {
                no_samples: PATIENCE,
                digital_silence: Duration::from_millis(500),
                first_retry: Duration::from_millis(5),
                last_retry: Duration::from_millis(20),
                open: Duration::from_millis(100),
                ..Limits::default()
            },
            wait_for_source: true,
            config,
            spec,
            dir,
        }
    }
}

impl Setup {
    /// `$XDG_DATA_HOME/hark` of its home.
    pub fn data(&self) -> PathBuf {
        paths(&self.dir).data
    }

    /// Puts more into the configuration file.
    pub fn configure(&self, text: &str) {
        let before = std::fs::read_to_string(&self.config).unwrap();
        std::fs::write(&self.config, format!("{text}\n{before}")).unwrap();
    }
}

fn paths(dir: &TempDir) -> Paths {
    Paths::new(dir.path(), None, |_| None)
}

/// A daemon that runs in a thread.
pub struct Rig {
    socket: PathBuf,
    signals: Sender<Signal>,
    ended: Receiver<Result<(), DaemonError>>,
    lines: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
    _dir: TempDir,
}

impl Rig {
    /// Starts it; returns when its source was tried for the first time or it has ended.
    pub fn start(setup: Setup) -> Self {
        let Setup {
            mut makers,
            limits,
            wait_for_source,
            config,
            spec,
            dir,
        } = setup;
        let socket = dir.path().join("hark.sock");
        let flags = Flags {
            config: Some(config),
            source: Some(spec.into()),
            socket: Some(socket.clone()),
            bus: Some("none".into()),
        };
        let (tried, has_tried) = unbounded();
        let source = makers.source.clone();
        makers.source = Arc::new({
            let tried = tried.clone();
            move |spec, realtime| {
                // Nobody listens after the first time.
                let _ = tried.send(());
                source(spec, realtime)
            }
        });
        let (signals, inbox) = unbounded();
        let (tell, ended) = bounded(1);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let options = Options {
            load: Box::new({
                let paths = paths(&dir);
                move || load_from(&flags, &paths, [])
            }),
            makers,
            limits,
            realtime: false,
            wait_for_source,
            lines: Some(Box::new(Shared(lines.clone()))),
            signals: inbox,
            paths: paths(&dir),
        };
        let thread = std::thread::spawn(move || {
            let result = daemon::run(options);
            let _ = tried.send(());
            tell.send(result).unwrap();
        });
        has_tried.recv_timeout(PATIENCE).unwrap();
        Rig {
            socket,
            signals,
            ended,
            lines,
            thread,
            _dir: dir,
        }
    }

    /// A new connection to its socket.
    pub fn client(&self) -> Client {
        let mut client = Client::connect(&self.socket).unwrap();
        client.set_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// Asks one thing on a connection of its own.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, BusError> {
        self.client().call(method, params)
    }

    /// The answer to `status`.
    pub fn status(&self) -> Value {
        self.call("status", json!({})).unwrap()
    }

    /// Follows events and states from now on.
    pub fn subscribe(&self) -> Events {
        Events(Followed::new(self.client()))
    }

    /// Sends what SIGHUP sends.
    pub fn signal_reload(&self) {
        self.signals.send(Signal::Reload).unwrap();
    }

    /// Ends it as SIGTERM does.
    pub fn end(self) -> Result<(), DaemonError> {
        self.signals.send(Signal::End).unwrap();
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(self) -> Result<(), DaemonError> {
        let result = self.ended.recv_timeout(PATIENCE).expect("the daemon hangs");
        self.thread.join().unwrap();
        result
    }

    /// Waits for its end and gives the lines that it has written, as events.
    pub fn lines(self) -> Vec<Heard> {
        let lines = self.lines.clone();
        self.ended().unwrap();
        let lines = lines.lock().unwrap();
        String::from_utf8_lossy(&lines)
            .lines()
            .map(|line| Heard::from_value(&serde_json::from_str(line).unwrap()))
            .collect()
    }
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A subscription with typed events.
pub struct Events(Followed);

impl Events {
    /// Waits for an event.
    pub fn event(&mut self, phase: &str, label: &str) -> Heard {
        Heard::from_value(&self.0.event(phase, "label", label))
    }

    /// Waits for a change to a state and gives the reason.
    pub fn state(&mut self, state: &str) -> String {
        self.0.state(state)
    }

    /// Every event until the daemon closes.
    pub fn until_closed(&mut self) -> Vec<Heard> {
        self.0
            .until_closed()
            .iter()
            .map(Heard::from_value)
            .collect()
    }
}

/// An event as the outside sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    pub id: String,
    pub phase: String,
    pub kind: String,
    pub label: String,
    pub score: f64,
    pub threshold: f64,
    pub start_s: f64,
    pub end_s: Option<f64>,
    pub peak: f64,
    pub level_dbfs: f64,
    pub model: String,
}

impl Heard {
    pub fn from_value(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| {
            value[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{key}: {value}"))
        };
        Heard {
            id: text("id"),
            phase: text("phase"),
            kind: text("kind"),
            label: text("label"),
            score: number("score"),
            threshold: number("threshold"),
            start_s: number("start_s"),
            end_s: value["end_s"].as_f64(),
            peak: number("peak"),
            level_dbfs: number("level_dbfs"),
            model: value["model"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// Everything that the sound alone decides.
    pub fn without_time(&self) -> Self {
        Heard {
            id: String::new(),
            ..self.clone()
        }
    }
}
