//! What the daemon does when things go wrong twice: pauses in outages, devices that come back mute,
//! models and listeners that break, reloads at the wrong moment.

#[path = "support/fakes.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod fakes;
#[path = "support/rig.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod rig;

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use fakes::{ALARM, Device, Do, Tones, tone};
use harkd::clock::SampleIdx;
use harkd::daemon::DaemonError;
use harkd::features::Frontend;
use rig::{Rig, Setup};
use serde_json::json;

const WIDE_WINDOW: &str = "[event]\nwindow_s = 2.0\n";

#[test]
fn a_second_pause_before_the_device_is_back_loses_no_word() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::mic(&device).patient());
    let mut events = hark.subscribe();
    tell.send(Do::Play([tone(0, 0.2), tone(1, 0.4)].concat()))
        .unwrap();
    let yes = events.event("instant", "yes");
    device.unplug();
    hark.call("pause", json!({"seconds": 1.0})).unwrap();
    device.wait_attempts(3);
    hark.call("pause", json!({})).unwrap();
    let tell = device.plug();
    hark.call("resume", json!({})).unwrap();
    tell.send(Do::Play([tone(0, 0.1), tone(2, 0.3)].concat()))
        .unwrap();
    let no = events.event("instant", "no");
    assert!(no.start_s > yes.start_s + 1.0, "{no:?} after {yes:?}");
    hark.end().unwrap();
}

#[test]
fn an_outage_is_counted_once_however_often_the_device_is_opened() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::mic(&device));
    let begun = Instant::now();
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(0, 0.2))).unwrap();
    let mut mute = vec![tell];
    for opened in 2..=4 {
        mute.push(device.plug());
        device.wait(opened, opened - 1);
    }
    events.state("stalled");
    let tell = device.plug();
    device.wait(5, 4);
    tell.send(Do::Play([tone(0, 0.2), tone(1, 0.3)].concat()))
        .unwrap();
    events.event("instant", "yes");
    let lost = hark.status()["sources"][0]["lost_samples"]
        .as_u64()
        .unwrap();
    let passed = begun.elapsed().as_secs_f64() * 16_000.0;
    assert!(
        lost > 16_000 && lost as f64 <= passed,
        "{lost} lost while {passed} passed"
    );
    hark.end().unwrap();
}

#[test]
fn a_pause_keeps_the_outage_it_came_in() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::mic(&device));
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(0, 0.2))).unwrap();
    device.unplug();
    tell.send(Do::Fail).unwrap();
    events.state("stalled");
    device.wait_attempts(4);
    hark.call("pause", json!({})).unwrap();
    let tell = device.plug();
    hark.call("resume", json!({})).unwrap();
    tell.send(Do::Play([tone(0, 0.2), tone(1, 0.3)].concat()))
        .unwrap();
    events.event("instant", "yes");
    let source = hark.status()["sources"][0].clone();
    assert_eq!(source["gaps"], 1, "{source}");
    assert!(source["lost_samples"].as_u64().unwrap() > 0, "{source}");
    hark.end().unwrap();
}

#[test]
fn an_open_event_ends_when_its_model_breaks() {
    let device = Device::default();
    let tell = device.plug();
    let hark = Rig::start(Setup::mic(&device).patient());
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(3, 3.0))).unwrap();
    let start = events.event("start", ALARM);
    tell.send(Do::Play(tone(6, 2.0))).unwrap();
    assert_eq!(events.event("end", ALARM).id, start.id);
    events.state("degraded");
    hark.end().unwrap();
}

#[test]
fn a_reload_in_a_pause_leaves_the_microphone_alone() {
    let device = Device::default();
    let tell = device.plug();
    let setup = Setup::mic(&device).patient();
    let config = setup.config.clone();
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play([tone(0, 0.2), tone(1, 0.4)].concat()))
        .unwrap();
    events.event("instant", "yes");
    hark.call("pause", json!({})).unwrap();
    let tell = device.plug();
    std::fs::write(&config, WIDE_WINDOW).unwrap();
    hark.call("reload", json!({})).unwrap();
    let status = hark.status();
    assert_eq!(status["state"], "paused");
    let samples = |status: &serde_json::Value| status["sources"][0]["samples"].as_u64().unwrap();
    assert!(samples(&status) >= 8_000, "the count goes on: {status}");
    hark.call("resume", json!({})).unwrap();
    tell.send(Do::Play([tone(0, 0.2), tone(2, 0.4)].concat()))
        .unwrap();
    events.event("instant", "no");
    assert_eq!(device.counts(), (2, 1), "opened once before and once after");
    hark.end().unwrap();
}

#[test]
fn a_reload_without_the_device_ends_no_daemon() {
    let device = Device::default();
    let tell = device.plug();
    let setup = Setup::mic(&device).patient().impatient();
    let config = setup.config.clone();
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play([tone(0, 0.2), tone(1, 0.4)].concat()))
        .unwrap();
    events.event("instant", "yes");
    device.unplug();
    std::fs::write(&config, WIDE_WINDOW).unwrap();
    hark.call("reload", json!({})).unwrap();
    events.state("stalled");
    let tell = device.plug();
    tell.send(Do::Play([tone(0, 0.2), tone(2, 0.4)].concat()))
        .unwrap();
    events.event("instant", "no");
    hark.end().unwrap();
}

/// Breaks at 7 kHz.
#[derive(Default)]
struct Brittle(Tones);

impl Frontend for Brittle {
    fn push(&mut self, pcm: &[f32], emit: &mut dyn FnMut(SampleIdx, &[f32])) {
        self.0.push(pcm, &mut |end, frame| {
            assert!(frame[7] < 0.4, "7 kHz");
            emit(end, frame);
        });
    }

    fn reset(&mut self, at: SampleIdx) {
        self.0.reset(at);
    }
}

#[test]
fn a_listener_that_crashes_ends_its_events_and_the_daemon() {
    let device = Device::default();
    let tell = device.plug();
    let mut setup = Setup::mic(&device).patient();
    setup.makers.front = Arc::new(|| Box::new(Brittle::default()));
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(3, 3.0))).unwrap();
    let start = events.event("start", ALARM);
    tell.send(Do::Play(tone(7, 0.5))).unwrap();
    let end = events.event("end", ALARM);
    assert_eq!(end.id, start.id);
    assert!(end.end_s.unwrap() >= start.start_s, "{end:?}");
    let error = hark.ended().unwrap_err();
    assert!(
        matches!(&error, DaemonError::Audio(error) if error.to_string().contains("crashed")),
        "{error}"
    );
}

fn check_run(args: &[&str], config: &str, code: i32, part: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hark"))
        .args(["run", "--quiet", "--bus", "none", "--config"])
        .arg(&path)
        .arg("--socket")
        .arg(dir.path().join("hark.sock"))
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(part), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_source_that_makes_no_sense_says_where_it_stands() {
    check_run(&["--source", "mice"], "", 2, "--source: source 'mice'");
    check_run(
        &[],
        "[[source]]\nspec = 'mice'\n",
        3,
        "config.toml:2:8: source 'mice'",
    );
    check_run(
        &[],
        "[[source]]\nspec = 'mic'\n[[source]]\nspec = 'mic:b'\n",
        3,
        "config.toml:4:8: 2 sources",
    );
}
