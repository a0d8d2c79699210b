//! `hark run`: listens and reports what it hears, in the foreground.

/// Arguments of `hark run`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark run is not built yet")
}
