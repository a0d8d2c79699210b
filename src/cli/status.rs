//! `hark status`: shows the state of a running daemon.

/// Arguments of `hark status`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark status is not built yet")
}
