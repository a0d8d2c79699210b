//! The verbs that speak to a running daemon, as a person or script runs them.

#[path = "support/fake.rs"]
mod fake;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use fake::{Fake, event, live};
use harkd::command::{self, Notice};
use harkd::config::PromptLabel;
use harkd::event::{Kind, Phase};
use harkd::outputs::protocol::event_line;
use serde_json::Value;

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hark.sock");
    (dir, path)
}

/// `hark` for this socket, away from the configuration of whoever runs the tests.
fn hark(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hark"));
    command
        .args(args)
        .arg("--socket")
        .arg(socket)
        .env("XDG_CONFIG_HOME", socket.parent().unwrap())
        .stdin(Stdio::null());
    command
}

fn run(socket: &Path, args: &[&str]) -> Output {
    hark(socket, args).output().unwrap()
}

/// What a verb prints when it ends well.
fn printed(socket: &Path, args: &[&str]) -> String {
    let output = run(socket, args);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), &*complaint),
        (Some(0), ""),
        "{args:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn check_refused(socket: &Path, args: &[&str], code: i32, needle: &str) {
    let output = run(socket, args);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {complaint}");
    assert!(complaint.contains(needle), "{args:?}: {complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(output.stdout.is_empty());
}

#[test]
fn without_a_daemon_every_verb_says_so() {
    let (_dir, path) = place();
    let needle = format!(
        "no daemon listens on {}; start it with hark run",
        path.display()
    );
    for args in [
        &["status"][..],
        &["pause"],
        &["pause", "10m"],
        &["resume"],
        &["reload"],
        &["prompt", "list"],
        &["prompt", "add", "a", "b"],
        &["prompt", "remove", "a"],
        &["watch"],
        &["watch", "--json"],
    ] {
        check_refused(&path, args, 6, &needle);
    }
}

#[test]
fn the_default_socket_is_that_of_the_user() {
    let (dir, _) = place();
    let fake = Fake::start(Some(&dir.path().join("hark/hark.sock")), "none").unwrap();
    let status = |runtime: &Path| {
        Command::new(env!("CARGO_BIN_EXE_hark"))
            .args(["status", "--json"])
            .env("XDG_RUNTIME_DIR", runtime)
            .env("XDG_CONFIG_HOME", dir.path())
            .output()
            .unwrap()
    };
    assert!(status(dir.path()).status.success());
    drop(fake);
    assert_eq!(status(dir.path()).status.code(), Some(6));
}

#[test]
fn status_for_people_and_for_scripts() {
    let (_dir, path) = place();
    let _fake = Fake::start(Some(&path), "none").unwrap();
    let page = printed(&path, &["status"]);
    for needle in [
        "state     listening\n",
        "source    Built-in Audio (mic), 48000 Hz, 2 channels\n",
        "model     event-small (event, 40 labels): windows of 1 s every 0.5 s, 10 steps",
        "level     -30.0 dBFS over a floor of -60.0 dBFS, environment\n",
    ] {
        assert!(page.contains(needle), "{page}");
    }
    let line = printed(&path, &["status", "--json"]);
    assert_eq!(line.lines().count(), 1);
    let status: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(status["rules"][0]["threshold"], 0.6);
}

#[test]
fn pause_resume_and_reload_reach_the_daemon() {
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    assert_eq!(printed(&path, &["pause"]), "paused until 'hark resume'\n");
    assert_eq!(
        printed(&path, &["pause", "10m"]),
        "paused for 600 s; 'hark resume' ends it earlier\n"
    );
    printed(&path, &["pause", "1.5"]);
    assert_eq!(printed(&path, &["resume"]), "resumed\n");
    assert_eq!(
        printed(&path, &["reload"]),
        "the configuration was read again\n"
    );
    assert_eq!(
        fake.shared.lock().unwrap().commands,
        [
            command::Command::Pause { duration: None },
            command::Command::Pause {
                duration: Some(Duration::from_secs(600))
            },
            command::Command::Pause {
                duration: Some(Duration::from_millis(1500))
            },
            command::Command::Resume,
            command::Command::Reload,
        ]
    );
    fake.shared.lock().unwrap().inhibitors = vec![(1, "call".into(), "a meeting".into())];
    assert_eq!(
        printed(&path, &["resume"]),
        "resumed, but still inhibited by call (a meeting)\n"
    );
    check_refused(&path, &["pause", "0"], 2, "over 0");
    check_refused(&path, &["pause", "soon"], 2, "soon");
    check_refused(
        &path,
        &["watch", "--kind", "smell"],
        2,
        "unknown kind 'smell'",
    );
}

#[test]
fn prompts_are_listed_added_and_removed() {
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    let page = printed(&path, &["prompt", "list"]);
    for needle in [
        "kettle  (fallback, threshold 0.6)\n    a kettle whistling\n",
        "  event-small answers as well as it can: by its label Water\n",
    ] {
        assert!(page.contains(needle), "{page}");
    }
    let line = printed(&path, &["prompt", "list", "--json"]);
    let prompt: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(prompt["name"], "kettle");
    assert_eq!(
        printed(&path, &["prompt", "add", "dog", "a dog barking", "a bark"]),
        "dog: event-small answers as well as it can: by its label Water\n"
    );
    let all = ["--threshold", "0.7", "--replace", "--json"];
    let args: Vec<&str> = ["prompt", "add", "dog", "a dog"]
        .into_iter()
        .chain(all)
        .collect();
    let added: Value = serde_json::from_str(&printed(&path, &args)).unwrap();
    assert_eq!(added["state"], "fallback");
    assert_eq!(
        printed(&path, &["prompt", "remove", "dog"]),
        "removed 'dog'\n"
    );
    let added = |phrases: &[&str], threshold, replace| command::Command::AddPrompt {
        label: PromptLabel {
            name: "dog".into(),
            phrases: phrases.iter().map(|phrase| phrase.to_string()).collect(),
            threshold,
        },
        replace,
    };
    assert_eq!(
        fake.shared.lock().unwrap().commands,
        [
            command::Command::Prompts,
            command::Command::Prompts,
            added(&["a dog barking", "a bark"], None, false),
            added(&["a dog"], Some(0.7), true),
            command::Command::RemovePrompt { name: "dog".into() },
        ]
    );
    let refused = |args: &[&str], code, needle: &str| check_refused(&path, args, code, needle);
    refused(&["prompt", "add", "dog"], 2, "<PHRASE>");
    refused(
        &["prompt", "add", "dog", ""],
        2,
        "phrases.0: the phrase is empty",
    );
    refused(&["prompt", "add", "\u{1b}c", "a"], 2, "control character");
    let long = "x".repeat(100_000);
    refused(&["prompt", "add", "dog", &long], 2, "over 1000 characters");
    let many: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    let mut args = vec!["prompt", "add", "dog"];
    args.extend(many.iter().map(String::as_str));
    refused(&args, 2, "10000 phrases are too many");
    refused(
        &["prompt", "add", "kettle", "a"],
        2,
        "there is a prompt 'kettle' already",
    );
    // Sixty-four phrases of a thousand letters of two bytes are a prompt, and more than a line.
    let most: Vec<String> = (0..64)
        .map(|n| format!("{}{n:02}", "ä".repeat(998)))
        .collect();
    let mut args = vec!["prompt", "add", "dog"];
    args.extend(most.iter().map(String::as_str));
    refused(&args, 2, "a line may have 65536");
}

/// A running `hark watch --json`, and its lines.
fn watching(
    fake: &Fake,
    path: &Path,
    args: &[&str],
) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = hark(path, args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    // Events before the subscription are not for it: some are told until the first one comes.
    let (seen, first) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            seen.send(line).unwrap();
        });
        let line = loop {
            fake.hear(event(999, Phase::Instant, Kind::Keyword, "yes", 0.9));
            if let Ok(line) = first.recv_timeout(Duration::from_millis(20)) {
                break line;
            }
        };
        assert!(line.contains(r#""label":"yes""#), "{line:?}");
    });
    (child, lines)
}

#[test]
fn watch_prints_the_lines_it_was_asked_for() {
    let (_dir, path) = place();
    let mut fake = Fake::start(Some(&path), "none").unwrap();
    let args = [
        "watch", "--kind", "keyword", "--label", "yes", "--label", "no",
    ];
    let (child, mut lines) = watching(&fake, &path, &args);
    fake.publish(Notice::Live(live().into()));
    let wanted = event(1, Phase::Instant, Kind::Keyword, "no", 0.7);
    fake.hear(event(2, Phase::Instant, Kind::Keyword, "stop", 0.7));
    fake.hear(event(3, Phase::Start, Kind::Event, "Siren", 0.7));
    fake.hear(wanted.clone());
    fake.stop();
    let mut text = String::new();
    lines.read_to_string(&mut text).unwrap();
    let told: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("\"yes\""))
        .collect();
    assert_eq!(told, [event_line(&wanted)]);
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(
        complaint,
        format!(
            "hark: the daemon on {} has ended; start it with hark run\n",
            path.display()
        )
    );
}

#[test]
fn a_closed_pipe_ends_watch_quietly() {
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    let (mut child, lines) = watching(&fake, &path, &["watch", "--json"]);
    drop(lines);
    let status = loop {
        fake.hear(event(1, Phase::Instant, Kind::Keyword, "yes", 0.9));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::yield_now();
    };
    let mut complaint = String::new();
    child
        .stderr
        .unwrap()
        .read_to_string(&mut complaint)
        .unwrap();
    assert_eq!((status.code(), &*complaint), (Some(0), ""));
}

#[test]
fn watch_draws_on_a_terminal_and_gives_it_back() {
    let (_dir, path) = place();
    let fake = Fake::start(Some(&path), "none").unwrap();
    let command = format!(
        "stty columns 100 rows 30; {} watch --socket {}",
        env!("CARGO_BIN_EXE_hark"),
        path.display()
    );
    // `script` is a terminal in a program; it is part of every Debian.
    let spawned = Command::new("script")
        .args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &command,
            "/dev/null",
        ])
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        eprintln!("skipped: script is not installed");
        return;
    };
    let mut keys = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    fake.publish(Notice::Live(live().into()));
    let mut screen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&screen).contains("Events") {
        let count = stdout.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&screen));
        screen.extend_from_slice(&buffer[..count]);
    }
    keys.write_all(b"q").unwrap();
    stdout.read_to_end(&mut screen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let screen = String::from_utf8_lossy(&screen);
    assert!(screen.contains("\u{1b}[?1049h"), "the other screen is used");
    assert!(screen.contains("\u{1b}[?1049l"), "and left again");
}
