//! `hark score`: how well phrases in plain words describe what is in sound files, by CLAP; no daemon
//! needed.
//!
//! Scores are a softmax over the phrases, as the zero-shot-audio-classification pipeline of
//! transformers gives them: they say which phrase fits best, the similarity says how well. Files are
//! streamed; one that cannot be read is told on standard error and the others go on.

mod phrases;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::classify::show::Progress;
use super::windows::{self, SLACK_S, Windows};
use super::{UsageError, out};
use crate::config::Seconds;
use crate::models::clap::{Clap, ClapAudio, LogitScale, similarity};
use crate::models::layout::Layout;
use crate::models::network::Network;
use crate::models::{ModelError, Task, registry};

use phrases::{Forms, Phrases};

/// A file of up to this length is heard whole where nothing else is asked for, in seconds.
const WHOLE_S: f64 = 60.0;
/// How many phrases a line shows where a person reads it.
const SHOWN: usize = 10;

/// Arguments of `hark score`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sound files: wav, flac, ogg, mp3, m4a, of any rate and number of channels.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What may be heard, in plain words; several compete with each other.
    #[arg(long = "prompt", value_name = "P")]
    prompts: Vec<String>,
    /// A file with prompts, one a line; empty lines and lines that begin with # are left out.
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// The model: a name that 'hark models list' shows, or a directory; left out, the first CLAP that
    /// is installed.
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// The sentence that a prompt is put into, at {}; several are averaged. Left out: "This is a sound
    /// of {}.".
    #[arg(long = "template", value_name = "T")]
    templates: Vec<String>,
    /// Expands keywords to sentences, as the daemon does with its prompts, and averages them; sentences stay
    /// as they are.
    #[arg(long, conflicts_with = "templates")]
    sentences: bool,
    /// Lets everyday sounds compete too, so that a prompt alone does not always get everything.
    #[arg(long)]
    background: bool,
    /// Length of a window, in seconds; left out, a file of up to a minute is heard whole, a longer one
    /// in windows of the model's own length.
    #[arg(long, value_name = "S")]
    window: Option<Seconds>,
    /// Distance between windows, in seconds; left out, a window.
    #[arg(long, value_name = "S")]
    hop: Option<Seconds>,
    /// One JSON object for each window.
    #[arg(long)]
    json: bool,
}

/// One window, in the order of the documentation.
#[derive(Debug, Serialize)]
struct WindowRecord<'a> {
    file: &'a str,
    start_s: f64,
    end_s: f64,
    model: &'a str,
    task: &'a str,
    scores: Vec<PromptRecord<'a>>,
}

/// What a window has of a prompt.
#[derive(Debug, Serialize)]
struct PromptRecord<'a> {
    label: &'a str,
    /// Its share of all phrases, the background's included.
    score: f32,
    /// The cosine, from -1 to 1.
    similarity: f32,
}

/// Runs the verb.
///
/// # Errors
/// When an argument makes no sense or the model cannot be loaded; otherwise with the kind of the
/// first file that failed, after all files were tried.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.files.iter().any(|file| file.as_os_str() == "-") {
        return Err(UsageError("score reads files, not standard input".into()).into());
    }
    let phrases = Phrases::new(
        &args.prompts,
        args.prompt_file.as_deref(),
        Forms::of(&args.templates, args.sentences),
        args.background,
    )?;
    let window_s = windows::checked("window", args.window)?;
    let hop_s = windows::checked("hop", args.hop)?;
    let (dir, name) = place(args.model.as_deref())?;
    let Clap {
        audio,
        text,
        logit_scale,
    } = Clap::load(&Layout::open(&dir)?)?;
    let embeddings = phrases.embed(&text)?;
    // Its phrases are known; the memory is for the sound.
    drop(text);
    let rate_hz = f64::from(audio.rate_hz());
    let samples = |seconds: f64| (seconds * rate_hz).round() as usize;
    let lengths = Lengths {
        window: window_s.map(samples),
        hop: hop_s.map(samples),
        native: audio.window(),
        whole: samples(WHOLE_S),
        slack: samples(SLACK_S) - 1,
    };
    let scorer = Scorer {
        audio,
        logit_scale,
        embeddings,
        prompts: phrases.prompts(),
        name,
        json: args.json,
        lengths,
    };
    Progress::new(args.files.len()).over(&args.files, |file, progress| scorer.file(file, progress))
}

/// The directory of the model and its name.
fn place(model: Option<&str>) -> anyhow::Result<(PathBuf, String)> {
    let name = match model {
        Some(name) => name,
        None => match registry::best_for(Task::Prompt).filter(|row| registry::is_installed(row)) {
            Some(row) => row.name,
            None => {
                return Err(ModelError::Unknown(
                    "no CLAP is installed: fetch one with 'hark models pull clap-unfused', or name a directory with --model DIR".into(),
                )
                .into());
            }
        },
    };
    if let Some(row) = registry::find(name)
        && row.task != Task::Prompt
    {
        return Err(UsageError(format!(
            "model '{name}' answers task {}, not prompts: name a CLAP, such as clap-unfused",
            row.task.as_str()
        ))
        .into());
    }
    let (dir, row) = registry::locate(name)?;
    let name = row.map_or_else(|| dir.display().to_string(), |row| row.name.to_owned());
    Ok((dir, name))
}

/// Scores and shows one file after the other.
struct Scorer<'a> {
    audio: ClapAudio,
    logit_scale: LogitScale,
    /// Those of the prompts first, then those of the background.
    embeddings: Vec<Vec<f32>>,
    prompts: &'a [String],
    name: String,
    json: bool,
    lengths: Lengths,
}

/// What is known of windows before a file is, in samples.
struct Lengths {
    window: Option<usize>,
    hop: Option<usize>,
    native: usize,
    whole: usize,
    slack: usize,
}

impl Lengths {
    /// The windows of a file of about `declared` samples: as they were asked for, else all of a short
    /// file at once, as the reference has it, and the model's own of a long one.
    fn windows(&self, declared: Option<usize>) -> Windows {
        let is_short = declared.is_some_and(|declared| declared <= self.whole);
        let window = match (self.window, self.hop) {
            (Some(window), _) => window,
            (None, None) if is_short => self.whole,
            _ => self.native,
        };
        Windows::new(window, self.hop.unwrap_or(window), self.slack)
    }
}

impl Scorer<'_> {
    fn file(&self, file: &Path, progress: &mut Progress) -> anyhow::Result<()> {
        let shown = file.display().to_string();
        let cut = |declared| self.lengths.windows(declared);
        let rate_hz = self.audio.rate_hz();
        windows::each_of(file, rate_hz, progress, cut, |span, pcm, progress| {
            let embedding = self.audio.embed(pcm)?;
            progress.aside(|| self.show(&shown, span, &embedding))
        })
    }

    /// Shows the scores of one window of samples `span`.
    fn show(&self, file: &str, span: (u64, u64), embedding: &[f32]) -> anyhow::Result<()> {
        let similarities: Vec<f32> = self
            .embeddings
            .iter()
            .map(|phrase| similarity(embedding, phrase))
            .collect();
        let scores = self.logit_scale.scores(&similarities);
        if let Some(wrong) = scores.iter().find(|score| !score.is_finite()) {
            return Err(ModelError::Format(format!(
                "{}: expected scores from 0 to 1, got {wrong}: its weights are damaged",
                self.name
            ))
            .into());
        }
        let mut records: Vec<PromptRecord> = self
            .prompts
            .iter()
            .zip(scores.iter().zip(&similarities))
            .map(|(label, (&score, &similarity))| PromptRecord {
                label,
                score,
                similarity,
            })
            .collect();
        records.sort_by(|a, b| b.score.total_cmp(&a.score));
        let seconds = |at: u64| at as f64 / f64::from(self.audio.rate_hz());
        let (start_s, end_s) = (seconds(span.0), seconds(span.1));
        if self.json {
            let record = WindowRecord {
                file,
                start_s,
                end_s,
                model: &self.name,
                task: Task::Prompt.as_str(),
                scores: records,
            };
            out::line(serde_json::to_string(&record)?)?;
            return Ok(());
        }
        if span.0 == 0 {
            let task = Task::Prompt.as_str();
            out::line(format_args!("{file}  ({}, {task})", self.name))?;
        }
        let best: Vec<String> = records
            .iter()
            .take(SHOWN)
            .map(|entry| {
                format!(
                    "{} {:.2} (similarity {:.2})",
                    entry.label, entry.score, entry.similarity
                )
            })
            .collect();
        out::line(format_args!(
            "{start_s:9.2} {end_s:9.2}  {}",
            best.join(", ")
        ))?;
        Ok(())
    }
}
