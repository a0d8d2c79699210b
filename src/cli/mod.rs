//! The command line: one file per verb, and exit codes by the kind of error.

mod bench;
mod check;
mod classify;
mod completions;
mod data;
mod devices;
mod doctor;
mod eval;
mod man;
mod models;
mod pause;
mod reload;
mod resume;
mod run;
mod status;
mod train;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::audio::AudioError;
use crate::config::ConfigError;
use crate::models::ModelError;

/// The computer's ears: an always-on sound recogniser.
#[derive(Debug, Parser)]
#[command(name = "hark", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Listens and reports what it hears, in the foreground.
    Run(run::Args),
    /// Follows a running daemon: live level, top scores and events.
    Watch(watch::Args),
    /// Shows the state of a running daemon.
    Status(status::Args),
    /// Stops a running daemon from listening, for a time or until resumed.
    Pause(pause::Args),
    /// Lets a paused daemon listen again.
    Resume(resume::Args),
    /// Makes a running daemon read its configuration again.
    Reload(reload::Args),
    /// Says what is in sound files; no daemon needed.
    Classify(classify::Args),
    /// Trains or fine-tunes a model.
    Train(train::Args),
    /// Measures a model on labelled data or on streams.
    Eval(eval::Args),
    /// Looks at training data.
    Data(data::Args),
    /// Lists, shows and verifies models.
    Models(models::Args),
    /// Lists the capture devices by their stable names.
    Devices(devices::Args),
    /// Reads the configuration and says what is wrong with it.
    Check(check::Args),
    /// Looks for what keeps harkd from listening, and says what to do.
    Doctor(doctor::Args),
    /// Measures the speed of the sound path and the models here.
    Bench(bench::Args),
    /// Prints completions for a shell.
    Completions(completions::Args),
    /// Writes the manual pages into a directory.
    Man(man::Args),
}

/// Runs the program and says with which status it ends.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hark: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.verb {
        Verb::Run(args) => run::run(args),
        Verb::Watch(args) => watch::run(args),
        Verb::Status(args) => status::run(args),
        Verb::Pause(args) => pause::run(args),
        Verb::Resume(args) => resume::run(args),
        Verb::Reload(args) => reload::run(args),
        Verb::Classify(args) => classify::run(args),
        Verb::Train(args) => train::run(args),
        Verb::Eval(args) => eval::run(args),
        Verb::Data(args) => data::run(args),
        Verb::Models(args) => models::run(args),
        Verb::Devices(args) => devices::run(args),
        Verb::Check(args) => check::run(args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
    }
}

/// 1 unexpected, 2 usage, 3 configuration, 4 audio, 5 model or data, 6 bus or socket.
fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<ConfigError>() {
            return 3;
        }
        if cause.is::<AudioError>() {
            return 4;
        }
        if cause.is::<ModelError>() {
            return 5;
        }
    }
    1
}
