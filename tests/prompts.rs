//! Prompts through the whole daemon: added, changed and removed while sound plays, kept over a restart,
//! answered by a CLAP, by the event model, or by nobody yet.
//!
//! The CLAP is a tiny one with random weights: what it scores means nothing, so that a threshold at the
//! lowest score there is stands for a prompt that fits.

#[path = "support/fakes.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod fakes;
#[path = "support/follow.rs"]
mod follow;
#[path = "support/rig.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod rig;

use std::path::Path;

use fakes::{ALARM, Device, Do, tone};
use rig::{Rig, Setup};
use serde_json::{Value, json};

/// No score is lower: every window is over it.
const ALWAYS: f64 = 0.001;

/// The section of a configuration with a tiny CLAP.
fn tiny(more: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fixtures/clap-unfused");
    format!(
        "[prompt]\nmodel = '{}'\nwindow_s = 1\nhop_s = 0.5\ngate = false\n{more}\n",
        dir.display()
    )
}

/// A section whose model is known and on no machine that tests run on.
const ABSENT: &str = "[prompt]\nmodel = 'clap-fused'\n";

fn prompts(hark: &Rig) -> Value {
    hark.call("prompts", json!({})).unwrap()["prompts"].take()
}

fn add(hark: &Rig, name: &str, phrases: &[&str], threshold: f64) -> Value {
    let wanted = json!({"name": name, "phrases": phrases, "threshold": threshold});
    hark.call("prompt_add", wanted).unwrap()["prompt"].take()
}

fn check_refused(hark: &Rig, method: &str, params: Value, needle: &str) {
    let before = prompts(hark);
    let error = hark.call(method, params).unwrap_err().to_string();
    assert!(error.contains(needle), "{method}: {error}");
    assert!(error.len() < 400 && !error.contains('\n'), "{error}");
    assert_eq!(prompts(hark), before, "{method} was refused");
}

#[test]
fn a_prompt_comes_and_goes_while_an_alarm_lasts() {
    let device = Device::default();
    let tell = device.plug();
    let setup = Setup::mic(&device);
    setup.configure(&tiny(""));
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play([tone(0, 0.5), tone(3, 3.0)].concat()))
        .unwrap();
    let alarm = events.event("start", ALARM);

    let added = add(
        &hark,
        "kettle",
        &["a kettle whistling", "water boiling"],
        ALWAYS,
    );
    assert_eq!(
        (&added["state"], &added["place"]),
        (&json!("ready"), &json!(""))
    );
    assert!(
        added["by"].as_str().unwrap().ends_with("clap-unfused"),
        "{added}"
    );
    let status = hark.status();
    assert_eq!(status["prompts"], json!([added]));
    let model = &status["models"].as_array().unwrap()[2];
    assert_eq!(
        (&model["task"], &model["labels"]),
        (&json!("prompt"), &json!(1))
    );
    tell.send(Do::Play(tone(3, 3.0))).unwrap();
    let kettle = events.event("start", "kettle");
    assert_eq!((&*kettle.kind, kettle.threshold), ("prompt", ALWAYS));
    assert!(kettle.model.ends_with("clap-unfused"), "{kettle:?}");

    // Another one beside it: neither the alarm nor the first ends.
    add(&hark, "dog", &["a dog barking"], 1.0);
    let wanted = json!({"name": "kettle", "phrases": ["steam"], "threshold": 0.5, "replace": true});
    hark.call("prompt_add", wanted).unwrap();
    hark.call("prompt_remove", json!({"name": "dog"})).unwrap();
    assert_eq!(prompts(&hark)[0]["phrases"], json!(["steam"]));
    assert_eq!(prompts(&hark).as_array().unwrap().len(), 1);
    hark.call("prompt_remove", json!({"name": "kettle"}))
        .unwrap();
    assert_eq!(events.event("end", "kettle").id, kettle.id);
    tell.send(Do::Play(tone(3, 2.0))).unwrap();
    tell.send(Do::Play(tone(0, 4.0))).unwrap();
    assert_eq!(events.event("end", ALARM).id, alarm.id);
    assert_eq!(hark.status()["models"].as_array().unwrap().len(), 2);
    assert_eq!(prompts(&hark), json!([]));
    hark.end().unwrap();
}

#[test]
fn what_is_no_prompt_is_refused_and_changes_nothing() {
    let device = Device::default();
    let _tell = device.plug();
    let setup = Setup::mic(&device);
    setup.configure(&tiny(
        "[[prompt.label]]\nname = 'mine'\nphrases = ['a kettle']",
    ));
    let hark = Rig::start(setup);
    add(&hark, "dog", &["a dog barking"], 0.5);
    let many = |count: u32| -> Value { (0..count).map(|n| n.to_string()).collect() };
    let prompt = |name: &str, phrases: Value| json!({"name": name, "phrases": phrases});
    for (name, phrases, needle) in [
        ("cat", json!([]), "phrases: there are no phrases"),
        ("cat", json!([" "]), "phrases.0: the phrase is empty"),
        ("cat", json!(["a\u{7}"]), "control character"),
        ("cat\n", json!(["a cat"]), "control character"),
        ("", json!(["a cat"]), "the prompt has no name"),
        ("cat", many(8_000), "8000 phrases are too many"),
        ("cat", many(10_000), "too_large"),
        ("cat", json!(["x".repeat(1001)]), "over 1000 characters"),
        ("dog", json!(["a dog"]), "there is a prompt 'dog' already"),
        ("mine", json!(["a dog"]), "there is a prompt 'mine' in "),
    ] {
        check_refused(&hark, "prompt_add", prompt(name, phrases), needle);
    }
    // More than a line of the socket: the client does not even send it.
    let huge = prompt("cat", json!(["x".repeat(10 << 20)]));
    check_refused(&hark, "prompt_add", huge, "too_large");
    let high = json!({"name": "cat", "phrases": ["a cat"], "threshold": 1.5});
    check_refused(&hark, "prompt_add", high, "threshold: 1.5 is out of range");
    let none = json!({"name": "bird"});
    check_refused(
        &hark,
        "prompt_remove",
        none,
        "there is no prompt 'bird'; those that were added: dog",
    );
    let mine = json!({"name": "mine"});
    check_refused(&hark, "prompt_remove", mine, "the prompt 'mine' stands in ");
    // Sixteen of sixty-four phrases are too many together.
    let full = |at: usize| -> Value {
        let phrases: Vec<String> = (0..64).map(|n| format!("sound {at} {n}")).collect();
        prompt(&format!("full {at}"), json!(phrases))
    };
    for at in 0..15 {
        hark.call("prompt_add", full(at)).unwrap();
    }
    check_refused(&hark, "prompt_add", full(15), "1026 phrases are too many");
    hark.end().unwrap();
}

#[test]
fn prompts_are_kept_over_a_restart_and_heard_in_a_file() {
    let device = Device::default();
    let _tell = device.plug();
    let setup = Setup::mic(&device);
    setup.configure(&tiny(""));
    let kept = setup.data().join("prompts.toml");
    let hark = Rig::start(setup);
    add(&hark, "kettle", &["a kettle whistling"], ALWAYS);
    let text = std::fs::read_to_string(&kept).unwrap();
    hark.end().unwrap();

    let tell = device.plug();
    let again = Setup::file(&device);
    again.configure(&tiny(""));
    std::fs::create_dir_all(again.data()).unwrap();
    std::fs::write(again.data().join("prompts.toml"), text).unwrap();
    tell.send(Do::Play(tone(4, 2.0))).unwrap();
    tell.send(Do::End).unwrap();
    let heard = Rig::start(again).lines();
    let phases = heard.iter().filter(|event| event.label == "kettle");
    let phases: Vec<&str> = phases.map(|event| &*event.phase).collect();
    assert_eq!(
        phases,
        ["start", "end"],
        "a file waits for its prompts: {heard:?}"
    );
}

#[test]
fn a_damaged_file_of_prompts_is_told_of_and_kept_aside() {
    let device = Device::default();
    let tell = device.plug();
    let setup = Setup::mic(&device);
    setup.configure(&tiny(""));
    let data = setup.data();
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("prompts.toml"), "[[prompt]]\nname = ").unwrap();
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play(tone(0, 0.5))).unwrap();
    let told = events.state("degraded");
    for part in ["prompts.toml: line 2", "prompts.toml.damaged-1"] {
        assert!(told.contains(part), "{told}");
    }
    let aside = std::fs::read_to_string(data.join("prompts.toml.damaged-1")).unwrap();
    assert_eq!(aside, "[[prompt]]\nname = ");
    // It listens all the same, and whoever adds prompts again has read it.
    tell.send(Do::Play([tone(1, 0.4), tone(0, 0.5)].concat()))
        .unwrap();
    events.event("instant", "yes");
    add(&hark, "kettle", &["a kettle"], 0.5);
    events.state("listening");
    hark.end().unwrap();
}

#[test]
fn without_a_clap_the_event_model_answers_for_what_it_knows() {
    let device = Device::default();
    let tell = device.plug();
    let setup = Setup::mic(&device);
    setup.configure(ABSENT);
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    let alarm = add(&hark, "smoke", &[ALARM], 0.5);
    assert_eq!(
        (&alarm["state"], &alarm["by"]),
        (&json!("fallback"), &json!("fake-sounds"))
    );
    let models = hark.status()["models"].take();
    assert_eq!(models[2]["name"], models[1]["name"], "{models}");
    assert_eq!(models[2]["sha256"], models[1]["sha256"], "{models}");
    let detail = alarm["detail"].as_str().unwrap();
    for part in [ALARM, "a fallback", "hark models pull clap-fused"] {
        assert!(detail.contains(part), "{detail}");
    }
    let guitar = add(&hark, "guitar", &["a vintage tube guitar amplifier"], 0.5);
    assert_eq!(
        (&guitar["state"], &guitar["by"]),
        (&json!("waiting"), &json!(""))
    );
    let detail = guitar["detail"].as_str().unwrap();
    assert!(detail.contains("hark models pull clap-fused"), "{detail}");
    tell.send(Do::Play(
        [tone(0, 0.5), tone(3, 3.0), tone(0, 3.0)].concat(),
    ))
    .unwrap();
    let start = events.event("start", "smoke");
    assert_eq!((&*start.kind, &*start.model), ("prompt", "fake-sounds"));
    assert_eq!(events.event("end", "smoke").id, start.id);
    events.event("end", ALARM);
    hark.end().unwrap();
}

#[test]
fn a_reload_takes_prompts_of_the_configuration_without_a_new_pipeline() {
    let device = Device::default();
    let tell = device.plug();
    let setup = Setup::mic(&device);
    let config = setup.config.clone();
    let rules = std::fs::read_to_string(&config).unwrap();
    setup.configure(&tiny(""));
    let hark = Rig::start(setup);
    let mut events = hark.subscribe();
    tell.send(Do::Play([tone(0, 0.5), tone(3, 3.0)].concat()))
        .unwrap();
    let alarm = events.event("start", ALARM);
    let with = |more: &str| format!("{}{rules}", tiny(more));
    let kettle = "[[prompt.label]]\nname = 'kettle'\nphrases = ['a kettle']\nthreshold = 0.001";
    std::fs::write(&config, with(kettle)).unwrap();
    hark.call("reload", json!({})).unwrap();
    let listed = prompts(&hark);
    assert_eq!(listed[0]["state"], "ready");
    assert!(
        listed[0]["place"]
            .as_str()
            .unwrap()
            .ends_with("config.toml:7:8"),
        "{listed}"
    );
    tell.send(Do::Play(tone(3, 2.0))).unwrap();
    events.event("start", "kettle");
    // A model that leads nowhere is a fault of the file: all stays as it was.
    let wrong = with(kettle).replace("clap-unfused", "clap-unfound");
    std::fs::write(&config, wrong).unwrap();
    let error = hark.call("reload", json!({})).unwrap_err().to_string();
    assert!(error.contains("config.toml:2:9: no model '"), "{error}");
    assert_eq!(prompts(&hark), listed);
    std::fs::write(&config, with("")).unwrap();
    hark.call("reload", json!({})).unwrap();
    events.event("end", "kettle");
    assert_eq!(prompts(&hark), json!([]));
    tell.send(Do::Play(tone(0, 4.0))).unwrap();
    assert_eq!(events.event("end", ALARM).id, alarm.id);
    assert_eq!(device.counts().0, 1, "the device was opened once");
    hark.end().unwrap();
}

#[test]
fn a_text_tower_that_does_not_load_is_an_error_and_changes_nothing() {
    let device = Device::default();
    let _tell = device.plug();
    let setup = Setup::mic(&device);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fixtures/clap-unfused");
    let clap = setup.config.with_file_name("clap");
    std::fs::create_dir(&clap).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), clap.join(entry.file_name())).unwrap();
    }
    setup.configure(&tiny("").replace(from.to_str().unwrap(), clap.to_str().unwrap()));
    let hark = Rig::start(setup);
    add(&hark, "kettle", &["a kettle"], 0.5);
    // The tower goes after a minute of rest, or with a reload.
    hark.call("reload", json!({})).unwrap();
    let tokenizer = clap.join("tokenizer.json");
    std::fs::write(&tokenizer, "{").unwrap();
    hark.call("reload", json!({})).unwrap_err();
    let wanted = json!({"name": "dog", "phrases": ["a dog"]});
    check_refused(&hark, "prompt_add", wanted.clone(), "tokenizer.json");
    assert_eq!(prompts(&hark)[0]["state"], "ready");
    std::fs::copy(from.join("tokenizer.json"), tokenizer).unwrap();
    hark.call("reload", json!({})).unwrap();
    hark.call("prompt_add", wanted).unwrap();
    hark.end().unwrap();
}
