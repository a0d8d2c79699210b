//! `hark doctor`: looks for what keeps harkd from listening, and says what to do.

/// Arguments of `hark doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark doctor is not built yet")
}
