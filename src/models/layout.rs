//! A directory in the Hugging Face layout: what its JSON files say, and where its tensors are.
//!
//! Reads `config.json`, `preprocessor_config.json` (or the `feature_extractor` inside
//! `processor_config.json`, where transformers 5 puts it) and the tensor files. What a family needs
//! of them it says with a `Deserialize` type of its own; keys that it does not name are ignored,
//! because published files carry many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ModelError;
use crate::kernels::rows::Activation;
use crate::nn::params::{Params, Trainable};

/// The largest JSON file that is read; a tokenizer's vocabulary has a few million bytes.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// A directory with a model.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
    config: Value,
    /// The tensors, where some of them are trained.
    trained: Option<Params>,
}

impl Layout {
    /// Reads `config.json` of a directory.
    ///
    /// # Errors
    /// When there is none, or it is no JSON object.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let config = read_json(&path)?.ok_or_else(|| {
            ModelError::Read(format!(
                "{}: no such file; expected a directory in the Hugging Face layout",
                path.display()
            ))
        })?;
        if !config.is_object() {
            return Err(ModelError::Format(format!(
                "{}: expected a JSON object",
                path.display()
            )));
        }
        Ok(Layout {
            dir: dir.to_owned(),
            config,
            trained: None,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `model_type` of the configuration, empty where it has none.
    pub fn model_type(&self) -> &str {
        self.config["model_type"].as_str().unwrap_or_default()
    }

    /// The class that wrote the checkpoint, such as `ASTForAudioClassification`; empty where it is
    /// not said.
    pub fn architecture(&self) -> &str {
        self.config["architectures"][0].as_str().unwrap_or_default()
    }

    /// The configuration as a family's own type.
    ///
    /// # Errors
    /// When a key is missing or of another type.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, ModelError> {
        parse(&self.dir.join("config.json"), &self.config)
    }

    /// The content of another JSON file of the directory; `None` where there is no such file.
    ///
    /// # Errors
    /// When it cannot be read, is too long or is no JSON.
    pub fn json(&self, name: &str) -> Result<Option<Value>, ModelError> {
        read_json(&self.dir.join(name))
    }

    /// An error about `key` of `config.json`; `what` says what was expected and got.
    pub fn wrong(&self, key: &str, what: &str) -> ModelError {
        let path = self.dir.join("config.json");
        ModelError::Format(format!("{}: {key}: {what}", path.display()))
    }

    /// Refuses sizes that are nothing.
    ///
    /// # Errors
    /// With the first that is 0.
    pub fn expect_positive(&self, values: &[(&str, usize)]) -> Result<(), ModelError> {
        match values.iter().find(|(_, value)| *value == 0) {
            None => Ok(()),
            Some((key, _)) => Err(self.wrong(key, "expected at least 1, got 0")),
        }
    }

    /// Refuses heads that do not share the values of a row evenly.
    ///
    /// # Errors
    /// When `heads` does not divide `whole`; both come with their keys.
    pub fn expect_divisor(
        &self,
        (key, heads): (&str, usize),
        (of, whole): (&str, usize),
    ) -> Result<(), ModelError> {
        if heads > 0 && whole.is_multiple_of(heads) {
            return Ok(());
        }
        let what = format!("expected a divisor of {of}, which is {whole}, got {heads}");
        Err(self.wrong(key, &what))
    }

    /// The feature extractor's settings, or the defaults where the directory has none.
    ///
    /// # Errors
    /// When a key is of another type.
    pub fn preprocessor<T: DeserializeOwned + Default>(&self) -> Result<T, ModelError> {
        let path = self.dir.join("preprocessor_config.json");
        if let Some(settings) = read_json(&path)? {
            return parse(&path, &settings);
        }
        let path = self.dir.join("processor_config.json");
        match read_json(&path)? {
            Some(settings) if settings["feature_extractor"].is_object() => {
                parse(&path, &settings["feature_extractor"])
            }
            _ => Ok(T::default()),
        }
    }

    /// The labels in the order of the outputs: `id2label`, else `LABEL_0` and so on, `num_labels` of
    /// them (2 where that is missing too), as transformers 5 has it.
    ///
    /// # Errors
    /// When the numbers have gaps or are no numbers.
    pub fn labels(&self) -> Result<Arc<[Arc<str>]>, ModelError> {
        let wrong = |what: String| self.wrong("id2label", &what);
        let Some(entries) = self.config["id2label"].as_object() else {
            let count = self.config["num_labels"].as_u64().unwrap_or(2);
            return Ok((0..count.min(1 << 16))
                .map(|i| format!("LABEL_{i}").into())
                .collect());
        };
        let mut by_id = BTreeMap::new();
        for (id, label) in entries {
            let id: usize = id
                .parse()
                .map_err(|_| wrong(format!("expected whole numbers as keys, got '{id}'")))?;
            let label = label
                .as_str()
                .ok_or_else(|| wrong(format!("{id}: expected a text, got {label}")))?;
            by_id.insert(id, Arc::from(label));
        }
        match by_id.keys().zip(0..).find(|(id, at)| *id != at) {
            None if !by_id.is_empty() => Ok(by_id.into_values().collect()),
            None => Err(wrong("expected labels, got none".to_owned())),
            Some((id, at)) => Err(wrong(format!("expected label {at} next, got {id}"))),
        }
    }

    /// How the outputs become scores: by `problem_type`, softmax where it is missing, as the
    /// audio-classification pipeline of transformers 5 has it.
    pub fn scores(&self) -> Activated {
        match self.config["problem_type"].as_str() {
            Some("multi_label_classification") => Activated::Sigmoid,
            Some("regression") => Activated::Raw,
            _ => Activated::Softmax,
        }
    }

    /// Whether the configuration says how outputs become scores.
    pub fn says_scores(&self) -> bool {
        self.config["problem_type"].is_string()
    }

    /// The activation that `key` of the configuration names, or `default` where the key is missing.
    ///
    /// # Errors
    /// When the name is not known.
    pub fn activation(&self, key: &str, default: Activation) -> Result<Activation, ModelError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(name) => name.as_str().and_then(Activation::named).ok_or_else(|| {
                let what = format!("expected the name of an activation such as gelu, got {name}");
                self.wrong(key, &what)
            }),
        }
    }

    /// The tensors.
    ///
    /// # Errors
    /// When there are none, or their files are not whole.
    pub fn params(&self) -> Result<Params, ModelError> {
        match &self.trained {
            Some(params) => Ok(params.clone()),
            None => Ok(Params::open_dir(&self.dir)?),
        }
    }

    /// The same directory for training: networks that are loaded from it have the tensors whose whole
    /// keys `chosen` picks as variables, which are collected in what comes with it.
    ///
    /// # Errors
    /// As [`Layout::params`].
    pub fn trainable(
        &self,
        chosen: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<(Self, Arc<Trainable>), ModelError> {
        let (params, trainable) = self.params()?.trainable(chosen);
        let layout = Layout {
            trained: Some(params),
            ..self.clone()
        };
        Ok((layout, trainable))
    }
}

/// What turns the outputs of a network into scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activated {
    /// Shares of one.
    Softmax,
    /// Each label by itself.
    Sigmoid,
    /// As they are.
    Raw,
}

impl Activated {
    /// Turns logits into scores in place.
    pub fn apply(self, logits: &mut [f32]) {
        match self {
            Activated::Softmax => crate::kernels::rows::softmax(logits, logits.len()),
            Activated::Sigmoid => Activation::Sigmoid.apply(logits),
            Activated::Raw => {}
        }
    }
}

/// The content of a JSON file; `None` where there is no such file.
fn read_json(path: &Path) -> Result<Option<Value>, ModelError> {
    let failed = |error: std::io::Error| ModelError::Read(format!("{}: {error}", path.display()));
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(meta) if meta.len() > MAX_JSON_BYTES => {
            return Err(ModelError::Format(format!(
                "{}: expected at most {MAX_JSON_BYTES} bytes, got {}",
                path.display(),
                meta.len()
            )));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| ModelError::Format(format!("{}: {error}", path.display())))
}

fn parse<T: DeserializeOwned>(path: &Path, value: &Value) -> Result<T, ModelError> {
    T::deserialize(value).map_err(|error| {
        let what = error.to_string();
        // Serde says what is wrong with a value but not with which: it is the one that alone gives
        // the same error.
        let alone = |key: &String, value: &Value| {
            let object = Value::Object([(key.clone(), value.clone())].into_iter().collect());
            T::deserialize(&object).is_err_and(|error| error.to_string() == what)
        };
        let culprit = value
            .as_object()
            .and_then(|object| object.iter().find(|(key, value)| alone(key, value)));
        ModelError::Format(match culprit {
            Some((key, _)) => format!("{}: {key}: {what}", path.display()),
            None => format!("{}: {what}", path.display()),
        })
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn layout(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Layout, ModelError>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let layout = Layout::open(dir.path());
        (dir, layout)
    }

    #[test]
    fn labels_come_in_the_order_of_their_numbers() {
        let labels = |config: &str| layout(&[("config.json", config)]).1.unwrap().labels();
        let read = labels(
            r#"{"id2label":{"10":"k","0":"a","1":"b","2":"c","3":"d","4":"e","5":"f","6":"g","7":"h","8":"i","9":"j"}}"#,
        );
        assert_eq!(read.unwrap().concat(), "abcdefghijk");
        assert_eq!(labels("{}").unwrap().len(), 2);
        assert_eq!(&*labels(r#"{"num_labels":3}"#).unwrap()[2], "LABEL_2");
        for (config, part) in [
            (
                r#"{"id2label":{"0":"a","2":"b"}}"#,
                "expected label 1 next, got 2",
            ),
            (r#"{"id2label":{"x":"a"}}"#, "got 'x'"),
            (r#"{"id2label":{"0":7}}"#, "expected a text, got 7"),
            (r#"{"id2label":{}}"#, "got none"),
        ] {
            let error = labels(config).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("config.json"),
                "{error}"
            );
        }
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Settings {
        sampling_rate: u32,
    }

    #[test]
    fn both_places_of_the_feature_extractor_are_read() {
        let old = [
            ("config.json", "{}"),
            (
                "preprocessor_config.json",
                r#"{"sampling_rate":8000,"more":[]}"#,
            ),
        ];
        let new = [
            ("config.json", "{}"),
            (
                "processor_config.json",
                r#"{"feature_extractor":{"sampling_rate":8000}}"#,
            ),
        ];
        for (files, expected) in [(&old[..], 8000), (&new, 8000), (&old[..1], 0)] {
            let (_dir, layout) = layout(files);
            assert_eq!(
                layout
                    .unwrap()
                    .preprocessor::<Settings>()
                    .unwrap()
                    .sampling_rate,
                expected
            );
        }
        let (_dir, bad) = layout(&[
            ("config.json", "{}"),
            ("preprocessor_config.json", r#"{"sampling_rate":"x"}"#),
        ]);
        let error = bad
            .unwrap()
            .preprocessor::<Settings>()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("preprocessor_config.json: sampling_rate: invalid type"),
            "{error}"
        );
    }

    #[test]
    fn a_directory_without_a_sound_configuration_is_an_error_that_names_it() {
        for files in [
            &[][..],
            &[("config.json", "[1]")],
            &[("config.json", "{")],
            &[("config.json", "")],
        ] {
            let (_dir, layout) = layout(files);
            assert!(layout.unwrap_err().to_string().contains("config.json"));
        }
        let (_dir, layout) =
            layout(&[("config.json", r#"{"hidden_act":"maxout","other":"relu"}"#)]);
        let layout = layout.unwrap();
        assert_eq!(
            layout.activation("other", Activation::Gelu).unwrap(),
            Activation::Relu
        );
        assert_eq!(
            layout.activation("third", Activation::Gelu).unwrap(),
            Activation::Gelu
        );
        assert!(
            layout
                .activation("hidden_act", Activation::Gelu)
                .unwrap_err()
                .to_string()
                .contains("maxout")
        );
    }
}
