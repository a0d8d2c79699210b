//! From a few examples to a taught sound: its direction, its threshold, what to expect of it, and what
//! is odd about the examples.

use std::sync::Arc;

use super::TeachError;
use super::background::{Background, dot};
use super::card::{Card, Example, VERSION};
use super::clip::{Beat, Clip, Cut};
use super::resemblance::resemblance;
use super::sound::{Form, TaughtSound, likeness};
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
/// Logit of the score that the middle example gets when it is left out: a score of 0.88.
const MIDDLE_LOGIT: f32 = 2.0;
/// The distance from the threshold to the middle example is taken as at least this share of the
/// threshold, so that examples at the threshold do not make a cliff of the score.
const LEAST_RISE: f32 = 0.1;
/// An example that scores below this when it is left out is unlike the others.
const UNLIKE: f32 = 0.25;
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
    /// Where the sound itself lies.
    point: Vec<f32>,
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
        seen.push(see(&cut, kind, background, embedder)?);
    }
    let direction = direction(&seen, |_| true);
    if dot(&direction, &direction) < 0.5 {
        return Err(TeachError::Examples(
            "the examples have nothing in common that sets them apart from ordinary sound; give clearer ones".to_owned(),
        ));
    }
    let judge = |point: &[f32]| likeness(kind, &direction, point);
    let tails = tails(background, enrolment.room, judge);
    let threshold = tails
        .iter()
        .filter_map(|tail| tail.threshold(target))
        .reduce(f32::max)
        .ok_or_else(|| ModelError::Shape(format!("background of {}: too few points", info.name)))?;
    let left_out: Vec<f32> = (0..seen.len())
        .map(|out| {
            let others = self::direction(&seen, |at| at != out);
            live_likeness(kind, &others, &seen[out])
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
    if 2 * recognised < clips.len() || recognised + 2 <= clips.len() {
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
            .map(|tail| tail.per_hour(threshold))
            .fold(0.0, f64::max),
        expected_recall: recognised as f64 / clips.len() as f64,
        background_hours: background.hours(),
        background: background.card.material.clone(),
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
    kind: TaughtKind,
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
    let placed: Vec<Vec<f32>> = heart.iter().map(|e| background.place(e)).collect();
    let point = match kind {
        TaughtKind::Sound => mean(placed.iter()),
        // As they are compared: by direction alone.
        TaughtKind::Word => unit(mean(
            placed.into_iter().map(unit).collect::<Vec<_>>().iter(),
        )),
    };
    Ok(Seen {
        phases,
        heart,
        point,
    })
}

/// The unit vector from the background to the examples that `takes` takes.
fn direction(seen: &[Seen], takes: impl Fn(usize) -> bool) -> Vec<f32> {
    let taken = seen.iter().enumerate().filter(|(at, _)| takes(*at));
    unit(mean(taken.map(|(_, example)| &example.point)))
}

/// The likeness that live listening would reach on an example: of the best window, the mean over the
/// phases of the beat.
fn live_likeness(kind: TaughtKind, direction: &[f32], example: &Seen) -> f32 {
    let best: Vec<f32> = example
        .phases
        .iter()
        .filter_map(|phase| {
            phase
                .iter()
                .map(|point| likeness(kind, direction, point))
                .reduce(f32::max)
        })
        .collect();
    best.iter().sum::<f32>() / best.len().max(1) as f32
}

/// The tails of everything that should not be taken for the sound.
fn tails(background: &Background, room: Option<&Room>, judge: impl Fn(&[f32]) -> f32) -> Vec<Tail> {
    let mut tails = vec![background.tail(&judge)];
    if let Some(room) = room {
        let scores = room
            .embeddings
            .iter()
            .filter(|embedding| embedding.len() == background.dim())
            .map(|embedding| judge(&background.place(embedding)))
            .collect();
        tails.push(Tail::of(scores, room.windows, room.minutes / 60.0));
    }
    tails
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
    for (clip, &score) in clips.iter().zip(scores) {
        if score < UNLIKE {
            warnings.push(Warning::Disagrees {
                file: clip.name.clone(),
                score,
            });
        }
    }
    for (at, (clip, example)) in clips.iter().zip(seen).enumerate() {
        let twin = (0..at).find(|&other| same(&example.point, &seen[other].point));
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
                scores
                    .map(|e| known.form.score(known.kind, e))
                    .fold(0.0, f32::max)
            };
            let score = seen.iter().map(best).sum::<f32>() / seen.len() as f32;
            (score >= 0.5).then(|| Warning::Taught {
                name: known.name.to_string(),
                score,
            })
        })
        .collect()
}

fn mean<'a>(points: impl Iterator<Item = &'a Vec<f32>>) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    let mut count = 0;
    for point in points {
        sum.resize(point.len(), 0.0);
        sum.iter_mut().zip(point).for_each(|(sum, v)| *sum += v);
        count += 1;
    }
    sum.iter_mut().for_each(|v| *v /= count.max(1) as f32);
    sum
}

fn unit(mut point: Vec<f32>) -> Vec<f32> {
    let length = dot(&point, &point).sqrt();
    if length > 1e-9 {
        point.iter_mut().for_each(|v| *v /= length);
    }
    point
}
