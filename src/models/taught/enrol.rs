//! From a few examples to a taught sound: its direction, its threshold, what to expect of it, and what
//! is odd about the examples.

use std::sync::Arc;

use super::TeachError;
use super::background::{Background, dot};
use super::card::{Card, Example, VERSION};
use super::clip::{Beat, Clip, Cut};
use super::form::{Form, likeness};
use super::kin::kin;
use super::resemblance::resemblance;
use super::separate::{Separation, Side, unit};
use super::sound::TaughtSound;
use super::tail::Tail;
use super::warning::Warning;
use crate::command::TaughtKind;
use crate::config::prompt::check_name;
use crate::models::room::Room;
use crate::models::{Embedder, ModelError};

/// Fewest examples: with two, none is left to say which of them is odd.
pub const MIN_EXAMPLES: usize = 3;
/// Most examples; beyond this, training a model is the better way.
pub const MAX_EXAMPLES: usize = 8;
/// How many times as often as the background the sound of another hour reaches a threshold. For six
/// unseen sounds thresholds that took it as 1 gave 2.4 false accepts an hour where 1 was asked, and
/// as 2.6, with the noise of a room below the clips, 0.5 (`make taught-figures`, one half of the clips
/// as background and the other as the hour).
const UNHEARD: f64 = 1.6;
/// Logit of the score that the middle example gets when it is left out: a score of 0.88.
const MIDDLE_LOGIT: f32 = 2.0;
/// The distance from the threshold to the middle example is taken as at least this share of the
/// threshold, so that examples at the threshold do not make a cliff of the score.
const LEAST_RISE: f32 = 0.1;
/// Examples whose points are nearer than this share of their lengths are one recording.
const SAME: f32 = 0.04;
/// Sound shorter than this is named, in seconds.
const SHORT_S: f64 = 0.2;
/// A word longer than this is named, in seconds: what is compared and some more.
const LONG_WORD_S: f64 = 1.3;

/// What is to be learnt, and what is known already.
#[derive(Debug, Clone, Copy)]
pub struct Enrolment<'a> {
    /// Its name, the label of its events.
    pub name: &'a str,
    /// Sound or word.
    pub kind: TaughtKind,
    /// The examples.
    pub clips: &'a [Clip],
    /// False accepts an hour that the threshold is set for.
    pub target_fa_per_hour: f64,
    /// What everything else sounds like; `None`: what ships for the embedder, or made sounds.
    pub background: Option<&'a Background>,
    /// What the room sounds like to the embedder, where somebody has listened to it.
    pub room: Option<&'a Room>,
    /// Sounds that were taught before with the same embedder.
    pub known: &'a [TaughtSound],
}

/// A taught sound and what is odd about its examples.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// The sound.
    pub sound: TaughtSound,
    /// In the order of weight.
    pub warnings: Vec<Warning>,
}

/// An example along the axes of the background.
struct Seen {
    /// Windows as live listening sees them, phase by phase.
    phases: Vec<Vec<Vec<f32>>>,
    /// Embeddings of the windows that hold the sound.
    heart: Vec<Vec<f32>>,
    /// Where they lie, at unit length.
    points: Vec<Vec<f32>>,
    /// The middle of the points.
    middle: Vec<f32>,
}

/// Learns a sound from its examples.
///
/// # Errors
/// When the name will not do, there are too few or too many examples, the embedder fails, or its
/// background is damaged.
pub fn enrol(
    enrolment: &Enrolment<'_>,
    embedder: &mut dyn Embedder,
) -> Result<Enrolled, TeachError> {
    let &Enrolment {
        name, kind, clips, ..
    } = enrolment;
    check_name(name, "sound").map_err(TeachError::Name)?;
    check_count(clips.len())?;
    let target = enrolment.target_fa_per_hour;
    if !(target > 0.0 && target.is_finite()) {
        return Err(TeachError::Examples(format!(
            "a target of {target} false accepts an hour makes no sense; use a number over 0, such as 1"
        )));
    }
    let info = embedder.info().clone();
    let made;
    let background = match enrolment.background {
        Some(background) => background,
        None => match Background::shipped(&info)? {
            Some(background) => background,
            None => {
                made = Background::synthesised(embedder, kind)?;
                &made
            }
        },
    };
    let beat = Beat::of(kind, &info);
    let mut seen = Vec::with_capacity(clips.len());
    for clip in clips {
        let cut = clip.cut(kind, info.input, beat)?;
        seen.push(see(&cut, background, embedder)?);
    }
    let examples: Vec<&[Vec<f32>]> = seen.iter().map(|example| &example.points[..]).collect();
    let kin = kin(background, &examples);
    let negatives = Negatives::of(background, kin, enrolment.room);
    let whole = negatives.separate(&seen, |_| true, |_| true, None);
    let direction = whole.direction();
    if dot(&direction, &direction) < 0.5 {
        return Err(TeachError::Examples(
            "the examples have nothing in common that sets them apart from ordinary sound; give clearer ones".to_owned(),
        ));
    }
    let tails = negatives.tails(&seen, &whole);
    let threshold = tails
        .iter()
        .filter_map(|tail| tail.threshold(target / UNHEARD))
        .reduce(f32::max)
        .ok_or_else(|| ModelError::Shape(format!("background of {}: too few points", info.name)))?;
    let left_out: Vec<f32> = (0..seen.len())
        .map(|out| {
            let others = negatives.separate(&seen, |at| at != out, |_| true, Some(&whole));
            live_likeness(&others.direction(), &seen[out])
        })
        .collect();
    let form = Form {
        mean: background.frame().0.to_vec(),
        axes: background.frame().1.to_vec(),
        slope: slope(&left_out, threshold),
        direction,
        threshold,
    };
    let scores: Vec<f32> = left_out
        .iter()
        .map(|raw| 1.0 / (1.0 + (-(raw - threshold) * form.slope).exp()))
        .collect();
    let recognised = left_out.iter().filter(|raw| **raw >= threshold).count();

    let mut warnings = oddities(kind, clips, &seen, &scores);
    if 3 * recognised < 2 * clips.len() {
        warnings.push(Warning::Weak {
            recognised,
            of: clips.len(),
            target_fa_per_hour: target,
        });
    }
    warnings.extend(resemblance(kind, clips)?);
    warnings.extend(like_known(enrolment, &seen));
    if enrolment.background.is_none() && background.is_made() {
        warnings.push(Warning::NoSpeech {
            embedder: info.name.to_string(),
        });
    }
    let card = Card {
        version: VERSION,
        name: name.to_owned(),
        kind: kind.as_str().to_owned(),
        embedder: info.name.to_string(),
        embedder_sha256: info.sha256.to_string(),
        window_frames: beat.window_frames,
        hop_frames: beat.hop_frames,
        examples: clips
            .iter()
            .zip(&scores)
            .map(|(clip, &left_out_score)| Example {
                name: clip.name.clone(),
                seconds: (clip.seconds() * 1000.0).round() / 1000.0,
                left_out_score,
            })
            .collect(),
        target_fa_per_hour: target,
        expected_fa_per_hour: tails
            .iter()
            .map(|tail| UNHEARD * tail.per_hour(threshold))
            .fold(0.0, f64::max),
        expected_recall: recognised as f64 / clips.len() as f64,
        background_hours: background.hours(),
        background: match kin {
            Some(label) => format!("{}; without {label}", background.card.material),
            None => background.card.material.clone(),
        },
        room: enrolment.room.is_some(),
        warnings: warnings.iter().map(ToString::to_string).collect(),
        taught: jiff::Timestamp::now().to_string(),
    };
    Ok(Enrolled {
        sound: TaughtSound {
            name: Arc::from(name),
            kind,
            card,
            form,
        },
        warnings,
    })
}

/// Whether so many examples will do.
///
/// # Errors
/// When they are too few or too many; the text says how many there should be.
pub(super) fn check_count(count: usize) -> Result<(), TeachError> {
    match count {
        0..MIN_EXAMPLES => Err(TeachError::Examples(format!(
            "{count} examples are too few: give {MIN_EXAMPLES} to {MAX_EXAMPLES} different recordings of the sound"
        ))),
        MIN_EXAMPLES..=MAX_EXAMPLES => Ok(()),
        _ => Err(TeachError::Examples(format!(
            "{count} examples are too many: give {MIN_EXAMPLES} to {MAX_EXAMPLES} that differ; with more, train a model ('hark train')"
        ))),
    }
}

/// Embeds the windows of an example.
fn see(
    cut: &Cut,
    background: &Background,
    embedder: &mut dyn Embedder,
) -> Result<Seen, ModelError> {
    let mut embed = |window: &Vec<f32>| -> Result<Vec<f32>, ModelError> {
        let mut embedding = Vec::new();
        embedder.embed(window, &mut embedding)?;
        match embedding.len() == background.dim() && embedding.iter().all(|v| v.is_finite()) {
            true => Ok(embedding),
            false => Err(ModelError::Shape(format!(
                "{}: expected {} finite values, got {}",
                background.card.embedder,
                background.dim(),
                embedding.len()
            ))),
        }
    };
    let heart: Vec<Vec<f32>> = cut.heart.iter().map(&mut embed).collect::<Result<_, _>>()?;
    let mut phases = Vec::with_capacity(cut.phases.len());
    for phase in &cut.phases {
        let points = phase
            .iter()
            .map(|window| Ok(background.place(&embed(window)?)))
            .collect::<Result<Vec<_>, ModelError>>()?;
        phases.push(points);
    }
    let points: Vec<Vec<f32>> = heart.iter().map(|e| unit(background.place(e))).collect();
    Ok(Seen {
        phases,
        middle: mean(&points),
        heart,
        points,
    })
}

/// The likeness that live listening would reach on an example: of the best window, the mean over the
/// phases of the beat.
fn live_likeness(direction: &[f32], example: &Seen) -> f32 {
    let best: Vec<f32> = example
        .phases
        .iter()
        .filter_map(|phase| {
            phase
                .iter()
                .map(|point| likeness(direction, point))
                .reduce(f32::max)
        })
        .collect();
    best.iter().sum::<f32>() / best.len().max(1) as f32
}

/// Everything that should not be taken for the sound, along the axes and at unit length.
struct Negatives<'a> {
    points: Vec<Vec<f32>>,
    background: &'a Background,
    /// How many of the points are of the background.
    of_background: usize,
    /// The room, whose points stand last.
    room: Option<&'a Room>,
}

impl<'a> Negatives<'a> {
    /// Those of the background but for the label that is the sound itself, and those of the room.
    fn of(background: &'a Background, kin: Option<&str>, room: Option<&'a Room>) -> Self {
        let of_room = room
            .into_iter()
            .flat_map(|room| &room.embeddings)
            .filter(|embedding| embedding.len() == background.dim())
            .map(|embedding| unit(background.place(embedding)));
        let others = background
            .points()
            .enumerate()
            .filter(|(at, _)| kin.is_none() || background.label_of(*at) != kin);
        let mut points: Vec<Vec<f32>> = others.map(|(_, point)| unit(point.to_vec())).collect();
        let of_background = points.len();
        points.extend(of_room);
        Negatives {
            points,
            background,
            of_background,
            room,
        }
    }

    /// Sets the examples that `takes` takes apart from the points that `against` takes.
    fn separate(
        &self,
        seen: &[Seen],
        takes: impl Fn(usize) -> bool,
        against: impl Fn(usize) -> bool,
        near: Option<&Separation>,
    ) -> Separation {
        let taken = seen.iter().enumerate().filter(|(at, _)| takes(*at));
        let side: Side = taken
            .flat_map(|(_, example)| {
                // All examples weigh the same, however long they are.
                let weight = 1.0 / example.points.len().max(1) as f64;
                example.points.iter().map(move |point| (&point[..], weight))
            })
            .collect();
        let points = self.points.iter().enumerate();
        let points: Vec<&[f32]> = points
            .filter(|(at, _)| against(*at))
            .map(|(_, point)| &point[..])
            .collect();
        Separation::of(&side, &points, near)
    }

    /// How high the background and the room score. Each half of them is scored by what was learned from
    /// the other, because a point that was learned from scores lower than a new one.
    fn tails(&self, seen: &[Seen], whole: &Separation) -> Vec<Tail> {
        let mut scores = vec![0.0; self.points.len()];
        for half in 0..2 {
            let learned = self.separate(seen, |_| true, |at| at % 2 != half, Some(whole));
            let direction = learned.direction();
            let judged = scores.iter_mut().zip(&self.points).skip(half).step_by(2);
            judged.for_each(|(score, point)| *score = likeness(&direction, point));
        }
        let of_room = scores.split_off(self.of_background);
        let mut tails = vec![self.background.tail(scores)];
        if let Some(room) = self.room {
            tails.push(Tail::of(of_room, room.windows, room.minutes / 60.0));
        }
        tails
    }
}

/// How fast the score rises: the middle example, left out, gets [`MIDDLE_LOGIT`].
fn slope(left_out: &[f32], threshold: f32) -> f32 {
    let mut sorted = left_out.to_vec();
    sorted.sort_by(f32::total_cmp);
    let rise = sorted[sorted.len() / 2] - threshold;
    MIDDLE_LOGIT / rise.max(LEAST_RISE * threshold.abs()).max(1e-3)
}

/// What is odd about single examples.
fn oddities(kind: TaughtKind, clips: &[Clip], seen: &[Seen], scores: &[f32]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    // Where most are missed it is not one of them that is odd.
    let recognised = scores.iter().filter(|score| **score >= 0.5).count();
    for (clip, &score) in clips.iter().zip(scores) {
        if score < 0.5 && 2 * recognised >= clips.len() {
            warnings.push(Warning::Disagrees {
                file: clip.name.clone(),
                score,
            });
        }
    }
    for (at, (clip, example)) in clips.iter().zip(seen).enumerate() {
        let twin = (0..at).find(|&other| same(&example.middle, &seen[other].middle));
        if let Some(other) = twin {
            warnings.push(Warning::Same {
                file: clip.name.clone(),
                other: clips[other].name.clone(),
            });
        }
    }
    for clip in clips {
        let file = clip.name.clone();
        let seconds = clip.sounding_s(kind);
        if clip.is_clipped() {
            warnings.push(Warning::Clipped { file });
        } else if seconds < SHORT_S {
            warnings.push(Warning::Short { file, seconds });
        } else if kind == TaughtKind::Word && seconds > LONG_WORD_S {
            warnings.push(Warning::Long { file, seconds });
        }
    }
    warnings
}

/// Whether two points are of one recording.
fn same(a: &[f32], b: &[f32]) -> bool {
    let apart: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    let lengths = dot(a, a).sqrt() + dot(b, b).sqrt();
    apart.sqrt() < SAME * lengths
}

/// Sounds that were taught before and that the examples are like.
fn like_known(enrolment: &Enrolment<'_>, seen: &[Seen]) -> Vec<Warning> {
    let others = enrolment
        .known
        .iter()
        .filter(|known| *known.name != *enrolment.name);
    others
        .filter_map(|known| {
            let best = |example: &Seen| {
                let fits = |e: &&Vec<f32>| e.len() == known.dim();
                let scores = example.heart.iter().filter(fits);
                scores.map(|e| known.form.score(e)).fold(0.0, f32::max)
            };
            let score = seen.iter().map(best).sum::<f32>() / seen.len() as f32;
            (score >= 0.5).then(|| Warning::Taught {
                name: known.name.to_string(),
                score,
            })
        })
        .collect()
}

fn mean(points: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; points.first().map_or(0, Vec::len)];
    for point in points {
        sum.iter_mut().zip(point).for_each(|(sum, v)| *sum += v);
    }
    let share = 1.0 / points.len().max(1) as f32;
    sum.iter_mut().for_each(|v| *v *= share);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synth::{self, Sound};
    use crate::models::Embedder;
    use crate::models::taught::embedder_for;

    /// Renderings of a sound, each unlike the others.
    fn clips(sound: Sound, seeds: std::ops::Range<u64>) -> Vec<Clip> {
        seeds
            .map(|seed| {
                let mut rng = fastrand::Rng::with_seed(seed);
                let pcm = synth::render(sound, &mut rng, 1.5);
                Clip::new(&format!("{seed}.wav"), pcm).unwrap()
            })
            .collect()
    }

    fn enrolment<'a>(name: &'a str, clips: &'a [Clip]) -> Enrolment<'a> {
        Enrolment {
            name,
            kind: TaughtKind::Sound,
            clips,
            target_fa_per_hour: 1.0,
            background: None,
            room: None,
            known: &[],
        }
    }

    fn embedder() -> Box<dyn Embedder> {
        embedder_for(TaughtKind::Sound).unwrap()
    }

    /// The best score that a sound gives a clip on the beat of live listening.
    fn best(sound: &TaughtSound, clip: &Clip, embedder: &mut dyn Embedder) -> f32 {
        let info = embedder.info().clone();
        let beat = Beat::of(sound.kind, &info);
        let cut = clip.cut(sound.kind, info.input, beat).unwrap();
        let scores = cut.phases[1].iter().map(|window| {
            let mut embedding = Vec::new();
            embedder.embed(window, &mut embedding).unwrap();
            sound.score(&embedding).unwrap()
        });
        scores.fold(0.0, f32::max)
    }

    #[test]
    fn a_sound_is_known_again_and_others_are_not_taken_for_it() {
        let mut embedder = embedder();
        let examples = clips(Sound::Telephone, 0..5);
        let enrolled = enrol(&enrolment("telephone", &examples), &mut *embedder).unwrap();
        let card = &enrolled.sound.card;
        assert!(card.expected_recall >= 0.8, "{card:?}");
        assert!(card.expected_fa_per_hour <= 1.01, "{card:?}");
        assert_eq!(card.examples.len(), 5);
        for clip in clips(Sound::Telephone, 10..13) {
            let score = best(&enrolled.sound, &clip, &mut *embedder);
            assert!(score >= 0.5, "{} {score}", clip.name);
        }
        for other in [Sound::Dishes, Sound::Rain, Sound::Knock, Sound::Music] {
            let score = best(&enrolled.sound, &clips(other, 20..21)[0], &mut *embedder);
            assert!(score < 0.5, "{other:?} {score}");
        }
    }

    #[test]
    fn fewer_false_accepts_ask_for_a_higher_threshold() {
        let (mut embedder, examples) = (embedder(), clips(Sound::Telephone, 0..4));
        let mut strict = enrolment("a", &examples);
        let lax = enrol(&strict, &mut *embedder).unwrap();
        strict.target_fa_per_hour = 0.01;
        let strict = enrol(&strict, &mut *embedder).unwrap();
        assert!(strict.sound.form.threshold > lax.sound.form.threshold);
        let text = enrol(
            &Enrolment {
                target_fa_per_hour: 0.0,
                ..enrolment("a", &examples)
            },
            &mut *embedder,
        )
        .unwrap_err()
        .to_string();
        assert!(text.contains("a number over 0"), "{text}");
    }

    #[test]
    fn the_example_that_does_not_belong_is_named_and_so_is_a_copy() {
        let mut embedder = embedder();
        let mut examples = clips(Sound::Telephone, 0..4);
        examples.push(clips(Sound::Dishes, 77..78).remove(0));
        examples.push(examples[0].clone());
        let enrolled = enrol(&enrolment("telephone", &examples), &mut *embedder).unwrap();
        let of = |is: &dyn Fn(&Warning) -> bool| enrolled.warnings.iter().any(is);
        assert!(
            of(&|w| matches!(w, Warning::Disagrees { file, .. } if file == "77.wav")),
            "{:?}",
            enrolled.warnings
        );
        assert!(of(
            &|w| matches!(w, Warning::Same { other, .. } if other == "0.wav")
        ));
        let odd = enrolled.warnings.iter();
        let odd = odd.filter(|w| matches!(w, Warning::Disagrees { .. }));
        assert!(odd.count() <= 2, "{:?}", enrolled.warnings);
    }

    #[test]
    fn a_sound_that_has_a_label_or_was_taught_before_is_said() {
        let mut embedder = embedder();
        let examples = clips(Sound::SmokeAlarm, 0..4);
        let first = enrol(&enrolment("beeps", &examples), &mut *embedder).unwrap();
        let is_label = |w: &Warning| matches!(w, Warning::Label { label, .. } if label == "Smoke detector, smoke alarm");
        assert!(first.warnings.iter().any(is_label), "{:?}", first.warnings);
        let known = [first.sound];
        let again = Enrolment {
            known: &known,
            ..enrolment("other beeps", &examples)
        };
        let again = enrol(&again, &mut *embedder).unwrap();
        let is_taught = |w: &Warning| matches!(w, Warning::Taught { name, .. } if name == "beeps");
        assert!(again.warnings.iter().any(is_taught), "{:?}", again.warnings);
    }

    #[test]
    fn the_rooms_own_sound_raises_the_threshold() {
        let (mut embedder, examples) = (embedder(), clips(Sound::Telephone, 0..4));
        let plain = enrol(&enrolment("a", &examples), &mut *embedder).unwrap();
        let info = embedder.info().clone();
        let beat = Beat::of(TaughtKind::Sound, &info);
        let mut embeddings = Vec::new();
        for clip in clips(Sound::Telephone, 30..45) {
            let cut = clip.cut(TaughtKind::Sound, info.input, beat).unwrap();
            for window in cut.heart {
                let mut embedding = Vec::new();
                embedder.embed(&window, &mut embedding).unwrap();
                embeddings.push(embedding);
            }
        }
        let room = Room {
            model: info.name.to_string(),
            model_sha256: info.sha256.to_string(),
            windows: embeddings.len() as u64,
            embeddings,
            minutes: 1.0,
            window_s: 1.0,
            hop_s: 0.5,
            when: std::time::SystemTime::UNIX_EPOCH,
        };
        let noisy = Enrolment {
            room: Some(&room),
            ..enrolment("a", &examples)
        };
        let noisy = enrol(&noisy, &mut *embedder).unwrap();
        assert!(noisy.sound.card.room);
        assert!(noisy.sound.form.threshold > plain.sound.form.threshold);
    }

    #[test]
    fn too_few_and_too_many_examples_are_refused_with_what_to_do() {
        let examples = clips(Sound::Telephone, 0..2);
        let error = enrol(&enrolment("a", &examples), &mut *embedder()).unwrap_err();
        assert!(error.to_string().contains("give 3 to 8"), "{error}");
        let error = check_count(9).unwrap_err();
        assert!(
            error.to_string().contains("9 examples are too many"),
            "{error}"
        );
        assert!(check_count(3).is_ok() && check_count(8).is_ok());
    }
}
