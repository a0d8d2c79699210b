//! The daemon binary on a real sound server and a real bus, from `READY=1` to `SIGTERM`.
//!
//! Speech and a smoke alarm are played into a null sink whose monitor is the microphone. The sound
//! server is killed in mid-stream, the bus is stopped and started, and every event must end.

mod support;

#[path = "support/bus.rs"]
mod bus;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bus::Bus;
use harkd::outputs::client::Client;
use serde_json::{Value, json};
use support::pulse::Pulse;
use support::write_wav;

/// How long something may take that has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(30);
/// The device is back: so soon must the daemon listen again.
const RETURN_LIMIT: Duration = Duration::from_secs(3);
/// Words that are said, with room between them.
const WORDS: [&str; 6] = ["computer", "stop", "yes", "go", "left", "no"];

/// `hark run` under a stand-in for the service manager.
struct Hark {
    child: Child,
    notify: UnixDatagram,
    socket: PathBuf,
}

impl Hark {
    fn start(pulse: &Pulse, bus: &Bus) -> Self {
        let notify_path = pulse.runtime_dir().join("notify");
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hark"));
        pulse.point(&mut command);
        let child = command
            .args(["run", "--quiet"])
            .env("DBUS_SESSION_BUS_ADDRESS", bus.address())
            .env("NOTIFY_SOCKET", &notify_path)
            .env("WATCHDOG_USEC", "3000000")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let hark = Hark {
            child,
            notify,
            socket: pulse.runtime_dir().join("hark/hark.sock"),
        };
        hark.wait_notify("READY=1");
        hark
    }

    /// Waits until the service manager is told `what`.
    fn wait_notify(&self, what: &str) {
        let mut buffer = [0; 4096];
        loop {
            let read = self
                .notify
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("no {what}: {error}"));
            let told = String::from_utf8_lossy(&buffer[..read]);
            if told.lines().any(|line| line == what) {
                return;
            }
        }
    }

    fn client(&self) -> Client {
        let mut client = Client::connect(&self.socket).unwrap();
        client.set_timeout(Some(PATIENCE)).unwrap();
        client
    }

    fn follow(&self) -> Followed {
        let mut client = self.client();
        client.call("subscribe", json!({"live": true})).unwrap();
        Followed {
            client,
            kept: Vec::new(),
        }
    }

    fn status(&self) -> Value {
        self.client().call("status", json!({})).unwrap()
    }

    fn terminate(&self) {
        let killed = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.child.id())])
            .status()
            .unwrap();
        assert!(killed.success());
    }
}

impl Drop for Hark {
    fn drop(&mut self) {
        // It has usually ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A subscription that keeps what was not asked for yet.
struct Followed {
    client: Client,
    kept: Vec<Value>,
}

impl Followed {
    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.kept.iter().position(&wanted) {
                return self.kept.remove(at);
            }
            assert!(Instant::now() < limit, "no {what}, but {:#?}", self.kept);
            let line = self.client.line().unwrap();
            let line = line.unwrap_or_else(|| panic!("closed before {what}"));
            let value: Value = serde_json::from_str(&line).unwrap();
            if value["type"] != "live" {
                self.kept.push(value);
            }
        }
    }

    fn keyword(&mut self) -> Value {
        self.until("keyword", |value| value["kind"] == "keyword")
    }

    fn alarm(&mut self, phase: &str) -> Value {
        self.until("alarm", |value| {
            value["rule"] == "safety" && value["phase"] == phase
        })
    }

    fn state(&mut self, state: &str) -> Value {
        self.until(state, |value| value["type"] == "state" && value["state"] == state)
    }
}

/// Says the words, a second apart.
fn speech(dir: &Path) -> PathBuf {
    let path = dir.join("speech.wav");
    let marked: String = WORDS
        .iter()
        .map(|word| format!("{word}<break time=\"1s\"/>"))
        .collect();
    let status = Command::new("espeak-ng")
        .args(["-m", "-v", "en-us", "-s", "140", "-w"])
        .arg(&path)
        .arg(format!("<speak>{marked}</speak>"))
        .status()
        .expect("espeak-ng is not installed: run 'make test', which installs it");
    assert!(status.success());
    path
}

/// The three pulses of a smoke alarm (ISO 8201), again and again, for `seconds`.
fn smoke_alarm(dir: &Path, seconds: f32) -> PathBuf {
    let path = dir.join("alarm.wav");
    let samples: Vec<f32> = (0..(seconds * 16_000.0) as usize)
        .map(|n| {
            let time = n as f32 / 16_000.0;
            let cycle = time % 4.0;
            let is_on = cycle < 3.0 && cycle % 1.0 < 0.5;
            let wave = (std::f32::consts::TAU * 3_100.0 * time).sin();
            // A horn is driven hard and not pure.
            if is_on { 0.5 * (3.0 * wave).tanh() } else { 0.0 }
        })
        .collect();
    write_wav(&path, 16_000, &samples);
    path
}

#[test]
fn a_night_at_home() {
    let mut pulse = Pulse::start();
    let mut bus = Bus::start();
    let sounds = tempfile::tempdir().unwrap();
    let speech = speech(sounds.path());
    let alarm = smoke_alarm(sounds.path(), 30.0);
    let mut hark = Hark::start(&pulse, &bus);
    let mut heard = hark.follow();
    bus.wait_for_name();
    let monitor = bus.monitor();

    // A word, on both ways.
    pulse.play(&speech).finish();
    let word = heard.keyword();
    let said = word["label"].as_str().unwrap().to_owned();
    assert!(WORDS.contains(&said.as_str()), "{word}");
    let (name, args) = next_signal(&monitor, &["Keyword"]);
    assert_eq!((name.as_str(), args[0].as_str()), ("Keyword", Some(&*said)));
    assert_eq!(hark.status()["state"], "listening");
    hark.wait_notify("WATCHDOG=1");

    // An alarm, and the sound server dies in the middle of it.
    let player = pulse.play(&alarm);
    let start = heard.alarm("start");
    let (_, args) = next_signal(&monitor, &["EventStarted"]);
    assert_eq!(args[0].as_str(), start["id"].as_str());
    pulse.kill();
    drop(player);
    heard.state("stalled");
    assert_eq!(heard.alarm("end")["id"], start["id"]);
    let (_, args) = next_signal(&monitor, &["EventEnded"]);
    assert_eq!(args[0].as_str(), start["id"].as_str());

    // It comes back without a restart of the daemon.
    pulse.restart();
    let back = Instant::now();
    heard.state("listening");
    assert!(back.elapsed() < RETURN_LIMIT, "{:?}", back.elapsed());
    let source = hark.status()["sources"][0].clone();
    assert!(source["lost_samples"].as_u64().unwrap() > 0, "{source}");
    assert!(source["reopened"].as_u64().unwrap() >= 1, "{source}");
    heard.kept.clear();
    pulse.play(&speech).finish();
    heard.keyword();

    // The bus stops and starts again; the name is claimed again.
    drop(monitor);
    bus.kill();
    bus.run();
    bus.wait_for_name();
    let monitor = bus.monitor();
    heard.kept.clear();
    let player = pulse.play(&alarm);
    let start = heard.alarm("start");
    let (_, args) = next_signal(&monitor, &["EventStarted"]);
    assert_eq!(args[0].as_str(), start["id"].as_str());

    // The end: what is open is closed, on both ways.
    hark.terminate();
    hark.wait_notify("STOPPING=1");
    assert_eq!(heard.alarm("end")["id"], start["id"]);
    let (_, args) = next_signal(&monitor, &["EventEnded"]);
    assert_eq!(args[0].as_str(), start["id"].as_str());
    let status = hark.child.wait().unwrap();
    assert!(status.success(), "{status}");
    drop(player);
    assert!(!hark.socket.exists(), "the socket is left behind");
}

/// The next signal with one of these names.
fn next_signal(monitor: &bus::Monitor, names: &[&str]) -> (String, Value) {
    loop {
        let (name, args) = monitor.signal();
        if names.contains(&name.as_str()) {
            return (name, args);
        }
    }
}
