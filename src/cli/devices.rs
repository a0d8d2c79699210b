//! `hark devices`: lists the capture devices by their stable names.

/// Arguments of `hark devices`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark devices is not built yet")
}
