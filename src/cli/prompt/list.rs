//! `hark prompt list`: the prompts of a running daemon.

use anyhow::Context;

use super::super::daemon::SocketArgs;
use super::super::out;
use super::{OTHER_VERSION, fate, prompts};
use crate::outputs::protocol::PromptRecord;

/// Arguments of `hark prompt list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One JSON object for each prompt
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: SocketArgs,
}

/// Runs the verb.
///
/// # Errors
/// When no daemon listens.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let prompts = prompts(&args.daemon)?;
    if prompts.is_empty() && !args.json {
        out::note("no prompts yet; add one with 'hark prompt add NAME PHRASE'");
    }
    for prompt in prompts {
        if args.json {
            out::line(prompt)?;
            continue;
        }
        let prompt: PromptRecord = serde_json::from_value(prompt).context(OTHER_VERSION)?;
        out::text(entry(&prompt))?;
    }
    Ok(())
}

/// What a person reads of a prompt.
fn entry(prompt: &PromptRecord) -> String {
    let mut text = format!(
        "{}  ({}, threshold {})\n",
        prompt.name, prompt.state, prompt.threshold
    );
    for phrase in &prompt.phrases {
        text.push_str(&format!("    {phrase}\n"));
    }
    text.push_str(&format!("  {}\n", fate(prompt)));
    if !prompt.place.is_empty() {
        text.push_str(&format!("  it stands in {}\n", prompt.place));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_who_answers_and_where_it_stands() {
        let mut prompt: PromptRecord = serde_json::from_value(serde_json::json!({
            "name": "kettle", "phrases": ["a kettle", "water boiling"], "threshold": 0.6,
            "state": "fallback", "by": "hark-event", "detail": "by its label Water",
            "calibrated": false, "place": "",
        }))
        .unwrap();
        assert_eq!(
            entry(&prompt),
            "\
kettle  (fallback, threshold 0.6)
    a kettle
    water boiling
  hark-event answers as well as it can: by its label Water
"
        );
        prompt.state = "ready".into();
        prompt.calibrated = true;
        prompt.detail = "".into();
        prompt.place = "/etc/hark/config.toml:3:1".into();
        let text = entry(&prompt);
        assert!(
            text.contains("  hark-event listens for it, calibrated for this room\n"),
            "{text}"
        );
        assert!(
            text.ends_with("  it stands in /etc/hark/config.toml:3:1\n"),
            "{text}"
        );
    }
}
