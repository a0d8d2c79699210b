//! What the values must satisfy beyond their types: ranges, contradictions, names.
//!
//! Pure, and without files: the loader adds file, line and column, and `detect` refuses to compile
//! a rule that fails here.

use std::sync::Arc;

use super::section::{Config, RuleConfig};
use super::suggest::nearest;
use crate::event::Kind;

/// Something wrong with the value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key at fault and those it contradicts: paths inward from where the search began, such
    /// as `["confirm", "hits"]`, items of lists by number.
    pub keys: Vec<Vec<String>>,
    /// What is wrong, and what to do, in one line.
    pub text: String,
}

impl Problem {
    /// A problem with the value at `key`.
    pub fn new<const N: usize>(key: [&str; N], text: impl Into<String>) -> Self {
        Problem {
            keys: vec![key.map(str::to_owned).to_vec()],
            text: text.into(),
        }
    }

    /// The same, where the value at `key` may as well be the wrong one.
    fn or<const N: usize>(mut self, key: [&str; N]) -> Self {
        self.keys.push(key.map(str::to_owned).to_vec());
        self
    }

    /// The same, seen from outside the section at `section`.
    pub fn within<const N: usize>(mut self, section: [&str; N]) -> Self {
        for key in &mut self.keys {
            key.splice(0..0, section.map(str::to_owned));
        }
        self
    }
}

/// A model that runs, as rules see it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownModel {
    /// What its labels are to rules: `Keyword` for words of single frames, `Event` for the sounds of
    /// a model on windows, `Prompt` and `Taught` for labels that come and go while it runs.
    pub kind: Kind,
    /// Its name in `status`.
    pub name: Arc<str>,
    /// Its labels in the order of its scores.
    pub labels: Arc<[Arc<str>]>,
    /// A label's own threshold, in the same order; empty where none has one. Rules over every label
    /// use them, unless they give the label another.
    pub thresholds: Arc<[Option<f32>]>,
}

/// Observations that a confirmation can look back on: they are the bits of one word.
pub const MAX_CONFIRM: u32 = 64;
/// The longest smoothing, in seconds: longer than any word of the keyword model.
pub const MAX_SMOOTH_S: f64 = 1.0;

/// The values of `dbus.bus`.
const BUSES: [&str; 4] = ["auto", "session", "system", "none"];

impl Config {
    /// What is wrong with the values of all sections, in the order of the documentation.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for (at, source) in self.source.iter().enumerate() {
            if source.spec.trim().is_empty() {
                found.push(Problem::new(
                    ["source", &at.to_string()],
                    "the source has no spec; add one, such as spec = \"mic\"",
                ));
            }
        }
        window_problems(&mut found, ["event"], self.event.window_s, self.event.hop_s);
        for (at, model) in self.model.iter().enumerate() {
            let section = ["model", &at.to_string()];
            if model.name.trim().is_empty() {
                found.push(Problem::new(
                    section,
                    "the model has no name; add one, such as name = \"ast-audioset\"",
                ));
            }
            window_problems(&mut found, section, model.window_s, model.hop_s);
        }
        found.extend(self.prompt.problems());
        found.extend(self.taught.problems());
        let hold_s = self.content.hold_s;
        if !(0.0..=60.0).contains(&hold_s) {
            found.push(Problem::new(
                ["content", "hold_s"],
                format!("{hold_s} is out of range; use 0 to 60 seconds"),
            ));
        }
        for (at, rule) in self.rule.iter().enumerate() {
            let problems = rule.problems().into_iter();
            found.extend(problems.map(|problem| problem.within(["rule", &at.to_string()])));
        }
        if self
            .socket
            .path
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            found.push(Problem::new(
                ["socket", "path"],
                "the path is empty; name a file, or remove the key for the default",
            ));
        }
        if !BUSES.contains(&self.dbus.bus.as_str()) {
            let todo = match nearest(&self.dbus.bus, BUSES) {
                Some(bus) => format!("did you mean '{bus}'?"),
                None => format!("use one of {}", BUSES.join(", ")),
            };
            found.push(Problem::new(
                ["dbus", "bus"],
                format!("unknown bus '{}'; {todo}", self.dbus.bus),
            ));
        }
        found
    }
}

impl RuleConfig {
    /// What is wrong with the values of this rule, in the order of the documentation.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if self.name.trim().is_empty() {
            found.push(Problem::new(
                ["name"],
                "the rule has no name; add one, such as name = \"doorbell\"",
            ));
        }
        for (at, label) in self.labels.iter().enumerate() {
            let key = ["labels", &at.to_string()];
            if label.trim().is_empty() {
                found.push(Problem::new(
                    key,
                    "empty label; remove it, or write the name of a label",
                ));
            } else if !is_reportable(label) {
                found.push(Problem::new(
                    key,
                    format!("label '{label}' is never reported; remove it"),
                ));
            } else if self.labels[..at].contains(label) {
                found.push(Problem::new(
                    key,
                    format!("label '{label}' stands here twice; remove one"),
                ));
            }
        }
        self.single_problems(&mut found);
        let watched = self.watched();
        unit_range(&mut found, ["threshold"], self.threshold, f32::MIN_POSITIVE);
        for (label, threshold) in &self.thresholds {
            unit_range(
                &mut found,
                ["thresholds", label],
                *threshold,
                f32::MIN_POSITIVE,
            );
            if !watched.is_empty() && !watched.contains(label) {
                found.push(Problem::new(
                    ["thresholds", label],
                    format!("'{label}' is not among the labels of the rule; add it to labels, or remove its threshold"),
                ).or(["labels"]));
            }
        }
        if let Some(release) = self.release {
            unit_range(&mut found, ["release"], release, 0.0);
            if release > self.threshold {
                found.push(
                    Problem::new(
                        ["release"],
                        format!(
                            "release {release} is over the threshold {}; make it equal or lower",
                            self.threshold
                        ),
                    )
                    .or(["threshold"]),
                );
            }
        }
        let (hits, of) = (self.confirm.hits, self.confirm.of);
        if of == 0 || of > MAX_CONFIRM {
            found.push(Problem::new(
                ["confirm", "of"],
                format!("of = {of} is out of range; use 1 to {MAX_CONFIRM}"),
            ));
        } else if hits == 0 || hits > of {
            found.push(Problem::new(
                ["confirm", "hits"],
                format!("hits = {hits} does not fit of = {of}; use 1 to {of}"),
            ));
        }
        self.kind_problems(&mut found);
        if let Some(level) = self.min_level_db
            && !(-120.0..=0.0).contains(&level)
        {
            found.push(Problem::new(
                ["min_level_db"],
                format!("{level} is out of range; use -120 to 0 (dB relative to full scale)"),
            ));
        }
        for (at, label) in self.veto.iter().enumerate() {
            if watched.contains(label) {
                found.push(Problem::new(
                    ["veto", &at.to_string()],
                    format!("'{label}' would keep itself from starting; remove it from veto or from labels"),
                ).or(["labels"]));
            }
        }
        unit_range(
            &mut found,
            ["veto_threshold"],
            self.veto_threshold,
            f32::MIN_POSITIVE,
        );
        found
    }

    /// The labels that fire it: those of `labels`, or the one of `prompt` or `taught`; empty means
    /// every reportable label of the kind.
    pub fn watched(&self) -> Vec<String> {
        let one = match self.kind {
            Kind::Prompt => &self.prompt,
            Kind::Taught => &self.taught,
            _ => &None,
        };
        match one {
            Some(name) => vec![name.clone()],
            None => self.labels.clone(),
        }
    }

    /// `prompt` and `taught` name one label of their own kind of rule.
    fn single_problems(&self, found: &mut Vec<Problem>) {
        for (key, kind, named) in [
            ("prompt", Kind::Prompt, &self.prompt),
            ("taught", Kind::Taught, &self.taught),
        ] {
            let Some(name) = named else { continue };
            if self.kind != kind {
                let text = format!("{key} goes with kind = \"{key}\"; add that, or remove {key}");
                found.push(Problem::new([key], text).or(["kind"]));
            } else if !self.labels.is_empty() {
                let text = format!("{key} takes the place of labels; remove one of the two");
                found.push(Problem::new([key], text).or(["labels"]));
            } else if name.trim().is_empty() {
                found.push(Problem::new(
                    [key],
                    "the name is empty; write one, or remove the key",
                ));
            }
        }
    }

    /// Keys that work for the other kind of rule alone.
    fn kind_problems(&self, found: &mut Vec<Problem>) {
        if self.kind == Kind::Keyword {
            if self.hold.as_secs_f64() > 0.0 {
                found.push(Problem::new(
                    ["hold"],
                    "keywords have no duration to hold; remove it, or use refractory",
                ));
            }
            if let Some(smooth) = self.smooth
                && smooth.as_secs_f64() > MAX_SMOOTH_S
            {
                found.push(Problem::new(
                    ["smooth"],
                    format!("{smooth} is out of range; use 0 to {MAX_SMOOTH_S} s"),
                ));
            }
        } else {
            for (key, is_set) in [
                ("smooth", self.smooth.is_some()),
                ("lockout", self.lockout.is_some()),
            ] {
                if is_set {
                    found.push(Problem::new(
                        [key],
                        format!("{key} works on keyword rules alone; remove it, or use confirm"),
                    ));
                }
            }
        }
    }

    /// The models whose labels this rule may watch, in their order.
    pub fn candidates<'a>(&self, known: &'a [KnownModel]) -> impl Iterator<Item = &'a KnownModel> {
        let (kind, name) = (self.kind, self.model.clone());
        known.iter().filter(move |model| {
            model.kind == kind && name.as_ref().is_none_or(|name| **name == *model.name)
        })
    }

    /// What this rule names that the models which run do not have: a model, or labels. A kind that
    /// is missing from `known` is not looked at.
    pub fn label_problems(&self, known: &[KnownModel]) -> Vec<Problem> {
        let mut found = Vec::new();
        let is_known = |kind: Kind| known.iter().any(|model| model.kind == kind);
        // Prompts and taught sounds come and go while the daemon runs: a rule may wait for its own.
        let comes_and_goes = matches!(self.kind, Kind::Prompt | Kind::Taught);
        if is_known(self.kind) && !comes_and_goes {
            if let Some(name) = &self.model
                && self.candidates(known).next().is_none()
            {
                let names: Vec<&str> = known
                    .iter()
                    .filter(|model| model.kind == self.kind)
                    .map(|model| &*model.name)
                    .collect();
                let kind = self.kind;
                found.push(Problem::new(
                    ["model"],
                    format!(
                        "no model '{name}' runs for rules of kind {kind}; those that do: {}",
                        names.join(", ")
                    ),
                ));
                return found;
            }
            let own: Vec<&str> = self
                .candidates(known)
                .flat_map(|model| model.labels.iter().map(AsRef::as_ref))
                .collect();
            let names = || own.iter().copied();
            for (at, label) in self.labels.iter().enumerate() {
                unknown(&mut found, ["labels", &at.to_string()], label, names());
            }
            if self.labels.is_empty() {
                for label in self.thresholds.keys() {
                    unknown(&mut found, ["thresholds", label], label, names());
                }
            }
        }
        if is_known(Kind::Keyword) && is_known(Kind::Event) {
            let names = || {
                known
                    .iter()
                    .flat_map(|model| model.labels.iter().map(AsRef::as_ref))
            };
            for (at, label) in self.veto.iter().enumerate() {
                unknown(&mut found, ["veto", &at.to_string()], label, names());
            }
        }
        found
    }
}

/// Whether a label may fire a rule: those between underscores (`_unknown_`, `_silence_`) stand for
/// what is rejected.
pub fn is_reportable(label: &str) -> bool {
    !(label.len() > 1 && label.starts_with('_') && label.ends_with('_'))
}

/// Windows of a length that models take, without gaps between them.
pub(super) fn window_problems<const N: usize>(
    found: &mut Vec<Problem>,
    section: [&str; N],
    window_s: Option<f64>,
    hop_s: Option<f64>,
) {
    let at = |key: &str, text: String| Problem::new([key], text).within(section);
    if let Some(window_s) = window_s
        && !(0.1..=30.0).contains(&window_s)
    {
        found.push(at(
            "window_s",
            format!("{window_s} is out of range; use 0.1 to 30 seconds"),
        ));
    }
    let Some(hop_s) = hop_s else {
        return;
    };
    if !(0.05..=30.0).contains(&hop_s) {
        found.push(at(
            "hop_s",
            format!("{hop_s} is out of range; use 0.05 to 30 seconds"),
        ));
    } else if let Some(window_s) = window_s
        && hop_s > window_s
    {
        let text = format!(
            "hop_s = {hop_s} would leave out sound between windows of {window_s} s; use at most window_s"
        );
        found.push(
            Problem::new(["hop_s"], text)
                .or(["window_s"])
                .within(section),
        );
    }
}

fn unit_range<const N: usize>(found: &mut Vec<Problem>, key: [&str; N], value: f32, least: f32) {
    if !(least..=1.0).contains(&value) {
        let lower = if least > 0.0 { "over 0" } else { "0" };
        found.push(Problem::new(
            key,
            format!("{value} is out of range; use {lower} to 1"),
        ));
    }
}

fn unknown<'a, const N: usize>(
    found: &mut Vec<Problem>,
    key: [&str; N],
    label: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) {
    if names.clone().any(|name| name == label) {
        return;
    }
    let todo = match nearest(label, names.filter(|name| is_reportable(name))) {
        Some(name) => format!("did you mean '{name}'?"),
        None => "'hark models show' lists the labels".to_owned(),
    };
    found.push(Problem::new(
        key,
        format!("no model has the label '{label}'; {todo}"),
    ));
}
