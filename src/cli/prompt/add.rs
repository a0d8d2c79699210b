//! `hark prompt add`: a running daemon listens for one more sound.

use anyhow::Context;
use serde_json::json;

use super::super::daemon::SocketArgs;
use super::super::{UsageError, out};
use super::{OTHER_VERSION, ask, fate};
use crate::config::PromptLabel;
use crate::outputs::protocol::PromptResult;

/// Arguments of `hark prompt add`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its name, the label of its events
    #[arg(value_name = "NAME")]
    name: String,
    /// What it sounds like, in plain words: a keyword ("dog bark") or a sentence; several are averaged
    #[arg(required = true, value_name = "PHRASE")]
    phrases: Vec<String>,
    /// Score from which it counts, over 0 to 1 [default: that of [prompt] or of its rule]
    #[arg(long, value_name = "X")]
    threshold: Option<f32>,
    /// Takes the place of a prompt of the same name
    #[arg(long)]
    replace: bool,
    /// One JSON object: what has become of it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: SocketArgs,
}

/// Runs the verb.
///
/// # Errors
/// When it is no prompt, no daemon listens, or the daemon refuses.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let label = PromptLabel {
        name: args.name,
        phrases: args.phrases,
        threshold: args.threshold,
    };
    label.check().map_err(UsageError)?;
    let mut wanted = json!({
        "name": label.name, "phrases": label.phrases, "replace": args.replace,
    });
    if let Some(threshold) = label.threshold {
        wanted["threshold"] = json!(threshold);
    }
    let answer = ask(&args.daemon, "prompt_add", wanted)?;
    if args.json {
        return Ok(out::line(&answer["prompt"])?);
    }
    let PromptResult { prompt } = serde_json::from_value(answer).context(OTHER_VERSION)?;
    Ok(out::line(format_args!(
        "{}: {}",
        prompt.name,
        fate(&prompt)
    ))?)
}
