//! Which labels of the embedded models the examples are: speech, or what needs no teaching.

use super::clip::{Beat, Clip};
use super::warning::Warning;
use crate::command::TaughtKind;
use crate::config::is_reportable;
use crate::features::{LogMel, N_MELS};
use crate::models::{ModelError, embedded_event, embedded_keyword};

/// Mean score over the examples from which on they are what a label means.
const LIKE: f32 = 0.5;
/// Labels of the event model that say too little to be a warning.
const VAGUE: [&str; 3] = ["Speech", "Music", "Silence"];

/// What the embedded model of a kind calls the examples.
///
/// # Errors
/// When the embedded model fails.
pub fn resemblance(kind: TaughtKind, clips: &[Clip]) -> Result<Option<Warning>, ModelError> {
    let (model, scores) = match kind {
        TaughtKind::Sound => sounds(clips)?,
        TaughtKind::Word => words(clips)?,
    };
    let best = |takes: &dyn Fn(&str) -> bool| {
        scores
            .iter()
            .filter(|(label, _)| takes(label))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, score)| *score >= LIKE)
            .cloned()
    };
    let named = best(&|label| is_reportable(label) && !VAGUE.contains(&label));
    if let Some((label, score)) = named {
        return Ok(Some(Warning::Label {
            label,
            model,
            score,
        }));
    }
    let speech = best(&|label| kind == TaughtKind::Sound && label == "Speech");
    Ok(speech.map(|(_, score)| Warning::Speech { score }))
}

/// Labels with the mean over the examples of each one's best window.
type Heard = (String, Vec<(String, f32)>);

fn sounds(clips: &[Clip]) -> Result<Heard, ModelError> {
    let mut model = embedded_event()?;
    let info = model.info().clone();
    let beat = Beat::of(TaughtKind::Sound, &info);
    let mut sums = vec![0.0f32; info.labels.len()];
    let mut scores = Vec::new();
    for clip in clips {
        let mut best = vec![0.0f32; sums.len()];
        for window in clip.cut(TaughtKind::Sound, info.input, beat)?.heart {
            model.classify(&window, &mut scores)?;
            raise(&mut best, &scores);
        }
        sums.iter_mut().zip(best).for_each(|(sum, s)| *sum += s);
    }
    Ok(heard(&info.name, &info.labels, &sums, clips.len()))
}

fn words(clips: &[Clip]) -> Result<Heard, ModelError> {
    let mut model = embedded_keyword()?;
    let info = model.info().clone();
    let mut sums = vec![0.0f32; info.labels.len()];
    let mut scores = sums.clone();
    for clip in clips {
        let mut best = vec![0.0f32; sums.len()];
        // The model answers a little later than it hears.
        let mut pcm = clip.pcm.clone();
        pcm.resize(pcm.len() + 8_000, 0.0);
        model.reset();
        for frame in LogMel::batch(&pcm).chunks_exact(N_MELS) {
            model.step(frame, &mut scores);
            raise(&mut best, &scores);
        }
        sums.iter_mut().zip(best).for_each(|(sum, s)| *sum += s);
    }
    Ok(heard(&info.name, &info.labels, &sums, clips.len()))
}

fn raise(best: &mut [f32], scores: &[f32]) {
    best.iter_mut()
        .zip(scores)
        .for_each(|(best, score)| *best = best.max(*score));
}

fn heard(model: &str, labels: &[std::sync::Arc<str>], sums: &[f32], clips: usize) -> Heard {
    let scores = labels
        .iter()
        .zip(sums)
        .map(|(label, sum)| (label.to_string(), sum / clips.max(1) as f32));
    (model.to_owned(), scores.collect())
}
