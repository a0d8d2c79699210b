//! What can go wrong between here and a hub: each text says what, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::progress::human;

/// A pull, a download or a look into the cache that failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A repository, revision or file name that the user gave is none.
    #[error("{0}")]
    Name(String),
    /// An environment variable does not hold what it should.
    #[error("{0}")]
    Settings(String),
    /// There is no such repository, revision or file.
    #[error("{0}")]
    NotFound(String),
    /// 401 or 403: a token or the consent to a licence is missing.
    #[error("{0}")]
    Denied(String),
    /// 429 with a longer wait than anyone would sit through.
    #[error("{what}: the server asks to wait {wait_s} s before the next request; try again then")]
    Busy {
        /// The file or listing that was asked for.
        what: String,
        /// Seconds that the server named.
        wait_s: u64,
    },
    /// No server was reached at all.
    #[error(
        "{what}: cannot reach {host} ({reason}); check the network and HF_ENDPOINT, and try again"
    )]
    Unreachable {
        /// The file or listing that was asked for.
        what: String,
        /// Scheme, host and port.
        host: String,
        /// Why, as the network said it.
        reason: String,
    },
    /// The server was reached, and did not serve, however often it was asked.
    #[error(
        "{what}: {reason}; gave up after {attempts} attempts without getting on; try again later, \
         a download goes on where it stopped"
    )]
    GaveUp {
        /// The file or listing that was asked for.
        what: String,
        /// What the last attempt ended with.
        reason: String,
        /// How often it was tried without getting on.
        attempts: u32,
    },
    /// The server answered with something that it must not, or that makes no sense.
    #[error("{what}: {reason}")]
    Refused {
        /// The file or listing that was asked for.
        what: String,
        /// What was expected and got.
        reason: String,
    },
    /// A file does not have the content that was promised.
    #[error(
        "{file}: expected {kind} {expected}, got {got}: the download was thrown away; try again, \
         and if it stays so the server or something on the way changes the file"
    )]
    Checksum {
        /// The file.
        file: String,
        /// `sha256` or `git sha1`.
        kind: &'static str,
        /// Lower-case hexadecimal.
        expected: String,
        /// Lower-case hexadecimal.
        got: String,
    },
    /// A file does not have the length that was promised.
    #[error("{file}: expected {expected} bytes, the server sends {got}")]
    Size {
        /// The file.
        file: String,
        /// In bytes, from the first answer about it.
        expected: u64,
        /// In bytes, from the answer that carries it.
        got: u64,
    },
    /// The disk, quota or file size limit is reached.
    #[error(
        "{}: no room: {} more are needed and {} are free ({reason}); make room and run it again, \
         it goes on where it stopped", path.display(), human(*needed), human(*free)
    )]
    DiskFull {
        /// Where it was to be written.
        path: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes that this user may still write to that disk.
        free: u64,
        /// What the system said.
        reason: String,
    },
    /// A file or directory of the cache cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing may be fetched, and the cache does not have it.
    #[error("{0}")]
    Offline(String),
    /// Another process works on the same repository.
    #[error("{0}")]
    InUse(String),
    /// There is nothing to remove.
    #[error("{0}")]
    NotInstalled(String),
}

impl HubError {
    /// An error of the file system at `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> HubError + '_ {
        move |source| HubError::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// A server's answer about `what` that must not be believed.
    pub(super) fn refused(what: &str, reason: impl Into<String>) -> HubError {
        HubError::Refused {
            what: what.to_owned(),
            reason: reason.into(),
        }
    }

    /// Whether the cache may answer instead: the hub is away, and said nothing about the repository.
    pub(super) fn is_absence(&self) -> bool {
        matches!(
            self,
            HubError::Unreachable { .. } | HubError::GaveUp { .. } | HubError::Busy { .. }
        )
    }
}
