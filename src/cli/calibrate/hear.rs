//! Hears a room, from its microphone or from recordings, on the very path of the daemon: the same
//! pipeline, models and windows. What comes of it are score tracks and how long they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select, unbounded};
use indicatif::ProgressBar;

use crate::audio::feed::{Feed, Stop};
use crate::audio::file::FileReader;
use crate::audio::ring::PcmWriter;
use crate::audio::spec::SourceSpec;
use crate::audio::{AudioError, Format, Running, Source};
use crate::cli::out;
use crate::clock::PIPELINE_RATE_HZ;
use crate::config::KnownModel;
use crate::daemon::Makers;
use crate::daemon::signals::Signal;
use crate::detect::Engine;
use crate::detect::tracks::{Tracks, taken};
use crate::pipeline::{Limits, Models, Pipeline, Report};

/// Silence behind each recording, in samples (1 s): what sounds at its end is in whole windows of the
/// small models, and what is open ends before the next one begins.
const BETWEEN: usize = PIPELINE_RATE_HZ as usize;
/// Samples handed over at a time: 60 ms, as a microphone delivers them.
const BLOCK: usize = 960;
/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);
/// A microphone that has stopped for this long is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was heard.
pub struct Heard {
    /// Scores of every model.
    pub tracks: Tracks,
    /// The models, in the order of their numbers in the tracks.
    pub known: Vec<KnownModel>,
    /// How long.
    pub seconds: f64,
}

/// Where the sound comes from.
pub enum From<'a> {
    /// A source, for so many seconds.
    Source(&'a SourceSpec, f64),
    /// Recordings one after the other, for at most so many seconds.
    Files(&'a [PathBuf], Option<f64>),
}

/// Hears until there is enough, the sound is over, or somebody asks for the end.
///
/// # Errors
/// When the source fails before there is enough, or a recording cannot be read.
pub fn hear(
    makers: &Makers,
    models: Models,
    from: &From<'_>,
    signals: &Receiver<Signal>,
) -> anyhow::Result<Heard> {
    let known = models.known();
    let (tracks, witness) = Tracks::shared();
    let mut engine = Engine::new(Vec::new(), &known);
    engine.set_witness(witness);
    let played = Arc::new(AtomicU64::new(0));
    let mut makers = makers.clone();
    let (spec, wanted_s) = match from {
        From::Source(spec, seconds) => ((*spec).clone(), Some(*seconds)),
        From::Files(files, limit_s) => {
            let (files, played, limit_s) = (files.to_vec(), played.clone(), *limit_s);
            makers.source = Arc::new(move |_, _| {
                Ok(Box::new(Recordings {
                    files: files.clone(),
                    limit: limit_s.map_or(u64::MAX, samples),
                    played: played.clone(),
                }))
            });
            (SourceSpec::File("recordings".into()), limit_s)
        }
    };
    let length_s = match from {
        From::Source(..) => wanted_s,
        From::Files(files, limit_s) => {
            let all = declared_s(files)?;
            Some(limit_s.map_or(all, |limit| all.min(limit)))
        }
    };
    let limits = Limits::default();
    let setup = makers.setup(&spec, false, limits, models, (engine, None), Instant::now());
    let (tell, reports) = unbounded();
    let pipeline = Pipeline::start(setup, Box::new(move |report| drop(tell.send(report))))?;
    let heard_s = || {
        let samples = match from {
            From::Source(..) => pipeline.stats().samples(),
            From::Files(..) => played.load(Relaxed),
        };
        samples as f64 / f64::from(PIPELINE_RATE_HZ)
    };
    let bar = bar(length_s.unwrap_or(0.0));
    let ended = follow(
        &pipeline,
        &reports,
        signals,
        &bar,
        &heard_s,
        match from {
            From::Source(_, seconds) => *seconds,
            // Recordings end by themselves.
            From::Files(..) => f64::INFINITY,
        },
    );
    bar.finish_and_clear();
    let seconds = heard_s();
    drop(pipeline);
    ended?;
    Ok(Heard {
        tracks: taken(&tracks),
        known,
        seconds,
    })
}

/// Follows a pipeline to its end, which it is asked for when there is enough.
fn follow(
    pipeline: &Pipeline,
    reports: &Receiver<Report>,
    signals: &Receiver<Signal>,
    bar: &ProgressBar,
    heard_s: &dyn Fn() -> f64,
    wanted_s: f64,
) -> anyhow::Result<()> {
    let mut is_stopping = false;
    let mut last = (heard_s(), Instant::now());
    loop {
        select! {
            recv(reports) -> report => match report {
                Ok(Report::Ended(ended)) => return Ok(ended?),
                Ok(Report::Stalled { error, is_missing: true }) => return Err(error.into()),
                Ok(Report::Stalled { error, .. }) => bar.suspend(|| out::complain(&error)),
                Ok(Report::Fault(Some(fault))) => bar.suspend(|| out::complain(&fault)),
                Ok(_) => {}
                Err(_) => return Ok(()),
            },
            recv(signals) -> _ => {
                if is_stopping {
                    anyhow::bail!("stopped; nothing was calibrated");
                }
                is_stopping = true;
                bar.suspend(|| out::note("stopped; what was heard so far is used"));
                pipeline.stop();
            }
            default(TICK) => {}
        }
        let seconds = heard_s();
        bar.set_position(seconds as u64);
        if seconds > last.0 {
            last = (seconds, Instant::now());
        }
        let is_silent = last.1.elapsed() > PATIENCE;
        if (seconds >= wanted_s || is_silent) && !is_stopping {
            is_stopping = true;
            if is_silent {
                bar.suspend(|| {
                    out::complain("no sound for a minute; what was heard so far is used")
                });
            }
            pipeline.stop();
        }
    }
}

fn bar(seconds: f64) -> ProgressBar {
    use std::io::IsTerminal;
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(seconds.ceil() as u64);
    let form = "{bar:40} {pos} of {len} s heard, {eta} to go (Ctrl-C: use what was heard)";
    // The form is a constant; without it the bar shows bare numbers.
    if let Ok(style) = indicatif::ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar
}

/// How long recordings say they are; each is opened, so that one that cannot be read is known at once.
fn declared_s(files: &[PathBuf]) -> Result<f64, AudioError> {
    let each = files.iter().map(|file| {
        let reader = FileReader::open(file)?;
        Ok(reader.declared_s().unwrap_or(0.0))
    });
    each.sum()
}

fn samples(seconds: f64) -> u64 {
    (seconds * f64::from(PIPELINE_RATE_HZ)) as u64
}

/// Recordings as one source at the rate of the pipeline.
struct Recordings {
    files: Vec<PathBuf>,
    /// Samples to play at most.
    limit: u64,
    /// Samples played so far, without the silence between.
    played: Arc<AtomicU64>,
}

impl Source for Recordings {
    fn name(&self) -> &str {
        "recordings"
    }

    fn format(&self) -> Format {
        Format {
            rate_hz: PIPELINE_RATE_HZ,
            channels: 1,
        }
    }

    fn start(self: Box<Self>, out: PcmWriter) -> Result<Box<dyn Running>, AudioError> {
        let feed = Feed::spawn("recordings", move |stop| self.play(out, stop))?;
        Ok(Box::new(feed))
    }
}

impl Recordings {
    fn play(&self, mut out: PcmWriter, stop: &Stop) -> Result<(), AudioError> {
        for file in &self.files {
            if !self.play_one(file, &mut out, stop)? || !out.write_blocking(&[0.0; BETWEEN]) {
                break;
            }
        }
        Ok(())
    }

    /// Whether to go on.
    fn play_one(&self, file: &Path, out: &mut PcmWriter, stop: &Stop) -> Result<bool, AudioError> {
        let mut reader = FileReader::open(file)?;
        while let Some(block) = reader.next_block()? {
            for piece in block.chunks(BLOCK) {
                let left = self.limit.saturating_sub(self.played.load(Relaxed));
                if stop.is_set() || left == 0 || !out.write_blocking(piece) {
                    return Ok(false);
                }
                self.played.fetch_add(piece.len() as u64, Relaxed);
            }
        }
        if let Some(damage) = reader.damage() {
            out::complain(format_args!(
                "{}: {damage}; what was readable is used",
                file.display()
            ));
        }
        Ok(true)
    }
}
