//! How well taught sounds are recognised: `taught_figures EMBEDDER KIND DATA DRAWS LABEL...`.
//!
//! Every clip of DATA stands in one long stream over the faint noise of a room, with gaps between them. Each LABEL is taught from 5
//! of its training clips, DRAWS times; the other clips of the label must then be found in the stream, and
//! a start of an episode anywhere else is a false accept, an hour counted as an hour of the other clips,
//! gaps left out. Windows, scores and episodes are those of the daemon: `LogMel`, `Beat`, `TaughtSet` and
//! `Engine` under the built-in rule for taught sounds.
//!
//! The other clips are halved. The background of a taught sound is made of one half alone and its false
//! accepts are counted in the other, both ways round, so that no clip is both learnt from and judged.
//!
//! Two figures: at one false accept an hour, the threshold chosen for that on this stream, as a ROC has
//! it; and at the threshold that teaching chose itself, with the false accepts that this had.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use harkd::audio::synth::parts::{Colour, noise};
use harkd::clock::{PIPELINE_RATE_HZ, SampleIdx};
use harkd::command::TaughtKind;
use harkd::config::{Config, DEFAULT_TOML, KnownModel};
use harkd::detect::{Engine, Observation, Rule};
use harkd::event::{Kind, Phase};
use harkd::features::{HOP, LogMel, N_MELS};
use harkd::models::registry::open_embedder;
use harkd::models::taught::background::{Background, BackgroundCard};
use harkd::models::taught::{Beat, Clip, Enrolment, TaughtSet, enrol};
use harkd::models::{Embedder, Input};
use harkd::train::Split;
use harkd::train::library::{Library, Sound};

/// Examples that are taught.
const EXAMPLES: usize = 5;
/// Noise between two clips, in seconds: longer than any window, so that none holds two clips.
const GAP_S: f64 = 1.5;
/// Level of the noise in the gaps and below the clips, relative to full scale: a quiet room. No room has
/// the digital silence that some clips are filled up with.
const ROOM_LEVEL: f32 = 0.003;
/// Most windows that a background is made of.
const MOST: usize = 12_000;

/// A window of the stream.
struct Window {
    start: u64,
    end: u64,
    /// The clip in it; `None` in a gap.
    clip: Option<usize>,
    embedding: Vec<f32>,
}

/// All windows of all clips, as live listening sees them.
fn listen(sounds: &[Sound], embedder: &mut dyn Embedder, beat: Beat) -> Result<Vec<Window>> {
    let input = embedder.info().input;
    let rate = u64::from(PIPELINE_RATE_HZ);
    ensure!(
        matches!(input, Input::LogMel) || input.rate_hz() == PIPELINE_RATE_HZ,
        "only embedders of 16 kHz are measured"
    );
    let mut rng = Rng::with_seed(9);
    let gap = (GAP_S * rate as f64) as usize;
    let (mut windows, mut at) = (Vec::new(), 0u64);
    for (clip, sound) in sounds.iter().enumerate() {
        let mut pcm = noise(&mut rng, sound.len() + 2 * gap, Colour::Pink);
        pcm.iter_mut().for_each(|sample| *sample *= ROOM_LEVEL);
        for (sum, sample) in pcm[gap..].iter_mut().zip(sound.pcm()) {
            *sum += sample;
        }
        let span = (gap as u64, (gap + sound.len()) as u64);
        // The beat goes on over the clips, so that a sound falls into it anywhere.
        let phase = rng.usize(0..beat.hop_frames);
        let mels = LogMel::batch(&pcm);
        let frames = mels.len() / N_MELS;
        let last = (frames + 1).saturating_sub(beat.window_frames);
        for from in (phase..last).step_by(beat.hop_frames) {
            let (start, end) = (
                (from * HOP) as u64,
                ((from + beat.window_frames) * HOP) as u64,
            );
            let window = match input {
                Input::LogMel => &mels[from * N_MELS..(from + beat.window_frames) * N_MELS],
                Input::Samples { .. } => &pcm[start as usize..end as usize],
            };
            let mut embedding = Vec::new();
            embedder.embed(window, &mut embedding)?;
            windows.push(Window {
                start: at + start,
                end: at + end,
                clip: (start < span.1 && end > span.0).then_some(clip),
                embedding,
            });
        }
        at += pcm.len() as u64;
    }
    Ok(windows)
}

/// Episodes that begin where the label is not, at `threshold`.
fn false_accepts(
    windows: &[Window],
    scores: &[f32],
    counts: impl Fn(&Window) -> bool,
    threshold: f32,
) -> Result<usize> {
    let config: Config = toml::from_str(DEFAULT_TOML)?;
    let known = [KnownModel {
        kind: Kind::Taught,
        name: "taught".into(),
        labels: Arc::new(["it".into()]),
        thresholds: Arc::new([Some(threshold)]),
    }];
    let rule: Vec<_> = config
        .rule
        .into_iter()
        .filter(|rule| rule.kind == Kind::Taught)
        .collect();
    let mut engine = Engine::new(Rule::all_from_config(&rule, &known)?, &known);
    let mut accepts = 0;
    for (window, score) in windows.iter().zip(scores) {
        let seen = Observation {
            stream: 0,
            start: SampleIdx(window.start),
            end: SampleIdx(window.end),
            scores: &[*score],
            level_dbfs: 0.0,
        };
        engine.observe(&seen, &mut |decision| {
            accepts += usize::from(decision.phase == Phase::Start && counts(window));
        });
    }
    Ok(accepts)
}

/// What one draw of the examples gave.
struct Draw {
    /// Recall at one false accept an hour, at the own threshold, and as teaching expected it.
    recall: f64,
    own: f64,
    expected: f64,
    /// False accepts an hour at the own threshold.
    own_per_hour: f64,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, kind, data, draws, labels @ ..] = &args[..] else {
        anyhow::bail!("taught_figures EMBEDDER KIND DATA DRAWS LABEL...");
    };
    let kind: TaughtKind = kind.parse().map_err(anyhow::Error::msg)?;
    let draws: u64 = draws.parse().context("DRAWS")?;
    let mut embedder = open_embedder(model)?;
    let info = embedder.info().clone();
    let beat = Beat::of(kind, &info);
    let library = Library::open(Path::new(data), |_| true)?;
    let windows = listen(&library.sounds, &mut *embedder, beat)?;
    let mut rng = Rng::with_seed(3);
    let half: Vec<bool> = library.sounds.iter().map(|_| rng.bool()).collect();
    let seconds = |sound: &Sound| sound.len() as f64 / f64::from(PIPELINE_RATE_HZ);

    let mut out = std::io::stdout();
    let mut all: Vec<Draw> = Vec::new();
    for label in labels {
        let is_label = |clip: usize| library.sounds[clip].clip.label == *label;
        let others = library.sounds.iter().enumerate();
        let others = others.filter(|(at, _)| !is_label(*at));
        let hours: f64 = others.map(|(_, sound)| seconds(sound)).sum::<f64>() / 3600.0;
        let backgrounds = [false, true]
            .map(|of| {
                let takes = |w: &&Window| w.clip.is_none_or(|at| half[at] == of && !is_label(at));
                let vectors: Vec<&Window> = windows.iter().filter(takes).collect();
                let card = BackgroundCard {
                    labels: Vec::new(),
                    embedder: info.name.to_string(),
                    sha256: info.sha256.to_string(),
                    windows: vectors.len() as u64,
                    hop_s: beat.hop_frames as f64 / 100.0,
                    material: "one half of the other clips".to_owned(),
                    licence: "as the clips".to_owned(),
                };
                let step = vectors.len().div_ceil(MOST).max(1);
                let vectors: Vec<Vec<f32>> = vectors
                    .iter()
                    .step_by(step)
                    .map(|window| window.embedding.clone())
                    .collect();
                Background::of(card, &vectors).map_err(anyhow::Error::msg)
            })
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let mut of_label = Vec::new();
        for draw in 0..draws {
            let mut rng = Rng::with_seed(100 + draw);
            let mut train: Vec<usize> = (0..library.sounds.len())
                .filter(|&at| is_label(at) && library.sounds[at].clip.split == Split::Train)
                .collect();
            rng.shuffle(&mut train);
            train.truncate(EXAMPLES);
            let clips = train
                .iter()
                .map(|&at| Clip::new(&library.sounds[at].clip.name, library.sounds[at].pcm()))
                .collect::<Result<Vec<_>, _>>()?;
            let mut scores = vec![0.0; windows.len()];
            let mut expected = 0.0;
            for (of, background) in [false, true].into_iter().zip(&backgrounds) {
                let enrolment = Enrolment {
                    name: label,
                    kind,
                    clips: &clips,
                    target_fa_per_hour: 1.0,
                    background: Some(background),
                    room: None,
                    known: &[],
                };
                let enrolled = enrol(&enrolment, &mut *embedder)?;
                expected += enrolled.sound.card.expected_recall / 2.0;
                let set = TaughtSet::new(vec![enrolled.sound]);
                let mut of_window = Vec::new();
                for (window, score) in windows.iter().zip(&mut scores) {
                    // Heard by the sound whose background this clip is not in.
                    if window.clip.is_none_or(|at| half[at] != of) {
                        set.score(&window.embedding, &mut of_window)?;
                        *score = of_window[0];
                    }
                }
            }
            let counts = |window: &Window| window.clip.is_none_or(|at| !is_label(at));
            let tested: Vec<usize> = (0..library.sounds.len())
                .filter(|&at| is_label(at) && !train.contains(&at))
                .collect();
            let mut best = vec![0.0f32; library.sounds.len()];
            for (window, score) in windows.iter().zip(&scores) {
                if let Some(at) = window.clip {
                    best[at] = best[at].max(*score);
                }
            }
            let recall_at = |threshold: f32| {
                let found = tested.iter().filter(|&&at| best[at] >= threshold).count();
                found as f64 / tested.len().max(1) as f64
            };
            // The lowest threshold that keeps to one an hour, between two logits.
            let allowed = hours.floor() as usize;
            let (mut low, mut high) = (-12.0f32, 14.0f32);
            let score_of = |logit: f32| 1.0 / (1.0 + (-logit).exp());
            for _ in 0..16 {
                let middle = 0.5 * (low + high);
                match false_accepts(&windows, &scores, counts, score_of(middle))? <= allowed {
                    true => high = middle,
                    false => low = middle,
                }
            }
            of_label.push(Draw {
                recall: recall_at(score_of(high)),
                own: recall_at(0.5),
                expected,
                own_per_hour: false_accepts(&windows, &scores, counts, 0.5)? as f64 / hours,
            });
        }
        report(&mut out, label, &of_label, Some(hours))?;
        all.append(&mut of_label);
    }
    report(&mut out, "mean", &all, None)?;
    Ok(())
}

/// One row.
fn report(out: &mut dyn Write, name: &str, draws: &[Draw], hours: Option<f64>) -> Result<()> {
    let mean =
        |of: &dyn Fn(&Draw) -> f64| draws.iter().map(of).sum::<f64>() / draws.len().max(1) as f64;
    let recall = mean(&|draw| draw.recall);
    let spread = mean(&|draw| (draw.recall - recall).powi(2)).sqrt();
    let hours = hours.map_or_else(String::new, |hours| format!(" over {hours:.2} h"));
    writeln!(
        out,
        "{name:<16} recall at 1 FA/h {:5.1} % (spread {:4.1}); own threshold: {:5.1} % at {:6.2} FA/h, {:3.0} % expected{hours}",
        100.0 * recall,
        100.0 * spread,
        100.0 * mean(&|draw| draw.own),
        mean(&|draw| draw.own_per_hour),
        100.0 * mean(&|draw| draw.expected),
    )?;
    out.flush()?;
    Ok(())
}
