//! `hark reload`: makes a running daemon read its configuration again.

/// Arguments of `hark reload`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark reload is not built yet")
}
