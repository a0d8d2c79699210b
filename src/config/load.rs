//! Reads the layers of the configuration and merges them.
//!
//! Order, the later the stronger: built in < `/etc/hark/config.toml` <
//! `$XDG_CONFIG_HOME/hark/config.toml` < `config.d/*.toml` beside it, by name < `HARK_*`
//! environment < flags. `--config` takes the place of all files.
//!
//! - Tables merge key by key; a list replaces the list below it.
//! - `[[rule]]`, `[[model]]` and `[[prompt.label]]` entries merge with their namesake and are
//!   appended otherwise; `[[source]]` entries are appended, and `--source` replaces them all.
//! - `HARK_SECTION__KEY=value` sets `key` of `[section]`, as in `HARK_DBUS__BUS=none`. The value is
//!   TOML, or text where it is not. Names without `__` are none of ours (hooks see such names);
//!   rules, models, prompts and sources are lists and have no variables.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::calibrated;
use super::error::{ConfigError, Fault};
use super::origin::{Layers, Origins};
use super::paths::Paths;
use super::section::{Config, RuleConfig};
use super::validate::{KnownModel, Problem};
use crate::event::Kind;

/// The documented default, which is also the built-in layer.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// Larger files are no configuration.
const MAX_BYTES: u64 = 1 << 20;

/// Settings from the command line, the strongest layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: read this file and no other.
    pub config: Option<PathBuf>,
    /// `--source`: listen to this and nothing else.
    pub source: Option<String>,
    /// `--socket`: path of the socket.
    pub socket: Option<PathBuf>,
    /// `--bus`: which bus.
    pub bus: Option<String>,
}

/// A configuration that holds, and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The files that were read, the weakest first.
    pub files: Vec<PathBuf>,
    /// Every key that is set, defaults included.
    pub effective: toml::Table,
    layers: Layers,
    origins: Origins,
}

impl Loaded {
    /// Holds the labels of the rules in force against the labels of the models that run. A kind that is
    /// missing from `known` is not looked at. What the built-in rules name and no model has is no
    /// fault: whoever puts in another model has not written them.
    ///
    /// # Errors
    /// With every label that no model has, and the nearest that one has.
    pub fn validate_labels(&self, known: &[KnownModel]) -> Result<(), ConfigError> {
        // A veto may name a prompt of the configuration before anything listens for it.
        let prompts = KnownModel {
            kind: Kind::Prompt,
            name: "prompts".into(),
            labels: self
                .config
                .prompt
                .label
                .iter()
                .map(|label| label.name.as_str().into())
                .collect(),
            thresholds: Arc::default(),
        };
        let known = &[known, &[prompts]].concat()[..];
        let in_force = |(_, rule): &(usize, &RuleConfig)| rule.enabled;
        let rules = self.config.rule.iter().enumerate().filter(in_force);
        let problems: Vec<Problem> = rules
            .flat_map(|(at, rule)| {
                rule.label_problems(known)
                    .into_iter()
                    .map(move |problem| problem.within(["rule", &at.to_string()]))
            })
            .filter(|problem| !self.is_our_own(problem))
            .collect();
        ConfigError::from_faults(faults(&self.layers, &self.origins, &problems))
    }

    /// Whether what a problem is about was written by this program: its own rules, or a calibration.
    fn is_our_own(&self, problem: &Problem) -> bool {
        let offset = |key: &Vec<String>| self.origins.offset(key);
        let newest = problem.keys.iter().map(offset).max().unwrap_or(0);
        let layer = self.layers.at(newest);
        self.layers.is_weakest(newest)
            || layer.is_some_and(|layer| calibrated::is_named(&layer.name))
    }

    /// Where the value at `key` was written: `path:line:column`, or the name of a variable or flag.
    pub fn place_of<const N: usize>(&self, key: [&str; N]) -> String {
        let key = key.map(str::to_owned).to_vec();
        self.layers.place(self.origins.offset(&key))
    }

    /// The error of a value that other parts of the program do not accept, at the place of `key`.
    pub fn fault_at<const N: usize>(&self, key: [&str; N], text: impl Into<String>) -> ConfigError {
        let problem = Problem::new(key, text);
        ConfigError {
            faults: faults(&self.layers, &self.origins, [&problem]),
        }
    }
}

/// Reads the configuration of this process.
///
/// # Errors
/// With everything that is wrong with it, each with its place.
pub fn load(flags: &Flags) -> Result<Loaded, ConfigError> {
    // Names and values that are not UTF-8 cannot be meant for a TOML file.
    let vars = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_from(flags, &Paths::current(), vars)
}

/// Reads the configuration of this process as it would be if the file at `path` held `text`: a drop-in
/// of the usual place stands where its name puts it, any other file comes last.
///
/// # Errors
/// As [`load`].
pub fn load_with(flags: &Flags, path: &Path, text: &str) -> Result<Loaded, ConfigError> {
    let vars = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_layers(flags, &Paths::current(), vars, Some((path, text)))
}

/// Reads the configuration that the files at `paths` and the environment variables `vars` give.
///
/// # Errors
/// With everything that is wrong with it, each with its place.
pub fn load_from(
    flags: &Flags,
    paths: &Paths,
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    load_layers(flags, paths, vars, None)
}

fn load_layers(
    flags: &Flags,
    paths: &Paths,
    vars: impl IntoIterator<Item = (String, String)>,
    instead: Option<(&Path, &str)>,
) -> Result<Loaded, ConfigError> {
    let mut faults = Vec::new();
    let mut layers = Layers::default();
    layers.push_file("built-in configuration".to_owned(), DEFAULT_TOML);
    let files = read_files(flags, paths, instead, &mut layers, &mut faults);
    push_vars(vars, &mut layers);
    push_flags(flags, &mut layers);

    let mut merged = DeTable::new();
    for layer in layers.iter() {
        let mut table = match DeTable::parse(layer.shifted()) {
            Ok(table) => table,
            Err(error) => {
                faults.push(Fault::from_toml(layer, &error));
                continue;
            }
        };
        // Each layer by itself, so that no error hides behind a stronger layer.
        if let Err(error) = Config::deserialize(toml::Deserializer::from(table.clone())) {
            faults.push(Fault::from_toml(layer, &error));
            continue;
        }
        find_duplicates(&layers, table.get_ref(), &mut faults);
        if calibrated::is_named(&layer.name) {
            calibrated::prune(table.get_mut(), &merged);
        }
        if layer.name == FLAG_SOURCE {
            merged.remove("source");
        }
        merge(&mut merged, table.into_inner(), "");
    }
    ConfigError::from_faults(faults)?;

    let origins = Origins::of(&merged);
    let whole = || toml::Deserializer::from(Spanned::new(0..0, merged.clone()));
    let read = |error: toml::de::Error| {
        ConfigError::one(Fault::Value {
            place: layers.place(error.span().map_or(0, |span| span.start)),
            text: error.message().to_owned(),
        })
    };
    let config = Config::deserialize(whole()).map_err(read)?;
    let effective = toml::Table::deserialize(whole()).map_err(read)?;
    ConfigError::from_faults(self::faults(&layers, &origins, &config.problems()))?;
    Ok(Loaded {
        config,
        files,
        effective,
        layers,
        origins,
    })
}

fn read_files(
    flags: &Flags,
    paths: &Paths,
    instead: Option<(&Path, &str)>,
    layers: &mut Layers,
    faults: &mut Vec<Fault>,
) -> Vec<PathBuf> {
    let dir = paths.config.join("config.d");
    let mut candidates = match &flags.config {
        Some(file) => vec![file.clone()],
        None => {
            let mut files = vec![
                paths.system_config.clone(),
                paths.config.join("config.toml"),
            ];
            let mut drop_ins = drop_ins(&dir, faults);
            let other = instead.map(|(path, _)| path.to_path_buf());
            drop_ins.extend(other.filter(|path| path.parent() == Some(&dir)));
            drop_ins.sort();
            drop_ins.dedup();
            files.extend(drop_ins);
            files
        }
    };
    let last = instead.map(|(path, _)| path.to_path_buf());
    candidates.extend(last.filter(|path| !candidates.contains(path)));
    let mut read = Vec::new();
    for path in candidates {
        let text = match instead {
            Some((other, text)) if *other == *path => Ok(text.to_owned()),
            _ => read_text(&path),
        };
        match text {
            Ok(text) => {
                layers.push_file(path.display().to_string(), &text);
                read.push(path);
            }
            // A file that was not asked for by name may be missing.
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && flags.config.is_none() => {}
            Err(error) => faults.push(Fault::read(&path, &error)),
        }
    }
    read
}

/// The `*.toml` files of a directory by name; none where there is no such directory.
fn drop_ins(dir: &Path, faults: &mut Vec<Fault>) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            faults.push(Fault::read(dir, &error));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let mut limited = std::fs::File::open(path)?.take(MAX_BYTES + 1);
    limited.read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

const FLAG_SOURCE: &str = "--source";

fn push_flags(flags: &Flags, layers: &mut Layers) {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    if let Some(spec) = &flags.source {
        layers.push_words(
            FLAG_SOURCE.to_owned(),
            &format!("source = [{{ spec = {} }}]", quoted(spec)),
        );
    }
    if let Some(path) = &flags.socket {
        let path = quoted(&path.display().to_string());
        layers.push_words("--socket".to_owned(), &format!("socket.path = {path}"));
    }
    if let Some(bus) = &flags.bus {
        layers.push_words("--bus".to_owned(), &format!("dbus.bus = {}", quoted(bus)));
    }
}

fn push_vars(vars: impl IntoIterator<Item = (String, String)>, layers: &mut Layers) {
    let mut ours: Vec<(String, String)> = vars
        .into_iter()
        .filter(|(name, _)| name.starts_with("HARK_") && name.contains("__"))
        .collect();
    ours.sort();
    for (name, value) in ours {
        let key = name["HARK_".len()..].to_lowercase().replace("__", ".");
        let as_text = format!("{key} = {}", toml::Value::from(value.as_str()));
        // One value and nothing more, so that a line break cannot smuggle in other keys.
        let as_value = DeValue::parse(&value)
            .is_ok()
            .then(|| format!("{key} = {value}"))
            .filter(|text| toml::from_str::<Config>(text).is_ok());
        layers.push_words(name, as_value.as_deref().unwrap_or(&as_text));
    }
}

/// Lays `over` on `under`: see the head of this file.
fn merge<'a>(under: &mut DeTable<'a>, over: DeTable<'a>, section: &str) {
    for (key, value) in over {
        let name = key.get_ref().as_ref();
        let inner = match section {
            "" => name.to_owned(),
            section => format!("{section}.{name}"),
        };
        let is_list = matches!(inner.as_str(), "rule" | "model" | "source" | "prompt.label");
        let Some(slot) = under.get_mut(key.get_ref().as_ref()) else {
            under.insert(key, value);
            continue;
        };
        let span = value.span();
        match (slot.get_mut(), value.into_inner()) {
            (DeValue::Table(under), DeValue::Table(over)) => merge(under, over, &inner),
            (DeValue::Array(under), DeValue::Array(over)) if is_list => {
                for entry in over {
                    merge_entry(under, entry);
                }
            }
            (_, value) => *slot = Spanned::new(span, value),
        }
    }
}

/// Lays an entry of `[[rule]]`, `[[model]]` or `[[prompt.label]]` on its namesake, or appends it;
/// sources have no names.
fn merge_entry<'a>(under: &mut DeArray<'a>, entry: Spanned<DeValue<'a>>) {
    let name = entry_name(&entry);
    let twin = under
        .iter_mut()
        .find(|known| name.is_some() && entry_name(known) == name);
    let span = entry.span();
    match (twin.map(Spanned::get_mut), entry.into_inner()) {
        (Some(DeValue::Table(under)), DeValue::Table(over)) => merge(under, over, "entry"),
        (_, entry) => under.push(Spanned::new(span, entry)),
    }
}

fn entry_name(entry: &Spanned<DeValue<'_>>) -> Option<String> {
    let table = entry.get_ref().as_table()?;
    table.get("name")?.get_ref().as_str().map(str::to_owned)
}

/// Two rules, models or prompts of one name in one layer are a slip, not an override.
fn find_duplicates(layers: &Layers, table: &DeTable<'_>, faults: &mut Vec<Fault>) {
    let prompts = table
        .get("prompt")
        .and_then(|prompt| prompt.get_ref().as_table());
    let lists = [
        ("rule", table.get("rule")),
        ("model", table.get("model")),
        ("prompt", prompts.and_then(|prompt| prompt.get("label"))),
    ];
    for (list, entries) in lists {
        let Some(DeValue::Array(entries)) = entries.map(Spanned::get_ref) else {
            continue;
        };
        for (at, entry) in entries.iter().enumerate() {
            let Some(name) = entry_name(entry) else {
                continue;
            };
            let is_known = |earlier| entry_name(earlier).as_ref() == Some(&name);
            if entries[..at].iter().any(is_known) {
                let offset = entry
                    .get_ref()
                    .get("name")
                    .map_or(entry.span().start, |name| name.span().start);
                faults.push(Fault::Value {
                    place: layers.place(offset),
                    text: format!(
                        "another {list} of this file is called '{name}'; rename or remove one"
                    ),
                });
            }
        }
    }
}

/// The faults that problems amount to, in the order of the layers and their text.
fn faults<'a>(
    layers: &Layers,
    origins: &Origins,
    problems: impl IntoIterator<Item = &'a Problem>,
) -> Vec<Fault> {
    // Where two keys contradict each other, the one that was written last is the newcomer.
    let newest = |problem: &Problem| problem.keys.iter().map(|key| origins.offset(key)).max();
    let mut placed: Vec<(usize, &Problem)> = problems
        .into_iter()
        .map(|problem| (newest(problem).unwrap_or(0), problem))
        .collect();
    placed.sort_by_key(|(offset, _)| *offset);
    placed
        .into_iter()
        .map(|(offset, problem)| Fault::Value {
            place: layers.place(offset),
            text: problem.text.clone(),
        })
        .collect()
}
