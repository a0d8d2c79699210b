//! What `hark score` asks the text tower: prompts and background in templates, or as sentences.

use std::collections::HashSet;
use std::fmt;
use std::io::{IsTerminal, stderr};
use std::path::Path;

use indicatif::ProgressBar;

use crate::cli::UsageError;
use crate::models::ModelError;
use crate::models::clap::{ClapText, mean_embedding};
use crate::models::prompt::{background, sentences};

/// The template of the zero-shot-audio-classification pipeline of transformers.
const TEMPLATE: &str = "This is a sound of {}.";
/// The place of the prompt in a template.
const PLACE: &str = "{}";
/// The most phrases, prompts times templates, that are embedded: some minutes of a full text tower.
const MAX_PHRASES: usize = 4096;
/// The longest file of prompts that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Fewer phrases than this need no bar.
const MANY: usize = 100;

/// What becomes of a phrase before it is embedded; several texts are averaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forms {
    /// It is put into each of these.
    Templates(Vec<String>),
    /// A keyword is expanded to sentences, a sentence is itself.
    Sentences,
}

impl Forms {
    /// What the command line asks for; without templates, that of the reference.
    pub fn of(templates: &[String], sentences: bool) -> Self {
        match (sentences, templates) {
            (true, _) => Forms::Sentences,
            (false, []) => Forms::Templates(vec![TEMPLATE.to_owned()]),
            (false, given) => Forms::Templates(given.to_vec()),
        }
    }

    fn check(&self) -> Result<(), UsageError> {
        let Forms::Templates(templates) = self else {
            return Ok(());
        };
        for template in templates {
            plain("--template", template)?;
            if template.matches(PLACE).count() != 1 {
                return Err(UsageError(format!(
                    "--template: expected a sentence with one {PLACE} for the prompt, got '{}'",
                    brief(template)
                )));
            }
        }
        Ok(())
    }

    /// The texts that stand for a phrase.
    fn texts(&self, phrase: &str) -> Vec<String> {
        match self {
            Forms::Templates(templates) => {
                let filled = templates
                    .iter()
                    .map(|template| template.replacen(PLACE, phrase, 1));
                filled.collect()
            }
            Forms::Sentences => sentences(phrase),
        }
    }
}

impl fmt::Display for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Forms::Templates(templates) => write!(f, "in {} templates", templates.len()),
            Forms::Sentences => write!(f, "as sentences"),
        }
    }
}

/// Prompts, what becomes of them, and the background, checked.
#[derive(Debug)]
pub struct Phrases {
    prompts: Vec<String>,
    forms: Forms,
    background: bool,
}

impl Phrases {
    /// Takes what was given on the command line.
    ///
    /// # Errors
    /// When there are no prompts or too many, one is empty, given twice or holds control characters,
    /// or a template has no place for a prompt.
    pub fn new(
        prompts: &[String],
        file: Option<&Path>,
        forms: Forms,
        background: bool,
    ) -> Result<Self, UsageError> {
        let mut prompts = prompts.to_vec();
        if let Some(file) = file {
            prompts.extend(read(file)?);
        }
        if prompts.is_empty() {
            return Err(UsageError(
                "expected at least one --prompt, got none: say in plain words what may be heard"
                    .into(),
            ));
        }
        let mut seen = HashSet::new();
        for prompt in &prompts {
            if prompt.trim().is_empty() {
                return Err(UsageError("--prompt: expected a phrase, got none".into()));
            }
            plain("--prompt", prompt)?;
            if !seen.insert(prompt) {
                return Err(UsageError(format!(
                    "--prompt: expected each phrase once, got '{}' twice",
                    brief(prompt)
                )));
            }
        }
        forms.check()?;
        let phrases = Phrases {
            prompts,
            forms,
            background,
        };
        let count: usize = match &phrases.forms {
            Forms::Templates(templates) => {
                let labels = phrases.labels().count();
                labels.saturating_mul(templates.len())
            }
            Forms::Sentences => phrases.labels().map(|label| sentences(label).len()).sum(),
        };
        if count > MAX_PHRASES {
            let behind = if background {
                " and the background"
            } else {
                ""
            };
            return Err(UsageError(format!(
                "expected at most {MAX_PHRASES} phrases, got {count}: {} prompts{behind} {}",
                phrases.prompts.len(),
                phrases.forms
            )));
        }
        Ok(phrases)
    }

    /// The prompts as they were given.
    pub fn prompts(&self) -> &[String] {
        &self.prompts
    }

    /// The prompts, then the background.
    fn labels(&self) -> impl Iterator<Item = &str> {
        let background: &[&str] = match self.background {
            true => background(),
            false => &[],
        };
        let prompts = self.prompts.iter().map(String::as_str);
        prompts.chain(background.iter().copied())
    }

    /// One embedding for each prompt, then for each phrase of the background: the mean over its texts, of
    /// length 1.
    ///
    /// # Errors
    /// When a phrase is too long for the tower, or the tower fails.
    pub fn embed(&self, text: &ClapText) -> anyhow::Result<Vec<Vec<f32>>> {
        let mut texts = Vec::new();
        let mut counts = Vec::new();
        for label in self.labels() {
            let forms = self.forms.texts(label);
            for form in &forms {
                text.tokenizer()
                    .encode(form)
                    .map_err(|error| UsageError(format!("--prompt '{}': {error}", brief(label))))?;
            }
            counts.push(forms.len());
            texts.extend(forms);
        }
        let bar = match texts.len() >= MANY && stderr().is_terminal() {
            true => ProgressBar::new(texts.len() as u64),
            false => ProgressBar::hidden(),
        };
        let embeddings = text.embed_all(&texts, &mut |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        let mut embeddings = embeddings?.into_iter();
        let embeddings: Vec<Vec<f32>> = counts
            .into_iter()
            .map(|count| mean_embedding(&embeddings.by_ref().take(count).collect::<Vec<_>>()))
            .collect();
        let is_number = |value: &f32| value.is_finite();
        if !embeddings.iter().flatten().all(is_number) {
            return Err(ModelError::Format(
                "expected numbers from the text tower, got none: its weights are damaged".into(),
            )
            .into());
        }
        Ok(embeddings)
    }
}

/// Refuses control characters, which no phrase has and a terminal obeys.
fn plain(what: &str, text: &str) -> Result<(), UsageError> {
    match text.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(c) => Err(UsageError(format!(
            "{what}: expected plain words, got the control character {} in '{}'",
            c.escape_default(),
            brief(text)
        ))),
    }
}

/// The beginning of a phrase, as far as an error has room for it.
fn brief(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn read(file: &Path) -> Result<Vec<String>, UsageError> {
    let failed = |what: String| UsageError(format!("--prompt-file {}: {what}", file.display()));
    let bytes = std::fs::metadata(file)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if bytes > MAX_FILE_BYTES {
        return Err(failed(format!(
            "expected at most {MAX_FILE_BYTES} bytes, got {bytes}"
        )));
    }
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let prompts: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    match prompts.is_empty() {
        true => Err(failed("expected a prompt a line, got none".to_owned())),
        false => Ok(prompts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prompts: &[&str], templates: &[&str], expected: &str) {
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.to_string())
                .collect::<Vec<_>>()
        };
        let error = Phrases::new(
            &owned(prompts),
            None,
            Forms::of(&owned(templates), false),
            true,
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains(expected), "{error}");
    }

    fn templates() -> Forms {
        Forms::of(&[], false)
    }

    #[test]
    fn a_phrase_goes_into_the_template_of_the_reference_unless_asked_otherwise() {
        assert_eq!(
            templates().texts("dog bark"),
            ["This is a sound of dog bark."]
        );
        let given = Forms::of(&["{}".to_owned(), "a {}".to_owned()], false);
        assert_eq!(given.texts("dog"), ["dog", "a dog"]);
        let expanded = Forms::of(&[], true).texts("dog bark");
        assert_eq!(expanded[0], "The sound of a dog barking.");
        assert!(expanded.len() > 1);
    }

    #[test]
    fn what_is_no_phrase_is_refused_with_its_reason() {
        check(&[], &[], "at least one --prompt");
        check(&["a dog", "  "], &[], "--prompt: expected a phrase");
        check(&["a\u{1b}[31mdog"], &[], "control character \\u{1b}");
        check(&["a dog", "a dog"], &[], "'a dog' twice");
        check(&["a dog"], &["a sound"], "one {}");
        check(&["a dog"], &["{} and {}"], "one {}");
        check(&["a dog"], &["{}\n"], "--template: expected plain words");
        let many: Vec<String> = (0..MAX_PHRASES).map(|n| format!("sound {n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, &[], "at most 4096 phrases, got 4226");
        check(&many[..2000], &["{}", "a {}", "the {}"], "in 3 templates");
    }

    #[test]
    fn prompts_come_from_lines_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prompts.txt");
        std::fs::write(&file, "# sounds\n a dog \n\nglass breaking\r\n").unwrap();
        let phrases = Phrases::new(&["rain".to_owned()], Some(&file), templates(), false).unwrap();
        assert_eq!(phrases.prompts(), ["rain", "a dog", "glass breaking"]);
        std::fs::write(&file, "#\n").unwrap();
        let error = Phrases::new(&[], Some(&file), templates(), false).unwrap_err();
        assert!(error.to_string().contains("got none"), "{error}");
        let error = Phrases::new(&[], Some(Path::new("/no/such")), templates(), false).unwrap_err();
        assert!(error.to_string().contains("/no/such"), "{error}");
    }
}
