//! `hark prompt remove`: a running daemon listens for a sound no longer.

use serde_json::json;

use super::super::daemon::SocketArgs;
use super::super::out;
use super::ask;

/// Arguments of `hark prompt remove`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    daemon: SocketArgs,
}

/// Runs the verb.
///
/// # Errors
/// When no daemon listens, or there is no such prompt.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let wanted = json!({"name": args.name});
    ask(&args.daemon, "prompt_remove", wanted)?;
    Ok(out::line(format_args!("removed '{}'", args.name))?)
}
