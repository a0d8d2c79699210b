//! The directory that training writes: a `ClapModel` like any published one, with a card.

use std::fmt::Write as _;
use std::path::Path;

use super::files;
use crate::models::ModelError;
use crate::models::layout::Layout;

/// What a directory holds beside the weights, as far as a base has it.
const FILES: [&str; 9] = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// The weights.
pub const WEIGHTS: &str = "model.safetensors";

/// Copies everything but the weights of a base.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_base(base: &Layout, out: &Path) -> Result<(), ModelError> {
    for name in FILES {
        let from = base.dir().join(name);
        match std::fs::read(&from) {
            Ok(bytes) => files::write(&out.join(name), &bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(ModelError::Read(format!("{}: {error}", from.display())));
            }
        }
    }
    Ok(())
}

/// What a card says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Card {
    /// What training began with.
    pub base: String,
    /// The data set, as it was named.
    pub data: String,
    /// Sounds, labels and texts of it.
    pub amounts: String,
    /// Labels that were kept out.
    pub held_out: Vec<String>,
    /// SPDX expressions of the clips with their number.
    pub licences: Vec<(String, usize)>,
    /// The command, and what every option came out as.
    pub recipe: Vec<(String, String)>,
    /// Figures, as lines of a table: what, value.
    pub figures: Vec<(String, String)>,
}

impl Card {
    /// `README.md`.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "---\nlibrary_name: transformers\npipeline_tag: zero-shot-audio-classification\ntags: [clap]\n---\n\n# CLAP trained with hark\n\n",
        );
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "A `ClapModel` for `hark score --model DIR` and for transformers, trained by `hark train --objective clap`.\n\n- Base: {}\n- Data: {}, {}",
            self.base, self.data, self.amounts
        );
        if !self.held_out.is_empty() {
            let _ = writeln!(
                text,
                "- Never heard in training: {}",
                self.held_out.join(", ")
            );
        }
        let licences: Vec<String> = self
            .licences
            .iter()
            .map(|(licence, clips)| match licence.as_str() {
                "" => format!("not stated ({clips} clips)"),
                licence => format!("{licence} ({clips})"),
            })
            .collect();
        let _ = writeln!(
            text,
            "- Licences of the clips: {}\n\n## Recipe\n\n| option | value |\n|---|---|",
            licences.join(", ")
        );
        for (option, value) in &self.recipe {
            let _ = writeln!(text, "| {option} | {value} |");
        }
        if !self.figures.is_empty() {
            text.push_str("\n## Figures\n\n| what | value |\n|---|---|\n");
        }
        for (what, value) in &self.figures {
            let _ = writeln!(text, "| {what} | {value} |");
        }
        text
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, out: &Path) -> Result<(), ModelError> {
        files::write(&out.join("README.md"), self.text().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_says_what_was_heard_and_what_not() {
        let card = Card {
            held_out: vec!["rooster".into()],
            licences: vec![("CC0-1.0".into(), 3), (String::new(), 1)],
            recipe: vec![("steps".into(), "10".into())],
            figures: vec![("R@1".into(), "0.5".into())],
            ..Card::default()
        };
        let text = card.text();
        for part in [
            "Never heard in training: rooster",
            "CC0-1.0 (3), not stated (1 clips)",
            "| steps | 10 |",
            "| R@1 | 0.5 |",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
