//! `hark resume`: lets a paused daemon listen again.

/// Arguments of `hark resume`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark resume is not built yet")
}
