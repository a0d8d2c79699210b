//! `hark models`: lists, shows and verifies models.

/// Arguments of `hark models`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark models is not built yet")
}
