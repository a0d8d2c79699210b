//! `hark resume`: lets a paused daemon listen again.

use serde_json::{Value, json};

use super::daemon::SocketArgs;
use super::out;

/// Arguments of `hark resume`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    daemon: SocketArgs,
}

/// Runs the verb.
///
/// # Errors
/// When no daemon listens.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut client = args.daemon.connect()?;
    client.call("resume", json!({}))?;
    // An inhibitor outlasts a resume: whoever asks should hear why it is still quiet.
    let status = client.call("status", json!({}))?;
    match holders(&status) {
        None => out::line("resumed")?,
        Some(holders) => out::line(format_args!("resumed, but still inhibited by {holders}"))?,
    }
    Ok(())
}

fn holders(status: &Value) -> Option<String> {
    let holders = status["inhibitors"].as_array()?.iter();
    let names: Vec<String> = holders
        .map(|holder| {
            let text = |key: &str| holder[key].as_str().unwrap_or_default().to_owned();
            format!("{} ({})", text("who"), text("why"))
        })
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inhibitors_are_named() {
        let check = |status: Value, expected: Option<&str>| {
            assert_eq!(holders(&status).as_deref(), expected);
        };
        check(json!({}), None);
        check(json!({"inhibitors": []}), None);
        check(
            json!({"inhibitors": [{"who": "call", "why": "a meeting"}, {"who": "x", "why": ""}]}),
            Some("call (a meeting), x ()"),
        );
    }
}
