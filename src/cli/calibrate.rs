//! `hark calibrate`: hears a room while nothing happens in it, and proposes thresholds that keep the
//! room from firing rules.
//!
//! Thresholds of labels go up, never down unless `--lower` asks for it; alarms are left alone unless
//! `--alarms` asks: someone who does not hear relies on them, and an alarm that no longer comes is worse
//! than one that comes too often. Either is said. How the thresholds are found is
//! `detect::search`'s matter.

mod asked;
mod ears;
mod file;
mod hear;
mod show;

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::Context;
use crossbeam_channel::Receiver;
use rayon::prelude::*;

use super::daemon::SocketArgs;
use super::run::unwrap_daemon_error;
use super::{UsageError, out};
use crate::audio::AudioError;
use crate::audio::spec::SourceSpec;
use crate::clock::{SampleIdx, WallClock};
use crate::config::paths::Paths;
use crate::config::{
    self, ConfigError, Fault, Flags, Loaded, RuleConfig, calibrated, load_with, nearest, replace,
};
use crate::daemon::signals::{self, Signal};
use crate::daemon::{Makers, spec_of};
use crate::detect::RuleError;
use crate::detect::search::{self, Proposal, Target};
use crate::outputs::BusError;
use crate::pipeline::Models;
use asked::Asked;
use file::{Entry, File};
use hear::{From, Heard, hear};
use show::{PositiveRow, Report};

/// How long a room is heard unless told otherwise, in minutes.
const MINUTES: f64 = 10.0;
/// Less than this says nothing of a room, in seconds.
const LEAST_S: f64 = 5.0;
/// The longest calibration, in minutes: the scores of a day of words take most of a gigabyte.
const MOST_MINUTES: f64 = 1440.0;

/// Arguments of `hark calibrate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the room is heard; of recordings, how much of them [default: 10, or all of them]
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<f64>,
    /// Hears these recordings of the room in place of the configured source.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "source")]
    from: Vec<PathBuf>,
    /// Hears this source in place of the configured one; see 'hark run --help'.
    #[arg(long, value_name = "SPEC")]
    source: Option<String>,
    /// How many false accepts an hour a rule may have.
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = rate)]
    target_fa_per_hour: f64,
    /// Calibrates this rule alone; may be given several times.
    #[arg(long = "rule", value_name = "NAME")]
    rules: Vec<String>,
    /// A recording of a sound that must still be heard, by its label; may be given several times.
    #[arg(long = "positive", value_name = "NAME=FILE", value_parser = positive)]
    positives: Vec<(String, PathBuf)>,
    /// Lets thresholds go down too, where enough was heard to show that the target holds.
    #[arg(long)]
    lower: bool,
    /// Raises the thresholds of alarms too.
    #[arg(long)]
    alarms: bool,
    /// Shows what would be done and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Takes back what calibrations have written, all of it or that of the rules given.
    #[arg(long, conflicts_with_all = ["minutes", "from", "source", "positives", "lower", "alarms", "dry_run"])]
    undo: bool,
    /// Reads this configuration file and no other; --output says where the thresholds go then.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Writes the thresholds here [default: config.d/90-calibrated.toml beside config.toml]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Writes one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: SocketArgs,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "write a number of minutes")?;
    match minutes > 0.0 && minutes <= MOST_MINUTES {
        true => Ok(minutes),
        false => Err(format!("write a number over 0, at most {MOST_MINUTES}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "write a number")?;
    match (0.0..=1000.0).contains(&rate) && rate > 0.0 {
        true => Ok(rate),
        false => Err("write a number over 0, at most 1000".to_owned()),
    }
}

fn positive(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.trim().is_empty() && !file.is_empty() => {
            Ok((name.trim().to_owned(), file.into()))
        }
        _ => Err("write NAME=FILE, such as Doorbell=ring.wav".to_owned()),
    }
}

/// Runs the verb.
///
/// # Errors
/// When the configuration does not hold, the source or a recording fails, or the thresholds cannot be
/// written; nothing is changed then.
pub fn run(args: Args) -> anyhow::Result<()> {
    let path = output(&args)?;
    let flags = Flags {
        config: args.config.clone(),
        source: args.source.clone(),
        ..Flags::default()
    };
    if args.undo {
        return undo(&args, &flags, &path);
    }
    let loaded = config::load(&flags)?;
    let written = File::read(&path).map_err(|what| file_error(&path, what))?;
    let rules = wanted(&args, &loaded)?;
    let spec = spec_of(&loaded)?;
    let makers = Makers::default();
    let signals = signals::listen(Signal::End).context("cannot follow signals")?;
    let mut models = makers.models(&loaded).map_err(unwrap_daemon_error)?;
    let (asked, ears) = Asked::open(&loaded, models.known().len())?;
    models.windows.extend(ears);
    let mut heard = heard(&args, &makers, models, &spec, &signals)?;
    let (of_prompts, of_labels): (Vec<_>, Vec<_>) = args
        .positives
        .iter()
        .cloned()
        .partition(|(name, _)| asked.has_prompt(name));
    let mut rooms = asked.hear(&mut heard, &of_prompts)?;
    rooms.complain_of_none(&asked);
    let target = Target {
        per_hour: args.target_fa_per_hour,
        hours: heard.seconds / 3600.0,
        may_lower: args.lower,
    };
    let is_held = |label: &str| !args.alarms && is_alarm(label);
    let proposals = rules
        .par_iter()
        .map(|rule| search::propose(rule, &heard.known, &heard.tracks, target, &is_held))
        .collect::<Result<Vec<_>, RuleError>>()?;
    let from = match args.from.len() {
        0 => spec.to_string(),
        1 => args.from[0].display().to_string(),
        n => format!("{n} recordings"),
    };
    let minutes = heard.seconds / 60.0;
    let mut report = Report::new(minutes, from, args.target_fa_per_hour, &proposals);
    let watched = Watched {
        rules: &rules,
        proposals: &proposals,
    };
    report.positives = positives(&of_labels, &makers, &loaded, &watched, &signals)?;
    report.positives.append(&mut rooms.positives);
    report.rooms = rooms.rows(|_| None);
    if !args.dry_run {
        write(&mut report, &proposals, written, &flags, &path)?;
        report.rooms = rooms.save()?;
    }
    let is_changed = report.written.is_some() || !report.rooms.is_empty() && !args.dry_run;
    // A daemon with a configuration of its own does not read this file.
    let told = match is_changed && args.output.is_none() {
        true => tell(&args.daemon),
        false => Told::NotAsked,
    };
    report.reloaded = matches!(told, Told::Reloaded);
    if args.json {
        out::line(serde_json::to_string(&report)?)?;
    } else {
        report.show()?;
        out::line(outcome(&args, &report))?;
    }
    told.result()
}

/// Where the thresholds go.
fn output(args: &Args) -> Result<PathBuf, UsageError> {
    match (&args.output, &args.config) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(_)) if !args.dry_run => Err(UsageError(
            "with --config no other file is read: say with --output where the thresholds go, or use --dry-run"
                .to_owned(),
        )),
        _ => Ok(calibrated::path(&Paths::current())),
    }
}

fn file_error(path: &Path, text: String) -> ConfigError {
    ConfigError {
        faults: vec![Fault::Value {
            place: path.display().to_string(),
            text,
        }],
    }
}

/// The rules to calibrate.
fn wanted(args: &Args, loaded: &Loaded) -> Result<Vec<RuleConfig>, UsageError> {
    let in_force = || loaded.config.rule.iter().filter(|rule| rule.enabled);
    for name in &args.rules {
        if in_force().all(|rule| rule.name != *name) {
            let names: Vec<&str> = in_force().map(|rule| rule.name.as_str()).collect();
            let todo = match nearest(name, names.iter().copied()) {
                Some(name) => format!("did you mean '{name}'?"),
                None => format!("the rules are {}", names.join(", ")),
            };
            return Err(UsageError(format!(
                "--rule: no rule '{name}' is in force; {todo}"
            )));
        }
    }
    let is_wanted = |rule: &&RuleConfig| args.rules.is_empty() || args.rules.contains(&rule.name);
    Ok(in_force().filter(is_wanted).cloned().collect())
}

/// Hears the room.
fn heard(
    args: &Args,
    makers: &Makers,
    models: Models,
    spec: &SourceSpec,
    signals: &Receiver<Signal>,
) -> anyhow::Result<Heard> {
    let seconds = args.minutes.map(|minutes| 60.0 * minutes);
    let from = match args.from.is_empty() {
        true => From::Source(spec, seconds.unwrap_or(60.0 * MINUTES)),
        false => From::Files(&args.from, seconds),
    };
    if let From::Source(_, seconds) = from {
        out::note(format_args!(
            "listening to {spec} for {:.1} minutes: let the room sound as it does, and make none of the sounds that the rules wait for",
            seconds / 60.0
        ));
    }
    let heard = hear(makers, models, &from, signals)?;
    if heard.seconds < LEAST_S {
        let text = format!(
            "only {:.1} s were heard, which says nothing of a room; at least {LEAST_S} s are needed",
            heard.seconds
        );
        return Err(AudioError::Device(text).into());
    }
    Ok(heard)
}

/// Whether a label warns of danger, by its words.
fn is_alarm(label: &str) -> bool {
    const WORDS: [&str; 8] = [
        "alarm",
        "siren",
        "smoke",
        "carbon monoxide",
        "scream",
        "gunshot",
        "explosion",
        "detector",
    ];
    let label = label.to_lowercase();
    WORDS.iter().any(|word| label.contains(word))
}

/// Rules and what is proposed for them.
struct Watched<'a> {
    rules: &'a [RuleConfig],
    proposals: &'a [Proposal],
}

/// How often recordings of wanted sounds fire before and after.
fn positives(
    recordings: &[(String, PathBuf)],
    makers: &Makers,
    loaded: &Loaded,
    Watched { rules, proposals }: &Watched<'_>,
    signals: &Receiver<Signal>,
) -> anyhow::Result<Vec<PositiveRow>> {
    let mut rows = Vec::new();
    for (name, file) in recordings {
        let watching: Vec<(&RuleConfig, &Proposal)> = rules
            .iter()
            .zip(*proposals)
            .filter(|(_, proposal)| proposal.labels.iter().any(|label| *label.label == **name))
            .collect();
        if watching.is_empty() {
            let labels = proposals.iter().flat_map(|proposal| &proposal.labels);
            let todo = match nearest(name, labels.map(|label| &*label.label)) {
                Some(label) => format!("did you mean '{label}'?"),
                None => "'hark check --print' shows the rules and their labels".to_owned(),
            };
            let text = format!("--positive: no rule waits for '{name}'; {todo}");
            return Err(UsageError(text).into());
        }
        let models = makers.models(loaded).map_err(unwrap_daemon_error)?;
        let files = [file.clone()];
        let heard = hear(makers, models, &From::Files(&files, None), signals)?;
        let (mut before, mut after) = (0, 0);
        for (rule, proposal) in watching {
            let fired = |threshold| -> Result<u32, RuleError> {
                let counts = search::count(rule, &heard.known, &heard.tracks, proposal, threshold)?;
                let each = proposal.labels.iter().zip(counts);
                let own = each.filter(|(label, _)| *label.label == **name);
                Ok(own.map(|(_, count)| count).sum())
            };
            before += fired(|label| label.old)?;
            after += fired(|label| label.new)?;
        }
        rows.push(PositiveRow {
            name: name.clone(),
            file: file.display().to_string(),
            before: Some(before),
            after: Some(after),
            calibration: None,
        });
    }
    Ok(rows)
}

/// Writes the thresholds that have changed, once the configuration with them is known to hold.
fn write(
    report: &mut Report,
    proposals: &[Proposal],
    mut file: File,
    flags: &Flags,
    path: &Path,
) -> anyhow::Result<()> {
    let now = stamp();
    let mut is_changed = false;
    for proposal in proposals {
        let changed = proposal.labels.iter().filter(|label| label.is_changed());
        let entries: Vec<Entry> = changed
            .map(|label| Entry {
                label: label.label.to_string(),
                threshold: label.new,
                was: label.old,
            })
            .collect();
        if entries.is_empty() {
            continue;
        }
        let why = format!(
            "{now}, {:.1} minutes of {}: fired {} times, with these thresholds {} times.",
            report.minutes,
            report.from,
            proposal.before(),
            proposal.after()
        );
        file.set(&proposal.rule, &entries, &why);
        is_changed = true;
    }
    if !is_changed {
        return Ok(());
    }
    file.set_head(&[
        format!("Written by 'hark calibrate', last on {now}: what this room needs."),
        "To undo: 'hark calibrate --undo', with --rule NAME for one rule; or delete this file and run 'hark reload'.".to_owned(),
        "What it says of rules and labels that are gone is passed over.".to_owned(),
    ]);
    put(&file, flags, path)?;
    report.written = Some(path.to_owned());
    Ok(())
}

/// Puts a file in its place, once the configuration with it is known to hold.
fn put(file: &File, flags: &Flags, path: &Path) -> anyhow::Result<()> {
    let text = file.text();
    load_with(flags, path, &text)?;
    replace(path, text.as_bytes()).with_context(|| path.display().to_string())
}

fn now() -> SystemTime {
    WallClock::new(Instant::now()).wall_time(SampleIdx(0))
}

/// The time in UTC, to the second.
fn stamp() -> String {
    let stamp = jiff::Timestamp::try_from(now()).unwrap_or(jiff::Timestamp::MAX);
    format!("{stamp:.0}")
}

/// What came of telling the daemon.
enum Told {
    NotAsked,
    Absent,
    Reloaded,
    Refused(BusError),
}

impl Told {
    fn result(self) -> anyhow::Result<()> {
        match self {
            Told::Refused(error) => {
                Err(error).context("the thresholds are written, and the daemon does not take them")
            }
            _ => Ok(()),
        }
    }
}

fn tell(daemon: &SocketArgs) -> Told {
    let reloaded = daemon
        .connect()
        .and_then(|mut client| client.call("reload", serde_json::json!({})));
    match reloaded {
        Ok(_) => Told::Reloaded,
        Err(BusError::NoDaemon(_)) => Told::Absent,
        Err(error) => Told::Refused(error),
    }
}

/// What was done, in one line.
fn outcome(args: &Args, report: &Report) -> String {
    match &report.written {
        None if args.dry_run => "a dry run: nothing was written".to_owned(),
        None if report.reloaded => {
            "no threshold needs to change; the daemon knows the room now".to_owned()
        }
        None => "no threshold needs to change".to_owned(),
        Some(path) => {
            let daemon = match (report.reloaded, &args.output) {
                (true, _) => "the daemon uses them now",
                (false, Some(_)) => "a daemon uses them once it reads this file",
                (false, None) => "no daemon runs; the next one uses them",
            };
            format!(
                "thresholds written to {}; {daemon}. To undo: hark calibrate --undo",
                path.display()
            )
        }
    }
}

/// Takes back what calibrations have written. A file that is damaged goes as a whole.
fn undo(args: &Args, flags: &Flags, path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(out::line("nothing was calibrated; nothing to undo")?);
    }
    let mut file = File::default();
    if !args.rules.is_empty() {
        file = File::read(path).map_err(|what| file_error(path, what))?;
        for rule in &args.rules {
            if !file.remove(rule) {
                let names: Vec<&str> = file.rules().collect();
                let text = format!(
                    "--rule: '{rule}' was not calibrated; those that were: {}",
                    names.join(", ")
                );
                return Err(UsageError(text).into());
            }
        }
    }
    if file.is_empty() {
        std::fs::remove_file(path).with_context(|| path.display().to_string())?;
    } else {
        put(&file, flags, path)?;
    }
    let told = match args.output {
        None => tell(&args.daemon),
        Some(_) => Told::NotAsked,
    };
    let daemon = match told {
        Told::Reloaded => "; the daemon has read its configuration again",
        _ => "",
    };
    match args.json {
        true => out::line(serde_json::json!({"undone": path, "reloaded": !daemon.is_empty()}))?,
        false => out::line(format_args!("undone: {}{daemon}", path.display()))?,
    }
    told.result()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_known_by_their_words() {
        for label in [
            "Smoke detector, smoke alarm",
            "Siren",
            "Civil defense siren",
            "my SMOKE thing",
            "Gunshot, gunfire",
        ] {
            assert!(is_alarm(label), "{label}");
        }
        for label in ["Doorbell", "Dog", "stop", "computer"] {
            assert!(!is_alarm(label), "{label}");
        }
    }

    #[test]
    fn arguments_out_of_range_say_what_to_write() {
        assert_eq!(minutes("0.5"), Ok(0.5));
        assert_eq!(rate("0.01"), Ok(0.01));
        for text in ["0", "-1", "nan", "inf", "1e9", "x"] {
            minutes(text).unwrap_err();
            rate(text).unwrap_err();
        }
        assert_eq!(
            positive("Smoke = a=b.wav"),
            Ok(("Smoke".to_owned(), " a=b.wav".into()))
        );
        for text in ["", "x", "=a", "x="] {
            positive(text).unwrap_err();
        }
    }
}
