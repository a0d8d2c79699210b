//! The known checkpoints, one row each, and the way from a name to a running model.
//!
//! What can change with the weights (labels, number of parameters) is read from them; a row says
//! only what someone must know before they are there.

mod guess;
mod labels;
mod open;
mod rows;

use std::path::{Path, PathBuf};

use super::layout::Activated;
use super::silero::Silero;
use super::speech_gate::SpeechGate;
use crate::config::paths::Paths;
use crate::hub::{Hub, Pull, PullSpec, ReleaseFile};

pub use labels::labels_of;
pub(super) use open::checksum;
pub use open::{open_embedder_path, open_path};
pub use rows::ROWS;

use super::{
    Classifier, Embedder, ModelError, ModelInfo, Spotter, Task, embedded_event,
    embedded_event_embedder, embedded_keyword, embedded_keyword_embedder,
};

/// Where the weights of a row come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// They are inside the program.
    Embedded,
    /// A repository of a Hugging Face hub.
    Hub {
        /// `organisation/name`.
        repo: &'static str,
        /// Branch, tag or commit.
        revision: &'static str,
    },
    /// One file from somewhere else.
    Download {
        /// Where it is.
        url: &'static str,
        /// Its name on disk.
        file: &'static str,
        /// Its SHA-256, where it is known here.
        sha256: Option<&'static str>,
    },
}

impl Origin {
    /// In one word or address, for people.
    pub fn describe(&self) -> &'static str {
        match self {
            Origin::Embedded => "embedded",
            Origin::Hub { repo, .. } => repo,
            Origin::Download { url, .. } => url,
        }
    }
}

/// A known checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its name, on the command line and in the configuration.
    pub name: &'static str,
    /// What it answers.
    pub task: Task,
    /// What it is, in one sentence.
    pub about: &'static str,
    /// Where the weights come from.
    pub origin: Origin,
    /// How many labels it has; 0 for an embedding.
    pub labels: usize,
    /// How much is fetched, about; 0 for what is inside the program.
    pub bytes: u64,
    /// SPDX expression.
    pub licence: &'static str,
    /// How its outputs become scores where its configuration does not say.
    pub scores: Option<Activated>,
}

/// A model that is ready to run, by the way it is fed.
pub enum Model {
    /// Stepped on every frame.
    Spotter(Box<dyn Spotter>),
    /// Run on windows.
    Classifier(Box<dyn Classifier>),
    /// Turns windows of samples into embeddings.
    Embedder(Box<dyn Embedder>),
}

impl Model {
    /// What it is.
    pub fn info(&self) -> &ModelInfo {
        match self {
            Model::Spotter(model) => model.info(),
            Model::Classifier(model) => model.info(),
            Model::Embedder(model) => model.info(),
        }
    }
}

/// The row of a name; the name of a repository on a hub leads to its row too.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| {
        row.name == name || matches!(row.origin, Origin::Hub { repo, .. } if repo == name)
    })
}

/// The row that answers `task` from inside the program, where there is one.
pub fn embedded_for(task: Task) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.task == task && row.origin == Origin::Embedded)
}

/// The best row for `task` that is installed, else the best that there is.
pub fn best_for(task: Task) -> Option<&'static Row> {
    let mut rows = ROWS.iter().filter(|row| row.task == task);
    let first = rows.clone().next();
    rows.find(|row| is_installed(row)).or(first)
}

/// Whether the weights of a row are on this machine.
pub fn is_installed(row: &Row) -> bool {
    row.origin == Origin::Embedded || place_of(row).is_some()
}

/// What has to be fetched for a row; `None` for what is inside the program.
pub fn pull_spec(row: &Row) -> Option<PullSpec> {
    match row.origin {
        Origin::Embedded => None,
        Origin::Hub { repo, revision } => PullSpec::of_repository(&format!("{repo}@{revision}")),
        Origin::Download { url, file, sha256 } => Some(PullSpec::Release {
            name: row.name.to_owned(),
            files: vec![ReleaseFile { file, url, sha256 }],
        }),
    }
}

/// Where the release files of a name lie.
pub fn release_dir(name: &str) -> PathBuf {
    Paths::current().data.join("models").join(name)
}

/// The file or directory where the weights of a row are, if they are anywhere.
pub fn place_of(row: &Row) -> Option<PathBuf> {
    match pull_spec(row)? {
        PullSpec::Repository {
            repo,
            revision,
            files,
        } => {
            let pull = Pull {
                repo: &repo,
                revision: &revision,
                files,
            };
            Some(Hub::from_env().ok()?.find(&pull)?.dir)
        }
        PullSpec::Release { name, files } => {
            let path = release_dir(&name).join(files.first()?.file);
            path.is_file().then_some(path)
        }
    }
}

/// Loads the checkpoint of a row.
///
/// # Errors
/// When it is not installed or its weights are damaged.
pub fn load(row: &'static Row) -> Result<Model, ModelError> {
    match (row.origin, row.task) {
        (Origin::Embedded, Task::Keyword) => embedded_keyword().map(Model::Spotter),
        (Origin::Embedded, _) => embedded_event().map(Model::Classifier),
        _ => match place_of(row) {
            Some(path) => open_path(&path, Some(row)),
            None => Err(not_installed(row)),
        },
    }
}

/// Where the files of a published model are: of a registry name, with its row, or a path as it is.
///
/// # Errors
/// When the name is not known or not installed, or there is nothing at the path.
pub fn locate(model: &str) -> Result<(PathBuf, Option<&'static Row>), ModelError> {
    if let Some(row) = find(model) {
        return match place_of(row) {
            Some(path) => Ok((path, Some(row))),
            None => Err(not_installed(row)),
        };
    }
    let path = Path::new(model);
    match path.exists() {
        true => Ok((path.to_owned(), None)),
        false => Err(unknown(model)),
    }
}

fn not_installed(row: &Row) -> ModelError {
    ModelError::Unknown(format!(
        "model '{}' is not installed: fetch it with 'hark models pull {}'",
        row.name, row.name
    ))
}

/// Puts a model behind Silero VAD, which must be installed.
///
/// # Errors
/// When it is not, or the model does not hear what the gate hears.
pub fn behind_speech(model: Box<dyn Classifier>) -> Result<Box<dyn Classifier>, ModelError> {
    let (path, _) = locate("silero-vad")?;
    Ok(Box::new(SpeechGate::new(model, Silero::open(&path)?)?))
}

/// Loads a model by its registry name, or from a directory or file of weights.
///
/// # Errors
/// When the name is not known, or the weights are damaged.
pub fn open(model: &str) -> Result<Model, ModelError> {
    if let Some(row) = find(model) {
        return load(row);
    }
    let path = Path::new(model);
    if path.exists() {
        return open_path(path, None);
    }
    Err(unknown(model))
}

/// Loads an embedder by the registry name of its model, or from a directory or file of weights.
///
/// # Errors
/// When the name is not known, the weights are not installed or damaged, or the model gives labels alone.
pub fn open_embedder(model: &str) -> Result<Box<dyn Embedder>, ModelError> {
    match find(model).map(|row| (row.origin, row.task)) {
        Some((Origin::Embedded, Task::Keyword)) => embedded_keyword_embedder(),
        Some((Origin::Embedded, _)) => embedded_event_embedder(),
        _ => {
            let (path, row) = locate(model)?;
            open_embedder_path(&path, row)
        }
    }
}

pub(super) fn unknown(model: &str) -> ModelError {
    let near = ROWS
        .iter()
        .map(|row| (strsim::jaro_winkler(row.name, model), row.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.8)
        .map_or_else(String::new, |(_, name)| format!("; did you mean '{name}'?"));
    ModelError::Unknown(format!(
        "no model '{model}': use a name that 'hark models list' shows, or a directory or file of weights{near}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_of_the_daemon_has_an_embedded_default_and_every_name_leads_back_to_its_row() {
        for task in [Task::Keyword, Task::Event] {
            assert_eq!(embedded_for(task).unwrap().origin, Origin::Embedded);
        }
        assert_eq!(best_for(Task::Language).unwrap().name, "whisper-language");
        assert!(best_for(Task::Genre).is_none());
        for row in ROWS {
            assert_eq!(find(row.name), Some(row));
        }
        assert_eq!(find("ntu-spml/distilhubert").unwrap().name, "distilhubert");
    }

    #[test]
    fn the_rows_of_the_embedded_models_say_what_their_weights_say() {
        for row in ROWS.iter().filter(|row| row.origin == Origin::Embedded) {
            let model = load(row).unwrap();
            assert_eq!(model.info().labels.len(), row.labels, "{}", row.name);
            assert_eq!(&*model.info().licence, row.licence);
            assert_eq!(model.info().task, row.task);
        }
    }

    #[test]
    fn an_unknown_name_is_told_what_is_near() {
        let Err(error) = open("yamnett") else {
            panic!("there is no yamnett");
        };
        let text = error.to_string();
        for part in ["'yamnett'", "'yamnet'", "hark models list"] {
            assert!(text.contains(part), "{text}");
        }
        let Err(error) = open("/nowhere/at/all") else {
            panic!("nothing is there");
        };
        assert!(!error.to_string().contains("did you mean"), "{error}");
    }
}
