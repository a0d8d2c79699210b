//! The whole way through the program: `hark classify FILE --model DIR --window W` against what the
//! reference's pipelines give for the whole file.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Fixture, golden, max_abs_diff};

/// Asked are 1e-4; what is reached leaves no room for scores that are rounded on the way out.
const TOLERANCE: f32 = 5e-6;

/// The only line that `hark` prints for these arguments.
pub fn hark(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hark"))
        .args(arguments)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{arguments:?}: {err}");
    assert_eq!(out.lines().count(), 1, "{arguments:?}: {out}");
    serde_json::from_str(&out).unwrap()
}

/// Every case with a configuration of the Hugging Face layout, but for those of CLAP.
fn cases() -> Vec<String> {
    let mut cases: Vec<String> = std::fs::read_dir(golden("fixtures"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|dir| model_type(dir).is_some_and(|family| family != "clap"))
        .map(|dir| dir.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    cases.sort();
    cases
}

fn model_type(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join("config.json")).ok()?;
    let config: Value = serde_json::from_str(&text).unwrap();
    Some(config["model_type"].as_str()?.to_owned())
}

fn numbers(list: &Value) -> Vec<f32> {
    let list = list.as_array().unwrap();
    list.iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect()
}

#[test]
fn classify_gives_what_the_pipeline_gives_for_the_whole_file() {
    let mut compared = 0;
    for case in cases() {
        let fixture = Fixture::open(&case);
        let dir = golden("fixtures").join(&case);
        for key in fixture.keys("scores/") {
            let clip = golden("audio").join(key.strip_prefix("scores/").unwrap());
            let line = hark(&[
                "classify",
                "--json",
                "--top-k",
                "0",
                "--window",
                "40",
                "--model",
                dir.to_str().unwrap(),
                clip.to_str().unwrap(),
            ]);
            let config: Value =
                serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).unwrap())
                    .unwrap();
            let expected = fixture.tensor(&key).values;
            let scores = line["scores"].as_array().unwrap();
            assert_eq!(scores.len(), expected.len(), "{case}");
            let mut last = f64::INFINITY;
            for entry in scores {
                let score = entry["score"].as_f64().unwrap();
                assert!(score <= last, "{case} {key}: best first");
                last = score;
                // The order of the fixture is that of the labels' numbers.
                let label = entry["label"].as_str().unwrap();
                let labels = config["id2label"].as_object();
                let at = match labels.and_then(|all| all.iter().find(|(_, name)| *name == label)) {
                    Some((id, _)) => id.parse::<usize>().unwrap(),
                    None => label.strip_prefix("LABEL_").unwrap().parse().unwrap(),
                };
                let difference = (score as f32 - expected[at]).abs();
                assert!(
                    difference <= TOLERANCE,
                    "{case} {key} {label}: {difference:e}"
                );
            }
            compared += 1;
        }
    }
    assert!(compared >= 30, "only {compared} files were compared");
}

#[test]
fn a_voice_is_the_embedding_of_the_reference() {
    for case in ["ecapa", "wavlm-sv"] {
        let fixture = Fixture::open(case);
        let dir = golden("fixtures").join(case);
        let dir = dir.to_str().unwrap();
        for key in fixture.keys("embedding/") {
            let clip = golden("audio").join(key.strip_prefix("embedding/").unwrap());
            let clip = clip.to_str().unwrap();
            let line = hark(&[
                "classify", "--task", "speaker", "--json", "--window", "40", "--model", dir, clip,
            ]);
            let got = numbers(&line["embedding"]);
            let expected = fixture.tensor(&key).values;
            assert!(max_abs_diff(&got, &expected) <= TOLERANCE, "{case} {key}");
            let line = hark(&[
                "classify",
                "--task",
                "speaker",
                "--json",
                "--model",
                dir,
                "--against",
                clip,
                clip,
            ]);
            let similarity = line["similarity"].as_f64().unwrap();
            assert!(
                (similarity - 1.0).abs() < 1e-5,
                "{case} {key}: {similarity}"
            );
        }
    }
}
