//! `hark pause`: stops a running daemon from listening, for a time or until resumed.

/// Arguments of `hark pause`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark pause is not built yet")
}
