//! `hark watch`: follows a running daemon: live level, top scores and events.
//!
//! On a terminal it draws; for pipes it prints the event lines as they come.

mod screen;
mod view;

use serde_json::{Value, json};

use super::daemon::SocketArgs;
use super::out;
use crate::event::Kind;
use crate::outputs::BusError;
use crate::outputs::client::Client;

/// Arguments of `hark watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON record a line; the default where standard output is no terminal
    #[arg(long)]
    json: bool,
    /// Events of this kind alone: keyword, event, content, prompt, taught, level or pattern
    #[arg(long, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Events with this label alone
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    #[command(flatten)]
    daemon: SocketArgs,
}

/// Runs the verb.
///
/// # Errors
/// When no daemon listens, when it ends while lines are printed, or when the terminal fails.
pub fn run(args: Args) -> anyhow::Result<()> {
    let drawn = !args.json && out::is_terminal();
    let kinds: Vec<&str> = args.kind.iter().map(|kind| kind.as_str()).collect();
    let wanted = json!({"kinds": kinds, "labels": args.label, "live": drawn});
    let path = args.daemon.path();
    let client = subscribed(Client::connect(&path)?, &wanted)?;
    if drawn {
        return screen::run(client, path, wanted);
    }
    lines(client)
}

/// Subscribes; from then on every line is an event or a live record, whenever it comes.
fn subscribed(mut client: Client, wanted: &Value) -> Result<Client, BusError> {
    client.call("subscribe", wanted.clone())?;
    client.set_timeout(None)?;
    Ok(client)
}

fn lines(mut client: Client) -> anyhow::Result<()> {
    while let Some(line) = client.line()? {
        out::line(line)?;
    }
    Err(client.closed().into())
}
