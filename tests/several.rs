//! Several models on windows in one daemon: what each hears, who gives way, and how they come and go.
//!
//! Tests wait for what the daemon says and never for time to pass.

#[path = "support/fakes.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod fakes;
#[path = "support/follow.rs"]
mod follow;
#[path = "support/rig.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod rig;

use std::f32::consts::TAU;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use fakes::{ALARM, AMPLITUDE, Device, Do, tone};
use harkd::config::{KnownModel, RuleConfig};
use harkd::daemon::DaemonError;
use harkd::detect::{Engine, Rule};
use harkd::event::{Kind, Phase};
use harkd::features::LogMel;
use harkd::models::{Classifier, Input, ModelError, ModelInfo, Task};
use harkd::outputs::client::Client;
use harkd::pipeline::{
    Limits, Models, Pace, Pipeline, Report, Setup as PipelineSetup, Standing, Windowed,
};
use rig::{Heard, Rig, Setup};
use serde_json::{Value, json};

/// Takes samples at twice the rate of the pipeline, in windows of 2 s: hears a whistle in 2 kHz and,
/// like the model of `[event]`, an alarm in 3 kHz.
struct Whistles(ModelInfo);

const RATE_HZ: u32 = 32_000;

impl Whistles {
    fn make() -> Box<dyn Classifier> {
        let labels = ["Whistle", ALARM];
        Box::new(Whistles(ModelInfo {
            name: "whistles".into(),
            sha256: "11".repeat(32).into(),
            task: Task::Event,
            labels: labels.iter().map(|label| Arc::from(*label)).collect(),
            input: Input::Samples { rate_hz: RATE_HZ },
            window_frames: 200,
            parameters: 0,
            licence: "Apache-2.0".into(),
        }))
    }
}

/// Amplitude at a frequency (Goertzel, 1958).
fn amplitude(pcm: &[f32], hz: f32) -> f32 {
    let turn = TAU * hz / RATE_HZ as f32;
    let (mut before, mut last) = (0.0_f64, 0.0_f64);
    let factor = f64::from(2.0 * turn.cos());
    for sample in pcm {
        (before, last) = (last, f64::from(*sample) + factor * last - before);
    }
    let power = before * before + last * last - factor * before * last;
    (power.max(0.0).sqrt() * 2.0 / pcm.len() as f64) as f32
}

impl Classifier for Whistles {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        if window.len() != 2 * RATE_HZ as usize {
            return Err(ModelError::Shape(format!("{} samples", window.len())));
        }
        scores.clear();
        for hz in [2_000.0, 3_000.0] {
            scores.push((amplitude(window, hz) / AMPLITUDE).min(1.0));
        }
        Ok(())
    }
}

/// Waits at the gate while it is closed.
struct Gated {
    inner: Box<dyn Classifier>,
    gate: Gate,
}

#[derive(Clone)]
struct Gate {
    closed: Arc<AtomicBool>,
    entered: Sender<()>,
    go: Receiver<()>,
}

impl Gate {
    /// An open gate, what tells of those who wait, and what lets all pass when it is dropped.
    fn new() -> (Gate, Receiver<()>, Sender<()>) {
        let (entered, has_entered) = unbounded();
        let (open, go) = bounded(0);
        let gate = Gate {
            closed: Arc::default(),
            entered,
            go,
        };
        (gate, has_entered, open)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn pass(&self) {
        if self.closed.load(Ordering::SeqCst) {
            // The test may be over.
            let _ = self.entered.send(());
            let _ = self.go.recv();
        }
    }
}

impl Classifier for Gated {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        self.gate.pass();
        self.inner.classify(window, scores)
    }
}

/// The configuration with the second model and a rule for its whistle.
const BOTH: &str = "[[model]]\nname = 'whistles'\n\
    [[rule]]\nname = 'safety'\nthreshold = 0.5\nhold = 2\n\
    [[rule]]\nname = 'whistle'\nlabels = ['Whistle']\n";
const ONE: &str = "[[rule]]\nname = 'safety'\nthreshold = 0.5\nhold = 2\n";

/// Puts gates before the two models and writes the configuration.
fn gated(mut setup: Setup, config: &str, first: &Gate, second: &Gate) -> Setup {
    std::fs::write(&setup.config, config).unwrap();
    let sounds = setup.makers.event.clone();
    let (first, second) = (first.clone(), second.clone());
    setup.makers.event = Arc::new(move |name| {
        let (inner, gate) = match name {
            "" => (sounds(name)?, first.clone()),
            "whistles" => (Whistles::make(), second.clone()),
            other => return Err(ModelError::Unknown(format!("no model '{other}'"))),
        };
        Ok(Box::new(Gated { inner, gate }))
    });
    setup
}

fn both(setup: Setup) -> Setup {
    let (gate, ..) = Gate::new();
    gated(setup, BOTH, &gate, &gate)
}

fn names(status: &Value) -> Vec<&str> {
    let models = status["models"].as_array().unwrap();
    models
        .iter()
        .map(|model| model["name"].as_str().unwrap())
        .collect()
}

/// Plays half a second at a time, as fast as the model of `[event]` keeps up and no faster.
fn play_kept_up(hark: &Rig, tell: &Sender<Do>, pcm: &[f32]) {
    let steps = || hark.status()["models"][1]["steps"].as_u64().unwrap();
    let before = steps();
    for (at, half) in (1..).zip(pcm.chunks(8_000)) {
        tell.send(Do::Play(half.to_vec())).unwrap();
        let limit = Instant::now() + follow::PATIENCE;
        while steps() < before + at {
            assert!(Instant::now() < limit, "{}", hark.status());
        }
    }
}

#[test]
fn two_models_hear_one_sound_and_each_gives_its_events() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(both(Setup::file(&device)));
    let mut events = hark.subscribe();
    let scene = [
        tone(0, 1.0),
        tone(2, 4.0),
        tone(0, 2.0),
        tone(3, 4.0),
        tone(0, 5.0),
    ];
    tell.send(Do::Play(scene.concat())).unwrap();
    tell.send(Do::End).unwrap();
    let heard = events.until_closed();
    let told = |label: &str| -> Vec<(&str, &str)> {
        heard
            .iter()
            .filter(|event| event.label == label)
            .map(|event| (event.phase.as_str(), event.model.as_str()))
            .collect()
    };
    assert_eq!(
        told("Whistle"),
        [("start", "whistles"), ("end", "whistles")]
    );
    // Both know the alarm; it belongs to the first.
    assert_eq!(
        told(ALARM),
        [("start", "fake-sounds"), ("end", "fake-sounds")]
    );
    let start = heard.iter().find(|event| event.label == "Whistle").unwrap();
    assert!((0.0..=2.0).contains(&start.start_s), "{start:?}");
    hark.ended().unwrap();
}

#[test]
fn any_chunking_gives_the_same_events_of_two_models() {
    let scene = [tone(0, 1.3), tone(2, 4.1), tone(3, 4.0), tone(0, 3.3)].concat();
    let heard = |chunk: usize| -> Vec<Heard> {
        let device = Device::default();
        let tell = device.plug();
        let hark = Rig::start(both(Setup::file(&device)));
        for part in scene.chunks(chunk) {
            tell.send(Do::Play(part.to_vec())).unwrap();
        }
        tell.send(Do::End).unwrap();
        hark.lines().iter().map(Heard::without_time).collect()
    };
    let expected = heard(1 << 20);
    assert!(expected.iter().any(|event| event.model == "whistles"));
    assert_eq!(heard(7919), expected);
}

#[test]
fn a_rule_may_name_the_model_that_it_watches() {
    let device = Device::default();
    let tell = device.plug();
    let setup = both(Setup::file(&device));
    let named =
        format!("{BOTH}[[rule]]\nname = 'other'\nmodel = 'whistles'\nlabels = ['{ALARM}']\n");
    std::fs::write(&setup.config, named).unwrap();
    let hark = Rig::start(setup);
    tell.send(Do::Play([tone(3, 5.0), tone(0, 4.0)].concat()))
        .unwrap();
    tell.send(Do::End).unwrap();
    let mut told: Vec<(String, String)> = hark
        .lines()
        .into_iter()
        .filter(|event| event.label == ALARM)
        .map(|event| (event.phase, event.model))
        .collect();
    told.sort();
    let expected = [
        ("end", "fake-sounds"),
        ("end", "whistles"),
        ("start", "fake-sounds"),
        ("start", "whistles"),
    ];
    assert_eq!(
        told,
        expected.map(|(phase, model)| (phase.into(), model.into()))
    );
}

#[test]
fn a_model_that_is_too_slow_is_skipped_while_the_other_gives_its_events() {
    let device = Device::default();
    let tell = device.plug();
    let (open, ..) = Gate::new();
    let (gate, entered, let_go) = Gate::new();
    let hark = Rig::start(gated(Setup::mic(&device), BOTH, &open, &gate));
    let mut events = hark.subscribe();
    gate.close();
    tell.send(Do::Play(tone(0, 2.5))).unwrap();
    entered.recv_timeout(follow::PATIENCE).unwrap();
    let scene = [tone(0, 15.0), tone(3, 3.0), tone(0, 4.0)].concat();
    play_kept_up(&hark, &tell, &scene);
    let reason = events.state("degraded");
    assert_eq!(
        reason,
        "whistles cannot keep up: most of its windows are skipped"
    );
    let start = events.event("start", ALARM);
    assert_eq!(events.event("end", ALARM).id, start.id);
    let status = hark.status();
    assert_eq!(names(&status), ["fake-words", "fake-sounds", "whistles"]);
    let model = &status["models"][2];
    assert!(model["skipped"].as_u64().unwrap() >= 11, "{model}");
    assert_eq!(
        (&model["window_s"], &model["hop_s"], &model["set_aside"]),
        (&json!(2.0), &json!(1.0), &json!(false))
    );
    let top = hark.call("top", json!({"n": 50})).unwrap().to_string();
    assert!(
        top.contains("Whistle") && top.matches(ALARM).count() == 1,
        "{top}"
    );
    drop(let_go);
    hark.end().unwrap();
}

#[test]
fn the_dearest_model_is_set_aside_for_a_cheaper_one_and_tried_again() {
    let device = Device::default();
    let tell = device.plug();
    let (gate, entered, let_go) = Gate::new();
    let (open, ..) = Gate::new();
    let hark = Rig::start(gated(Setup::mic(&device), BOTH, &gate, &open));
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(2, 4.0))).unwrap();
    let start = events.event("start", "Whistle");
    // Both have been measured before one of them is held up.
    let limit = Instant::now() + follow::PATIENCE;
    while (1..=2).any(|at| hark.status()["models"][at]["steps"] == 0) {
        assert!(Instant::now() < limit, "{}", hark.status());
    }
    gate.close();
    tell.send(Do::Play(tone(2, 1.0))).unwrap();
    entered.recv_timeout(follow::PATIENCE).unwrap();
    tell.send(Do::Play(tone(2, 7.5))).unwrap();
    let reason = events.state("degraded");
    assert_eq!(
        reason,
        "whistles is set aside: fake-sounds cannot keep up beside it"
    );
    assert_eq!(hark.status()["models"][2]["set_aside"], true);
    // The whistle goes on, but nobody listens to it any more.
    assert_eq!(events.event("end", "Whistle").id, start.id);
    drop(let_go);
    play_kept_up(&hark, &tell, &tone(0, 25.0));
    events.state("listening");
    let model = hark.status()["models"][2].clone();
    assert_eq!(model["set_aside"], false, "{model}");
    assert!(model["skipped"].as_u64().unwrap() >= 16, "{model}");
    hark.end().unwrap();
}

#[test]
fn a_window_that_lasts_holds_up_neither_pause_nor_end() {
    let device = Device::default();
    let tell = device.plug();
    let (gate, entered, let_go) = Gate::new();
    let (open, ..) = Gate::new();
    let hark = Rig::start(gated(Setup::mic(&device), BOTH, &open, &gate));
    let mut events = hark.subscribe();
    gate.close();
    tell.send(Do::Play(tone(3, 3.0))).unwrap();
    entered.recv_timeout(follow::PATIENCE).unwrap();
    let start = events.event("start", ALARM);
    hark.call("pause", json!({})).unwrap();
    assert_eq!(events.event("end", ALARM).id, start.id);
    let begun = Instant::now();
    hark.end().unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    drop(let_go);
}

#[test]
fn reload_adds_and_removes_a_model_and_answers_meanwhile() {
    let device = Device::default();
    let _first = device.plug();
    let (open, ..) = Gate::new();
    let (gate, entered, let_go) = Gate::new();
    let setup = gated(Setup::mic(&device), ONE, &open, &gate);
    let config = setup.config.clone();
    let hark = Rig::start(setup);
    assert_eq!(names(&hark.status()), ["fake-words", "fake-sounds"]);

    for (bad, place) in [
        ("[[model]]\nname = 'whistle'\n", "config.toml:2:8: no model"),
        (
            "[[model]]\nname = ''\nhop_s = 1\n",
            "config.toml:1:1: the model has no name",
        ),
        (
            "[event]\nhop_s = 1.5\n",
            "config.toml:2:9: hop_s would leave out",
        ),
        ("[event]\nmodel = 'x'\n", "config.toml:2:9: no model 'x'"),
        (
            "[event]\nmodel = 'whistles'\n[[model]]\nname = 'whistles'\n",
            "config.toml:4:8: model 'whistles' runs already",
        ),
        (
            "[[rule]]\nname = 'a'\nmodel = 'whistles'\n",
            "config.toml:3:9: no model 'whistles' runs",
        ),
    ] {
        std::fs::write(&config, bad).unwrap();
        let refused = hark.call("reload", json!({})).unwrap_err().to_string();
        assert!(refused.contains(place), "{refused}");
    }
    assert_eq!(names(&hark.status()), ["fake-words", "fake-sounds"]);

    let _second = device.plug();
    std::fs::write(&config, BOTH).unwrap();
    gate.close();
    let mut client = hark.client();
    let reload = std::thread::spawn(move || client.call("reload", json!({})));
    entered.recv_timeout(follow::PATIENCE).unwrap();
    // The model is being warmed up.
    assert_eq!(names(&hark.status()), ["fake-words", "fake-sounds"]);
    let busy = hark.call("reload", json!({})).unwrap_err().to_string();
    assert!(busy.contains("still being loaded"), "{busy}");
    drop(let_go);
    reload.join().unwrap().unwrap();
    let status = hark.status();
    assert_eq!(names(&status), ["fake-words", "fake-sounds", "whistles"]);

    let _third = device.plug();
    std::fs::write(&config, ONE).unwrap();
    hark.call("reload", json!({})).unwrap();
    assert_eq!(names(&hark.status()), ["fake-words", "fake-sounds"]);
    hark.end().unwrap();
}

#[test]
fn the_daemon_answers_while_its_first_models_are_loaded() {
    let device = Device::default();
    let tell = device.plug();
    let (gate, entered, let_go) = Gate::new();
    gate.close();
    let (open, ..) = Gate::new();
    let setup = gated(Setup::mic(&device), BOTH, &open, &gate);
    let socket = setup.config.with_file_name("hark.sock");
    let asking = std::thread::spawn(move || {
        entered.recv_timeout(follow::PATIENCE).unwrap();
        let mut client = Client::connect(&socket).unwrap();
        let status = client.call("status", json!({})).unwrap();
        assert_eq!(status["state"], "loading");
        assert_eq!(status["models"], json!([]));
        drop(let_go);
        // What needs a model waits for it.
        client.call("top", json!({"n": 1})).unwrap();
    });
    let hark = Rig::start(setup);
    asking.join().unwrap();
    tell.send(Do::Play(tone(0, 0.5))).unwrap();
    hark.end().unwrap();
}

#[test]
fn another_model_in_place_of_the_embedded_one_needs_no_other_rules() {
    let device = Device::default();
    let tell = device.plug();
    let setup = both(Setup::file(&device));
    let instead = "[event]\nmodel = 'whistles'\nhop_s = 0.5\n[[rule]]\nname = 'all'\n";
    std::fs::write(&setup.config, instead).unwrap();
    let hark = Rig::start(setup);
    tell.send(Do::Play([tone(2, 3.0), tone(0, 3.0)].concat()))
        .unwrap();
    tell.send(Do::End).unwrap();
    let heard = hark.lines();
    let events: Vec<&str> = heard
        .iter()
        .filter(|event| event.kind == "event")
        .map(|event| event.label.as_str())
        .collect();
    assert_eq!(events, ["Whistle", "Whistle"]);
    // It does not know Speech and Music.
    assert!(heard.iter().all(|event| event.kind != "content"));

    let device = Device::default();
    let _tell = device.plug();
    let setup = both(Setup::mic(&device));
    std::fs::write(&setup.config, "[[model]]\nname = 'none'\n").unwrap();
    let error = Rig::start(setup).ended().unwrap_err();
    assert!(matches!(error, DaemonError::Config(_)), "{error}");
}

/// A model whose labels may be exchanged; hears each by its tone.
struct Changing {
    info: ModelInfo,
    labels: Arc<Mutex<Arc<[Arc<str>]>>>,
    given: Arc<[Arc<str>]>,
}

impl Classifier for Changing {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        self.given = self.labels.lock().unwrap().clone();
        scores.extend(self.given.iter().map(|label| {
            let hz: f32 = label.parse().unwrap();
            (amplitude(window, hz) / AMPLITUDE).min(1.0)
        }));
        Ok(())
    }

    fn labels(&self) -> Arc<[Arc<str>]> {
        self.given.clone()
    }
}

#[test]
fn labels_of_a_running_pipeline_change_while_an_episode_is_open() {
    let labels =
        |names: &[&str]| -> Arc<[Arc<str>]> { names.iter().map(|name| Arc::from(*name)).collect() };
    let shared = Arc::new(Mutex::new(labels(&["3000"])));
    let make = {
        let shared = shared.clone();
        move || {
            let info = Whistles::make().info().clone();
            let model = Changing {
                info,
                labels: shared.clone(),
                given: labels(&[]),
            };
            Ok(Box::new(model) as Box<dyn Classifier>)
        }
    };
    let model = Windowed {
        kind: Kind::Prompt,
        ..Windowed::load(Arc::new(make), None, None).unwrap()
    };
    let engine = |names: &[&str]| {
        let rule = RuleConfig {
            name: "prompts".into(),
            kind: Kind::Prompt,
            ..RuleConfig::default()
        };
        let known = KnownModel {
            kind: Kind::Prompt,
            name: "whistles".into(),
            labels: labels(names),
            thresholds: Arc::default(),
        };
        Engine::new(vec![Rule::from_config(&rule, &[]).unwrap()], &[known])
    };
    let device = Device::default();
    let tell = device.plug();
    let (heard, events) = unbounded();
    let pipeline = Pipeline::start(
        PipelineSetup {
            spec: "told".into(),
            source: Arc::new(move || device.open()),
            pace: Pace::Complete,
            limits: Limits::default(),
            front: Box::new(LogMel::new()),
            models: Models {
                keyword: None,
                windows: vec![model],
            },
            engine: engine(&["3000"]),
            content: None,
            origin: Instant::now(),
            paused: false,
        },
        Box::new(move |report| {
            if let Report::Event(event) = report {
                let _ = heard.send((event.phase, event.label.to_string(), event.id));
            }
        }),
    )
    .unwrap();
    let next = || events.recv_timeout(follow::PATIENCE).unwrap();
    let keep = |labels: Option<Arc<[Arc<str>]>>| {
        let name = "whistles".into();
        let kind = Kind::Prompt;
        vec![Standing::Keep { name, kind, labels }]
    };
    tell.send(Do::Play(tone(3, 3.0))).unwrap();
    let (phase, label, id) = next();
    assert_eq!((phase, &*label), (Phase::Start, "3000"));

    // Rules for other labels than those in force are refused, and nothing changes.
    let refused = pipeline.set_models(keep(None), engine(&["2000"]), None);
    assert!(refused.unwrap_err().to_string().contains("whistles"));
    let both = labels(&["2000", "3000"]);
    *shared.lock().unwrap() = both.clone();
    pipeline
        .set_models(keep(Some(both)), engine(&["2000", "3000"]), None)
        .unwrap();
    assert_eq!(pipeline.stats().known()[0].labels.len(), 2);
    pipeline.set_rules(engine(&["2000", "3000"]), None).unwrap();
    tell.send(Do::Play([tone(3, 3.0), tone(2, 5.0)].concat()))
        .unwrap();
    let told = [next(), next()];
    assert!(told.contains(&(Phase::End, "3000".into(), id)), "{told:?}");
    let begun = told.iter().find(|told| told.1 == "2000").unwrap();
    assert_eq!(begun.0, Phase::Start);

    // Without a stream nothing is left open.
    pipeline
        .set_models(Vec::new(), Engine::new(Vec::new(), &[]), None)
        .unwrap();
    tell.send(Do::Play(tone(2, 1.0))).unwrap();
    assert_eq!(next(), (Phase::End, "2000".into(), begun.2));
    assert!(pipeline.stats().models().is_empty());
    tell.send(Do::End).unwrap();
    drop(pipeline);
    assert!(events.try_recv().is_err());
}
