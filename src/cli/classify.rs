//! `hark classify`: says what is in sound files; no daemon needed.

/// Arguments of `hark classify`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is built.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("hark classify is not built yet")
}
