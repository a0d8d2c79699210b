//! Binds the Unix socket: mode 0600 from the first moment it can be seen, a stale file replaced, a
//! second daemon refused, and at the end only a file of our own removed.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::BusError;

/// Longest path of a socket in bytes (`sun_path` of unix(7) is 108 with its end).
const MAX_PATH: usize = 107;

/// How long another process may take between looking and binding.
const LOCK_LIMIT: Duration = Duration::from_secs(2);

/// A bound socket; dropping it removes its file if that is still this one.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
    /// User who owns the file, and so the daemon.
    owner: u32,
}

impl Bound {
    /// Binds `path`, making its directory (mode 0700) where there is none. Blocks for at most
    /// two seconds, where another process starts on the same path.
    ///
    /// # Errors
    /// [`BusError::Taken`] when a living daemon serves it; otherwise what the system refuses.
    pub fn new(path: &Path) -> Result<Self, BusError> {
        let fail = |why: String| BusError::Socket {
            path: path.to_owned(),
            why,
        };
        let length = path.as_os_str().len();
        if length > MAX_PATH {
            let why = format!(
                "the path has {length} bytes, a socket's may have {MAX_PATH}; give a shorter one with --socket"
            );
            return Err(fail(why));
        }
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Err(fail(
                "is not the path of a file; give another with --socket".into(),
            ));
        };
        let dir = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| {
                fail(format!(
                    "cannot make the directory: {e}; give another path with --socket"
                ))
            })?;
        // Held only between looking and binding, so that of two daemons that find the same stale
        // file one wins and the other sees it. The directory itself carries the lock: no extra
        // file is left behind.
        let _lock = lock(dir).map_err(|e| fail(format!("cannot lock the directory: {e}")))?;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error.to_string())),
            Ok(found) if !found.file_type().is_socket() => {
                let why = "is there and is not a socket; move it away, or give another path with --socket";
                return Err(fail(why.into()));
            }
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(BusError::Taken(path.to_owned())),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    tracing::info!(
                        "{}: replacing the socket of a daemon that has died",
                        path.display()
                    );
                }
                Err(error) => return Err(fail(error.to_string())),
            },
        }
        // Bound under another name and moved into place: nobody sees it with a wider mode, and a
        // stale file is replaced in one step. The name is no longer than usual ones.
        let fresh = dir.join(format!(".h{}", std::process::id()));
        let fresh = if fresh.as_os_str().len() > MAX_PATH {
            dir.join(".h")
        } else {
            fresh
        };
        drop(fs::remove_file(&fresh));
        let bound = UnixListener::bind(&fresh).and_then(|listener| {
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            fs::rename(&fresh, dir.join(name))?;
            let meta = fs::symlink_metadata(path)?;
            Ok(Bound {
                listener,
                path: path.to_owned(),
                file: (meta.dev(), meta.ino()),
                owner: meta.uid(),
            })
        });
        bound.map_err(|error| {
            drop(fs::remove_file(&fresh));
            fail(format!(
                "cannot bind: {error}; give another path with --socket"
            ))
        })
    }

    /// Another handle to the listening socket, not blocking.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Whether a peer with this user id may speak: the daemon's own user, and root.
    pub fn allows(&self, uid: u32) -> bool {
        uid == self.owner || uid == 0
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{}: cannot remove the socket: {error}", self.path.display());
        }
    }
}

fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    let until = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process holds it"));
            }
            // Some file systems have no locks; then two daemons at once are not told apart.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(result: Result<Bound, BusError>) -> String {
        result.expect_err("must be refused").to_string()
    }

    #[test]
    fn modes_are_private_and_the_file_goes_with_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/hark.sock");
        let bound = Bound::new(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "nothing but the socket is left");
        assert!(bound.allows(bound.owner) && bound.allows(0));
        assert!(!bound.allows(bound.owner.wrapping_add(1234)));
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_living_daemon_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hark.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves the file");
        let first = Bound::new(&path).unwrap();
        assert!(matches!(Bound::new(&path), Err(BusError::Taken(p)) if p == path));
        assert!(path.exists(), "the refused one must not remove it");
        // Someone replaced the file: it is not ours to remove any longer.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn what_cannot_be_a_socket_is_refused_in_one_line() {
        fn check(path: &Path, needle: &str) {
            let text = why(Bound::new(path));
            assert!(text.contains(needle) && !text.contains('\n'), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        check(&file, "is not a socket");
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        check(&file.join("hark.sock"), "cannot make the directory");
        check(&dir.path().join("x".repeat(200)), "bytes");
        check(Path::new("/"), "is not the path of a file");
    }

    #[test]
    fn of_many_that_find_a_stale_file_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hark.sock");
        drop(UnixListener::bind(&path).unwrap());
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Bound::new(&path))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
        for refused in results.iter().filter_map(|r| r.as_ref().err()) {
            assert!(matches!(refused, BusError::Taken(_)), "{refused}");
        }
    }
}
