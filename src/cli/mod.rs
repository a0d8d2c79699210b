//! The command line: one file per verb, exit codes by the kind of error, one line for each error.

mod bench;
mod calibrate;
mod check;
mod classify;
mod completions;
mod daemon;
mod data;
mod devices;
mod doctor;
mod eval;
mod man;
mod models;
mod out;
mod pause;
mod prompt;
mod reload;
mod resume;
mod run;
mod score;
mod speeds;
mod status;
mod taught;
mod teach;
mod train;
mod watch;
mod windows;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::audio::AudioError;
use crate::config::ConfigError;
use crate::detect::RuleError;
use crate::hub::HubError;
use crate::models::ModelError;
use crate::models::taught::TeachError;
use crate::outputs::BusError;
use crate::train::DataError;
use crate::train::contrastive::trainer::ContrastError;
use crate::train::library::LibraryError;
use crate::train::zero_shot::ZeroShotError;

use out::OutError;

/// The computer's ears: an always-on sound recogniser.
///
/// Hears spoken words and household sounds through the microphone and reports them on standard
/// output, a Unix socket and D-Bus. Everything is recognised on this machine; nothing heard leaves it.
#[derive(Debug, Parser)]
#[command(
    name = "hark",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = HELP,
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const HELP: &str = "\
Examples:
  hark run                     listen to the default microphone
  hark run --source file:a.flac --json
                               the same chain over a recording, one JSON record a line
  hark watch                   follow a running daemon
  hark classify a.wav          what is in a file
  hark doctor                  why it does not listen, and what to do

Exit status: 0 ok, 1 unexpected, 2 usage, 3 configuration, 4 audio, 5 model or data,
6 bus or socket (no daemon).";

const RUN_HELP: &str = "\
Sources:
  mic                  the default microphone
  mic:NAME             a microphone by the name that 'hark devices' shows
  file:PATH            a recording, as fast as it can, or paced with --realtime
  raw:RATE:CHANNELS    16-bit little-endian samples on standard input
  cmd:PROGRAM ARGS     a program that writes 16-bit mono at 16 kHz; started again when it ends

Examples:
  hark run
  hark run --source mic:alsa_input.usb-Jabra --json
  hark run --source file:night.flac --json --bus none
  arecord -t raw -f S16_LE -r 48000 -c 2 | hark run --source raw:48000:2
  hark run --source 'cmd:ffmpeg -loglevel quiet -i rtsp://camera/ -f s16le -ac 1 -ar 16000 -'";

const WATCH_HELP: &str = "\
Examples:
  hark watch                             level, top scores and events in the terminal
  hark watch --json --kind keyword       one JSON record a line, for pipes
  hark watch --json --label 'Doorbell'";

const CLASSIFY_HELP: &str = "\
Examples:
  hark classify door.wav                 sounds, a line for each window
  hark classify --task keyword a.flac    spoken words
  hark classify --task content --json *.mp3
  hark classify --window 2 --hop 1 --top-k 0 --json long.ogg";

const SCORE_HELP: &str = "\
Examples:
  hark score --model ./clap --prompt 'a dog barking' --prompt 'glass breaking' a.wav
  hark score --model ./clap --prompt 'a kettle' --background --json *.flac
  hark score --model ./clap --prompt 'dog bark' --prompt 'glass' --sentences a.wav
  hark score --model ./clap --prompt-file sounds.txt --template 'the sound of {}' \\
             --template 'a recording of {}' long.ogg";

const PROMPT_HELP: &str = "\
Examples:
  hark prompt add kettle 'a kettle whistling' 'water boiling'
  hark prompt add 'the door' 'someone knocking at the door' --threshold 0.6
  hark prompt list
  hark prompt test kettle a.wav b.wav --svg kettle.svg
  hark prompt remove kettle";

const TEACH_HELP: &str = "\
Examples:
  hark teach 'my doorbell' a.wav b.wav c.wav
  hark teach 'my doorbell' --record 2            three examples from the microphone, 2 s each
  hark teach lumos --kind word --record 1.5 --examples 5
  hark teach kettle *.flac --target-fa-per-hour 0.2 --replace

Three to eight examples that differ: other distances, other voices, other days. Nothing of their
sound is kept.";

const TAUGHT_HELP: &str = "\
Examples:
  hark taught list
  hark taught remove 'my doorbell'
  hark taught export 'my doorbell' ~/backup
  hark taught import ~/backup/my-doorbell-1a2b3c4d";

const PAUSE_HELP: &str = "\
Examples:
  hark pause           until 'hark resume'
  hark pause 20m       for twenty minutes";

const EVAL_HELP: &str = "\
Examples:
  hark eval --model hark-keyword --data ../shared/data
  hark eval --model hark-keyword --data ../shared/data --stream
  hark eval --model hark-event --data ../shared/data --fold 4
  hark eval --model hark-event --data ../shared/data --split all --equal-loudness --report out
  hark eval --objective retrieval --model ./clap --data ../shared/data --labels labels.txt";

const TRAIN_HELP: &str = "\
Examples:
  hark train --data ../shared/data --base hark-event --out out
  hark train --objective clap --data ./clips --base ./clap --out out
                         the projections of a CLAP, its towers frozen
  hark train --objective clap --data ./clips --base small-clap --out out --bend 1
                         a small CLAP from random weights; run again, it goes on where it was cut short";

const CALIBRATE_HELP: &str = "\
What fires while nothing happens is a false accept. Thresholds of labels go up as far as the target
needs, and down only with --lower. Alarms keep theirs unless --alarms is given: one that no longer
comes is worse than one that comes too often.

Examples:
  hark calibrate                         ten minutes of the room; Ctrl-C uses what was heard so far
  hark calibrate --minutes 180           enough to show one false accept an hour
  hark calibrate --from evening.flac tv.mp3 --dry-run
  hark calibrate --rule home --positive Doorbell=ring.wav
  hark calibrate --undo";

const DATA_HELP: &str = "\
Examples:
  hark data check ../shared/data
  hark data check --allow speaker-leak --json ../shared/data";

const MODELS_HELP: &str = "\
Examples:
  hark models list
  hark models pull MIT/ast-finetuned-audioset-10-10-0.4593
  hark models show hark-event
  hark models verify ./my-model";

const COMPLETIONS_HELP: &str = "\
Examples:
  hark completions bash > ~/.local/share/bash-completion/completions/hark
  hark completions fish > ~/.config/fish/completions/hark.fish
  hark completions zsh > ~/.zfunc/_hark";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Listens and reports what it hears, in the foreground.
    #[command(after_help = RUN_HELP)]
    Run(run::Args),
    /// Follows a running daemon: live level, top scores and events.
    #[command(after_help = WATCH_HELP)]
    Watch(watch::Args),
    /// Shows the state of a running daemon.
    Status(status::Args),
    /// Stops a running daemon from listening, for a time or until resumed.
    #[command(after_help = PAUSE_HELP)]
    Pause(pause::Args),
    /// Lets a paused daemon listen again.
    Resume(resume::Args),
    /// Makes a running daemon read its configuration again.
    Reload(reload::Args),
    /// Tells a running daemon in plain words what to listen for.
    #[command(after_help = PROMPT_HELP)]
    Prompt(prompt::Args),
    /// Says what is in sound files; no daemon needed.
    #[command(after_help = CLASSIFY_HELP)]
    Classify(classify::Args),
    /// Says how well phrases in plain words describe what is in sound files; no daemon needed.
    #[command(after_help = SCORE_HELP)]
    Score(score::Args),
    /// Hears the room while nothing happens, and sets thresholds that keep it from firing rules.
    #[command(after_help = CALIBRATE_HELP)]
    Calibrate(calibrate::Args),
    /// Teaches a sound or a word from a few examples.
    #[command(after_help = TEACH_HELP)]
    Teach(teach::Args),
    /// Lists, removes, exports and imports what was taught.
    #[command(after_help = TAUGHT_HELP)]
    Taught(taught::Args),
    /// Trains or fine-tunes a model.
    #[command(after_help = TRAIN_HELP)]
    Train(train::Args),
    /// Measures a model on labelled data or on streams.
    #[command(after_help = EVAL_HELP)]
    Eval(eval::Args),
    /// Looks at training data.
    #[command(after_help = DATA_HELP)]
    Data(data::Args),
    /// Lists, pulls, shows, verifies and removes models.
    #[command(after_help = MODELS_HELP)]
    Models(models::Args),
    /// Lists the capture devices by their stable names.
    Devices(devices::Args),
    /// Reads the configuration and says what is wrong with it.
    Check(check::Args),
    /// Looks for what keeps hark from listening, and says what to do.
    Doctor(doctor::Args),
    /// Measures the speed of the sound path and the models here.
    Bench(bench::Args),
    /// Prints completions for a shell.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(completions::Args),
    /// Writes the manual pages into a directory.
    Man(man::Args),
}

/// Runs the program and says with which status it ends.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let ended = match Cli::try_parse_from(&args) {
        Ok(cli) => run(cli),
        Err(error) => usage(&error, args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit_code(&error);
            if code != 0 && !error.is::<Reported>() {
                out::complain(format_args!("{error:#}"));
            }
            ExitCode::from(code)
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
        Verb::Prompt(args) => prompt::run(args),
        Verb::Classify(args) => classify::run(args),
        Verb::Score(args) => score::run(args),
        Verb::Calibrate(args) => calibrate::run(args),
        Verb::Teach(args) => teach::run(args),
        Verb::Taught(args) => taught::run(args),
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

/// A command line that makes no sense, beyond what the parser can see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// What went wrong was said already, as it happened; only the exit status is left.
#[derive(Debug, thiserror::Error)]
#[error("ended with status {0}")]
struct Reported(u8);

/// 0 closed pipe, 1 unexpected, 2 usage, 3 configuration, 4 audio, 5 model or data, 6 bus or socket.
fn exit_code(error: &anyhow::Error) -> u8 {
    // Bare, it comes from standard output: sockets and files wrap theirs with a name.
    if let Some(error) = error.downcast_ref::<io::Error>()
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        return 0;
    }
    for cause in error.chain() {
        if let Some(Reported(code)) = cause.downcast_ref() {
            return *code;
        }
        if let Some(OutError::Closed) = cause.downcast_ref() {
            return 0;
        }
        if cause.is::<UsageError>() {
            return 2;
        }
        if cause.is::<ConfigError>() || cause.is::<RuleError>() {
            return 3;
        }
        if let Some(error) = cause.downcast_ref::<TeachError>() {
            return match error {
                TeachError::Name(_) | TeachError::Unknown(_) => 2,
                TeachError::Audio(_) => 4,
                _ => 5,
            };
        }
        if cause.is::<AudioError>() {
            return 4;
        }
        if cause.is::<ModelError>()
            || cause.is::<HubError>()
            || cause.is::<DataError>()
            || cause.is::<LibraryError>()
            || cause.is::<ContrastError>()
            || cause.is::<ZeroShotError>()
        {
            return 5;
        }
        if cause.is::<BusError>() {
            return 6;
        }
    }
    1
}

/// Prints help and version on standard output, and folds what is wrong with a command line into
/// one line that ends with where to look.
fn usage(error: &clap::Error, args: Vec<OsString>) -> anyhow::Result<()> {
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            if out::is_terminal() {
                out::text(text.ansi())?;
            } else {
                out::text(text)?;
            }
            Ok(())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A bare `hark` asks for help, but a script that forgot its verb must see a failure.
            // With standard error gone there is nobody to tell.
            let _ = error.print();
            Err(Reported(2).into())
        }
        _ => {
            let reason = reason(&text.to_string());
            Err(UsageError(format!("{reason}; see '{} --help'", verb_of(args))).into())
        }
    }
}

/// The part of a parser error before its usage lines, without its `error:`.
fn reason(text: &str) -> String {
    let text = text.split("\nUsage:").next().unwrap_or(text);
    let text = text.split("\nFor more information").next().unwrap_or(text);
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `hark models verify` from that and whatever follows: the words that name a verb.
fn verb_of(args: impl IntoIterator<Item = OsString>) -> String {
    let mut command = Cli::command();
    let mut name = "hark".to_owned();
    for arg in args.into_iter().skip(1) {
        let Some(verb) = command.find_subcommand(&arg).cloned() else {
            break;
        };
        name = format!("{name} {}", verb.get_name());
        command = verb;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declarations_are_sound() {
        Cli::command().debug_assert();
    }

    fn check_usage(args: &[&str], expected: &str) {
        let error = Cli::try_parse_from(args).unwrap_err();
        let error = usage(&error, args.iter().map(OsString::from).collect()).unwrap_err();
        assert_eq!(exit_code(&error), 2, "{args:?}");
        assert_eq!(format!("{error:#}"), expected, "{args:?}");
    }

    #[test]
    fn a_wrong_command_line_is_one_line_that_says_where_to_look() {
        check_usage(
            &["hark", "lisen"],
            "unrecognized subcommand 'lisen'; see 'hark --help'",
        );
        check_usage(
            &["hark", "man"],
            "the following required arguments were not provided: <DIR>; see 'hark man --help'",
        );
        check_usage(
            &["hark", "completions", "cmd.exe"],
            "invalid value 'cmd.exe' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]; \
             see 'hark completions --help'",
        );
        check_usage(
            &["hark", "man", "a", "b"],
            "unexpected argument 'b' found; see 'hark man --help'",
        );
    }

    fn check_code(error: impl Into<anyhow::Error>, expected: u8) {
        let error = error.into().context("while testing");
        assert_eq!(exit_code(&error), expected, "{error:#}");
    }

    #[test]
    fn the_exit_status_says_what_kind_of_thing_went_wrong() {
        check_code(OutError::Closed, 0);
        check_code(OutError::Write(std::io::ErrorKind::StorageFull.into()), 1);
        check_code(UsageError("x".into()), 2);
        let rule = RuleError {
            rule: "r".into(),
            key: "k".into(),
            text: "x".into(),
        };
        check_code(rule, 3);
        check_code(AudioError::Decode("x".into()), 4);
        check_code(ModelError::Read("x".into()), 5);
        check_code(TeachError::Examples("x".into()), 5);
        check_code(TeachError::Audio(AudioError::Decode("x".into())), 4);
        check_code(TeachError::Name("x".into()), 2);
        check_code(HubError::NotFound("x".into()), 5);
        let empty = DataError::Empty {
            path: "d".into(),
            reason: "x".into(),
        };
        check_code(LibraryError::Data(empty), 5);
        check_code(Reported(6), 6);
    }
}
