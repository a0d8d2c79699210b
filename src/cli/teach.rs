//! `hark teach`: a sound or word from a few examples, from files or from the microphone.
//!
//! It is learned here and kept in the store; a running daemon is told, and listens for it at once.

mod record;

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;

use super::daemon::SocketArgs;
use super::{UsageError, out};
use crate::audio::spec::SourceSpec;
use crate::command::TaughtKind;
use crate::config::paths::Paths;
use crate::config::prompt::check_name;
use crate::models::taught::{
    Enrolled, Lesson, MAX_EXAMPLES, MIN_EXAMPLES, Store, TARGET_FA_PER_HOUR, TaughtSound, teach,
    teach_clips,
};
use crate::outputs::BusError;

/// Arguments of `hark teach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What it is called, in events and in lists.
    #[arg(value_name = "NAME")]
    name: String,
    /// Recordings of it, 3 to 8, each of one sound alone.
    #[arg(value_name = "FILE", required_unless_present = "record")]
    files: Vec<PathBuf>,
    /// Record the examples, so many seconds each, in place of files.
    #[arg(long, value_name = "SECONDS", value_parser = record_s, conflicts_with = "files")]
    record: Option<f64>,
    /// How many to record.
    #[arg(long, value_name = "N", default_value_t = MIN_EXAMPLES as u64, requires = "record",
          value_parser = clap::value_parser!(u64).range(MIN_EXAMPLES as u64..=MAX_EXAMPLES as u64))]
    examples: u64,
    /// What to record from: mic, mic:NAME, file:PATH, raw:RATE:CHANNELS or cmd:PROGRAM.
    #[arg(long, value_name = "SPEC", default_value = "mic", requires = "record")]
    source: SourceSpec,
    /// Any sound, or a spoken word: sound or word.
    #[arg(long, value_name = "KIND", default_value = "sound")]
    kind: TaughtKind,
    /// How often an hour it may fire by mistake; fewer means that more is missed.
    #[arg(long, value_name = "X", default_value_t = TARGET_FA_PER_HOUR, value_parser = target)]
    target_fa_per_hour: f64,
    /// Replace a sound of that name that was taught before.
    #[arg(long)]
    replace: bool,
    /// What was learned as one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: SocketArgs,
}

fn record_s(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.3..=30.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("expected 0.3 to 30 seconds, got '{text}'")),
    }
}

fn target(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1000.0).contains(&rate) => Ok(rate),
        _ => Err(format!("expected 0.001 to 1000 an hour, got '{text}'")),
    }
}

/// Runs the verb.
///
/// # Errors
/// When the name is taken or an example will not do; nothing has changed then.
pub fn run(args: Args) -> anyhow::Result<()> {
    check_name(&args.name, "sound").map_err(UsageError)?;
    let store = Store::current();
    let rooms = Paths::current().data.join("room");
    let lesson = Lesson {
        name: args.name,
        kind: args.kind,
        target_fa_per_hour: args.target_fa_per_hour,
        replace: args.replace,
    };
    let enrolled = match args.record {
        None => teach(&lesson, &args.files, &store, &rooms)?,
        Some(seconds) => {
            // Nobody should make a sound three times to be told then that its name is taken.
            store.check_free(&lesson.name, lesson.replace)?;
            let clips = record::examples(&args.source, seconds, args.examples)?;
            teach_clips(&lesson, &clips, &store, &rooms)?
        }
    };
    let live = tell(&args.daemon)?;
    show(&enrolled, live, args.json)
}

/// Tells a running daemon that the store has changed; false where none runs.
///
/// # Errors
/// When one runs and refuses.
pub(super) fn tell(daemon: &SocketArgs) -> anyhow::Result<bool> {
    let told = daemon
        .connect()
        .and_then(|mut client| client.call("taught_changed", json!({})));
    match told {
        Ok(_) => Ok(true),
        Err(BusError::NoDaemon(_)) => Ok(false),
        Err(error) => Err(error)
            .context("it is kept, but the running daemon did not take it; try 'hark reload'"),
    }
}

/// What is known of a taught sound, as JSON.
pub(super) fn record_of(sound: &TaughtSound) -> serde_json::Value {
    let card = &sound.card;
    json!({
        "name": card.name,
        "kind": card.kind,
        "embedder": card.embedder,
        "examples": card.examples,
        "target_fa_per_hour": card.target_fa_per_hour,
        "expected_fa_per_hour": card.expected_fa_per_hour,
        "expected_recall": card.expected_recall,
        "background_hours": card.background_hours,
        "room": card.room,
        "warnings": card.warnings,
        "taught": card.taught,
    })
}

fn show(enrolled: &Enrolled, live: bool, as_json: bool) -> anyhow::Result<()> {
    let sound = &enrolled.sound;
    for warning in &enrolled.warnings {
        out::complain(format_args!("warning: {warning}"));
    }
    if as_json {
        return Ok(out::line(record_of(sound))?);
    }
    let card = &sound.card;
    let known = card.examples.iter().filter(|e| e.left_out_score >= 0.5);
    out::line(format_args!(
        "learned the {} '{}' from {} examples; {} of them are recognised when left out, at about {:.1} false accepts an hour of ordinary sound{}",
        sound.kind.as_str(),
        sound.name,
        card.examples.len(),
        known.count(),
        card.expected_fa_per_hour,
        if card.room { " and of this room" } else { "" },
    ))?;
    out::line(match live {
        true => "the running daemon listens for it now",
        false => "no daemon runs; it is listened for from the next 'hark run' on",
    })?;
    Ok(())
}
