//! Hard negatives: where a trained keyword model takes other sound for a word.
//!
//! Mining after Sung and Poggio (1998): the model runs over every training clip that holds no word of
//! ours, as a stream, and the places where it errs are drawn again and again in the next training.

use super::library::Library;
use super::manifest::Split;
use crate::features::{Frontend, LogMel};
use crate::models::keyword::softmax;
use crate::nn::{column::Column, weights::Checkpoint};

/// A place in a clip where a word was heard that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mistake {
    /// The clip, an index into the library.
    pub sound: usize,
    /// One past the last sample that the model had heard.
    pub end: usize,
}

/// A score of a word over this is a mistake.
const OVER: f32 = 0.25;
/// Samples between two mistakes of one clip.
const APART: usize = 3_200;

/// Runs a model over the training clips that `is_negative` names and collects its mistakes; labels
/// before `first_word` are no words.
pub fn mistakes(
    model: &Checkpoint,
    library: &Library,
    first_word: usize,
    is_negative: impl Fn(usize) -> bool,
) -> Vec<Mistake> {
    let mut column = Column::new(model);
    let mut scores = vec![0.0; model.card.labels.len()];
    let mut found = Vec::new();
    for (sound, clip) in library.sounds.iter().enumerate() {
        if clip.clip.split != Split::Train || clip.is_empty() || !is_negative(sound) {
            continue;
        }
        column.reset();
        let mut next = 0;
        LogMel::new().push(&clip.pcm(), &mut |end, frame| {
            let end = usize::try_from(end.0).unwrap_or(usize::MAX);
            if !column.step(frame) || end < next {
                return;
            }
            softmax(column.logits(), &mut scores);
            if scores[first_word..].iter().any(|&score| score > OVER) {
                found.push(Mistake { sound, end });
                next = end + APART;
            }
        });
    }
    found
}
