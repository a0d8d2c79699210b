//! `hark completions`: prints completions for a shell.

/// Arguments of `hark completions`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark completions is not built yet")
}
