//! Locks between processes, on the files that `huggingface_hub` locks too (`flock`, by its
//! `filelock`), so that either waits for the other.
//!
//! The kernel drops a lock with its process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::HubError;

/// Holds a lock until it is dropped.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// Takes `path` for this process alone; `waits` is called once when another one has it.
///
/// # Errors
/// When the file cannot be made.
pub fn exclusive(path: &Path, waits: impl FnOnce()) -> Result<Held, HubError> {
    let mut waits = Some(waits);
    held(path, |file| match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            if let Some(waits) = waits.take() {
                waits();
            }
            file.lock()
        }
        other => other.map_err(io::Error::from),
    })
}

/// Takes `path` together with others that share it.
///
/// # Errors
/// When the file cannot be made.
pub fn shared(path: &Path) -> Result<Held, HubError> {
    held(path, File::lock_shared)
}

/// Takes `path` for this process alone, or nothing when anyone has it.
///
/// # Errors
/// When the file cannot be made.
pub fn try_exclusive(path: &Path) -> Result<Option<Held>, HubError> {
    match held(path, |file| file.try_lock().map_err(io::Error::from)) {
        Err(HubError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

fn held(path: &Path, mut take: impl FnMut(&File) -> io::Result<()>) -> Result<Held, HubError> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(HubError::io(dir))?;
    }
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(HubError::io(path))?;
        match take(&file) {
            Ok(()) => {}
            // Some network file systems have no locks. The checksum still decides what is kept.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(Held { _file: file });
            }
            Err(error) => return Err(HubError::io(path)(error)),
        }
        // Who held it before may have deleted the file: then this is a lock on nothing.
        let same = match (file.metadata(), std::fs::metadata(path)) {
            (Ok(mine), Ok(there)) => mine.ino() == there.ino() && mine.dev() == there.dev(),
            _ => false,
        };
        if same {
            return Ok(Held { _file: file });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_shared_ones_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/a.lock");
        let held = exclusive(&path, || panic!("nobody has it")).unwrap();
        assert!(try_exclusive(&path).unwrap().is_none());
        drop(held);
        let first = shared(&path).unwrap();
        let second = shared(&path).unwrap();
        assert!(try_exclusive(&path).unwrap().is_none());
        drop((first, second));
        assert!(try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_on_a_deleted_file_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let held = exclusive(&path, || {}).unwrap();
        let (about_to_wait, waits) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| exclusive(&path, move || about_to_wait.send(()).unwrap()));
            waits.recv().unwrap();
            std::fs::remove_file(&path).unwrap();
            drop(held);
            let next = next.join().unwrap().unwrap();
            assert!(try_exclusive(&path).unwrap().is_none(), "{next:?}");
        });
    }
}
