//! `hark doctor`: looks for what keeps hark from listening, and says what to do.
//!
//! It looks and changes nothing. What a check finds is in `doctor/checks.rs`.

mod checks;

use serde::Serialize;

use super::{Reported, out};

/// Arguments of `hark doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object for each check.
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// hark listens, but something is missing or will go wrong some day.
    Warn,
    /// hark cannot listen, or cannot tell anybody.
    Fail,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    /// What is there.
    found: String,
    /// What to do about it; empty when all is well.
    todo: String,
    /// Exit status of this kind of failure.
    #[serde(skip)]
    code: u8,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Finding {
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            todo: String::new(),
            code: 0,
        }
    }

    fn warn(check: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Finding {
            verdict: Verdict::Warn,
            todo: todo.into(),
            ..Finding::ok(check, found)
        }
    }

    fn fail(
        check: &'static str,
        code: u8,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Finding {
            verdict: Verdict::Fail,
            code,
            ..Finding::warn(check, found, todo)
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// With the kind of the first check that failed, after all were made.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut failed = None;
    for finding in checks::all() {
        if finding.verdict == Verdict::Fail {
            failed.get_or_insert(finding.code);
        }
        if args.json {
            out::line(serde_json::to_string(&finding)?)?;
        } else {
            out::line(line(&finding))?;
        }
    }
    match failed {
        None => Ok(()),
        Some(code) => Err(Reported(code).into()),
    }
}

fn line(finding: &Finding) -> String {
    let Finding {
        check, found, todo, ..
    } = finding;
    let verdict = finding.verdict.as_str();
    let arrow = if todo.is_empty() { "" } else { " -> " };
    format!("{verdict:<4}  {check:<11} {found}{arrow}{todo}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_found_and_what_to_do() {
        let check = |finding: Finding, expected: &str| assert_eq!(line(&finding), expected);
        check(Finding::ok("models", "two"), "ok    models      two");
        check(
            Finding::fail("microphone", 4, "none", "plug one in"),
            "fail  microphone  none -> plug one in",
        );
    }
}
