//! `hark classify`: says what is in sound files; no daemon needed.
//!
//! Files are streamed, so their length does not matter; a file that cannot be read is told on
//! standard error and the others go on.

mod against;
mod frames;
mod samples;
mod score;
pub(super) mod show;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::UsageError;
use crate::audio::AudioError;
use crate::audio::file::FileReader;
use crate::config::{self, Flags, Seconds};
use crate::models::registry::{self, Model};
use crate::models::{Input, ModelError, Task};

use score::Scorer;
use show::{Progress, Show};

/// Arguments of `hark classify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sound files: wav, flac, ogg, mp3, m4a, of any rate and number of channels.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The model: a name that 'hark models list' shows, or a directory.
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// What to ask; left out, what the model answers, or sound events.
    #[arg(long, value_enum, value_name = "T")]
    task: Option<AskedTask>,
    /// With a model of voices: says how near each file is to this one, from -1 to 1.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["window", "hop", "top_k"])]
    against: Option<PathBuf>,
    /// How many labels to show for each window, 0 for all.
    #[arg(long, value_name = "N", default_value_t = 5)]
    top_k: usize,
    /// Length of a window, in seconds; left out, the model's own.
    #[arg(long, value_name = "S")]
    window: Option<Seconds>,
    /// Distance between windows, in seconds; left out, half a window.
    #[arg(long, value_name = "S")]
    hop: Option<Seconds>,
    /// One JSON object for each window.
    #[arg(long)]
    json: bool,
}

/// What can be asked for on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AskedTask {
    /// Sound events.
    Event,
    /// Speech, music, environment or silence.
    Content,
    /// Spoken words.
    Keyword,
    /// What someone wants.
    Intent,
    /// The language that is spoken.
    Language,
    /// A voice, as an embedding.
    Speaker,
    /// The genre of music.
    Genre,
}

impl AskedTask {
    /// The sort of model that answers it.
    fn answered_by(self) -> Task {
        match self {
            AskedTask::Event | AskedTask::Content => Task::Event,
            AskedTask::Keyword => Task::Keyword,
            AskedTask::Intent => Task::Intent,
            AskedTask::Language => Task::Language,
            AskedTask::Speaker => Task::Speaker,
            AskedTask::Genre => Task::Genre,
        }
    }

    /// The name on every wire.
    fn as_str(self) -> &'static str {
        match self {
            AskedTask::Content => "content",
            other => other.answered_by().as_str(),
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// When an argument makes no sense or the model cannot be loaded; otherwise with the kind of the
/// first file that failed, after all files were tried.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.files.iter().any(|file| file.as_os_str() == "-") {
        return Err(UsageError(
            "classify reads files, not standard input: for a stream use 'hark run --source raw:16000:1'"
                .into(),
        )
        .into());
    }
    let (task, model) = choose(args.model.as_deref(), args.task)?;
    if let Some(reference) = &args.against {
        return against::run(model, reference, &args.files, args.json);
    }
    let content = args.task == Some(AskedTask::Content);
    if content && model.info().input != Input::LogMel {
        return Err(UsageError(
            "content is made of the scores of the small event models: leave out --model".into(),
        )
        .into());
    }
    let is_embedding = task.is_embedding();
    let (window_s, hop_s) = windows(&args, &model)?;
    let name = args.task.map_or(task.as_str(), AskedTask::as_str);
    let mut scorer = Scorer::new(model, content, window_s, hop_s);
    let mut show = Show::new(args.json, args.top_k, name, is_embedding);
    Progress::new(args.files.len()).over(&args.files, |file, progress| {
        one(file, &mut scorer, &mut show, progress)
    })
}

fn one(
    file: &Path,
    scorer: &mut Scorer,
    show: &mut Show,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let rate_hz = scorer.info().input.rate_hz();
    let mut reader = FileReader::open_at(file, rate_hz)?;
    progress.begin(file, reader.declared_s(), rate_hz);
    scorer.begin();
    show.begin(file);
    while let Some(block) = reader.next_block()? {
        progress.advance(block.len());
        scorer.push(block, &mut |window| progress.aside(|| show.window(window)))?;
    }
    scorer.finish(&mut |window| progress.aside(|| show.window(window)))?;
    match reader.damage() {
        None => Ok(()),
        Some(damage) => Err(AudioError::Decode(format!(
            "{}: {damage}; what could be read was classified",
            file.display()
        ))
        .into()),
    }
}

/// The task and the model for it, from what was given of the two. A model without a row answers the
/// task that is asked, for nobody else knows better.
fn choose(model: Option<&str>, asked: Option<AskedTask>) -> anyhow::Result<(Task, Model)> {
    let wanted = asked.map(AskedTask::answered_by);
    let model = match model {
        Some(name) => registry::open(name)?,
        None => default_model(asked)?,
    };
    let info = model.info();
    let Some(wanted) = wanted else {
        return Ok((info.task, model));
    };
    let by_row = registry::find(&info.name).is_some();
    let fits = match (by_row, wanted.is_embedding()) {
        (true, _) => wanted == info.task,
        (false, is_embedding) => is_embedding == info.task.is_embedding(),
    };
    if !fits {
        return Err(UsageError(format!(
            "model '{}' answers task {}, not {}: leave out --task or name another model",
            info.name,
            info.task.as_str(),
            asked.map_or("", AskedTask::as_str)
        ))
        .into());
    }
    Ok((wanted, model))
}

/// The model for a task where none is named: the one that the configuration names, else the best that
/// is installed. Content is the affair of the small model inside the program.
fn default_model(asked: Option<AskedTask>) -> anyhow::Result<Model> {
    let task = asked.map_or(Task::Event, AskedTask::answered_by);
    let config = config::load(&Flags::default())?.config;
    let configured = match task {
        Task::Keyword => config.keyword.model,
        Task::Event if asked != Some(AskedTask::Content) => config.event.model,
        _ => String::new(),
    };
    if !configured.is_empty() {
        return Ok(registry::open(&configured)?);
    }
    let row = match asked {
        Some(AskedTask::Content) => registry::embedded_for(task),
        _ => registry::best_for(task),
    };
    let row = row.ok_or_else(|| {
        ModelError::Unknown(format!(
            "no known model answers task '{}': name a fine-tuned one with --model DIR",
            task.as_str()
        ))
    })?;
    Ok(registry::load(row)?)
}

/// Length of and distance between windows, in seconds.
fn windows(args: &Args, model: &Model) -> anyhow::Result<(f64, f64)> {
    let given = |name: &str, seconds: Option<Seconds>| match seconds.map(Seconds::as_secs_f64) {
        Some(seconds) if seconds < 0.01 => Err(UsageError(format!(
            "--{name} {seconds} is too short: give at least 0.01 s, one frame"
        ))),
        seconds => Ok(seconds),
    };
    let native = model.info().window_frames as f64 / 100.0;
    let window = given("window", args.window)?.unwrap_or(native);
    // Windows of our own small models cost nothing and overlap; the published ones follow each other.
    let step = match model.info().input {
        Input::LogMel => window / 2.0,
        Input::Samples { .. } => window,
    };
    Ok((window, given("hop", args.hop)?.unwrap_or(step.max(0.01))))
}
