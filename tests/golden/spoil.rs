//! Copies of a fixture that are spoiled on purpose: what a loader must refuse, and how.

use std::collections::BTreeMap;

use harkd::models::ModelError;
use harkd::models::layout::Layout;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::golden;

/// One thing that is done to a checkpoint.
pub enum Spoil<'a> {
    /// A key of a JSON file gets another value.
    Put(&'a str, &'a str, Value),
    /// A tensor is left out.
    Drop(&'a str),
    /// A tensor keeps its values and gets another shape.
    Reshape(&'a str, &'a [usize]),
    /// Several of these.
    All(Vec<Spoil<'a>>),
}

/// Another value of a key of `config.json`.
pub fn config(key: &str, value: impl Into<Value>) -> Spoil<'_> {
    Spoil::Put("config.json", key, value.into())
}

/// Another value of a key of `preprocessor_config.json`.
pub fn settings(key: &str, value: impl Into<Value>) -> Spoil<'_> {
    Spoil::Put("preprocessor_config.json", key, value.into())
}

/// A copy of the checkpoint in `fixtures/<case>`, which is one `model.safetensors`.
fn copy(case: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden("fixtures").join(case)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

impl Spoil<'_> {
    fn apply(&self, dir: &TempDir) {
        match self {
            Spoil::Put(file, key, value) => {
                let path = dir.path().join(file);
                let text = std::fs::read_to_string(&path).unwrap();
                let mut object: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
                object.insert((*key).to_owned(), value.clone());
                std::fs::write(&path, serde_json::to_vec(&object).unwrap()).unwrap();
            }
            Spoil::Drop(key) => tensors(dir, key, None),
            Spoil::Reshape(key, shape) => tensors(dir, key, Some(shape)),
            Spoil::All(spoils) => spoils.iter().for_each(|spoil| spoil.apply(dir)),
        }
    }
}

/// Writes the tensors anew, with another shape of `key` or without it.
fn tensors(dir: &TempDir, key: &str, shape: Option<&[usize]>) {
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let mut all: BTreeMap<String, TensorView> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(key, view)| (key.to_owned(), view))
        .collect();
    let old = all.remove(key).unwrap_or_else(|| panic!("no tensor {key}"));
    if let Some(shape) = shape {
        let new = TensorView::new(old.dtype(), shape.to_vec(), old.data()).unwrap();
        all.insert(key.to_owned(), new);
    }
    let spoiled = safetensors::serialize(all, None).unwrap();
    // The bytes that the views look at were read, not mapped, so that the file may be replaced.
    std::fs::write(&path, spoiled).unwrap();
}

/// Asserts that `load` takes `case`, and refuses each spoiled copy with an error that names a file and
/// holds the text.
pub fn refuses<T>(
    case: &str,
    load: impl Fn(&Layout) -> Result<T, ModelError>,
    spoils: &[(Spoil, &str)],
) {
    assert!(load(&Layout::open(copy(case).path()).unwrap()).is_ok());
    for (spoil, text) in spoils {
        let dir = copy(case);
        spoil.apply(&dir);
        let Err(error) = load(&Layout::open(dir.path()).unwrap()) else {
            panic!("{case}: loaded where an error was expected: {text}");
        };
        let error = error.to_string();
        let file = format!("{}/", dir.path().display());
        assert!(error.starts_with(&file), "{case}: no file named: {error}");
        assert!(error.contains(text), "{case}: expected {text}, got {error}");
    }
}
