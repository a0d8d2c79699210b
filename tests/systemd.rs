//! The unit and the activation file, judged by systemd's own tools and by a bus.

#[path = "support/bus.rs"]
mod bus;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Highest exposure that is allowed, of 10 (systemd-analyze(1), `security`).
const MAX_EXPOSURE: f64 = 2.5;

fn source(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("systemd")
        .join(name);
    fs::read_to_string(path).unwrap()
}

/// A copy as `make install` leaves it, beside a program that exists.
fn installed(dir: &Path, name: &str) -> std::path::PathBuf {
    let program = dir.join("hark");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.join(name);
    fs::write(
        &path,
        source(name).replace("@BINDIR@", dir.to_str().unwrap()),
    )
    .unwrap();
    path
}

/// `None`, and a printed line, where systemd is not installed.
fn analyze(dir: &Path, args: &[&str]) -> Option<Output> {
    let output = Command::new("systemd-analyze")
        .args(args)
        .env("XDG_RUNTIME_DIR", dir)
        .env("SYSTEMD_COLORS", "0")
        .output();
    match output {
        Ok(output) => Some(output),
        Err(_) => {
            eprintln!("skipped: systemd-analyze is not installed");
            None
        }
    }
}

#[test]
fn verify_has_nothing_to_say() {
    let dir = tempfile::tempdir().unwrap();
    let unit = installed(dir.path(), "hark.service");
    for scope in [&["--user", "verify"][..], &["verify"]] {
        let mut args = scope.to_vec();
        args.push(unit.to_str().unwrap());
        let Some(output) = analyze(dir.path(), &args) else {
            return;
        };
        // A misspelled key is only a warning, with status 0: what counts is that it is silent.
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert!(output.status.success(), "{args:?}");
    }
}

#[test]
fn the_unit_is_hardened() {
    let dir = tempfile::tempdir().unwrap();
    let unit = installed(dir.path(), "hark.service");
    let unit = unit.to_str().unwrap();
    for scope in [&["--user"][..], &[]] {
        let mut args = scope.to_vec();
        args.extend(["--no-pager", "--offline=true", "security", unit]);
        let Some(output) = analyze(dir.path(), &args) else {
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let exposure: f64 = text
            .lines()
            .find_map(|line| {
                line.split("Overall exposure level for hark.service: ")
                    .nth(1)
            })
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|figure| figure.parse().ok())
            .unwrap_or_else(|| panic!("no figure in {text}"));
        assert!(
            exposure <= MAX_EXPOSURE,
            "{exposure} is over {MAX_EXPOSURE}: {text}"
        );
    }
}

#[test]
fn what_listening_needs_is_not_taken_away() {
    let unit = source("hark.service");
    let has = |line: &str| unit.lines().any(|found| found == line);
    assert!(has("Type=notify") && has("ExecStart=@BINDIR@/hark run"));
    assert!(unit.lines().any(|line| line.starts_with("WatchdogSec=")));
    for gone in ["ProtectHome=yes", "ProtectHome=tmpfs", "PrivateDevices=yes"] {
        assert!(
            !has(gone),
            "{gone} hides the sound server or the microphone"
        );
    }
    assert!(
        has("ReadWritePaths=-%h/.local/share/hark") && has("CacheDirectory=hark"),
        "prompts and taught sounds are kept, and phrases are embedded once"
    );
    assert!(
        has("RestrictAddressFamilies=AF_UNIX"),
        "the sound server and the bus are sockets"
    );
}

#[test]
fn a_call_on_the_bus_starts_the_daemon() {
    if !bus::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    installed(dir.path(), "org.harkd.Hark1.service");
    // Without systemd on the bus, Exec is what runs; it leaves its arguments behind.
    let told = dir.path().join("told");
    let script = format!("#!/bin/sh\necho \"$@\" > {}\nexit 1\n", told.display());
    fs::write(dir.path().join("hark"), script).unwrap();
    let bus = bus::Bus::start_with_services(dir.path());
    let names = bus
        .busctl(&[
            "call",
            "org.freedesktop.DBus",
            "/",
            "org.freedesktop.DBus",
            "ListActivatableNames",
        ])
        .unwrap();
    assert!(names.to_string().contains("\"org.harkd.Hark1\""), "{names}");
    assert!(
        bus.property("State").is_err(),
        "the stand-in claims no name"
    );
    assert_eq!(fs::read_to_string(told).unwrap(), "run\n");
}
