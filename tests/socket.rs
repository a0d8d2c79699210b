//! The Unix socket from the outside: what it says, whom it lets in, and what it withstands.

#[path = "support/fake.rs"]
mod fake;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake::{Fake, event, live, wait};
use harkd::command::{Command, Notice, State, TaughtKind};
use harkd::config::PromptLabel;
use harkd::event::{Kind, Phase};
use harkd::outputs::client::Client;
use harkd::outputs::{BusError, MAX_CLIENTS};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A raw client.
struct Peer(BufReader<UnixStream>);

impl Peer {
    fn connect(path: &Path) -> Peer {
        let stream = UnixStream::connect(path).expect("connect");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Peer(BufReader::new(stream))
    }

    fn greeted(path: &Path) -> Peer {
        let mut peer = Peer::connect(path);
        assert_eq!(peer.json()["type"], "hello");
        peer
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).expect("send");
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).expect("a line in time") > 0).then_some(line)
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line().expect("a line")).expect("JSON")
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(format!(
            "{}\n",
            json!({"id": method, "method": method, "params": params})
        ));
        let answer = self.json();
        assert_eq!(answer["id"], method);
        answer
    }

    fn close_sending(&self) {
        self.0
            .get_ref()
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hark/hark.sock");
    (dir, path)
}

#[test]
fn it_greets_and_answers_every_method() {
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    assert_eq!(fake.outputs.as_ref().unwrap().socket_path(), Some(&*path));
    let mut peer = Peer::connect(&path);
    assert_eq!(
        peer.json(),
        json!({"type": "hello", "v": 1, "version": env!("CARGO_PKG_VERSION"), "state": "listening"})
    );
    let status = peer.ask("status", json!({}))["result"].clone();
    assert_eq!(status["sources"][0]["name"], "Built-in Audio");
    assert_eq!(status["models"][0]["skipped"], 1);
    assert_eq!(status["live"]["top"][0]["label"], "Siren");
    assert_eq!(
        peer.ask("top", json!({"n": 2}))["result"],
        json!({"top": [{"label": "Siren", "score": 0.9}, {"label": "Alarm", "score": 0.5}]})
    );
    let done = json!({});
    assert_eq!(peer.ask("pause", json!({"seconds": 2.5}))["result"], done);
    assert_eq!(peer.ask("resume", json!({}))["result"], done);
    assert_eq!(peer.ask("reload", json!({}))["result"], done);
    let set = json!({"rule": "alarm", "threshold": 0.5});
    assert_eq!(peer.ask("threshold_set", set)["result"], done);
    let kettle = json!({
        "name": "kettle", "phrases": ["a kettle whistling"], "threshold": 0.6, "state": "fallback",
        "by": "event-small", "detail": "by its label Water", "calibrated": false, "place": "",
    });
    let chime = json!({
        "name": "my doorbell", "kind": "sound", "examples": 3, "threshold": 0.5, "state": "ready",
        "by": "event-small", "detail": "",
    });
    assert_eq!(status["prompts"], json!([kettle]));
    assert_eq!(status["taught"], json!([chime]));
    assert_eq!(
        peer.ask("prompts", json!({}))["result"],
        json!({"prompts": [kettle]})
    );
    assert_eq!(
        peer.ask("taught", json!({}))["result"],
        json!({"taught": [chime]})
    );
    let dog = json!({"name": "dog", "phrases": ["a dog barking"], "threshold": 0.5});
    assert_eq!(
        peer.ask("prompt_add", dog)["result"]["prompt"]["name"],
        "dog"
    );
    let name = json!({"name": "dog"});
    assert_eq!(peer.ask("prompt_remove", name.clone())["result"], done);
    let lesson = json!({"name": "bell", "files": ["/a.wav"], "kind": "word", "replace": true});
    assert_eq!(
        peer.ask("teach", lesson)["result"],
        json!({"taught": chime, "warnings": ["a.wav is unlike the others"]})
    );
    assert_eq!(peer.ask("forget", name)["result"], done);
    assert_eq!(peer.ask("taught_changed", json!({}))["result"], done);
    assert_eq!(
        fake.shared.lock().unwrap().commands,
        [
            Command::Top { n: 2 },
            Command::Pause {
                duration: Some(Duration::from_millis(2500))
            },
            Command::Resume,
            Command::Reload,
            Command::SetThreshold {
                rule: "alarm".into(),
                threshold: 0.5
            },
            Command::Prompts,
            Command::Taught,
            Command::AddPrompt {
                label: PromptLabel {
                    name: "dog".into(),
                    phrases: vec!["a dog barking".into()],
                    threshold: Some(0.5),
                },
                replace: false,
            },
            Command::RemovePrompt { name: "dog".into() },
            Command::Teach {
                name: "bell".into(),
                kind: TaughtKind::Word,
                files: vec!["/a.wav".into()],
                replace: true,
            },
            Command::Forget { name: "dog".into() },
            Command::TaughtChanged,
        ]
    );
    let unknown = peer.ask("threshold_set", json!({"rule": "x", "threshold": 0.5}));
    assert_eq!(
        unknown["error"],
        json!({"code": "bad_params", "message": "there is no rule 'x'"})
    );
    let old = event(1, Phase::Instant, Kind::Keyword, "yes", 0.9);
    fake.shared.lock().unwrap().history = vec![Arc::new(old.clone())];
    let history = peer.ask("history", json!({"n": 5}));
    let line: Value = serde_json::from_str(&harkd::outputs::protocol::event_line(&old)).unwrap();
    assert_eq!(history["result"], json!({"events": [line]}));
}

#[test]
fn events_follow_a_subscription_and_its_filter() {
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    let mut all = Peer::greeted(&path);
    let mut some = Peer::greeted(&path);
    assert_eq!(all.ask("subscribe", json!({}))["result"], json!({}));
    some.ask(
        "subscribe",
        json!({"kinds": ["event"], "labels": ["Siren"], "min_score": 0.7}),
    );

    let start = event(1, Phase::Start, Kind::Event, "Siren", 0.9);
    let end = event(1, Phase::End, Kind::Event, "Siren", 0.1);
    let sent = [
        event(5, Phase::Instant, Kind::Keyword, "yes", 0.99),
        event(2, Phase::Start, Kind::Event, "Siren", 0.6),
        start.clone(),
        event(2, Phase::End, Kind::Event, "Siren", 0.1),
        event(3, Phase::Start, Kind::Event, "Dog", 0.9),
        end.clone(),
    ];
    for event in &sent {
        fake.hear(event.clone());
    }
    for event in &sent {
        let line = all.line().unwrap();
        assert_eq!(line.trim_end(), harkd::outputs::protocol::event_line(event));
    }
    // What began below the score is not seen to end either, and the other way round.
    for event in [&start, &end] {
        assert_eq!(
            some.line().unwrap().trim_end(),
            harkd::outputs::protocol::event_line(event)
        );
    }
    some.ask("unsubscribe", json!({}));
    fake.hear(start);
    assert!(
        some.ask("status", json!({}))["result"].is_object(),
        "no event came before it"
    );
}

#[test]
fn live_pictures_and_states_come_when_asked_for() {
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    let mut peer = Peer::greeted(&path);
    peer.ask("subscribe", json!({"live": true}));
    assert_eq!(
        peer.json(),
        json!({"type": "state", "state": "listening", "reason": ""})
    );
    fake.publish(Notice::Live(Arc::new(live())));
    let picture = peer.json();
    assert_eq!(picture["type"], "live");
    assert_eq!(
        picture["top"][0],
        json!({"kind": "event", "model": "hark-event", "label": "Siren", "score": 0.9})
    );
    fake.publish(Notice::Prompts(fake::prompts()));
    let told = peer.json();
    assert_eq!(
        (&told["type"], &told["prompts"][0]["name"]),
        (&json!("prompts"), &json!("kettle"))
    );
    fake.publish(Notice::Taught(fake::taught()));
    let told = peer.json();
    assert_eq!(
        (&told["type"], &told["taught"][0]["name"]),
        (&json!("taught"), &json!("my doorbell"))
    );
    fake.publish(Notice::State(State::Stalled, "no samples for 2 s".into()));
    assert_eq!(
        peer.json(),
        json!({"type": "state", "state": "stalled", "reason": "no samples for 2 s"})
    );
    assert_eq!(Peer::connect(&path).json()["state"], "stalled");
}

#[test]
fn an_inhibitor_lives_as_long_as_its_connection() {
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    let mut peer = Peer::greeted(&path);
    let held = peer.ask("inhibit", json!({"who": "call", "why": "a meeting"}));
    assert_eq!(held["result"], json!({}));
    assert_eq!(fake.shared.lock().unwrap().inhibitors.len(), 1);
    drop(peer);
    fake.wait("the inhibitor to be released", |shared| {
        shared.inhibitors.is_empty()
    });
}

#[test]
fn hostile_lines_get_an_error_and_the_connection_goes_on() {
    let (_dir, path) = place();
    let _fake = Fake::start(Some(&path), "none").unwrap();
    let mut peer = Peer::greeted(&path);
    let mut check = |bytes: &[u8], code: &str| {
        peer.send(bytes);
        peer.send("\n");
        let answer = peer.json();
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert!(peer.ask("status", json!({}))["result"].is_object());
    };
    check(b"\xff\xfe{}", "bad_params");
    check(b"{\"id\":1,", "bad_params");
    check(b"\0\0\0\0", "bad_params");
    check(b"GET / HTTP/1.1\r", "bad_params");
    check(&[b'['; 60_000], "bad_params");
    check(&[b'x'; 65_537], "too_large");
    check(&vec![b'{'; 10 << 20], "too_large");
    check(br#"{"id":1,"method":"sing"}"#, "unknown_method");
    check(
        br#"{"id":1,"method":"pause","params":{"seconds":"long"}}"#,
        "bad_params",
    );
    let add = |name: &str, phrases: Value| {
        let params = json!({"name": name, "phrases": phrases});
        json!({"id": 1, "method": "prompt_add", "params": params})
            .to_string()
            .into_bytes()
    };
    let many: Value = (0..8_000).map(|n: u32| n.to_string()).collect();
    for (name, phrases) in [
        ("a", json!([])),
        ("a", json!([""])),
        ("a", json!(["b\u{1b}[2J"])),
        ("a\nb", json!(["c"])),
        ("a", json!(["x".repeat(1001)])),
        ("a", many),
        ("kettle", json!(["taken"])),
    ] {
        check(&add(name, phrases), "bad_params");
    }
    let ten_thousand: Value = (0..10_000).map(|n: u32| n.to_string()).collect();
    check(&add("a", ten_thousand), "too_large");
    check(&add("a", json!(["x".repeat(10 << 20)])), "too_large");
    // Half a line, then nothing: no harm to anybody else.
    let mut half = Peer::greeted(&path);
    half.send(r#"{"id":1,"meth"#);
    drop(half);
    assert!(peer.ask("status", json!({}))["result"].is_object());
}

#[test]
fn what_was_asked_before_closing_is_answered() {
    let (_dir, path) = place();
    let _fake = Fake::start(Some(&path), "none").unwrap();
    let mut peer = Peer::greeted(&path);
    peer.send("{\"id\":1,\"method\":\"status\"}\n{\"id\":2,\"method\":\"top\"}\n{\"id\":3,\"method\":\"top\"}");
    peer.close_sending();
    let ids: Vec<Value> = (0..3).map(|_| peer.json()["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(peer.line(), None, "then it is closed");
}

#[test]
fn a_reader_who_never_reads_holds_up_nobody() {
    const EVENTS: u64 = 100_000;
    let (_dir, path) = place();
    let mut fake = Fake::start(Some(&path), "none").unwrap();
    let mut sleeper = Peer::greeted(&path);
    sleeper.ask("subscribe", json!({}));
    let mut awake = Peer::greeted(&path);
    awake.ask("subscribe", json!({}));
    let reader = std::thread::spawn(move || {
        let (mut seen, mut missed) = (0, 0);
        while let Some(line) = awake.line() {
            if line.starts_with(r#"{"type":"dropped""#) {
                missed += serde_json::from_str::<Value>(&line).unwrap()["count"]
                    .as_u64()
                    .unwrap();
            } else {
                seen += 1;
            }
        }
        (seen, missed)
    });
    let began = Instant::now();
    for n in 0..EVENTS {
        fake.hear(event(n, Phase::Instant, Kind::Keyword, "yes", 0.9));
    }
    let published = began.elapsed();
    assert!(
        published < Duration::from_secs(5),
        "publishing waited: {published:?}"
    );
    assert!(
        fake.stop(),
        "the outputs end in time although one client never reads"
    );
    let (seen, missed) = reader.join().unwrap();
    assert_eq!(seen + missed, EVENTS, "every event is seen or counted");

    // The sleeper wakes: what it can still read is whole lines in order, and the loss is told.
    let mut text = String::new();
    sleeper.0.read_to_string(&mut text).unwrap();
    let mut numbers = Vec::new();
    for line in text.lines().filter(|line| line.ends_with('}')) {
        let value: Value = serde_json::from_str(line).expect("whole lines");
        numbers.extend(value["mono_us"].as_u64());
    }
    assert!(
        numbers.len() > 10 && numbers.len() < 20_000,
        "{}",
        numbers.len()
    );
    assert!(numbers.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_reader_who_wakes_up_is_told_what_it_missed() {
    const EVENTS: u64 = 20_000;
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    let mut peer = Peer::greeted(&path);
    peer.ask("subscribe", json!({}));
    for n in 0..EVENTS {
        fake.hear(event(n, Phase::Instant, Kind::Keyword, "yes", 0.9));
    }
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < EVENTS {
        let value = peer.json();
        match value["type"].as_str() {
            Some("event") => seen += 1,
            Some("dropped") => missed += value["count"].as_u64().unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen + missed, EVENTS);
    assert!(
        missed > 0,
        "a queue that holds {EVENTS} events is not bounded"
    );
    fake.hear(event(EVENTS, Phase::Instant, Kind::Keyword, "yes", 0.9));
    assert_eq!(peer.json()["mono_us"], EVENTS, "and it is in step again");
}

#[test]
fn the_last_events_reach_clients_at_shutdown() {
    let (_dir, path) = place();
    let mut fake = Fake::start(Some(&path), "none").unwrap();
    let mut peer = Peer::greeted(&path);
    peer.ask("subscribe", json!({}));
    let reader = std::thread::spawn(move || {
        let numbers = std::iter::from_fn(|| peer.line())
            .map(|line| serde_json::from_str::<Value>(&line).unwrap()["mono_us"].clone());
        numbers.collect::<Vec<_>>()
    });
    for n in 0..1000 {
        fake.hear(event(n, Phase::End, Kind::Event, "Siren", 0.1));
    }
    assert!(fake.stop());
    let numbers = reader.join().unwrap();
    assert_eq!(numbers, (0..1000).map(Value::from).collect::<Vec<_>>());
    assert!(!path.exists(), "the socket goes with the daemon");
}

#[test]
fn too_many_clients_are_told_so_and_served_later() {
    let (_dir, path) = place();
    let _fake = Fake::start(Some(&path), "none").unwrap();
    let mut peers: Vec<Peer> = (0..200).map(|_| Peer::connect(&path)).collect();
    let (mut served, mut busy) = (Vec::new(), 0);
    for mut peer in peers.drain(..) {
        let first = peer.json();
        if first["type"] == "hello" {
            served.push(peer);
        } else {
            assert_eq!(first["error"]["code"], "busy");
            assert_eq!(peer.line(), None);
            busy += 1;
        }
    }
    assert_eq!((served.len(), busy), (MAX_CLIENTS, 200 - MAX_CLIENTS));
    assert!(
        matches!(Client::connect(&path), Err(BusError::Refused { code, .. }) if code == "busy")
    );
    served.truncate(1);
    wait("room for a client", || Client::connect(&path).is_ok());
    assert!(served[0].ask("status", json!({}))["result"].is_object());
}

#[test]
fn a_second_daemon_is_refused_and_a_stale_socket_replaced() {
    let (_dir, path) = place();
    let mut first = Fake::start(Some(&path), "none").unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let refused = Fake::start(Some(&path), "none").err().expect("refused");
    assert!(matches!(&refused, BusError::Taken(p) if *p == path));
    assert_eq!(
        refused.to_string(),
        format!(
            "a daemon already listens on {}; stop it, or give this one another path with --socket",
            path.display()
        )
    );
    assert!(Client::connect(&path).is_ok(), "the first one goes on");
    assert!(first.stop());
    assert!(!path.exists());
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale file");
    let _second = Fake::start(Some(&path), "none").unwrap();
    assert!(Client::connect(&path).is_ok());
}

#[test]
fn the_client_says_when_no_daemon_is_there() {
    let (_dir, path) = place();
    let error = Client::connect(&path).expect_err("nobody listens");
    assert_eq!(
        error.to_string(),
        format!(
            "no daemon listens on {}; start it with hark run",
            path.display()
        )
    );
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::connect(&path), Err(BusError::NoDaemon(_))));
}

#[test]
fn the_client_passes_over_events_and_reports_refusals() {
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    let mut client = Client::connect(&path).unwrap();
    assert_eq!(client.hello.state, "listening");
    client.call("subscribe", json!({})).unwrap();
    fake.hear(event(1, Phase::Instant, Kind::Keyword, "yes", 0.9));
    assert_eq!(client.call("status", json!({})).unwrap()["events"], 2);
    let refused = client.call("top", json!({"n": 0})).unwrap_err();
    assert!(matches!(refused, BusError::Refused { code, .. } if code == "bad_params"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_bytes_break_the_server(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..6)) {
        let (_dir, path) = place();
        let _fake = Fake::start(Some(&path), "none").unwrap();
        let mut peer = Peer::greeted(&path);
        for chunk in &chunks {
            peer.send(chunk);
        }
        peer.send("\n");
        peer.send("{\"id\":\"last\",\"method\":\"resume\"}\n");
        loop {
            let answer = peer.json();
            if answer["id"] == "last" {
                prop_assert_eq!(&answer["result"], &json!({}));
                break;
            }
            prop_assert!(answer["error"]["code"].is_string(), "{}", answer);
        }
    }
}
