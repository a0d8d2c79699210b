//! `hark calibrate` from the outside: a room that fires rules and must not afterwards, dry runs, undoing,
//! damaged files, and what is kept of the room.

use std::fs;
use std::path::{Path, PathBuf};

use harkd::audio::synth::{self, Sound};
use serde_json::Value;

use crate::hark::{Hark, Ran};
use crate::wav;

/// A room with a television: words in it fire the rule `words` at its default threshold, if not
/// certainly.
fn room() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo.flac")
}

/// A smoke alarm, which fires the rule `safety`.
fn alarm(hark: &Hark) -> PathBuf {
    let mut rng = fastrand::Rng::with_seed(3);
    let pcm = synth::render(Sound::SmokeAlarm, &mut rng, 12.0);
    hark.write("alarm.wav", &wav::pcm16(16_000, 1, &pcm))
}

fn calibrated(hark: &Hark) -> PathBuf {
    hark.path("config/hark/config.d/90-calibrated.toml")
}

fn calibrate(hark: &Hark, from: &Path, more: &[&str]) -> Ran {
    let from = from.to_str().unwrap();
    hark.run(&[&["calibrate", "--from", from, "--json"], more].concat())
}

fn report(ran: &Ran) -> Value {
    ran.check(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn rule<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rules = report["rules"].as_array().unwrap();
    rules.iter().find(|rule| rule["rule"] == name).unwrap()
}

/// How often rules fire on a recording, as the daemon counts it.
fn fired(hark: &Hark, file: &Path, name: &str) -> usize {
    let source = format!("file:{}", file.display());
    let ran = hark.run(&[
        "run", "--source", &source, "--json", "--bus", "none", "--quiet",
    ]);
    ran.check_code(0);
    let events = ran.windows();
    let begins = |event: &&Value| event["rule"] == name && event["phase"] != "end";
    events.iter().filter(begins).count()
}

#[test]
fn a_room_that_fires_a_rule_does_not_after_calibration_and_does_again_once_undone() {
    let hark = Hark::new();
    let room = room();
    let before = fired(&hark, &room, "words");
    assert!(before > 0, "the room is quiet at the default thresholds");
    let report = report(&calibrate(&hark, &room, &[]));
    let words = rule(&report, "words");
    assert_eq!(words["false_accepts"], before);
    assert_eq!(words["then"], 0);
    let minutes = report["minutes"].as_f64().unwrap();
    let bound = words["then_per_hour_at_most"].as_f64().unwrap();
    assert!(
        (bound - 2.995_732 / (minutes / 60.0)).abs() < 0.1,
        "{bound}"
    );
    assert_eq!(report["written"], calibrated(&hark).to_str().unwrap());

    assert_eq!(fired(&hark, &room, "words"), 0);
    let check = hark.run(&["check"]);
    check.check(0);
    assert!(
        check.stdout.contains("90-calibrated.toml"),
        "{}",
        check.stdout
    );
    let text = fs::read_to_string(calibrated(&hark)).unwrap();
    assert!(text.contains("name = \"words\"\n# 20"), "{text}");
    assert!(text.contains("--undo"), "{text}");
    assert!(text.contains("# was 0."), "{text}");

    // A second time there is nothing left to do.
    let again = calibrate(&hark, &room, &["--rule", "words"]);
    assert_eq!(self::report(&again)["written"], Value::Null);
    assert_eq!(fs::read_to_string(calibrated(&hark)).unwrap(), text);

    hark.run(&["calibrate", "--undo"]).check(0);
    assert!(!calibrated(&hark).exists());
    assert_eq!(fired(&hark, &room, "words"), before);
    let none = hark.run(&["calibrate", "--undo"]);
    none.check(0);
    assert!(none.stdout.contains("nothing to undo"), "{}", none.stdout);
}

#[test]
fn a_dry_run_writes_nothing() {
    let hark = Hark::new();
    let room = room();
    let report = report(&calibrate(&hark, &room, &["--dry-run"]));
    assert!(rule(&report, "words")["false_accepts"].as_u64().unwrap() > 0);
    assert_eq!(report["written"], Value::Null);
    assert!(!hark.path("config").exists());
    assert!(!hark.path("data").exists());
    let text = hark.run(&["calibrate", "--from", room.to_str().unwrap(), "--dry-run"]);
    text.check(0);
    assert!(
        text.stdout.contains("nothing was written"),
        "{}",
        text.stdout
    );
    assert!(text.stdout.contains("95 % confidence"), "{}", text.stdout);
}

#[test]
fn an_alarm_keeps_its_threshold_unless_asked() {
    let hark = Hark::new();
    let room = alarm(&hark);
    let report = self::report(&calibrate(&hark, &room, &["--rule", "safety"]));
    let safety = rule(&report, "safety");
    assert!(safety["false_accepts"].as_u64().unwrap() > 0, "{safety}");
    assert_eq!(safety["then"], safety["false_accepts"]);
    assert_eq!(report["written"], Value::Null);
    let text = hark.run(&["calibrate", "--from", room.to_str().unwrap(), "--dry-run"]);
    assert!(text.stdout.contains("WARNING"), "{}", text.stdout);
}

#[test]
fn what_must_still_be_heard_is_tried() {
    let hark = Hark::new();
    let room = room();
    let wanted = format!("yes={}", room.display());
    let report = report(&calibrate(
        &hark,
        &room,
        &["--dry-run", "--positive", &wanted],
    ));
    let positive = &report["positives"][0];
    assert_eq!(positive["name"], "yes");
    assert!(positive["before"].as_u64().unwrap() > 0, "{positive}");
    assert_eq!(
        positive["after"], 0,
        "the room and the wanted sound are the same"
    );
    calibrate(&hark, &room, &["--positive", "compute=x.wav"])
        .check_error(2, "did you mean 'computer'?");
}

#[test]
fn the_room_is_kept_for_what_is_taught() {
    let hark = Hark::new();
    let room = room();
    let report = report(&calibrate(&hark, &room, &[]));
    let rooms = report["rooms"].as_array().unwrap();
    let models: Vec<&str> = rooms.iter().map(|r| r["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["hark-event", "hark-keyword"]);
    for room in rooms {
        let path = Path::new(room["written"].as_str().unwrap());
        assert!(path.starts_with(hark.path("data/hark/room")), "{path:?}");
        let points = room["points"].as_u64().unwrap();
        assert!((10..=512).contains(&points), "{points}");
        // Points and a header, and nothing like 24 s of sound.
        assert!(path.metadata().unwrap().len() < 600_000);
    }
}

#[test]
fn other_calibrations_and_hands_are_kept() {
    let hark = Hark::new();
    let room = room();
    let own = "# by hand\n\n[[rule]]\nname = \"animals\" # mine\n[rule.thresholds]\nDog = 0.95\n";
    hark.write("config/hark/config.d/90-calibrated.toml", own.as_bytes());
    report(&calibrate(&hark, &room, &["--rule", "words"]));
    let text = fs::read_to_string(calibrated(&hark)).unwrap();
    assert!(
        text.contains("name = \"animals\" # mine\n[rule.thresholds]\nDog = 0.95\n"),
        "{text}"
    );
    assert!(text.contains("name = \"words\""), "{text}");
    hark.run(&["calibrate", "--undo", "--rule", "words"])
        .check(0);
    let text = fs::read_to_string(calibrated(&hark)).unwrap();
    assert!(
        text.contains("animals") && !text.contains("words"),
        "{text}"
    );
    hark.run(&["calibrate", "--undo", "--rule", "words"])
        .check_error(2, "animals");
    // A rule that is gone does not come back with it.
    hark.write(
        "config/hark/config.d/90-calibrated.toml",
        b"[[rule]]\nname = \"gone\"\n[rule.thresholds]\nDog = 0.95\n",
    );
    let check = hark.run(&["check", "--print"]);
    check.check(0);
    assert!(!check.stdout.contains("gone"), "{}", check.stdout);
}

#[test]
fn a_damaged_older_file_is_named_and_left_and_can_be_undone() {
    let hark = Hark::new();
    let room = room();
    let damaged = b"[[rule]]\nname = \"words\"\nthresholds = { yes = ";
    hark.write("config/hark/config.d/90-calibrated.toml", damaged);
    calibrate(&hark, &room, &[]).check_error(3, "90-calibrated.toml");
    assert_eq!(fs::read(calibrated(&hark)).unwrap(), damaged);
    hark.run(&["calibrate", "--undo"]).check(0);
    assert!(!calibrated(&hark).exists());
}

#[test]
fn what_cannot_be_written_says_where_and_leaves_everything() {
    let hark = Hark::new();
    let room = room();
    // A file stands where the folder should be.
    hark.write("config/hark/config.d", b"");
    let ran = calibrate(&hark, &room, &[]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("config.d"), "{}", ran.stderr);
    assert_eq!(fs::read(hark.path("config/hark/config.d")).unwrap(), b"");
    assert!(
        !hark.path("data/hark/room").exists(),
        "half of it was written"
    );
}

#[test]
fn a_wrong_command_line_or_sound_says_what_to_do() {
    let hark = Hark::new();
    let room = room();
    let from = room.to_str().unwrap();
    hark.run(&["calibrate", "--minutes", "0"])
        .check_error(2, "--minutes");
    hark.run(&["calibrate", "--target-fa-per-hour", "nan"])
        .check_error(2, "--target-fa-per-hour");
    hark.run(&["calibrate", "--from", from, "--source", "mic"])
        .check_error(2, "--source");
    calibrate(&hark, &room, &["--rule", "word"]).check_error(2, "did you mean 'words'?");
    let config = hark.write("own.toml", b"");
    let config = config.to_str().unwrap();
    calibrate(&hark, &room, &["--config", config]).check_error(2, "--output");
    hark.run(&["calibrate", "--from", "no-such.wav"])
        .check_error(4, "no-such.wav");
    let short = hark.write("short.wav", &wav::pcm16(16_000, 1, &[0.1; 8000]));
    calibrate(&hark, &short, &[]).check_error(4, "only 0.5 s");
    let output = hark.path("elsewhere/mine.toml");
    let output = output.to_str().unwrap();
    report(&calibrate(
        &hark,
        &room,
        &["--config", config, "--output", output],
    ));
    assert!(fs::read_to_string(output).unwrap().contains("[[rule]]"));
    assert!(!calibrated(&hark).exists());
}

#[test]
fn a_source_that_ends_is_heard_to_its_end() {
    let hark = Hark::new();
    let room = room();
    let source = format!("file:{}", room.display());
    let ran = hark.run(&["calibrate", "--source", &source, "--json", "--dry-run"]);
    ran.check_code(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(rule(&report, "words")["false_accepts"].as_u64().unwrap() > 0);
    assert!(ran.stderr.contains("listening to file:"), "{}", ran.stderr);
}
