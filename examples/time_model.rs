//! Times one window of a published model: `time_model FAMILY PATH`, one thread, best of five rounds
//! and their median. Prints one line of JSON, for the scripts in `benches/peers/`.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use harkd::models::silero::{CHUNK, Silero};
use harkd::models::yamnet::{PATCH_SAMPLES, Yamnet};

/// Seconds that a round takes at least.
const ROUND_S: f64 = 0.3;
const ROUNDS: usize = 5;

/// Something to time: samples of its window, and what takes one.
type Subject = (usize, Box<dyn FnMut(&[f32]) -> Result<()>>);

fn yamnet(path: &Path) -> Result<Subject> {
    let mut model = Yamnet::open(path)?;
    let mut scores = Vec::new();
    let run = move |pcm: &[f32]| {
        model.classify(pcm, &mut scores);
        Ok(())
    };
    Ok((PATCH_SAMPLES, Box::new(run)))
}

fn silero(path: &Path) -> Result<Subject> {
    let mut model = Silero::open(path)?;
    let run = move |pcm: &[f32]| {
        model.step(pcm.first_chunk().unwrap_or(&[0.0; CHUNK]));
        Ok(())
    };
    Ok((CHUNK, Box::new(run)))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [family, path] = arguments.as_slice() else {
        bail!("usage: time_model FAMILY PATH");
    };
    let path = Path::new(path);
    let (samples, mut run) = match family.as_str() {
        "yamnet" => yamnet(path)?,
        "silero" => silero(path)?,
        other => bail!("expected yamnet or silero, got {other}"),
    };
    let mut rng = fastrand::Rng::with_seed(1);
    let pcm: Vec<f32> = (0..samples).map(|_| rng.f32() * 0.2 - 0.1).collect();
    run(&pcm)?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (began, mut windows) = (Instant::now(), 0u32);
        while began.elapsed().as_secs_f64() < ROUND_S {
            run(&pcm)?;
            windows += 1;
        }
        rounds.push(began.elapsed().as_secs_f64() * 1e3 / f64::from(windows));
    }
    rounds.sort_by(f64::total_cmp);
    let line = serde_json::json!({
        "model": family,
        "window_s": samples as f64 / 16_000.0,
        "best_ms": rounds[0],
        "median_ms": rounds[ROUNDS / 2],
    });
    println!("{line}");
    Ok(())
}
