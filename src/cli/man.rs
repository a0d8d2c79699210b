//! `hark man`: writes the manual pages into a directory.

/// Arguments of `hark man`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark man is not built yet")
}
