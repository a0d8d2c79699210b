//! `hark bench --model`: what one window of one model costs here.

use std::time::Instant;

use serde_json::json;

use super::noise::Noise;
use crate::cli::out;
use crate::cli::speeds::Speeds;
use crate::features::{LogMel, N_MELS};
use crate::models::registry::{self, Model};
use crate::models::{Input, ModelError};

/// Rounds, of which the best counts: what else the machine does only makes them longer.
const ROUNDS: usize = 5;

/// Times a native window of `name` and notes it for `hark models list`.
///
/// # Errors
/// When the model cannot be loaded or fails.
pub fn run(name: &str, json: bool) -> anyhow::Result<()> {
    let mut model = registry::open(name)?;
    let info = model.info().clone();
    let window_s = info.window_frames as f64 / 100.0;
    let rate_hz = info.input.rate_hz();
    let samples = (window_s * f64::from(rate_hz)).round() as usize;
    let mut pcm = vec![0.0; samples];
    Noise::new(rate_hz, 1).fill(&mut pcm);
    let window = match info.input {
        Input::LogMel => LogMel::batch(&pcm),
        Input::Samples { .. } => pcm,
    };
    let mut out_values = Vec::new();
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..=ROUNDS {
        let began = Instant::now();
        answer(&mut model, &window, &mut out_values)?;
        // The first one reads the weights from the disk.
        if round > 0 {
            times.push(began.elapsed().as_secs_f64());
        }
    }
    let best_s = times.iter().copied().fold(f64::INFINITY, f64::min);
    if let Err(error) = Speeds::read().note(&info.name, best_s) {
        out::complain(format_args!(
            "the speed could not be noted for 'hark models list': {error}"
        ));
    }
    if json {
        let record = json!({
            "model": &*info.name,
            "window_s": window_s,
            "best_s": best_s,
            "times_real_time": window_s / best_s,
            "threads": rayon::current_num_threads(),
        });
        return Ok(out::line(record)?);
    }
    out::line(format_args!(
        "{}: {:.2} ms for a window of {window_s} s, {:.0} times real time, {} threads",
        info.name,
        best_s * 1e3,
        window_s / best_s,
        rayon::current_num_threads()
    ))?;
    Ok(())
}

fn answer(model: &mut Model, window: &[f32], out: &mut Vec<f32>) -> Result<(), ModelError> {
    match model {
        Model::Classifier(model) => {
            out.clear();
            model.classify(window, out)
        }
        Model::Embedder(model) => model.embed(window, out),
        Model::Spotter(model) => {
            out.resize(model.info().labels.len(), 0.0);
            model.reset();
            for frame in window.chunks_exact(N_MELS) {
                model.step(frame, out);
            }
            Ok(())
        }
    }
}
