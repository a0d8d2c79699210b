//! `hark bench`: what listening costs on this machine, each figure beside its budget.

mod model;
mod noise;

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use serde_json::{Value, json};

use super::out;
use super::run::unwrap_daemon_error;
use crate::audio::spec::open;
use crate::clock::PIPELINE_RATE_HZ;
use crate::config::paths::Paths;
use crate::config::{self, Flags};
use crate::daemon::signals::Signal;
use crate::daemon::{self, Makers, Options};
use crate::features::{HOP, N_MELS};
use crate::outputs::client::Client;
use crate::pipeline::Limits;
use crate::pipeline::stats::{cpu_time, rss_bytes};
use noise::Noise;

/// Frames that are timed one by one: more than a minute and a half of sound.
const FRAMES: usize = 10_000;
/// Windows that are timed one by one.
const WINDOWS: usize = 300;
/// What comes first is not counted: caches and clock rates settle.
const WARM_UP: usize = 500;
/// How long the daemon may take to start.
const START: Duration = Duration::from_secs(20);

/// The budgets of the project, in the units of the figures.
mod budget {
    /// A frame at the median, in microseconds.
    pub const FRAME_P50_US: f64 = 25.0;
    /// A frame at the 99th percentile, in microseconds.
    pub const FRAME_P99_US: f64 = 100.0;
    /// Speed of `hark classify` on one core, in times real time.
    pub const CLASSIFY: f64 = 200.0;
    /// The whole live process, in per cent of a core.
    pub const CORE_PERCENT: f64 = 1.0;
    /// The whole live process, in megabytes.
    pub const MEMORY_MB: f64 = 80.0;
}

/// Arguments of `hark bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the whole daemon is measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Measures the daemon on this source in place of made-up sound, such as mic.
    #[arg(long, value_name = "SPEC")]
    source: Option<String>,
    /// Times a window of this model instead, and notes it for 'hark models list'.
    #[arg(long, value_name = "M", conflicts_with_all = ["seconds", "source"])]
    model: Option<String>,
    /// Writes one JSON object.
    #[arg(long)]
    json: bool,
}

/// One line of the result.
struct Figure {
    key: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    /// The budget, and whether more is better.
    budget: Option<(f64, bool)>,
}

impl Figure {
    fn is_met(&self) -> Option<bool> {
        self.budget.map(|(budget, more_is_better)| {
            if more_is_better {
                self.value >= budget
            } else {
                self.value <= budget
            }
        })
    }
}

/// Runs the verb.
///
/// # Errors
/// When a model cannot be made or the daemon does not start.
pub fn run(args: Args) -> anyhow::Result<()> {
    if let Some(name) = &args.model {
        return model::run(name, args.json);
    }
    let makers = Makers::default();
    // The daemon first, so that nothing of the rest counts as its memory.
    let mut figures = live(
        &makers,
        args.source.clone(),
        Duration::from_secs(args.seconds),
    )?;
    figures.extend(frames(&makers)?);
    figures.extend(windows(&makers)?);
    if args.json {
        out::line(report(&figures))?;
    } else {
        for figure in &figures {
            out::line(row(figure))?;
        }
    }
    Ok(())
}

fn row(figure: &Figure) -> String {
    let Figure {
        what, value, unit, ..
    } = figure;
    let line = format!("{what:<52} {value:>10.2} {unit:<12}");
    let verdict = match (figure.budget, figure.is_met()) {
        (Some((budget, more)), Some(met)) => format!(
            "budget: {} {budget} {}",
            if more { "at least" } else { "at most" },
            if met { "(met)" } else { "(MISSED)" }
        ),
        _ => String::new(),
    };
    format!("{line} {verdict}").trim_end().to_owned()
}

fn report(figures: &[Figure]) -> Value {
    figures
        .iter()
        .map(|figure| {
            let entry = json!({
                "value": figure.value,
                "unit": figure.unit,
                "budget": figure.budget.map(|(budget, _)| budget),
                "met": figure.is_met(),
            });
            (figure.key.to_owned(), entry)
        })
        .collect()
}

/// A 10 ms frame through front end and keyword step, one by one.
fn frames(makers: &Makers) -> anyhow::Result<Vec<Figure>> {
    let mut model = (makers.keyword)("")?;
    let mut front = (makers.front)();
    let mut scores = vec![0.0; model.info().labels.len()];
    let mut noise = Noise::new(PIPELINE_RATE_HZ, 1);
    let mut hop = [0.0; HOP];
    let mut times = Vec::with_capacity(FRAMES);
    for n in 0..WARM_UP + FRAMES {
        noise.fill(&mut hop);
        let begun = Instant::now();
        front.push(&hop, &mut |_, frame| model.step(frame, &mut scores));
        let took = begun.elapsed();
        black_box(&scores);
        if n >= WARM_UP {
            times.push(took);
        }
    }
    let (p50, p99) = quantiles_us(&mut times);
    let what = "10 ms frame, features and keyword step";
    Ok(vec![
        Figure {
            key: "frame_p50",
            what: format!("{what}, median"),
            value: p50,
            unit: "us",
            budget: Some((budget::FRAME_P50_US, false)),
        },
        Figure {
            key: "frame_p99",
            what: format!("{what}, p99"),
            value: p99,
            unit: "us",
            budget: Some((budget::FRAME_P99_US, false)),
        },
    ])
}

/// Windows of the event model, and the speed of front end and windows together.
fn windows(makers: &Makers) -> anyhow::Result<Vec<Figure>> {
    let mut model = (makers.event)("")?;
    let window = model.info().window_frames;
    let every = window / 2;
    let window_s = window as f64 / 100.0;
    let mut front = (makers.front)();
    let mut noise = Noise::new(PIPELINE_RATE_HZ, 1);
    let mut pcm = vec![0.0; HOP * every];
    let mut frames: Vec<f32> = Vec::new();
    let mut scores = Vec::new();
    let mut times = Vec::with_capacity(WINDOWS);
    let mut busy = Duration::ZERO;
    while times.len() < WINDOWS {
        noise.fill(&mut pcm);
        let begun = Instant::now();
        front.push(&pcm, &mut |_, frame| frames.extend_from_slice(frame));
        if let Some(from) = frames.len().checked_sub(window * N_MELS) {
            frames.drain(..from);
            let window_begun = Instant::now();
            model.classify(&frames, &mut scores)?;
            times.push(window_begun.elapsed());
        }
        busy += begun.elapsed();
        black_box(&scores);
    }
    let seconds = (times.len() * every * HOP) as f64 / f64::from(PIPELINE_RATE_HZ);
    let (p50, p99) = quantiles_us(&mut times);
    let what = format!("window of {window_s} s through the event model");
    Ok(vec![
        Figure {
            key: "window_p50",
            what: format!("{what}, median"),
            value: p50,
            unit: "us",
            budget: None,
        },
        Figure {
            key: "window_p99",
            what: format!("{what}, p99"),
            value: p99,
            unit: "us",
            budget: None,
        },
        Figure {
            key: "classify_speed",
            what: "features and windows on one core".into(),
            value: seconds / busy.as_secs_f64(),
            unit: "x real time",
            budget: Some((budget::CLASSIFY, true)),
        },
    ])
}

/// The whole daemon for a while: its share of a core, its memory, its own step times.
fn live(makers: &Makers, source: Option<String>, time: Duration) -> anyhow::Result<Vec<Figure>> {
    let mut makers = makers.clone();
    let heard_of = match &source {
        Some(spec) => spec.clone(),
        None => "made-up sound at 48 kHz stereo".into(),
    };
    makers.source = match source {
        Some(_) => Arc::new(open),
        None => Arc::new(|_, _| Ok(noise::source())),
    };
    let socket = socket_path();
    let flags = Flags {
        source: Some(source.unwrap_or_else(|| "mic".into())),
        socket: Some(socket.clone()),
        bus: Some("none".into()),
        config: None,
    };
    let (signals, inbox) = bounded(1);
    let options = Options {
        load: Box::new(move || config::load(&flags)),
        makers,
        limits: Limits::default(),
        realtime: true,
        wait_for_source: false,
        lines: None,
        signals: inbox,
        // What somebody asked to be listened for is not measured: figures are of one program.
        paths: Paths::new(&socket.with_extension("home"), None, |_| None),
    };
    let daemon = thread::spawn(move || daemon::run(options));
    let measured = wait_until_listening(&socket, &daemon).and_then(|mut client| {
        // What the start costs is not what listening costs.
        thread::sleep(Duration::from_secs(1));
        let (begun, before) = (Instant::now(), cpu_time());
        thread::sleep(time);
        let share = (cpu_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
        let status = client.call("status", json!({}))?;
        Ok((share, status))
    });
    let rss = rss_bytes();
    // The daemon may have ended by itself already.
    let _ = signals.send(Signal::End);
    let ended = daemon
        .join()
        .map_err(|_| anyhow::anyhow!("the daemon broke; this is an error in hark"))?;
    ended.map_err(unwrap_daemon_error)?;
    let (share, status) = measured?;
    let mut figures = vec![
        Figure {
            key: "core_percent",
            what: format!("live process on {heard_of}"),
            value: share * 100.0,
            unit: "% of a core",
            budget: Some((budget::CORE_PERCENT, false)),
        },
        Figure {
            key: "memory_mb",
            what: "live process, resident memory".into(),
            value: rss as f64 / 1e6,
            unit: "MB",
            budget: Some((budget::MEMORY_MB, false)),
        },
    ];
    for (key, task) in [("live_keyword_p99", "keyword"), ("live_event_p99", "event")] {
        let models = status["models"].as_array();
        let model = models.and_then(|models| models.iter().find(|model| model["task"] == task));
        if let Some(p99) = model.and_then(|model| model["p99_us"].as_f64()) {
            figures.push(Figure {
                key,
                what: format!("live process, step of the {task} model, p99"),
                value: p99,
                unit: "us",
                budget: None,
            });
        }
    }
    Ok(figures)
}

/// A path that no other process uses.
fn socket_path() -> PathBuf {
    std::env::temp_dir().join(format!("hark-bench-{}.sock", std::process::id()))
}

fn wait_until_listening<T>(
    socket: &std::path::Path,
    daemon: &thread::JoinHandle<T>,
) -> anyhow::Result<Client> {
    let limit = Instant::now() + START;
    loop {
        if let Ok(mut client) = Client::connect(socket)
            && client.call("status", json!({}))?["state"] == "listening"
        {
            return Ok(client);
        }
        if daemon.is_finished() || Instant::now() >= limit {
            anyhow::bail!("the daemon does not listen");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Median and 99th percentile in microseconds.
fn quantiles_us(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times
            .get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    (at(0.5), at(0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let mut times: Vec<Duration> = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(quantiles_us(&mut times), (51.0, 100.0));
        assert_eq!(quantiles_us(&mut []), (0.0, 0.0));
    }

    #[test]
    fn a_budget_is_met_from_the_right_side() {
        let figure = |value, more| Figure {
            key: "k",
            what: "what".into(),
            value,
            unit: "us",
            budget: Some((10.0, more)),
        };
        assert_eq!(figure(9.0, false).is_met(), Some(true));
        assert_eq!(figure(9.0, true).is_met(), Some(false));
        assert!(row(&figure(9.0, true)).ends_with("at least 10 (MISSED)"));
        let json = report(&[figure(9.0, false)]);
        assert_eq!(json["k"]["met"], true);
    }
}
