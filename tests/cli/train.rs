//! `hark train --objective clap` and `hark eval --objective retrieval` from data to a model that every
//! other verb takes, and bad input of every kind.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::hark::{Hark, Ran};
use crate::wav;

fn fixture(case: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/fixtures")
        .join(case)
        .to_str()
        .unwrap()
        .to_owned()
}

/// Half a second of a tone.
fn tone(step: f32) -> Vec<u8> {
    let pcm: Vec<f32> = (0..8_000).map(|n| 0.3 * (n as f32 * step).sin()).collect();
    wav::pcm16(16_000, 1, &pcm)
}

/// A data set of tones with this manifest.
fn data(hark: &Hark, manifest: &str) -> String {
    for (name, step) in [("a", 0.05), ("b", 0.06), ("c", 0.8), ("d", 0.9)] {
        hark.write(&format!("data/{name}.wav"), &tone(step));
    }
    hark.write("data/manifest.csv", manifest.as_bytes());
    hark.path("data").to_str().unwrap().to_owned()
}

const LABELS: &str = "path,label,split,licence\na.wav,hum,train,CC0-1.0\nb.wav,hum,dev,CC0-1.0\nc.wav,whistle,train,CC0-1.0\nd.wav,whistle,dev,CC0-1.0\n";

fn train(hark: &Hark, data: &str, base: &str, out: &Path, more: &[&str]) -> Ran {
    let out = out.to_str().unwrap();
    let args = [
        "train",
        "--objective",
        "clap",
        "--data",
        data,
        "--base",
        base,
        "--out",
        out,
    ];
    hark.run(&[&args[..], more].concat())
}

fn is_whole(hark: &Hark, data: &str, model: &str) -> Value {
    let shown = hark.run(&["models", "show", model]);
    shown.check(0);
    let clip = hark.path("data/a.wav");
    let score = hark.run(&[
        "score",
        "--model",
        model,
        "--prompt",
        "hum",
        "--prompt",
        "whistle",
        "--json",
        clip.to_str().unwrap(),
    ]);
    score.check(0);
    let measured = hark.run(&[
        "eval",
        "--objective",
        "retrieval",
        "--model",
        model,
        "--data",
        data,
        "--json",
    ]);
    measured.check(0);
    serde_json::from_str(&measured.stdout).unwrap()
}

#[test]
fn the_projections_of_a_base_are_trained_and_the_rest_is_as_it_was() {
    let hark = Hark::new();
    let (data, out) = (data(&hark, LABELS), hark.path("out"));
    let base = fixture("clap-unfused");
    let ran = train(
        &hark,
        &data,
        &base,
        &out,
        &["--steps", "4", "--learning-rate", "0.01"],
    );
    ran.check(0);
    assert_eq!(ran.stdout.trim(), out.to_str().unwrap());
    let measured = is_whole(&hark, &data, out.to_str().unwrap());
    assert_eq!(
        (&measured["n"], &measured["task"]),
        (&2.into(), &"retrieval".into())
    );
    assert_eq!(measured["retrieval"]["text_to_audio"]["queries"], 2);
    let read = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
    let (before, after) = (read(Path::new(&base)), read(&out));
    let (before, after) = (
        safetensors::SafeTensors::deserialize(&before).unwrap(),
        safetensors::SafeTensors::deserialize(&after).unwrap(),
    );
    let changed: Vec<&str> = before
        .names()
        .into_iter()
        .filter(|key| before.tensor(key).unwrap().data() != after.tensor(key).unwrap().data())
        .collect();
    assert!(
        changed.contains(&"audio_projection.linear1.weight"),
        "{changed:?}"
    );
    for key in changed {
        assert!(
            key.contains("_projection.") || key.starts_with("logit_scale"),
            "{key}"
        );
    }
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    for part in ["CC0-1.0 (2)", "| steps | 4 |", "zero-shot accuracy"] {
        assert!(card.contains(part), "{card}");
    }
    // Once more: the run is over already. With other options it is another run.
    train(
        &hark,
        &data,
        &base,
        &out,
        &["--steps", "4", "--learning-rate", "0.01"],
    )
    .check(0);
    let other = train(&hark, &data, &base, &out, &["--steps", "5"]);
    other.check_error(5, "--restart");
    train(&hark, &data, &base, &out, &["--steps", "1", "--restart"]).check(0);
    // A model that no run left is not written over.
    fs::remove_file(out.join("training.safetensors")).unwrap();
    train(&hark, &data, &base, &out, &[]).check_error(2, "holds a model already");
}

#[test]
fn a_small_clap_is_trained_from_random_weights_and_from_captions() {
    let hark = Hark::new();
    let manifest = "path,caption_1,caption_2,split\n\
        a.wav,A machine hums.,Something hums.,train\nb.wav,A low hum.,,dev\n\
        c.wav,Somebody whistles.,A whistle.,train\nd.wav,A high whistle.,,dev\n";
    let (data, out) = (data(&hark, manifest), hark.path("out"));
    let ran = train(
        &hark,
        &data,
        "small-clap",
        &out,
        &[
            "--steps",
            "2",
            "--batch",
            "2",
            "--bend",
            "1",
            "--dropout",
            "--part",
            "1",
        ],
    );
    ran.check(0);
    let measured = is_whole(&hark, &data, out.to_str().unwrap());
    assert!(measured.get("accuracy").is_none());
    assert_eq!(measured["retrieval"]["audio_to_text"]["answers"], 2);
}

#[test]
fn data_that_cannot_be_learnt_from_is_named() {
    let hark = Hark::new();
    let base = fixture("clap-unfused");
    let mut number = 0;
    let mut check = |manifest: &str, more: &[&str], code: i32, expected: &str| {
        number += 1;
        let (data, out) = (data(&hark, manifest), hark.path(&format!("out{number}")));
        train(&hark, &data, &base, &out, more).check_error(code, expected);
        assert!(!out.join("model.safetensors").exists(), "{expected}");
    };
    check(
        "path,split\na.wav,train\n",
        &[],
        5,
        "no column 'label' or 'caption'",
    );
    check(
        "path,label,split\na.wav,hum,train\n",
        &[],
        5,
        "at least two different labels or captions in train, got 1",
    );
    check(
        "path,label,split\na.wav,hum,dev\nc.wav,x,dev\n",
        &[],
        5,
        "in train, got 0",
    );
    check(
        LABELS,
        &["--hold-out", "rooster"],
        2,
        "--hold-out rooster: no clip",
    );
    check(LABELS, &["--hold-out", "hum"], 5, "got 1");
    check(
        LABELS,
        &["--rounds", "3"],
        2,
        "--rounds is of --objective labels",
    );
    check(
        LABELS,
        &["--freeze", "all"],
        2,
        "expected towers, audio, text or none",
    );
    check(LABELS, &["--made", "1"], 2, "--made");
    check(LABELS, &["--ontology", "/no/such"], 5, "/no/such");
    let whole = data(&hark, LABELS);
    let ast = fixture("ast-event");
    train(&hark, &whole, &ast, &hark.path("x"), &[])
        .check_error(5, "expected small-clap, or a CLAP");
    let copy: PathBuf = hark.path("copy");
    fs::create_dir(&copy).unwrap();
    for name in [
        "config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ] {
        fs::copy(Path::new(&base).join(name), copy.join(name)).unwrap();
    }
    let same = train(&hark, &whole, copy.to_str().unwrap(), &copy, &[]);
    same.check_error(2, "another directory than --base");
    let labels = [
        "train",
        "--data",
        &whole,
        "--base",
        "hark-event",
        "--out",
        "y",
        "--bend",
        "1",
    ];
    hark.run(&labels)
        .check_error(2, "--bend is of --objective clap");
}

#[test]
fn retrieval_asks_for_a_clap_and_for_clips_of_its_labels() {
    let hark = Hark::new();
    let (data, base) = (data(&hark, LABELS), fixture("clap-unfused"));
    let eval = |model: &str, more: &[&str]| {
        let args = [
            "eval",
            "--objective",
            "retrieval",
            "--model",
            model,
            "--data",
            &data,
        ];
        hark.run(&[&args[..], more].concat())
    };
    let labels = hark.write(
        "labels.txt",
        b"hum\nwhistle\tA whistle blows.|Somebody whistles.\nowl\n",
    );
    let labels = labels.to_str().unwrap();
    let ran = eval(&base, &["--labels", labels, "--split", "all", "--json"]);
    ran.check(0);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&json["n"], json["labels"].as_array().unwrap().len()),
        (&4.into(), 3)
    );
    assert_eq!(json["retrieval"]["text_to_audio"]["queries"], 2);
    eval(&base, &["--split", "all"]).check(0);
    eval(&fixture("ast-event"), &[]).check_error(5, "measures a CLAP");
    let none = hark.write("none.txt", b"owl\n");
    eval(&base, &["--labels", none.to_str().unwrap()]).check_error(5, "no clip to measure on");
    eval(&base, &["--stream"]).check_error(2, "not of --objective retrieval");
    let without = [
        "eval",
        "--model",
        "hark-event",
        "--data",
        &data,
        "--sets",
        "x",
    ];
    hark.run(&without)
        .check_error(2, "of --objective retrieval");
}
