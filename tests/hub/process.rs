//! The binary itself: what it prints, its exit status, several of it at once, and Python beside it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::server::{Act, COMMIT, REPO, Server, drain, weights};
use crate::{Home, check_whole};

/// The binary, or any program, with this home and hub and nothing of this session's.
fn program(name: &str, home: &Home, server: &Server) -> Command {
    let mut command = Command::new(name);
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().to_lowercase();
        if name_text.starts_with("hf_")
            || name_text.starts_with("hark_")
            || name_text.ends_with("_proxy")
        {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", home.dir.path())
        .env("XDG_DATA_HOME", home.path("data"))
        .env("HF_HOME", home.path("hf"))
        .env("HF_ENDPOINT", server.url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn hark(home: &Home, server: &Server, args: &[&str]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_hark"), home, server);
    command.arg("models").args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn check_ok(output: &Output) -> Value {
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_str(&text(&output.stdout)).unwrap()
}

/// It failed with status 5 and one line that holds `parts`.
fn check_failed(output: &Output, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(output.stdout.is_empty());
    let errors: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with("hark: "))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    for part in parts {
        assert!(errors[0].contains(part), "{stderr} lacks {part}");
    }
}

#[test]
fn a_pull_says_what_it_does_and_what_came_of_it() {
    let (server, home) = (Server::with_model(), Home::new());
    let output = hark(&home, &server, &["pull", REPO, "--json"])
        .output()
        .unwrap();
    let pulled = check_ok(&output);
    assert_eq!(pulled["name"], REPO);
    assert_eq!(pulled["revision"], "main");
    assert_eq!(pulled["commit"], COMMIT);
    assert_eq!(pulled["files"].as_array().unwrap().len(), 3);
    assert_eq!(pulled["bytes"], pulled["downloaded"]);
    assert_eq!(pulled["from_cache"], Value::Null);
    assert!(
        Path::new(pulled["dir"].as_str().unwrap())
            .join("config.json")
            .is_file()
    );
    let said = text(&output.stderr);
    assert!(said.contains("model.safetensors: 3.67 MB"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
    let again = hark(&home, &server, &["pull", &format!("{REPO}@{COMMIT}")])
        .output()
        .unwrap();
    assert!(again.status.success());
    assert!(text(&again.stderr).contains("nothing downloaded"));
    assert!(text(&again.stdout).contains(&format!("{REPO} at {COMMIT}: 3 files")));
    let removed = hark(&home, &server, &["remove", REPO, "--json"])
        .output()
        .unwrap();
    assert_eq!(check_ok(&removed)["bytes"], pulled["bytes"]);
    let output = hark(&home, &server, &["remove", REPO]).output().unwrap();
    check_failed(&output, &[REPO, "not in the cache"]);
}

#[test]
fn what_fails_is_one_line_and_status_5() {
    let (server, home) = (Server::with_model(), Home::new());
    let check = |args: &[&str], parts: &[&str]| {
        check_failed(&hark(&home, &server, args).output().unwrap(), parts);
    };
    check(&["pull", "yamnot"], &["no model 'yamnot'", "ORG/NAME"]);
    check(&["pull", "hark-event"], &["comes with hark"]);
    check(&["pull", "org/none"], &["no repository 'org/none'"]);
    check(&["pull", "../etc"], &["'../etc' is no repository"]);
    check(&["pull", REPO, "--revision", "v2"], &["no revision 'v2'"]);
    let mut offline = hark(&home, &server, &["pull", REPO]);
    let output = offline.env("HF_HUB_OFFLINE", "1").output().unwrap();
    check_failed(&output, &["HF_HUB_OFFLINE"]);
    let mut nowhere = hark(&home, &server, &["pull", REPO]);
    let output = nowhere.env("HF_ENDPOINT", "nowhere").output().unwrap();
    check_failed(&output, &["HF_ENDPOINT", "nowhere"]);
}

/// A pull whose download of the weights waits for the gate of the server.
fn gated(home: &Home, server: &Server) -> Child {
    server.on_get("model.safetensors", [Act::Gate(3_000_000)]);
    let child = hark(home, server, &["pull", REPO, "--json"])
        .spawn()
        .unwrap();
    server.wait_for_get("/cdn/model.safetensors?sig=1");
    child
}

/// A second pull that has said that it waits for the first; the rest of what it says.
fn waiting(home: &Home, server: &Server) -> (Child, std::thread::JoinHandle<String>) {
    let mut child = hark(home, server, &["pull", REPO, "--json"])
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("another process is downloading it") {
        line.clear();
        assert!(
            said.read_line(&mut line).unwrap() > 0,
            "it ended without waiting"
        );
    }
    (child, drain(said))
}

#[test]
fn two_processes_download_a_file_once() {
    let (server, home) = (Server::with_model(), Home::new());
    let first = gated(&home, &server);
    let (second, said) = waiting(&home, &server);
    server.open_gate();
    let first = check_ok(&first.wait_with_output().unwrap());
    let second = check_ok(&second.wait_with_output().unwrap());
    said.join().unwrap();
    assert_eq!(first["files"], second["files"]);
    assert_eq!(second["downloaded"], 0);
    assert_eq!(server.gets("/cdn/model.safetensors?sig=1").len(), 1);
    check_whole(&home);
}

#[test]
fn a_killed_process_leaves_no_lock_behind() {
    let (server, home) = (Server::with_model(), Home::new());
    let mut first = gated(&home, &server);
    let (second, said) = waiting(&home, &server);
    first.kill().unwrap();
    first.wait().unwrap();
    let second = check_ok(&second.wait_with_output().unwrap());
    said.join().unwrap();
    assert_eq!(second["files"].as_array().unwrap().len(), 3);
    check_whole(&home);
}

#[test]
fn what_is_being_pulled_is_not_removed() {
    let (server, home) = (Server::with_model(), Home::new());
    let first = gated(&home, &server);
    let output = hark(&home, &server, &["remove", REPO]).output().unwrap();
    check_failed(&output, &[REPO, "another process is pulling it"]);
    server.open_gate();
    check_ok(&first.wait_with_output().unwrap());
    check_whole(&home);
}

#[test]
fn a_limit_on_file_sizes_stops_a_pull_that_goes_on_later() {
    let (server, home) = (Server::with_model(), Home::new());
    // 2 MiB in the shell's blocks of 512 or 1024 bytes; the signal would end the program unheard.
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$@\"";
    let mut limited = program("sh", &home, &server);
    limited.args([
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_hark"),
        "models",
        "pull",
        REPO,
    ]);
    let output = limited.output().unwrap();
    check_failed(
        &output,
        &["no room", "more are needed", "goes on where it stopped"],
    );
    let kept = fs::metadata(home.partial(&server, "model.safetensors"))
        .unwrap()
        .len();
    assert!(kept > 0 && kept < weights().len() as u64, "{kept}");
    let pulled = check_ok(
        &hark(&home, &server, &["pull", REPO, "--json"])
            .output()
            .unwrap(),
    );
    assert_eq!(pulled["files"].as_array().unwrap().len(), 3);
    check_whole(&home);
    let gets = server.gets("/cdn/model.safetensors?sig=1");
    let resumed = format!("bytes={kept}-");
    assert_eq!(gets.last().unwrap().header("Range"), Some(resumed.as_str()));
}

/// A Python that has `huggingface_hub`: `HARKD_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let python = std::env::var("HARKD_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python)
        .args(["-c", "import huggingface_hub"])
        .output()
        .is_ok_and(|output| output.status.success());
    if has {
        return Some(python);
    }
    println!("skipped: {python} has no huggingface_hub; name one that has in HARKD_PYTHON");
    None
}

/// Runs a script with the repository as its first argument.
fn run_python(python: &str, script: &str, home: &Home, server: &Server, offline: &str) -> String {
    let output = program(python, home, server)
        .env("HF_HUB_OFFLINE", offline)
        .args(["-c", script, REPO])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

#[test]
fn python_finds_what_was_pulled() {
    let Some(python) = python() else { return };
    let (server, home) = (Server::with_model(), Home::new());
    check_ok(
        &hark(&home, &server, &["pull", REPO, "--json"])
            .output()
            .unwrap(),
    );
    let script = "import sys; from huggingface_hub import *\n\
        for f in ('config.json', 'model.safetensors'): print(hf_hub_download(sys.argv[1], f))\n\
        print(try_to_load_from_cache(sys.argv[1], 'vocab.txt') is _CACHED_NO_EXIST)\n\
        print(len(scan_cache_dir().warnings), [r.size_on_disk for r in scan_cache_dir().repos])";
    let said = run_python(&python, script, &home, &server, "1");
    let lines: Vec<_> = said.lines().collect();
    let dir = home.repo(&format!("snapshots/{COMMIT}"));
    assert_eq!(Path::new(lines[0]), dir.join("config.json"));
    assert_eq!(Path::new(lines[1]), dir.join("model.safetensors"));
    assert_eq!(lines[2], "True");
    assert_eq!(lines[3], format!("0 [{}]", weights().len() + 23 + 2));
}

#[test]
fn what_python_has_pulled_is_found() {
    let Some(python) = python() else { return };
    let (server, cdn, home) = (Server::with_model(), Server::with_model(), Home::new());
    server.redirect_to(&cdn);
    let script = "import sys; from huggingface_hub import hf_hub_download as get\n\
        for f in ('config.json', 'tokenizer.json', 'model.safetensors'): get(sys.argv[1], f)";
    run_python(&python, script, &home, &server, "0");
    assert_eq!(cdn.gets("/cdn/model.safetensors?sig=1").len(), 1);
    let mut offline = hark(&home, &server, &["pull", REPO, "--json"]);
    let found = check_ok(&offline.env("HF_HUB_OFFLINE", "1").output().unwrap());
    assert_eq!(found["files"].as_array().unwrap().len(), 3);
    let pulled = check_ok(
        &hark(&home, &server, &["pull", REPO, "--json"])
            .output()
            .unwrap(),
    );
    assert_eq!(pulled["downloaded"], 0);
    check_whole(&home);
}
