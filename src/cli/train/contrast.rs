//! CLAP in `hark train`: from pairs of sounds and texts to a directory that everything else loads.

use std::io::{IsTerminal, stderr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::measured::measure;
use super::{Args, rate};
use crate::audio::AudioError;
use crate::audio::file::decode_mono;
use crate::audio::synth;
use crate::cli::{UsageError, out};
use crate::models::audioset::audioset_labels;
use crate::models::layout::Layout;
use crate::models::verify::hex_sha256;
use crate::models::{ModelError, registry};
use crate::train::contrastive::directory::{Card, WEIGHTS, copy_base};
use crate::train::contrastive::loss::Form;
use crate::train::contrastive::ontology::Ontology;
use crate::train::contrastive::pairs::{Pairs, is_held_out};
use crate::train::contrastive::texts::TextPairs;
use crate::train::contrastive::towers::{Freeze, Towers};
use crate::train::contrastive::trainer::{ContrastError, Recipe, Step, Trainer};
use crate::train::contrastive::{small, state};
use crate::train::{Clip, DataError, Manifest, Split};

/// Options of CLAP.
#[derive(Debug, clap::Args)]
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
    sets: Vec<String>,
    /// Labels whose clips are never heard in training; measured in the end, as what was never heard.
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    hold_out: Vec<String>,
    /// So many made sounds of each kind that the synthesiser knows are heard too.
    #[arg(long, value_name = "N")]
    made: Option<usize>,
    /// AudioSet's ontology.json: labels get its descriptions and what they are kinds of, and the text tower
    /// learns which of its names and descriptions belong together.
    #[arg(long, value_name = "FILE")]
    ontology: Option<PathBuf>,
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
/// Length of a made sound, in seconds.
const MADE_S: f32 = 5.0;
/// Clips that the statistics of the mel bands are taken over.
const STATISTICS_OF: usize = 400;
/// Lines that a run without a bar writes.
const LINES: usize = 20;

/// The sounds and texts of a run.
pub(super) struct Data {
    pub(super) manifest: Manifest,
    /// The clips that are heard, before the made ones.
    clips: Vec<Clip>,
    pairs: Pairs,
    texts: Option<TextPairs>,
    /// Samples by the number of the item, as 16 bits.
    sounds: Vec<Vec<i16>>,
}

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
        Some(base) => crate::models::clap::ClapAudio::load(base, &base.params()?)?
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
    data.drop_long_texts(&towers)?;
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
    let sounds = |item: usize| -> Vec<f32> {
        let sound = &data.sounds[item];
        sound.iter().map(|x| f32::from(*x) / 32_768.0).collect()
    };
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
    let run = format!("{recipe:?}; base {}; data {}", args.base, data.fingerprint());
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
    let failed = |error: std::io::Error| {
        ModelError::Read(format!("--out {}: {error}", args.out.display()))
    };
    std::fs::create_dir_all(&args.out).map_err(failed)?;
    let run = state::path(&args.out);
    if args.contrast.restart {
        match std::fs::remove_file(&run) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error).into()),
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
            ContrastError::Diverged { .. } if saved > 0 => anyhow::Error::from(error).context(format!(
                "stopped; {} holds the checkpoint of step {saved}",
                args.out.display()
            )),
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
            let figures = measure(&args.out, &data.manifest, &args.contrast.sets, &args.contrast.hold_out)?;
            let figures: Vec<String> = figures
                .iter()
                .take(1)
                .map(|(what, value)| format!("{what}: {value}"))
                .collect();
            if bar.is_hidden() {
                out::note(format_args!("step {}: {}", step.done, figures.join("; ")));
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

impl Data {
    fn open(args: &Args, rate_hz: u32) -> anyhow::Result<Self> {
        let options = &args.contrast;
        let manifest = Manifest::open(&args.data)?;
        let ontology = options.ontology.as_deref().map(Ontology::read).transpose()?;
        let clips: Vec<Clip> = manifest
            .clips
            .iter()
            .filter(|clip| clip.split == Split::Train)
            .filter(|clip| options.sets.is_empty() || options.sets.contains(&clip.set))
            .filter(|clip| !is_held_out(&names_of(clip), &options.hold_out))
            .cloned()
            .collect();
        for held in &options.hold_out {
            let known = |clip: &Clip| is_held_out(&names_of(clip), std::slice::from_ref(held));
            if !manifest.clips.iter().any(known) {
                return Err(UsageError(format!(
                    "--hold-out {held}: no clip of the data set has this label"
                ))
                .into());
            }
        }
        let mut pairs = Pairs::default();
        for clip in &clips {
            pairs.add(clip, ontology.as_ref());
        }
        let mut sounds: Vec<Vec<i16>> = clips
            .par_iter()
            .map(|clip| Ok(to_16_bits(&decode_mono(&clip.path, rate_hz)?)))
            .collect::<Result<_, AudioError>>()?;
        if let Some(made) = options.made.filter(|made| *made > 0) {
            if rate_hz != crate::clock::PIPELINE_RATE_HZ {
                return Err(UsageError(format!(
                    "--made: the synthesiser makes sounds of {} Hz, and this model hears {rate_hz} Hz",
                    crate::clock::PIPELINE_RATE_HZ
                ))
                .into());
            }
            let mut rng = fastrand::Rng::with_seed(args.seed);
            for sound in synth::Sound::ALL {
                let names = synth::labels(sound);
                let [first, more @ ..] = names else { continue };
                if is_held_out(names, &options.hold_out) {
                    continue;
                }
                for _ in 0..made {
                    pairs.add_labels(first, more, ontology.as_ref());
                    sounds.push(to_16_bits(&synth::render(sound, &mut rng, MADE_S)));
                }
            }
        }
        Ok(Data {
            manifest,
            clips,
            pairs,
            texts: ontology.as_ref().map(TextPairs::of),
            sounds,
        })
    }

    /// Writes the small CLAP with random weights, for these texts and sounds.
    fn write_small(&self, args: &Args) -> Result<(), ModelError> {
        let names = audioset_labels().iter().map(|label| label.name);
        let mut texts: Vec<String> = names
            .flat_map(crate::models::prompt::sentence::sentences)
            .collect();
        for name in self.pairs.names.all() {
            texts.extend(name.texts.iter().cloned());
        }
        if let Some(pairs) = &self.texts {
            texts.extend(pairs.all().map(str::to_owned));
        }
        let every = (self.sounds.len() / STATISTICS_OF).max(1);
        let clips: Vec<Vec<f32>> = self
            .sounds
            .iter()
            .step_by(every)
            .map(|sound| sound.iter().map(|x| f32::from(*x) / 32_768.0).collect())
            .collect();
        let statistics = small::statistics(clips.iter().map(Vec::as_slice));
        small::write(&args.out, &texts, &statistics, args.seed)
    }

    /// Leaves out the texts that have more tokens than the model takes, and says so.
    fn drop_long_texts(&mut self, towers: &Towers) -> anyhow::Result<()> {
        let fits = |text: &str| towers.tokens(text).is_ok();
        let (gone, kept) = self.pairs.retain_texts(fits);
        if gone > 0 {
            out::note(format_args!(
                "{gone} texts are too long for the model and are left out, and {} clips with them",
                self.sounds.len() - kept.len()
            ));
        }
        if kept.len() < self.sounds.len() {
            self.sounds = kept
                .into_iter()
                .map(|at| std::mem::take(&mut self.sounds[at]))
                .collect();
        }
        if let Some(texts) = &mut self.texts {
            texts.retain_texts(fits);
        }
        Ok(())
    }

    /// What tells one set of pairs from another.
    fn fingerprint(&self) -> String {
        let mut all = String::new();
        for clip in &self.clips {
            all.push_str(&format!("{}\t{}\t{:?}\n", clip.name, clip.label, clip.captions));
        }
        all.push_str(&format!("{:?}\n", self.pairs.counts()));
        for text in self.texts.iter().flat_map(TextPairs::all) {
            all.push_str(text);
        }
        hex_sha256(all.as_bytes())
    }
}

/// All names of a clip.
pub(super) fn names_of(clip: &Clip) -> Vec<&str> {
    let more = clip.audioset_labels.iter().chain(&clip.captions);
    std::iter::once(&clip.label)
        .chain(more)
        .map(String::as_str)
        .collect()
}

fn to_16_bits(pcm: &[f32]) -> Vec<i16> {
    pcm.iter()
        .map(|x| (x * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16)
        .collect()
}

fn card(args: &Args, recipe: &Recipe, data: &Data, last: Option<Step>) -> Card {
    let options = &args.contrast;
    let mut licences: Vec<(String, usize)> = Vec::new();
    for clip in &data.clips {
        match licences.iter_mut().find(|(known, _)| *known == clip.licence) {
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
