//! The file that a calibration writes: a `[[rule]]` with the thresholds of labels for each rule that it
//! has changed.
//!
//! Rules that a calibration does not touch keep their text, comments and all, so that several
//! calibrations and hands can share the file. Where the file counts is `config::calibrated`'s matter.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

/// The line that begins a rule.
const RULE: &str = "[[rule]]";

/// A file, read or new.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct File {
    /// What stands before the first rule.
    head: String,
    rules: Vec<Block>,
}

/// A rule and its text.
#[derive(Debug, Clone, PartialEq)]
struct Block {
    name: String,
    thresholds: BTreeMap<String, f64>,
    text: String,
}

/// A threshold to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The label.
    pub label: String,
    /// Its threshold.
    pub threshold: f32,
    /// The threshold before.
    pub was: f32,
}

impl File {
    /// Reads a file; an empty one where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is not made of rules; the text says what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |what: &dyn std::fmt::Display| format!("{what}; mend it, or remove it");
        match std::fs::read_to_string(path) {
            Ok(text) => File::parse(&text).map_err(|what| failed(&what)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(File::default()),
            Err(error) => Err(failed(&error)),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut file = File::default();
        let mut texts: Vec<String> = Vec::new();
        for line in text.lines() {
            if line.trim() == RULE {
                texts.push(String::new());
            }
            let part = texts.last_mut().unwrap_or(&mut file.head);
            part.push_str(line);
            part.push('\n');
        }
        for text in texts {
            file.rules.push(Block::parse(text)?);
        }
        Ok(file)
    }

    /// Whether it says nothing of any rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The names of its rules.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    /// Removes a rule; whether it was there.
    pub fn remove(&mut self, rule: &str) -> bool {
        let before = self.rules.len();
        self.rules.retain(|known| known.name != rule);
        self.rules.len() < before
    }

    /// Writes the thresholds of some labels of a rule; those of its other labels stay. `why` says in one
    /// line what they come from.
    pub fn set(&mut self, rule: &str, entries: &[Entry], why: &str) {
        let known = self.rules.iter_mut().find(|known| known.name == rule);
        let mut thresholds = match &known {
            Some(known) => known.thresholds.clone(),
            None => BTreeMap::new(),
        };
        for entry in entries {
            thresholds.insert(entry.label.clone(), rounded(entry.threshold));
        }
        let mut text = format!("{RULE}\nname = {}\n# {}\n", quoted(rule), plain(why));
        text.push_str("[rule.thresholds]\n");
        for (label, threshold) in &thresholds {
            // Into a String, which takes everything.
            let _ = write!(text, "{} = {threshold}", quoted(label));
            if let Some(entry) = entries.iter().find(|entry| entry.label == *label) {
                let _ = write!(text, "  # was {}", rounded(entry.was));
            }
            text.push('\n');
        }
        text.push('\n');
        let block = Block {
            name: rule.to_owned(),
            thresholds,
            text,
        };
        match known {
            Some(known) => *known = block,
            None => self.rules.push(block),
        }
    }

    /// Puts a heading in place of the last one; other text before the first rule stays.
    pub fn set_head(&mut self, lines: &[String]) {
        let is_comment = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
        if self.head.lines().all(is_comment) {
            self.head = lines
                .iter()
                .map(|line| format!("# {}\n", plain(line)))
                .chain(["\n".to_owned()])
                .collect();
        }
    }

    /// The whole text.
    pub fn text(&self) -> String {
        let rules = self.rules.iter().map(|rule| rule.text.as_str());
        std::iter::once(self.head.as_str()).chain(rules).collect()
    }
}

impl Block {
    fn parse(text: String) -> Result<Self, String> {
        let table: toml::Table = toml::from_str(&text).map_err(|error| error.to_string())?;
        let rule = table.get("rule").and_then(|rules| rules.get(0));
        let name = rule.and_then(|rule| rule.get("name")?.as_str());
        let thresholds = rule
            .and_then(|rule| rule.get("thresholds")?.as_table())
            .map(|table| {
                table
                    .iter()
                    .filter_map(|(label, value)| {
                        let whole = || value.as_integer().map(|n| n as f64);
                        Some((label.clone(), value.as_float().or_else(whole)?))
                    })
                    .collect()
            });
        Ok(Block {
            name: name.ok_or("a rule has no name")?.to_owned(),
            thresholds: thresholds.unwrap_or_default(),
            text,
        })
    }
}

/// As short as it can be read back: thresholds are steps of 0.01, or were written by somebody.
fn rounded(threshold: f32) -> f64 {
    (f64::from(threshold) * 1e4).round() / 1e4
}

/// Text as a key or value of TOML; JSON strings are basic strings.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One line of a comment.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(label: &str, threshold: f32, was: f32) -> Entry {
        Entry {
            label: label.into(),
            threshold,
            was,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut file = File::default();
        let odd = "Smoke \"detector\", \\ smoke\talarm\u{e9}";
        file.set(
            "home",
            &[entry("Knock", 0.83, 0.7), entry(odd, 0.9, 0.5)],
            "a\nb",
        );
        file.set_head(&["one".into(), "two".into()]);
        let text = file.text();
        assert_eq!(File::parse(&text).unwrap(), file);
        let table: toml::Table = toml::from_str(&text).unwrap();
        let thresholds = &table["rule"][0]["thresholds"];
        assert_eq!(thresholds["Knock"].as_float(), Some(0.83));
        assert_eq!(thresholds[odd].as_float(), Some(0.9));
        assert!(text.starts_with("# one\n# two\n\n[[rule]]\n"), "{text}");
        assert!(text.contains("\"Knock\" = 0.83  # was 0.7\n"), "{text}");
        assert!(text.contains("# a b\n"), "{text}");
    }

    #[test]
    fn every_step_is_read_back_as_the_same_number() {
        for step in 1_u8..=99 {
            let threshold = f32::from(step) / 100.0;
            let text = rounded(threshold).to_string();
            assert_eq!(text.parse::<f64>().unwrap() as f32, threshold, "{text}");
        }
    }

    #[test]
    fn what_is_not_touched_keeps_its_text() {
        let old = "# my own words\n\n[[rule]]\nname = 'a' # mine\nthreshold = 0.9\n\n\
                   [[rule]]\nname = \"b\"\nthresholds = { x = 0.5, y = 1 }\n";
        let mut file = File::parse(old).unwrap();
        assert_eq!(file.text(), old);
        assert_eq!(file.rules().collect::<Vec<_>>(), ["a", "b"]);
        file.set("b", &[entry("y", 0.7, 0.6)], "why");
        file.set_head(&["new".into()]);
        let text = file.text();
        assert!(
            text.starts_with("# new\n\n[[rule]]\nname = 'a' # mine\nthreshold = 0.9\n"),
            "{text}"
        );
        assert!(
            text.contains("\"x\" = 0.5\n\"y\" = 0.7  # was 0.6\n"),
            "{text}"
        );
        assert!(file.remove("a") && !file.remove("a"));
        assert_eq!(file.rules().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn other_settings_before_the_rules_stay() {
        let mut file = File::parse("[event]\nhop_s = 0.25\n[[rule]]\nname = 'a'\n").unwrap();
        file.set_head(&["new".into()]);
        assert!(
            file.text().starts_with("[event]\nhop_s = 0.25\n[[rule]]"),
            "{}",
            file.text()
        );
    }

    #[test]
    fn what_is_no_file_of_rules_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = File::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("[[rule]]\nlabels = []", "no name");
        check("[[rule]]\nname = ", "TOML");
    }
}
