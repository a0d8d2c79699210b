//! What a pull says while it works; how it is shown is the caller's affair.

use std::time::Duration;

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The missing files are known.
    Planned {
        /// Number of files to download.
        files: usize,
        /// Their bytes together, without what earlier attempts have left.
        bytes: u64,
    },
    /// A download begins, or goes on.
    Begin {
        /// The file.
        file: &'a str,
        /// Bytes that an earlier attempt has left.
        have: u64,
        /// Bytes of the whole file, where the server says so.
        bytes: Option<u64>,
    },
    /// Bytes have arrived.
    Bytes {
        /// The file.
        file: &'a str,
        /// Bytes that are here now.
        done: u64,
        /// Bytes of the whole file, where the server says so.
        bytes: Option<u64>,
    },
    /// A file is whole and verified.
    Done {
        /// The file.
        file: &'a str,
        /// Its bytes.
        bytes: u64,
    },
    /// Another process is downloading this file; it is waited for.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// An attempt failed and the next one follows.
    Again {
        /// The file or listing.
        what: &'a str,
        /// What the attempt ended with.
        reason: &'a str,
        /// Time until the next one.
        wait: Duration,
    },
    /// The hub was not asked, or did not answer: the files are those of an earlier pull.
    FromCache {
        /// Why.
        reason: &'a str,
    },
}

/// Who listens to a pull.
pub type Tell<'a> = dyn FnMut(Progress<'_>) + 'a;

/// Bytes for a person: three digits and a decimal unit.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1e3;
    let mut unit = 0;
    // 999.5 would be shown as 1000 of the smaller unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    let digits = if value < 9.995 {
        2
    } else {
        usize::from(value < 99.95)
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_with_three_digits() {
        let check = |bytes: u64, expected: &str| assert_eq!(human(bytes), expected);
        check(0, "0 bytes");
        check(999, "999 bytes");
        check(1000, "1.00 kB");
        check(346_000_000, "346 MB");
        check(34_600_000, "34.6 MB");
        check(999_999, "1.00 MB");
        check(1_263_000_000, "1.26 GB");
        check(1 << 60, "1153 PB");
    }
}
