//! The dev clips as frames, and the few figures that training is watched by. `hark eval` measures
//! the same things in full.

use super::{
    event_labels::{LABELS, labels_of},
    keyword_data::{self, label_of},
    library::Library,
    manifest::Split,
    metrics,
};
use crate::features::{LogMel, N_MELS};
use crate::nn::{column::Column, weights::Checkpoint};

/// Dev clips of one task.
pub enum DevSet {
    /// One second and its label.
    Keyword(Vec<(Vec<f32>, usize)>),
    /// Whole clips and their labels.
    Event(Vec<(Vec<f32>, Vec<usize>)>),
}

/// Labels of the event model that stand for the ten of ESC-10.
pub const ESC10: [&str; 10] = [
    "Dog",
    "Crowing, cock-a-doodle-doo",
    "Rain",
    "Waves, surf",
    "Fire",
    "Baby cry, infant cry",
    "Sneeze",
    "Tick-tock",
    "Helicopter",
    "Chainsaw",
];

/// Frames of an event window and of its hop.
const WINDOW: usize = 100;
const HOP: usize = 50;

impl DevSet {
    /// The dev clips of a library for a task, as frames.
    pub fn new(library: &Library, task: &str) -> Self {
        if task == "keyword" {
            let clips = library
                .select(Split::Dev, |clip| clip.set == "keywords")
                .into_iter();
            return DevSet::Keyword(
                clips
                    .filter_map(|sound| {
                        Some((frames_of_a_second(&sound.pcm()), label_of(&sound.clip)?))
                    })
                    .collect(),
            );
        }
        let clips = library.select(Split::Dev, |clip| {
            clip.set == "events" || clip.set == "speech"
        });
        DevSet::Event(
            clips
                .into_iter()
                .map(|sound| {
                    let mut pcm = sound.pcm();
                    pcm.resize(pcm.len().max(16_240), 0.0);
                    (LogMel::batch(&pcm), labels_of(&sound.clip))
                })
                .collect(),
        )
    }

    /// The figures, as text.
    pub fn measure(&self, checkpoint: &Checkpoint) -> String {
        let mut column = Column::new(checkpoint);
        match self {
            DevSet::Keyword(clips) => keyword_figures(&mut column, clips),
            DevSet::Event(clips) => event_figures(&mut column, clips),
        }
    }
}

fn keyword_figures(column: &mut Column, clips: &[(Vec<f32>, usize)]) -> String {
    let (mut right, mut wrong) = (0, std::collections::BTreeMap::new());
    for (frames, label) in clips {
        column.reset();
        frames.chunks_exact(N_MELS).for_each(|frame| {
            column.step(frame);
        });
        let best = metrics::best(column.logits());
        let best = if best >= keyword_data::TEACHER_LABELS {
            1
        } else {
            best
        };
        if best == *label {
            right += 1;
        } else {
            *wrong.entry(keyword_data::LABELS[*label]).or_insert(0) += 1;
        }
    }
    format!("dev {right}/{} {wrong:?}", clips.len())
}

fn event_figures(column: &mut Column, clips: &[(Vec<f32>, Vec<usize>)]) -> String {
    let ten: Vec<usize> = ESC10
        .iter()
        .filter_map(|name| LABELS.iter().position(|label| label.name == *name))
        .collect();
    let (mut right, mut judged) = (0, 0);
    let mut all: Vec<(Vec<f32>, &[usize])> = Vec::new();
    for (frames, labels) in clips {
        let mut mean = vec![0.0; LABELS.len()];
        let count = frames.len() / N_MELS;
        let windows = (count.saturating_sub(WINDOW)) / HOP + 1;
        for window in 0..windows {
            column.reset();
            let from = window * HOP * N_MELS;
            frames[from..(from + WINDOW * N_MELS).min(frames.len())]
                .chunks_exact(N_MELS)
                .for_each(|frame| {
                    column.step(frame);
                });
            for (mean, logit) in mean.iter_mut().zip(column.logits()) {
                *mean += 1.0 / (1.0 + (-logit).exp()) / windows as f32;
            }
        }
        if let [label] = labels[..]
            && let Some(label) = ten.iter().position(|&at| at == label)
        {
            let scores: Vec<f32> = ten.iter().map(|&at| mean[at]).collect();
            judged += 1;
            right += usize::from(metrics::best(&scores) == label);
        }
        all.push((mean, labels));
    }
    let precision: Vec<f64> = (0..LABELS.len())
        .filter_map(|label| {
            let truth: Vec<bool> = all
                .iter()
                .map(|(_, labels)| labels.contains(&label))
                .collect();
            let scores: Vec<f32> = all.iter().map(|(mean, _)| mean[label]).collect();
            metrics::average_precision(&scores, &truth)
        })
        .collect();
    let map = precision.iter().sum::<f64>() / precision.len().max(1) as f64;
    format!(
        "dev ten of ESC {right}/{judged}, mAP {map:.3} over {} labels",
        precision.len()
    )
}

/// Frames of one second of sound, shorter clips padded on both sides, longer ones cut.
pub fn frames_of_a_second(pcm: &[f32]) -> Vec<f32> {
    let mut second = vec![0.0; 16_000];
    let len = pcm.len().min(16_000);
    let at = (16_000 - len) / 2;
    second[at..at + len].copy_from_slice(&pcm[..len]);
    LogMel::batch(&second)
}
