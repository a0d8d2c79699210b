//! A CLAP measured on labelled or captioned clips: how near every clip is to every text.
//!
//! A label stands for the mean of its sentences, of length 1; a caption for itself.

use std::path::PathBuf;

use super::manifest::Clip;
use super::{DataError, Manifest};
use crate::audio::AudioError;
use crate::audio::file::decode_mono;
use crate::models::ModelError;
use crate::models::clap::{Clap, normalise, similarity};
use crate::models::network::Network;
use crate::models::prompt::sentence::sentences;

/// A label, or a caption, with what the text tower reads for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// As it is shown.
    pub name: String,
    /// Its phrases.
    pub phrases: Vec<String>,
}

impl Text {
    /// A label with its sentences.
    pub fn label(name: &str) -> Self {
        Text {
            name: name.to_owned(),
            phrases: sentences(name),
        }
    }
}

/// Clips and texts that are to be measured, and which belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The files, and what the data set calls them.
    pub clips: Vec<(PathBuf, String)>,
    /// The texts.
    pub texts: Vec<Text>,
    /// The texts that are right for each clip.
    pub right: Vec<Vec<usize>>,
    /// Whether every clip has one label of a list, so that there is an accuracy.
    pub has_labels: bool,
}

impl Question {
    /// Which of the labels of `texts`, or where there are none of all that occur, the clips have. Clips
    /// with another label are left out. Clips with captions ask for these, unless labels are given.
    pub fn new<'a>(clips: impl Iterator<Item = &'a Clip>, texts: Vec<Text>) -> Self {
        let given = !texts.is_empty();
        let mut question = Question {
            clips: Vec::new(),
            texts,
            right: Vec::new(),
            has_labels: true,
        };
        for clip in clips {
            let by_caption = !given && !clip.captions.is_empty();
            let wanted: Vec<&str> = match by_caption {
                true => clip.captions.iter().map(String::as_str).collect(),
                false => vec![&clip.label],
            };
            let mut right = Vec::new();
            for name in wanted {
                let known = question.texts.iter().position(|text| text.name == name);
                let at = match known {
                    Some(at) => at,
                    None if given => continue,
                    None => {
                        question.texts.push(match by_caption {
                            true => Text {
                                name: name.to_owned(),
                                phrases: vec![name.to_owned()],
                            },
                            false => Text::label(name),
                        });
                        question.texts.len() - 1
                    }
                };
                if !right.contains(&at) {
                    right.push(at);
                }
            }
            if !right.is_empty() {
                question.has_labels &= !by_caption;
                question.clips.push((clip.path.clone(), clip.name.clone()));
                question.right.push(right);
            }
        }
        question
    }
}

/// What goes wrong while measuring.
#[derive(Debug, thiserror::Error)]
pub enum ZeroShotError {
    /// A clip cannot be read.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The model does not take a clip or a text.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There is nothing to measure.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// The cosine of every clip and every text, `(clips, texts)`; `heard` is called after each clip.
///
/// # Errors
/// When a clip cannot be read, a text is too long, or the network gives no numbers.
pub fn similarities(
    clap: &Clap,
    question: &Question,
    heard: &mut dyn FnMut(),
) -> Result<Vec<Vec<f32>>, ZeroShotError> {
    let phrases: Vec<&str> = question
        .texts
        .iter()
        .flat_map(|text| &text.phrases)
        .map(String::as_str)
        .collect();
    let mut embedded = clap.text.embed_all(&phrases, &mut |_| {})?.into_iter();
    let texts: Vec<Vec<f32>> = question
        .texts
        .iter()
        .map(|text| mean(embedded.by_ref().take(text.phrases.len())))
        .collect();
    let rate_hz = clap.audio.rate_hz();
    let mut all = Vec::with_capacity(question.clips.len());
    for (path, _) in &question.clips {
        let sound = clap.audio.embed(&decode_mono(path, rate_hz)?)?;
        if sound.iter().any(|value| !value.is_finite()) {
            return Err(ModelError::Format(format!(
                "expected numbers from the audio tower for {}, got none: its weights are damaged",
                path.display()
            ))
            .into());
        }
        all.push(texts.iter().map(|text| similarity(&sound, text)).collect());
        heard();
    }
    Ok(all)
}

/// The mean of embeddings, of length 1.
fn mean(embeddings: impl Iterator<Item = Vec<f32>>) -> Vec<f32> {
    let sum = embeddings.reduce(|mut sum, embedding| {
        sum.iter_mut().zip(embedding).for_each(|(sum, v)| *sum += v);
        sum
    });
    normalise(sum.unwrap_or_default())
}

/// Labels from a file, one a line: the label alone, or the label, a tab, and phrases that stand for it
/// with `|` between them. Empty lines and lines that begin with # are left out.
///
/// # Errors
/// When it cannot be read, or holds no label or one twice.
pub fn read_labels(path: &std::path::Path) -> Result<Vec<Text>, DataError> {
    let failed = |reason: String| DataError::Read {
        path: path.to_owned(),
        reason,
    };
    let content = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let mut texts: Vec<Text> = Vec::new();
    for line in content.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let text = match line.split_once('\t') {
            None => Text::label(line),
            Some((name, phrases)) => Text {
                name: name.trim().to_owned(),
                phrases: phrases
                    .split('|')
                    .map(str::trim)
                    .filter(|phrase| !phrase.is_empty())
                    .map(str::to_owned)
                    .collect(),
            },
        };
        if text.phrases.is_empty() || text.name.is_empty() {
            return Err(failed(format!("'{line}': expected a label with a phrase")));
        }
        if texts.iter().any(|known| known.name == text.name) {
            return Err(failed(format!(
                "expected each label once, got '{}' twice",
                text.name
            )));
        }
        texts.push(text);
    }
    match texts.is_empty() {
        true => Err(failed("expected a label a line, got none".to_owned())),
        false => Ok(texts),
    }
}

/// An error that says that a data set has nothing to measure.
pub fn nothing(manifest: &Manifest, what: &str) -> DataError {
    DataError::Empty {
        path: manifest.root.clone(),
        reason: format!("no clip to measure on ({what}): see 'hark data check'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Manifest {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("manifest.csv"), text).unwrap();
        Manifest::open(dir.path()).unwrap()
    }

    #[test]
    fn clips_ask_for_labels_of_a_list_or_for_all_that_occur() {
        let manifest = manifest("path,label\na.wav,dog\nb.wav,cat\nc.wav,dog\n");
        let all = Question::new(manifest.clips.iter(), Vec::new());
        assert_eq!(all.right, [vec![0], vec![1], vec![0]]);
        assert!(all.has_labels && all.texts[1].name == "cat");
        let listed = Question::new(
            manifest.clips.iter(),
            vec![Text::label("cat"), Text::label("owl")],
        );
        assert_eq!((listed.clips.len(), &listed.right[0][..]), (1, &[0][..]));
        assert_eq!(listed.texts.len(), 2);
    }

    #[test]
    fn captions_are_asked_for_word_by_word() {
        let manifest =
            manifest("path,caption_1,caption_2\na.wav,A dog.,It barks.\nb.wav,A cat.,It barks.\n");
        let question = Question::new(manifest.clips.iter(), Vec::new());
        assert_eq!(question.right, [vec![0, 1], vec![2, 1]]);
        assert!(!question.has_labels);
        assert_eq!(question.texts[2].phrases, ["A cat."]);
    }

    #[test]
    fn a_list_of_labels_may_say_how_they_are_put() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.txt");
        std::fs::write(&path, "# mine\ndog\nbells\tA bell rings.| Bells. |\n\n").unwrap();
        let labels = read_labels(&path).unwrap();
        assert_eq!(labels[0], Text::label("dog"));
        assert_eq!(labels[1].phrases, ["A bell rings.", "Bells."]);
        for (content, expected) in [
            ("", "got none"),
            ("a\na\n", "'a' twice"),
            ("a\t|\n", "with a phrase"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = read_labels(&path).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains("labels.txt"),
                "{error}"
            );
        }
    }
}
