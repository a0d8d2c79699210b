//! Times windows of a published model, for the scripts in `benches/peers/`: `time_model PATH SECONDS`
//! from samples to scores, or `time_model PATH text` for the text tower of a CLAP. Prints one line of
//! JSON: best of five rounds, and the largest memory of the process beside the size of the weights.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use harkd::models::clap::Clap;
use harkd::models::layout::Layout;
use harkd::models::registry::{Model, open};

const ROUNDS: usize = 5;
/// A round takes at least this long, in seconds, so that short windows are timed in numbers.
const ROUND_S: f64 = 0.2;

/// Seconds that `run` takes: the best of the rounds after a first one that reads the weights.
fn best(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (began, mut windows) = (Instant::now(), 0);
        while windows == 0 || began.elapsed().as_secs_f64() < ROUND_S {
            run()?;
            windows += 1;
        }
        best = best.min(began.elapsed().as_secs_f64() / f64::from(windows));
    }
    Ok(best)
}

/// The largest resident memory so far, in bytes.
fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Bytes of the weights of a file or directory.
fn weights_bytes(path: &Path) -> Result<u64> {
    if path.is_file() {
        return Ok(path.metadata()?.len());
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if [".safetensors", ".bin", ".ckpt"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, what] = arguments.as_slice() else {
        bail!("usage: time_model PATH SECONDS|text");
    };
    if what == "text" {
        let text = Clap::load(&Layout::open(Path::new(path))?)?.text;
        // Twelve tokens with the two at the ends.
        let ids: Vec<u32> = (0..12).collect();
        let best_s = best(|| {
            text.hidden_states(&ids)?;
            Ok(())
        })?;
        return report(Path::new(path), 0.0, best_s);
    }
    let seconds: f64 = what.parse()?;
    let mut model = open(path)?;
    let rate_hz = model.info().input.rate_hz();
    let mut rng = fastrand::Rng::with_seed(1);
    let samples = (seconds * f64::from(rate_hz)) as usize;
    let pcm: Vec<f32> = (0..samples).map(|_| rng.f32() * 0.2 - 0.1).collect();
    let mut out = Vec::new();
    let best_s = best(|| {
        match &mut model {
            Model::Classifier(model) => model.classify(&pcm, &mut out)?,
            Model::Embedder(model) => model.embed(&pcm, &mut out)?,
            Model::Spotter(_) => bail!("a model that is stepped is timed by hark bench"),
        }
        Ok(())
    })?;
    report(Path::new(path), seconds, best_s)
}

fn report(path: &Path, seconds: f64, best_s: f64) -> Result<()> {
    let line = serde_json::json!({
        "window_s": seconds,
        "best_s": best_s,
        "best_ms": best_s * 1e3,
        "threads": rayon::current_num_threads(),
        "peak_bytes": peak_bytes()?,
        "weights_bytes": weights_bytes(path)?,
    });
    println!("{line}");
    Ok(())
}
