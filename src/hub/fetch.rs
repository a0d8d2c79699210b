//! Downloads one file: goes on where an earlier attempt stopped, hashes what it writes, and gives the
//! file its name only when it is whole, verified and on the disk.
//!
//! Who may ask, and where the file goes, is settled before.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::digest::{Checksum, Running};
use super::error::HubError;
use super::http::{Again, Fault, Http, Reply, passing, shown};
use super::progress::{Progress, Tell};
use super::retry::persist;
use super::settings::Patience;

/// Bytes that are collected before they are written.
const BLOCK: usize = 1 << 20;

/// What is to be downloaded.
pub struct Download<'a> {
    /// Its name in messages.
    pub what: &'a str,
    /// Where it is.
    pub url: &'a str,
    /// Where its bytes gather.
    pub partial: &'a Path,
    /// Where it goes when it is whole. In the same folder.
    pub to: &'a Path,
    /// In bytes, where it is known.
    pub size: Option<u64>,
    /// What it hashes to.
    pub checksum: &'a Checksum,
}

impl Download<'_> {
    /// Downloads the file; whoever calls holds its lock. `refusal` words a status that is final.
    /// Blocks. Returns its bytes.
    ///
    /// # Errors
    /// When it cannot be had, is not what was promised, or the disk refuses.
    pub fn run(
        mut self,
        http: &Http,
        patience: Patience,
        tell: &mut Tell<'_>,
        refusal: &dyn Fn(&Reply) -> HubError,
    ) -> Result<u64, HubError> {
        let mut partial = Partial::open(self.partial, self.checksum)?;
        // Without a checksum nobody would see that the beginning is of another file.
        let blind = *self.checksum == Checksum::Unknown;
        if blind || self.size.is_some_and(|size| partial.len > size) {
            partial.clear()?;
        }
        let what = self.what;
        tell(Progress::Begin {
            file: what,
            have: partial.len,
            bytes: self.size,
        });
        // What an earlier run has left may be of another file, or damaged by a lost power supply.
        let mut doubtful = partial.len > 0;
        loop {
            if self.size != Some(partial.len) {
                persist(what, patience, tell, |tell| {
                    self.attempt(http, &mut partial, tell, refusal)
                })?;
            }
            let got = partial.digest()?;
            if self.checksum.accepts(&got) {
                break;
            }
            if !std::mem::take(&mut doubtful) {
                // Nothing of it is worth keeping; that it cannot be deleted changes nothing.
                let _ = std::fs::remove_file(self.partial);
                return Err(HubError::Checksum {
                    file: what.to_owned(),
                    kind: self.checksum.kind(),
                    expected: self.checksum.hex().to_owned(),
                    got,
                });
            }
            partial.clear()?;
            tell(Progress::Again {
                what,
                reason: "what was here of it is damaged",
                wait: std::time::Duration::ZERO,
            });
        }
        partial.publish(self.to)?;
        tell(Progress::Done {
            file: what,
            bytes: partial.len,
        });
        Ok(partial.len)
    }

    /// One request, from where the partial file ends.
    fn attempt(
        &mut self,
        http: &Http,
        partial: &mut Partial<'_>,
        tell: &mut Tell<'_>,
        refusal: &dyn Fn(&Reply) -> HubError,
    ) -> Result<(), Fault> {
        if let Some(size) = self.size {
            check_room(partial.path, size.saturating_sub(partial.len))?;
        }
        let mut reply = http.get(self.what, self.url, partial.len)?;
        let length = reply.body.content_length();
        match reply.status {
            206 if partial.len > 0 => self.continued(&reply, partial)?,
            200 => {
                // The server does not know ranges, or has another file by now.
                partial.clear()?;
                self.agree(length)?;
            }
            416 if partial.len > 0 => {
                partial.clear()?;
                return Err(Again::cut("the server has no such range", 0));
            }
            _ => {
                return Err(passing(&reply).map_or_else(|| refusal(&reply).into(), Fault::Again));
            }
        }
        if let Some(size) = self.size {
            check_room(partial.path, size.saturating_sub(partial.len))?;
        }
        self.receive(&mut reply, partial, tell)
    }

    /// Checks that a part begins where it was asked to.
    fn continued(&mut self, reply: &Reply, partial: &mut Partial<'_>) -> Result<(), Fault> {
        let range = reply.header("Content-Range").unwrap_or_default();
        let Some((start, total)) = content_range(range) else {
            return Err(self.refused(reply, &format!("no Content-Range but '{range}'")));
        };
        if start != partial.len {
            let asked = partial.len;
            partial.clear()?;
            return Err(Again::cut(
                format!("asked for byte {asked} on, got byte {start} on"),
                0,
            ));
        }
        self.agree(total)
    }

    fn refused(&self, reply: &Reply, reason: &str) -> Fault {
        HubError::refused(self.what, format!("{}: {reason}", shown(&reply.url))).into()
    }

    /// Learns the length from an answer, or holds it to the length that is known.
    fn agree(&mut self, length: Option<u64>) -> Result<(), Fault> {
        match (self.size, length) {
            (Some(expected), Some(got)) if expected != got => Err(HubError::Size {
                file: self.what.to_owned(),
                expected,
                got,
            }
            .into()),
            (None, Some(_)) => {
                self.size = length;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn receive(
        &self,
        reply: &mut Reply,
        partial: &mut Partial<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Fault> {
        let begun = partial.len;
        let mut reader = reply.body.as_reader();
        let mut block = vec![0; BLOCK];
        let mut filled = 0;
        loop {
            let ended = match reader.read(&mut block[filled..]) {
                Ok(0) => Some(None),
                Ok(n) => {
                    filled += n;
                    None
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Some(Some(error)),
            };
            let here = partial.len + filled as u64;
            if let Some(expected) = self.size
                && here > expected
            {
                // The rest may be anything, and so may what came before it.
                partial.clear()?;
                return Err(HubError::Size {
                    file: self.what.to_owned(),
                    expected,
                    got: here,
                }
                .into());
            }
            if ended.is_some() || filled == BLOCK {
                partial.append(&block[..filled], self.size)?;
                filled = 0;
            }
            tell(Progress::Bytes {
                file: self.what,
                done: here,
                bytes: self.size,
            });
            let gained = here - begun;
            match ended {
                None => {}
                Some(Some(error)) => {
                    return Err(Again::cut(format!("the connection broke: {error}"), gained));
                }
                Some(None) if self.size.is_some_and(|size| here < size) => {
                    return Err(Again::cut("the connection ended early", gained));
                }
                Some(None) => return Ok(()),
            }
        }
    }
}

/// `bytes START-END/TOTAL` (RFC 9110, 14.4), the total where it is given.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.parse().ok()?, total))
}

/// A file that is not whole yet, with the checksum of what it has.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    len: u64,
    expected: &'a Checksum,
    running: Running,
}

impl<'a> Partial<'a> {
    fn open(path: &'a Path, expected: &'a Checksum) -> Result<Self, HubError> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(HubError::io(dir))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(HubError::io(path))?;
        let mut running = Running::new(expected);
        let mut len = file.metadata().map_err(HubError::io(path))?.len();
        if len > 0 {
            len = running.read(&mut file).map_err(HubError::io(path))?;
        }
        Ok(Partial {
            path,
            file,
            len,
            expected,
            running,
        })
    }

    fn clear(&mut self) -> Result<(), HubError> {
        if self.len > 0 {
            self.file.set_len(0).map_err(HubError::io(self.path))?;
        }
        self.len = 0;
        self.running = Running::new(self.expected);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8], size: Option<u64>) -> Result<(), HubError> {
        let written = self
            .file
            .seek(SeekFrom::Start(self.len))
            .and_then(|_| self.file.write_all(bytes));
        if let Err(error) = written {
            // A part of the bytes may be there, but not in the checksum.
            let _ = self.file.set_len(self.len);
            let end = size.unwrap_or(self.len + bytes.len() as u64);
            return Err(write_error(self.path, end - self.len, error));
        }
        self.running.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn digest(&mut self) -> Result<String, HubError> {
        let running = std::mem::replace(&mut self.running, Running::new(self.expected));
        running
            .finish(&mut self.file, self.len)
            .map_err(HubError::io(self.path))
    }

    /// Gives the file its name, once its content is on the disk.
    fn publish(&mut self, to: &Path) -> Result<(), HubError> {
        self.file
            .sync_all()
            .map_err(|error| write_error(self.path, self.len, error))?;
        std::fs::rename(self.path, to).map_err(HubError::io(to))?;
        to.parent().map_or(Ok(()), sync_dir)
    }
}

/// Makes the names in a folder outlast a loss of power.
pub fn sync_dir(dir: &Path) -> Result<(), HubError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(HubError::io(dir))
}

/// Tells a full disk from everything else that keeps a file from being written.
pub fn write_error(path: &Path, needed: u64, error: io::Error) -> HubError {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    if !matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull) {
        return HubError::io(path)(error);
    }
    HubError::DiskFull {
        path: path.to_owned(),
        needed,
        free: free_bytes(path.parent().unwrap_or(path)).unwrap_or(0),
        reason: error.to_string(),
    }
}

/// Fails when the disk of `path` has less than `needed` bytes for this user.
pub fn check_room(path: &Path, needed: u64) -> Result<(), HubError> {
    match free_bytes(path.parent().unwrap_or(path)) {
        Some(free) if free < needed => Err(HubError::DiskFull {
            path: path.to_owned(),
            needed,
            free,
            reason: "nothing was written".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Free bytes for this user, where the file system counts them.
fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read() {
        let check = |text: &str, expected: Option<(u64, Option<u64>)>| {
            assert_eq!(content_range(text), expected, "{text}");
        };
        check("bytes 5-9/10", Some((5, Some(10))));
        check("bytes 5-9/*", Some((5, None)));
        check("bytes */10", None);
        check("", None);
        check("bytes 5-9/x", None);
        check("bytes -1-9/10", None);
    }

    #[test]
    fn a_disk_that_cannot_hold_a_file_is_told_with_both_figures() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.incomplete");
        check_room(&path, 1).unwrap();
        let error = check_room(&path, u64::MAX).unwrap_err();
        let HubError::DiskFull { needed, free, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(needed, u64::MAX);
        assert!(free > 0 && free < needed);
    }

    #[test]
    fn a_full_device_is_a_full_disk_and_not_a_broken_file() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let expected = Checksum::Sha256("0".repeat(64));
        let mut partial = Partial::open(full, &expected).unwrap();
        let error = partial.append(&[7; 10], Some(100)).unwrap_err();
        assert!(
            matches!(error, HubError::DiskFull { needed: 100, .. }),
            "{error}"
        );
        assert_eq!(partial.len, 0);
    }
}
