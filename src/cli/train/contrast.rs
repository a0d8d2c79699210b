//! CLAP in `hark train`: from pairs of sounds and texts to a directory that everything else loads.

use std::io::{IsTerminal, stderr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::data::Data;
use super::measured::measure;
use super::{Args, rate};
use crate::cli::{UsageError, out};
use crate::models::clap::ClapAudio;
use crate::models::layout::Layout;
use crate::models::{ModelError, registry};
use crate::train::DataError;
use crate::train::contrastive::directory::{Card, WEIGHTS, copy_base};
use crate::train::contrastive::loss::Form;
use crate::train::contrastive::texts::TextPairs;
use crate::train::contrastive::towers::{Freeze, Towers};
use crate::train::contrastive::trainer::{ContrastError, Recipe, Step, Trainer};
use crate::train::contrastive::{small, state};

/// Options of CLAP.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "CLAP (--objective clap)")]
pub struct Options {
    /// What stays as it is: towers (only the projections and scales are trained), audio, text or none. Left
    /// out: towers, for small-clap none.
    #[arg(long, value_name = "PART")]
    freeze: Option<Freeze>,
    /// The scales in the loss: one for both directions as LAION has it, or two as ClapModel's loss in
    /// transformers has it (default one).
    #[arg(long, value_name = "HOW", value_parser = form)]
    scales: Option<Form>,
    /// Only the clips in these folders of the data set, such as events.
    #[arg(long, value_name = "SET", value_delimiter = ',')]
    pub(super) sets: Vec<String>,
    /// Labels whose clips are never heard in training; measured in the end, as what was never heard.
    #[arg(long, value_name = "LABEL", num_args = 1..)]
    pub(super) hold_out: Vec<String>,
    /// So many made sounds of each kind that the synthesiser knows are heard too.
    #[arg(long, value_name = "N")]
    pub(super) made: Option<usize>,
    /// AudioSet's ontology.json: labels get its descriptions and what they are kinds of, and the text tower
    /// learns which of its names and descriptions belong together.
    #[arg(long, value_name = "FILE")]
    pub(super) ontology: Option<PathBuf>,
    /// What the loss between texts counts beside the one between sounds and texts (default 0.5).
    #[arg(long, value_name = "SHARE", value_parser = rate)]
    text_weight: Option<f64>,
    /// Clips are bent (speed, noise, room, level, masks): with a frozen audio tower in so many versions, else
    /// anew each time; 0 leaves them as they are (default 0).
    #[arg(long, value_name = "N")]
    bend: Option<usize>,
    /// Trained towers drop values at random, as many as their config.json says.
    #[arg(long)]
    dropout: bool,
    /// Clips whose graphs are in memory together while the audio tower is trained (default 8).
    #[arg(long, value_name = "N")]
    part: Option<NonZeroUsize>,
    /// Steps on which the learning rate rises (default a tenth of all).
    #[arg(long, value_name = "STEPS")]
    warm_up: Option<usize>,
    /// Weight decay of AdamW (default 0.05).
    #[arg(long, value_name = "SHARE", value_parser = rate)]
    weight_decay: Option<f64>,
    /// Steps from one checkpoint to the next (default a tenth of all).
    #[arg(long, value_name = "STEPS")]
    save_every: Option<NonZeroUsize>,
    /// Begins anew where the directory holds a run or a model already.
    #[arg(long)]
    restart: bool,
}

fn form(text: &str) -> Result<Form, String> {
    match text {
        "one" => Ok(Form::OneScale),
        "two" => Ok(Form::TwoScales),
        _ => Err(format!("expected one or two, got '{text}'")),
    }
}

impl Options {
    /// Says which of these options was given though another objective was.
    pub fn refuse(&self) -> Result<(), UsageError> {
        let given = [
            ("--freeze", self.freeze.is_some()),
            ("--scales", self.scales.is_some()),
            ("--sets", !self.sets.is_empty()),
            ("--hold-out", !self.hold_out.is_empty()),
            ("--made", self.made.is_some()),
            ("--ontology", self.ontology.is_some()),
            ("--text-weight", self.text_weight.is_some()),
            ("--bend", self.bend.is_some()),
            ("--dropout", self.dropout),
            ("--part", self.part.is_some()),
            ("--warm-up", self.warm_up.is_some()),
            ("--weight-decay", self.weight_decay.is_some()),
            ("--save-every", self.save_every.is_some()),
            ("--restart", self.restart),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(UsageError(format!(
                "{option} is of --objective clap, not of labels"
            ))),
        }
    }
}

/// Steps where nothing else is asked for.
const STEPS: usize = 1000;
/// Sounds a step where nothing else is asked for.
const BATCH: usize = 32;
/// Pairs of texts a step.
const TEXT_BATCH: usize = 32;
/// The longest that all gradients together may be.
const LONGEST_GRADIENT: f32 = 1.0;
/// Highest learning rate of random weights, and of a base.
const RATES: (f64, f64) = (1e-3, 1e-4);
/// Lines that a run without a bar writes.
const LINES: usize = 20;

/// Runs the objective.
///
/// # Errors
/// When the data, the model or the disk fails, or the loss diverges.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let began = Instant::now();
    let options = &args.contrast;
    let is_small = args.base == small::NAME;
    let base = match is_small {
        true => None,
        false => Some(open_base(args)?),
    };
    prepare_out(args)?;
    let rate_hz = match &base {
        None => small::RATE_HZ,
        Some(base) => ClapAudio::load(base, &base.params()?)?
            .front_end()
            .rate_hz(),
    };
    let mut data = Data::open(args, rate_hz)?;
    let resumes = state::path(&args.out).is_file();
    let layout = match &base {
        Some(base) => {
            copy_base(base, &args.out)?;
            base.clone()
        }
        None => {
            if !resumes {
                data.write_small(args)?;
            }
            Layout::open(&args.out)?
        }
    };
    let freeze = options.freeze.unwrap_or(match is_small {
        true => Freeze::Nothing,
        false => Freeze::Towers,
    });
    let recipe = recipe(args, freeze, is_small);
    let towers = Towers::open(&layout, freeze)?;
    data.drop_long_texts(&towers);
    let labels = data.pairs.labels();
    if labels < 2 {
        return Err(DataError::Empty {
            path: args.data.clone(),
            reason: format!(
                "expected clips of at least two different labels or captions in train, got {labels}"
            ),
        }
        .into());
    }
    out::note(format_args!(
        "{} clips, {labels} labels or captions, {} pairs of texts in {:.1} s",
        data.pairs.items.len(),
        data.texts.as_ref().map_or(0, TextPairs::len),
        began.elapsed().as_secs_f32()
    ));
    let bar = bar(0, "{pos}/{len} clips heard");
    let sounds = |item: usize| data.pcm(item);
    let mut trainer = Trainer::new(
        towers,
        recipe.clone(),
        &data.pairs,
        data.texts.as_ref(),
        &sounds,
        &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        },
    )?;
    bar.finish_and_clear();
    let run = format!(
        "{recipe:?}; base {}; data {}",
        args.base,
        data.fingerprint()
    );
    if state::resume(
        &args.out,
        &run,
        trainer.towers.vars(),
        &mut trainer.optimiser,
    )? {
        let done = trainer.optimiser.steps;
        out::note(format_args!("goes on behind step {done}"));
    }
    let last = train(args, &recipe, &run, &mut trainer, &data)?;
    drop(trainer);
    let mut card = card(args, &recipe, &data, last);
    card.figures = measure(&args.out, &data.manifest, &options.sets, &options.hold_out)?;
    for (what, value) in &card.figures {
        out::note(format_args!("{what}: {value}"));
    }
    card.write(&args.out)?;
    out::line(format_args!("{}", args.out.display()))?;
    Ok(())
}

fn open_base(args: &Args) -> anyhow::Result<Layout> {
    let (dir, _) = registry::locate(&args.base)?;
    let layout = Layout::open(&dir)?;
    if layout.model_type() != "clap" {
        return Err(ModelError::Unknown(format!(
            "--base {}: expected {}, or a CLAP by its name or directory, got a model of type '{}'",
            args.base,
            small::NAME,
            layout.model_type()
        ))
        .into());
    }
    let real = |path: &std::path::Path| std::fs::canonicalize(path).ok();
    if real(&dir).is_some() && real(&dir) == real(&args.out) {
        return Err(UsageError("--out: expected another directory than --base".to_owned()).into());
    }
    Ok(layout)
}

/// Makes the output directory; refuses one that holds a model which no run here can go on with.
fn prepare_out(args: &Args) -> anyhow::Result<()> {
    let failed =
        |error: std::io::Error| ModelError::Read(format!("--out {}: {error}", args.out.display()));
    std::fs::create_dir_all(&args.out).map_err(failed)?;
    let run = state::path(&args.out);
    if args.contrast.restart {
        match std::fs::remove_file(&run) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error).into());
            }
            _ => return Ok(()),
        }
    }
    if args.out.join(WEIGHTS).exists() && !run.is_file() {
        return Err(UsageError(format!(
            "--out {}: holds a model already; name another directory, or train over it with --restart",
            args.out.display()
        ))
        .into());
    }
    Ok(())
}

fn recipe(args: &Args, freeze: Freeze, is_small: bool) -> Recipe {
    let options = &args.contrast;
    let steps = args.steps.map_or(STEPS, NonZeroUsize::get);
    Recipe {
        freeze,
        form: options.scales.unwrap_or(Form::OneScale),
        steps,
        batch: args.batch.map_or(BATCH, NonZeroUsize::get),
        part: options.part.map_or(8, NonZeroUsize::get),
        learning_rate: args.learning_rate.unwrap_or(match is_small {
            true => RATES.0,
            false => RATES.1,
        }),
        warm_up: options.warm_up.unwrap_or(steps / 10),
        weight_decay: options.weight_decay.unwrap_or(0.05),
        clip: LONGEST_GRADIENT,
        bend: options.bend.unwrap_or(0),
        dropout: options.dropout,
        text_weight: options.text_weight.unwrap_or(0.5),
        text_batch: TEXT_BATCH,
        seed: args.seed,
    }
}

/// The steps, with a checkpoint from time to time; gives the last.
fn train(
    args: &Args,
    recipe: &Recipe,
    run: &str,
    trainer: &mut Trainer<'_>,
    data: &Data,
) -> anyhow::Result<Option<Step>> {
    let save_every = args
        .contrast
        .save_every
        .map_or((recipe.steps / 10).max(1), NonZeroUsize::get);
    let line_every = (recipe.steps / LINES).max(1);
    let began = Instant::now();
    let bar = bar(recipe.steps, "[{wide_bar}] {pos}/{len} {eta} {msg}");
    let mut last = None;
    let mut saved = trainer.optimiser.steps;
    while trainer.optimiser.steps < recipe.steps {
        let step = trainer.step().map_err(|error| match error {
            ContrastError::Diverged { .. } if saved > 0 => {
                anyhow::Error::from(error).context(format!(
                    "stopped; {} holds the checkpoint of step {saved}",
                    args.out.display()
                ))
            }
            error => error.into(),
        })?;
        let scale: f32 = trainer.towers.scales().a.as_tensor().to_scalar()?;
        let what = format!(
            "loss {:.3}, of texts {:.3}, scale {:.1}, gradient {:.2}",
            step.loss,
            step.text_loss,
            scale.exp(),
            step.gradient
        );
        bar.set_position(step.done as u64);
        bar.set_message(what.clone());
        if bar.is_hidden() && step.done.is_multiple_of(line_every) {
            out::note(format_args!(
                "step {}/{}, {:.0} s: {what}",
                step.done,
                recipe.steps,
                began.elapsed().as_secs_f32()
            ));
        }
        last = Some(step);
        if step.done.is_multiple_of(save_every) || step.done == recipe.steps {
            trainer.save(&args.out, run)?;
            saved = step.done;
            let figures = measure(
                &args.out,
                &data.manifest,
                &args.contrast.sets,
                &args.contrast.hold_out,
            )?;
            if let (true, Some((what, value))) = (bar.is_hidden(), figures.first()) {
                out::note(format_args!("step {}: {what}: {value}", step.done));
            }
        }
    }
    if last.is_none() {
        trainer.save(&args.out, run)?;
    }
    bar.finish_and_clear();
    Ok(last)
}

/// A bar where a person looks.
fn bar(length: usize, template: &str) -> ProgressBar {
    match stderr().is_terminal() {
        true => ProgressBar::new(length as u64).with_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        ),
        false => ProgressBar::hidden(),
    }
}

fn card(args: &Args, recipe: &Recipe, data: &Data, last: Option<Step>) -> Card {
    let options = &args.contrast;
    let mut licences: Vec<(String, usize)> = Vec::new();
    for clip in &data.clips {
        match licences
            .iter_mut()
            .find(|(known, _)| *known == clip.licence)
        {
            Some((_, count)) => *count += 1,
            None => licences.push((clip.licence.clone(), 1)),
        }
    }
    licences.sort_by(|a, b| b.1.cmp(&a.1));
    let mut rows = vec![
        ("trained", format!("all but {}", recipe.freeze.as_str())),
        ("steps", recipe.steps.to_string()),
        ("batch", recipe.batch.to_string()),
        ("learning rate", format!("{:e}", recipe.learning_rate)),
        ("warm-up", format!("{} steps", recipe.warm_up)),
        ("weight decay", recipe.weight_decay.to_string()),
        ("bend", recipe.bend.to_string()),
        ("dropout", recipe.dropout.to_string()),
        ("scales", format!("{:?}", recipe.form)),
        ("seed", recipe.seed.to_string()),
    ];
    if let Some(made) = options.made {
        rows.push(("made sounds of a kind", made.to_string()));
    }
    if let Some(texts) = &data.texts {
        let said = format!("{} pairs, weight {}", texts.len(), recipe.text_weight);
        rows.push(("texts of the ontology", said));
    }
    if let Some(last) = last {
        rows.push(("loss of the last step", format!("{:.3}", last.loss)));
    }
    Card {
        base: args.base.clone(),
        data: args.data.display().to_string(),
        amounts: format!(
            "{} sounds of {} labels or captions",
            data.pairs.items.len(),
            data.pairs.labels()
        ),
        held_out: options.hold_out.clone(),
        licences,
        recipe: rows
            .into_iter()
            .map(|(option, value)| (option.to_owned(), value))
            .collect(),
        figures: Vec::new(),
    }
}
