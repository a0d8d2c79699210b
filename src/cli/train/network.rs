//! The small networks of `hark train`: words and sounds by their labels.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};

use super::{Args, share};
use crate::cli::{UsageError, out};
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

/// Options of the small networks.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Small networks (--objective labels)")]
pub struct Options {
    /// A program that scores windows as teacher, with its arguments, split at spaces.
    #[arg(long, value_name = "COMMAND")]
    teacher: Option<String>,
    /// Rounds of training; each takes some new examples.
    #[arg(long)]
    rounds: Option<NonZeroUsize>,
    /// Examples made before the first round.
    #[arg(long)]
    first: Option<NonZeroUsize>,
    /// New examples a round.
    #[arg(long)]
    fresh: Option<NonZeroUsize>,
    /// How far the trained weights go back to those of the base in the end, 0 to 1.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    keep_base: Option<f32>,
    /// A fold that is left out of training (ESC-10, ESC-50), whatever the manifest's split says.
    #[arg(long)]
    hold_fold: Option<u8>,
    /// Threads that make examples (default 1).
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

impl Options {
    /// Says which of these options was given though another objective was.
    pub fn refuse(&self) -> Result<(), UsageError> {
        let given = [
            ("--teacher", self.teacher.is_some()),
            ("--rounds", self.rounds.is_some()),
            ("--first", self.first.is_some()),
            ("--fresh", self.fresh.is_some()),
            ("--keep-base", self.keep_base.is_some()),
            ("--hold-fold", self.hold_fold.is_some()),
            ("--threads", self.threads.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(UsageError(format!(
                "{option} is of --objective labels, not of clap"
            ))),
        }
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
pub fn run(args: &Args) -> anyhow::Result<()> {
    let options = &args.network;
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
            let data = EventData::new(library.clone(), options.hold_fold);
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
    recipe.rounds = options.rounds.map_or(recipe.rounds, NonZeroUsize::get);
    recipe.steps = args.steps.map_or(recipe.steps, NonZeroUsize::get);
    recipe.batch = args.batch.map_or(recipe.batch, NonZeroUsize::get);
    recipe.first = options.first.map_or(recipe.first, NonZeroUsize::get);
    recipe.fresh = options.fresh.map_or(recipe.fresh, NonZeroUsize::get);
    recipe.learning_rate = args.learning_rate.unwrap_or(recipe.learning_rate);
    let command: Option<Vec<String>> = options
        .teacher
        .as_ref()
        .map(|text| text.split_whitespace().map(str::to_owned).collect());
    let shape = match &command {
        Some(command) => teacher_shape(command)?,
        None => TeacherShape::default(),
    };
    let dev = DevSet::new(&library, &start.card.task);
    let threads = options.threads.map_or(1, NonZeroUsize::get);
    let mut pool = Pool::start(source, command.as_deref(), threads, args.seed)?;
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
    trained.blend(&start, options.keep_base.unwrap_or(0.0));
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
