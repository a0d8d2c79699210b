//! `hark train`: trains or fine-tunes a model.

/// Arguments of `hark train`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark train is not built yet")
}
