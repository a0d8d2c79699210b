//! `hark watch`: follows a running daemon: live level, top scores and events.

/// Arguments of `hark watch`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark watch is not built yet")
}
