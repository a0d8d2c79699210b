//! Files that are whole or not there: written beside their place, made safe, and given their name last.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::models::ModelError;

/// Writes `bytes` as `path`. A full disk or a killed process leaves what was there before.
///
/// # Errors
/// When the disk refuses; nothing half written stays behind then.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let partial = path.with_file_name(name);
    let written = File::create(&partial)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|error| {
        // What is gone already need not be removed.
        let _ = std::fs::remove_file(&partial);
        ModelError::Read(format!("{}: cannot be written: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_refusal_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write(&dir.path().join("no/b.json"), b"x")
            .unwrap_err()
            .to_string();
        assert!(error.contains("b.json: cannot be written"), "{error}");
    }
}
