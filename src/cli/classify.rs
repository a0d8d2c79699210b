//! `hark classify`: says what is in sound files; no daemon needed.
//!
//! Files are streamed, so their length does not matter; a file that cannot be read is told on
//! standard error and the others go on.

mod score;
mod show;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{Reported, UsageError, exit_code, out};
use crate::audio::AudioError;
use crate::audio::file::FileReader;
use crate::config::Seconds;
use crate::models::registry::{self, Model};
use crate::models::{ModelError, Task};

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

/// What can be asked for on the command line, now or in a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AskedTask {
    /// Sound events.
    Event,
    /// Speech, music, environment or silence.
    Content,
    /// Spoken words.
    Keyword,
    #[value(hide = true)]
    Intent,
    #[value(hide = true)]
    Language,
    #[value(hide = true)]
    Speaker,
    #[value(hide = true)]
    Genre,
}

impl AskedTask {
    fn as_str(self) -> &'static str {
        match self {
            AskedTask::Event => "event",
            AskedTask::Content => "content",
            AskedTask::Keyword => "keyword",
            AskedTask::Intent => "intent",
            AskedTask::Language => "language",
            AskedTask::Speaker => "speaker",
            AskedTask::Genre => "genre",
        }
    }

    /// The sort of model that answers it; `None` where this version has none.
    fn answered_by(self) -> Option<Task> {
        match self {
            AskedTask::Event | AskedTask::Content => Some(Task::Event),
            AskedTask::Keyword => Some(Task::Keyword),
            _ => None,
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
    let (window, hop) = frames(&args, model.info().window_frames)?;
    let mut scorer = Scorer::new(model, task == AskedTask::Content, window, hop);
    let mut show = Show::new(args.json, args.top_k, task.as_str());
    let mut progress = Progress::new(args.files.len());
    let mut failed = None;
    for file in &args.files {
        if let Err(error) = one(file, &mut scorer, &mut show, &mut progress) {
            if error.is::<out::OutError>() {
                return Err(error);
            }
            progress.aside(|| out::complain(format_args!("{error:#}")));
            failed.get_or_insert(exit_code(&error));
        }
        progress.end();
    }
    match failed {
        None => Ok(()),
        Some(code) => Err(Reported(code).into()),
    }
}

fn one(
    file: &Path,
    scorer: &mut Scorer,
    show: &mut Show,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut reader = FileReader::open(file)?;
    progress.begin(file, reader.declared_s());
    scorer.begin();
    show.begin(file);
    while let Some(block) = reader.next_block()? {
        progress.advance(block.len());
        scorer.push(block, &mut |window| progress.aside(|| show.window(window)))?;
    }
    if scorer.is_empty() {
        return Err(AudioError::Decode(format!(
            "{}: holds no sound; give a file with at least one sample",
            file.display()
        ))
        .into());
    }
    scorer.finish(&mut |window| progress.aside(|| show.window(window)))
}

/// The task and the model for it, from what was given of the two.
fn choose(model: Option<&str>, task: Option<AskedTask>) -> anyhow::Result<(AskedTask, Model)> {
    let wanted = match task {
        None => None,
        Some(task) => Some(task.answered_by().ok_or_else(|| {
            ModelError::Unknown(format!(
                "no model for task '{}' in this version: use event, content or keyword",
                task.as_str()
            ))
        })?),
    };
    let model = match model {
        Some(name) => registry::open(name)?,
        None => registry::load(registry::default_for(wanted.unwrap_or(Task::Event)))?,
    };
    let info = model.info();
    if let Some(wanted) = wanted
        && wanted != info.task
    {
        return Err(UsageError(format!(
            "model '{}' answers task {}, not {}: leave out --task or name another model",
            info.name,
            info.task.as_str(),
            task.map_or("", AskedTask::as_str)
        ))
        .into());
    }
    let task = task.unwrap_or(match info.task {
        Task::Event => AskedTask::Event,
        Task::Keyword => AskedTask::Keyword,
    });
    Ok((task, model))
}

/// Length of and distance between windows, in frames.
fn frames(args: &Args, native: usize) -> anyhow::Result<(usize, usize)> {
    let given = |name: &str, seconds: Option<Seconds>| match seconds {
        None => Ok(None),
        Some(seconds) => match score::to_frames(seconds.as_secs_f64()) {
            0 => Err(UsageError(format!(
                "--{name} {seconds} is too short: give at least 0.01 s, one frame"
            ))),
            frames => Ok(Some(frames)),
        },
    };
    let window = given("window", args.window)?.unwrap_or(native);
    let hop = given("hop", args.hop)?.unwrap_or((window / 2).max(1));
    Ok((window, hop))
}
