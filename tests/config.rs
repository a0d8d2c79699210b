//! The configuration from files to faults, and `hark check`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use harkd::config::paths::Paths;
use harkd::config::{
    Config, ConfigError, Confirm, DEFAULT_TOML, Flags, KnownModel, Loaded, RuleConfig, Seconds,
    load_from,
};
use harkd::event::Kind;
use tempfile::TempDir;

/// A home of its own; the file for the whole machine is `system.toml` in it.
struct Home {
    dir: TempDir,
}

impl Home {
    fn new(files: &[(&str, &str)]) -> Self {
        let home = Home {
            dir: TempDir::new().unwrap(),
        };
        for (name, text) in files {
            let path = home.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self, flags: &Flags, vars: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let mut paths = Paths::new(self.dir.path(), None, |_| None);
        paths.system_config = self.path("system.toml");
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load_from(flags, &paths, vars)
    }
}

const USER: &str = ".config/hark/config.toml";

fn rule<'a>(config: &'a Config, name: &str) -> &'a RuleConfig {
    config.rule.iter().find(|rule| rule.name == name).unwrap()
}

#[test]
fn the_documented_default_is_the_built_in_one() {
    let documented = Home::new(&[]).load(&Flags::default(), &[]).unwrap().config;
    let empty = Config {
        rule: documented.rule.clone(),
        ..Config::default()
    };
    assert_eq!(documented, empty);
    // The first rule spells out what the others leave to the types.
    let default = RuleConfig::default();
    let words = rule(&documented, "words");
    assert_eq!(words.refractory, default.refractory);
    assert_eq!(words.veto_threshold, default.veto_threshold);
    assert_eq!((words.enabled, words.hold), (default.enabled, default.hold));
    for rule in documented.rule {
        let is_for_all = matches!(rule.kind, Kind::Prompt | Kind::Taught);
        assert!(
            rule.enabled && rule.labels.is_empty() == is_for_all,
            "{}",
            rule.name
        );
    }
}

#[test]
fn every_key_is_documented() {
    // The reader lists the keys it knows when it meets one that it does not.
    let known = |text: &str| -> Vec<String> {
        let error = toml::from_str::<Config>(text).unwrap_err();
        let message = error.message().to_owned();
        assert!(message.starts_with("unknown field `?`"), "{message}");
        message
            .split('`')
            .skip(3)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let mut sections = known("'?' = 1");
    sections.push("prompt.label".to_owned());
    for section in sections {
        let header = match section.as_str() {
            "source" | "model" | "rule" | "prompt.label" => format!("[[{section}]]"),
            _ => format!("[{section}]"),
        };
        let text: String = DEFAULT_TOML
            .split('\n')
            .map(|line| line.strip_prefix("# ").unwrap_or(line))
            .skip_while(|line| *line != header)
            .skip(1)
            .take_while(|line| !line.starts_with('['))
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(!text.is_empty(), "{header} is not in config/default.toml");
        for key in known(&format!("{header}\n'?' = 1")) {
            if (section.as_str(), key.as_str()) == ("prompt", "label") {
                // A section of its own.
                continue;
            }
            let assignment = format!("{key} = ");
            assert!(
                text.lines().any(|line| line.starts_with(&assignment)),
                "{header} {key} is not in config/default.toml"
            );
        }
    }
}

#[test]
fn later_layers_win_key_by_key() {
    let home = Home::new(&[
        (
            "system.toml",
            "[event]\nhop_s = 0.1\nwindow_s = 2\n[dbus]\nbus = 'system'",
        ),
        (USER, "event.hop_s = 0.2\ncontent.hold_s = 5"),
        (".config/hark/config.d/20-b.toml", "event.hop_s = 0.4"),
        (
            ".config/hark/config.d/10-a.toml",
            "event.hop_s = 0.3\nkeyword.enabled = false",
        ),
        (".config/hark/config.d/30-c.toml.off", "event.hop_s = 0.9"),
    ]);
    let loaded = home.load(&Flags::default(), &[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.event.window_s, Some(2.0));
    assert_eq!(config.event.hop_s, Some(0.4));
    assert_eq!(config.content.hold_s, 5.0);
    assert_eq!(config.dbus.bus, "system");
    assert!(!config.keyword.enabled);
    let names: Vec<_> = loaded
        .files
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["system.toml", "config.toml", "10-a.toml", "20-b.toml"]
    );

    let vars = [
        ("HARK_EVENT__HOP_S", "0.6"),
        ("HARK_DBUS__BUS", "none"),
        ("HARK_SOCKET__PATH", "/tmp/a \"b\""),
        ("HARK_KEYWORD__MODEL", "7"),
        ("HARK_LABEL", "a variable of a hook"),
        ("OTHER__KEY", "1"),
    ];
    let flags = Flags {
        bus: Some("session".to_owned()),
        ..Flags::default()
    };
    let config = home.load(&flags, &vars).unwrap().config;
    assert_eq!(config.event.hop_s, Some(0.6));
    assert_eq!(config.dbus.bus, "session");
    assert_eq!(
        config.socket.path.as_deref(),
        Some(Path::new("/tmp/a \"b\""))
    );
    assert_eq!(config.keyword.model, "7");

    let only = home.path("only.toml");
    std::fs::write(&only, "event.window_s = 3").unwrap();
    let flags = Flags {
        config: Some(only.clone()),
        ..Flags::default()
    };
    let loaded = home.load(&flags, &[]).unwrap();
    assert_eq!(
        (loaded.config.event.window_s, loaded.config.event.hop_s),
        (Some(3.0), None)
    );
    assert_eq!(loaded.files, [only]);
}

#[test]
fn rules_merge_by_name_and_sources_are_appended() {
    let home = Home::new(&[
        (
            "system.toml",
            "[[source]]\nspec = 'mic:desk'\n\
             [[rule]]\nname = 'mine'\nlabels = ['Dog', 'Cat']\nrefractory = '500ms'",
        ),
        (
            USER,
            "[[source]]\nspec = 'mic:door'\n\
             [[rule]]\nname = 'safety'\nthreshold = 0.25\nconfirm = { hits = 2, of = 3 }\n\
             [[rule]]\nname = 'mine'\nlabels = ['Dog']\nthresholds = { Dog = 0.3 }\n\
             [[rule]]\nname = 'body'\nenabled = false",
        ),
        (
            ".config/hark/config.d/a.toml",
            "[[rule]]\nname = 'safety'\nconfirm = { of = 5 }",
        ),
    ]);
    let config = home.load(&Flags::default(), &[]).unwrap().config;
    let built_in = Home::new(&[]).load(&Flags::default(), &[]).unwrap().config;

    let safety = rule(&config, "safety");
    assert_eq!(safety.threshold, 0.25);
    assert_eq!(safety.confirm, Confirm { hits: 2, of: 5 });
    assert_eq!(safety.labels, rule(&built_in, "safety").labels);
    assert_eq!(safety.hold, rule(&built_in, "safety").hold);
    let mine = rule(&config, "mine");
    assert_eq!(mine.labels, ["Dog"]);
    assert_eq!(mine.thresholds["Dog"], 0.3);
    assert_eq!(mine.refractory, Seconds::new(0.5).unwrap());
    assert!(!rule(&config, "body").enabled);
    assert_eq!(config.rule.len(), built_in.rule.len() + 1);

    let specs = |config: &Config| -> Vec<String> {
        config
            .source
            .iter()
            .map(|source| source.spec.clone())
            .collect()
    };
    assert_eq!(specs(&config), ["mic:desk", "mic:door"]);
    let flags = Flags {
        source: Some("file:a\"b.wav".to_owned()),
        ..Flags::default()
    };
    let config = home.load(&flags, &[]).unwrap().config;
    assert_eq!(specs(&config), ["file:a\"b.wav"]);
}

#[test]
fn faults_name_place_and_remedy() {
    let check = |text: &str, expected: &[&str]| {
        let home = Home::new(&[(USER, text)]);
        let error = home.load(&Flags::default(), &[]).expect_err(text);
        let file = home.path(USER).display().to_string();
        let got: Vec<String> = error
            .faults
            .iter()
            .map(|fault| {
                let line = fault.to_string();
                assert!(!line.contains('\n'), "{line}");
                line.strip_prefix(&file).unwrap_or(&line).to_owned()
            })
            .collect();
        assert_eq!(got, expected, "{text}");
    };
    check(
        "# ü\n[dbuss]\nbus = 'none'",
        &[":2:2: unknown key 'dbuss'; did you mean 'dbus'?"],
    );
    check(
        "[[rule]]\nname = 'safety'\ntreshold = 0.3",
        &[":3:1: unknown key 'treshold'; did you mean 'threshold'?"],
    );
    check(
        "dbus = { 'ü' = 1, bus = 'none' }",
        &[":1:10: unknown key 'ü'; the keys here are bus"],
    );
    check(
        "[event]\nhop_s = 'fast'",
        &[":2:9: found string \"fast\" here; write a number"],
    );
    check(
        "[[rule]]\nconfirm = { hits = -1, of = 2 }",
        &[":2:20: found integer `-1` here; write a whole number"],
    );
    check(
        "[rule]\nname = 'a'",
        &[":1:1: found a table here; write a list in [ ]"],
    );
    check(
        "[[rule]]\nname = 'a'\nkind = 'keywords'",
        &[":3:8: unknown kind 'keywords'; use 'keyword', 'event', 'prompt' or 'taught'"],
    );
    check(
        "[[rule]]\nname = 'a'\nkind = 'content'",
        &[":3:8: content changes need no rule; set them up in [content]"],
    );
    check(
        "[[rule]]\nname = 'a'\nrefractory = '2 weeks'",
        &[":3:14: unknown unit 'weeks' in '2 weeks': use ms, s, m or h, as in \"500ms\""],
    );
    check(
        "[[rule]]\nname = 'safety'\nthreshold = 1.5\nveto_threshold = 0",
        &[
            ":3:13: 1.5 is out of range; use over 0 to 1",
            ":4:18: 0 is out of range; use over 0 to 1",
        ],
    );
    check(
        "[[rule]]\nname = 'safety'\nthreshold = nan",
        &[":3:13: NaN is out of range; use over 0 to 1"],
    );
    check(
        "[[rule]]\nname = 'safety'\nrelease = 0.6",
        &[":3:11: release 0.6 is over the threshold 0.5; make it equal or lower"],
    );
    check(
        "[[rule]]\nname = 'safety'\nconfirm = { hits = 4, of = 3 }\n\
         [[rule]]\nname = 'body'\nconfirm = { of = 65 }",
        &[
            ":3:20: hits = 4 does not fit of = 3; use 1 to 3",
            ":6:18: of = 65 is out of range; use 1 to 64",
        ],
    );
    check(
        "[[rule]]\nname = 'a'\n[[rule]]\nname = 'b'\n[[rule]]\nname = 'a'",
        &[":6:8: another rule of this file is called 'a'; rename or remove one"],
    );
    check(
        "[[rule]]\nthreshold = 0.4",
        &[":1:1: the rule has no name; add one, such as name = \"doorbell\""],
    );
    check(
        "[[rule]]\nname = 'a'\nlabels = ['Dog', '', '_silence_', 'Dog']",
        &[
            ":3:18: empty label; remove it, or write the name of a label",
            ":3:22: label '_silence_' is never reported; remove it",
            ":3:35: label 'Dog' stands here twice; remove one",
        ],
    );
    check(
        "[[rule]]\nname = 'a'\nlabels = ['Dog']\nveto = ['Dog']\nthresholds = { Cat = 0.1 }",
        &[
            ":4:9: 'Dog' would keep itself from starting; remove it from veto or from labels",
            ":5:22: 'Cat' is not among the labels of the rule; add it to labels, or remove its threshold",
        ],
    );
    check(
        "[[rule]]\nname = 'a'\nsmooth = 1\n[[rule]]\nname = 'words'\nhold = 1\nmin_level_db = 3",
        &[
            ":3:10: smooth works on keyword rules alone; remove it, or use confirm",
            ":6:8: keywords have no duration to hold; remove it, or use refractory",
            ":7:16: 3 is out of range; use -120 to 0 (dB relative to full scale)",
        ],
    );
    check(
        "[event]\nwindow_s = 0.4\nhop_s = 0.5\n[content]\nhold_s = -1\n[socket]\npath = ''",
        &[
            ":3:9: hop_s = 0.5 would leave out sound between windows of 0.4 s; use at most window_s",
            ":5:10: -1 is out of range; use 0 to 60 seconds",
            ":7:8: the path is empty; name a file, or remove the key for the default",
        ],
    );
    check(
        "[[model]]\nname = 'a'\nhop_s = 0.5\nwindow_s = 31\n[[model]]\nwindow_s = 1\nhop_s = 2",
        &[
            ":4:12: 31 is out of range; use 0.1 to 30 seconds",
            ":5:1: the model has no name; add one, such as name = \"ast-audioset\"",
            ":7:9: hop_s = 2 would leave out sound between windows of 1 s; use at most window_s",
        ],
    );
    check(
        "[[model]]\nname = 'a'\n[[model]]\nname = 'a'\nwindows_s = 1",
        &[":5:1: unknown key 'windows_s'; did you mean 'window_s'?"],
    );
    check(
        "[[model]]\nname = 'a'\n[[model]]\nname = 'a'",
        &[":4:8: another model of this file is called 'a'; rename or remove one"],
    );
    check(
        "[dbus]\nbus = 'sessoin'\n[[source]]",
        &[
            ":2:7: unknown bus 'sessoin'; did you mean 'session'?",
            ":3:1: the source has no spec; add one, such as spec = \"mic\"",
        ],
    );
}

#[test]
fn syntax_errors_name_the_place() {
    for (text, place) in [
        ("[dbus\nbus = 'none'", ":1:6: "),
        ("[dbus]\nbus = none", ":2:7: "),
        ("[dbus]\nbus = 'none'\nbus = 'auto'", ":3:1: "),
        ("a = \"\0\"", ":1:6: "),
    ] {
        let home = Home::new(&[(USER, text)]);
        let error = home.load(&Flags::default(), &[]).expect_err(text);
        let line = error.faults[0].to_string();
        assert!(!line.contains('\n'), "{line}");
        let file = home.path(USER).display().to_string();
        assert!(line.starts_with(&(file + place)), "{line}");
    }
}

#[test]
fn every_layer_reports_its_own_faults() {
    let home = Home::new(&[
        ("system.toml", "[events]"),
        (USER, "keyword = 3"),
        (".config/hark/config.d/a.toml", "="),
    ]);
    let vars = [("HARK_DBUS__BAS", "none"), ("HARK_RULE__NAME", "a")];
    let flags = Flags {
        bus: Some("x".to_owned()),
        ..Flags::default()
    };
    let error = home.load(&flags, &vars).unwrap_err();
    let faults: Vec<String> = error.faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 5, "{faults:#?}");
    assert!(faults[0].contains("system.toml:1:2: unknown key 'events'"));
    assert!(faults[1].contains("config.toml:1:11: found integer"));
    assert!(faults[2].contains("config.d/a.toml:1:1: "));
    assert_eq!(
        faults[3],
        "HARK_DBUS__BAS: unknown key 'bas'; did you mean 'bus'?"
    );
    assert!(faults[4].starts_with("HARK_RULE__NAME: found"));
    assert!(
        error
            .to_string()
            .ends_with("(and 4 more: see 'hark check')")
    );

    let error = Home::new(&[]).load(&flags, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--bus: unknown bus 'x'; use one of auto, session, system, none"
    );
}

#[test]
fn files_that_cannot_be_read_are_faults() {
    let home = Home::new(&[("big.toml", &"#".repeat(2 << 20))]);
    std::fs::write(home.path("latin1.toml"), b"# \xfc\n").unwrap();
    let check = |path: PathBuf, part: &str| {
        let flags = Flags {
            config: Some(path.clone()),
            ..Flags::default()
        };
        let text = home.load(&flags, &[]).unwrap_err().to_string();
        let start = format!("{}: cannot be read: ", path.display());
        assert!(text.starts_with(&start) && text.contains(part), "{text}");
    };
    check(home.path("missing.toml"), "check the path");
    check(home.path("latin1.toml"), "UTF-8");
    check(home.path("big.toml"), "larger than 1 MiB");
    check(home.dir.path().to_path_buf(), "name a file in it");
    check(PathBuf::from("/dev/zero"), "larger than 1 MiB");
}

#[test]
fn labels_are_held_against_the_models() {
    let home = Home::new(&[(
        USER,
        "[[rule]]\nname = 'mine'\nlabels = ['Dog', 'smoke alarm']\nveto = ['Musik']\n\
         [[rule]]\nname = 'off'\nenabled = false\nlabels = ['Unicorn']",
    )]);
    let loaded = home.load(&Flags::default(), &[]).unwrap();
    let mut sounds: Vec<Arc<str>> = vec![Arc::from("Music")];
    let mut words: Vec<Arc<str>> = vec![Arc::from("_unknown_")];
    let built_in = Home::new(&[]).load(&Flags::default(), &[]).unwrap().config;
    for rule in &built_in.rule {
        let labels = if rule.kind == Kind::Event {
            &mut sounds
        } else {
            &mut words
        };
        labels.extend(rule.labels.iter().map(|label| Arc::from(label.as_str())));
    }
    let [sounds, words] = [(Kind::Event, sounds), (Kind::Keyword, words)].map(|(kind, labels)| {
        let name = kind.as_str().into();
        let labels = labels.into();
        KnownModel {
            kind,
            name,
            labels,
            thresholds: Arc::default(),
        }
    });
    let error = loaded
        .validate_labels(&[sounds.clone(), words.clone()])
        .unwrap_err();
    let file = home.path(USER).display().to_string();
    let faults: Vec<String> = error.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            format!(
                "{file}:3:18: no model has the label 'smoke alarm'; did you mean 'Smoke detector, smoke alarm'?"
            ),
            format!("{file}:4:9: no model has the label 'Musik'; did you mean 'Music'?"),
        ]
    );
    // Labels of a model that does not run are not looked at.
    loaded
        .validate_labels(std::slice::from_ref(&words))
        .unwrap();

    // With other models the built-in rules stay quiet, and a rule may name the model it watches.
    let other = KnownModel {
        name: "barks".into(),
        labels: [Arc::from("Dog"), Arc::from("Music")].into(),
        ..sounds.clone()
    };
    let check = |text: &str, expected: &[&str]| {
        let home = Home::new(&[(USER, text)]);
        let loaded = home.load(&Flags::default(), &[]).unwrap();
        let file = home.path(USER).display().to_string();
        let known = [words.clone(), other.clone()];
        let faults = match loaded.validate_labels(&known) {
            Ok(()) => Vec::new(),
            Err(error) => error.faults,
        };
        let got: Vec<String> = faults
            .iter()
            .map(|fault| fault.to_string().replace(&file, ""))
            .collect();
        assert_eq!(got, expected, "{text}");
    };
    check("", &[]);
    check(
        "[[rule]]\nname = 'a'\nmodel = 'barks'\nlabels = ['Dog']",
        &[],
    );
    check(
        "[[rule]]\nname = 'a'\nmodel = 'bark'\nlabels = ['Dog']",
        &[":3:9: no model 'bark' runs for rules of kind event; those that do: barks"],
    );
    check(
        "[[rule]]\nname = 'safety'\nlabels = ['Siren']",
        &[":3:11: no model has the label 'Siren'; 'hark models show' lists the labels"],
    );
}

#[test]
fn prompts_merge_by_name_and_their_faults_have_a_place() {
    let home = Home::new(&[
        (
            "system.toml",
            "[[prompt.label]]\nname = 'kettle'\nphrases = ['a kettle']\nthreshold = 0.4",
        ),
        (
            USER,
            "[prompt]\nhop_s = 1\n[[prompt.label]]\nname = 'kettle'\nphrases = ['steam']\n\
             [[prompt.label]]\nname = 'dog'\nphrases = ['a dog', 'a bark']\n\
             [[rule]]\nname = 'mine'\nkind = 'prompt'\nprompt = 'kettle'\nveto = ['dog']",
        ),
    ]);
    let loaded = home.load(&Flags::default(), &[]).unwrap();
    let prompts = &loaded.config.prompt.label;
    assert_eq!(prompts.len(), 2);
    assert_eq!(prompts[0].phrases, ["steam"]);
    assert_eq!(
        (prompts[0].threshold, prompts[1].threshold),
        (Some(0.4), None)
    );
    assert_eq!(rule(&loaded.config, "mine").watched(), ["kettle"]);
    let at = loaded.place_of(["prompt", "label", "1", "name"]);
    assert!(at.ends_with("config.toml:7:8"), "{at}");
    let none: Arc<[Arc<str>]> = Arc::new([]);
    let known = [Kind::Keyword, Kind::Event].map(|kind| KnownModel {
        kind,
        name: kind.as_str().into(),
        labels: none.clone(),
        thresholds: Arc::default(),
    });
    loaded.validate_labels(&known).unwrap();

    let check = |text: &str, expected: &[&str]| {
        let home = Home::new(&[(USER, text)]);
        let error = home.load(&Flags::default(), &[]).expect_err(text);
        let file = home.path(USER).display().to_string();
        let got: Vec<String> = error
            .faults
            .iter()
            .map(|fault| fault.to_string().replace(&file, ""))
            .collect();
        assert_eq!(got, expected, "{text}");
    };
    check(
        "[[prompt.label]]\nname = 'a'\nphrases = ['b', '']\n[[prompt.label]]\nname = 'a'\nphrases = ['c']",
        &[":5:8: another prompt of this file is called 'a'; rename or remove one"],
    );
    check(
        "[prompt]\nwindow_s = 40\nthreshold = 2\n[[prompt.label]]\nname = 'a'\nphrases = ['b', '']\nthreshold = 0",
        &[
            ":2:12: 40 is out of range; use 0.1 to 30 seconds",
            ":3:13: 2 is out of range; use over 0 to 1",
            ":6:17: the phrase is empty; write what it sounds like in plain words",
            ":7:13: 0 is out of range; use over 0 to 1",
        ],
    );
    check(
        "[taught]\ntarget_fa_per_hour = 0\n[[prompt.label]]\nphrase = 'b'",
        &[":4:1: unknown key 'phrase'; did you mean 'phrases'?"],
    );
    check(
        "[[rule]]\nname = 'a'\nprompt = 'b'\n[[rule]]\nname = 'c'\nkind = 'taught'\ntaught = 'd'\nlabels = ['e']",
        &[
            ":3:10: prompt goes with kind = \"prompt\"; add that, or remove prompt",
            ":8:10: taught takes the place of labels; remove one of the two",
        ],
    );
}

#[test]
fn models_merge_by_name() {
    let home = Home::new(&[
        (
            "system.toml",
            "[[model]]\nname = 'ast-audioset'\nwindow_s = 10\n[[model]]\nname = 'yamnet'",
        ),
        (
            USER,
            "[[model]]\nname = 'ast-audioset'\nhop_s = 2\n[[model]]\nname = 'yamnet'\nenabled = false",
        ),
    ]);
    let models = home.load(&Flags::default(), &[]).unwrap().config.model;
    assert_eq!(models.len(), 2);
    assert_eq!(
        (models[0].window_s, models[0].hop_s),
        (Some(10.0), Some(2.0))
    );
    assert!(models[0].enabled && !models[1].enabled);
}

#[test]
fn check_says_where_a_model_is_named_that_cannot_run() {
    let check = |text: &str, expected: &str| {
        let home = Home::new(&[(USER, text)]);
        let output = hark_check(&home, &[]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{told}");
        assert!(told.contains(expected), "{told}");
    };
    check(
        "[event]\nmodel = 'clap-unfused'",
        "config.toml:2:9: model 'clap-unfused' answers with embeddings",
    );
    check(
        "[[model]]\nname = 'ast-audioset'\n[[model]]\nname = 'clapp'",
        ":2:8: model 'ast-audioset' is not installed: fetch it with 'hark models pull ast-audioset'",
    );
    check(
        "[keyword]\nmodel = 'hark-event'",
        ":2:9: model 'hark-event' is run on windows",
    );
    check(
        "[[model]]\nname = 'hark-keyword'",
        ":2:8: model 'hark-keyword' is stepped on every frame",
    );
}

fn hark_check(home: &Home, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hark"));
    command.arg("check").args(arguments).env_clear();
    command.env("HOME", home.dir.path()).output().unwrap()
}

#[test]
fn check_prints_what_is_in_force() {
    let home = Home::new(&[(USER, "[dbus]\nbus = 'none'")]);
    let output = hark_check(&home, &[]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(home.path(USER).to_str().unwrap()), "{text}");
    assert!(text.contains("dbus     none\n"), "{text}");

    let output = hark_check(&home, &["--print"]);
    let printed: Config = toml::from_str(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    let loaded = home.load(&Flags::default(), &[]).unwrap();
    assert_eq!(printed, loaded.config);

    let output = hark_check(&home, &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], true);
    assert_eq!(json["config"]["dbus"]["bus"], "none");
}

#[test]
fn check_prints_every_fault_and_exits_with_three() {
    let home = Home::new(&[(USER, "[dbus]\nbus = 'x'\n[content]\nhold_s = 99")]);
    let output = hark_check(&home, &["--json"]);
    assert_eq!(output.status.code(), Some(3));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["errors"].as_array().unwrap().len(), 2);
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[1].starts_with("hark: ") && lines[1].contains(":4:10: 99 is out of range"));
    assert!(lines[0].starts_with("hark: ") && lines[0].contains(":2:7: unknown bus 'x'"));

    let output = hark_check(&home, &["--config", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
}
