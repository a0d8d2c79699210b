//! Downloads models from a Hugging Face hub, into the cache that Python's `huggingface_hub` uses, and
//! release files from elsewhere; removes what was downloaded.
//!
//! This is the only room that opens connections, and it does so when [`Hub::pull`] or
//! [`Hub::fetch_file`] is called and at no other time. It knows repositories, files and revisions, and
//! nothing of models. Everything here blocks.
//!
//! [`settings`] reads the environment; [`names`] refuses what could lead elsewhere; `select` says
//! which files are wanted; `listing` asks the hub; `http` makes requests, `retry` makes them again;
//! `fetch` downloads and verifies ([`digest`]) one file under its [`lock`]; [`cache`] is the disk.

pub mod cache;
pub mod digest;
mod error;
mod fetch;
mod http;
mod listing;
pub mod lock;
pub mod names;
mod progress;
mod retry;
mod select;
pub mod settings;
mod spec;

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

pub use cache::{CachedFile, Removed};
pub use error::HubError;
pub use progress::{Progress, Tell, human};
pub use select::{SPEECHBRAIN, TRANSFORMERS, Wanted};
pub use settings::{Patience, Settings};
pub use spec::{PullSpec, ReleaseFile};

use cache::Repository;
use digest::Checksum;
use fetch::Download;
use http::Http;
use listing::{Listing, Meta, Subject};
use select::Known;

use crate::config::nearest;

/// What is to be pulled.
#[derive(Debug, Clone, Copy)]
pub struct Pull<'a> {
    /// `ORG/NAME`.
    pub repo: &'a str,
    /// Branch, tag or commit; `main` is the usual one.
    pub revision: &'a str,
    /// Which of its files.
    pub files: &'a [Wanted<'a>],
}

/// Files of one commit, in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder that holds the files by their names.
    pub dir: PathBuf,
    /// The commit.
    pub commit: String,
    /// The files, by name.
    pub files: Vec<CachedFile>,
    /// Bytes that came over the network for it.
    pub downloaded: u64,
    /// Why the hub was not asked, where it was not.
    pub from_cache: Option<String>,
}

impl Snapshot {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// A file that is published by its address and checksum, outside any hub.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// Where it is.
    pub url: &'a str,
    /// Its SHA-256, lower-case hexadecimal, where one is known. Without it the length alone is
    /// checked, and what an earlier run has left is not gone on with.
    pub sha256: Option<&'a str>,
}

/// A hub and its cache.
pub struct Hub {
    settings: Settings,
    http: Http,
}

impl Hub {
    /// The hub that the environment names. No connection is made.
    ///
    /// # Errors
    /// When a variable does not hold what it should.
    pub fn from_env() -> Result<Self, HubError> {
        Settings::from_env().map(Self::new)
    }

    /// The hub of these settings. No connection is made.
    pub fn new(settings: Settings) -> Self {
        let http = Http::new(&settings);
        Hub { settings, http }
    }

    /// Where it is and how it is used.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes the wanted files of a revision be in the cache. A commit whose files are all here needs no
    /// connection; when the hub is away, or `HF_HUB_OFFLINE` is set, what an earlier pull of the
    /// revision has left is the answer, and [`Snapshot::from_cache`] says so.
    ///
    /// # Errors
    /// When a file cannot be had, is not what was promised, or the disk refuses. What has arrived
    /// stays, and the next pull goes on with it.
    pub fn pull(&self, pull: &Pull<'_>, tell: &mut Tell<'_>) -> Result<Snapshot, HubError> {
        let repository = self.repository(pull)?;
        if names::is_commit(pull.revision)
            && let Some(names) = local(&repository, pull, pull.revision, true)
        {
            let reason = "all files of this commit are here";
            return Ok(from_cache(&repository, pull.revision, &names, reason, tell));
        }
        let cached = repository.commit(pull.revision).and_then(|commit| {
            local(&repository, pull, &commit, false).map(|names| (commit, names))
        });
        if self.settings.offline {
            let (commit, names) = cached.ok_or_else(|| self.offline(pull))?;
            let reason = "HF_HUB_OFFLINE is set";
            return Ok(from_cache(&repository, &commit, &names, reason, tell));
        }
        let subject = Subject {
            endpoint: &self.settings.endpoint,
            repo: pull.repo,
            revision: pull.revision,
        };
        let mut patience = self.settings.patience;
        if cached.is_some() {
            patience.attempts = 1;
        }
        let listing = match (subject.listing(&self.http, patience, tell), cached) {
            (Ok(listing), _) => listing,
            (Err(error), Some((commit, names))) if error.is_absence() => {
                let reason = error.to_string();
                return Ok(from_cache(&repository, &commit, &names, &reason, tell));
            }
            (Err(error), _) => return Err(error),
        };
        if names::is_commit(pull.revision) && listing.commit != pull.revision {
            return Err(HubError::refused(
                pull.repo,
                format!("sha: expected {}, got {}", pull.revision, listing.commit),
            ));
        }
        self.pull_listed(&repository, pull, &listing, tell)
    }

    fn pull_listed(
        &self,
        repository: &Repository,
        pull: &Pull<'_>,
        listing: &Listing,
        tell: &mut Tell<'_>,
    ) -> Result<Snapshot, HubError> {
        let commit = listing.commit.as_str();
        let chosen = select::choose(pull.files, true, |name| {
            if listing.files.contains(name) {
                Known::There
            } else {
                Known::Absent
            }
        })
        .map_err(|wish| lacking(pull, listing, &wish))?;
        let _held = repository.in_use()?;
        let at_commit = At {
            hub: self,
            repository,
            subject: Subject {
                endpoint: &self.settings.endpoint,
                repo: pull.repo,
                revision: commit,
            },
        };
        let mut names: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        let mut downloaded = 0;
        // An index says which other files there are, so it comes first.
        for index in chosen.iter().filter(|name| select::is_index(name)) {
            downloaded += at_commit.obtain_all(&[index.to_string()], tell)?;
            for shard in read_shards(repository, commit, index)? {
                if !listing.files.contains(&shard) {
                    return Err(HubError::refused(
                        index,
                        format!("it lists '{shard}', which {} does not have", pull.repo),
                    ));
                }
                names.push(shard);
            }
        }
        downloaded += at_commit.obtain_all(&names, tell)?;
        for name in select::names(pull.files) {
            if !listing.files.contains(name) && !repository.lacks(commit, name) {
                repository.mark_lacking(commit, name)?;
            }
        }
        repository.refer(pull.revision, commit)?;
        Ok(Snapshot {
            downloaded,
            ..snapshot(repository, commit, &names)
        })
    }

    /// The files of a revision that are in the cache, whoever has put them there. Makes no connection.
    pub fn installed(&self, repo: &str, revision: &str) -> Option<Snapshot> {
        let pull = Pull {
            repo,
            revision,
            files: &[],
        };
        let repository = self.repository(&pull).ok()?;
        let commit = repository.commit(revision)?;
        let names: Vec<String> = repository
            .files(&commit)
            .into_iter()
            .map(|file| file.name)
            .collect();
        (!names.is_empty()).then(|| snapshot(&repository, &commit, &names))
    }

    /// The wanted files of a revision, when the cache has all that is required of them. Makes no
    /// connection.
    pub fn find(&self, pull: &Pull<'_>) -> Option<Snapshot> {
        let repository = self.repository(pull).ok()?;
        let commit = repository.commit(pull.revision)?;
        let names = local(&repository, pull, &commit, false)?;
        Some(snapshot(&repository, &commit, &names))
    }

    /// Removes a repository from the cache, or the snapshot of one revision with the content that no
    /// other one needs.
    ///
    /// # Errors
    /// When it is not there, is being pulled, or the disk refuses.
    pub fn remove(&self, repo: &str, revision: Option<&str>) -> Result<Removed, HubError> {
        let pull = Pull {
            repo,
            revision: revision.unwrap_or("main"),
            files: &[],
        };
        self.repository(&pull)?.remove(revision)
    }

    /// Makes a release file be at `to`, with the same care as a file of a hub. A file that is there
    /// and has the checksum needs no connection. No token is sent unless the file is on the hub
    /// itself. Returns the bytes that came over the network.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub fn fetch_file(
        &self,
        release: &Release<'_>,
        to: &Path,
        tell: &mut Tell<'_>,
    ) -> Result<u64, HubError> {
        let what = to
            .file_name()
            .and_then(OsStr::to_str)
            .ok_or_else(|| HubError::Name(format!("{}: no name of a file", to.display())))?;
        let hex = release.sha256;
        if hex.is_some_and(|hex| !names::is_hex(hex, 64)) || http::origin(release.url).is_none() {
            return Err(HubError::Name(format!(
                "{what}: expected an address and a SHA-256, got '{}' and '{}'",
                release.url,
                hex.unwrap_or_default()
            )));
        }
        let checksum = hex.map_or(Checksum::Unknown, |hex| Checksum::Sha256(hex.to_owned()));
        let beside = |end: &str| to.with_file_name(format!(".{what}.{end}"));
        let is_right = || {
            File::open(to)
                .and_then(|mut file| digest::of_file(&mut file, &checksum))
                .is_ok_and(|sha256| checksum.accepts(&sha256))
        };
        if is_right() {
            let reason = "the file is here";
            tell(Progress::FromCache { reason });
            return Ok(0);
        }
        if self.settings.offline {
            return Err(HubError::Offline(format!(
                "{what} is not here, and HF_HUB_OFFLINE is set: unset it and pull again"
            )));
        }
        let lock = beside("lock");
        let _held = lock::exclusive(&lock, || tell(Progress::Waiting { file: what }))?;
        let mut downloaded = 0;
        if !is_right() {
            downloaded = Download {
                what,
                url: release.url,
                partial: &beside("incomplete"),
                to,
                size: None,
                checksum: &checksum,
            }
            .run(&self.http, self.settings.patience, tell, &|reply| {
                let reason = format!(
                    "{} answers with status {}",
                    http::shown(&reply.url),
                    reply.status
                );
                match reply.status {
                    404 | 410 => HubError::NotFound(format!("{what}: {reason}")),
                    _ => HubError::refused(what, reason),
                }
            })?;
        }
        // Who waits for it sees that it is gone, and makes a new one.
        let _ = std::fs::remove_file(lock);
        Ok(downloaded)
    }

    fn repository(&self, pull: &Pull<'_>) -> Result<Repository, HubError> {
        names::check_repo(pull.repo)?;
        names::check_revision(pull.revision)?;
        for name in select::names(pull.files) {
            if let Some(why) = names::path_trouble(name) {
                return Err(HubError::Name(format!(
                    "'{}' is no file of a repository: {why}",
                    name.escape_debug()
                )));
            }
        }
        Ok(Repository::new(&self.settings.cache, pull.repo))
    }

    fn offline(&self, pull: &Pull<'_>) -> HubError {
        HubError::Offline(format!(
            "{} at '{}' is not complete in the cache, {}, and HF_HUB_OFFLINE is set: unset it and \
             pull again",
            pull.repo,
            pull.revision,
            self.settings.cache.display()
        ))
    }
}

/// One commit, while its files are fetched.
struct At<'a> {
    hub: &'a Hub,
    repository: &'a Repository,
    subject: Subject<'a>,
}

impl At<'_> {
    /// Makes files be in the snapshot; the bytes that came over the network.
    fn obtain_all(&self, names: &[String], tell: &mut Tell<'_>) -> Result<u64, HubError> {
        let commit = self.subject.revision;
        let mut missing = Vec::new();
        for name in names {
            if !self.repository.has(commit, name) {
                let hub = self.hub;
                let meta = self
                    .subject
                    .meta(&hub.http, hub.settings.patience, name, tell)?;
                missing.push((name.as_str(), meta));
            }
        }
        let bytes = missing.iter().map(|(_, meta)| self.to_come(meta)).sum();
        if missing.is_empty() {
            return Ok(0);
        }
        fetch::check_room(&existing(&self.hub.settings.cache), bytes)?;
        tell(Progress::Planned {
            files: missing.len(),
            bytes,
        });
        let mut downloaded = 0;
        for (name, meta) in &missing {
            downloaded += self.obtain(name, meta, tell)?;
        }
        Ok(downloaded)
    }

    /// Bytes that are not here yet.
    fn to_come(&self, meta: &Meta) -> u64 {
        let etag = meta.checksum.hex();
        if is_whole(&self.repository.blob(etag), meta) {
            return 0;
        }
        let have = std::fs::metadata(self.repository.partial(etag)).map_or(0, |there| there.len());
        meta.size.unwrap_or(0).saturating_sub(have)
    }

    fn obtain(&self, name: &str, meta: &Meta, tell: &mut Tell<'_>) -> Result<u64, HubError> {
        let etag = meta.checksum.hex();
        let blob = self.repository.blob(etag);
        let lock = self.repository.lock(etag);
        let _held = lock::exclusive(&lock, || tell(Progress::Waiting { file: name }))?;
        let mut downloaded = 0;
        if is_whole(&blob, meta) {
            let bytes = std::fs::metadata(&blob).map_or(0, |there| there.len());
            tell(Progress::Done { file: name, bytes });
        } else {
            downloaded = Download {
                what: name,
                url: &self.subject.file_url(name),
                partial: &self.repository.partial(etag),
                to: &blob,
                size: meta.size,
                checksum: &meta.checksum,
            }
            .run(&self.hub.http, self.hub.settings.patience, tell, &|reply| {
                self.subject.refusal(&self.hub.http, reply, Some(name))
            })?;
        }
        self.repository.publish(self.subject.revision, name, etag)?;
        Ok(downloaded)
    }
}

/// Whether a blob is there; it was verified before it got its name.
fn is_whole(blob: &Path, meta: &Meta) -> bool {
    std::fs::metadata(blob)
        .is_ok_and(|there| there.is_file() && meta.size.is_none_or(|size| size == there.len()))
}

/// A path in the nearest folder above `path` that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|dir| dir.is_dir())
        .unwrap_or(Path::new("/"))
        .join("_")
}

/// The wanted files of a commit, when the cache has all that is required of them; `strict` when it is
/// also sure that nothing optional is missing.
fn local(
    repository: &Repository,
    pull: &Pull<'_>,
    commit: &str,
    strict: bool,
) -> Option<Vec<String>> {
    let chosen = select::choose(pull.files, strict, |name| {
        if repository.has(commit, name) {
            Known::There
        } else if repository.lacks(commit, name) {
            Known::Absent
        } else {
            Known::Unknown
        }
    })
    .ok()?;
    let mut names: Vec<String> = chosen.iter().map(ToString::to_string).collect();
    for index in chosen.iter().filter(|name| select::is_index(name)) {
        names.extend(read_shards(repository, commit, index).ok()?);
    }
    names
        .iter()
        .all(|name| repository.has(commit, name))
        .then_some(names)
}

fn read_shards(
    repository: &Repository,
    commit: &str,
    index: &str,
) -> Result<Vec<String>, HubError> {
    let path = repository.snapshot(commit).join(index);
    let bytes = std::fs::read(&path).map_err(HubError::io(&path))?;
    select::shards(index, &bytes)
}

fn snapshot(repository: &Repository, commit: &str, names: &[String]) -> Snapshot {
    let files = repository
        .files(commit)
        .into_iter()
        .filter(|file| names.contains(&file.name))
        .collect();
    Snapshot {
        dir: repository.snapshot(commit),
        commit: commit.to_owned(),
        files,
        downloaded: 0,
        from_cache: None,
    }
}

fn from_cache(
    repository: &Repository,
    commit: &str,
    names: &[String],
    reason: &str,
    tell: &mut Tell<'_>,
) -> Snapshot {
    tell(Progress::FromCache { reason });
    Snapshot {
        from_cache: Some(reason.to_owned()),
        ..snapshot(repository, commit, names)
    }
}

/// Says which wish a repository does not meet, and what it has instead.
fn lacking(pull: &Pull<'_>, listing: &Listing, wish: &Wanted<'_>) -> HubError {
    /// More would hide the rest of the line.
    const SHOWN: usize = 8;
    let files: Vec<&str> = listing.files.iter().map(String::as_str).collect();
    let wished = select::described(wish);
    let meant = match wish {
        Wanted::Required(name) | Wanted::Optional(name) => nearest(name, files.iter().copied()),
        Wanted::OneOf(_) => None,
    };
    let has = match meant {
        Some(name) => format!("did you mean '{name}'?"),
        None if files.is_empty() => "it is empty".to_owned(),
        None => {
            let more = if files.len() > SHOWN { ", ..." } else { "" };
            format!(
                "it has {}{more}",
                files[..files.len().min(SHOWN)].join(", ")
            )
        }
    };
    HubError::NotFound(format!(
        "{} at '{}' has no {wished}; {has}",
        pull.repo, pull.revision
    ))
}
