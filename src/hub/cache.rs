//! The cache on the disk, in the layout of `huggingface_hub` 2.4 (`file_download.py`):
//!
//! ```text
//! models--ORG--NAME/blobs/ETAG                     the content, once
//!                  /blobs/ETAG.incomplete          what has arrived of it
//!                  /snapshots/COMMIT/FILE          -> ../../blobs/ETAG
//!                  /refs/REVISION                  the commit that it was at the last pull
//!                  /.no_exist/COMMIT/FILE          that a commit lacks this file is known
//! .locks/models--ORG--NAME/ETAG.lock               held while the blob is written
//! ```
//!
//! Nothing here makes a request.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::HubError;
use super::fetch::{sync_dir, write_error};
use super::lock::{self, Held};
use super::names::is_commit;

/// What a repository's folder is named with.
const FOLDER: &str = "models--";

/// The end of the name of a link or reference that does not have its own name yet.
const UNNAMED: &str = ".hark-tmp";

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedFile {
    /// Its path inside the repository.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Number of files that had content of their own.
    pub files: usize,
    /// Bytes that the disk has back.
    pub bytes: u64,
}

/// One repository in the cache.
#[derive(Debug)]
pub struct Repository {
    name: String,
    root: PathBuf,
    locks: PathBuf,
}

impl Repository {
    /// The repository `name`, which was checked, in the cache `cache`.
    pub fn new(cache: &Path, name: &str) -> Self {
        let folder = format!("{FOLDER}{}", name.replace('/', "--"));
        Repository {
            name: name.to_owned(),
            locks: cache.join(".locks").join(&folder),
            root: cache.join(folder),
        }
    }

    /// The content with this ETag.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// What has arrived of it.
    pub fn partial(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// What guards it.
    pub fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    fn missing(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(file)
    }

    /// Keeps [`Self::remove`] away until it is dropped.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub fn in_use(&self) -> Result<Held, HubError> {
        lock::shared(&self.locks.join("pull.lock"))
    }

    /// The commit that `revision` is known to be.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Whether a commit's file is here.
    pub fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// Whether it is known that a commit lacks a file.
    pub fn lacks(&self, commit: &str, file: &str) -> bool {
        self.missing(commit, file).is_file()
    }

    /// Remembers that a commit lacks a file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn mark_lacking(&self, commit: &str, file: &str) -> Result<(), HubError> {
        let path = self.missing(commit, file);
        make_parent(&path)?;
        fs::write(&path, []).map_err(|error| write_error(&path, 0, error))
    }

    /// Gives the blob its name in the snapshot. The blob is whole and verified.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn publish(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(file);
        let up = "../".repeat(file.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if fs::read_link(&link).is_ok_and(|old| old == target) {
            return Ok(());
        }
        make_parent(&link)?;
        let unnamed = unnamed(&link);
        std::os::unix::fs::symlink(&target, &unnamed)
            .map_err(|error| write_error(&unnamed, 0, error))?;
        named(&unnamed, &link)
    }

    /// Remembers which commit `revision` is, and that the folder is a cache.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn refer(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        self.tag_cache();
        if revision == commit {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        if fs::read_to_string(&path).is_ok_and(|old| old == commit) {
            return Ok(());
        }
        make_parent(&path)?;
        let unnamed = unnamed(&path);
        fs::write(&unnamed, commit).map_err(|error| write_error(&unnamed, 0, error))?;
        named(&unnamed, &path)
    }

    /// Tells backup programs that all of this can be fetched again (bford.info/cachedir).
    fn tag_cache(&self) {
        let Some(cache) = self.root.parent() else {
            return;
        };
        // It helps where it can be written and is nothing to fail for.
        let _ = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(cache.join("CACHEDIR.TAG"))
            .and_then(|mut file| {
                io::Write::write_all(&mut file, b"Signature: 8a477f597d28d172789f06886806bc55\n")
            });
    }

    /// The files of a commit that are here, by name.
    pub fn files(&self, commit: &str) -> Vec<CachedFile> {
        let root = self.snapshot(commit);
        let mut files: Vec<CachedFile> = walk(&root)
            .into_iter()
            .filter_map(|path| {
                let name = path.strip_prefix(&root).ok()?.to_str()?.to_owned();
                let there = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
                (!name.ends_with(UNNAMED)).then_some(CachedFile {
                    name,
                    bytes: there.len(),
                })
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    /// Removes the snapshot of `revision` with the blobs that no other one needs, or the whole
    /// repository without a revision or when nothing else is left of it.
    ///
    /// # Errors
    /// When it is not here, a pull is at work, or the disk refuses.
    pub fn remove(&self, revision: Option<&str>) -> Result<Removed, HubError> {
        let absent = |what: &str| {
            HubError::NotInstalled(format!(
                "{what} is not in the cache, {}",
                self.root.parent().unwrap_or(&self.root).display()
            ))
        };
        if !self.root.is_dir() {
            return Err(absent(&self.name));
        }
        let Some(held) = lock::try_exclusive(&self.locks.join("pull.lock"))? else {
            return Err(HubError::InUse(format!(
                "{}: another process is pulling it; wait for it or end it first",
                self.name
            )));
        };
        let Some(revision) = revision else {
            let removed = self.remove_all();
            drop(held);
            return removed;
        };
        let commit = self
            .commit(revision)
            .filter(|commit| self.snapshot(commit).is_dir())
            .ok_or_else(|| absent(&format!("{} at '{revision}'", self.name)))?;
        self.remove_commit(&commit)
    }

    fn remove_commit(&self, commit: &str) -> Result<Removed, HubError> {
        let snapshots = self.root.join("snapshots");
        let others = fs::read_dir(&snapshots)
            .map_err(HubError::io(&snapshots))?
            .flatten()
            .any(|entry| entry.file_name() != commit);
        if !others {
            return self.remove_all();
        }
        for path in walk(&self.root.join("refs")) {
            if fs::read_to_string(&path).is_ok_and(|text| text.trim() == commit) {
                fs::remove_file(&path).map_err(HubError::io(&path))?;
            }
        }
        // The names go first: what has a name is whole.
        remove_dir(&self.snapshot(commit))?;
        remove_dir(&self.root.join(".no_exist").join(commit))?;
        let needed: BTreeSet<_> = walk(&snapshots)
            .iter()
            .filter_map(|link| fs::read_link(link).ok()?.file_name().map(ToOwned::to_owned))
            .collect();
        let mut removed = Removed::default();
        for path in walk(&self.root.join("blobs")) {
            // What is incomplete may just be on its way here, for another program.
            let arriving = path.extension().is_some_and(|end| end == "incomplete");
            if !arriving && path.file_name().is_some_and(|name| !needed.contains(name)) {
                removed.add(&path);
                fs::remove_file(&path).map_err(HubError::io(&path))?;
            }
        }
        Ok(removed)
    }

    fn remove_all(&self) -> Result<Removed, HubError> {
        let mut removed = Removed::default();
        for path in walk(&self.root) {
            removed.add(&path);
        }
        for part in ["refs", "snapshots", ".no_exist"] {
            remove_dir(&self.root.join(part))?;
        }
        remove_dir(&self.root)?;
        remove_dir(&self.locks)?;
        Ok(removed)
    }
}

impl Removed {
    /// Counts a blob; links, references and marks have no content.
    fn add(&mut self, path: &Path) {
        let in_blobs = path.parent().is_some_and(|dir| dir.ends_with("blobs"));
        if in_blobs
            && let Ok(there) = fs::symlink_metadata(path)
            && there.is_file()
        {
            self.files += 1;
            self.bytes += there.len();
        }
    }
}

/// Every file and link below `dir`, none where there is no such folder.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(_) => found.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    found
}

fn remove_dir(dir: &Path) -> Result<(), HubError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubError::io(dir)(error)),
        _ => Ok(()),
    }
}

fn make_parent(path: &Path) -> Result<(), HubError> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).map_err(|error| write_error(dir, 0, error))
}

/// A name beside `path` that no other process takes.
fn unnamed(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}{UNNAMED}", fastrand::u64(..)));
    path.with_file_name(name)
}

fn named(unnamed: &Path, path: &Path) -> Result<(), HubError> {
    if let Err(error) = fs::rename(unnamed, path) {
        // The first failure is the one to tell.
        let _ = fs::remove_file(unnamed);
        return Err(HubError::io(path)(error));
    }
    path.parent().map_or(Ok(()), sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";

    fn blob(repository: &Repository, etag: &str, len: usize) {
        let path = repository.blob(etag);
        make_parent(&path).unwrap();
        fs::write(path, vec![7; len]).unwrap();
    }

    /// Two commits that share the blob `shared`.
    fn two_commits(cache: &Path) -> Repository {
        let repository = Repository::new(cache, "org/name");
        for (etag, len) in [("shared", 100), ("old", 200), ("new", 300)] {
            blob(&repository, etag, len);
        }
        repository.publish(OLD, "config.json", "shared").unwrap();
        repository.publish(OLD, "deep/er/w.bin", "old").unwrap();
        repository.publish(NEW, "config.json", "shared").unwrap();
        repository.publish(NEW, "w.bin", "new").unwrap();
        repository.refer("v1", OLD).unwrap();
        repository.refer("main", NEW).unwrap();
        repository
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let dir = tempfile::tempdir().unwrap();
        let repository = two_commits(dir.path());
        let root = dir.path().join("models--org--name");
        let link = |path: String| fs::read_link(root.join(path)).unwrap();
        assert_eq!(
            link(format!("snapshots/{OLD}/config.json")),
            Path::new("../../blobs/shared")
        );
        assert_eq!(
            link(format!("snapshots/{OLD}/deep/er/w.bin")),
            Path::new("../../../../blobs/old")
        );
        assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), NEW);
        assert!(dir.path().join("CACHEDIR.TAG").is_file());
        assert_eq!(repository.commit("v1").as_deref(), Some(OLD));
        assert_eq!(repository.commit("v2"), None);
        let names: Vec<_> = repository.files(OLD).into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["config.json", "deep/er/w.bin"]);
    }

    #[test]
    fn a_link_is_replaced_and_a_dangling_one_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let repository = two_commits(dir.path());
        fs::remove_file(repository.blob("new")).unwrap();
        assert!(!repository.has(NEW, "w.bin"));
        assert_eq!(repository.files(NEW).len(), 1);
        repository.publish(NEW, "w.bin", "old").unwrap();
        assert!(repository.has(NEW, "w.bin"));
    }

    #[test]
    fn removing_a_revision_keeps_what_others_need() {
        let dir = tempfile::tempdir().unwrap();
        let repository = two_commits(dir.path());
        let removed = repository.remove(Some("v1")).unwrap();
        assert_eq!((removed.files, removed.bytes), (1, 200));
        assert!(repository.has(NEW, "config.json") && repository.has(NEW, "w.bin"));
        assert_eq!(repository.commit("v1"), None);
        assert!(matches!(
            repository.remove(Some("v1")),
            Err(HubError::NotInstalled(_))
        ));
        // The last revision takes the repository with it.
        let removed = repository.remove(Some("main")).unwrap();
        assert_eq!((removed.files, removed.bytes), (2, 400));
        assert!(!dir.path().join("models--org--name").exists());
        assert!(!dir.path().join(".locks/models--org--name").exists());
    }

    #[test]
    fn what_is_being_pulled_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let repository = two_commits(dir.path());
        let pull = repository.in_use().unwrap();
        let error = repository.remove(None).unwrap_err();
        assert!(matches!(error, HubError::InUse(_)), "{error}");
        drop(pull);
        assert_eq!(repository.remove(None).unwrap().bytes, 600);
    }
}
