//! The known checkpoints, one row each, and the way from a name to a running model.
//!
//! What can change with the weights (labels, licence, number of parameters) is read from the
//! weights' own metadata and not repeated here.

use std::path::Path;

use super::{
    FrameClassifier, ModelError, ModelInfo, Spotter, Task, embedded_event, embedded_keyword,
    event::EventModel, keyword::KeywordModel, verify::hex_sha256,
};
use crate::nn::weights::Checkpoint;

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
    pub from: &'static str,
}

/// Every known checkpoint.
pub const ROWS: [Row; 2] = [
    Row {
        name: "hark-keyword",
        task: Task::Keyword,
        about: "spoken words, stepped on every 10 ms frame",
        from: "embedded",
    },
    Row {
        name: "hark-event",
        task: Task::Event,
        about: "household sounds, speech and music, on windows of about a second",
        from: "embedded",
    },
];

/// A model that is ready to run, by the way it is fed.
pub enum Model {
    /// Stepped on every frame.
    Spotter(Box<dyn Spotter>),
    /// Run on windows.
    Frames(Box<dyn FrameClassifier>),
}

impl Model {
    /// What it is.
    pub fn info(&self) -> &ModelInfo {
        match self {
            Model::Spotter(model) => model.info(),
            Model::Frames(model) => model.info(),
        }
    }
}

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// The row that answers `task` where the configuration names no model.
pub fn default_for(task: Task) -> &'static Row {
    match task {
        Task::Keyword => &ROWS[0],
        Task::Event => &ROWS[1],
    }
}

/// Loads the checkpoint of a row.
///
/// # Errors
/// When the weights are damaged.
pub fn load(row: &Row) -> Result<Model, ModelError> {
    match row.task {
        Task::Keyword => embedded_keyword().map(Model::Spotter),
        Task::Event => embedded_event().map(Model::Frames),
    }
}

/// Loads a model by its registry name, or from a directory that holds `model.safetensors`, or from
/// such a file.
///
/// # Errors
/// When the name is not known, or the weights are damaged.
pub fn open(model: &str) -> Result<Model, ModelError> {
    if let Some(row) = find(model) {
        return load(row);
    }
    let path = Path::new(model);
    if path.is_dir() {
        return open_file(&path.join("model.safetensors"));
    }
    if path.is_file() {
        return open_file(path);
    }
    Err(unknown(model))
}

/// Loads a weights file that `hark train` has written.
fn open_file(path: &Path) -> Result<Model, ModelError> {
    let name = path.display();
    let bytes =
        std::fs::read(path).map_err(|error| ModelError::Read(format!("{name}: {error}")))?;
    let checkpoint = Checkpoint::from_bytes(&bytes, &name.to_string())?;
    let sha256 = hex_sha256(&bytes).into();
    match checkpoint.card.task.as_str() {
        "keyword" => Ok(Model::Spotter(Box::new(KeywordModel::new(
            &checkpoint,
            sha256,
        )?))),
        "event" => Ok(Model::Frames(Box::new(EventModel::new(
            &checkpoint,
            sha256,
        )?))),
        other => Err(ModelError::Format(format!(
            "{name}: header entry 'harkd', task: expected keyword or event, got '{other}'"
        ))),
    }
}

pub(super) fn unknown(model: &str) -> ModelError {
    let known = ROWS.map(|row| row.name).join(", ");
    ModelError::Unknown(format!(
        "no model '{model}': use one of {known}, or a directory that holds model.safetensors"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_has_a_default_and_every_name_leads_back_to_its_row() {
        for task in [Task::Keyword, Task::Event] {
            assert_eq!(default_for(task).task, task);
        }
        for row in &ROWS {
            assert_eq!(find(row.name), Some(row));
        }
    }

    #[test]
    fn an_unknown_name_is_told_what_is_known() {
        let Err(error) = open("yamnet") else {
            panic!("yamnet is no model of this version");
        };
        let text = error.to_string();
        for part in ["'yamnet'", "hark-keyword", "hark-event"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
