//! `hark reload`: makes a running daemon read its configuration again.

use serde_json::json;

use super::daemon::SocketArgs;
use super::out;

/// Arguments of `hark reload`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    daemon: SocketArgs,
}

/// Runs the verb.
///
/// # Errors
/// When no daemon listens, or it refuses the configuration; it then goes on with the old one.
pub fn run(args: Args) -> anyhow::Result<()> {
    args.daemon.connect()?.call("reload", json!({}))?;
    Ok(out::line("the configuration was read again")?)
}
