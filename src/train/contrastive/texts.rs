//! Texts that mean the same, without a sound: what a text tower can learn of labels that no clip has.

use fastrand::Rng;

use super::ontology::Ontology;
use crate::models::prompt::sentence::sentences;

/// A kind of sound in two ways of saying it.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    names: Vec<String>,
    descriptions: Vec<String>,
}

/// Pairs of texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextPairs(Vec<Said>);

impl TextPairs {
    /// What an ontology says: the sentences of a name on one side, its description and what it is a kind
    /// of on the other.
    pub fn of(ontology: &Ontology) -> Self {
        let said = ontology.kinds().iter().enumerate().map(|(at, kind)| {
            let mut descriptions = Vec::new();
            if !kind.description.is_empty() {
                descriptions.push(kind.description.clone());
            }
            let above: Vec<String> = ontology
                .ancestors(at)
                .iter()
                .map(|name| name.to_lowercase())
                .collect();
            if let Some(nearest) = above.first() {
                descriptions.push(format!("A kind of {nearest}."));
                descriptions.push(format!(
                    "{}: {}.",
                    kind.name.to_lowercase(),
                    above.join(", ")
                ));
            }
            Said {
                names: sentences(&kind.name),
                descriptions,
            }
        });
        let whole = |said: &Said| !said.names.is_empty() && !said.descriptions.is_empty();
        TextPairs(said.filter(whole).collect())
    }

    /// Keeps the texts that `holds` is true of, and the pairs that are still whole.
    pub fn retain_texts(&mut self, holds: impl Fn(&str) -> bool) {
        for said in &mut self.0 {
            said.names.retain(|text| holds(text));
            said.descriptions.retain(|text| holds(text));
        }
        self.0
            .retain(|said| !said.names.is_empty() && !said.descriptions.is_empty());
    }

    /// Every text.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .flat_map(|said| said.names.iter().chain(&said.descriptions))
            .map(String::as_str)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Draws `size` different kinds, a name and a description of each.
    pub fn draw(&self, size: usize, rng: &mut Rng) -> (Vec<String>, Vec<String>) {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        rng.shuffle(&mut order);
        let mut pick = |texts: &[String]| texts[rng.usize(0..texts.len())].clone();
        order
            .into_iter()
            .take(size)
            .map(|at| (pick(&self.0[at].names), pick(&self.0[at].descriptions)))
            .unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_beside_what_they_are_kinds_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.json");
        let text = r#"[{"id":"1","name":"Animal","child_ids":["2"]},{"id":"2","name":"Dog","description":"A canid."}]"#;
        std::fs::write(&path, text).unwrap();
        let mut texts = TextPairs::of(&Ontology::read(&path).unwrap());
        // Of animals nothing is said.
        assert_eq!(texts.len(), 1);
        let all: Vec<&str> = texts.all().collect();
        assert!(
            all.contains(&"A canid.") && all.contains(&"A kind of animal."),
            "{all:?}"
        );
        let (names, descriptions) = texts.draw(5, &mut Rng::with_seed(1));
        assert_eq!((names.len(), descriptions.len()), (1, 1));
        texts.retain_texts(|text| text.contains("dog is barking"));
        assert!(texts.is_empty());
    }
}
