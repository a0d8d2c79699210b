//! D-Bus from the outside, on a private bus: properties, methods, signals, and a bus that dies.

#[path = "support/bus.rs"]
mod bus;
#[path = "support/fake.rs"]
mod fake;

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use fake::{Fake, event};
use harkd::command::{Command, Notice, State, TaughtKind};
use harkd::config::PromptLabel;
use harkd::event::{Event, Kind, Phase};
use serde_json::{Value, json};

fn start(bus: &Bus) -> Fake {
    let mut fake = Fake::start(None, &bus.address()).unwrap();
    fake.outputs
        .as_mut()
        .unwrap()
        .wait_tried(Duration::from_secs(5));
    fake
}

/// What `busctl` makes of a variant: its data without the types.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(object) if object.len() == 2 && object.contains_key("data") => {
            plain(&object["data"])
        }
        Value::Object(object) => object.iter().map(|(k, v)| (k.clone(), plain(v))).collect(),
        Value::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// The record as the socket carries it, without what the signal carries itself.
fn record(event: &Event, without: &[&str]) -> Value {
    let line = harkd::outputs::protocol::event_line(event);
    let mut value: Value = serde_json::from_str(&line).unwrap();
    let object = value.as_object_mut().unwrap();
    object.retain(|key, value| !value.is_null() && !without.contains(&key.as_str()));
    value
}

#[test]
fn properties_and_methods() {
    if !bus::available() {
        return;
    }
    let bus = Bus::start();
    let fake = start(&bus);
    assert_eq!(bus.property("State").unwrap(), "listening");
    assert_eq!(bus.property("Paused").unwrap(), false);
    assert_eq!(bus.property("Version").unwrap(), env!("CARGO_PKG_VERSION"));
    assert_eq!(bus.property("Sources").unwrap(), json!(["Built-in Audio"]));
    assert_eq!(bus.property("Models").unwrap(), json!(["event-small"]));
    assert_eq!(bus.property("Prompts").unwrap(), json!([]));
    assert_eq!(bus.property("Taught").unwrap(), json!([]));
    let monitor = bus.monitor();
    fake.publish(Notice::Prompts(fake::prompts()));
    let (name, arguments) = monitor.signal();
    assert_eq!(name, "PropertiesChanged");
    let told = plain(&arguments[1])["Prompts"].clone();
    let kettle = json!([{
        "name": "kettle", "phrases": ["a kettle whistling"], "threshold": 0.6, "state": "fallback",
        "by": "event-small", "detail": "by its label Water", "calibrated": false, "place": "",
    }]);
    assert_eq!(told, kettle);
    assert_eq!(plain(&bus.property("Prompts").unwrap()), kettle);
    fake.publish(Notice::Taught(fake::taught()));
    let (_, arguments) = monitor.signal();
    let told = &plain(&arguments[1])["Taught"];
    assert_eq!(told[0]["name"], "my doorbell");
    assert_eq!(plain(&bus.property("Taught").unwrap()), *told);
    bus.call("AddPrompt", &["sasd", "dog", "1", "a dog barking", "0.5"])
        .unwrap();
    bus.call("AddPrompt", &["sasd", "cat", "1", "a cat", "0"])
        .unwrap();
    bus.call("RemovePrompt", &["s", "dog"]).unwrap();
    let learned = bus
        .call("Teach", &["sass", "bell", "1", "/a.wav", "sound"])
        .unwrap();
    assert_eq!(
        plain(&learned)[0]["warnings"],
        json!(["a.wav is unlike the others"])
    );
    bus.call("Forget", &["s", "bell"]).unwrap();
    let asked = std::mem::take(&mut fake.shared.lock().unwrap().commands);
    let prompt = |name: &str, phrase: &str, threshold: Option<f32>| Command::AddPrompt {
        label: PromptLabel {
            name: name.into(),
            phrases: vec![phrase.into()],
            threshold,
        },
        replace: false,
    };
    assert_eq!(
        asked,
        [
            prompt("dog", "a dog barking", Some(0.5)),
            prompt("cat", "a cat", None),
            Command::RemovePrompt { name: "dog".into() },
            Command::Teach {
                name: "bell".into(),
                kind: TaughtKind::Sound,
                files: vec!["/a.wav".into()],
                replace: false,
            },
            Command::Forget {
                name: "bell".into()
            },
        ]
    );
    bus.call("Pause", &["u", "90"]).unwrap();
    bus.call("Pause", &["u", "0"]).unwrap();
    bus.call("Resume", &[]).unwrap();
    bus.call("Reload", &[]).unwrap();
    bus.call("SetThreshold", &["sd", "alarm", "0.25"]).unwrap();
    let set = [
        "set-property",
        "org.harkd.Hark1",
        "/org/harkd/Hark1",
        "org.harkd.Hark1",
        "Paused",
        "b",
        "true",
    ];
    bus.busctl(&set).unwrap();
    assert_eq!(
        fake.shared.lock().unwrap().commands,
        [
            Command::Pause {
                duration: Some(Duration::from_secs(90))
            },
            Command::Pause { duration: None },
            Command::Resume,
            Command::Reload,
            Command::SetThreshold {
                rule: "alarm".into(),
                threshold: 0.25
            },
            Command::Pause { duration: None },
        ]
    );
    assert_eq!(
        bus.call("Top", &["u", "2"]).unwrap(),
        json!([[["Siren", 0.9], ["Alarm", 0.5]]])
    );
    let old = event(1, Phase::Instant, Kind::Keyword, "yes", 0.9);
    fake.shared.lock().unwrap().history = vec![Arc::new(old.clone())];
    assert_eq!(
        plain(&bus.call("History", &["u", "5"]).unwrap()),
        json!([[record(&old, &[])]])
    );
    let stats = plain(&bus.call("Stats", &[]).unwrap());
    assert_eq!(stats[0]["sources"][0]["rate_hz"], 48_000);
    assert_eq!(stats[0]["cpu_s"], 1.234);
    assert_eq!(stats[0]["config_files"], json!(["/etc/hark/config.toml"]));
}

#[test]
fn nonsense_is_an_error_with_a_reason() {
    if !bus::available() {
        return;
    }
    let bus = Bus::start();
    let _fake = start(&bus);
    let check = |method: &str, args: &[&str], needle: &str| {
        let error = bus.call(method, args).expect_err(method);
        assert!(error.contains(needle), "{method}: {error}");
    };
    check("Top", &["u", "0"], "expected 1 to 1000");
    check("History", &["u", "1001"], "expected 1 to 1000");
    check("SetThreshold", &["sd", "alarm", "1.5"], "not in 0 to 1");
    check(
        "SetThreshold",
        &["sd", "nobody", "0.5"],
        "there is no rule 'nobody'",
    );
    check("Inhibit", &["ss", "", "why"], "who is empty");
    let add = |args: &[&str], needle: &str| {
        let all: Vec<&str> = ["sasd"].iter().chain(args).copied().collect();
        check("AddPrompt", &all, needle);
    };
    add(&["bell", "0", "0.5"], "there are no phrases");
    add(&["bell", "1", " ", "0.5"], "the phrase is empty");
    add(&["", "1", "a bell", "0.5"], "the prompt has no name");
    add(&["bell", "1", "a\u{1b}[2J", "0.5"], "control character");
    add(&["bell", "1", "a bell", "1.5"], "1.5 is out of range");
    add(&["bell", "1", "a bell", "nan"], "NaN is out of range");
    add(
        &["kettle", "1", "a bell", "0.5"],
        "there is a prompt 'kettle' already",
    );
    let many: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    let mut args = vec!["bell", "10000"];
    args.extend(many.iter().map(String::as_str));
    args.push("0.5");
    add(&args, "10000 phrases are too many");
    let huge = phrase_of(10 << 20, &bus);
    assert!(huge.contains("over 1000 characters"), "{huge}");
    assert!(huge.len() < 400, "{huge}");
    check(
        "Teach",
        &["sass", "bell", "1", "a.wav", "sound"],
        "not an absolute path",
    );
    check(
        "Teach",
        &["sass", "bell", "1", "/a.wav", "smell"],
        "unknown kind 'smell'",
    );
}

/// What the daemon says of a phrase of so many bytes, more than an argument of a program may have.
fn phrase_of(bytes: usize, bus: &Bus) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let connection = zbus::connection::Builder::address(bus.address().as_str())
            .build()
            .await
            .unwrap();
        let name = "org.harkd.Hark1";
        let phrases = vec!["x".repeat(bytes)];
        let call = ("bell", phrases, 0.5_f64);
        let path = "/org/harkd/Hark1";
        let reply = connection.call_method(Some(name), path, Some(name), "AddPrompt", &call);
        reply.await.expect_err("it is no phrase").to_string()
    })
}

#[test]
fn events_are_signals_with_the_whole_record() {
    if !bus::available() {
        return;
    }
    let bus = Bus::start();
    let fake = start(&bus);
    let monitor = bus.monitor();
    let word = event(1, Phase::Instant, Kind::Keyword, "yes", 0.9);
    let begun = event(2, Phase::Start, Kind::Event, "Siren", 0.8);
    let over = event(2, Phase::End, Kind::Event, "Siren", 0.1);
    let content = event(3, Phase::Instant, Kind::Content, "speech", 0.7);
    for event in [&word, &begun, &over, &content] {
        fake.hear(event.clone());
    }
    let next = || {
        let (name, arguments) = monitor.signal();
        (name, plain(&arguments))
    };
    assert_eq!(
        next(),
        (
            "Keyword".into(),
            json!(["yes", 0.9, record(&word, &["label", "score"])])
        )
    );
    let positional = ["id", "kind", "label", "score"];
    let id = begun.id.to_string();
    assert_eq!(
        next(),
        (
            "EventStarted".into(),
            json!([id, "event", "Siren", 0.8, record(&begun, &positional)])
        )
    );
    assert_eq!(
        next(),
        (
            "EventEnded".into(),
            json!([id, 0.97, 1500, record(&over, &["id", "peak"])])
        )
    );
    let (name, arguments) = next();
    assert_eq!(
        (name.as_str(), &arguments[1]),
        ("EventStarted", &json!("content"))
    );
    assert_eq!(arguments[4]["phase"], "instant");

    fake.publish(Notice::State(State::Paused, "asked".into()));
    let (name, arguments) = next();
    assert_eq!(name, "PropertiesChanged");
    assert_eq!(arguments[0], "org.harkd.Hark1");
    assert_eq!(arguments[1], json!({"State": "paused"}));
    assert_eq!(next().1[1], json!({"Paused": true}));
    assert_eq!(bus.property("Paused").unwrap(), true);
}

#[test]
fn an_inhibitor_lives_as_long_as_its_descriptor() {
    if !bus::available() {
        return;
    }
    let bus = Bus::start();
    let fake = start(&bus);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (connection, descriptor) = runtime.block_on(async {
        let connection = zbus::connection::Builder::address(bus.address().as_str())
            .build()
            .await
            .unwrap();
        let reply = connection
            .call_method(
                Some("org.harkd.Hark1"),
                "/org/harkd/Hark1",
                Some("org.harkd.Hark1"),
                "Inhibit",
                &("call", "a meeting"),
            )
            .await
            .unwrap();
        let descriptor: zbus::OwnedFd = reply.body().deserialize().unwrap();
        (connection, descriptor)
    });
    let held = |fake: &Fake| fake.shared.lock().unwrap().inhibitors.clone();
    assert_eq!(held(&fake), [(1, "call".into(), "a meeting".into())]);
    runtime.block_on(connection.close()).unwrap();
    fake.hear(event(1, Phase::Instant, Kind::Keyword, "yes", 0.9));
    assert_eq!(
        held(&fake).len(),
        1,
        "the descriptor counts, not the connection"
    );
    drop(descriptor);
    fake.wait("the inhibitor to be released", |shared| {
        shared.inhibitors.is_empty()
    });
}

#[test]
fn the_name_is_claimed_again_when_the_bus_returns() {
    if !bus::available() {
        return;
    }
    let mut bus = Bus::start();
    let fake = start(&bus);
    for round in 0..3 {
        bus.kill();
        fake.hear(event(round, Phase::Instant, Kind::Keyword, "lost", 0.9));
        bus.run();
        let took = bus.wait_for_name();
        assert!(took < Duration::from_secs(4), "{took:?}");
        let monitor = bus.monitor();
        fake.hear(event(round, Phase::Instant, Kind::Keyword, "yes", 0.9));
        let (name, arguments) = monitor.signal();
        assert_eq!((name.as_str(), &arguments[0]), ("Keyword", &json!("yes")));
    }
}

#[test]
fn a_missing_bus_stops_nothing_and_is_found_later() {
    if !bus::available() {
        return;
    }
    let mut bus = Bus::absent();
    let mut fake = start(&bus);
    fake.hear(event(1, Phase::Instant, Kind::Keyword, "yes", 0.9));
    bus.run();
    bus.wait_for_name();
    bus.kill();
    assert!(fake.stop(), "the daemon ends in time without a bus");
}

#[test]
fn a_taken_name_is_waited_for() {
    if !bus::available() {
        return;
    }
    let bus = Bus::start();
    let first = start(&bus);
    first.publish(Notice::State(State::Stalled, "the first".into()));
    let second = start(&bus);
    fake::wait("the first to tell its state", || {
        bus.property("State").unwrap() == "stalled"
    });
    drop(first);
    fake::wait("the second to own the name", || {
        bus.property("State")
            .is_ok_and(|state| state == "listening")
    });
    drop(second);
    assert!(bus.property("State").is_err());
}

#[test]
fn the_last_events_reach_the_bus_at_shutdown() {
    if !bus::available() {
        return;
    }
    let bus = Bus::start();
    let mut fake = start(&bus);
    let monitor = bus.monitor();
    for n in 0..200 {
        fake.hear(event(n, Phase::End, Kind::Event, "Siren", 0.1));
    }
    assert!(fake.stop());
    for n in 0..200 {
        let (name, arguments) = monitor.signal();
        assert_eq!(name, "EventEnded");
        assert_eq!(plain(&arguments[3]["mono_us"]), n);
    }
}
