//! `hark train`: trains or fine-tunes a model.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};

use super::out;
use crate::features::log_mel;
use crate::models::ModelError;
use crate::nn::spec::NetSpec;
use crate::nn::weights::{Card, Checkpoint, random_checkpoint};
use crate::train::{
    dev_set::DevSet,
    event_data::EventData,
    event_labels,
    keyword_data::{self, KeywordData},
    library::Library,
    pool::{ExampleSource, Pool},
    recipe::{self, Recipe},
    teacher::Teacher,
    trainer::{TeacherShape, TrainError, train},
};

/// Arguments of `hark train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data set: a folder with manifest.csv.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What is trained: hark-keyword or hark-event from scratch, or a weights file to go on from.
    #[arg(long, value_name = "MODEL")]
    base: String,
    /// Where the weights and the card are written.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A program that scores windows as teacher, with its arguments, split at spaces.
    #[arg(long, value_name = "COMMAND")]
    teacher: Option<String>,
    /// Rounds of training; each takes some new examples.
    #[arg(long)]
    rounds: Option<NonZeroUsize>,
    /// Steps a round.
    #[arg(long)]
    steps: Option<NonZeroUsize>,
    /// Examples a step.
    #[arg(long)]
    batch: Option<NonZeroUsize>,
    /// Examples made before the first round.
    #[arg(long)]
    first: Option<NonZeroUsize>,
    /// New examples a round.
    #[arg(long)]
    fresh: Option<NonZeroUsize>,
    /// Highest learning rate of the one-cycle schedule.
    #[arg(long, value_parser = rate)]
    learning_rate: Option<f64>,
    /// How far the trained weights go back to those of the base in the end, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    keep_base: f32,
    /// A fold that is left out of training (ESC-10, ESC-50), whatever the manifest's split says.
    #[arg(long)]
    hold_fold: Option<u8>,
    /// Threads that make examples.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Where the random numbers start.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("expected a number from 0 to 1, got '{text}'")),
    }
}

/// A number over 0.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate < 1.0 => Ok(rate),
        _ => Err(format!("expected a number between 0 and 1, got '{text}'")),
    }
}

/// Bases that are trained from scratch.
const KEYWORD: &str = "hark-keyword";
const EVENT: &str = "hark-event";

/// Utterances of espeak-ng among the negatives of the keyword model.
const SPOKEN: usize = 300;

/// Runs the verb.
///
/// # Errors
/// When the data, the teacher or the disk fails.
pub fn run(args: Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let began = Instant::now();
    let library = Arc::new(Library::open(&args.data, |_| true)?);
    out::note(format_args!(
        "{} clips in {:.1} s",
        library.sounds.len(),
        began.elapsed().as_secs_f32()
    ));
    let start = start(&args.base, args.seed)?;
    let (mut recipe, source): (Recipe, Arc<dyn ExampleSource>) = match start.card.task.as_str() {
        "keyword" => {
            let mut data = KeywordData::new(library.clone());
            data.validate()
                .map_err(|what| ModelError::Shape(format!("{}: {what}", args.data.display())))?;
            if let Err(error) = data.speak(SPOKEN, args.seed) {
                out::note(format_args!("without made speech: {error}"));
            }
            if args.base != KEYWORD {
                let mistakes = data.mine(&start);
                out::note(format_args!(
                    "{mistakes} mistakes of {} among the negatives",
                    args.base
                ));
            }
            (recipe::keyword(), Arc::new(data))
        }
        "event" => {
            let data = EventData::new(library.clone(), args.hold_fold);
            for name in data.without_data() {
                out::note(format_args!("no clip of '{name}': left to the teacher"));
            }
            (recipe::event(), Arc::new(data))
        }
        other => bail!(ModelError::Unknown(format!(
            "{}: cannot train a model for '{other}'",
            args.base
        ))),
    };
    recipe.rounds = args.rounds.map_or(recipe.rounds, NonZeroUsize::get);
    recipe.steps = args.steps.map_or(recipe.steps, NonZeroUsize::get);
    recipe.batch = args.batch.map_or(recipe.batch, NonZeroUsize::get);
    recipe.first = args.first.map_or(recipe.first, NonZeroUsize::get);
    recipe.fresh = args.fresh.map_or(recipe.fresh, NonZeroUsize::get);
    recipe.learning_rate = args.learning_rate.unwrap_or(recipe.learning_rate);
    let command: Option<Vec<String>> = args
        .teacher
        .as_ref()
        .map(|text| text.split_whitespace().map(str::to_owned).collect());
    let shape = match &command {
        Some(command) => teacher_shape(command)?,
        None => TeacherShape::default(),
    };
    let dev = DevSet::new(&library, &start.card.task);
    let mut pool = Pool::start(source, command.as_deref(), args.threads, args.seed)?;
    let path = args.out.join("model.safetensors");
    let rounds = recipe.rounds;
    let mut trained = train::<anyhow::Error>(
        &start,
        &recipe,
        shape,
        &mut pool,
        args.seed,
        |round, checkpoint| {
            let last = round.round == rounds;
            let measured = if round.round % 4 == 0 || last {
                dev.measure(checkpoint)
            } else {
                String::new()
            };
            out::note(format_args!(
                "round {}/{rounds}, {:.0} s: loss {:.4} {measured}",
                round.round,
                began.elapsed().as_secs_f32(),
                round.loss
            ));
            if round.round % 4 == 0 {
                checkpoint.write(&path)?;
            }
            Ok(())
        },
    )?;
    trained.blend(&start, args.keep_base);
    trained.write(&path)?;
    out::line(format_args!("{}", path.display()))?;
    Ok(())
}

/// The checkpoint that training starts from.
fn start(base: &str, seed: u64) -> anyhow::Result<Checkpoint> {
    let fresh = |task: &str, labels: &[&str], net: fn(usize) -> NetSpec| {
        let mut checkpoint = random_checkpoint(net(labels.len()), seed);
        checkpoint.card = Card {
            name: base.to_owned(),
            task: task.to_owned(),
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            front_end: log_mel::SPEC.to_owned(),
            licence: "Apache-2.0".to_owned(),
            ..checkpoint.card
        };
        checkpoint
    };
    match base {
        KEYWORD => Ok(fresh("keyword", &keyword_data::LABELS, recipe::keyword_net)),
        EVENT => {
            let labels = event_labels::LABELS.map(|label| label.name);
            Ok(fresh("event", &labels, recipe::event_net))
        }
        path if Path::new(path).is_file() => Ok(Checkpoint::read(path.as_ref())?),
        other => Err(ModelError::Unknown(format!(
            "--base: expected {KEYWORD}, {EVENT} or a weights file of theirs, got '{other}'; published checkpoints cannot be trained in this version"
        ))
        .into()),
    }
}

fn teacher_shape(command: &[String]) -> Result<TeacherShape, TrainError> {
    let teacher = Teacher::start(command)?;
    let dim = |name: &str| {
        teacher
            .header()
            .outputs
            .iter()
            .find(|output| output.name == name)
            .map_or(0, |o| o.dim)
    };
    Ok(TeacherShape {
        scores: dim("scores"),
        embedding: dim("embedding"),
    })
}
