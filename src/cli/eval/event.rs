//! Sounds clip by clip: every window of a clip is scored by itself, and the clip has the mean.
//!
//! Top-1 is over the ten labels of ESC-10 where the data has clips with a fold, otherwise over the
//! labels that occur. Average precision is over every label and all clips of the split. Glass is
//! held against every other clip by the best window of each.

use std::path::Path;
use std::sync::Arc;

use super::figures::{ClipFigures, Glass, LabelPrecision, Measured, Wrong};
use super::{bar, find_label, nothing};
use crate::features::{HOP, LogMel};
use crate::models::Classifier;
use crate::train::Clip;
use crate::train::augment::{from_db, rms};
use crate::train::dev_set::ESC10;
use crate::train::event_labels::{LABELS, labels_of};
use crate::train::library::Library;
use crate::train::metrics::{auc, average_precision, best};

/// Samples that a window needs beyond its hops: a frame is 25 ms long.
const FRAME_REST: usize = 240;
/// Level of every window with `--equal-loudness`, in dB relative to full scale.
const EQUAL_DB: f32 = -26.0;
/// A window below this (-70 dBFS) is silence, which cannot be made loud.
const SILENT_RMS: f32 = 3.2e-4;
/// What a glass that breaks is called in a model.
const GLASS: &str = "Glass";

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Only this fold of ESC-10.
    pub fold: Option<u8>,
    /// Every window at the same level.
    pub equal_loudness: bool,
}

/// A clip and what the model says of it.
struct Scored<'a> {
    clip: &'a Clip,
    truth: Vec<usize>,
    mean: Vec<f32>,
    peak: Vec<f32>,
}

/// Measures a model on the clips of a library.
///
/// # Errors
/// When the model refuses a window, or no clip has a label that it knows.
pub fn measure(
    model: &mut dyn Classifier,
    library: &Library,
    data: &Path,
    how: How,
) -> anyhow::Result<Measured> {
    let labels = model.info().labels.clone();
    let mut scored = Vec::with_capacity(library.sounds.len());
    let bar = bar(library.sounds.len());
    for sound in &library.sounds {
        bar.inc(1);
        let (mean, peak) = score(model, &sound.pcm(), how.equal_loudness)?;
        scored.push(Scored {
            clip: &sound.clip,
            truth: truth_of(&sound.clip, &labels),
            mean,
            peak,
        });
    }
    bar.finish_and_clear();
    let main = top_1(&scored, &labels, how.fold);
    if main.confusion.total() == 0 {
        let what = how.fold.map_or_else(
            || "no label that the model knows".to_owned(),
            |fold| format!("fold {fold}; a fold of train needs --split train or all"),
        );
        return Err(nothing(data, &what));
    }
    Ok(Measured {
        task: "event",
        main,
        words: None,
        precision: precision(&scored, &labels),
        glass: glass(&scored, &labels),
        retrieval: None,
    })
}

/// Labels of the model that hold for a clip: by its AudioSet names, or by its own label where a
/// data set has none.
fn truth_of(clip: &Clip, labels: &[Arc<str>]) -> Vec<usize> {
    let named: Vec<usize> = labels_of(clip)
        .into_iter()
        .filter_map(|at| find_label(labels, LABELS[at].name))
        .collect();
    if named.is_empty() && clip.set.is_empty() {
        find_label(labels, &clip.label).into_iter().collect()
    } else {
        named
    }
}

/// Mean and highest score of every label over the windows of a clip.
fn score(
    model: &mut dyn Classifier,
    pcm: &[f32],
    equal_loudness: bool,
) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
    let frames = model.info().window_frames;
    let count = model.info().labels.len();
    let (mut mean, mut peak) = (vec![0.0; count], vec![0.0f32; count]);
    let mut windows = cut(pcm, frames * HOP + FRAME_REST, frames / 2 * HOP);
    if equal_loudness {
        let heard: Vec<Vec<f32>> = windows
            .iter()
            .filter(|window| rms(window) > SILENT_RMS)
            .map(|window| {
                let gain = from_db(EQUAL_DB) / rms(window);
                window.iter().map(|x| gain * x).collect()
            })
            .collect();
        if !heard.is_empty() {
            windows = heard;
        }
    }
    let mut scores = Vec::with_capacity(count);
    for window in &windows {
        scores.clear();
        model.classify(&LogMel::batch(window), &mut scores)?;
        for ((mean, peak), score) in mean.iter_mut().zip(&mut peak).zip(&scores) {
            *mean += score / windows.len() as f32;
            *peak = peak.max(*score);
        }
    }
    Ok((mean, peak))
}

/// Windows of `length` samples every `hop`; a shorter clip is filled up with silence, and what is
/// left at the end is in one more window that ends with the clip.
fn cut(pcm: &[f32], length: usize, hop: usize) -> Vec<Vec<f32>> {
    if pcm.len() <= length {
        let mut window = pcm.to_vec();
        window.resize(length, 0.0);
        return vec![window];
    }
    let last = pcm.len() - length;
    let mut starts: Vec<usize> = (0..=last).step_by(hop.max(1)).collect();
    if starts.last() != Some(&last) {
        starts.push(last);
    }
    starts
        .into_iter()
        .map(|at| pcm[at..at + length].to_vec())
        .collect()
}

/// Top-1 among the labels of ESC-10, or among those that occur.
fn top_1(scored: &[Scored<'_>], labels: &[Arc<str>], fold: Option<u8>) -> ClipFigures {
    let ten: Vec<usize> = ESC10
        .iter()
        .filter_map(|name| find_label(labels, name))
        .collect();
    let in_ten = |one: &&Scored<'_>| {
        one.clip.fold.is_some()
            && matches!(one.truth[..], [label] if ten.contains(&label))
            && fold.is_none_or(|fold| one.clip.fold == Some(fold))
    };
    let esc: Vec<&Scored<'_>> = scored.iter().filter(in_ten).collect();
    let (clips, among) = if esc.is_empty() && fold.is_none() {
        let single: Vec<&Scored<'_>> = scored.iter().filter(|one| one.truth.len() == 1).collect();
        let among = (0..labels.len())
            .filter(|label| single.iter().any(|one| one.truth[0] == *label))
            .collect();
        (single, among)
    } else {
        (esc, ten)
    };
    let mut figures = ClipFigures::new(among.iter().map(|&at| labels[at].to_string()).collect());
    for one in clips {
        let Some(truth) = among.iter().position(|&at| at == one.truth[0]) else {
            continue;
        };
        let scores: Vec<f32> = among.iter().map(|&at| one.mean[at]).collect();
        let said = best(&scores);
        figures.add(truth, &scores);
        if said != truth {
            figures.wrong.push(Wrong {
                clip: one.clip.name.clone(),
                truth: figures.labels[truth].clone(),
                said: figures.labels[said].clone(),
                score: scores[said],
            });
        }
    }
    figures
}

fn precision(scored: &[Scored<'_>], labels: &[Arc<str>]) -> Vec<LabelPrecision> {
    labels
        .iter()
        .enumerate()
        .map(|(at, label)| {
            let truth: Vec<bool> = scored.iter().map(|one| one.truth.contains(&at)).collect();
            let scores: Vec<f32> = scored.iter().map(|one| one.mean[at]).collect();
            LabelPrecision {
                label: label.to_string(),
                average_precision: average_precision(&scores, &truth),
                auc: auc(&scores, &truth),
                positives: truth.iter().filter(|positive| **positive).count(),
            }
        })
        .collect()
}

/// Glass against all other clips.
fn glass(scored: &[Scored<'_>], labels: &[Arc<str>]) -> Option<Glass> {
    let at = find_label(labels, GLASS)?;
    let truth: Vec<bool> = scored.iter().map(|one| one.truth.contains(&at)).collect();
    let peak: Vec<f32> = scored.iter().map(|one| one.peak[at]).collect();
    let mean: Vec<f32> = scored.iter().map(|one| one.mean[at]).collect();
    let positives = truth.iter().filter(|positive| **positive).count();
    Some(Glass {
        auc_best_window: auc(&peak, &truth)?,
        auc_mean: auc(&mean, &truth)?,
        positives,
        negatives: truth.len() - positives,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::N_MELS;
    use crate::models::{ModelError, ModelInfo, Task};

    #[test]
    fn windows_hold_every_sample_of_a_clip() {
        let check = |samples: usize, expected: &[usize]| {
            let pcm: Vec<f32> = (0..samples).map(|n| n as f32).collect();
            let starts: Vec<usize> = cut(&pcm, 100, 50).iter().map(|w| w[0] as usize).collect();
            assert_eq!(starts, expected, "{samples}");
        };
        check(1, &[0]);
        check(100, &[0]);
        check(101, &[0, 1]);
        check(200, &[0, 50, 100]);
        check(230, &[0, 50, 100, 130]);
    }

    /// Answers with the level of the window.
    struct Meter(ModelInfo);

    impl Classifier for Meter {
        fn info(&self) -> &ModelInfo {
            &self.0
        }
        fn classify(&mut self, frames: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
            let mean = frames.iter().sum::<f32>() / frames.len() as f32;
            assert_eq!(frames.len(), 100 * N_MELS);
            scores.push(mean);
            Ok(())
        }
    }

    #[test]
    fn at_equal_loudness_the_level_tells_nothing() {
        let mut model = Meter(ModelInfo {
            name: "meter".into(),
            sha256: "".into(),
            task: Task::Event,
            labels: vec![Arc::from("Glass")].into(),
            input: crate::models::Input::LogMel,
            window_frames: 100,
            parameters: 0,
            licence: "Apache-2.0".into(),
        });
        let mut rng = fastrand::Rng::with_seed(1);
        let loud: Vec<f32> = (0..20_000).map(|_| rng.f32() - 0.5).collect();
        let soft: Vec<f32> = loud.iter().map(|x| x * 0.01).collect();
        let mut level = |pcm: &[f32], equal| score(&mut model, pcm, equal).unwrap().1[0];
        assert!(level(&loud, false) > level(&soft, false) + 0.5);
        assert!((level(&loud, true) - level(&soft, true)).abs() < 1e-3);
    }
}
