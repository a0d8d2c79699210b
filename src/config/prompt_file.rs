//! `$XDG_DATA_HOME/hark/prompts.toml`: the prompts that were added while the daemon ran.
//!
//! The daemon alone writes it, whole and atomically: a reader sees the old or the new one, also after
//! a crash. A damaged one is an error that names file and line; whoever reads it may set it aside.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::paths::Paths;
use super::prompt::{PromptLabel, set_problems};
use super::replace;

/// A larger file is none of ours: a thousand phrases of a thousand characters of four bytes.
const MAX_BYTES: u64 = 8 << 20;
/// What the file says of itself.
const HEAD: &str = "\
# Prompts that were added while hark ran; written by the daemon. 'hark prompt add' and 'hark prompt
# remove' change them. Prompts of your own may as well stand in the configuration, as [[prompt.label]].
";

/// The file cannot be read, or is not what the daemon has written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct PromptFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, with line and column where there are any.
    pub reason: String,
    /// Whether there is nothing to set aside, as with a file that may not be read.
    pub is_unreadable: bool,
}

/// The file of added prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFile(PathBuf);

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Content {
    prompt: Vec<PromptLabel>,
}

impl PromptFile {
    /// The file of these directories.
    pub fn of(paths: &Paths) -> Self {
        PromptFile(paths.data.join("prompts.toml"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The prompts in the order they were added; none where there is no file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or holds what is no prompt.
    pub fn load(&self) -> Result<Vec<PromptLabel>, PromptFileError> {
        let fail = |reason: String, is_unreadable| PromptFileError {
            path: self.0.clone(),
            reason,
            is_unreadable,
        };
        let text = match read_text(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                let is_damaged = error.kind() == io::ErrorKind::InvalidData;
                return Err(fail(error.to_string(), !is_damaged));
            }
        };
        let content: Content =
            toml::from_str(&text).map_err(|error| fail(one_line(&text, &error), false))?;
        let prompts = content.prompt;
        for (at, prompt) in prompts.iter().enumerate() {
            let place = format!("prompt {}", at + 1);
            prompt
                .check()
                .map_err(|why| fail(format!("{place}: {why}"), false))?;
            if prompts[..at].iter().any(|other| other.name == prompt.name) {
                return Err(fail(
                    format!("{place}: another is called '{}'", prompt.name),
                    false,
                ));
            }
        }
        match set_problems(&prompts) {
            Some(problem) => Err(fail(problem.text, false)),
            None => Ok(prompts),
        }
    }

    /// Writes these prompts in place of those that it holds.
    ///
    /// # Errors
    /// When the disk is full or may not be written; the old file is as it was.
    pub fn save(&self, prompts: &[PromptLabel]) -> io::Result<()> {
        replace(&self.0, text_of(prompts).as_bytes())
    }

    /// Moves a damaged file out of the way, and says where it is now.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let name = |n: u32| self.0.with_extension(format!("toml.damaged-{n}"));
        let free = (1..=u32::MAX)
            .map(name)
            .find(|path| !path.exists())
            .ok_or_else(|| io::Error::other("there is no free name beside it"))?;
        fs::rename(&self.0, &free)?;
        Ok(free)
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut limited = File::open(path)?.take(MAX_BYTES + 1);
    limited.read_to_end(&mut bytes)?;
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if bytes.len() as u64 > MAX_BYTES {
        return Err(damaged("it is larger than 8 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8 text"))
}

fn one_line(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    format!("line {line}: {message}")
}

fn text_of(prompts: &[PromptLabel]) -> String {
    let mut text = HEAD.to_owned();
    for prompt in prompts {
        let quoted = |value: &str| toml::Value::from(value).to_string();
        let phrases: Vec<String> = prompt.phrases.iter().map(|p| quoted(p)).collect();
        text.push_str(&format!(
            "\n[[prompt]]\nname = {}\nphrases = [{}]\n",
            quoted(&prompt.name),
            phrases.join(", ")
        ));
        if let Some(threshold) = prompt.threshold {
            // With its point: a bare 1 would be a whole number to other readers.
            text.push_str(&format!("threshold = {threshold:?}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir) -> PromptFile {
        let paths = Paths::new(dir.path(), None, |_| None);
        PromptFile::of(&paths)
    }

    fn prompt(name: &str, phrases: &[&str], threshold: Option<f32>) -> PromptLabel {
        PromptLabel {
            name: name.to_owned(),
            phrases: phrases.iter().map(|phrase| (*phrase).to_owned()).collect(),
            threshold,
        }
    }

    #[test]
    fn what_is_saved_is_loaded_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        assert_eq!(file.load().unwrap(), []);
        let prompts = [
            prompt("kettle", &["a \"kettle\"", "Wasser läuft '''"], Some(1.0)),
            prompt("a = [b]", &["#", "\\u0041"], Some(0.123_456_79)),
            prompt("#3", &["c"], None),
        ];
        file.save(&prompts).unwrap();
        assert_eq!(file.load().unwrap(), prompts);
        file.save(&prompts[..1]).unwrap();
        assert_eq!(file.load().unwrap(), prompts[..1]);
        let names = fs::read_dir(file.path().parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "nothing but the file is left");
    }

    #[test]
    fn a_damaged_file_names_the_place_and_can_be_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        fs::create_dir_all(file.path().parent().unwrap()).unwrap();
        let check = |text: &[u8], expected: &str| {
            fs::write(file.path(), text).unwrap();
            let error = file.load().unwrap_err();
            let told = error.to_string();
            assert!(told.starts_with(file.path().to_str().unwrap()), "{told}");
            assert!(told.contains(expected) && !told.contains('\n'), "{told}");
            assert!(!error.is_unreadable);
            let aside = file.set_aside().unwrap();
            assert_eq!(fs::read(aside).unwrap(), text);
            assert_eq!(file.load().unwrap(), []);
        };
        check(b"[[prompt]]\nname = 3", "line 2: invalid type");
        check(
            b"[[prompt]]\nname = 'a'\nphrase = 'b'",
            "line 3: unknown field `phrase`",
        );
        check(
            b"[[prompt]]\nname = 'a'",
            "prompt 1: phrases: there are no phrases",
        );
        check(b"\xff\xfe", "not UTF-8");
        check(&[b'#'; 9 << 20], "larger than 8 MiB");
        let twice =
            b"[[prompt]]\nname = 'a'\nphrases = ['b']\n[[prompt]]\nname = 'a'\nphrases = ['c']";
        check(twice, "prompt 2: another is called 'a'");
    }
}
