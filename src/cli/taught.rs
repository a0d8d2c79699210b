//! `hark taught`: what was taught, listed, removed, exported and imported.
//!
//! The store is read and changed here; a running daemon is told of changes.

use std::path::PathBuf;

use super::daemon::SocketArgs;
use super::out;
use super::teach::{record_of, tell};
use crate::models::registry::open_embedder;
use crate::models::taught::{Store, TaughtSound};

/// Arguments of `hark taught`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists what was taught: from how many examples, and what to expect of it.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Forgets a sound.
    Remove {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        daemon: SocketArgs,
    },
    /// Copies a sound into a folder, to keep it or take it to another machine; no audio is in it.
    Export {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
        /// The folder that it is put into, in a folder of its own.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Takes a sound that was exported.
    Import {
        /// Its own folder.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Replace a sound of that name that was taught before.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        daemon: SocketArgs,
    },
}

/// Runs the verb.
///
/// # Errors
/// When there is no such sound, a name is taken, or the disk refuses.
pub fn run(args: Args) -> anyhow::Result<()> {
    let store = Store::current();
    match args.action {
        Action::List { json } => list(&store, json),
        Action::Remove { name, daemon } => {
            store.remove(&name)?;
            tell(&daemon)?;
            Ok(out::line(format_args!("forgot '{name}'"))?)
        }
        Action::Export { name, dir } => {
            let path = store.export(&name, &dir)?;
            Ok(out::line(path.display())?)
        }
        Action::Import {
            dir,
            replace,
            daemon,
        } => {
            let sound = store.import(&dir, replace)?;
            if let Some(stale) = stale(&sound) {
                out::complain(stale);
            }
            tell(&daemon)?;
            Ok(out::line(format_args!("took '{}'", sound.name))?)
        }
    }
}

/// Why a sound is not listened for with what is installed.
fn stale(sound: &TaughtSound) -> Option<String> {
    match open_embedder(&sound.card.embedder) {
        Ok(embedder) => sound.stale(embedder.info()),
        Err(error) => Some(format!("'{}' is not listened for: {error}", sound.name)),
    }
}

fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let listing = store.list()?;
    for fault in &listing.faults {
        out::complain(&fault.text);
    }
    for sound in &listing.sounds {
        let stale = stale(sound);
        if as_json {
            let mut record = record_of(sound);
            record["stale"] = stale.into();
            out::line(record)?;
            continue;
        }
        let card = &sound.card;
        out::line(format_args!(
            "{:<24} {:<6} {} examples, {:.0} % of them recognised when left out, {} false accepts an hour asked, taught {}",
            sound.name,
            sound.kind.as_str(),
            card.examples.len(),
            100.0 * card.expected_recall,
            card.target_fa_per_hour,
            card.taught.get(..10).unwrap_or(&card.taught),
        ))?;
        if let Some(stale) = stale {
            out::complain(stale);
        }
    }
    if listing.sounds.is_empty() && !as_json {
        out::note("nothing was taught; 'hark teach NAME FILE...' does");
    }
    Ok(())
}
