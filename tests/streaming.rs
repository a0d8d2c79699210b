//! The whole daemon with fake models: from a source to an event on the socket.
//!
//! Tests wait for what the daemon says and never for time to pass.

#[path = "support/fakes.rs"]
mod fakes;
#[path = "support/follow.rs"]
mod follow;
#[path = "support/rig.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use fakes::{ALARM, Device, Do, Words, tone};
use harkd::audio::AudioError;
use harkd::daemon::DaemonError;
use harkd::models::{Classifier, ModelError, ModelInfo};
use rig::{Heard, Rig, Setup};
use serde_json::{Value, json};

/// Silence, the word "yes", silence, an alarm of 3 s, silence.
fn scene() -> Vec<f32> {
    [
        tone(0, 1.0),
        tone(1, 0.4),
        tone(0, 1.6),
        tone(3, 3.0),
        tone(0, 5.0),
    ]
    .concat()
}

fn check_scene(events: &[Heard]) {
    let told: Vec<(&str, &str)> = events
        .iter()
        .filter(|event| event.kind != "content")
        .map(|event| (event.phase.as_str(), event.label.as_str()))
        .collect();
    assert_eq!(
        told,
        [("instant", "yes"), ("start", ALARM), ("end", ALARM)],
        "{events:#?}"
    );
    let of = |phase: &str, label: &str| {
        events
            .iter()
            .find(|event| event.phase == phase && event.label == label)
            .unwrap()
    };
    let (yes, start, end) = (of("instant", "yes"), of("start", ALARM), of("end", ALARM));
    assert!((1.0..1.4).contains(&yes.start_s), "{yes:?}");
    assert_eq!(start.id, end.id);
    assert_ne!(start.id, yes.id);
    assert!((2.0..4.0).contains(&start.start_s), "{start:?}");
    assert!(start.end_s.is_none());
    assert!((5.5..7.0).contains(&end.end_s.unwrap()), "{end:?}");
    assert!(end.peak > 0.9, "{end:?}");
    assert!(start.level_dbfs > -20.0, "{start:?}");
    assert_eq!(start.model, "fake-sounds");
    assert_eq!(yes.model, "fake-words");
}

#[test]
fn a_file_becomes_events_on_the_socket_and_ends_the_daemon() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::file(&device));
    let mut events = hark.subscribe();
    tell.send(Do::Play(scene())).unwrap();
    tell.send(Do::End).unwrap();
    let heard = events.until_closed();
    check_scene(&heard);
    hark.ended().unwrap();
}

#[test]
fn any_chunking_gives_the_same_events() {
    let heard = |chunk: usize| {
        let device = Device::default();
        let tell = device.plug();
        let hark = Rig::start(Setup::file(&device));
        for part in scene().chunks(chunk) {
            tell.send(Do::Play(part.to_vec())).unwrap();
        }
        tell.send(Do::End).unwrap();
        hark.lines()
    };
    let expected = heard(1 << 20);
    check_scene(&expected);
    for chunk in [33, 1600, 7919] {
        let got = heard(chunk);
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got.without_time(), expected.without_time(), "chunk {chunk}");
        }
    }
}

#[test]
fn a_file_shorter_than_a_window_is_judged_too() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::file(&device));
    tell.send(Do::Play(tone(3, 0.8))).unwrap();
    tell.send(Do::End).unwrap();
    let heard = hark.lines();
    let alarm: Vec<&Heard> = heard.iter().filter(|event| event.label == ALARM).collect();
    assert_eq!(alarm.len(), 2, "{heard:?}");
    assert_eq!(
        (alarm[0].phase.as_str(), alarm[1].phase.as_str()),
        ("start", "end")
    );
    assert!(alarm[1].end_s.unwrap() <= 0.8, "no event outlasts its file");
}

#[test]
fn a_pause_releases_the_device_and_resume_opens_it_again() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::mic(&device));
    let mut events = hark.subscribe();
    tell.send(Do::Play(
        [tone(0, 0.2), tone(1, 0.4), tone(3, 3.0)].concat(),
    ))
    .unwrap();
    events.event("instant", "yes");
    let start = events.event("start", ALARM);
    hark.call("pause", json!({})).unwrap();
    assert_eq!(device.counts(), (1, 1), "the microphone is released");
    let end = events.event("end", ALARM);
    assert_eq!(end.id, start.id, "what is open ends");
    events.state("paused");
    assert_eq!(hark.status()["state"], "paused");

    let tell = device.plug();
    hark.call("resume", json!({})).unwrap();
    device.wait(2, 1);
    tell.send(Do::Play([tone(0, 0.2), tone(2, 0.4)].concat()))
        .unwrap();
    let no = events.event("instant", "no");
    assert!(Some(no.start_s) > end.end_s, "time goes on: {no:?}");
    let status = hark.status();
    assert_eq!(status["state"], "listening");
    assert_eq!(status["sources"][0]["lost_samples"], 0, "{status}");
    hark.end().unwrap();
}

#[test]
fn a_timed_pause_and_an_inhibitor_end_by_themselves() {
    let device = Device::default();
    let _first = device.plug();
    let hark = Rig::start(Setup::mic(&device));
    let mut events = hark.subscribe();
    let _second = device.plug();
    hark.call("pause", json!({"seconds": 0.05})).unwrap();
    device.wait(2, 1);

    let _third = device.plug();
    let mut holder = hark.client();
    holder
        .call("inhibit", json!({"who": "a call", "why": "privacy"}))
        .unwrap();
    let mut paused = events.state("paused");
    if paused.contains("for a time") {
        // The first pause was seen too.
        paused = events.state("paused");
    }
    assert!(paused.contains("a call"), "{paused}");
    let refused = hark.call("resume", json!({})).unwrap_err().to_string();
    assert!(refused.contains("a call"), "{refused}");
    drop(holder);
    device.wait(3, 2);
    hark.end().unwrap();
}

#[test]
fn a_source_that_fails_is_stalled_and_comes_back() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::mic(&device));
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(3, 3.0))).unwrap();
    let start = events.event("start", ALARM);
    device.unplug();
    tell.send(Do::Fail).unwrap();
    let reason = events.state("stalled");
    assert!(reason.contains("the device has gone"), "{reason}");
    assert_eq!(
        events.event("end", ALARM).id,
        start.id,
        "an outage ends what is open"
    );
    device.wait_attempts(4);
    let status = hark.status();
    assert_eq!(status["state"], "stalled");
    assert!(
        status["sources"][0]["fault"]
            .as_str()
            .unwrap()
            .contains("no device"),
        "{status}"
    );

    let tell = device.plug();
    device.wait(2, 1);
    tell.send(Do::Play([tone(0, 0.3), tone(1, 0.4)].concat()))
        .unwrap();
    events.state("listening");
    events.event("instant", "yes");
    let source = hark.status()["sources"][0].clone();
    assert_eq!(source["reopened"], 1, "{source}");
    assert_eq!(source["gaps"], 1, "{source}");
    assert!(source["lost_samples"].as_u64().unwrap() > 0, "{source}");
    assert_eq!(source["fault"], "", "{source}");
    hark.end().unwrap();
}

#[test]
fn a_source_without_samples_is_opened_again() {
    let device = Device::default();
    let tell = device.plug();
    let mut setup = Setup::mic(&device);
    setup.limits.no_samples = Duration::from_millis(400);
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(0, 0.2))).unwrap();
    let reason = events.state("stalled");
    assert!(reason.contains("no samples"), "{reason}");
    let tell = device.plug();
    device.wait(2, 1);
    tell.send(Do::Play(tone(0, 0.2))).unwrap();
    events.state("listening");
    hark.end().unwrap();
}

#[test]
fn digital_silence_is_stalled_but_not_reopened() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::mic(&device));
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(0, 0.5))).unwrap();
    tell.send(Do::Play(vec![0.0; 16_000])).unwrap();
    let reason = events.state("stalled");
    assert!(reason.contains("muted"), "{reason}");
    tell.send(Do::Play([tone(0, 0.2), tone(1, 0.4)].concat()))
        .unwrap();
    events.state("listening");
    events.event("instant", "yes");
    assert_eq!(device.counts(), (1, 0));
    hark.end().unwrap();
}

#[test]
fn lost_samples_are_counted_and_interrupt_what_is_open() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::mic(&device));
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(3, 2.0))).unwrap();
    let start = events.event("start", ALARM);
    tell.send(Do::Lose(16_000)).unwrap();
    tell.send(Do::Play(
        [tone(0, 1.0), tone(1, 0.4), tone(0, 0.2)].concat(),
    ))
    .unwrap();
    assert_eq!(events.event("end", ALARM).id, start.id);
    let yes = events.event("instant", "yes");
    assert!((4.0..4.4).contains(&yes.start_s), "the gap counts: {yes:?}");
    let source = hark.status()["sources"][0].clone();
    assert_eq!(source["lost_samples"], 16_000, "{source}");
    assert_eq!(source["gaps"], 1, "{source}");
    hark.end().unwrap();
}

#[test]
fn the_end_of_the_daemon_ends_every_event() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::mic(&device));
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(3, 3.0))).unwrap();
    let start = events.event("start", ALARM);
    hark.end().unwrap();
    let rest = events.until_closed();
    let ends: Vec<&Heard> = rest.iter().filter(|event| event.phase == "end").collect();
    assert_eq!(ends.len(), 1, "{rest:?}");
    assert_eq!(ends[0].id, start.id);
    assert_eq!(device.counts(), (1, 1));
}

#[test]
fn windows_that_come_too_fast_are_skipped_and_counted() {
    let (entered, has_entered) = unbounded::<()>();
    let (go, gate) = unbounded::<()>();
    struct Slow {
        inner: Box<dyn Classifier>,
        calls: usize,
        entered: crossbeam_channel::Sender<()>,
        gate: crossbeam_channel::Receiver<()>,
    }
    impl Classifier for Slow {
        fn info(&self) -> &ModelInfo {
            self.inner.info()
        }
        fn classify(&mut self, frames: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
            self.calls += 1;
            // The first ones warm the model up.
            if self.calls > 5 {
                self.entered.send(()).unwrap();
                let _ = self.gate.recv();
            }
            self.inner.classify(frames, scores)
        }
    }
    let device = Device::default();
    let tell = device.plug();
    let mut setup = Setup::mic(&device);
    let inner = setup.makers.event.clone();
    setup.makers.event = Arc::new(move |name| {
        Ok(Box::new(Slow {
            inner: inner(name)?,
            calls: 0,
            entered: entered.clone(),
            gate: gate.clone(),
        }))
    });
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(0, 1.1))).unwrap();
    has_entered.recv_timeout(follow::PATIENCE).unwrap();
    tell.send(Do::Play(
        [tone(0, 14.0), tone(1, 0.4), tone(0, 0.2)].concat(),
    ))
    .unwrap();
    let reason = events.state("degraded");
    assert!(reason.contains("cannot keep up"), "{reason}");
    events.event("instant", "yes");
    let skipped = hark.status()["models"][1]["skipped"].as_u64().unwrap();
    // 15.5 s hold 30 windows: one is being scored, one waits.
    assert!((26..=29).contains(&skipped), "{skipped}");
    drop(go);
    hark.end().unwrap();
}

#[test]
fn a_program_that_is_ahead_of_time_waits_for_its_windows() {
    struct Busy(Box<dyn Classifier>);
    impl Classifier for Busy {
        fn info(&self) -> &ModelInfo {
            self.0.info()
        }
        fn classify(&mut self, frames: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
            // Longer than the listener takes for half a second of sound.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(10) {
                std::hint::spin_loop();
            }
            self.0.classify(frames, scores)
        }
    }
    let device = Device::default();
    let tell = device.plug();
    let mut setup = Setup::program(&device);
    let inner = setup.makers.event.clone();
    setup.makers.event = Arc::new(move |name| Ok(Box::new(Busy(inner(name)?))));
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play(
        [tone(0, 30.0), tone(1, 0.4), tone(0, 0.2)].concat(),
    ))
    .unwrap();
    events.event("instant", "yes");
    let model = hark.status()["models"][1].clone();
    assert!(model["steps"].as_u64().unwrap() >= 59, "{model}");
    assert_eq!(model["skipped"], 0, "{model}");
    tell.send(Do::End).unwrap();
    let reason = events.state("stalled");
    assert!(reason.contains("ended"), "{reason}");
    let _next = device.plug();
    device.wait(2, 1);
    hark.end().unwrap();
}

#[test]
fn a_model_that_fails_is_started_again_while_listening_goes_on() {
    for khz in [6, 7] {
        let device = Device::default();
        let tell = device.plug();
        let hark = Rig::start(Setup::mic(&device));
        let mut events = hark.subscribe();
        tell.send(Do::Play(
            [tone(0, 0.5), tone(khz, 1.5), tone(1, 0.4)].concat(),
        ))
        .unwrap();
        let reason = events.state("degraded");
        assert!(reason.contains(&format!("{khz} kHz")), "{reason}");
        events.event("instant", "yes");
        // Windows of silence until the model is back.
        let feeder = tell.clone();
        let more = std::thread::spawn(move || while feeder.send(Do::Play(tone(0, 0.5))).is_ok() {});
        events.state("listening");
        hark.end().unwrap();
        drop(tell);
        drop(more);
    }
}

#[test]
fn history_keeps_the_events_in_order() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::file(&device));
    let mut events = hark.subscribe();
    tell.send(Do::Play(scene())).unwrap();
    events.event("end", ALARM);
    let history = hark.call("history", json!({"n": 1000})).unwrap();
    let list = history
        .as_array()
        .or_else(|| history["events"].as_array())
        .unwrap_or_else(|| panic!("{history}"));
    let heard: Vec<Heard> = list.iter().map(Heard::from_value).collect();
    check_scene(&heard);
    let top = hark.call("top", json!({"n": 3})).unwrap();
    assert!(top.to_string().contains("_silence_"), "{top}");
    hark.end().unwrap();
}

#[test]
fn reload_is_atomic() {
    let device = Device::default();
    let tell = device.plug();
    let setup = Setup::mic(&device);
    let config = setup.config.clone();
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    let threshold = |status: &Value| {
        let rules = status["rules"].as_array().unwrap();
        let safety = rules.iter().find(|rule| rule["name"] == "safety").unwrap();
        safety["threshold"].as_f64().unwrap()
    };
    for bad in [
        "[keyword]\nenabled = maybe\n",
        "[[rule]]\nname = \"safety\"\nlabels = [\"Smoke\"]\n",
    ] {
        std::fs::write(&config, bad).unwrap();
        let refused = hark.call("reload", json!({})).unwrap_err().to_string();
        assert!(refused.contains("config.toml:"), "{refused}");
    }
    assert_eq!(threshold(&hark.status()), 0.5);
    std::fs::write(&config, "[[rule]]\nname = \"safety\"\nthreshold = 0.75\n").unwrap();
    hark.call("reload", json!({})).unwrap();
    assert_eq!(threshold(&hark.status()), 0.75);
    hark.call(
        "threshold_set",
        json!({"rule": "safety", "threshold": 0.25}),
    )
    .unwrap();
    assert_eq!(threshold(&hark.status()), 0.25);
    let refused = hark
        .call("threshold_set", json!({"rule": "safty", "threshold": 0.25}))
        .unwrap_err();
    assert!(refused.to_string().contains("safety"), "{refused}");
    hark.signal_reload();
    // A signal has no answer; the daemon gets round to it between requests.
    assert!((0..1000).any(|_| threshold(&hark.status()) == 0.75));
    tell.send(Do::Play([tone(0, 0.5), tone(3, 3.0)].concat()))
        .unwrap();
    let start = events.event("start", ALARM);
    assert_eq!(
        start.threshold, 0.75,
        "a reload undoes what was set by hand"
    );

    // Another window needs another pipeline; what is open ends with the old one.
    let second = device.plug();
    std::fs::write(&config, "[event]\nwindow_s = 2.0\n").unwrap();
    hark.call("reload", json!({})).unwrap();
    assert_eq!(events.event("end", ALARM).id, start.id);
    second
        .send(Do::Play(
            [tone(0, 0.5), tone(1, 0.4), tone(0, 0.2)].concat(),
        ))
        .unwrap();
    events.event("instant", "yes");
    hark.end().unwrap();
}

#[test]
fn a_missing_source_is_an_error_at_the_start_or_waited_for() {
    let device = Device::default();
    let hark = Rig::start(Setup::mic(&device).impatient());
    let error = hark.ended().unwrap_err();
    assert!(
        matches!(error, DaemonError::Audio(AudioError::Device(_))),
        "{error}"
    );

    let device = Device::default();
    let hark = Rig::start(Setup::mic(&device));
    let mut events = hark.subscribe();
    device.wait_attempts(3);
    assert_eq!(hark.status()["state"], "stalled");
    let tell = device.plug();
    tell.send(Do::Play(tone(0, 0.3))).unwrap();
    events.state("listening");
    hark.end().unwrap();
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let device = Device::default();
    let hark = Rig::start(Setup::file(&device));
    let error = hark.ended().unwrap_err();
    assert!(matches!(error, DaemonError::Audio(_)), "{error}");
}

#[test]
fn a_model_that_cannot_be_made_is_an_error() {
    let device = Device::default();
    let mut setup = Setup::mic(&device);
    setup.makers.keyword = Arc::new(|_| Err(ModelError::Format("the weights are cut off".into())));
    let error = Rig::start(setup).ended().unwrap_err();
    assert!(matches!(error, DaemonError::Model(_)), "{error}");
}

#[test]
fn a_keyword_model_that_panics_is_started_again() {
    struct Faint {
        inner: Box<dyn harkd::models::Spotter>,
    }
    impl harkd::models::Spotter for Faint {
        fn info(&self) -> &ModelInfo {
            self.inner.info()
        }
        fn step(&mut self, frame: &[f32], scores: &mut [f32]) {
            assert!(frame[7] < 0.4, "7 kHz");
            self.inner.step(frame, scores);
        }
        fn reset(&mut self) {
            self.inner.reset();
        }
    }
    let device = Device::default();
    let tell = device.plug();
    let mut setup = Setup::mic(&device);
    setup.makers.keyword = Arc::new(|_| {
        Ok(Box::new(Faint {
            inner: Words::make()?,
        }))
    });
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play([tone(0, 0.1), tone(7, 0.05)].concat()))
        .unwrap();
    let reason = events.state("degraded");
    assert!(reason.contains("7 kHz"), "{reason}");
    let feeder = tell.clone();
    let more = std::thread::spawn(move || {
        while feeder
            .send(Do::Play([tone(0, 0.3), tone(1, 0.3)].concat()))
            .is_ok()
        {}
    });
    events.event("instant", "yes");
    hark.end().unwrap();
    drop(tell);
    drop(more);
}

#[test]
fn a_device_that_hangs_holds_nothing_up() {
    let device = Device::default();
    let (keep, hung) = unbounded::<()>();
    let mut setup = Setup::mic(&device);
    setup.makers.source = Arc::new(move |_, _| {
        let _ = hung.recv();
        Err(AudioError::Device("too late".into()))
    });
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    let reason = events.state("stalled");
    assert!(reason.contains("did not open"), "{reason}");
    assert_eq!(hark.status()["state"], "stalled");
    hark.call("pause", json!({})).unwrap();
    hark.call("resume", json!({})).unwrap();
    hark.end().unwrap();
    drop(keep);
}
