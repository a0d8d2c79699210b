//! `hark teach` and `hark taught` from the outside: what is learned stays learned, and bad input of
//! every kind leaves the store as it was.

use std::fs;

use harkd::audio::synth::{self, Sound};
use serde_json::Value;

use crate::hark::{Hark, Ran};
use crate::wav;

/// Writes renderings of a ringing telephone and gives their paths.
fn rings(hark: &Hark, count: u64) -> Vec<String> {
    (0..count)
        .map(|seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut pcm = synth::render(Sound::Telephone, &mut rng, 1.2);
            pcm.iter_mut().for_each(|sample| *sample *= 0.5);
            let path = hark.write(&format!("ring{seed}.wav"), &wav::pcm16(16_000, 1, &pcm));
            path.to_str().unwrap().to_owned()
        })
        .collect()
}

fn teach(hark: &Hark, name: &str, files: &[String], more: &[&str]) -> Ran {
    let mut args = vec!["teach", name];
    args.extend(files.iter().map(String::as_str));
    args.extend(more);
    hark.run(&args)
}

fn list(hark: &Hark) -> Vec<Value> {
    let ran = hark.run(&["taught", "list", "--json"]);
    ran.check_code(0);
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_sound_is_taught_listed_exported_forgotten_and_taken_back() {
    let hark = Hark::new();
    let files = rings(&hark, 4);
    let ran = teach(&hark, "my telephone", &files, &[]);
    ran.check_code(0);
    for part in [
        "learned the sound 'my telephone' from 4 examples",
        "no daemon runs",
    ] {
        assert!(ran.stdout.contains(part), "{}", ran.stdout);
    }
    let listed = list(&hark);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["name"], "my telephone");
    assert_eq!(listed[0]["examples"].as_array().unwrap().len(), 4);
    assert_eq!(listed[0]["examples"][0]["name"], "ring0.wav");
    assert_eq!(listed[0]["stale"], Value::Null);

    let out = hark.path("out");
    let out = out.to_str().unwrap();
    let ran = hark.run(&["taught", "export", "my telephone", out]);
    ran.check_code(0);
    let exported = ran.stdout.trim().to_owned();
    hark.run(&["taught", "remove", "my telephone"])
        .check_code(0);
    assert!(list(&hark).is_empty());
    hark.run(&["taught", "remove", "my telephone"])
        .check_code(2);
    hark.run(&["taught", "import", &exported]).check_code(0);
    assert_eq!(list(&hark), listed);

    // Nothing in the store is as long as a tenth of the sound that it was taught from.
    let names: Vec<_> = fs::read_dir(&exported)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn bad_examples_and_names_are_refused_and_change_nothing() {
    let hark = Hark::new();
    let files = rings(&hark, 3);
    teach(&hark, "a", &files, &[]).check_code(0);
    let before = list(&hark);
    let short = hark.write("short.wav", &wav::pcm16(16_000, 1, &[0.5; 500]));
    let silent = hark.write("silent.wav", &wav::pcm16(16_000, 1, &[0.0; 16_000]));
    let with = |path: &std::path::Path| {
        let mut all = files[..2].to_vec();
        all.push(path.to_str().unwrap().to_owned());
        all
    };
    let nine: Vec<String> = files.iter().cycle().take(9).cloned().collect();
    for (name, given, code, said) in [
        ("b", with(&short), 5, "short.wav: 0.03 s is too short"),
        ("b", with(&silent), 5, "silent.wav: it is silent"),
        ("b", with(&hark.path("none.wav")), 4, "none.wav"),
        ("b", files[..2].to_vec(), 5, "2 examples are too few"),
        ("b", nine, 5, "9 examples are too many"),
        ("a", files.clone(), 2, "taught already"),
        ("a\u{7}b", files.clone(), 2, "control character"),
        ("", files.clone(), 2, "no name"),
    ] {
        let ran = teach(&hark, name, &given, &[]);
        assert_eq!(ran.code, code, "{name:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{name:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    hark.run(&["teach", "b"]).check_code(2);
    assert_eq!(list(&hark), before);
    let replaced = teach(&hark, "a", &files, &["--replace", "--json"]);
    replaced.check_code(0);
    let record: Value = serde_json::from_str(replaced.stdout.trim()).unwrap();
    assert_eq!(record["kind"], "sound");
}

#[test]
fn examples_are_recorded_from_a_source_where_they_stand_out() {
    let hark = Hark::new();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut room =
        |len: usize| -> Vec<f32> { (0..len).map(|_| (rng.f32() - 0.5) * 0.004).collect() };
    let mut pcm = room(16_000);
    for seed in 0..3 {
        let mut rng = fastrand::Rng::with_seed(seed);
        pcm.extend(
            synth::render(Sound::Telephone, &mut rng, 1.0)
                .iter()
                .map(|x| x * 0.5),
        );
        pcm.extend(room(32_000));
    }
    let tape = hark.write("tape.wav", &wav::pcm16(16_000, 1, &pcm));
    let source = format!("file:{}", tape.display());
    let args = [
        "teach", "phone", "--record", "1.2", "--source", &source, "--json",
    ];
    let ran = hark.run(&args);
    ran.check_code(0);
    assert!(
        ran.stderr.contains("make the sound now: 3 of 3"),
        "{}",
        ran.stderr
    );
    assert_eq!(list(&hark)[0]["examples"].as_array().unwrap().len(), 3);
    let args = [
        "teach",
        "other",
        "--record",
        "1",
        "--examples",
        "5",
        "--source",
        &source,
    ];
    let ran = hark.run(&args);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("of 5 sounds"), "{}", ran.stderr);
}
