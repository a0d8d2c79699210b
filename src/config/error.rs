//! What can be wrong with the configuration, one line a fault: place, what, and what to do.

use std::path::{Path, PathBuf};

use super::origin::Layer;
use super::suggest::nearest;

/// The configuration does not hold. Shows the first fault; [`ConfigError::faults`] has them all.
#[derive(Debug, thiserror::Error)]
#[error("{}", summary(.faults))]
pub struct ConfigError {
    /// Every fault, in the order of the layers; never empty.
    pub faults: Vec<Fault>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A file cannot be read.
    #[error("{}: cannot be read: {reason}; {todo}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What helps.
        todo: &'static str,
    },
    /// Something that a file, variable or flag says.
    #[error("{place}: {text}")]
    Value {
        /// `path:line:column`, or the name of the variable or flag.
        place: String,
        /// What is wrong and what to do.
        text: String,
    },
}

impl ConfigError {
    /// The error of a single fault.
    pub(super) fn one(fault: Fault) -> Self {
        ConfigError {
            faults: vec![fault],
        }
    }

    /// An error where there are faults.
    pub(super) fn from_faults(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { faults })
        }
    }
}

fn summary(faults: &[Fault]) -> String {
    match faults {
        [] => String::new(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more: see 'hark check')", rest.len()),
    }
}

impl Fault {
    pub(super) fn read(path: &Path, error: &std::io::Error) -> Self {
        let todo = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "make it readable for this user",
            std::io::ErrorKind::InvalidData => "save it as UTF-8 text",
            std::io::ErrorKind::IsADirectory => "name a file in it",
            _ => "check that it is a TOML file",
        };
        Fault::Read {
            path: path.to_path_buf(),
            reason: error.to_string(),
            todo,
        }
    }

    /// Puts an error of the TOML reader into the words of this program.
    pub(super) fn from_toml(layer: &Layer, error: &toml::de::Error) -> Self {
        Fault::Value {
            place: layer.place(error.span().map(|span| span.start)),
            text: in_plain_words(error.message()),
        }
    }
}

/// Rewords what serde says of unknown keys and wrong types. Its wording is fixed in
/// `serde::de::Error`; what is worded otherwise passes unchanged.
fn in_plain_words(message: &str) -> String {
    let message = message.lines().collect::<Vec<_>>().join(", ");
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = rest.split('`').skip(1).step_by(2);
        let wrong = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        return match nearest(wrong, known.iter().copied()) {
            Some(name) => format!("unknown key '{wrong}'; did you mean '{name}'?"),
            None => format!(
                "unknown key '{wrong}'; the keys here are {}",
                known.join(", ")
            ),
        };
    }
    let typed = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = typed.and_then(|rest| rest.rsplit_once(", expected ")) {
        let found = match found {
            "map" => "a table",
            "sequence" => "a list",
            other => other,
        };
        return format!("found {found} here; write {}", type_in_words(expected));
    }
    message
}

fn type_in_words(expected: &str) -> &str {
    match expected {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "a boolean" => "true or false",
        "a string" | "path string" => "text in quotes",
        "a sequence" => "a list in [ ]",
        "a map" => "a table in { }",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_plain_words() {
        let check = |message: &str, expected: &str| assert_eq!(in_plain_words(message), expected);
        check(
            "unknown field `treshold`, expected one of `name`, `threshold`",
            "unknown key 'treshold'; did you mean 'threshold'?",
        );
        check(
            "unknown field `x`, expected `bus`",
            "unknown key 'x'; the keys here are bus",
        );
        check(
            "invalid type: string \"a, expected b\", expected f32",
            "found string \"a, expected b\" here; write a number",
        );
        check("something else", "something else");
    }
}
