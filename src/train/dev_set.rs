//! The dev clips as frames, and the one figure that training is watched by.

use super::{
    keyword_data::{self, label_of},
    library::Library,
    manifest::Split,
};
use crate::features::{LogMel, N_MELS};
use crate::nn::{column::Column, weights::Checkpoint};

/// Dev clips of one task.
pub struct DevSet {
    clips: Vec<(Vec<f32>, usize)>,
}

impl DevSet {
    /// The dev clips of a library for a task, as frames.
    pub fn new(library: &Library, task: &str) -> Self {
        let clips = match task {
            "keyword" => library
                .select(Split::Dev, |clip| clip.set == "keywords")
                .into_iter()
                .filter_map(|sound| {
                    Some((frames_of_a_second(&sound.pcm()), label_of(&sound.clip)?))
                })
                .collect(),
            _ => Vec::new(),
        };
        DevSet { clips }
    }

    /// Accuracy over the clips, as text.
    ///
    /// # Errors
    /// None at present.
    pub fn measure(&self, checkpoint: &Checkpoint) -> anyhow::Result<String> {
        let mut column = Column::new(checkpoint);
        let (mut right, mut wrong) = (0, std::collections::BTreeMap::new());
        for (frames, label) in &self.clips {
            column.reset();
            frames.chunks_exact(N_MELS).for_each(|frame| {
                column.step(frame);
            });
            let logits = column.logits();
            let best = (0..logits.len())
                .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
                .unwrap_or(0);
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
        Ok(format!("dev {right}/{} {wrong:?}", self.clips.len()))
    }
}

/// Frames of one second of sound, shorter clips padded on both sides, longer ones cut.
fn frames_of_a_second(pcm: &[f32]) -> Vec<f32> {
    let mut second = vec![0.0; 16_000];
    let len = pcm.len().min(16_000);
    let at = (16_000 - len) / 2;
    second[at..at + len].copy_from_slice(&pcm[..len]);
    LogMel::batch(&second)
}
