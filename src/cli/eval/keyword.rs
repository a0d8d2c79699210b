//! Words clip by clip: each clip from reset, and the scores after its last frame.
//!
//! Two figures. The twelve labels of Speech Commands on `keywords/` (any other answer counts as
//! `_unknown_`), and all labels of the model on `keywords/` and `wakewords/` (any other word of
//! the data is `_unknown_`). In other data every clip is judged over all labels.

use std::path::Path;

use super::figures::{ClipFigures, Measured, Wrong};
use super::{bar, find_label, nothing};
use crate::features::{LogMel, N_MELS};
use crate::models::Spotter;
use crate::train::dev_set::frames_of_a_second;
use crate::train::keyword_data::{LABELS, TEACHER_LABELS};
use crate::train::library::Library;
use crate::train::metrics::best;

/// Samples in a second, the length of a clip of Speech Commands.
const SECOND: usize = 16_000;
/// What any other word is.
const UNKNOWN: &str = "_unknown_";

/// Measures a model on the clips of a library.
///
/// # Errors
/// When no clip has a label that the model knows.
pub fn measure(
    model: &mut dyn Spotter,
    library: &Library,
    data: &Path,
) -> anyhow::Result<Measured> {
    let labels = model.info().labels.clone();
    let twelve: Vec<String> = LABELS[..TEACHER_LABELS]
        .iter()
        .map(ToString::to_string)
        .collect();
    let all: Vec<String> = labels.iter().map(|label| label.to_string()).collect();
    let has_sets = library
        .sounds
        .iter()
        .any(|sound| sound.clip.set == "keywords");
    let mut main = ClipFigures::new(if has_sets { twelve } else { all.clone() });
    let mut words = ClipFigures::new(all);
    let mut scores = vec![0.0; labels.len()];
    let bar = bar(library.sounds.len());
    for sound in &library.sounds {
        bar.inc(1);
        let clip = &sound.clip;
        let judged = !has_sets || clip.set == "keywords" || clip.set == "wakewords";
        let truth = find_label(&labels, &clip.label).or_else(|| find_label(&labels, UNKNOWN));
        let (true, Some(truth)) = (judged, truth) else {
            continue;
        };
        run(model, &sound.pcm(), &mut scores);
        let wrong = |truth: &str, said: &str, score| Wrong {
            clip: clip.name.clone(),
            truth: truth.to_owned(),
            said: said.to_owned(),
            score,
        };
        if !has_sets || clip.set == "keywords" {
            let folded = fold(&labels, &scores, &main.labels);
            let said = best(&folded);
            if let Some(truth) = main.labels.iter().position(|l| **l == *labels[truth]) {
                main.add(truth, &folded);
                if truth != said {
                    let labels = &main.labels;
                    let miss = wrong(&labels[truth], &labels[said], folded[said]);
                    main.wrong.push(miss);
                }
            }
        }
        if has_sets {
            words.add(truth, &scores);
            let said = best(&scores);
            if said != truth {
                let miss = wrong(&labels[truth], &labels[said], scores[said]);
                words.wrong.push(miss);
            }
        }
    }
    bar.finish_and_clear();
    if main.confusion.total() == 0 {
        return Err(nothing(data, "no word that the model knows"));
    }
    let words = (words.confusion.total() > 0).then_some(words);
    Ok(Measured {
        task: "keyword",
        main,
        words,
        precision: Vec::new(),
        glass: None,
        retrieval: None,
    })
}

/// The scores after the last frame of a clip, from reset. Clips are not cut: a longer one ends
/// with its end, as a daemon hears it.
fn run(model: &mut dyn Spotter, pcm: &[f32], scores: &mut [f32]) {
    let frames = if pcm.len() > SECOND {
        LogMel::batch(pcm)
    } else {
        frames_of_a_second(pcm)
    };
    model.reset();
    for frame in frames.chunks_exact(N_MELS) {
        model.step(frame, scores);
    }
}

/// Scores over fewer labels: `_unknown_` is the best of itself and of the labels left out.
fn fold(labels: &[std::sync::Arc<str>], scores: &[f32], kept: &[String]) -> Vec<f32> {
    let unknown = kept.iter().position(|label| label == UNKNOWN);
    let mut folded = vec![0.0f32; kept.len()];
    for (label, score) in labels.iter().zip(scores) {
        let at = kept.iter().position(|kept| **kept == **label).or(unknown);
        if let Some(at) = at {
            folded[at] = folded[at].max(*score);
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_label_left_out_counts_as_unknown() {
        let labels: Vec<Arc<str>> = ["_silence_", "_unknown_", "yes", "jarvis"]
            .map(Arc::from)
            .into();
        let kept: Vec<String> = ["_silence_", "_unknown_", "yes"].map(str::to_owned).into();
        assert_eq!(fold(&labels, &[0.1, 0.1, 0.3, 0.5], &kept), [0.1, 0.5, 0.3]);
    }
}
