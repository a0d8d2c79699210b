//! `hark prompt test`: how a prompt scores on sound files in each way of saying it, and how much the way
//! of saying it decides what is recognised; no daemon needed.
//!
//! Each phrase is tried as it stands, as the sentences that it is expanded to, and in every template;
//! last comes what the daemon listens with, all of them averaged. All compete with what they compete with
//! in the daemon: the fixed background, the room where it was heard, and here the other prompts too.
//! Windows are those of the daemon. Files are streamed; one that cannot be read is told on standard
//! error and the others go on.

mod figures;
mod phrasings;
mod picture;
#[cfg(test)]
mod sample;
mod show;

use std::fs::File;
use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use indicatif::ProgressBar;

use crate::cli::classify::show::Progress;
use crate::cli::windows::{self, Windows};
use crate::cli::{UsageError, out};
use crate::config::paths::Paths;
use crate::config::prompt_file::PromptFile;
use crate::config::{self, Config, Flags, PromptLabel, Seconds};
use crate::event::Kind;
use crate::models::Classifier;
use crate::models::prompt::{
    Calibrations, InstalledClap, PhraseEmbedder, Prompt, PromptModel, PromptSet, background,
    sentences,
};
use crate::models::room::Room;

use figures::{Figures, Heard};
use phrasings::{Phrasing, phrasings};

/// What a score must reach where nothing says otherwise, as in the built-in rule.
const THRESHOLD: f32 = 0.5;
/// Fewer texts than this are embedded without a bar.
const MANY: usize = 50;

/// Arguments of `hark prompt test`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A prompt of the configuration, or one that was added to the daemon; any name with --phrase
    #[arg(value_name = "NAME")]
    name: String,
    /// Sound files: wav, flac, ogg, mp3, m4a, of any rate and number of channels
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Tries this phrase in place of those of the prompt; may be given several times
    #[arg(long = "phrase", value_name = "P")]
    phrases: Vec<String>,
    /// Tries each phrase in this sentence too, at {}; may be given several times
    #[arg(long = "template", value_name = "T")]
    templates: Vec<String>,
    /// The model: a name that 'hark models list' shows, or a directory [default: that of [prompt], or the
    /// first CLAP that is installed]
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// Length of a window, in seconds [default: that of [prompt]]
    #[arg(long, value_name = "S")]
    window: Option<Seconds>,
    /// Distance between windows, in seconds [default: that of [prompt], or the window if that is given]
    #[arg(long, value_name = "S")]
    hop: Option<Seconds>,
    /// Writes a picture of it to this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// One JSON object with every number
    #[arg(long)]
    json: bool,
    /// Reads this configuration in place of the usual ones
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no such prompt, an argument makes no sense, or the model cannot be loaded; otherwise
/// with the kind of the first file that failed, after all files were tried and what could be read was
/// shown.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    if args.files.iter().any(|file| file.as_os_str() == "-") {
        return Err(UsageError("prompt test reads files, not standard input".into()).into());
    }
    let window_s = windows::checked("window", args.window)?;
    let hop_s = windows::checked("hop", args.hop)?;
    phrasings::check_templates(&args.templates).map_err(UsageError)?;
    let loaded = config::load(&Flags {
        config: args.config,
        ..Flags::default()
    })?;
    let paths = Paths::current();
    let known = known_prompts(&loaded.config, &paths);
    let asked = asked(&args.name, &args.phrases, &known)?;
    let section = &loaded.config.prompt;
    let model = match args.model.as_deref() {
        None if section.model.is_empty() => None,
        given => given.or(Some(&*section.model)),
    };
    let clap = InstalledClap::locate(model)?;
    // Before the work: whoever cannot have the picture need not wait for it.
    let picture = args.svg.map(open_picture).transpose()?;

    let threshold = |label: &PromptLabel| {
        let own = label.threshold.or(section.threshold);
        own.unwrap_or_else(|| threshold_of_rules(&loaded.config))
    };
    let prompt = Prompt {
        name: asked.name.as_str().into(),
        phrases: asked.phrases.clone(),
        threshold: threshold(&asked),
    };
    let phrasings = phrasings(&prompt.phrases, &args.templates);
    let others: Vec<Prompt> = known
        .iter()
        .filter(|other| other.name != asked.name)
        .map(|other| Prompt {
            name: other.name.as_str().into(),
            phrases: other.phrases.clone(),
            threshold: threshold(other),
        })
        .collect();
    let set = set_of(&clap, &paths, &prompt, &phrasings, &others)?;

    let mut model =
        PromptModel::open(&clap, Arc::new(ArcSwap::from_pointee(PromptSet::default())))?;
    let rate_hz = Classifier::info(&model).input.rate_hz();
    let samples = |seconds: f64| (seconds * f64::from(rate_hz)).round() as usize;
    let window = samples(window_s.unwrap_or(section.window_s));
    let hop = hop_s.or(window_s).map_or(samples(section.hop_s), samples);
    let slack = samples(windows::SLACK_S) - 1;
    let mut heard = Heard::new(phrasings.len(), others.len());
    let ended = Progress::new(args.files.len()).over(&args.files, |file, progress| {
        heard.begin(file);
        let windows = |_| Windows::new(window, hop, slack);
        let read = windows::each_of(file, rate_hz, progress, windows, |span, pcm, _| {
            let embedding = model.embedding(pcm)?;
            let start_s = span.0 as f64 / f64::from(rate_hz);
            heard.window(start_s, &set.explain(&embedding));
            Ok(())
        });
        heard.end();
        read
    });
    if let Err(error) = &ended
        && error.is::<out::OutError>()
    {
        return ended;
    }
    if heard.is_empty() {
        // What kept every file from being heard was said already.
        return ended;
    }
    let figures = Figures::new(&prompt, &clap.name, &phrasings, &others, heard);
    if let Some((file, path)) = picture {
        let written = write_picture(file, &figures);
        written.with_context(|| format!("cannot write the picture {}", path.display()))?;
        show::show(&figures, args.json, Some(&path))?;
    } else {
        show::show(&figures, args.json, None)?;
    }
    ended
}

/// The prompts of the configuration, then those that were added to the daemon under another name.
fn known_prompts(config: &Config, paths: &Paths) -> Vec<PromptLabel> {
    let mut known = config.prompt.label.clone();
    match PromptFile::of(paths).load() {
        Ok(added) => {
            for label in added {
                if known.iter().all(|other| other.name != label.name) {
                    known.push(label);
                }
            }
        }
        Err(error) => out::complain(format_args!(
            "{error}; the prompts that were added to the daemon are left out"
        )),
    }
    known
}

/// The prompt that is to be tested.
fn asked(name: &str, phrases: &[String], known: &[PromptLabel]) -> Result<PromptLabel, UsageError> {
    let found = known.iter().find(|label| label.name == name);
    let label = match (found, phrases) {
        (Some(label), []) => return Ok(label.clone()),
        (found, phrases) => PromptLabel {
            name: name.to_owned(),
            phrases: phrases.to_vec(),
            threshold: found.and_then(|label| label.threshold),
        },
    };
    if label.phrases.is_empty() {
        let names: Vec<&str> = known.iter().map(|label| &*label.name).collect();
        let there = match names.is_empty() {
            true => "there are none yet".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        return Err(UsageError(format!(
            "there is no prompt '{}' ({there}): say what it sounds like with --phrase, or add it with 'hark prompt add'",
            config::prompt::brief(name)
        )));
    }
    label.check().map_err(UsageError)?;
    Ok(label)
}

/// The threshold of the rule over every prompt.
fn threshold_of_rules(config: &Config) -> f32 {
    let over_all = config.rule.iter().find(|rule| {
        rule.enabled && rule.kind == Kind::Prompt && rule.labels.is_empty() && rule.prompt.is_none()
    });
    over_all.map_or(THRESHOLD, |rule| rule.threshold)
}

/// One set for everything: each phrasing, the prompt as the daemon has it, then the other prompts.
///
/// Every phrasing stands under the phrases of the prompt, so that the same background phrases compete
/// with all of them and the same calibration holds.
fn set_of(
    clap: &InstalledClap,
    paths: &Paths,
    prompt: &Prompt,
    phrasings: &[Phrasing],
    others: &[Prompt],
) -> anyhow::Result<PromptSet> {
    let mut embedder = PhraseEmbedder::open(clap, &paths.cache)?;
    let said: Vec<String> = phrasings.iter().map(|one| one.text.clone()).collect();
    let meant = others
        .iter()
        .chain([prompt])
        .flat_map(|other| &other.phrases);
    let meant = meant
        .map(String::as_str)
        .chain(background().iter().copied());
    let texts: Vec<String> = said
        .iter()
        .cloned()
        .chain(meant.flat_map(sentences))
        .collect();
    let bar = match texts.len() >= MANY && stderr().is_terminal() {
        true => ProgressBar::new(texts.len() as u64),
        false => ProgressBar::hidden(),
    };
    // All at once, for one bar; what follows finds them in the cache.
    embedder.embed_with(&texts, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let mut prompts = vec![prompt.clone(); phrasings.len() + 1];
    prompts.extend_from_slice(others);
    let mut embeddings = embedder.embed(&said)?;
    embeddings.extend(embedder.embed_prompts(&prompts[phrasings.len()..])?);
    let behind = embedder.embed_background()?;
    let sha256 = clap.sha256()?;
    let room = Room::load(&paths.data.join("room"), &sha256)?;
    let points = room.as_ref().map_or(&[][..], |room| &room.embeddings);
    let calibrations = Calibrations::load(&paths.data, &sha256)?;
    let set = PromptSet::new(&prompts, embeddings, behind, points, embedder.scale());
    Ok(set.calibrated(|prompt| calibrations.of(prompt)))
}

fn open_picture(path: PathBuf) -> anyhow::Result<(File, PathBuf)> {
    let file = File::create(&path);
    let file = file.with_context(|| format!("cannot write the picture {}", path.display()))?;
    Ok((file, path))
}

fn write_picture(mut file: File, figures: &Figures) -> std::io::Result<()> {
    file.write_all(picture::svg(figures).as_bytes())?;
    file.flush()
}
