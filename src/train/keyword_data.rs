//! Examples for the keyword model: a word in a second and a half of room, or the absence of one.
//!
//! Two placements. *Aligned*: the clip lies in the last second as it was stored, and the network is
//! trained from reset on that second alone, as a clip is judged. *Streamed*: half a second of
//! context goes before, and the word has ended 30 to 450 ms before the end, as a daemon hears it.

use std::sync::Arc;

use fastrand::Rng;

use super::{
    augment::{self, chance, uniform},
    espeak::{self, Voice},
    hard::{self, Mistake},
    library::{Library, Sound},
    manifest::{Clip, Split},
    pool::{Draft, ExampleSource, SPAN},
};
use crate::audio::{AudioError, synth};
use crate::nn::weights::Checkpoint;

/// What the keyword model answers, in order; the first twelve are those of Speech Commands in the
/// order of ARM's KWT-1, so that its scores can be taken over as they are.
pub const LABELS: [&str; 15] = [
    "_silence_",
    "_unknown_",
    "yes",
    "no",
    "up",
    "down",
    "left",
    "right",
    "on",
    "off",
    "stop",
    "go",
    "computer",
    "jarvis",
    "alexa",
];
/// Labels that the teacher knows: the first ones.
pub const TEACHER_LABELS: usize = 12;
/// Index of the first word.
const FIRST_WORD: usize = 2;
const SILENCE: usize = 0;
const UNKNOWN: usize = 1;

/// The clips by what they are for.
pub struct KeywordData {
    library: Arc<Library>,
    words: Vec<Vec<usize>>,
    unknown: Vec<Vec<usize>>,
    noise: Vec<Vec<usize>>,
    /// Words and sentences of a speech synthesiser, as negatives alone.
    spoken: Vec<Vec<f32>>,
    /// Where a model that is trained further took other sound for a word.
    mistakes: Vec<Mistake>,
}

/// What label a clip has for the keyword model; `None` where it is no single word.
pub fn label_of(clip: &Clip) -> Option<usize> {
    match clip.set.as_str() {
        "keywords" | "wakewords" => Some(
            LABELS
                .iter()
                .position(|label| *label == clip.label)
                .unwrap_or(UNKNOWN),
        ),
        "digits" => Some(UNKNOWN),
        _ => None,
    }
}

impl KeywordData {
    /// Sorts the training clips of a library.
    pub fn new(library: Arc<Library>) -> Self {
        let pick = |is: &dyn Fn(&Clip) -> bool| -> Vec<usize> {
            (0..library.sounds.len())
                .filter(|&at| {
                    let sound = &library.sounds[at];
                    sound.clip.split == Split::Train && !sound.is_empty() && is(&sound.clip)
                })
                .collect()
        };
        let words = (FIRST_WORD..LABELS.len())
            .map(|label| pick(&|clip| label_of(clip) == Some(label)))
            .collect();
        let unknown = vec![
            pick(&|clip| clip.set == "keywords" && clip.label == "_unknown_"),
            pick(&|clip| clip.set == "wakewords" && label_of(clip) == Some(UNKNOWN)),
            pick(&|clip| clip.set == "speech" && clip.label != "_background_noise_"),
            pick(&|clip| clip.set == "digits"),
        ];
        let noise = vec![
            pick(&|clip| clip.label == "_background_noise_"),
            pick(&|clip| clip.label == "_silence_"),
            pick(&|clip| clip.set == "events"),
        ];
        KeywordData {
            library,
            words,
            unknown,
            noise,
            spoken: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    /// Looks for the mistakes of a trained model among the negatives, to be drawn often from now
    /// on, and says how many there are.
    pub fn mine(&mut self, model: &Checkpoint) -> usize {
        let library = &self.library;
        self.mistakes = hard::mistakes(model, library, FIRST_WORD, |at| {
            label_of(&library.sounds[at].clip).is_none_or(|label| label < FIRST_WORD)
        });
        self.mistakes.len()
    }

    /// The second and a half that ends about where a word was heard by mistake.
    fn mistake(&self, rng: &mut Rng) -> Option<Draft> {
        let Mistake { sound, end } = *self
            .mistakes
            .get(rng.usize(0..self.mistakes.len().max(1)))?;
        let sound = &self.library.sounds[sound];
        let label = label_of(&sound.clip).unwrap_or(if sound.clip.set == "speech" {
            UNKNOWN
        } else {
            SILENCE
        });
        let pcm = sound.pcm();
        let end = (end + rng.usize(0..2_400))
            .saturating_sub(1_200)
            .clamp(1, pcm.len());
        let mut canvas = vec![0.0; SPAN];
        let held = end.min(SPAN);
        canvas[SPAN - held..].copy_from_slice(&pcm[end - held..end]);
        if chance(rng, 0.6) {
            let level = augment::rms(&canvas);
            self.room(rng, &mut canvas, level);
        }
        Some(Draft {
            pcm: canvas,
            target: one_hot(label),
            streamed: true,
            teach: 0.0,
            gain: 1.0,
        })
    }

    /// Adds `count` words and short sentences that espeak-ng speaks in random voices.
    ///
    /// # Errors
    /// When espeak-ng is not installed or fails.
    pub fn speak(&mut self, count: usize, seed: u64) -> Result<(), AudioError> {
        let mut rng = Rng::with_seed(seed);
        for _ in 0..count {
            let words = if rng.bool() { 1 } else { rng.usize(3..7) };
            let text: Vec<&str> = (0..words)
                .map(|_| espeak::WORDS[rng.usize(0..espeak::WORDS.len())])
                .collect();
            self.spoken
                .push(espeak::speak(&text.join(" "), &Voice::random(&mut rng))?);
        }
        Ok(())
    }

    /// Says which group is empty, so that training does not start without it.
    ///
    /// # Errors
    /// Names the label that has no clip.
    pub fn validate(&self) -> Result<(), String> {
        for (group, label) in self.words.iter().zip(&LABELS[FIRST_WORD..]) {
            if group.is_empty() {
                return Err(format!("no training clip of '{label}'"));
            }
        }
        if self.unknown[0].is_empty() || self.noise[0].is_empty() {
            return Err("no training clip of '_unknown_' words or of background noise".to_owned());
        }
        Ok(())
    }

    fn any<'a>(&'a self, rng: &mut Rng, groups: &[(f32, &[usize])]) -> Option<&'a Sound> {
        let groups: Vec<_> = groups
            .iter()
            .filter(|(_, group)| !group.is_empty())
            .collect();
        let mut at = rng.f32() * groups.iter().map(|(weight, _)| weight).sum::<f32>();
        for (weight, group) in groups {
            at -= weight;
            if at < 0.0 {
                return Some(&self.library.sounds[group[rng.usize(0..group.len())]]);
            }
        }
        None
    }

    /// A bed of noise of `len` samples.
    fn bed(&self, rng: &mut Rng, len: usize) -> Vec<f32> {
        match rng.f32() {
            x if x < 0.15 => return augment::coloured_noise(rng, len),
            x if x < 0.30 => {
                let made = synth::Sound::ALL[rng.usize(0..synth::Sound::ALL.len())];
                let pcm = synth::render(made, rng, 2.0);
                return augment::crop_or_loop(rng, &pcm, len);
            }
            _ => {}
        }
        let groups = [
            (0.6, &self.noise[0][..]),
            (0.1, &self.noise[1][..]),
            (0.3, &self.noise[2][..]),
        ];
        match self.any(rng, &groups) {
            Some(sound) => augment::crop_or_loop(rng, &sound.pcm(), len),
            None => augment::coloured_noise(rng, len),
        }
    }

    /// A word, or a stretch of speech, that is none of ours.
    fn unknown_sound(&self, rng: &mut Rng) -> Option<(Vec<f32>, bool)> {
        if !self.spoken.is_empty() && chance(rng, 0.15) {
            return Some((self.spoken[rng.usize(0..self.spoken.len())].clone(), false));
        }
        let [words, wake, speech, digits] = &self.unknown[..] else {
            return None;
        };
        let groups = [
            (0.45, &words[..]),
            (0.25, wake),
            (0.15, speech),
            (0.15, digits),
        ];
        let sound = self.any(rng, &groups)?;
        Some((sound.pcm(), sound.clip.set == "keywords"))
    }

    /// Speech that goes on without a pause, nobody's word at its end.
    fn babble(&self, rng: &mut Rng) -> Draft {
        let mut all = Vec::new();
        while all.len() < SPAN + 8_000 {
            let Some((pcm, _)) = self.unknown_sound(rng) else {
                break;
            };
            let region = augment::active_region(&pcm, 30.0);
            let mut part = pcm[region].to_vec();
            let peak_db = uniform(rng, -9.0, 0.0);
            augment::set_peak(&mut part, peak_db);
            all.extend(part);
            all.resize(all.len() + rng.usize(0..2_400), 0.0);
        }
        let mut canvas = augment::crop_or_pad(rng, &all, SPAN);
        let level = augment::rms(&canvas);
        self.room(rng, &mut canvas, level);
        Draft {
            pcm: canvas,
            target: one_hot(UNKNOWN),
            streamed: true,
            teach: 0.0,
            gain: 1.0,
        }
    }

    /// Noise, colour, echoes and a level for what is in the canvas at `level`.
    fn room(&self, rng: &mut Rng, canvas: &mut [f32], level: f32) {
        if chance(rng, 0.85) {
            let noise = self.bed(rng, canvas.len());
            let snr = uniform(rng, -3.0, 30.0);
            augment::add_at_snr(canvas, level, &noise, snr);
        }
        if chance(rng, 0.5) {
            augment::colour(rng, canvas);
        }
        if chance(rng, 0.3) {
            augment::echo(rng, canvas);
        }
        let peak_db = uniform(rng, -36.0, 0.0);
        augment::set_peak(canvas, peak_db);
    }

    /// Puts `pcm` into the canvas so that its active region ends at `end`.
    fn place(canvas: &mut [f32], pcm: &[f32], region: &std::ops::Range<usize>, end: usize) {
        let shift = end as isize - region.end as isize;
        let fade = 160.0;
        for (i, x) in pcm.iter().enumerate() {
            let at = i as isize + shift;
            if let Some(slot) = usize::try_from(at).ok().and_then(|at| canvas.get_mut(at)) {
                let edge = i.min(pcm.len() - 1 - i) as f32;
                *slot += x * (edge / fade).min(1.0);
            }
        }
    }

    fn silence(&self, rng: &mut Rng) -> Draft {
        let mut pcm = self.bed(rng, SPAN);
        if chance(rng, 0.3) {
            let other = self.bed(rng, SPAN);
            let level = augment::rms(&pcm);
            let snr = uniform(rng, -10.0, 10.0);
            augment::add_at_snr(&mut pcm, level, &other, snr);
        }
        if chance(rng, 0.5) {
            augment::colour(rng, &mut pcm);
            let peak_db = uniform(rng, -60.0, 0.0);
            augment::set_peak(&mut pcm, peak_db);
        }
        Draft {
            pcm,
            target: one_hot(SILENCE),
            streamed: rng.bool(),
            teach: 0.0,
            gain: 1.0,
        }
    }

    /// A word, whole or only its beginning.
    fn speech(&self, rng: &mut Rng, mut pcm: Vec<f32>, as_stored: bool, label: usize) -> Draft {
        let streamed = chance(rng, 0.6);
        let gentle = !streamed && chance(rng, 0.35);
        let long = pcm.len() > SPAN;
        if long {
            pcm = augment::crop_or_pad(rng, &pcm, SPAN);
        }
        if !gentle || chance(rng, 0.5) {
            let factor = uniform(rng, 0.85, 1.18);
            pcm = augment::speed(&pcm, factor);
        }
        let region = augment::active_region(&pcm, 30.0);
        let level = augment::rms(&pcm[region.clone()]);
        let mut canvas = vec![0.0; SPAN];
        let mut target = one_hot(label);
        let mut teach = if label < TEACHER_LABELS && !streamed {
            0.5
        } else {
            0.0
        };
        if streamed {
            if chance(rng, 0.35)
                && let Some((before, _)) = self.unknown_sound(rng)
            {
                let other = augment::active_region(&before, 30.0);
                let mut context = vec![0.0; SPAN];
                let gap = rng.usize(800..6_000) + region.len();
                Self::place(
                    &mut context,
                    &before,
                    &other,
                    SPAN.saturating_sub(gap + 3_000),
                );
                let level_before = augment::rms(&before[other]).max(1e-6);
                let gain = level / level_before * augment::from_db(uniform(rng, -12.0, 3.0));
                canvas
                    .iter_mut()
                    .zip(&context)
                    .for_each(|(c, x)| *c += gain * x);
            }
            if label >= FIRST_WORD && chance(rng, 0.12) {
                // Its beginning alone is not the word yet, its end alone no longer.
                let part = (region.len() as f32 * uniform(rng, 0.1, 0.4)) as usize;
                let end = if rng.bool() {
                    SPAN + region.len() - part
                } else {
                    SPAN - 16_000 + part
                };
                Self::place(&mut canvas, &pcm, &region, end);
                (target, teach) = (one_hot(UNKNOWN), 0.0);
            } else {
                let end = SPAN - rng.usize(480..7_200);
                Self::place(&mut canvas, &pcm, &region, end);
            }
        } else if as_stored {
            let shift = rng.usize(0..3_200) as isize - 1_600;
            let end = (region.end as isize + (SPAN - 16_000) as isize + shift).max(1) as usize;
            Self::place(&mut canvas, &pcm, &region, end);
        } else {
            let room = 16_000usize.saturating_sub(region.len());
            let end = SPAN - rng.usize(0..=room.max(1));
            Self::place(&mut canvas, &pcm, &region, end);
        }
        if !gentle {
            self.room(rng, &mut canvas, level);
        }
        Draft {
            pcm: canvas,
            target,
            streamed,
            teach,
            gain: 1.0,
        }
    }
}

fn one_hot(label: usize) -> Vec<f32> {
    let mut target = vec![0.0; LABELS.len()];
    target[label] = 1.0;
    target
}

impl ExampleSource for KeywordData {
    fn draw(&self, rng: &mut Rng) -> Draft {
        match rng.f32() {
            x if x < 0.14 => {
                if let Some(draft) = self.mistake(rng) {
                    return draft;
                }
            }
            x if x < 0.28 => return self.silence(rng),
            x if x < 0.36 => return self.babble(rng),
            x if x < 0.52 => {
                if let Some((pcm, as_stored)) = self.unknown_sound(rng) {
                    return self.speech(rng, pcm, as_stored, UNKNOWN);
                }
            }
            _ => {}
        }
        let word = rng.usize(0..self.words.len());
        let group = &self.words[word];
        let sound = &self.library.sounds[group[rng.usize(0..group.len())]];
        self.speech(
            rng,
            sound.pcm(),
            sound.clip.set == "keywords",
            word + FIRST_WORD,
        )
    }

    /// Mixes the teacher's softmax over its labels into the target.
    fn learn(&self, target: &mut Vec<f32>, teach: f32, teacher: &[f32]) {
        for (at, target) in target.iter_mut().enumerate() {
            let said = teacher
                .get(at)
                .filter(|_| at < TEACHER_LABELS)
                .copied()
                .unwrap_or(0.0);
            *target += teach * (said - *target);
        }
    }
}
