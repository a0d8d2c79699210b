//! A daemon without ears: it answers requests and publishes the events that a test makes up.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use harkd::clock::SampleIdx;
use harkd::command::{
    Answer, AskedState, Command, Live, ModelStatus, Notice, PromptStatus, Refusal, Request,
    RuleStatus, SourceStatus, State, Status, TaughtKind, TaughtStatus, TopScore,
};
use harkd::config::Config;
use harkd::event::{Event, Kind, LabelScore, ModelRef, Phase};
use harkd::outputs::{self, BusError, Outputs};

/// What the fake loop knows.
#[derive(Default)]
pub struct Shared {
    /// Every command but `Status`, in the order of arrival.
    pub commands: Vec<Command>,
    /// Inhibitors that are held.
    pub inhibitors: Vec<(u64, String, String)>,
    /// Answer to `History`.
    pub history: Vec<Arc<Event>>,
}

/// The fake daemon; dropping it shuts the outputs down.
pub struct Fake {
    pub outputs: Option<Outputs>,
    pub shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

/// A configuration that serves `socket` and the given bus.
pub fn config(socket: Option<&Path>, bus: &str) -> Arc<Config> {
    let mut config = Config::default();
    config.socket.enabled = socket.is_some();
    config.socket.path = socket.map(Path::to_owned);
    config.dbus.bus = bus.to_owned();
    Arc::new(config)
}

impl Fake {
    pub fn start(socket: Option<&Path>, bus: &str) -> Result<Fake, BusError> {
        let (requests, inbox) = crossbeam_channel::unbounded::<Request>();
        let outputs = outputs::spawn_all(config(socket, bus), requests)?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let state = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            for Request { command, reply } in inbox {
                let mut shared = state.lock().unwrap();
                let answer = match &command {
                    Command::Status => Ok(Answer::Status(Box::new(status(&shared)))),
                    Command::Top { n } => Ok(Answer::Top(scores().into_iter().take(*n).collect())),
                    Command::Inhibit { who, why } => {
                        number += 1;
                        shared.inhibitors.push((number, who.clone(), why.clone()));
                        Ok(Answer::Inhibited(number))
                    }
                    Command::Release { inhibitor } => {
                        shared.inhibitors.retain(|(n, _, _)| n != inhibitor);
                        Ok(Answer::Done)
                    }
                    Command::Prompts => Ok(Answer::Prompts(prompts())),
                    Command::Taught => Ok(Answer::Taught(taught())),
                    Command::AddPrompt { label, .. } if label.name == "kettle" => Err(
                        Refusal::BadParams("there is a prompt 'kettle' already".into()),
                    ),
                    Command::AddPrompt { label, .. } => {
                        let mut prompt = prompts()[0].clone();
                        prompt.name = label.name.as_str().into();
                        Ok(Answer::Prompt(Box::new(prompt)))
                    }
                    Command::Teach { .. } => Ok(Answer::Learned(
                        Box::new(taught()[0].clone()),
                        vec!["a.wav is unlike the others".into()],
                    )),
                    Command::SetThreshold { rule, .. } if rule != "alarm" => {
                        Err(Refusal::BadParams(format!("there is no rule '{rule}'")))
                    }
                    Command::History { n } => {
                        let from = shared.history.len().saturating_sub(*n);
                        Ok(Answer::History(shared.history[from..].to_vec()))
                    }
                    _ => Ok(Answer::Done),
                };
                if command != Command::Status {
                    shared.commands.push(command);
                }
                drop(shared);
                drop(reply.send(answer));
            }
        });
        let fake = Fake {
            outputs: Some(outputs),
            shared,
            thread: Some(thread),
        };
        fake.publish(Notice::State(State::Listening, "".into()));
        Ok(fake)
    }

    pub fn publish(&self, notice: Notice) {
        self.outputs.as_ref().unwrap().publish(notice);
    }

    pub fn hear(&self, event: Event) {
        self.publish(Notice::Event(Arc::new(event)));
    }

    /// Whether the outputs ended in time.
    pub fn stop(&mut self) -> bool {
        let done = self
            .outputs
            .take()
            .is_none_or(|outputs| outputs.shutdown(Duration::from_secs(5)));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        done
    }

    /// Waits until the shared state is as wanted; the loop gets there on its own.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Shared) -> bool) {
        wait(what, || wanted(&self.shared.lock().unwrap()));
    }
}

/// Polls until `wanted` holds, at most ten seconds.
pub fn wait(what: &str, wanted: impl Fn() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while !wanted() {
        assert!(
            std::time::Instant::now() < until,
            "waited in vain for: {what}"
        );
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn scores() -> Vec<LabelScore> {
    [("Siren", 0.9_f32), ("Alarm", 0.5), ("Speech", 0.1)]
        .map(|(label, score)| LabelScore {
            label: label.into(),
            score,
        })
        .to_vec()
}

/// An event of this phase, kind and label; the same `n` gives the same id.
pub fn event(n: u64, phase: Phase, kind: Kind, label: &str, score: f32) -> Event {
    Event {
        id: ulid::Ulid::from_parts(1_700_000_000_000, u128::from(n)),
        phase,
        kind,
        rule: "alarm".into(),
        label: label.into(),
        score,
        threshold: 0.6,
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        mono_us: n,
        source: "mic".into(),
        start: SampleIdx(16_000),
        end: (phase == Phase::End).then_some(SampleIdx(40_000)),
        peak: 0.97,
        level_dbfs: -20.0,
        noise_floor_dbfs: -60.0,
        model: Some(ModelRef {
            name: "event-small".into(),
            sha256: "ab".repeat(32).into(),
        }),
        scores: scores(),
        clip: None,
    }
}

pub fn live() -> Live {
    Live {
        level_dbfs: -30.0,
        noise_floor_dbfs: -60.0,
        top: scores()
            .into_iter()
            .map(|score| TopScore {
                kind: Kind::Event,
                model: "hark-event".into(),
                score,
            })
            .collect(),
        content: "environment".into(),
    }
}

/// The prompts of the fake daemon.
pub fn prompts() -> Arc<[PromptStatus]> {
    Arc::new([PromptStatus {
        name: "kettle".into(),
        phrases: vec!["a kettle whistling".into()],
        threshold: 0.6,
        state: AskedState::Fallback,
        by: "event-small".into(),
        detail: "by its label Water".into(),
        calibrated: false,
        place: String::new(),
    }])
}

/// The taught sounds of the fake daemon.
pub fn taught() -> Arc<[TaughtStatus]> {
    Arc::new([TaughtStatus {
        name: "my doorbell".into(),
        kind: TaughtKind::Sound,
        examples: 3,
        threshold: 0.5,
        state: AskedState::Ready,
        by: "event-small".into(),
        detail: String::new(),
    }])
}

fn status(shared: &Shared) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION"),
        state: if shared.inhibitors.is_empty() {
            State::Listening
        } else {
            State::Paused
        },
        reason: String::new(),
        uptime: Duration::from_secs(7),
        config_files: vec!["/etc/hark/config.toml".into()],
        sources: vec![SourceStatus {
            spec: "mic".into(),
            name: "Built-in Audio".into(),
            rate_hz: 48_000,
            channels: 2,
            ..Default::default()
        }],
        models: vec![ModelStatus {
            name: "event-small".into(),
            sha256: "ab".repeat(32).into(),
            task: "event",
            labels: 40,
            steps: 10,
            skipped: 1,
            gated: 0,
            is_aside: false,
            windows_s: Some((1.0, 0.5)),
            p50_us: 900.0,
            p99_us: 1200.0,
        }],
        rules: vec![RuleStatus {
            name: "alarm".into(),
            kind: Kind::Event,
            threshold: 0.6,
            fired: 2,
        }],
        prompts: prompts(),
        taught: taught(),
        inhibitors: shared
            .inhibitors
            .iter()
            .map(|(_, who, why)| (who.clone(), why.clone()))
            .collect(),
        live: Arc::new(live()),
        events: 2,
        rss_bytes: 30 << 20,
        cpu: Duration::from_millis(1234),
    }
}
