//! `hark models pull` and `hark models remove`: from a name to files on the disk, and back.
//!
//! What is downloaded and how is [`crate::hub`]'s affair; what a name stands for is said by
//! [`wanted_for`] alone.

use std::path::Path;

use serde::Serialize;

use super::bar::Bar;
use crate::cli::out;
use crate::hub::{
    CachedFile, Hub, HubError, Pull, PullSpec, Release, ReleaseFile, Removed, Snapshot, human,
};
use crate::models::ModelError;
use crate::models::registry;

/// Arguments of `hark models pull`.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// A name that 'hark models list' shows, or ORG/NAME of a repository on the hub.
    #[arg(value_name = "NAME")]
    name: String,
    /// A branch, tag or commit of the repository; also ORG/NAME@R.
    #[arg(long, value_name = "R")]
    revision: Option<String>,
    /// One JSON object when everything is here.
    #[arg(long)]
    json: bool,
}

/// Arguments of `hark models remove`.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// A name that 'hark models list' shows, or ORG/NAME of a repository in the cache.
    #[arg(value_name = "NAME")]
    name: String,
    /// Only this branch, tag or commit, and what no other one needs; also ORG/NAME@R.
    #[arg(long, value_name = "R")]
    revision: Option<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// What a pull has brought.
#[derive(Debug, Serialize)]
struct PulledRecord<'a> {
    name: &'a str,
    revision: Option<&'a str>,
    commit: Option<&'a str>,
    dir: &'a Path,
    bytes: u64,
    downloaded: u64,
    from_cache: Option<&'a str>,
    files: Vec<FileRecord<'a>>,
}

#[derive(Debug, Serialize)]
struct FileRecord<'a> {
    name: &'a str,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct RemovedRecord<'a> {
    name: &'a str,
    files: usize,
    bytes: u64,
}

/// What has to be downloaded for a name; nothing where a name is unknown or comes with the program.
fn wanted_for(name: &str) -> Option<PullSpec> {
    match registry::find(name) {
        None => PullSpec::of_repository(name),
        Some(row) => registry::pull_spec(row),
    }
}

/// The specification of a name, with the revision that was asked for.
fn resolve(name: &str, revision: Option<String>) -> anyhow::Result<PullSpec> {
    let Some(mut spec) = wanted_for(name) else {
        let text = if registry::find(name).is_some() {
            format!("{name} comes with hark: there is nothing to pull or remove")
        } else {
            format!(
                "no model '{name}': use a name that 'hark models list' shows, or ORG/NAME of a \
                 repository on the hub"
            )
        };
        return Err(ModelError::Unknown(text).into());
    };
    match (&mut spec, revision) {
        (_, None) => {}
        (PullSpec::Repository { revision, .. }, Some(asked)) => *revision = asked,
        (PullSpec::Release { .. }, Some(asked)) => {
            let text = format!("{name} is a release file: it has no revision '{asked}'");
            return Err(HubError::Name(text).into());
        }
    }
    Ok(spec)
}

/// Runs `hark models pull`.
///
/// # Errors
/// When the name is not known or a file cannot be had.
pub fn pull(args: PullArgs) -> anyhow::Result<()> {
    let spec = resolve(&args.name, args.revision)?;
    let hub = Hub::from_env()?;
    let mut bar = Bar::new();
    let pulled = match &spec {
        PullSpec::Repository {
            repo,
            revision,
            files,
        } => {
            let pull = Pull {
                repo,
                revision,
                files,
            };
            hub.pull(&pull, &mut |said| bar.show(said))?
        }
        PullSpec::Release { name, files } => {
            fetch_release(&hub, &registry::release_dir(name), files, &mut bar)?
        }
    };
    drop(bar);
    report(&spec, &pulled, args.json)
}

fn fetch_release(
    hub: &Hub,
    dir: &Path,
    files: &[ReleaseFile],
    bar: &mut Bar,
) -> Result<Snapshot, HubError> {
    let mut pulled = Snapshot {
        dir: dir.to_owned(),
        commit: String::new(),
        files: Vec::new(),
        downloaded: 0,
        from_cache: None,
    };
    for file in files {
        let release = Release {
            url: file.url,
            sha256: file.sha256,
        };
        let to = dir.join(file.file);
        pulled.downloaded += hub.fetch_file(&release, &to, &mut |said| bar.show(said))?;
        pulled.files.push(CachedFile {
            name: file.file.to_owned(),
            bytes: std::fs::metadata(&to).map_or(0, |there| there.len()),
        });
    }
    Ok(pulled)
}

fn report(spec: &PullSpec, pulled: &Snapshot, json: bool) -> anyhow::Result<()> {
    let (name, revision) = match spec {
        PullSpec::Repository { repo, revision, .. } => (repo, Some(revision.as_str())),
        PullSpec::Release { name, .. } => (name, None),
    };
    let record = PulledRecord {
        name,
        revision,
        commit: revision.map(|_| pulled.commit.as_str()),
        dir: &pulled.dir,
        bytes: pulled.bytes(),
        downloaded: pulled.downloaded,
        from_cache: pulled.from_cache.as_deref(),
        files: pulled
            .files
            .iter()
            .map(|file| FileRecord {
                name: &file.name,
                bytes: file.bytes,
            })
            .collect(),
    };
    if json {
        out::line(serde_json::to_string(&record)?)?;
        return Ok(());
    }
    let at = record
        .commit
        .map_or_else(String::new, |commit| format!(" at {commit}"));
    out::line(format_args!(
        "{name}{at}: {} files, {}, in {}",
        record.files.len(),
        human(record.bytes),
        record.dir.display()
    ))?;
    Ok(())
}

/// Runs `hark models remove`.
///
/// # Errors
/// When the name is not known, not installed or in use.
pub fn remove(args: RemoveArgs) -> anyhow::Result<()> {
    let whole = args.revision.is_none() && !args.name.contains('@');
    let spec = resolve(&args.name, args.revision)?;
    let (name, removed) = match &spec {
        PullSpec::Repository { repo, revision, .. } => {
            let revision = (!whole).then_some(revision.as_str());
            (repo, Hub::from_env()?.remove(repo, revision)?)
        }
        PullSpec::Release { name, files } => (name, remove_release(name, files)?),
    };
    if args.json {
        out::line(serde_json::to_string(&RemovedRecord {
            name,
            files: removed.files,
            bytes: removed.bytes,
        })?)?;
    } else {
        out::line(format_args!(
            "{name}: {} files removed, {}",
            removed.files,
            human(removed.bytes)
        ))?;
    }
    Ok(())
}

fn remove_release(name: &str, files: &[ReleaseFile]) -> Result<Removed, HubError> {
    let dir = registry::release_dir(name);
    let mut removed = Removed::default();
    for path in files.iter().map(|file| dir.join(file.file)) {
        let Ok(there) = std::fs::metadata(&path) else {
            continue;
        };
        std::fs::remove_file(&path).map_err(|source| HubError::Io { path, source })?;
        removed.files += 1;
        removed.bytes += there.len();
    }
    if removed.files == 0 {
        let text = format!("{name} is not installed in {}", dir.display());
        return Err(HubError::NotInstalled(text));
    }
    // What somebody has put there besides stays, and the folder with it.
    let _ = std::fs::remove_dir(dir);
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::registry::Origin;

    #[test]
    fn every_row_that_is_not_inside_the_program_can_be_pulled() {
        for row in registry::ROWS {
            let spec = wanted_for(row.name);
            match (row.origin, spec) {
                (Origin::Embedded, None) => {}
                (Origin::Hub { repo: expected, .. }, Some(PullSpec::Repository { repo, .. })) => {
                    assert_eq!(repo, expected);
                }
                (Origin::Download { .. }, Some(PullSpec::Release { name, .. })) => {
                    assert_eq!(name, row.name);
                }
                (origin, spec) => panic!("{}: {origin:?}, {spec:?}", row.name),
            }
        }
        assert_eq!(wanted_for("yamnot"), None);
    }
}
