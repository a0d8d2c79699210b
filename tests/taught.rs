//! Taught sounds through the whole daemon: learned, heard, forgotten, kept over a restart.
//!
//! The embedder is the embedded event network on the real front end; the sound is made here.

#[path = "support/chime.rs"]
mod chime;
#[path = "support/fakes.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod fakes;
#[path = "support/follow.rs"]
mod follow;
#[path = "support/rig.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod rig;
mod support;

use std::path::PathBuf;
use std::sync::Arc;

use chime::chime;
use fakes::{Device, Do, tone};
use harkd::features::LogMel;
use rig::{Rig, Setup};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Examples of the chime, no two alike, and the files beside them that are none.
fn examples(dir: &TempDir) -> Vec<PathBuf> {
    (0..4)
        .map(|n| {
            let path = dir.path().join(format!("{n}.wav"));
            support::write_wav(&path, 16_000, &chime(n));
            path
        })
        .collect()
}

fn setup(device: &Device) -> Setup {
    let mut setup = Setup::mic(device);
    setup.makers.front = Arc::new(|| Box::new(LogMel::new()));
    setup
}

fn taught(hark: &Rig) -> Value {
    hark.call("taught", json!({})).unwrap()["taught"].take()
}

#[test]
fn a_sound_is_taught_heard_forgotten_and_kept_over_a_restart() {
    let device = Device::default();
    let tell = device.plug();
    let dir = tempfile::tempdir().unwrap();
    let files = examples(&dir);
    let first = setup(&device);
    let store = first.data().join("taught");
    let hark = Rig::start(first);
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(0, 2.0))).unwrap();
    let lesson = json!({"name": "my chime", "files": files});
    let learned = hark.call("teach", lesson.clone()).unwrap();
    let sound = &learned["taught"];
    assert_eq!(
        (&sound["state"], &sound["by"]),
        (&json!("ready"), &json!("hark-event"))
    );
    assert_eq!(
        (&sound["kind"], &sound["examples"]),
        (&json!("sound"), &json!(4))
    );
    assert_eq!(taught(&hark), json!([sound]));
    assert_eq!(hark.status()["taught"], json!([sound]));
    // A quiet in which nothing can be made out any more, at -80 dBFS.
    let quiet: Vec<f32> = tone(0, 4.0).iter().map(|sample| 0.5 * sample).collect();
    tell.send(Do::Play([tone(0, 1.0), chime(7), quiet].concat()))
        .unwrap();
    let start = events.event("start", "my chime");
    assert_eq!((&*start.kind, &*start.model), ("taught", "hark-event"));
    assert_eq!(events.event("end", "my chime").id, start.id);

    let refused = |method: &str, params: Value, needle: &str| {
        let error = hark.call(method, params).unwrap_err().to_string();
        assert!(error.contains(needle), "{method}: {error}");
        assert_eq!(taught(&hark), json!([sound]), "{method} was refused");
    };
    refused("teach", lesson, "a sound 'my chime' was taught already");
    let silent = dir.path().join("silent.wav");
    support::write_wav(&silent, 16_000, &[0.0; 16_000]);
    let short = dir.path().join("short.wav");
    support::write_wav(&short, 16_000, &chime(0)[..800]);
    let with = |odd: &PathBuf| json!({"name": "other", "files": [&files[0], &files[1], odd]});
    refused("teach", with(&silent), "silent.wav: it is silent");
    refused("teach", with(&short), "short.wav: 0.05 s is too short");
    refused("teach", with(&dir.path().join("none.wav")), "none.wav");
    refused(
        "teach",
        json!({"name": "a\n", "files": files}),
        "control character",
    );
    refused(
        "teach",
        json!({"name": "other", "files": [files[0]]}),
        "1 examples are too few",
    );
    refused(
        "forget",
        json!({"name": "other"}),
        "no sound 'other' was taught",
    );

    let kept: Vec<PathBuf> = std::fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let again = setup(&device);
    let name = kept[0].file_name().unwrap().to_owned();
    let place = again.data().join("taught").join(name);
    std::fs::create_dir_all(&place).unwrap();
    for file in ["card.json", "sound.safetensors"] {
        std::fs::copy(kept[0].join(file), place.join(file)).unwrap();
    }
    hark.call("forget", json!({"name": "my chime"})).unwrap();
    assert_eq!(taught(&hark), json!([]));
    assert_eq!(hark.status()["models"].as_array().unwrap().len(), 2);
    hark.end().unwrap();

    let tell = device.plug();
    let hark = Rig::start(again);
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(0, 1.0))).unwrap();
    // Whatever was asked before is done when a reload is.
    hark.call("reload", json!({})).unwrap();
    hark.call("taught_changed", json!({})).unwrap();
    assert_eq!(taught(&hark)[0]["state"], "ready");
    tell.send(Do::Play([tone(0, 1.0), chime(8), tone(0, 4.0)].concat()))
        .unwrap();
    events.event("start", "my chime");
    hark.end().unwrap();
}
