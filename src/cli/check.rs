//! `hark check`: reads the configuration and says what is wrong with it.

/// Arguments of `hark check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark check is not built yet")
}
