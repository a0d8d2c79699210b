//! Holds the tree to the plan in `src/lib.rs`: floors, purity, and the rules of the house that a
//! program can check. It reads source text only; what the compiler or clippy can check is theirs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms by floor, lowest first, as the table in `src/lib.rs` has them.
const FLOORS: [&[&str]; 6] = [
    &["event", "clock", "command", "config"],
    &["audio", "features", "kernels", "nn", "detect"],
    &["models", "hub"],
    &["pipeline", "outputs", "train"],
    &["daemon"],
    &["cli"],
];

/// Rooms that their whole floor may use: the plain types of F0, the kernels below the layers,
/// the front end whose frames the layers take, and the hub whose cache holds the models.
const SHARED: [&str; 7] = [
    "event", "clock", "command", "config", "kernels", "features", "hub",
];

/// The longest a source file may be before it wants splitting.
const MAX_LINES: usize = 700;

struct SourceFile {
    /// Relative to the repository, for messages.
    path: String,
    /// Its folder, or its stem for a file directly in `src`.
    room: String,
    text: String,
}

impl SourceFile {
    /// The numbered lines of code that ship: without comments and without the modules of tests
    /// that stand at the end of a file.
    fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let end = lines
            .windows(2)
            .position(|pair| {
                pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
            })
            .unwrap_or(lines.len());
        (1..)
            .zip(lines)
            .take(end)
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The same with an import of several lines folded into its first.
    fn statements(&self) -> Vec<(usize, String)> {
        let mut folded: Vec<(usize, String)> = Vec::new();
        for (at, line) in self.shipped() {
            match folded.last_mut() {
                Some((_, open)) if open.starts_with("use ") && !open.contains(';') => {
                    open.push_str(line.trim());
                }
                _ => folded.push((at, line.trim().trim_start_matches("pub ").to_owned())),
            }
        }
        folded
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// The files that a module declares for its tests alone.
fn test_files(path: &Path, text: &str) -> Vec<PathBuf> {
    let dir = match path.file_stem() {
        Some(stem) if stem != "mod" && stem != "lib" => path.with_extension(""),
        _ => path.parent().unwrap().to_owned(),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "#[cfg(test)]")
        .filter_map(|pair| {
            let (visibility, name) = pair[1].split_once("mod ")?;
            let is_plain = visibility.is_empty() || visibility.starts_with("pub");
            is_plain.then_some(name)?.strip_suffix(';')
        })
        .map(|name| dir.join(format!("{name}.rs")))
        .collect()
}

/// Every file of the program; those that hold only tests are left out.
fn sources() -> Vec<SourceFile> {
    let src = root().join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    paths.sort();
    assert!(paths.len() > 20, "the tree was not found in {src:?}");
    let tests: Vec<PathBuf> = paths
        .iter()
        .flat_map(|path| test_files(path, &fs::read_to_string(path).unwrap()))
        .collect();
    // And those of their own folders.
    let is_of =
        |path: &Path, test: &PathBuf| path == test || path.starts_with(test.with_extension(""));
    paths.retain(|path| !tests.iter().any(|test| is_of(path, test)));
    paths
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&src).unwrap();
            let first = inside.components().next().unwrap().as_os_str();
            SourceFile {
                path: format!("src/{}", inside.display()),
                room: first.to_str().unwrap().trim_end_matches(".rs").to_owned(),
                text: fs::read_to_string(&path).unwrap(),
            }
        })
        .collect()
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms that a line names: `crate::audio::x`, `use crate::{audio, nn::y}`.
fn rooms_named(line: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut rooms = Vec::new();
    for (at, found) in line.match_indices("crate::") {
        let after = &line[at + found.len()..];
        let Some(list) = after.strip_prefix('{') else {
            rooms.push(word(after));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in list.chars().chain([',']) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth <= 0 => {
                    rooms.push(word(item.trim()));
                    item.clear();
                }
                _ if depth == 0 => item.push(c),
                _ => {}
            }
        }
    }
    rooms
}

/// Fails with all findings at once, so that one run shows everything there is to mend.
fn report(rule: &str, findings: Vec<String>) {
    assert!(
        findings.is_empty(),
        "{rule}:\n  {}\n",
        findings.join("\n  ")
    );
}

/// Says where a shipped line holds one of `words`, in the files that `within` picks.
fn forbid(rule: &str, words: &[&str], within: impl Fn(&SourceFile) -> bool) {
    let mut findings = Vec::new();
    for file in sources().iter().filter(|file| within(file)) {
        for (at, line) in file.shipped() {
            if let Some(found) = words.iter().find(|found| has_word(line, found)) {
                findings.push(format!("{}:{at}: {found}", file.path));
            }
        }
    }
    report(rule, findings);
}

/// Whether `text` stands in `line` with no identifier running on at its beginning.
fn has_word(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + text.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let open_start = text.starts_with(|c: char| !c.is_alphanumeric());
        let open_end = text.ends_with(|c: char| !c.is_alphanumeric());
        (open_start || !part(before)) && (open_end || !part(after))
    })
}

#[test]
fn the_reader_of_imports_reads_imports() {
    let check = |line: &str, expected: &[&str]| assert_eq!(rooms_named(line), expected, "{line}");
    check("use crate::audio::ring::PcmReader;", &["audio"]);
    check(
        "use crate::{audio, nn::{a, b}, event};",
        &["audio", "nn", "event"],
    );
    check(
        "let a: crate::event::Kind = crate::clock::X;",
        &["event", "clock"],
    );
    check("use super::Frontend;", &[]);
    let folded = SourceFile {
        path: String::new(),
        room: String::new(),
        text: "pub use crate::{\n    audio::{self, x},\n    nn,\n};\n".into(),
    };
    let statements = folded.statements();
    check(&statements[0].1, &["audio", "nn", ""]);
    assert!(has_word("unsafe {", "unsafe"));
    assert!(!has_word("unsafe_op_in_unsafe_fn", "unsafe"));
    assert!(has_word("x.unwrap()", ".unwrap()"));
    assert!(!has_word("dprintln!(x)", "println!("));
}

#[test]
fn no_file_imports_from_a_floor_above_it() {
    let mut findings = Vec::new();
    for file in &sources() {
        let Some(floor) = floor_of(&file.room) else {
            assert!(
                ["lib", "main"].contains(&file.room.as_str()),
                "{} is in no room of the house: add it to src/lib.rs and to this test",
                file.path
            );
            continue;
        };
        for (at, line) in file.statements() {
            for room in rooms_named(&line) {
                let Some(other) = floor_of(&room) else {
                    continue;
                };
                let sideways = other == floor && room != file.room;
                if other > floor || (sideways && !SHARED.contains(&room.as_str())) {
                    findings.push(format!(
                        "{}:{at}: {} (F{floor}) uses {room} (F{other})",
                        file.path, file.room
                    ));
                }
            }
        }
    }
    report("imports go to lower floors", findings);
}

#[test]
fn the_plan_names_every_room() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rooms: BTreeSet<_> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let planned: BTreeSet<_> = FLOORS
        .iter()
        .flat_map(|rooms| rooms.iter().copied())
        .collect();
    assert_eq!(
        rooms, planned,
        "the modules of src/lib.rs and the floors of this test"
    );
    for room in rooms {
        assert!(
            lib.contains(&format!("[`{room}`]")),
            "the table in src/lib.rs lacks {room}"
        );
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    let mut findings = Vec::new();
    for file in &sources() {
        if !file.text.starts_with("//! ") {
            findings.push(format!("{} does not open with //!", file.path));
        }
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            findings.push(format!("{} has {lines} lines, over {MAX_LINES}", file.path));
        }
    }
    report("files open with what they do and stay short", findings);
}

#[test]
fn unsafe_code_lives_in_the_kernels_alone() {
    forbid("unsafe outside src/kernels", &["unsafe"], |file| {
        file.room != "kernels"
    });
}

#[test]
fn nothing_is_left_half_done() {
    forbid(
        "half-done work",
        &["todo!(", "unimplemented!(", "dbg!("],
        |_| true,
    );
    let mut findings = Vec::new();
    for file in &sources() {
        for (at, line) in file.text.lines().enumerate() {
            if ["TODO", "FIXME", "XXX"]
                .iter()
                .any(|mark| has_word(line, mark))
            {
                findings.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    report("notes of half-done work", findings);
}

#[test]
fn results_go_through_the_writer_that_survives_a_closed_pipe() {
    forbid(
        "these panic when the reader of a pipe has gone",
        &["println!(", "print!(", "eprintln!(", "eprint!("],
        |_| true,
    );
}

#[test]
fn unwrap_is_for_tests() {
    forbid("unwrap outside tests", &[".unwrap()"], |_| true);
}

#[test]
fn decisions_are_pure() {
    forbid(
        "detect takes scores and sample indices, nothing else",
        &[
            "std::time",
            "std::thread",
            "std::fs",
            "std::io",
            "std::net",
            "std::env",
            "tokio",
            "crossbeam_channel",
        ],
        |file| file.room == "detect",
    );
}

#[test]
fn wall_time_comes_from_the_clock_alone() {
    forbid(
        "SystemTime::now outside src/clock.rs",
        &["SystemTime::now("],
        |file| file.room != "clock",
    );
}

#[test]
fn no_tensor_library_on_the_per_frame_path() {
    forbid(
        "tensors below or beside the pipeline",
        &["candle_core", "candle_nn"],
        |file| {
            [
                "audio", "features", "detect", "pipeline", "daemon", "outputs",
            ]
            .contains(&file.room.as_str())
        },
    );
}

#[test]
fn one_file_knows_the_sound_hosts() {
    let knowing: Vec<_> = sources()
        .iter()
        .filter(|file| file.shipped().any(|(_, line)| has_word(line, "cpal")))
        .map(|file| file.path.clone())
        .collect();
    assert!(knowing.len() <= 1, "cpal is used in {knowing:?}");
}

#[test]
fn anyhow_is_for_the_command_line() {
    forbid("anyhow outside the command line", &["anyhow"], |file| {
        !["cli", "main"].contains(&file.room.as_str())
    });
}

#[test]
fn wire_types_live_on_the_outer_floors() {
    // The layers and models also write what stands beside their weights.
    forbid("Serialize below F3", &["Serialize"], |file| {
        floor_of(&file.room).is_some_and(|floor| floor < 3)
            && !["nn", "models"].contains(&file.room.as_str())
    });
}

#[test]
fn one_room_reaches_for_the_network() {
    forbid(
        "no connection leaves this machine",
        &["TcpStream", "TcpListener", "UdpSocket", "ToSocketAddrs"],
        |_| true,
    );
    forbid("HTTP outside src/hub", &["ureq"], |file| file.room != "hub");
}

#[test]
fn downloads_happen_for_the_verb_that_asks_for_them_alone() {
    forbid(
        "only 'hark models' downloads",
        &[".pull(", ".fetch_file("],
        |file| file.room != "hub" && !file.path.starts_with("src/cli/models"),
    );
}

/// The verbs, from the file that dispatches them.
fn verbs() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/cli/mod.rs")).unwrap();
    let body = text.split("pub enum Verb {").nth(1).unwrap();
    body.lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| Some(line.trim().split_once('(')?.0.to_lowercase()))
        .filter(|verb| verb.chars().all(char::is_alphabetic))
        .collect()
}

#[test]
fn the_readme_names_every_verb_and_every_file_it_points_to_exists() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let verbs = verbs();
    assert!(verbs.len() >= 17, "{verbs:?}");
    let missing: Vec<_> = verbs
        .into_iter()
        .filter(|verb| !readme.contains(&format!("hark {verb}")))
        .collect();
    report("verbs that the README does not show", missing);
    let broken = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link.to_owned())
        .filter(|link| !link.contains("://") && !root().join(link).exists())
        .collect();
    report("links to files that are not there", broken);
}

#[test]
fn the_install_targets_and_what_they_install_go_together() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for file in [
        "systemd/hark.service",
        "systemd/org.harkd.Hark1.service",
        "config/default.toml",
    ] {
        assert!(root().join(file).is_file(), "{file}");
        assert!(makefile.contains(file), "{file} is not installed");
    }
    assert!(root().join("models/demo.flac").metadata().unwrap().len() < 400_000);
}
