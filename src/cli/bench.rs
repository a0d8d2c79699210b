//! `hark bench`: measures the speed of the sound path and the models here.

/// Arguments of `hark bench`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark bench is not built yet")
}
