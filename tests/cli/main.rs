//! The binary from the outside: help, exit codes, one-line errors and closed pipes, on bad input of
//! every kind. Each run has a home of its own and a time limit, so nothing hangs unseen.

mod calibrate;
mod hark;
mod prompt_test;
mod score;
mod teach;
mod train;
mod wav;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hark::Hark;
use serde_json::Value;

const VERBS: [&str; 22] = [
    "run",
    "watch",
    "status",
    "pause",
    "resume",
    "reload",
    "classify",
    "score",
    "prompt",
    "calibrate",
    "taught",
    "teach",
    "train",
    "eval",
    "data",
    "models",
    "devices",
    "check",
    "doctor",
    "bench",
    "completions",
    "man",
];

/// One second of faint noise, 16 kHz mono.
fn second() -> Vec<f32> {
    noise(16_000)
}

fn noise(samples: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(3);
    (0..samples).map(|_| (rng.f32() - 0.5) * 0.02).collect()
}

#[test]
fn every_verb_has_help() {
    let hark = Hark::new();
    let top = hark.run(&["--help"]);
    top.check(0);
    for verb in VERBS {
        assert!(
            top.stdout.contains(&format!("\n  {verb} ")),
            "{verb} is not in the help"
        );
        let help = hark.run(&[verb, "--help"]);
        help.check(0);
        assert!(
            help.stdout.contains(&format!("Usage: hark {verb}")),
            "{}",
            help.stdout
        );
        assert!(help.stderr.is_empty(), "{}", help.stderr);
    }
    let commands = top.stdout.split("Commands:").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap();
    for line in commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
    {
        let verb = line.split_whitespace().next().unwrap();
        assert!(
            VERBS.contains(&verb) || verb == "help",
            "{verb} is not in this test"
        );
    }
}

#[test]
fn a_bare_hark_shows_the_help_and_fails_as_a_wrong_command_line_does() {
    let ran = Hark::new().run(&[]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("Usage: hark"), "{}", ran.stderr);
    assert!(ran.stdout.is_empty());
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let hark = Hark::new();
    hark.run(&["lisen"]).check_error(2, "lisen");
    hark.run(&["classify"]).check_error(2, "<FILE>");
    hark.run(&["classify", "-"])
        .check_error(2, "standard input");
    hark.run(&["classify", "--top-k", "many", "a.wav"])
        .check_error(2, "many");
    hark.run(&["classify", "--task", "smell", "a.wav"])
        .check_error(2, "smell");
    hark.run(&[
        "classify",
        "--task",
        "keyword",
        "--model",
        "hark-event",
        "a.wav",
    ])
    .check_error(2, "hark-event");
    hark.run(&["classify", "--window", "0.001", "a.wav"])
        .check_error(2, "--window");
    hark.run(&["completions", "cmd.exe"])
        .check_error(2, "cmd.exe");
    hark.run(&["models"]).check_code(2);
}

#[test]
fn completions_and_manual_pages_come_from_the_same_declarations() {
    let hark = Hark::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = hark.run(&["completions", shell]);
        ran.check(0);
        assert!(ran.stdout.contains("classify"), "{shell}: {}", ran.stdout);
    }
    let dir = hark.path("man/man1");
    hark.run(&["man", dir.to_str().unwrap()]).check(0);
    for verb in VERBS {
        let page = fs::read_to_string(dir.join(format!("hark-{verb}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{verb}: {page}");
    }
    assert!(dir.join("hark.1").is_file());
    let file = hark.write("file", b"");
    hark.run(&["man", file.join("x").to_str().unwrap()])
        .check_error(1, file.to_str().unwrap());
}

#[test]
fn sound_that_cannot_be_read_is_status_4_and_named() {
    let hark = Hark::new();
    let check = |name: &str, path: &Path| {
        let ran = hark.run(&["classify", "--json", path.to_str().unwrap()]);
        ran.check_error(4, path.to_str().unwrap());
        assert!(ran.stdout.is_empty(), "{name}: {}", ran.stdout);
        ran.stderr
    };
    let good = wav::pcm16(16_000, 1, &second());
    let mut rng = fastrand::Rng::with_seed(1);
    let garbage: Vec<u8> = (0..20_000).map(|_| rng.u8(..)).collect();
    let mut wrong_magic = good.clone();
    wrong_magic[..4].copy_from_slice(b"RIFT");
    let mut no_rate = good.clone();
    no_rate[24..28].fill(0);
    let mut no_channels = good.clone();
    no_channels[22..24].fill(0);

    check("missing", &hark.path("no-such.wav"));
    check("a directory", hark.dir());
    check("zero length", &hark.write("empty.wav", b""));
    check("garbage", &hark.write("garbage.wav", &garbage));
    check("wrong magic", &hark.write("magic.wav", &wrong_magic));
    check(
        "text",
        &hark.write("text.flac", b"<html>not found</html>\n"),
    );
    check("only magic", &hark.write("magic.flac", b"fLaC"));
    check("half a header", &hark.write("header.wav", &good[..30]));
    check("a header alone", &hark.write("no-data.wav", &good[..44]));
    check("no rate", &hark.write("rate.wav", &no_rate));
    check("no channels", &hark.write("channels.wav", &no_channels));
    let secret = hark.write("secret.wav", &good);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&secret).is_err() {
        check("not readable", &secret);
    }
}

#[test]
fn a_half_written_file_gives_what_is_there_and_then_says_so() {
    let hark = Hark::new();
    let good = wav::pcm16(16_000, 1, &noise(160_000));
    let half = hark.write("half.wav", &good[..44 + 96_000]);
    let ran = hark.run(&["classify", "--json", half.to_str().unwrap()]);
    ran.check_error(4, half.to_str().unwrap());
    assert!(
        ran.windows().len() >= 5,
        "three seconds were there: {}",
        ran.stdout
    );
    let last = ran.windows().pop().unwrap();
    assert_eq!(last["end_s"], 3.0, "{last}");
}

#[test]
fn a_header_that_promises_gigabytes_is_not_believed() {
    let hark = Hark::new();
    let mut huge = wav::pcm16(16_000, 1, &second());
    huge[4..8].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    huge[40..44].copy_from_slice(&0xffff_ff00_u32.to_le_bytes());
    let huge = hark.write("huge.wav", &huge);
    let ran = hark.run(&["classify", "--json", huge.to_str().unwrap()]);
    assert_eq!(ran.windows().pop().unwrap()["end_s"], 1.0, "{}", ran.stdout);
}

#[test]
fn any_rate_and_number_of_channels_is_read() {
    let hark = Hark::new();
    let check = |name: &str, bytes: &[u8]| {
        let path = hark.write(name, bytes);
        let ran = hark.run(&["classify", "--json", "--top-k", "0", path.to_str().unwrap()]);
        ran.check(0);
        let windows = ran.windows();
        assert!(!windows.is_empty(), "{name}");
        for window in windows {
            for score in window["scores"].as_array().unwrap() {
                let value = score["score"].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&value), "{name}: {window}");
            }
        }
    };
    check("8k.wav", &wav::pcm16(8_000, 1, &noise(12_000)));
    check("192k.wav", &wav::pcm16(192_000, 1, &noise(288_000)));
    check("44k-stereo.wav", &wav::pcm16(44_100, 2, &noise(2 * 66_150)));
    check(
        "8-channels.wav",
        &wav::float32(48_000, 8, &noise(8 * 72_000)),
    );
    check("tiny.wav", &wav::pcm16(16_000, 1, &[0.1]));
    let mut broken = second();
    broken[100] = f32::NAN;
    broken[200..300].fill(f32::INFINITY);
    broken[400] = -f32::INFINITY;
    broken[500] = 1e30;
    check("nan.wav", &wav::float32(16_000, 1, &broken));
    check("all-nan.wav", &wav::float32(16_000, 1, &[f32::NAN; 16_000]));
}

#[test]
fn a_bad_file_among_good_ones_stops_nothing_and_sets_the_status() {
    let hark = Hark::new();
    let first = hark.write("first.wav", &wav::pcm16(16_000, 1, &second()));
    let bad = hark.write("bad.wav", b"RIFFnothing");
    let last = hark.write("last.wav", &wav::pcm16(16_000, 1, &second()));
    let ran = hark.run(&[
        "classify",
        "--json",
        first.to_str().unwrap(),
        bad.to_str().unwrap(),
        last.to_str().unwrap(),
    ]);
    ran.check_error(4, bad.to_str().unwrap());
    let files: Vec<_> = ran.windows().iter().map(|w| w["file"].clone()).collect();
    assert!(files.contains(&first.to_str().unwrap().into()), "{files:?}");
    assert!(files.contains(&last.to_str().unwrap().into()), "{files:?}");
}

#[test]
fn classify_writes_the_documented_record() {
    let hark = Hark::new();
    let file = hark.write("a.wav", &wav::pcm16(16_000, 1, &noise(40_000)));
    let file = file.to_str().unwrap();
    for (task, model, labels) in [
        ("event", "hark-event", 20),
        ("content", "hark-event", 4),
        ("keyword", "hark-keyword", 12),
    ] {
        let all = hark.run(&["classify", "--task", task, "--top-k", "0", "--json", file]);
        all.check(0);
        let window = &all.windows()[0];
        assert_eq!(window["file"], file);
        assert_eq!(window["task"], task);
        assert_eq!(window["model"], model);
        assert_eq!(window["start_s"], 0.0);
        let scores: Vec<f64> = window["scores"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["score"].as_f64().unwrap())
            .collect();
        assert!(scores.len() >= labels, "{task}: {} labels", scores.len());
        assert!(
            scores.is_sorted_by(|a, b| a >= b),
            "{task}: best first: {scores:?}"
        );
        let two = hark.run(&["classify", "--task", task, "--top-k", "2", "--json", file]);
        assert_eq!(two.windows()[0]["scores"].as_array().unwrap().len(), 2);
    }
    let windows = hark
        .run(&["classify", "--window", "1", "--hop", "0.5", "--json", file])
        .windows();
    let starts: Vec<f64> = windows
        .iter()
        .map(|w| w["start_s"].as_f64().unwrap())
        .collect();
    assert!(starts.len() >= 4 && starts[0] == 0.0, "{starts:?}");
    assert_eq!(windows.last().unwrap()["end_s"], 2.5);
}

#[test]
fn a_task_of_a_later_version_is_status_5() {
    let hark = Hark::new();
    let file = hark.write("a.wav", &wav::pcm16(16_000, 1, &second()));
    for task in ["intent", "language", "speaker", "genre"] {
        hark.run(&["classify", "--task", task, file.to_str().unwrap()])
            .check_error(5, task);
    }
}

#[test]
fn a_model_that_cannot_be_read_is_status_5_and_named() {
    let hark = Hark::new();
    let sound = hark.write("a.wav", &wav::pcm16(16_000, 1, &second()));
    let sound = sound.to_str().unwrap();
    let check = |model: &Path| {
        let model = model.to_str().unwrap();
        hark.run(&["classify", "--model", model, sound])
            .check_error(5, model);
        hark.run(&["models", "verify", model]).check_error(5, model);
        hark.run(&["models", "show", model]).check_error(5, model);
    };
    check(Path::new("no-such-model"));
    let model = |name: &str, bytes: &[u8]| {
        hark.write(&format!("{name}/model.safetensors"), bytes);
        hark.path(name)
    };
    fs::create_dir(hark.path("no-weights")).unwrap();
    check(&hark.path("no-weights"));
    check(&model("zero", b""));
    check(&model("garbage", &[0xff; 4_000]));
    let weights = safetensors();
    check(&model("cut", &weights[..weights.len() - 3]));
    check(&model("cut-header", &weights[..20]));
}

/// A whole safetensors file with one tensor: `(length, header, data)`.
fn safetensors() -> Vec<u8> {
    let header = br#"{"head.weight":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend([0; 16]);
    bytes
}

#[test]
fn the_embedded_models_are_in_order() {
    let hark = Hark::new();
    let listed = hark.run(&["models", "list", "--json"]);
    listed.check(0);
    let rows = listed.windows();
    let is = |row: &&Value, key: &str, value: Value| row[key] == value;
    let built_in: Vec<_> = rows
        .iter()
        .filter(|row| is(row, "from", "embedded".into()))
        .map(|row| row["name"].clone())
        .collect();
    assert_eq!(built_in, ["hark-keyword", "hark-event"]);
    // Nothing else is on this machine, as far as a home of its own goes.
    let installed = rows.iter().filter(|row| is(row, "installed", true.into()));
    assert_eq!(installed.count(), 2);
    for row in &rows {
        assert!(
            row["licence"].is_string() && row["labels"].is_u64() && row["bytes"].is_u64(),
            "{row}"
        );
        if !row["installed"].as_bool().unwrap() {
            let missing = hark.run(&[
                "classify",
                "--model",
                row["name"].as_str().unwrap(),
                "x.wav",
            ]);
            missing.check_error(5, "hark models pull");
        }
    }
    for name in ["hark-keyword", "hark-event"] {
        let verified = hark.run(&["models", "verify", name]);
        verified.check(0);
        assert!(verified.stdout.starts_with("ok  "), "{}", verified.stdout);
        let shown = hark.run(&["models", "show", name]);
        shown.check(0);
        for part in ["licence", "sha256", "labels", "parameters"] {
            assert!(shown.stdout.contains(part), "{}", shown.stdout);
        }
    }
}

#[test]
fn a_checkpoint_in_the_cache_of_a_hub_answers_to_its_name() {
    let hark = Hark::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    // As a pull of Python's library or of ours leaves it.
    let repo = hark.path("cache/huggingface/hub/models--MIT--ast-finetuned-speech-commands-v2");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let snapshot = repo.join("snapshots").join(commit);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), commit).unwrap();
    for name in [
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    ] {
        let from = golden.join("fixtures/ast-keyword").join(name);
        fs::copy(from, snapshot.join(name)).unwrap();
    }
    let listed = hark.run(&["models", "list", "--json"]);
    listed.check(0);
    let row = |name: &str| {
        let rows = listed.windows();
        rows.into_iter().find(|row| row["name"] == name).unwrap()
    };
    assert_eq!(row("ast-keyword")["installed"], true);
    assert_eq!(row("ast-audioset")["installed"], false);
    let clip = golden.join("audio/word16k.flac");
    let clip = clip.to_str().unwrap();
    // By name, by repository, and as the best that is installed for its task.
    for ask in [
        &["--model", "ast-keyword"][..],
        &["--model", "MIT/ast-finetuned-speech-commands-v2"],
        &["--task", "keyword"],
    ] {
        let ran = hark.run(&[&["classify", "--json"], ask, &[clip]].concat());
        ran.check(0);
        let window = &ran.windows()[0];
        assert_eq!(window["model"], "ast-keyword", "{ask:?}");
        assert_eq!(window["task"], "keyword");
    }
    hark.run(&["models", "verify", "ast-keyword"]).check(0);
    let shown = hark.run(&["models", "show", "ast-keyword"]);
    shown.check(0);
    assert!(shown.stdout.contains("BSD-3-Clause"), "{}", shown.stdout);
    // A word is no voice.
    let task = [
        "classify",
        "--model",
        "ast-keyword",
        "--task",
        "speaker",
        clip,
    ];
    hark.run(&task)
        .check_error(2, "answers task keyword, not speaker");
}

#[test]
fn labels_lead_to_the_model_that_knows_them() {
    let hark = Hark::new();
    let asked = hark.run(&[
        "models",
        "suggest",
        "--json",
        "smoke alarm",
        "Dutch",
        "valve amplifier",
    ]);
    asked.check(0);
    let advice = asked.windows();
    assert_eq!(advice[0]["knows"][0]["model"], "hark-event");
    assert_eq!(advice[0]["way"], "model");
    assert_eq!(advice[1]["command"], "hark models pull whisper-language");
    assert_eq!(advice[2]["way"], "prompt");
    hark.run(&["models", "suggest", " , "])
        .check_error(2, "names nothing");
}

#[test]
fn a_published_model_listens_in_the_daemon() {
    let hark = Hark::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let model = golden.join("fixtures/ast-keyword");
    let source = format!("file:{}", golden.join("audio/words16k.flac").display());
    let run = |more: &str| {
        let text = format!(
            "[[model]]\nname = {model:?}\nwindow_s = 1.0\nhop_s = 0.5\n{more}\n\n\
             [[rule]]\nname = \"any\"\nkind = \"event\"\nmodel = {model:?}\nthreshold = 0.01\n"
        );
        let config = hark.write("hark.toml", text.as_bytes());
        let config = config.to_str().unwrap();
        hark.run(&[
            "run", "--config", config, "--source", &source, "--bus", "none", "--json",
        ])
    };
    let ran = run("");
    ran.check_code(0);
    let events = ran.windows();
    let mine: Vec<_> = events
        .iter()
        .filter(|event| event["rule"] == "any")
        .collect();
    assert!(!mine.is_empty(), "{events:?}");
    for event in &mine {
        assert_eq!(event["model"]["name"], model.to_str().unwrap());
    }
    let phase = |phase: &str| mine.iter().filter(|event| event["phase"] == phase).count();
    assert_eq!(phase("start"), phase("end"));
    // The gate's model is not in this home.
    run("speech_only = true").check_error(3, "hark models pull silero-vad");
}

#[test]
fn a_configuration_that_does_not_hold_is_status_3_and_says_where() {
    let hark = Hark::new();
    let check = |text: &str, place: &str, what: &str| {
        let path = hark.write("hark.toml", text.as_bytes());
        let path = path.to_str().unwrap();
        let clip = hark.write("a.wav", &wav::pcm16(16_000, 1, &second()));
        let source = format!("file:{}", clip.display());
        for args in [
            &["check", "--config", path][..],
            &[
                "run", "--config", path, "--source", &source, "--bus", "none",
            ],
        ] {
            let ran = hark.run(args);
            ran.check_error(3, what);
            assert!(
                ran.stderr.contains(&format!("{path}:{place}")),
                "{}",
                ran.stderr
            );
        }
    };
    check("[event]\nenabeld = true\n", "2:1", "did you mean 'enabled'");
    check("[evnt]\n", "1:", "evnt");
    check("[event\n", "1:7", "unclosed");
    check("[event]\nenabled = 3\n", "2:11", "true or false");
    let rule = |line: &str| {
        format!("[[rule]]\nname = \"x\"\nkind = \"event\"\nlabels = [\"Bell\"]\n{line}\n")
    };
    check(&rule("threshold = 1.5"), "5:13", "out of range");
    check(&rule("threshold = -0.1"), "5:13", "out of range");
    check(&rule("threshold = nan"), "5:13", "out of range");
    check(&rule("refractory = -1"), "5:14", "out of range");
    check(&rule("confirm = { hits = 3, of = 2 }"), "5:20", "hits = 3");

    // A flag takes the place of what the file says, so this one is for `check` alone.
    let bus = hark.write("bus.toml", b"[dbus]\nbus = \"number 9\"\n");
    hark.run(&["check", "--config", bus.to_str().unwrap()])
        .check_error(3, "bus.toml:2:7: unknown bus 'number 9'");
    hark.run(&["check", "--config", "/no/such.toml"])
        .check_error(3, "/no/such.toml");
    let ran = hark.run(&["check"]);
    ran.check(0);
}

#[test]
fn without_a_daemon_the_verbs_that_need_one_are_status_6() {
    let hark = Hark::new();
    let socket = hark.socket();
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["pause"],
        &["pause", "5m"],
        &["resume"],
        &["reload"],
        &["watch", "--json"],
    ] {
        hark.run(args).check_error(6, socket.to_str().unwrap());
    }
}

#[test]
fn two_daemons_do_not_share_a_socket() {
    let hark = Hark::new();
    let socket = hark.socket();
    let args = ["run", "--source", "raw:16000:1", "--bus", "none"];
    let mut first = hark.spawn(&args);
    first.wait_ready();

    let second = hark.run(&args);
    second.check_error(6, socket.to_str().unwrap());
    hark.run(&["status"]).check(0);

    // A daemon that was killed leaves its socket file; the next one takes it over.
    first.kill();
    assert!(socket.exists(), "the stale file is what this is about");
    hark.run(&["status"])
        .check_error(6, socket.to_str().unwrap());
    let mut next = hark.spawn(&args);
    next.wait_ready();
    hark.run(&["status"]).check(0);

    // End of input is the end of the daemon, and it takes its socket with it.
    next.close_stdin();
    assert_eq!(next.wait(), 0);
    assert!(!socket.exists());
}

#[test]
fn a_source_that_makes_no_sense_is_status_4_or_2() {
    let hark = Hark::new();
    let check = |source: &str, code: i32| {
        let ran = hark.run(&["run", "--source", source, "--bus", "none"]);
        ran.check_error(code, "");
    };
    check("file:/no/such.wav", 4);
    check("raw:0:1", 2);
    check("raw:16000", 2);
    check("teapot", 2);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let hark = Hark::new();
    let file = hark.write("long.wav", &wav::pcm16(16_000, 1, &noise(16_000 * 60)));
    let file = file.to_str().unwrap();
    for args in [
        &["classify", "--json", "--top-k", "0", file][..],
        &["completions", "bash"],
        &["models", "list"],
        &["--help"],
    ] {
        let mut child = hark
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let mut stdout = BufReader::with_capacity(16, child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        drop(stdout);
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {stderr}");
        assert!(stderr.is_empty(), "{args:?}: {stderr}");
    }
}

#[test]
fn a_full_disk_is_told() {
    let full = PathBuf::from("/dev/full");
    if !full.exists() {
        return;
    }
    let hark = Hark::new();
    let mut command = hark.command(&["completions", "bash"]);
    command.stdout(fs::OpenOptions::new().write(true).open(full).unwrap());
    hark.finish(command).check_error(1, "standard output");
}

#[test]
fn the_doctor_looks_at_everything_and_says_what_to_do() {
    let hark = Hark::new();
    let ran = hark.run(&["doctor", "--json"]);
    let findings = ran.windows();
    for check in [
        "processor",
        "models",
        "config",
        "server",
        "microphone",
        "socket dir",
        "bus",
        "daemon",
        "unit",
    ] {
        let found = findings.iter().find(|finding| finding["check"] == check);
        let found = found.unwrap_or_else(|| panic!("{check} is missing in {}", ran.stdout));
        let todo = found["todo"].as_str().unwrap();
        assert_eq!(todo.is_empty(), found["verdict"] == "ok", "{found}");
    }
    let failed = findings.iter().any(|finding| finding["verdict"] == "fail");
    assert_eq!(ran.code != 0, failed, "{}", ran.stdout);
    let plain = hark.run(&["doctor"]);
    assert_eq!(plain.stdout.lines().count(), findings.len());

    hark.write("config/hark/config.toml", b"[evnt]\n");
    let broken = hark.run(&["doctor"]);
    assert_eq!(broken.code, 3);
    assert!(
        broken.stdout.contains("config.toml:1:"),
        "{}",
        broken.stdout
    );
}
