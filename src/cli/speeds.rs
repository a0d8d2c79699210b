//! How fast models have run on this machine: `hark bench --model` writes it down for `hark models
//! list`. A file that cannot be read is as good as none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::paths::Paths;

/// Seconds that a native window takes, by the name of the model.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Speeds(BTreeMap<String, f64>);

fn path() -> PathBuf {
    Paths::current().cache.join("speeds.json")
}

impl Speeds {
    /// What has been measured so far.
    pub fn read() -> Self {
        std::fs::read(path())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Seconds of a window of `model`, where it was measured.
    pub fn of(&self, model: &str) -> Option<f64> {
        self.0.get(model).copied()
    }

    /// Notes a measurement for later.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn note(mut self, model: &str, seconds: f64) -> std::io::Result<()> {
        self.0.insert(model.to_owned(), seconds);
        let path = path();
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let partial = path.with_extension("partial");
        std::fs::write(&partial, serde_json::to_vec(&self)?)?;
        std::fs::rename(partial, path)
    }
}
