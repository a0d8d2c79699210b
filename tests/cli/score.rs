//! `hark score` on the small random checkpoints of the golden tests: the numbers of the reference's
//! pipeline, and bad input of every kind.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::hark::{Hark, Ran};
use crate::wav;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(path)
}

fn fixture(case: &str) -> String {
    golden("fixtures").join(case).to_str().unwrap().to_owned()
}

fn sound(name: &str) -> String {
    golden("audio").join(name).to_str().unwrap().to_owned()
}

/// What the reference's pipeline gave: the prompts, and a tensor of the case.
fn expected(case: &str, key: &str) -> (Vec<String>, Vec<f32>) {
    let bytes = fs::read(golden("fixtures").join(case).join("expected.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let prompts = &header.metadata().as_ref().unwrap()["prompts"];
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(key).unwrap();
    let words = view.data().as_chunks::<4>().0;
    (
        serde_json::from_str(prompts).unwrap(),
        words.iter().copied().map(f32::from_le_bytes).collect(),
    )
}

fn score(hark: &Hark, model: &str, prompts: &[&str], more: &[&str]) -> Ran {
    let mut args = vec!["score", "--model", model];
    for prompt in prompts {
        args.extend(["--prompt", prompt]);
    }
    args.extend(more);
    hark.run(&args)
}

#[track_caller]
fn check_pipeline(case: &str, name: &str) {
    let (prompts, scores) = expected(case, &format!("scores/{name}"));
    let (_, similarities) = expected(case, &format!("similarity/{name}"));
    let hark = Hark::new();
    let (model, file) = (fixture(case), sound(name));
    let asked: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let more = ["--template", "{}", "--json", &file];
    let ran = score(&hark, &model, &asked, &more);
    ran.check(0);
    let windows = ran.windows();
    assert_eq!(windows.len(), 1, "{case} {name}");
    let record = &windows[0];
    assert_eq!(record["file"], file);
    assert_eq!(record["start_s"], 0.0);
    assert_eq!(record["model"], model);
    assert_eq!(record["task"], "prompt");
    let entries = record["scores"].as_array().unwrap();
    assert_eq!(entries.len(), prompts.len());
    for pair in entries.windows(2) {
        assert!(pair[0]["score"].as_f64() >= pair[1]["score"].as_f64());
    }
    for (prompt, (score, similarity)) in prompts.iter().zip(scores.iter().zip(&similarities)) {
        let entry = entries.iter().find(|entry| entry["label"] == **prompt);
        let entry = entry.unwrap_or_else(|| panic!("{prompt} is not among {entries:?}"));
        for (key, expected) in [("score", score), ("similarity", similarity)] {
            let off = (entry[key].as_f64().unwrap() - f64::from(*expected)).abs();
            assert!(off <= 1e-4, "{case} {name} {prompt}: {key} is off by {off}");
        }
    }
}

#[test]
fn score_gives_what_the_pipeline_of_the_reference_gives() {
    check_pipeline("clap-unfused", "words48k.flac");
    check_pipeline("clap-unfused", "alarm48k.flac");
    check_pipeline("clap-unfused-old", "words48k.flac");
    check_pipeline("clap-fused", "words48k.flac");
}

#[test]
fn a_single_prompt_gets_everything_until_the_background_competes() {
    let hark = Hark::new();
    let (model, file) = (fixture("clap-unfused"), sound("alarm48k.flac"));
    let of = |more: &[&str]| -> (f64, f64) {
        let ran = score(&hark, &model, &["a smoke alarm"], more);
        ran.check(0);
        let scores = ran.windows()[0]["scores"].clone();
        assert_eq!(scores.as_array().unwrap().len(), 1, "{scores}");
        assert_eq!(scores[0]["label"], "a smoke alarm");
        let number = |key: &str| scores[0][key].as_f64().unwrap();
        (number("score"), number("similarity"))
    };
    let (alone, similarity) = of(&["--json", &file]);
    assert_eq!(alone, 1.0);
    let (among, same) = of(&["--background", "--json", &file]);
    assert!(among > 0.0 && among < 0.5, "{among}");
    // More phrases in a batch add up in another order.
    assert!((similarity - same).abs() < 1e-6, "{similarity} {same}");
    let (_, bare) = of(&["--template", "{}", "--json", &file]);
    let both = ["--template", "{}", "--template", "This is a sound of {}."];
    let (_, averaged) = of(&[&both[..], &["--json", &file]].concat());
    assert!(bare != similarity && averaged != bare && averaged != similarity);
}

#[test]
fn keywords_become_sentences_where_it_is_asked_for() {
    let hark = Hark::new();
    let (model, file) = (fixture("clap-unfused"), sound("alarm48k.flac"));
    let similarity = |more: &[&str]| -> f64 {
        let ran = score(
            &hark,
            &model,
            &["dog bark"],
            &[more, &["--json", &file]].concat(),
        );
        ran.check(0);
        let similarity = &ran.windows()[0]["scores"][0]["similarity"];
        similarity.as_f64().unwrap()
    };
    let sentences = [
        "The sound of a dog barking.",
        "A dog is barking.",
        "This is a sound of a dog barking.",
    ];
    let ran = score(
        &hark,
        &model,
        &sentences,
        &["--template", "{}", "--json", &file],
    );
    let entries = ran.windows()[0]["scores"].clone();
    let cosines = entries.as_array().unwrap().iter();
    let (least, most) = cosines
        .map(|entry| entry["similarity"].as_f64().unwrap())
        .fold((1.0, -1.0), |(least, most): (f64, f64), cosine| {
            (least.min(cosine), most.max(cosine))
        });
    let expanded = similarity(&["--sentences"]);
    let bare = similarity(&[]);
    assert!(expanded != bare);
    // A mean at length 1 is at least as near as the least of them, and little nearer than the best.
    assert!(
        least <= expanded && expanded <= 1.5 * most,
        "{least} {expanded} {most}"
    );
    score(
        &hark,
        &model,
        &["dog"],
        &["--sentences", "--template", "{}", &file],
    )
    .check_error(2, "--sentences");
}

#[test]
fn a_long_file_is_cut_into_whole_windows() {
    let hark = Hark::new();
    let (model, file) = (fixture("clap-fused"), sound("sounds48k.flac"));
    let spans = |more: &[&str]| -> Vec<(f64, f64)> {
        let ran = score(&hark, &model, &["dog", "rain"], more);
        ran.check(0);
        let span = |window: &Value| {
            let at = |key: &str| window[key].as_f64().unwrap();
            (at("start_s"), at("end_s"))
        };
        ran.windows().iter().map(span).collect()
    };
    let whole = spans(&["--window", "60", "--json", &file]);
    let [(0.0, end_s)] = whole[..] else {
        panic!("{whole:?}");
    };
    assert!(end_s > 10.5 && end_s < 20.0, "{end_s}");
    assert_eq!(spans(&["--json", &file]), whole, "up to a minute is whole");
    assert_eq!(
        spans(&["--window", "10", "--json", &file]),
        [(0.0, 10.0), (end_s - 10.0, end_s)]
    );
    let short = spans(&["--window", "4", "--hop", "2", "--json", &file]);
    assert_eq!(short[..3], [(0.0, 4.0), (2.0, 6.0), (4.0, 8.0)]);
    assert_eq!(short.last().unwrap().1, end_s);
    let table = score(&hark, &model, &["dog", "rain"], &["--window", "10", &file]);
    table.check(0);
    assert!(table.stdout.contains("dog 0."), "{}", table.stdout);
    assert_eq!(table.stdout.lines().count(), 3, "{}", table.stdout);
}

#[test]
fn prompts_that_are_none_are_status_2() {
    let hark = Hark::new();
    let (model, file) = (fixture("clap-unfused"), sound("alarm48k.flac"));
    let check = |prompts: &[&str], more: &[&str], part: &str| {
        let more = [more, &[file.as_str()]].concat();
        score(&hark, &model, prompts, &more).check_error(2, part);
    };
    check(&[], &[], "--prompt");
    check(&[""], &[], "--prompt: expected a phrase");
    check(&["a\u{7}bell"], &[], "control character");
    check(&["dog", "dog"], &[], "'dog' twice");
    check(&["dog"], &["--template", "a sound"], "--template");
    check(&["dog"], &["--window", "0"], "--window");
    check(&["dog"], &["--hop", "2h"], "--hop");
    check(&["dog"], &["--prompt-file", "/nowhere"], "/nowhere");
    let long = "a dog that barks ".repeat(40);
    check(&["cat", &long], &[], "at most 64 tokens");
    let many: Vec<String> = (0..10_000).map(|n| format!("sound {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check(&many, &[], "at most 4096 phrases, got 10000");
    score(&hark, &model, &["dog"], &["-"]).check_error(2, "standard input");
    score(&hark, &model, &["dog"], &[]).check_error(2, "<FILE>");
    score(&hark, "hark-event", &["dog"], &[&file]).check_error(2, "hark-event");
}

#[test]
fn files_that_cannot_be_heard_are_told_and_the_others_go_on() {
    let hark = Hark::new();
    let good = hark.path("good.wav");
    fs::write(&good, wav::pcm16(16_000, 1, &crate::second())).unwrap();
    let text = hark.write("text.wav", b"no sound at all");
    let model = fixture("clap-unfused");
    let files = [
        "--json",
        text.to_str().unwrap(),
        "missing.wav",
        good.to_str().unwrap(),
    ];
    let ran = score(&hark, &model, &["dog"], &files);
    ran.check_code(4);
    assert_eq!(ran.windows().len(), 1, "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
}

/// A copy of a fixture that may be spoilt.
fn copy(hark: &Hark, case: &str) -> PathBuf {
    let to = hark.path(case);
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(golden("fixtures").join(case)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

/// Changes a JSON file of the model.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// The model, spoilt, must be refused with an error of status 5 that holds all of `parts`.
#[track_caller]
fn check_spoilt(case: &str, spoil: impl FnOnce(&Path), parts: &[&str]) {
    let hark = Hark::new();
    let model = copy(&hark, case);
    spoil(&model);
    let file = sound("alarm48k.flac");
    let ran = score(&hark, model.to_str().unwrap(), &["dog"], &[&file]);
    for part in parts {
        ran.check_error(5, part);
    }
    assert!(ran.stdout.is_empty(), "{}", ran.stdout);
}

#[track_caller]
fn check_config(pointer: &str, value: Value, parts: &[&str]) {
    let spoil = |model: &Path| {
        edit(&model.join("config.json"), |config| {
            let (object, key) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(object).unwrap()[key] = value;
        });
    };
    check_spoilt("clap-fused", spoil, &[parts, &["config.json"]].concat());
}

#[test]
fn configurations_that_make_no_network_are_refused() {
    check_config("/model_type", json!("bert"), &["expected \"clap\""]);
    check_config("/projection_dim", json!(0), &["projection_dim"]);
    check_config("/projection_hidden_act", json!("maxout"), &["maxout"]);
    for (key, value) in [
        ("spec_size", json!(0)),
        ("spec_size", json!(1_000_000_000)),
        ("spec_size", json!(128)),
        ("num_mel_bins", json!(0)),
        ("num_mel_bins", json!(60)),
        ("patch_size", json!(0)),
        ("patch_size", json!([4, 4000])),
        ("patch_stride", json!(0)),
        ("patch_stride", json!([4, 300])),
        ("depths", json!([])),
        ("depths", json!([1, 1, 1, 1, 1, 1, 1, 1, 1])),
        ("num_attention_heads", json!([2])),
        ("num_attention_heads", json!([3, 2, 4, 8])),
        ("num_attention_heads", json!([0, 2, 4, 8])),
        ("window_size", json!(0)),
        ("window_size", json!(9)),
        ("hidden_size", json!(63)),
        ("patch_embeds_hidden_size", json!(0)),
        ("mlp_ratio", json!(-1.0)),
        ("mlp_ratio", json!(1e300)),
        ("aff_block_r", json!(0)),
        ("hidden_act", json!("maxout")),
        ("fusion_type", json!("channel_map")),
        ("flatten_patch_embeds", json!(false)),
        ("patch_embed_input_channels", json!(3)),
        ("enable_fusion", json!(false)),
    ] {
        check_config(
            &format!("/audio_config/{key}"),
            value,
            &["audio_config.", key],
        );
    }
    for (key, value) in [
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(5)),
        ("vocab_size", json!(0)),
        ("max_position_embeddings", json!(2)),
        ("hidden_act", json!("maxout")),
    ] {
        check_config(
            &format!("/text_config/{key}"),
            value,
            &["text_config.", key],
        );
    }
    check_config("/audio_config", json!(7), &["audio_config"]);
    check_config("/text_config/hidden_size", json!("wide"), &["text_config"]);
}

#[test]
fn tensors_that_are_missing_or_misshapen_are_named() {
    let depths = json!([2, 2, 2, 1]);
    let missing = ["layers.0.blocks.1.", "no such tensor", "model.safetensors"];
    let spoil = |key: &'static str, value: Value| {
        move |model: &Path| {
            edit(&model.join("config.json"), |config| {
                *config.pointer_mut(key).unwrap() = value;
            });
        }
    };
    check_spoilt(
        "clap-fused",
        spoil("/audio_config/depths", depths),
        &missing,
    );
    for (key, value, part) in [
        ("/projection_dim", 25, "projection.linear1"),
        ("/text_config/vocab_size", 401, "word_embeddings.weight"),
        ("/text_config/intermediate_size", 49, "intermediate.dense"),
        ("/text_config/num_hidden_layers", 3, "layer.2."),
        ("/audio_config/aff_block_r", 2, "fusion_model.local_att.0"),
        (
            "/audio_config/window_size",
            8,
            "relative_position_bias_table",
        ),
    ] {
        let parts = [part, "expected shape", "model.safetensors"];
        check_spoilt("clap-fused", spoil(key, json!(value)), &parts);
    }
}

#[test]
fn tokenizers_that_are_none_are_refused() {
    let tokenizer =
        |change: fn(&mut Value)| move |model: &Path| edit(&model.join("tokenizer.json"), change);
    let file = "tokenizer.json";
    check_spoilt(
        "clap-unfused",
        |model| fs::remove_file(model.join(file)).unwrap(),
        &["expected tokenizer.json, or vocab.json"],
    );
    check_spoilt(
        "clap-unfused",
        |model| fs::write(model.join(file), "{\"model\"").unwrap(),
        &[file],
    );
    check_spoilt(
        "clap-unfused",
        tokenizer(|whole| whole["model"]["type"] = json!("Unigram")),
        &[file, "expected BPE, got Unigram"],
    );
    check_spoilt(
        "clap-unfused",
        tokenizer(|whole| whole["model"]["vocab"] = json!({"<s>": -1})),
        &[file, "model.vocab"],
    );
    check_spoilt(
        "clap-unfused",
        tokenizer(|whole| whole["model"]["vocab"] = json!({"a": 1})),
        &[file, "<s>"],
    );
    check_spoilt(
        "clap-unfused",
        tokenizer(|whole| whole["model"]["merges"] = json!([["a", "b", "c"]])),
        &[file, "model.merges"],
    );
    check_spoilt(
        "clap-unfused",
        tokenizer(|whole| whole["model"]["merges"] = json!(["no token"])),
        &[file],
    );
    check_spoilt(
        "clap-unfused",
        tokenizer(|whole| {
            for id in whole["model"]["vocab"]
                .as_object_mut()
                .unwrap()
                .values_mut()
            {
                *id = json!(4_000_000_000u32);
            }
        }),
        &["expected a number below 400"],
    );
    check_spoilt(
        "clap-unfused",
        |model| {
            edit(&model.join("tokenizer_config.json"), |config| {
                config["model_max_length"] = json!("long");
            });
        },
        &["tokenizer_config.json", "model_max_length"],
    );
    check_spoilt(
        "clap-unfused-old",
        |model| fs::remove_file(model.join("merges.txt")).unwrap(),
        &["merges.txt"],
    );
    check_spoilt(
        "clap-unfused-old",
        |model| fs::write(model.join("merges.txt"), "#version: 0.2\nth e\nlonely\n").unwrap(),
        &["merges.txt", "line 3"],
    );
}

#[test]
fn models_that_are_none_are_status_5() {
    let hark = Hark::new();
    let file = sound("alarm48k.flac");
    score(&hark, "clap-unfused", &["dog"], &[&file]).check_error(5, "hark models pull");
    score(&hark, "/nowhere/at/all", &["dog"], &[&file]).check_error(5, "/nowhere/at/all");
    score(&hark, hark.dir().to_str().unwrap(), &["dog"], &[&file]).check_error(5, "config.json");
    hark.run(&["score", "--prompt", "dog", &file])
        .check_error(5, "no CLAP is installed");
    check_spoilt(
        "clap-unfused",
        |model| {
            let weights = model.join("model.safetensors");
            let bytes = fs::read(&weights).unwrap();
            fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
        },
        &["model.safetensors"],
    );
    check_spoilt(
        "clap-unfused",
        |model| {
            edit(&model.join("processor_config.json"), |config| {
                config["feature_extractor"]["truncation"] = json!("fusion");
            });
        },
        &["enable_fusion"],
    );
    check_spoilt(
        "clap-unfused",
        |model| {
            edit(&model.join("processor_config.json"), |config| {
                config["feature_extractor"]["max_length_s"] = json!(20);
            });
        },
        &["spec_size", "2001"],
    );
}
