//! `[prompt]` with its `[[prompt.label]]` entries, and `[taught]`: the sections, and the one place that
//! says what a prompt may look like.
//!
//! A prompt reaches the daemon through a configuration file, the socket, D-Bus, the command line or the
//! file that keeps what was added while it ran: all of them are held against [`PromptLabel::problems`]
//! and [`set_problems`], and nothing else decides.

use serde::Deserialize;

use super::validate::{Problem, is_reportable, window_problems};

/// The longest name of a prompt or taught sound, in characters: it is a label in every event.
pub const MAX_NAME_CHARS: usize = 100;
/// The longest phrase, in characters. Text towers read 77 (CLIP) to 512 (RoBERTa) tokens.
pub const MAX_PHRASE_CHARS: usize = 1000;
/// The most phrases of one prompt.
pub const MAX_PHRASES: usize = 64;
/// The most phrases of all prompts together: each is embedded once and kept.
pub const MAX_ALL_PHRASES: usize = 1000;
/// Characters of a text that an error shows.
const SHOWN_CHARS: usize = 40;

/// Label prompts: sounds that are named in plain words.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptConfig {
    /// Whether they are listened for at all.
    pub enabled: bool,
    /// Registry name or directory of a CLAP; empty means the first that is installed.
    pub model: String,
    /// Length of a window in seconds.
    pub window_s: f64,
    /// Distance between windows in seconds, at most the window.
    pub hop_s: f64,
    /// Whether windows are scored only while something is to be heard.
    pub gate: bool,
    /// Threshold of prompts without one of their own; `None`: that of the rule.
    pub threshold: Option<f32>,
    /// The prompts of the configuration.
    pub label: Vec<PromptLabel>,
}

impl Default for PromptConfig {
    fn default() -> Self {
        PromptConfig {
            enabled: true,
            model: String::new(),
            window_s: 10.0,
            hop_s: 2.0,
            gate: true,
            threshold: None,
            label: Vec::new(),
        }
    }
}

/// One prompt.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptLabel {
    /// Its name, unique: the label of its events.
    pub name: String,
    /// What it sounds like, in plain words; the mean of several phrases counts.
    pub phrases: Vec<String>,
    /// Score at or over which it counts; `None`: that of `[prompt]`, or of the rule.
    pub threshold: Option<f32>,
}

/// Sounds and words that were taught from examples.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaughtConfig {
    /// Whether they are listened for at all.
    pub enabled: bool,
    /// Whether windows are scored only while something is to be heard.
    pub gate: bool,
    /// False accepts an hour that a threshold is set for, where a sound is taught through the daemon.
    pub target_fa_per_hour: f64,
}

impl Default for TaughtConfig {
    fn default() -> Self {
        TaughtConfig {
            enabled: true,
            gate: true,
            target_fa_per_hour: 1.0,
        }
    }
}

impl PromptConfig {
    /// What is wrong with the section and its prompts.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let (window_s, hop_s) = (Some(self.window_s), Some(self.hop_s));
        window_problems(&mut found, ["prompt"], window_s, hop_s);
        if let Some(threshold) = self.threshold {
            let problem = threshold_problem(threshold);
            found.extend(problem.map(|problem| problem.within(["prompt"])));
        }
        for (at, label) in self.label.iter().enumerate() {
            let problems = label.problems().into_iter();
            found.extend(problems.map(|p| p.within(["prompt", "label", &at.to_string()])));
        }
        let in_all = set_problems(&self.label).map(|p| p.within(["prompt", "label"]));
        found.extend(in_all);
        found
    }
}

impl TaughtConfig {
    /// What is wrong with the section.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let target = self.target_fa_per_hour;
        if !(0.001..=1000.0).contains(&target) {
            found.push(Problem::new(
                ["taught", "target_fa_per_hour"],
                format!("{target} is out of range; use 0.001 to 1000 an hour"),
            ));
        }
        found
    }
}

impl PromptLabel {
    /// What is wrong with this prompt, by key.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if let Err(text) = check_name(&self.name, "prompt") {
            found.push(Problem::new(["name"], text));
        }
        if self.phrases.is_empty() {
            found.push(Problem::new(
                ["phrases"],
                "there are no phrases; write what it sounds like, such as [\"a kettle whistling\"]",
            ));
        }
        if self.phrases.len() > MAX_PHRASES {
            found.push(Problem::new(
                ["phrases"],
                format!(
                    "{} phrases are too many; a prompt has at most {MAX_PHRASES}",
                    self.phrases.len()
                ),
            ));
        }
        for (at, phrase) in self.phrases.iter().enumerate().take(MAX_PHRASES) {
            if let Err(text) = self.check_phrase(at, phrase) {
                found.push(Problem::new(["phrases", &at.to_string()], text));
            }
        }
        found.extend(self.threshold.and_then(threshold_problem));
        found
    }

    fn check_phrase(&self, at: usize, phrase: &str) -> Result<(), String> {
        if phrase.trim().is_empty() {
            return Err("the phrase is empty; write what it sounds like in plain words".into());
        }
        plain("the phrase", phrase)?;
        // Counted only as far as it matters: it may be as long as whoever sent it liked.
        if phrase.chars().nth(MAX_PHRASE_CHARS).is_some() {
            return Err(format!(
                "the phrase '{}' has over {MAX_PHRASE_CHARS} characters; say it shorter",
                brief(phrase)
            ));
        }
        if self.phrases[..at].contains(&phrase.to_owned()) {
            return Err(format!(
                "the phrase '{}' stands here twice; remove one",
                brief(phrase)
            ));
        }
        Ok(())
    }

    /// The first thing that is wrong with this prompt, in one line.
    ///
    /// # Errors
    /// With that line.
    pub fn check(&self) -> Result<(), String> {
        match self.problems().first() {
            None => Ok(()),
            Some(problem) => {
                let key = problem.keys.first().map(|key| key.join("."));
                Err(format!("{}: {}", key.unwrap_or_default(), problem.text))
            }
        }
    }
}

/// What is wrong with prompts that are fine one by one: too many phrases in all.
pub fn set_problems(labels: &[PromptLabel]) -> Option<Problem> {
    let all: usize = labels.iter().map(|label| label.phrases.len()).sum();
    (all > MAX_ALL_PHRASES).then(|| {
        Problem::new(
            [],
            format!(
                "{all} phrases are too many; all prompts together have at most {MAX_ALL_PHRASES}"
            ),
        )
    })
}

/// Whether `name` can be the label of a `what`, such as a prompt.
///
/// # Errors
/// When it is empty, too long, or would not stand in an event as it is.
pub fn check_name(name: &str, what: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err(format!(
            "the {what} has no name; add one, such as \"kettle\""
        ));
    }
    plain("the name", name)?;
    if name.trim() != name {
        return Err(format!(
            "the name '{}' begins or ends with a space; remove it",
            brief(name)
        ));
    }
    if name.chars().nth(MAX_NAME_CHARS).is_some() {
        return Err(format!(
            "the name '{}' has over {MAX_NAME_CHARS} characters; say it shorter",
            brief(name)
        ));
    }
    if !is_reportable(name) {
        return Err(format!(
            "'{name}' stands for what is rejected, as every name between underscores does; choose another"
        ));
    }
    Ok(())
}

/// Refuses control characters, which no phrase has and a terminal obeys.
fn plain(what: &str, text: &str) -> Result<(), String> {
    match text.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(c) => Err(format!(
            "{what} '{}' holds the control character {}; use plain words",
            brief(text),
            c.escape_default()
        )),
    }
}

/// The beginning of a text, as far as an error has room for it, without what a terminal would obey.
pub fn brief(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

fn threshold_problem(threshold: f32) -> Option<Problem> {
    let fits = threshold > 0.0 && threshold <= 1.0;
    (!fits).then(|| {
        Problem::new(
            ["threshold"],
            format!("{threshold} is out of range; use over 0 to 1"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(name: &str, phrases: &[&str], threshold: Option<f32>) -> PromptLabel {
        PromptLabel {
            name: name.to_owned(),
            phrases: phrases.iter().map(|phrase| (*phrase).to_owned()).collect(),
            threshold,
        }
    }

    #[test]
    fn what_is_no_prompt_is_refused_with_its_key_and_reason() {
        let check = |label: &PromptLabel, expected: &str| {
            let text = label.check().unwrap_err();
            assert!(text.starts_with(expected), "{text}");
            assert!(
                text.len() < 200 && !text.contains(['\n', '\u{1b}']),
                "{text:?}"
            );
        };
        let fine = prompt("kettle", &["a kettle whistling"], Some(1.0));
        assert_eq!(fine.check(), Ok(()));
        check(&prompt(" ", &["a"], None), "name: the prompt has no name");
        check(
            &prompt("a ", &["a"], None),
            "name: the name 'a ' begins or ends",
        );
        check(
            &prompt("_a_", &["a"], None),
            "name: '_a_' stands for what is",
        );
        check(
            &prompt("a\u{1b}[1m", &["a"], None),
            "name: the name 'a?[1m' holds",
        );
        check(
            &prompt(&"x".repeat(101), &["a"], None),
            "name: the name 'xxx",
        );
        check(&prompt("a", &[], None), "phrases: there are no phrases");
        check(
            &prompt("a", &["b", " \t"], None),
            "phrases.1: the phrase is empty",
        );
        check(
            &prompt("a", &["b\nc"], None),
            "phrases.0: the phrase 'b?c' holds the control",
        );
        check(
            &prompt("a", &["b", "b"], None),
            "phrases.1: the phrase 'b' stands here twice",
        );
        check(
            &prompt("a", &["b"], Some(0.0)),
            "threshold: 0 is out of range",
        );
        check(
            &prompt("a", &["b"], Some(f32::NAN)),
            "threshold: NaN is out of range",
        );
        let long = "ä".repeat(10 << 20);
        check(&prompt("a", &[&long], None), "phrases.0: the phrase 'ää");
        let most = "ä".repeat(MAX_PHRASE_CHARS);
        assert_eq!(prompt("a", &[&most], None).check(), Ok(()));
        let many: Vec<String> = (0..10_000).map(|n| format!("sound {n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(
            &prompt("a", &many, None),
            "phrases: 10000 phrases are too many",
        );
        assert_eq!(prompt("a", &many[..MAX_PHRASES], None).check(), Ok(()));
    }

    #[test]
    fn all_prompts_together_have_a_limit_too() {
        let phrases: Vec<String> = (0..50).map(|n| format!("sound {n}")).collect();
        let label = PromptLabel {
            name: "a".into(),
            phrases,
            threshold: None,
        };
        assert_eq!(set_problems(&vec![label.clone(); 20]), None);
        let problem = set_problems(&vec![label; 21]).unwrap();
        assert!(
            problem.text.starts_with("1050 phrases are too many"),
            "{}",
            problem.text
        );
    }
}
