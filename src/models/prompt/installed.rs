//! Where the CLAP for prompts is on this machine, and which file it is known by.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::models::layout::Layout;
use crate::models::{ModelError, Task, registry};

/// A directory with a CLAP, not loaded.
#[derive(Debug, Clone)]
pub struct InstalledClap {
    /// Registry name, or the directory as it was named.
    pub name: Arc<str>,
    /// Its directory in the Hugging Face layout.
    pub dir: PathBuf,
    /// SPDX expression, `unknown` for a directory.
    pub licence: Arc<str>,
    sha256: OnceLock<Arc<str>>,
}

impl InstalledClap {
    /// Finds `model`, a registry name or a directory; without one the first CLAP that is installed.
    /// Nothing is loaded.
    ///
    /// # Errors
    /// When there is none, or the name is of a model for something else; the text has the command that
    /// fetches one.
    pub fn locate(model: Option<&str>) -> Result<Self, ModelError> {
        let name = match model {
            Some(name) => name,
            None => {
                match registry::best_for(Task::Prompt).filter(|row| registry::is_installed(row)) {
                    Some(row) => row.name,
                    None => {
                        return Err(ModelError::Unknown(
                        "no CLAP is installed: fetch one with 'hark models pull clap-unfused', or name a directory with --model DIR".into(),
                    ));
                    }
                }
            }
        };
        if let Some(row) = registry::find(name)
            && row.task != Task::Prompt
        {
            return Err(ModelError::Unknown(format!(
                "model '{name}' answers task {}, not prompts: name a CLAP, such as clap-unfused",
                row.task.as_str()
            )));
        }
        let (dir, row) = registry::locate(name)?;
        Ok(InstalledClap {
            name: row
                .map_or_else(|| dir.display().to_string(), |row| row.name.to_owned())
                .into(),
            licence: row.map_or("unknown", |row| row.licence).into(),
            dir,
            sha256: OnceLock::new(),
        })
    }

    /// SHA-256 of its weights in lower-case hexadecimal; read from the disk once where no link says it.
    ///
    /// # Errors
    /// When there are no weights or they cannot be read.
    pub fn sha256(&self) -> Result<Arc<str>, ModelError> {
        if let Some(known) = self.sha256.get() {
            return Ok(known.clone());
        }
        let params = self.layout()?.params()?;
        let sha256: Arc<str> = registry::checksum(params.path())?.into();
        Ok(self.sha256.get_or_init(|| sha256).clone())
    }

    /// Its directory, opened.
    ///
    /// # Errors
    /// When its configuration cannot be read, or is not that of a CLAP.
    pub fn layout(&self) -> Result<Layout, ModelError> {
        let layout = Layout::open(&self.dir)?;
        match layout.model_type() {
            "clap" => Ok(layout),
            other => {
                Err(layout.wrong("model_type", &format!("expected \"clap\", got \"{other}\"")))
            }
        }
    }
}
