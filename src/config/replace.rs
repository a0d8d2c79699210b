//! Writes a file whole or not at all, so that neither a full disk nor a loss of power leaves half of
//! one: a new file beside it, its content on the disk, then the name (rename(2) replaces at once).
//!
//! What is written is not known here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Read and written by the user alone: what is learnt of a home is nobody else's.
const MODE: u32 = 0o600;

/// Gives `path` the content `bytes`; the folders above it are made where they are missing. Whatever
/// stood there stays untouched until the new content is on the disk. A link is followed, so that a
/// file that is kept elsewhere stays there.
///
/// # Errors
/// When a folder cannot be made, or the disk takes no more; nothing has changed then, and nothing is
/// left beside.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What does not exist yet is no link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    fs::create_dir_all(dir)?;
    let partial = partial(&path)?;
    let written = write(&partial, bytes).and_then(|()| fs::rename(&partial, &path));
    if written.is_err() {
        // The first error is the one to tell; this file is then in nobody's way.
        let _ = fs::remove_file(&partial);
        return written;
    }
    File::open(dir)?.sync_all()
}

/// A name beside `path` that no other process writes to.
fn partial(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.partial", std::process::id()));
    Ok(path.with_file_name(hidden))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_appears_with_its_folders_and_is_replaced_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c.toml");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(&dir.path().join("a/b")), ["c.toml"]);
    }

    #[test]
    fn a_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        // A folder cannot be replaced by a file.
        let taken = dir.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        replace(&taken, b"x").unwrap_err();
        assert_eq!(names(dir.path()), ["taken"]);
        fs::write(dir.path().join("file"), "").unwrap();
        replace(&dir.path().join("file/below"), b"x").unwrap_err();
        replace(Path::new("/"), b"x").unwrap_err();
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_as_it_was() {
        // Every write to this device fails as one to a full disk does.
        let error = write(Path::new("/dev/full"), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
