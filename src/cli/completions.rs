//! `hark completions`: prints completions for a shell, from the same declarations as the help.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, out};

/// Arguments of `hark completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell to complete in.
    shell: Shell,
}

/// Runs the verb.
///
/// # Errors
/// When standard output takes no more.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hark", &mut script);
    out::text(String::from_utf8_lossy(&script))?;
    Ok(())
}
