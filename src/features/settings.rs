//! What a checkpoint says about its front end: `preprocessor_config.json`, or the `feature_extractor`
//! of `processor_config.json`, where transformers 5 writes it.
//!
//! Published files carry many keys that mean nothing here; only those that are asked for are read. A
//! key that is missing or null has the default of its class in transformers.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// The longest file that is read: those that list their mel filters have some hundred kilobytes.
const MAX_BYTES: u64 = 16 << 20;

/// The settings of one front end.
#[derive(Debug, Clone)]
pub struct Settings {
    file: PathBuf,
    object: Map<String, Value>,
}

/// Why the settings of a front end cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{file}: cannot read it: {error}", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The reason.
        error: std::io::Error,
    },
    /// The file is longer than any such file is.
    #[error("{file}: expected settings of at most {MAX_BYTES} bytes, got {bytes}", file = file.display())]
    Long {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The file is not JSON.
    #[error("{file}: it is not JSON: {error}", file = file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where and why.
        error: serde_json::Error,
    },
    /// A key has a value that it cannot have.
    #[error("{file}: {key}: expected {expected}, got {got}", file = file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        key: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
}

impl Settings {
    /// The settings in the folder of a checkpoint; `None` where it has neither file.
    ///
    /// # Errors
    /// When a file is there and cannot be read, or is not an object of settings.
    pub fn in_dir(dir: &Path) -> Result<Option<Self>, SettingsError> {
        for (name, inside) in [
            ("preprocessor_config.json", None),
            ("processor_config.json", Some("feature_extractor")),
        ] {
            let file = dir.join(name);
            let text = match read(&file) {
                Err(SettingsError::Read { error, .. })
                    if error.kind() == std::io::ErrorKind::NotFound =>
                {
                    continue;
                }
                text => text?,
            };
            let settings = Settings::parse(&file, &text)?;
            match inside {
                None => return Ok(Some(settings)),
                Some(key) if settings.object.contains_key(key) => {
                    return settings.nested(key).map(Some);
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// The settings in `text`; `file` is for messages.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(file: &Path, text: &str) -> Result<Self, SettingsError> {
        let value = serde_json::from_str(text).map_err(|error| SettingsError::Json {
            file: file.to_owned(),
            error,
        })?;
        let whole = Settings {
            file: file.to_owned(),
            object: Map::new(),
        };
        match value {
            Value::Object(object) => Ok(Settings { object, ..whole }),
            other => Err(whole.wrong("the whole file", "an object of settings", &other)),
        }
    }

    fn nested(&self, key: &'static str) -> Result<Self, SettingsError> {
        match self.object.get(key) {
            Some(Value::Object(object)) => Ok(Settings {
                file: self.file.clone(),
                object: object.clone(),
            }),
            other => Err(self.wrong(key, "an object of settings", other.unwrap_or(&Value::Null))),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &'static str, expected: impl Display, got: &Value) -> SettingsError {
        const MAX_CHARS: usize = 60;
        let got = got.to_string();
        let mut shown: String = got.chars().take(MAX_CHARS).collect();
        if shown.len() < got.len() {
            shown.push_str("...");
        }
        SettingsError::Value {
            file: self.file.clone(),
            key,
            expected: expected.to_string(),
            got: shown,
        }
    }

    /// Checks that the settings are those of `class`, where they say of which class they are.
    ///
    /// # Errors
    /// When they are those of another.
    pub fn expect_class(&self, class: &str) -> Result<(), SettingsError> {
        match self.get("feature_extractor_type") {
            Some(value) if value.as_str() != Some(class) => {
                Err(self.wrong("feature_extractor_type", class, value))
            }
            _ => Ok(()),
        }
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn count(
        &self,
        key: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize, SettingsError> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        let whole = value.as_f64().filter(|number| {
            number.fract() == 0.0 && (*range.start() as f64..=*range.end() as f64).contains(number)
        });
        whole.map(|number| number as usize).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            self.wrong(key, format!("a whole number from {low} to {high}"), value)
        })
    }

    /// A sample rate in hertz.
    ///
    /// # Errors
    /// When it is something else.
    pub fn rate_hz(&self, key: &'static str, default: u32) -> Result<u32, SettingsError> {
        let rate_hz = self.count(key, default as usize, 1_000..=768_000)?;
        Ok(rate_hz as u32)
    }

    /// The points of a transform, an even number.
    ///
    /// # Errors
    /// When it is something else.
    pub fn even(&self, key: &'static str, default: usize) -> Result<usize, SettingsError> {
        const MAX: usize = 65_536;
        let expected = || format!("an even number from 2 to {MAX}");
        match self.count(key, default, 2..=MAX) {
            Ok(count) if count % 2 == 0 => Ok(count),
            _ => Err(self.wrong(
                key,
                expected(),
                self.object.get(key).unwrap_or(&Value::Null),
            )),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&self, key: &'static str, default: f64) -> Result<f64, SettingsError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| self.wrong(key, "a number", value)),
        }
    }

    /// A number greater than 0.
    ///
    /// # Errors
    /// When it is something else.
    pub fn positive(&self, key: &'static str, default: f64) -> Result<f64, SettingsError> {
        let number = self.number(key, default)?;
        let value = self.object.get(key).unwrap_or(&Value::Null);
        (number > 0.0)
            .then_some(number)
            .ok_or_else(|| self.wrong(key, "a number greater than 0", value))
    }

    /// True or false.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, key: &'static str, default: bool) -> Result<bool, SettingsError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong(key, "true or false", value)),
        }
    }

    /// One of the named `choices`, the first of which is the default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Result<T, SettingsError> {
        let value = self.get(key);
        choices
            .iter()
            .find(|(name, _)| value.is_none_or(|value| value.as_str() == Some(name)))
            .map(|&(_, choice)| choice)
            .ok_or_else(|| {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                self.wrong(key, names.join(" or "), value.unwrap_or(&Value::Null))
            })
    }
}

fn read(file: &Path) -> Result<String, SettingsError> {
    let fail = |error| SettingsError::Read {
        file: file.to_owned(),
        error,
    };
    let bytes = std::fs::metadata(file).map_err(fail)?.len();
    if bytes > MAX_BYTES {
        return Err(SettingsError::Long {
            file: file.to_owned(),
            bytes,
        });
    }
    std::fs::read_to_string(file).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(Path::new("m/preprocessor_config.json"), text)
    }

    #[test]
    fn missing_and_null_keys_have_their_defaults_and_others_are_ignored() {
        let settings = settings(r#"{"n": null, "mel_filters": [[0.1]], "k": 12.0}"#).unwrap();
        assert_eq!(settings.count("n", 7, 1..=9).unwrap(), 7);
        assert_eq!(settings.count("k", 7, 1..=12).unwrap(), 12);
        assert!(settings.flag("do_normalize", true).unwrap());
        assert_eq!(settings.number("mean", -4.0).unwrap(), -4.0);
        assert_eq!(settings.choice("p", &[("a", 1), ("b", 2)]).unwrap(), 1);
        settings.expect_class("ASTFeatureExtractor").unwrap();
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_file_key_and_both_values() {
        let settings =
            settings(r#"{"n": "12", "m": -1, "f": 1, "p": "z", "feature_extractor_type": "B"}"#)
                .unwrap();
        let check = |error: SettingsError, text: &str| {
            assert_eq!(
                error.to_string(),
                format!("m/preprocessor_config.json: {text}")
            );
        };
        check(
            settings.count("n", 1, 1..=20).unwrap_err(),
            "n: expected a whole number from 1 to 20, got \"12\"",
        );
        check(
            settings.count("m", 1, 1..=20).unwrap_err(),
            "m: expected a whole number from 1 to 20, got -1",
        );
        check(
            settings.number("n", 1.0).unwrap_err(),
            "n: expected a number, got \"12\"",
        );
        check(
            settings.positive("m", 1.0).unwrap_err(),
            "m: expected a number greater than 0, got -1",
        );
        check(
            settings.flag("f", true).unwrap_err(),
            "f: expected true or false, got 1",
        );
        check(
            settings.choice("p", &[("a", 1), ("b", 2)]).unwrap_err(),
            "p: expected a or b, got \"z\"",
        );
        check(
            settings.expect_class("A").unwrap_err(),
            "feature_extractor_type: expected A, got \"B\"",
        );
        let long = self::settings(&format!(r#"["{}"]"#, "x".repeat(500))).unwrap_err();
        assert!(long.to_string().len() < 200, "{long}");
        assert!(matches!(
            self::settings("{\"n\"").unwrap_err(),
            SettingsError::Json { .. }
        ));
    }

    #[test]
    fn both_layouts_of_a_checkpoint_are_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Settings::in_dir(dir.path()).unwrap().is_none());
        let processor = dir.path().join("processor_config.json");
        std::fs::write(&processor, r#"{"processor_class": "ClapProcessor"}"#).unwrap();
        assert!(Settings::in_dir(dir.path()).unwrap().is_none());
        std::fs::write(&processor, r#"{"feature_extractor": {"hop_length": 320}}"#).unwrap();
        let hop = |dir| {
            let settings = Settings::in_dir(dir).unwrap().unwrap();
            settings.count("hop_length", 480, 1..=1000).unwrap()
        };
        assert_eq!(hop(dir.path()), 320);
        let preprocessor = dir.path().join("preprocessor_config.json");
        std::fs::write(&preprocessor, r#"{"hop_length": 240}"#).unwrap();
        assert_eq!(hop(dir.path()), 240);
        std::fs::remove_file(preprocessor).unwrap();
        std::fs::write(&processor, r#"{"feature_extractor": 4}"#).unwrap();
        let error = Settings::in_dir(dir.path()).unwrap_err().to_string();
        assert!(error.contains("feature_extractor: expected"), "{error}");
    }
}
