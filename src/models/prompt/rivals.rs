//! Which phrases of the background compete with a prompt: those that mean something else.
//!
//! "Rain" must not lose against the "rain" of the background. Left out are the phrases whose embedding is
//! near that of the prompt, and those that the ontology of AudioSet knows as the same sound, a kind of it
//! or what it is a kind of. How a sound is scored against the rest is the set's matter.

use super::{Prompt, background, fallback};
use crate::models::clap::{normalise, similarity};

/// A background phrase is no rival of a prompt when their embeddings, from the mean of the background,
/// have more than this cosine. A sound that fits the prompt at 0.4, as published models give for what
/// they recognise, fits such a phrase less by 0.08 at most: 1.5 in log-odds at the published scale of
/// 18.6, which says the same in other words and not something else.
const SAME: f32 = 0.8;

/// The background as seen from its middle.
///
/// Texts of one model share much of their direction whatever they say, so that how alike two of them are
/// is measured from the mean of the background.
pub(super) struct Centred {
    centre: Vec<f32>,
    /// None of what is not numbers.
    phrases: Vec<Option<Vec<f32>>>,
}

impl Centred {
    /// Looks at all phrases; what is not numbers, or of another length than the others, is left out.
    pub fn new(background: &[Vec<f32>]) -> Self {
        let numbers = || background.iter().filter(|phrase| is_numbers(phrase));
        let dim = numbers().next().map_or(0, Vec::len);
        let count = numbers().count().max(1) as f32;
        let mut centre = vec![0.0; dim];
        for phrase in numbers() {
            for (sum, value) in centre.iter_mut().zip(phrase) {
                *sum += value / count;
            }
        }
        let mut centred = Centred {
            centre,
            phrases: Vec::new(),
        };
        let phrases = background.iter().map(|phrase| centred.seen(phrase));
        centred.phrases = phrases.collect();
        centred
    }

    /// An embedding from the middle, of length 1.
    fn seen(&self, embedding: &[f32]) -> Option<Vec<f32>> {
        let fits = embedding.len() == self.centre.len() && is_numbers(embedding);
        let apart = || embedding.iter().zip(&self.centre).map(|(a, b)| a - b);
        fits.then(|| normalise(apart().collect()))
    }

    /// The places of the phrases that mean something else than a prompt.
    pub fn rivals(&self, prompt: &Prompt, embedding: &[f32]) -> Vec<usize> {
        let Some(own) = self.seen(embedding) else {
            return Vec::new();
        };
        let kin = match self.phrases.len() == background().len() {
            true => fallback::kin_in_background(prompt),
            false => Vec::new(),
        };
        let differs = |phrase: &Vec<f32>| similarity(&own, phrase) <= SAME;
        let phrases = self.phrases.iter().enumerate();
        phrases
            .filter(|(at, phrase)| phrase.as_ref().is_some_and(differs) && !kin.contains(at))
            .map(|(at, _)| at)
            .collect()
    }
}

fn is_numbers(embedding: &[f32]) -> bool {
    !embedding.is_empty() && embedding.iter().all(|value| value.is_finite())
}
