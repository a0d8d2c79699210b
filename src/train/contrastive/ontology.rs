//! The ontology of AudioSet (Gemmeke et al., *Audio Set: An ontology and human-labeled dataset for audio
//! events*, 2017): names of sounds with a description and what they are kinds of.
//!
//! It knows no sound. A text tower that has read it has words for labels of which there are no clips.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::names::plain;
use crate::train::DataError;

/// The longest file that is read; the published one has 350 kB.
const MAX_BYTES: u64 = 16 << 20;
/// The most of a description that is kept, in characters: what a caption has.
const MAX_DESCRIPTION: usize = 160;
/// The most ancestors of a name, should a file go in circles; the published one has 6 levels.
const MAX_DEPTH: usize = 8;

#[derive(Debug, Deserialize)]
struct Entry {
    id: String,
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    child_ids: Vec<String>,
}

/// A kind of sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// Display name.
    pub name: String,
    /// The beginning of its description; empty where there is none.
    pub description: String,
    /// The kind above it, by its place; the first where it has several.
    parent: Option<usize>,
}

/// All kinds of sound.
#[derive(Debug, Clone, Default)]
pub struct Ontology {
    kinds: Vec<Kind>,
    by_name: HashMap<String, usize>,
}

impl Ontology {
    /// Reads `ontology.json` as it is published: a list of objects with `id`, `name`, `description` and
    /// `child_ids`.
    ///
    /// # Errors
    /// When it cannot be read or is something else.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let failed = |reason: String| DataError::Read {
            path: path.to_owned(),
            reason,
        };
        let bytes = std::fs::metadata(path)
            .map_err(|error| failed(error.to_string()))?
            .len();
        if bytes > MAX_BYTES {
            return Err(failed(format!(
                "expected at most {MAX_BYTES} bytes, got {bytes}"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let entries: Vec<Entry> = serde_json::from_str(&text).map_err(|error| {
            failed(format!(
                "expected AudioSet's ontology.json, a list of kinds with id and name: {error}"
            ))
        })?;
        Ok(Ontology::new(&entries))
    }

    fn new(entries: &[Entry]) -> Self {
        let by_id: HashMap<&str, usize> = entries
            .iter()
            .enumerate()
            .map(|(at, entry)| (entry.id.as_str(), at))
            .collect();
        let mut parents = vec![None; entries.len()];
        for (at, entry) in entries.iter().enumerate() {
            for child in &entry.child_ids {
                if let Some(&child) = by_id.get(child.as_str()) {
                    parents[child].get_or_insert(at);
                }
            }
        }
        let kinds: Vec<Kind> = entries
            .iter()
            .zip(parents)
            .map(|(entry, parent)| Kind {
                name: entry.name.clone(),
                description: beginning(&entry.description),
                parent,
            })
            .collect();
        let by_name = (0..kinds.len())
            .map(|at| (plain(&kinds[at].name), at))
            .collect();
        Ontology { kinds, by_name }
    }

    /// Every kind.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The kind of a name, however it is spelt.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&plain(name)).copied()
    }

    /// What a kind is a kind of, the nearest first.
    pub fn ancestors(&self, kind: usize) -> Vec<&str> {
        let mut above = Vec::new();
        let mut at = kind;
        while let Some(parent) = self.kinds[at].parent {
            if above.len() == MAX_DEPTH {
                break;
            }
            above.push(self.kinds[parent].name.as_str());
            at = parent;
        }
        above
    }
}

/// The first sentence of a description, or as many words of it as a caption has.
fn beginning(description: &str) -> String {
    let text = description.split_whitespace().collect::<Vec<_>>().join(" ");
    let first = match text.find(". ") {
        Some(end) => &text[..=end],
        None => &text,
    };
    if first.chars().count() <= MAX_DESCRIPTION {
        return first.to_owned();
    }
    let end = first
        .char_indices()
        .nth(MAX_DESCRIPTION)
        .map_or(first.len(), |(end, _)| end);
    let cut = first[..end].rfind(' ').unwrap_or(end);
    first[..cut].trim_end_matches([',', ';']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"[
        {"id":"/m/1","name":"Animal","description":"All sound of beasts. They are many.","child_ids":["/m/2"]},
        {"id":"/m/2","name":"Dog","description":"","child_ids":["/m/3","/m/9"]},
        {"id":"/m/3","name":"Bark","citation_uri":"x","child_ids":["/m/2"]}]"#;

    #[test]
    fn a_kind_knows_what_it_is_a_kind_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ontology.json");
        std::fs::write(&path, SMALL).unwrap();
        let ontology = Ontology::read(&path).unwrap();
        let dog = ontology.find("DOG").unwrap();
        assert_eq!(ontology.ancestors(dog), ["Animal"]);
        assert_eq!(
            ontology.ancestors(ontology.find("bark").unwrap()),
            ["Dog", "Animal"]
        );
        assert_eq!(ontology.kinds()[0].description, "All sound of beasts.");
        std::fs::write(&path, "{}").unwrap();
        let error = Ontology::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("ontology.json: expected AudioSet's"),
            "{error}"
        );
    }

    #[test]
    fn a_description_is_cut_at_a_word() {
        let long = "word ".repeat(60);
        let cut = beginning(&long);
        assert!(
            cut.len() <= MAX_DESCRIPTION && cut.ends_with("word"),
            "{cut}"
        );
    }
}
