//! `hark prompt`: sounds in plain words that a running daemon listens for.
//!
//! The daemon keeps them and answers; nothing is decided here. `hark prompt test` needs no daemon: it
//! tries a prompt on files.

mod add;
mod list;
mod remove;
mod test;

use serde_json::Value;

use super::UsageError;
use super::daemon::SocketArgs;
use crate::outputs::BusError;
use crate::outputs::protocol::PromptRecord;

/// Arguments of `hark prompt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists the prompts: what they sound like, who answers for them, and what is missing.
    List(list::Args),
    /// Listens for a sound from now on, and after the next start.
    Add(add::Args),
    /// Listens for it no longer.
    Remove(remove::Args),
    /// Says how a prompt scores on sound files in each way of saying it; no daemon needed.
    #[command(after_help = TEST_HELP)]
    Test(test::Args),
}

const TEST_HELP: &str = "\
Each phrase is tried as it stands, as the sentences that it is expanded to, and in every --template;
'all together' is what the daemon listens with. The top-1 of a window is what is nearest to it: the
prompt, a phrase of the background, or another prompt.

Examples:
  hark prompt test kettle a.wav b.wav --svg kettle.svg
  hark prompt test kettle --phrase 'kettle whistle' --phrase 'water boiling in a kettle' *.flac
  hark prompt test kettle --template 'I can hear {}' --json a.wav";

/// Runs the verb.
///
/// # Errors
/// When no daemon listens, or it refuses; when files cannot be read or the model cannot be loaded.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::List(args) => list::run(&args),
        Action::Add(args) => add::run(args),
        Action::Remove(args) => remove::run(&args),
        Action::Test(args) => test::run(args),
    }
}

/// The error of an answer that this version cannot read.
const OTHER_VERSION: &str = "the daemon is of another version; see 'hark prompt list --json'";

/// What has become of a prompt, in one line without its name.
fn fate(prompt: &PromptRecord) -> String {
    let calibrated = match prompt.calibrated {
        true => ", calibrated for this room",
        false => "",
    };
    let text = match &*prompt.state {
        "ready" => format!("{} listens for it{calibrated}", prompt.by),
        "fallback" => format!("{} answers as well as it can", prompt.by),
        "loading" => format!("{} is being loaded", prompt.by),
        "waiting" => "nothing listens for it yet".to_owned(),
        "failed" => "nothing listens for it".to_owned(),
        other => other.to_owned(),
    };
    match &*prompt.detail {
        "" => text,
        detail => format!("{text}: {detail}"),
    }
}

/// Asks the daemon. What it finds wrong with the request itself is a fault of the command line.
fn ask(daemon: &SocketArgs, method: &str, params: Value) -> anyhow::Result<Value> {
    let answer = daemon.connect()?.call(method, params);
    answer.map_err(|error| match error {
        BusError::Refused { code, message } if code == "bad_params" || code == "too_large" => {
            UsageError(message).into()
        }
        error => error.into(),
    })
}

/// The prompts of the daemon.
fn prompts(daemon: &SocketArgs) -> anyhow::Result<Vec<Value>> {
    let mut answer = ask(daemon, "prompts", serde_json::json!({}))?;
    match answer["prompts"].take() {
        Value::Array(prompts) => Ok(prompts),
        _ => Ok(Vec::new()),
    }
}
