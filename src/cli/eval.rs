//! `hark eval`: measures a model on labelled data or on streams.

/// Arguments of `hark eval`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark eval is not built yet")
}
