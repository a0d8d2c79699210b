//! Standard output and standard error of the verbs: results in whole lines, errors in one line each,
//! and a reader that has gone is no error.
//!
//! `println!` and `eprintln!` panic when the other end of the pipe has closed, so no verb uses them.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutError {
    /// The reader has gone (`hark events | head`): the program ends quietly, with status 0.
    #[error("standard output was closed by its reader")]
    Closed,
    /// Anything else: a full disk, for one.
    #[error("cannot write to standard output: {0}")]
    Write(#[source] io::Error),
}

impl From<io::Error> for OutError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            OutError::Closed
        } else {
            OutError::Write(error)
        }
    }
}

/// Writes one line of results and hands it on at once.
///
/// # Errors
/// When the reader has gone or the disk is full.
pub(crate) fn line(text: impl Display) -> Result<(), OutError> {
    text_to(io::stdout().lock(), format_args!("{text}\n"))
}

/// Writes text as it stands and hands it on at once.
///
/// # Errors
/// When the reader has gone or the disk is full.
pub(crate) fn text(text: impl Display) -> Result<(), OutError> {
    text_to(io::stdout().lock(), text)
}

fn text_to(mut to: impl Write, text: impl Display) -> Result<(), OutError> {
    write!(to, "{text}")?;
    to.flush()?;
    Ok(())
}

/// Writes one line `hark: ...` on standard error; whether anybody reads it does not matter.
pub(crate) fn complain(text: impl Display) {
    let line = one_line(&text.to_string());
    // Nothing can be said when standard error itself is gone.
    let _ = writeln!(io::stderr().lock(), "hark: {line}");
}

/// Writes a line about work in progress on standard error; whether anybody reads it does not matter.
pub(crate) fn note(text: impl Display) {
    // As above.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person looks at standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Folds a text of several lines into one, and shows control characters of file names as escapes.
fn one_line(text: &str) -> String {
    let folded = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let mut line = String::with_capacity(folded.len());
    for c in folded.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_line(input: &str, expected: &str) {
        assert_eq!(one_line(input), expected, "{input:?}");
    }

    #[test]
    fn an_error_takes_one_line_whatever_it_holds() {
        check_line("plain", "plain");
        check_line("two\n  lines\n\n", "two lines");
        check_line(
            "a\u{1b}[31mred.wav: no such file",
            "a\\u{1b}[31mred.wav: no such file",
        );
    }

    #[test]
    fn a_closed_pipe_is_told_apart_from_a_full_disk() {
        struct Fails(io::ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let closed = text_to(Fails(io::ErrorKind::BrokenPipe), "x").unwrap_err();
        assert!(matches!(closed, OutError::Closed), "{closed}");
        let full = text_to(Fails(io::ErrorKind::StorageFull), "x").unwrap_err();
        assert!(matches!(full, OutError::Write(_)), "{full}");
    }
}
