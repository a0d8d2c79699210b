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
//! margin, and whenever a background phrase fits better than the prompt the margin is below 0 and the score,
//! where nothing else was measured, below one half. That is the reject option, and the phrase that won can
//! be named. The floor at a cosine of 0 keeps a sound
//! that nothing describes from being the prompt for want of anything better.
//!
//! Prompts do not compete: a window may be all of them. Background phrases that mean the same as the
//! prompt are no rivals of it and are left out ([`super::rivals`]).
//!
//! **The room.** Whatever the room keeps sounding like must not be reported, so that what it reaches
//! in all but one of a hundred windows scores below one half. A room never raises a score. It says
//! nothing of how sure a prompt is; that is what [`super::Calibration`] measures, and without one the margin
//! is taken as log-odds as it stands. No score is beyond 0.001 and 0.999.

use std::sync::Arc;

use super::rivals::Centred;
use super::{Calibration, Prompt, background};
use crate::models::clap::similarity;

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
    /// Whether the sound is rather something else: the background, or what the room keeps sounding like.
    pub fn is_rejected(&self) -> bool {
        self.probability <= 0.5
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
        let centred = Centred::new(&background);
        let mut embeddings = embeddings.into_iter();
        let ready = prompts.iter().map(|prompt| {
            let embedding = embeddings.next().unwrap_or_default();
            Ready {
                rivals: centred.rivals(prompt, &embedding),
                prompt: prompt.clone(),
                embedding,
                calibration: None,
                room: None,
            }
        });
        let mut set = PromptSet {
            prompts: ready.collect(),
            labels: prompts.iter().map(|prompt| prompt.name.clone()).collect(),
            thresholds: prompts
                .iter()
                .map(|prompt| Some(prompt.threshold))
                .collect(),
            background,
            scale,
        };
        let reached: Vec<Vec<f32>> = room.iter().map(|heard| set.margins(heard)).collect();
        for (at, ready) in set.prompts.iter_mut().enumerate() {
            let margins = reached.iter().map(|margins| margins[at]).collect();
            ready.room = quantile(margins, ROOM_QUANTILE);
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
            let margin = self.margin(ready, embedding, &heard);
            ready.probability(margin)
        }));
    }

    /// The margin of every prompt for the embedding of a sound: what a [`Calibration`] is fitted on.
    pub fn margins(&self, embedding: &[f32]) -> Vec<f32> {
        let heard = self.heard(embedding);
        self.prompts
            .iter()
            .map(|ready| self.margin(ready, embedding, &heard))
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
                let margin = self.margin(ready, embedding, &heard);
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

    fn margin(&self, ready: &Ready, embedding: &[f32], heard: &[f32]) -> f32 {
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

/// The cosine of two embeddings of length 1; NaN where they are not numbers or of different lengths.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::NAN;
    }
    let cosine = similarity(a, b);
    if cosine.is_finite() { cosine } else { f32::NAN }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::models::clap::normalise;

    const SCALE: f32 = 18.6;
    const DIM: usize = 12;

    fn prompts(count: usize) -> Vec<Prompt> {
        (0..count)
            .map(|n| Prompt {
                name: format!("prompt {n}").into(),
                phrases: vec![format!("zzz {n}")],
                threshold: 0.5,
            })
            .collect()
    }

    fn unit() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1.0f32..1.0, DIM).prop_map(normalise)
    }

    fn units(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<f32>>> {
        prop::collection::vec(unit(), count)
    }

    fn set(prompt: &[f32], background: &[Vec<f32>], room: &[Vec<f32>]) -> PromptSet {
        PromptSet::new(
            &prompts(1),
            vec![prompt.to_vec()],
            background.to_vec(),
            room,
            SCALE,
        )
    }

    fn score(set: &PromptSet, heard: &[f32]) -> f32 {
        let mut scores = Vec::new();
        set.score(heard, &mut scores);
        scores[0]
    }

    /// A sound of these cosines with the first axes, of length 1.
    fn with(cosines: &[f32]) -> Vec<f32> {
        let mut sound = vec![0.0; DIM];
        sound[..cosines.len()].copy_from_slice(cosines);
        let rest: f32 = 1.0 - cosines.iter().map(|c| c * c).sum::<f32>();
        sound[DIM - 1] = rest.max(0.0).sqrt();
        sound
    }

    fn axis(at: usize) -> Vec<f32> {
        let mut axis = vec![0.0; DIM];
        axis[at] = 1.0;
        axis
    }

    proptest! {
        #[test]
        fn more_background_never_raises_a_score(
            prompt in unit(), background in units(0..8), more in units(1..8), heard in unit()
        ) {
            let (few, all) = (background.clone(), [background, more].concat());
            let (few, all) = (set(&prompt, &few, &[]), set(&prompt, &all, &[]));
            // Where none of them means the same as the prompt.
            prop_assume!(few.prompts[0].rivals.len() == few.background.len());
            prop_assume!(all.prompts[0].rivals.len() == all.background.len());
            prop_assert!(score(&all, &heard) <= score(&few, &heard));
        }

        #[test]
        fn a_room_never_raises_a_score_and_stays_below_one_half(
            prompt in unit(), background in units(0..8), room in units(1..60), heard in unit(),
            slope in 0.1f32..4.0, offset in -4.0f32..4.0, measured: bool
        ) {
            let calibration = measured.then_some(Calibration { slope, offset });
            let before = set(&prompt, &background, &[]).calibrated(|_| calibration);
            let after = set(&prompt, &background, &room).calibrated(|_| calibration);
            prop_assert!(score(&after, &heard) <= score(&before, &heard));
            for heard in &room {
                prop_assert!(score(&after, heard) < 0.5);
            }
        }

        #[test]
        fn a_phrase_that_fits_better_than_the_prompt_rejects_it(
            prompt in unit(), background in units(1..16), heard in unit()
        ) {
            let set = set(&prompt, &background, &[]);
            let scored = &set.explain(&heard)[0];
            let rivals = &set.prompts[0].rivals;
            let wins = rivals.iter().any(|&at| similarity(&heard, &background[at]) > scored.cosine);
            if wins {
                prop_assert!(scored.is_rejected() && scored.probability < 0.5 && scored.margin < 0.0);
            }
        }

        #[test]
        fn a_score_rises_with_the_similarity_and_never_reaches_certainty(
            own in -0.9f32..0.9, less in 0.001f32..0.5, others in prop::collection::vec(-0.2f32..0.2, 3),
            slope in 0.1f32..4.0, offset in -4.0f32..4.0
        ) {
            let background: Vec<Vec<f32>> = (1..4).map(axis).collect();
            let heard = |own: f32| with(&[&[own], &others[..]].concat());
            for calibration in [None, Some(Calibration { slope, offset })] {
                let set = set(&axis(0), &background, &[]).calibrated(|_| calibration);
                let (near, far) = (score(&set, &heard(own)), score(&set, &heard(own - less)));
                prop_assert!(near >= far, "{near} {far}");
                prop_assert!(near < 1.0 && far > 0.0);
            }
        }

        #[test]
        fn explaining_and_scoring_agree(
            embeddings in units(1..5), background in units(0..8), room in units(0..8), heard in unit()
        ) {
            let prompts = prompts(embeddings.len());
            let set = PromptSet::new(&prompts, embeddings, background, &room, SCALE);
            let mut scores = Vec::new();
            set.score(&heard, &mut scores);
            let explained = set.explain(&heard);
            prop_assert_eq!(explained.len(), scores.len());
            prop_assert_eq!(set.margins(&heard).len(), scores.len());
            for (scored, score) in explained.iter().zip(scores) {
                prop_assert_eq!(scored.probability, score);
                prop_assert!(scored.shift >= 0.0);
            }
        }

        #[test]
        fn numbers_that_are_none_give_no_score_and_no_panic(
            mut prompt in unit(), mut background in units(1..6), mut room in units(1..6),
            mut heard in unit(), spoilt in 0usize..4, value in prop::sample::select(
                vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY])
        ) {
            match spoilt {
                0 => prompt[3] = value,
                1 => background[0][3] = value,
                2 => room[0][3] = value,
                _ => heard[3] = value,
            }
            let set = set(&prompt, &background, &room);
            let score = score(&set, &heard);
            prop_assert!((0.0..1.0).contains(&score), "{score}");
            if spoilt == 0 || spoilt == 3 {
                prop_assert!(score < 1e-6, "{score}");
            }
        }
    }

    #[test]
    fn prompts_do_not_compete_with_each_other() {
        let alone = set(&axis(0), &[axis(4)], &[]);
        let twice = PromptSet::new(
            &prompts(2),
            vec![axis(0), axis(0)],
            vec![axis(4)],
            &[],
            SCALE,
        );
        let heard = with(&[0.5, 0.0, 0.0, 0.0, 0.3]);
        let mut scores = Vec::new();
        twice.score(&heard, &mut scores);
        assert_eq!(scores, [score(&alone, &heard); 2]);
        // 1 / (1 + exp(-18.6 (0.5 - 0.3)))
        assert!((scores[0] - 0.9763).abs() < 1e-3, "{scores:?}");
    }

    #[test]
    fn a_phrase_said_twice_counts_once() {
        let (once, twice) = (
            vec![axis(1), axis(2)],
            vec![axis(1), axis(2), axis(2), axis(2)],
        );
        let heard = with(&[0.4, 0.1, 0.3]);
        let of = |background: &[Vec<f32>]| score(&set(&axis(0), background, &[]), &heard);
        assert_eq!(of(&once), of(&twice));
    }

    #[test]
    fn a_prompt_alone_is_not_certain_of_anything() {
        let alone = set(&axis(0), &[], &[]);
        assert!((score(&alone, &axis(1)) - 0.5).abs() < 1e-6);
        assert!(score(&alone, &with(&[-0.1])) < 0.2);
        let best = score(&alone, &axis(0));
        assert!(best < 0.9995, "{best}");
    }

    #[test]
    fn a_phrase_that_means_the_prompt_is_no_rival() {
        // Near in the space, as seen from the middle of the background.
        let near = with(&[0.99]);
        let others = vec![near.clone(), axis(1), axis(2), axis(3)];
        let set = set(&axis(0), &others, &[]);
        assert_eq!(set.prompts[0].rivals, [1, 2, 3]);
        assert!(score(&set, &near) > 0.99);
        // Known to mean the same, whatever the space says.
        let phrases = background_of_axes();
        let prompt = Prompt {
            name: "dog".into(),
            phrases: vec!["dog bark".into()],
            threshold: 0.5,
        };
        let set = PromptSet::new(&[prompt], vec![far()], phrases, &[], SCALE);
        let names = background();
        let rivals: Vec<&str> = set.prompts[0].rivals.iter().map(|&at| names[at]).collect();
        assert!(!rivals.contains(&"a dog barking"));
        assert!(rivals.contains(&"a cat meowing") && rivals.contains(&"rain"));
    }

    /// One direction for each phrase of the background.
    fn background_of_axes() -> Vec<Vec<f32>> {
        let count = background().len();
        let axis = |at: usize| (0..count).map(|n| f32::from(u8::from(n == at))).collect();
        (0..count).map(axis).collect()
    }

    fn far() -> Vec<f32> {
        normalise(vec![-1.0; background().len()])
    }

    #[test]
    fn what_won_is_named_with_the_room_and_the_calibration() {
        let phrases = background_of_axes();
        let prompt = Prompt {
            name: "amp".into(),
            phrases: vec!["a vintage tube guitar amplifier".into()],
            threshold: 0.7,
        };
        let rain = background()
            .iter()
            .position(|phrase| *phrase == "rain")
            .unwrap();
        let room = vec![normalise(phrases[rain].iter().map(|v| v - 0.5).collect())];
        let set = PromptSet::new(&[prompt], vec![far()], phrases.clone(), &room, SCALE);
        assert!(!set.is_empty());
        assert_eq!(*set.labels(), [Arc::from("amp")]);
        assert_eq!(*set.thresholds(), [Some(0.7)]);
        let scored = set.explain(&phrases[rain]).remove(0);
        let rival = scored.rival.unwrap();
        assert_eq!((rival.phrase, rival.cosine), ("rain", 1.0));
        assert!(scored.is_rejected() && !scored.calibrated && scored.shift > 0.0);
        let calibration = Calibration {
            slope: 2.0,
            offset: 1.0,
        };
        let calibrated = set.calibrated(|prompt| (&*prompt.name == "amp").then_some(calibration));
        assert!(calibrated.explain(&phrases[rain])[0].calibrated);
    }

    #[test]
    fn a_calibration_that_falls_is_not_taken() {
        let wrong = Calibration {
            slope: -1.0,
            offset: 0.0,
        };
        let set = set(&axis(0), &[], &[]).calibrated(|_| Some(wrong));
        assert!(!set.explain(&axis(0))[0].calibrated);
    }

    #[test]
    fn a_set_without_prompts_scores_nothing() {
        let mut scores = vec![1.0];
        PromptSet::default().score(&axis(0), &mut scores);
        assert!(scores.is_empty() && PromptSet::default().is_empty());
    }

    #[test]
    fn a_quantile_is_a_value_that_was_there() {
        let values = |count: usize| (0..count).map(|n| n as f32).collect::<Vec<_>>();
        assert_eq!(quantile(values(0), 0.99), None);
        assert_eq!(quantile(vec![f32::NAN], 0.99), None);
        assert_eq!(quantile(values(1), 0.99), Some(0.0));
        assert_eq!(quantile(values(50), 0.99), Some(49.0));
        assert_eq!(quantile(values(200), 0.99), Some(197.0));
    }
}
