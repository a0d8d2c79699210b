//! `hark data`: looks at training data.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;

use clap::Subcommand;
use indicatif::ProgressBar;
use serde::Serialize;

use super::out;
use crate::train::check::{self, Kind, Report};
use crate::train::{DataError, Manifest};

/// A label with fewer training clips than this is named as thin.
const THIN: usize = 20;

/// Arguments of `hark data`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: DataVerb,
}

/// What to do with the data.
#[derive(Debug, Subcommand)]
enum DataVerb {
    /// Looks for corrupt, silent, clipped, duplicate and leaking clips, and shows the balance.
    Check(CheckArgs),
}

/// Arguments of `hark data check`.
#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// A folder with a manifest.csv, or with one folder of sound files for each label.
    #[arg(value_name = "D")]
    data: PathBuf,
    /// What may be so: reported, but no reason to fail. May be given again.
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    allow: Vec<Kind>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| format!("expected one of {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

/// Runs the verb.
///
/// # Errors
/// When the data set cannot be read, or holds something that should not be used as it is.
pub fn run(args: Args) -> anyhow::Result<()> {
    let DataVerb::Check(args) = args.verb;
    let manifest = Manifest::open(&args.data)?;
    let bar = if stderr().is_terminal() {
        ProgressBar::new(manifest.clips.len() as u64)
    } else {
        ProgressBar::hidden()
    };
    let report = check::check(&manifest, || bar.inc(1));
    bar.finish_and_clear();
    let broken = report
        .findings
        .iter()
        .filter(|finding| finding.kind.is_error() && !args.allow.contains(&finding.kind))
        .count();
    if args.json {
        show_json(&report, broken)?;
    } else {
        show_text(&report)?;
    }
    if broken == 0 {
        return Ok(());
    }
    Err(DataError::Broken {
        path: args.data,
        reason: format!(
            "{broken} findings that spoil training or measuring: mend the data, \
             or allow a kind with --allow"
        ),
    }
    .into())
}

/// The report as JSON.
#[derive(Debug, Serialize)]
struct ReportRecord<'a> {
    clips: usize,
    ok: bool,
    broken: usize,
    counts: std::collections::BTreeMap<&'static str, usize>,
    findings: Vec<FindingRecord<'a>>,
    balance: Vec<BalanceRecord<'a>>,
}

#[derive(Debug, Serialize)]
struct FindingRecord<'a> {
    kind: &'static str,
    error: bool,
    clip: &'a str,
    detail: &'a str,
}

#[derive(Debug, Serialize)]
struct BalanceRecord<'a> {
    set: &'a str,
    label: &'a str,
    train: usize,
    dev: usize,
    seconds: f64,
}

fn count(report: &Report, kind: Kind) -> usize {
    report
        .findings
        .iter()
        .filter(|finding| finding.kind == kind)
        .count()
}

fn show_json(report: &Report, broken: usize) -> anyhow::Result<()> {
    let record = ReportRecord {
        clips: report.clips,
        ok: broken == 0,
        broken,
        counts: Kind::ALL
            .into_iter()
            .map(|kind| (kind.as_str(), count(report, kind)))
            .collect(),
        findings: report
            .findings
            .iter()
            .map(|finding| FindingRecord {
                kind: finding.kind.as_str(),
                error: finding.kind.is_error(),
                clip: &finding.clip,
                detail: &finding.detail,
            })
            .collect(),
        balance: report
            .balance
            .iter()
            .map(|((set, label), balance)| BalanceRecord {
                set,
                label,
                train: balance.train,
                dev: balance.dev,
                seconds: balance.seconds,
            })
            .collect(),
    };
    out::line(serde_json::to_string(&record)?)?;
    Ok(())
}

fn show_text(report: &Report) -> anyhow::Result<()> {
    for finding in &report.findings {
        out::line(format_args!(
            "{:<12}  {}: {}",
            finding.kind.as_str(),
            finding.clip,
            finding.detail
        ))?;
    }
    out::line(format_args!(
        "{:<12} {:<24} {:>6} {:>6} {:>9}",
        "set", "label", "train", "dev", "minutes"
    ))?;
    for ((set, label), balance) in &report.balance {
        let thin = if balance.train < THIN { "  thin" } else { "" };
        out::line(format_args!(
            "{set:<12} {label:<24} {:>6} {:>6} {:>9.1}{thin}",
            balance.train,
            balance.dev,
            balance.seconds / 60.0
        ))?;
    }
    let counts = Kind::ALL
        .map(|kind| format!("{} {}", count(report, kind), kind.as_str()))
        .join(", ");
    out::line(format_args!("{} clips: {counts}", report.clips))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_shown() {
        for kind in Kind::ALL {
            assert_eq!(parse_kind(kind.as_str()), Ok(kind));
        }
        assert!(parse_kind("loud").unwrap_err().contains("speaker-leak"));
    }
}
