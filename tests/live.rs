//! The daemon binary on a real sound server and a real bus, from `READY=1` to `SIGTERM`.
//!
//! Speech and a smoke alarm are played into a null sink whose monitor is the microphone. The sound
//! server is killed in mid-stream, the bus is stopped and started, and every event must end. A prompt and
//! a taught sound come and go over the bus while sound plays.

mod support;

#[path = "support/bus.rs"]
mod bus;
#[path = "support/chime.rs"]
mod chime;
#[path = "support/follow.rs"]
mod follow;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bus::Bus;
use chime::chime;
use follow::{Followed, PATIENCE};
use harkd::outputs::client::Client;
use serde_json::{Value, json};
use support::pulse::Pulse;
use support::write_wav;

/// The device is back: so soon must the daemon listen again.
const RETURN_LIMIT: Duration = Duration::from_secs(3);
/// Words that are said, with room between them.
const WORDS: [&str; 6] = ["computer", "stop", "yes", "go", "left", "no"];

/// `hark run` under a stand-in for the service manager.
struct Hark {
    child: Child,
    told: Receiver<String>,
    socket: PathBuf,
}

impl Hark {
    fn start(pulse: &Pulse, bus: &Bus) -> Self {
        let notify_path = pulse.runtime_dir().join("notify");
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        // Read at once, as the service manager does: the queue of the socket is short.
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read) = notify.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                if tell.send(text).is_err() {
                    return;
                }
            }
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_hark"));
        pulse.point(&mut command);
        let child = command
            .args(["run", "--quiet"])
            .env("DBUS_SESSION_BUS_ADDRESS", bus.address())
            .env("NOTIFY_SOCKET", &notify_path)
            .env("WATCHDOG_USEC", "3000000")
            .env_remove("WATCHDOG_PID")
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let hark = Hark {
            child,
            told,
            socket: pulse.runtime_dir().join("hark/hark.sock"),
        };
        hark.wait_notify("READY=1");
        hark
    }

    /// Waits until the service manager is told `what`.
    fn wait_notify(&self, what: &str) {
        loop {
            let told = self.told.recv_timeout(PATIENCE);
            let told = told.unwrap_or_else(|error| panic!("no {what}: {error}"));
            if told.lines().any(|line| line == what) {
                return;
            }
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    fn follow(&self) -> Followed {
        Followed::new(self.client())
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
            if is_on {
                0.5 * (3.0 * wave).tanh()
            } else {
                0.0
            }
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
    let word = heard.event("instant", "kind", "keyword");
    let said = word["label"].as_str().unwrap();
    assert!(WORDS.contains(&said), "{word}");
    wait_signal(&monitor, "Keyword", &word["label"]);
    assert_eq!(hark.status()["state"], "listening");
    hark.wait_notify("WATCHDOG=1");

    // An alarm, and the sound server dies in the middle of it.
    let player = pulse.play(&alarm);
    let start = heard.event("start", "rule", "safety");
    wait_signal(&monitor, "EventStarted", &start["id"]);
    pulse.kill();
    drop(player);
    heard.state("stalled");
    assert_eq!(heard.event("end", "rule", "safety")["id"], start["id"]);
    wait_signal(&monitor, "EventEnded", &start["id"]);

    // It comes back without a restart of the daemon.
    pulse.restart();
    let back = Instant::now();
    heard.state("listening");
    assert!(back.elapsed() < RETURN_LIMIT, "{:?}", back.elapsed());
    let source = hark.status()["sources"][0].clone();
    assert!(source["lost_samples"].as_u64().unwrap() > 0, "{source}");
    assert!(source["reopened"].as_u64().unwrap() >= 1, "{source}");
    heard.forget();
    pulse.play(&speech).finish();
    heard.event("instant", "kind", "keyword");

    // The bus stops and starts again; the name is claimed again.
    drop(monitor);
    bus.kill();
    bus.run();
    bus.wait_for_name();
    let monitor = bus.monitor();
    heard.forget();
    let player = pulse.play(&alarm);
    let start = heard.event("start", "rule", "safety");
    wait_signal(&monitor, "EventStarted", &start["id"]);

    // The end: what is open is closed, on both ways.
    hark.terminate();
    hark.wait_notify("STOPPING=1");
    assert_eq!(heard.event("end", "rule", "safety")["id"], start["id"]);
    wait_signal(&monitor, "EventEnded", &start["id"]);
    let status = hark.child.wait().unwrap();
    assert!(status.success(), "{status}");
    drop(player);
    assert!(!hark.socket.exists(), "the socket is left behind");
}

/// Four examples of the chime, and a file in which it rings every two seconds.
fn chimes(dir: &Path, seconds: usize) -> (Vec<PathBuf>, PathBuf) {
    let examples = (0..4).map(|n| {
        let path = dir.join(format!("chime-{n}.wav"));
        write_wav(&path, 16_000, &chime(n));
        path
    });
    let examples = examples.collect();
    let mut ringing = vec![0.0; seconds * 16_000];
    for (n, at) in (0..ringing.len()).step_by(32_000).enumerate() {
        for (sum, sample) in ringing[at..].iter_mut().zip(chime(n)) {
            *sum += sample;
        }
    }
    let path = dir.join("ringing.wav");
    write_wav(&path, 16_000, &ringing);
    (examples, path)
}

#[test]
fn a_prompt_and_a_taught_sound_come_and_go_over_the_bus_while_sound_plays() {
    let pulse = Pulse::start();
    let bus = Bus::start();
    let sounds = tempfile::tempdir().unwrap();
    let (examples, ringing) = chimes(sounds.path(), 120);
    // A CLAP with random weights: its scores mean nothing, so the prompt's threshold is the lowest.
    let clap = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fixtures/clap-unfused");
    let config = pulse.runtime_dir().join(".config/hark");
    std::fs::create_dir_all(&config).unwrap();
    let section = format!(
        "[prompt]\nmodel = '{}'\nwindow_s = 2\nhop_s = 0.5\n",
        clap.display()
    );
    std::fs::write(config.join("config.toml"), section).unwrap();
    let hark = Hark::start(&pulse, &bus);
    let mut heard = hark.follow();
    bus.wait_for_name();
    let monitor = bus.monitor();
    let _player = pulse.play(&ringing);
    heard.state("listening");

    let phrases = ["a chime ringing", "someone at the door"];
    bus.call(
        "AddPrompt",
        &["sasd", "the door", "2", phrases[0], phrases[1], "0.001"],
    )
    .unwrap();
    let prompt = heard.event("start", "label", "the door");
    assert_eq!(
        (&prompt["kind"], &prompt["rule"], &prompt["threshold"]),
        (&json!("prompt"), &json!("prompts"), &json!(0.001))
    );
    assert!(
        prompt["model"]["name"]
            .as_str()
            .unwrap()
            .ends_with("clap-unfused"),
        "{prompt}"
    );
    wait_signal(&monitor, "EventStarted", &prompt["id"]);

    let files: Vec<&str> = examples.iter().map(|path| path.to_str().unwrap()).collect();
    let mut lesson = vec!["sass", "my chime", "4"];
    lesson.extend(&files);
    lesson.push("sound");
    bus.call("Teach", &lesson).unwrap();
    let taught = heard.event("start", "label", "my chime");
    assert_eq!(
        (&taught["kind"], &taught["rule"], &taught["model"]["name"]),
        (&json!("taught"), &json!("taught"), &json!("hark-event"))
    );
    wait_signal(&monitor, "EventStarted", &taught["id"]);

    let status = hark.status();
    assert_eq!(status["prompts"][0]["state"], "ready");
    assert_eq!(status["taught"][0]["state"], "ready");
    let taken = bus.call("AddPrompt", &["sasd", "the door", "1", "a", "0.5"]);
    assert!(
        taken
            .unwrap_err()
            .contains("there is a prompt 'the door' already")
    );
    let taken = bus.call("Teach", &lesson).unwrap_err();
    assert!(taken.contains("'my chime' was taught already"), "{taken}");

    bus.call("RemovePrompt", &["s", "the door"]).unwrap();
    bus.call("Forget", &["s", "my chime"]).unwrap();
    assert_eq!(bus.property("Prompts").unwrap(), json!([]));
    assert_eq!(bus.property("Taught").unwrap(), json!([]));
    // What they had open has ended.
    for (label, started) in [("the door", &prompt["id"]), ("my chime", &taught["id"])] {
        while heard.event("end", "label", label)["id"] != *started {}
    }
    assert_eq!(hark.status()["models"].as_array().unwrap().len(), 2);
}

/// Waits for the signal of this name whose first argument is this.
fn wait_signal(monitor: &bus::Monitor, name: &str, first: &Value) {
    loop {
        let (got, args) = monitor.signal();
        if got == name && args[0] == *first {
            return;
        }
    }
}
