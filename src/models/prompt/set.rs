//! How much a sound is what a prompt says: its cosine against a fixed background, calibrated.
//!
//! With `e` the embedding of a sound, `t` that of a prompt, `b` those of the background and `s` the
//! scale that the checkpoint was trained with (`exp(logit_scale_a)`):
//!
//! ```text
//! margin      m = s (e.t - max(0, max over b of e.b))
//! shift       d = max(0, q + 1/2 + offset / slope), q the 99th percentile of the margins of the room;
//!                 0 without a room
//! probability p = 1 / (1 + exp(-(slope (m - d) + offset)))
//! ```
//!
//! **Why the best phrase of the background and not the sum of all.** A softmax over the prompt and the
//! background has the log-odds `s e.t - ln sum exp(s e.b)`. It takes the phrases as exclusive and equally
//! probable, so that the score falls when the background says one thing in two ways, and by `ln n` for
//! its length alone: with 128 phrases and the published scale of 18.6 that is a quarter of a cosine. A
//! mean instead of the sum has neither, but then a phrase that fits better than the prompt is diluted by
//! those that do not fit, and the prompt is reported although something else was heard. The largest is
//! the limit of both for a sharp scale: what is said twice counts once, more background never raises a
//! score, and whenever a background phrase fits better than the prompt the score is below one half. That
//! is the reject option, and the phrase that won can be named. The floor at a cosine of 0 keeps a sound
//! that nothing describes from being the prompt for want of anything better.
//!
//! Prompts do not compete: a window may be all of them. Background phrases that mean the same as the
//! prompt are no rivals of it and are left out: those whose embedding is near, and those that the
//! ontology of AudioSet knows as the same sound, a kind of it or what it is a kind of.
//!
//! **The room.** Whatever the room keeps sounding like must not be reported, so that what it reaches
//! in all but one of a hundred windows scores below one half. A room never raises a score. It says
//! nothing of how sure a prompt is; that is what [`super::Calibration`] measures, and without one the margin
//! is taken as log-odds as it stands. No score is beyond 0.001 and 0.999.

use std::sync::Arc;

use super::{Calibration, Prompt, background, fallback};
use crate::models::clap::{normalise, similarity};

/// A background phrase is no rival of a prompt when their embeddings, from the mean of the background,
/// have more than this cosine. A sound that fits the prompt at 0.4, as published models give for what
/// they recognise, fits such a phrase less by 0.08 at most: 1.5 in log-odds at the published scale of
/// 18.6, which says the same in other words and not something else.
const SAME: f32 = 0.8;
/// The share of the room's windows that must score below one half.
const ROOM_QUANTILE: f32 = 0.99;
/// How far below, in margin: what the room reaches scores 0.38 where nothing else was measured.
const ROOM_GUARD: f32 = 0.5;
/// No log-odds are taken to be beyond this: a thousand to one is more than any of this can know.
const MAX_LOG_ODDS: f32 = 6.907;

/// A prompt, ready to score.
#[derive(Debug, Clone)]
struct Ready {
    prompt: Prompt,
    embedding: Vec<f32>,
    /// Places in the background that compete with it.
    rivals: Vec<usize>,
    calibration: Option<Calibration>,
    /// 99th percentile of the room's margins, where the room is known.
    room: Option<f32>,
}

impl Ready {
    fn shift(&self) -> f32 {
        let Calibration { slope, offset } = self.calibration.unwrap_or(Calibration::NONE);
        self.room.map_or(0.0, |reached| {
            (reached + ROOM_GUARD + offset / slope).max(0.0)
        })
    }

    /// The score of a margin; one that is no number is no sound.
    fn probability(&self, margin: f32) -> f32 {
        if margin.is_nan() {
            return 0.0;
        }
        let calibration = self.calibration.unwrap_or(Calibration::NONE);
        let log_odds = calibration.log_odds(margin - self.shift());
        1.0 / (1.0 + (-log_odds.clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)).exp())
    }
}

/// What of the background fits a sound best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rival {
    /// Its phrase, of [`background`].
    pub phrase: &'static str,
    /// Its cosine with the sound.
    pub cosine: f32,
}

/// What a prompt has of a sound, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The prompt.
    pub name: Arc<str>,
    /// Its cosine with the sound, from -1 to 1.
    pub cosine: f32,
    /// What of the background fits best, where anything fits at all.
    pub rival: Option<Rival>,
    /// How far the prompt is above the background, in log-odds before calibration.
    pub margin: f32,
    /// What the room takes off the margin.
    pub shift: f32,
    /// The score, from 0 to 1.
    pub probability: f32,
    /// Whether clips of the sound were known when the score was calibrated.
    pub calibrated: bool,
    /// The least score that counts.
    pub threshold: f32,
}

impl Scored {
    /// Whether the background is nearer than the prompt.
    pub fn is_rejected(&self) -> bool {
        self.margin.is_nan() || self.margin <= 0.0
    }
}

/// Prompts with their embeddings, the background and the room.
#[derive(Debug, Clone)]
pub struct PromptSet {
    prompts: Vec<Ready>,
    background: Vec<Vec<f32>>,
    scale: f32,
    labels: Arc<[Arc<str>]>,
    thresholds: Arc<[Option<f32>]>,
}

impl Default for PromptSet {
    /// A set without prompts.
    fn default() -> Self {
        PromptSet::new(&[], Vec::new(), Vec::new(), &[], 1.0)
    }
}

impl PromptSet {
    /// Puts a set together: `embeddings` holds one of length 1 for each prompt, `background` one for each
    /// phrase of [`background`] in its order (or those of other phrases, which then have no names),
    /// `room` those of windows of the room, and `scale` is that of the checkpoint. Embeddings of the
    /// background or the room that are not numbers, or of another length, are left out.
    pub fn new(
        prompts: &[Prompt],
        embeddings: Vec<Vec<f32>>,
        background: Vec<Vec<f32>>,
        room: &[Vec<f32>],
        scale: f32,
    ) -> Self {
        let centre = centre(&background);
        let mut set = PromptSet {
            labels: prompts.iter().map(|prompt| prompt.name.clone()).collect(),
            thresholds: prompts
                .iter()
                .map(|prompt| Some(prompt.threshold))
                .collect(),
            prompts: Vec::new(),
            background,
            scale,
        };
        let mut embeddings = embeddings.into_iter();
        for prompt in prompts {
            let embedding = embeddings.next().unwrap_or_default();
            let mut ready = Ready {
                rivals: rivals(prompt, &embedding, &set.background, &centre),
                prompt: prompt.clone(),
                embedding,
                calibration: None,
                room: None,
            };
            let margins = room.iter().map(|heard| set.margin(&ready, heard)).collect();
            ready.room = quantile(margins, ROOM_QUANTILE);
            set.prompts.push(ready);
        }
        set
    }

    /// The same with what was measured of some of its prompts.
    #[must_use]
    pub fn calibrated(mut self, known: impl Fn(&Prompt) -> Option<Calibration>) -> Self {
        for ready in &mut self.prompts {
            ready.calibration = known(&ready.prompt).filter(|found| found.is_sound());
        }
        self
    }

    /// Whether there are no prompts.
    pub fn is_empty(&self) -> bool {
        self.prompts.is_empty()
    }

    /// The names of the prompts, in the order of the scores.
    pub fn labels(&self) -> Arc<[Arc<str>]> {
        self.labels.clone()
    }

    /// The thresholds of the prompts, in the order of the scores.
    pub fn thresholds(&self) -> Arc<[Option<f32>]> {
        self.thresholds.clone()
    }

    /// Writes the score of every prompt, from 0 to 1, for the embedding of a sound, of length 1. An
    /// embedding that is not numbers scores 0.
    pub fn score(&self, embedding: &[f32], scores: &mut Vec<f32>) {
        scores.clear();
        let heard = self.heard(embedding);
        scores.extend(self.prompts.iter().map(|ready| {
            let margin = self.margin_among(ready, embedding, &heard);
            ready.probability(margin)
        }));
    }

    /// The margin of every prompt for the embedding of a sound: what a [`Calibration`] is fitted on.
    pub fn margins(&self, embedding: &[f32]) -> Vec<f32> {
        let heard = self.heard(embedding);
        self.prompts
            .iter()
            .map(|ready| self.margin_among(ready, embedding, &heard))
            .collect()
    }

    /// The score of every prompt with what led to it.
    pub fn explain(&self, embedding: &[f32]) -> Vec<Scored> {
        let heard = self.heard(embedding);
        let names = background();
        let has_names = names.len() == self.background.len();
        self.prompts
            .iter()
            .map(|ready| {
                let margin = self.margin_among(ready, embedding, &heard);
                let best = best_of(&ready.rivals, &heard);
                Scored {
                    name: ready.prompt.name.clone(),
                    cosine: cosine(embedding, &ready.embedding),
                    rival: best.filter(|_| has_names).map(|(at, cosine)| Rival {
                        phrase: names[at],
                        cosine,
                    }),
                    margin,
                    shift: ready.shift(),
                    probability: ready.probability(margin),
                    calibrated: ready.calibration.is_some(),
                    threshold: ready.prompt.threshold,
                }
            })
            .collect()
    }

    /// The cosine of every background phrase with a sound.
    fn heard(&self, embedding: &[f32]) -> Vec<f32> {
        let cosines = self
            .background
            .iter()
            .map(|phrase| cosine(embedding, phrase));
        cosines.collect()
    }

    fn margin(&self, ready: &Ready, embedding: &[f32]) -> f32 {
        self.margin_among(ready, embedding, &self.heard(embedding))
    }

    fn margin_among(&self, ready: &Ready, embedding: &[f32], heard: &[f32]) -> f32 {
        let own = cosine(embedding, &ready.embedding);
        let best = best_of(&ready.rivals, heard).map_or(0.0, |(_, cosine)| cosine);
        self.scale * (own - best)
    }
}

/// The rival with the largest cosine above 0.
fn best_of(rivals: &[usize], heard: &[f32]) -> Option<(usize, f32)> {
    rivals
        .iter()
        .map(|&at| (at, heard[at]))
        .filter(|(_, cosine)| *cosine > 0.0)
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The cosine of two embeddings of length 1; no number where they are of different lengths.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::NAN;
    }
    similarity(a, b)
}

/// The mean of embeddings, not normalised.
fn centre(embeddings: &[Vec<f32>]) -> Vec<f32> {
    let numbers = || embeddings.iter().filter(|embedding| is_numbers(embedding));
    let mut sum = vec![0.0; numbers().next().map_or(0, Vec::len)];
    for embedding in numbers() {
        for (sum, value) in sum.iter_mut().zip(embedding) {
            *sum += value;
        }
    }
    let count = numbers().count().max(1) as f32;
    sum.iter_mut().for_each(|value| *value /= count);
    sum
}

/// The background phrases that mean something else than a prompt.
///
/// Texts of one model share much of their direction whatever they say, so that their likeness is
/// measured from the mean of the background.
fn rivals(
    prompt: &Prompt,
    embedding: &[f32],
    background: &[Vec<f32>],
    centre: &[f32],
) -> Vec<usize> {
    let from_centre = |embedding: &[f32]| -> Vec<f32> {
        normalise(embedding.iter().zip(centre).map(|(a, b)| a - b).collect())
    };
    let own = from_centre(embedding);
    let kin = fallback::kin_in_background(prompt);
    (0..background.len())
        .filter(|at| is_numbers(&background[*at]) && background[*at].len() == embedding.len())
        .filter(|at| similarity(&own, &from_centre(&background[*at])) <= SAME)
        .filter(|at| self::background().len() != background.len() || !kin.contains(at))
        .collect()
}

fn is_numbers(embedding: &[f32]) -> bool {
    !embedding.is_empty() && embedding.iter().all(|value| value.is_finite())
}

/// The value that a share `q` of the finite values reaches at most (nearest rank); `None` without values.
fn quantile(values: Vec<f32>, q: f32) -> Option<f32> {
    let mut values: Vec<f32> = values
        .into_iter()
        .filter(|value| value.is_finite())
        .collect();
    values.sort_by(f32::total_cmp);
    let rank = (values.len() as f32 * q).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}
