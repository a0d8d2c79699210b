//! `hark eval`: measures a model on labelled data or on streams.
//!
//! | file | does |
//! |---|---|
//! | `keyword` | clip by clip, over the labels of Speech Commands and over all words |
//! | `event` | clip by clip: top-1, average precision, glass against everything else |
//! | `retrieval` | CLAP: clips that look for texts, texts that look for clips, zero-shot accuracy |
//! | `stream` | what the daemon would report: words found, and false accepts an hour |
//! | `figures` | what was measured, as text, as JSON and as files |

mod event;
mod figures;
mod keyword;
mod retrieval;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::UsageError;
use crate::models::registry::{self, Model};
use crate::models::{Input, ModelError, Spotter};
use crate::pipeline::Factory;
use crate::train::library::Library;
use crate::train::{Clip, DataError, Split};

use figures::{Report, show};

/// Arguments of `hark eval`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model: a name that 'hark models list' shows, or a directory.
    #[arg(long, value_name = "M")]
    model: String,
    /// A folder with a manifest.csv, or with one folder of sound files for each label.
    #[arg(long, value_name = "D")]
    data: PathBuf,
    /// Which clips: dev, train or all.
    #[arg(long, default_value = "dev", value_parser = parse_split, value_name = "SPLIT")]
    split: Wanted,
    /// What is measured: labels, or with a CLAP how clips and texts find each other.
    #[arg(long, value_enum, default_value_t = Objective::Labels)]
    objective: Objective,
    /// The labels to choose from (with --objective retrieval), one a line, each with a tab and phrases with
    /// | between them if it is not to be put into sentences; clips of other labels are left out.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Only the clips in these folders of the data set (with --objective retrieval).
    #[arg(long, value_name = "SET", value_delimiter = ',')]
    sets: Vec<String>,
    /// Only this fold of ESC-10 (event models).
    #[arg(long, value_name = "N")]
    fold: Option<u8>,
    /// Every window at the same level, so that loudness tells nothing (event models).
    #[arg(long)]
    equal_loudness: bool,
    /// The words in one stream and hours of other sound, through the rules (keyword models).
    #[arg(long)]
    stream: bool,
    /// The threshold of the rules, in place of the default (with --stream).
    #[arg(long, value_name = "T", requires = "stream")]
    threshold: Option<f32>,
    /// Where report.json, labels.csv, confusion.csv and wrong.csv are written.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Objective {
    /// Labels that a model gives.
    Labels,
    /// Clips and texts that find each other.
    Retrieval,
}

/// Which split is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted(Option<Split>);

impl Wanted {
    fn takes(self, clip: &Clip) -> bool {
        self.0.is_none_or(|split| split == clip.split)
    }

    fn as_str(self) -> &'static str {
        self.0.map_or("all", Split::as_str)
    }
}

fn parse_split(text: &str) -> Result<Wanted, String> {
    match text {
        "all" => Ok(Wanted(None)),
        _ => text
            .parse()
            .map(|split| Wanted(Some(split)))
            .map_err(|_| "expected dev, train or all".to_owned()),
    }
}

/// Runs the verb.
///
/// # Errors
/// When the model or the data cannot be read, or the data holds nothing that the model knows.
pub fn run(args: Args) -> anyhow::Result<()> {
    let refuse = |text: String| Err(UsageError(text).into());
    if args.objective == Objective::Retrieval {
        return retrieval::run(&args);
    }
    if args.labels.is_some() || !args.sets.is_empty() {
        return refuse("--labels and --sets are of --objective retrieval".to_owned());
    }
    let model = registry::open(&args.model)?;
    let name = model.info().name.clone();
    let report = match model {
        ref other if other.info().input != Input::LogMel => {
            return refuse(format!(
                "model '{name}' is a published one, and eval measures the small models of hark: 'hark classify --json' gives its scores"
            ));
        }
        Model::Spotter(_) if args.fold.is_some() || args.equal_loudness => {
            return refuse(format!(
                "model '{name}' answers words: --fold and --equal-loudness are for event models"
            ));
        }
        Model::Classifier(_) if args.stream => {
            return refuse(format!(
                "model '{name}' answers sounds: --stream is for keyword models"
            ));
        }
        Model::Spotter(model) if args.stream => {
            let library = open(&args, stream::wants)?;
            let info = model.info().clone();
            let figures = stream::measure(
                maker(&args.model),
                &info,
                &library,
                args.split,
                args.threshold,
            )?;
            if !figures.has_words() {
                return Err(nothing(&args.data, "no word that the model knows"));
            }
            Report::Stream(figures)
        }
        Model::Spotter(mut model) => {
            let library = open(&args, |clip| args.split.takes(clip))?;
            Report::Clips(Box::new(keyword::measure(
                &mut *model,
                &library,
                &args.data,
            )?))
        }
        Model::Classifier(mut model) => {
            let library = open(&args, |clip| args.split.takes(clip))?;
            let how = event::How {
                fold: args.fold,
                equal_loudness: args.equal_loudness,
            };
            Report::Clips(Box::new(event::measure(
                &mut *model,
                &library,
                &args.data,
                how,
            )?))
        }
        Model::Embedder(_) => return refuse(format!("model '{name}' gives no scores to measure")),
    };
    finish(&args, &name, &report)
}

/// Writes the report where that was asked for, and shows it.
fn finish(args: &Args, name: &str, report: &Report) -> anyhow::Result<()> {
    let record = report.record(name, args.split.as_str());
    if let Some(dir) = &args.report {
        figures::write(&record, report, dir)
            .with_context(|| format!("cannot write the report into {}", dir.display()))?;
    }
    show(&record, report, args.json)
}

/// Makes the keyword model `name` whenever a stream begins.
fn maker(name: &str) -> Factory<dyn Spotter> {
    let name = name.to_owned();
    Arc::new(move || match registry::open(&name)? {
        Model::Spotter(model) => Ok(model),
        _ => Err(ModelError::Unknown(format!(
            "model '{name}' answers sounds: name a keyword model"
        ))),
    })
}

fn open(args: &Args, keep: impl Fn(&Clip) -> bool) -> anyhow::Result<Library> {
    let library = Library::open(&args.data, keep)?;
    if library.sounds.is_empty() {
        return Err(nothing(&args.data, args.split.as_str()));
    }
    Ok(library)
}

fn nothing(data: &Path, what: &str) -> anyhow::Error {
    DataError::Empty {
        path: data.to_owned(),
        reason: format!("no clip to measure on ({what}): see 'hark data check'"),
    }
    .into()
}

/// The bar of long work: on a terminal alone.
fn bar(length: usize) -> indicatif::ProgressBar {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        indicatif::ProgressBar::new(length as u64)
    } else {
        indicatif::ProgressBar::hidden()
    }
}

/// Where a label stands in a model; a data set may write `baby_cry` for `Baby cry`.
fn find_label(labels: &[Arc<str>], name: &str) -> Option<usize> {
    let plain = |text: &str| text.to_lowercase().replace('_', " ");
    labels
        .iter()
        .position(|label| **label == *name)
        .or_else(|| labels.iter().position(|label| plain(label) == plain(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_as_a_folder_may_write_them() {
        let labels: Vec<Arc<str>> = ["Dog", "Alarm clock", "_unknown_"].map(Arc::from).into();
        assert_eq!(find_label(&labels, "dog"), Some(0));
        assert_eq!(find_label(&labels, "alarm_clock"), Some(1));
        assert_eq!(find_label(&labels, "_unknown_"), Some(2));
        assert_eq!(find_label(&labels, "cat"), None);
    }

    #[test]
    fn splits_are_read() {
        assert_eq!(parse_split("all"), Ok(Wanted(None)));
        assert_eq!(parse_split("train"), Ok(Wanted(Some(Split::Train))));
        assert!(parse_split("both").is_err());
    }
}
