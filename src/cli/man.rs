//! `hark man`: writes the manual pages into a directory, from the same declarations as the help.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;

use super::Cli;

/// Arguments of `hark man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory to write `hark.1`, `hark-run.1`, ... into; it is made when missing.
    dir: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// When the directory cannot be made or written to.
pub fn run(args: Args) -> anyhow::Result<()> {
    let dir = &args.dir;
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .with_context(|| {
            format!(
                "cannot write manual pages into {}: name a directory that can be written to",
                dir.display()
            )
        })
}
