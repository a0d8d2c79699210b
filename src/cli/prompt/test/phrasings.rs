//! The ways of saying a prompt that are tried.

use std::collections::HashSet;

use serde::Serialize;

use crate::config::prompt::brief;
use crate::models::prompt::sentences;

/// The place of the phrase in a template.
const PLACE: &str = "{}";

/// Where a phrasing comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A phrase as it stands.
    Phrase,
    /// A sentence that a keyword is expanded to.
    Sentence,
    /// A phrase in a template of the command line.
    Template,
}

/// One way of saying it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrasing {
    /// What the text tower is asked.
    pub text: String,
    /// The phrase that it is made of.
    pub phrase: String,
    /// How.
    pub form: Form,
}

/// Every way of saying `phrases`, each text once: as they stand, as sentences, and in `templates`.
pub fn phrasings(phrases: &[String], templates: &[String]) -> Vec<Phrasing> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for phrase in phrases {
        let as_it_stands = [(phrase.clone(), Form::Phrase)];
        let expanded = sentences(phrase)
            .into_iter()
            .map(|text| (text, Form::Sentence));
        let filled = templates
            .iter()
            .map(|template| (template.replacen(PLACE, phrase, 1), Form::Template));
        for (text, form) in as_it_stands.into_iter().chain(expanded).chain(filled) {
            if seen.insert(text.clone()) {
                found.push(Phrasing {
                    text,
                    phrase: phrase.clone(),
                    form,
                });
            }
        }
    }
    found
}

/// Says what is wrong with templates.
///
/// # Errors
/// When one has no place for the phrase, or two, or a control character.
pub fn check_templates(templates: &[String]) -> Result<(), String> {
    for template in templates {
        if template.chars().any(char::is_control) || template.matches(PLACE).count() != 1 {
            return Err(format!(
                "--template: expected a sentence with one {PLACE} for the phrase, got '{}'",
                brief(template)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_way_is_tried_once() {
        let texts: Vec<(String, Form)> = phrasings(
            &owned(&["dog bark", "A dog is barking."]),
            &owned(&["{}", "I hear {}"]),
        )
        .into_iter()
        .map(|one| (one.text, one.form))
        .collect();
        let expected = [
            ("dog bark", Form::Phrase),
            ("The sound of a dog barking.", Form::Sentence),
            ("A dog is barking.", Form::Sentence),
            ("This is a sound of a dog barking.", Form::Sentence),
            ("I hear dog bark", Form::Template),
            ("I hear A dog is barking.", Form::Template),
        ];
        assert_eq!(texts, expected.map(|(text, form)| (text.to_owned(), form)));
    }

    #[test]
    fn a_template_has_one_place() {
        assert_eq!(check_templates(&owned(&["{}", "the sound of {}"])), Ok(()));
        for wrong in ["a sound", "{} and {}", "{}\n"] {
            let error = check_templates(&owned(&[wrong])).unwrap_err();
            assert!(error.contains("one {}"), "{error}");
        }
    }
}
