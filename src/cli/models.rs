//! `hark models`: lists, pulls, shows, verifies and removes models.

mod bar;
mod pull;
mod suggest;

use serde::Serialize;

use super::out;
use super::speeds::Speeds;
use crate::hub::human;
use crate::models::registry::{self, Origin, ROWS};
use crate::models::{ModelInfo, verify};

/// Arguments of `hark models`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists the known models: task, labels, size, licence, speed here, and whether they are installed.
    List {
        /// One JSON object for each model.
        #[arg(long)]
        json: bool,
    },
    /// Downloads a model: from a Hugging Face hub into the cache that Python shares, or a release file.
    #[command(after_help = PULL_HELP)]
    Pull(pull::PullArgs),
    /// Shows what a model is: task, labels, licence, where its weights come from.
    Show {
        /// A name that 'hark models list' shows, or a directory that holds model.safetensors.
        #[arg(value_name = "M")]
        model: String,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Says which model knows a label, or which way leads to it.
    Suggest(suggest::SuggestArgs),
    /// Reads all weights of a model and checks them against their checksums.
    Verify {
        /// A name that 'hark models list' shows, or a directory or file of weights.
        #[arg(value_name = "M")]
        model: String,
    },
    /// Removes what 'hark models pull' has downloaded.
    Remove(pull::RemoveArgs),
}

const PULL_HELP: &str = "\
Environment, as Python's huggingface_hub has it:
  HF_HUB_CACHE      the cache; otherwise hub/ in HF_HOME, which is ~/.cache/huggingface
  HF_TOKEN          for what is not public; otherwise the file HF_TOKEN_PATH or token in HF_HOME
  HF_ENDPOINT       another hub than https://huggingface.co
  HF_HUB_OFFLINE=1  no connection; what is in the cache must do
  HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE

Examples:
  hark models pull MIT/ast-finetuned-audioset-10-10-0.4593
  hark models pull superb/wav2vec2-base-superb-ks --revision main --json";

/// What `list` and `show` say of a model.
#[derive(Debug, Serialize)]
struct ModelRecord<'a> {
    name: &'a str,
    task: &'static str,
    about: &'a str,
    from: &'a str,
    licence: &'a str,
    parameters: usize,
    window_s: f64,
    sha256: &'a str,
    labels: Vec<&'a str>,
}

impl<'a> ModelRecord<'a> {
    fn new(model: &'a str, info: &'a ModelInfo) -> Self {
        let row = registry::find(model);
        ModelRecord {
            name: &info.name,
            task: info.task.as_str(),
            about: row.map_or("", |row| row.about),
            from: row.map_or(model, |row| row.origin.describe()),
            licence: &info.licence,
            parameters: info.parameters,
            window_s: info.window_frames as f64 / 100.0,
            sha256: &info.sha256,
            labels: info.labels.iter().map(|label| &**label).collect(),
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// When a model is not known, cannot be read or does not match its checksum.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::List { json } => list(json),
        Action::Show { model, json } => show(&model, json),
        Action::Suggest(args) => suggest::run(&args),
        Action::Verify { model } => {
            for file in verify::verify(&model)? {
                out::line(format_args!("ok  {}  {}", file.sha256, file.name))?;
            }
            Ok(())
        }
        Action::Pull(args) => pull::pull(args),
        Action::Remove(args) => pull::remove(args),
    }
}

/// A line of `list`.
#[derive(Debug, Serialize)]
struct RowRecord<'a> {
    name: &'a str,
    task: &'static str,
    labels: usize,
    bytes: u64,
    licence: &'a str,
    installed: bool,
    /// Seconds that its native window takes on this machine, where `hark bench --model` has said it.
    window_takes_s: Option<f64>,
    from: &'a str,
    about: &'a str,
}

fn list(json: bool) -> anyhow::Result<()> {
    if !json {
        out::line(format_args!(
            "{:<18} {:<8} {:>6} {:>8}  {:<13} {:>10}  {:<9} ABOUT",
            "NAME", "TASK", "LABELS", "SIZE", "LICENCE", "A WINDOW", "STATE"
        ))?;
    }
    let speeds = Speeds::read();
    for row in ROWS {
        let record = RowRecord {
            name: row.name,
            task: row.task.as_str(),
            labels: row.labels,
            bytes: row.bytes,
            licence: row.licence,
            installed: registry::is_installed(row),
            window_takes_s: speeds.of(row.name),
            from: row.origin.describe(),
            about: row.about,
        };
        if json {
            out::line(serde_json::to_string(&record)?)?;
            continue;
        }
        let size = match record.bytes {
            0 => "-".to_owned(),
            bytes => human(bytes),
        };
        let speed = record
            .window_takes_s
            .map_or_else(|| "-".to_owned(), |s| format!("{:.1} ms", s * 1e3));
        let state = match (row.origin, record.installed) {
            (Origin::Embedded, _) => "built in",
            (_, true) => "installed",
            (_, false) => "-",
        };
        out::line(format_args!(
            "{:<18} {:<8} {:>6} {size:>8}  {:<13} {speed:>10}  {state:<9} {}",
            record.name, record.task, record.labels, record.licence, record.about
        ))?;
    }
    Ok(())
}

fn show(name: &str, json: bool) -> anyhow::Result<()> {
    let model = registry::open(name)?;
    let record = ModelRecord::new(name, model.info());
    if json {
        out::line(serde_json::to_string(&record)?)?;
        return Ok(());
    }
    out::text(format_args!(
        "{name}: {about}\n\
         task        {task}\n\
         from        {from}\n\
         licence     {licence}\n\
         parameters  {parameters}\n\
         window      {window_s} s\n\
         sha256      {sha256}\n\
         labels      {labels}\n",
        name = record.name,
        about = record.about,
        task = record.task,
        from = record.from,
        licence = record.licence,
        parameters = record.parameters,
        window_s = record.window_s,
        sha256 = record.sha256,
        labels = record.labels.join(", "),
    ))?;
    Ok(())
}
