//! `hark prompt test` on the small random checkpoints of the golden tests.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::hark::{Hark, Ran};
use crate::wav;

fn golden(path: &str) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    golden.join(path).to_str().unwrap().to_owned()
}

fn model() -> String {
    golden("fixtures/clap-unfused")
}

fn alarm() -> String {
    golden("audio/alarm48k.flac")
}

/// A home with two prompts in its configuration and one that was added to the daemon.
fn home() -> Hark {
    let hark = Hark::new();
    let config = format!(
        "[prompt]\nmodel = '{}'\n\
         [[prompt.label]]\nname = 'dog'\nphrases = ['dog bark', 'A dog howls.']\nthreshold = 0.7\n\
         [[prompt.label]]\nname = 'rain'\nphrases = ['rain']\n",
        model()
    );
    hark.write("config/hark/config.toml", config.as_bytes());
    hark.write(
        "data/hark/prompts.toml",
        b"[[prompt]]\nname = 'kettle'\nphrases = ['kettle whistling']\n",
    );
    hark
}

fn test(hark: &Hark, args: &[&str]) -> Ran {
    hark.run(&[&["prompt", "test"], args].concat())
}

fn figures(ran: &Ran) -> Value {
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

fn texts(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row["text"].as_str().unwrap()).collect()
}

#[test]
fn every_phrasing_of_a_prompt_is_tried_on_every_file() {
    let hark = home();
    let (alarm, sounds) = (alarm(), golden("audio/sounds48k.flac"));
    let template = ["--template", "I hear {}"];
    let args = [&["dog", &alarm, &sounds, "--json"], &template[..]].concat();
    let ran = test(&hark, &args);
    ran.check(0);
    let figures = figures(&ran);
    assert_eq!(figures["prompt"], "dog");
    assert_eq!(figures["model"], model());
    assert_eq!(
        texts(&figures["phrasings"]),
        [
            "dog bark",
            "The sound of a dog barking.",
            "A dog is barking.",
            "This is a sound of a dog barking.",
            "I hear dog bark",
            "A dog howls.",
            "I hear A dog howls.",
        ]
    );
    assert_eq!(figures["phrasings"][4]["form"], "template");
    assert_eq!(figures["phrasings"][5]["phrase"], "A dog howls.");
    let others: Vec<&Value> = figures["others"].as_array().unwrap().iter().collect();
    assert_eq!(others, ["rain", "kettle"]);
    // Twelve seconds in windows of ten every two.
    let windows: Vec<&Value> = ["0", "1"]
        .iter()
        .map(|at| figures.pointer(&format!("/files/{at}/windows")).unwrap())
        .collect();
    assert_eq!(windows, [1, 2]);
    assert_eq!(figures["windows"], 3);
    let rows = figures["phrasings"].as_array().unwrap();
    let shares: Vec<f64> = rows
        .iter()
        .map(|row| row["top1"].as_f64().unwrap())
        .collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!((figures["top1"]["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
    for row in rows.iter().chain([&figures["together"]]) {
        let cells = row["files"].as_array().unwrap();
        assert_eq!(cells.len(), 2);
        for cell in cells {
            let score = cell["score"].as_f64().unwrap();
            assert!((0.001..=0.999).contains(&score), "{cell}");
            assert!(cell["similarity"].as_f64().unwrap().abs() <= 1.0, "{cell}");
        }
    }
}

#[test]
fn similarities_are_those_of_score() {
    let hark = home();
    let file = alarm();
    let tested = test(&hark, &["any", "--phrase", "a bell", "--json", &file]);
    tested.check(0);
    let scored = hark.run(&[
        "score",
        "--model",
        &model(),
        "--prompt",
        "a bell",
        "--template",
        "{}",
        "--json",
        &file,
    ]);
    scored.check(0);
    let of_score = scored.windows()[0]["scores"][0]["similarity"]
        .as_f64()
        .unwrap();
    let figures = figures(&tested);
    assert_eq!(texts(&figures["phrasings"])[0], "a bell");
    let of_test = &figures["phrasings"][0]["files"][0]["similarity"];
    let off = (of_test.as_f64().unwrap() - of_score).abs();
    assert!(off < 1e-5, "{of_test} and {of_score}");
    // What the daemon listens with is the mean of the sentences.
    let meant = hark.run(&[
        "score",
        "--model",
        &model(),
        "--prompt",
        "a bell",
        "--sentences",
        "--json",
        &file,
    ]);
    let meant = meant.windows()[0]["scores"][0]["similarity"]
        .as_f64()
        .unwrap();
    let together = &figures["together"]["files"][0]["similarity"];
    let off = (together.as_f64().unwrap() - meant).abs();
    assert!(off < 1e-5, "{together} and {meant}");
}

#[test]
fn a_person_gets_tables_and_a_picture() {
    let hark = home();
    let file = alarm();
    let ran = test(&hark, &["dog", "--svg", "dog.svg", &file]);
    ran.check(0);
    for part in [
        "dog: 1 window of 1 file, against 130 background phrases and 2 other prompts",
        "threshold 0.7",
        "all together, as the daemon listens",
        "Over 5 phrasings it is the top-1 of",
        "dog.svg: a picture of this",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let svg = fs::read_to_string(hark.path("dog.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("The sound of a dog barking."));
    let ran = test(&hark, &["kettle", &file]);
    ran.check(0);
    assert!(ran.stdout.contains("add --svg FILE"), "{}", ran.stdout);
}

#[test]
fn files_that_cannot_be_heard_are_told_and_the_others_are_shown() {
    let hark = home();
    let text = hark.write("text.wav", b"no sound at all");
    let good = hark.write("good.wav", &wav::pcm16(16_000, 2, &crate::second()));
    let (text, good) = (text.to_str().unwrap(), good.to_str().unwrap());
    let ran = test(&hark, &["dog", "--json", text, "missing.wav", good]);
    ran.check_code(4);
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    let figures = figures(&ran);
    assert_eq!(figures["files"].as_array().unwrap().len(), 1);
    assert_eq!(figures["files"][0]["file"], good);
    let ran = test(&hark, &["dog", text]);
    ran.check_code(4);
    assert!(ran.stdout.is_empty(), "{}", ran.stdout);
}

#[test]
fn what_makes_no_test_is_refused_with_its_reason() {
    let hark = home();
    let file = alarm();
    let check = |args: &[&str], code, part: &str| {
        let ran = test(&hark, &[args, &[file.as_str()]].concat());
        ran.check_error(code, part);
    };
    check(
        &["cat"],
        2,
        "there is no prompt 'cat' (there are dog, rain, kettle)",
    );
    check(&["cat", "--phrase", " "], 2, "the phrase is empty");
    check(&["cat", "--phrase", "a\u{7}b"], 2, "control character");
    check(&["_x_", "--phrase", "a"], 2, "'_x_'");
    check(&["dog", "--template", "no place"], 2, "--template");
    check(&["dog", "--window", "0"], 2, "--window");
    check(&["dog", "-"], 2, "not standard input");
    check(&["dog", "--model", "/nowhere"], 5, "/nowhere");
    check(&["dog", "--model", "hark-event"], 5, "hark-event");
    check(&["dog", "--svg", "/nowhere/a.svg"], 1, "/nowhere/a.svg");
    check(&["dog", "--config", "/nowhere.toml"], 3, "/nowhere.toml");
    let bare = Hark::new();
    let none = bare.run(&["prompt", "test", "x", "--phrase", "a", &file]);
    none.check_error(5, "hark models pull");
    bare.run(&["prompt", "test", "x", &file])
        .check_error(2, "there are none yet");
    let spoilt = PathBuf::from("data/hark/prompts.toml");
    hark.write(spoilt.to_str().unwrap(), b"no toml");
    let ran = test(&hark, &["dog", &file]);
    ran.check_code(0);
    assert!(ran.stderr.contains("prompts.toml"), "{}", ran.stderr);
}
