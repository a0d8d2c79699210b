//! Examples for the event model: a second that holds one sound, two, or none that has a name, at any
//! level and in any room.
//!
//! The teacher hears the mixture at an ordinary level, the student at a random one, so that the
//! level alone says nothing.

use std::sync::Arc;

use fastrand::Rng;

use super::{
    augment::{self, chance, uniform},
    event_labels::{LABELS, OTHERS, labels_of},
    library::{Library, Sound},
    manifest::Split,
    pool::{Draft, ExampleSource, JUDGED},
};
use crate::audio::synth;
use crate::features::{HOP, log_mel::WINDOW};

/// Samples of an example.
const LEN: usize = (JUDGED - 1) * HOP + WINDOW;
const SILENCE: usize = 2;

/// The clips by label.
pub struct EventData {
    library: Arc<Library>,
    /// Clips of every label; speech in groups of its own by set, since there are thousands.
    real: Vec<Vec<usize>>,
    /// Clips without a label of ours, noise first of all.
    others: Vec<usize>,
    labels: Vec<Vec<usize>>,
}

impl EventData {
    /// Sorts the training clips of a library; `hold_fold` is left out, whatever its split.
    pub fn new(library: Arc<Library>, hold_fold: Option<u8>) -> Self {
        let labels: Vec<Vec<usize>> = library
            .sounds
            .iter()
            .map(|sound| labels_of(&sound.clip))
            .collect();
        let trains = |at: usize| {
            let sound = &library.sounds[at];
            let held = hold_fold.is_some() && sound.clip.fold == hold_fold;
            sound.clip.split == Split::Train && !held && sound.len() >= 1600
        };
        let real = (0..LABELS.len())
            .map(|label| {
                (0..labels.len())
                    .filter(|&at| trains(at) && labels[at].contains(&label))
                    .collect()
            })
            .collect();
        let others = (0..labels.len())
            .filter(|&at| trains(at) && labels[at].is_empty())
            .collect();
        EventData {
            library,
            real,
            others,
            labels,
        }
    }

    /// Says which labels have neither clips nor a synthesiser, and are left to the teacher.
    pub fn without_data(&self) -> Vec<&'static str> {
        (0..LABELS.len())
            .filter(|&at| self.real[at].is_empty() && LABELS[at].made.is_empty() && at != SILENCE)
            .map(|at| LABELS[at].name)
            .collect()
    }

    fn label(&self, rng: &mut Rng) -> usize {
        let usable = |at: usize| !self.real[at].is_empty() || !LABELS[at].made.is_empty();
        let all: f32 = (0..LABELS.len())
            .filter(|&at| usable(at))
            .map(|at| LABELS[at].weight)
            .sum();
        let mut at = rng.f32() * all;
        for (label, row) in LABELS
            .iter()
            .enumerate()
            .filter(|&(label, _)| usable(label))
        {
            at -= row.weight;
            if at < 0.0 {
                return label;
            }
        }
        0
    }

    /// A second of a label, the labels that hold for it, and how far the teacher is to be believed.
    fn sound(&self, rng: &mut Rng, label: usize) -> (Vec<f32>, Vec<usize>, f32) {
        let (real, made) = (&self.real[label], LABELS[label].made);
        let share = real.len() as f32 / (real.len() as f32 + 12.0);
        if made.is_empty() || (!real.is_empty() && chance(rng, share)) {
            let at = real[rng.usize(0..real.len())];
            return (
                self.loud_part(rng, &self.library.sounds[at]),
                self.labels[at].clone(),
                0.7,
            );
        }
        let sound = made[rng.usize(0..made.len())];
        let pcm = synth::render(sound, rng, 3.0);
        (loud_second(rng, &pcm), vec![label], 0.2)
    }

    fn loud_part(&self, rng: &mut Rng, sound: &Sound) -> Vec<f32> {
        // A few seconds are enough to choose from, and to change the speed of.
        let from = if sound.len() > 5 * 16_000 {
            rng.usize(0..sound.len() - 5 * 16_000)
        } else {
            0
        };
        let pcm = sound.part(from..sound.len().min(from + 5 * 16_000));
        let pcm = if chance(rng, 0.5) {
            augment::speed(&pcm, uniform(rng, 0.88, 1.14))
        } else {
            pcm
        };
        loud_second(rng, &pcm)
    }

    fn other(&self, rng: &mut Rng) -> Vec<f32> {
        match rng.f32() {
            x if x < 0.45 && !self.others.is_empty() => {
                let at = self.others[rng.usize(0..self.others.len())];
                self.loud_part(rng, &self.library.sounds[at])
            }
            x if x < 0.6 => augment::coloured_noise(rng, LEN),
            _ => {
                let pcm = synth::render(OTHERS[rng.usize(0..OTHERS.len())], rng, 2.5);
                loud_second(rng, &pcm)
            }
        }
    }

    fn silence(rng: &mut Rng) -> Draft {
        let mut pcm = if chance(rng, 0.2) {
            vec![0.0; LEN]
        } else {
            augment::coloured_noise(rng, LEN)
        };
        let peak_db = uniform(rng, -85.0, -58.0);
        augment::set_peak(&mut pcm, peak_db);
        Draft {
            pcm,
            target: target(&[SILENCE]),
            streamed: false,
            teach: 0.0,
            gain: 1.0,
        }
    }
}

/// A second in which something is heard: its loudest 10 ms within 15 dB of those of the whole.
fn loud_second(rng: &mut Rng, pcm: &[f32]) -> Vec<f32> {
    let loudest = |pcm: &[f32]| pcm.chunks(160).map(augment::rms).fold(0.0, f32::max);
    let gate = loudest(pcm) * augment::from_db(-15.0);
    let mut best = augment::crop_or_pad(rng, pcm, LEN);
    for _ in 0..6 {
        if loudest(&best) >= gate {
            break;
        }
        let other = augment::crop_or_pad(rng, pcm, LEN);
        if loudest(&other) > loudest(&best) {
            best = other;
        }
    }
    best
}

fn target(labels: &[usize]) -> Vec<f32> {
    let mut target = vec![0.0; LABELS.len()];
    labels.iter().for_each(|&label| target[label] = 1.0);
    target
}

impl ExampleSource for EventData {
    fn draw(&self, rng: &mut Rng) -> Draft {
        let which = rng.f32();
        if which < 0.03 {
            return EventData::silence(rng);
        }
        let (mut pcm, mut labels, mut teach) = if which < 0.15 {
            (self.other(rng), Vec::new(), 0.7)
        } else {
            let label = self.label(rng);
            self.sound(rng, label)
        };
        let level = augment::rms(&pcm);
        if chance(rng, 0.2) {
            let second = self.label(rng);
            let (other, more, believed) = self.sound(rng, second);
            let snr = uniform(rng, -6.0, 6.0);
            augment::add_at_snr(&mut pcm, level, &other, snr);
            labels.extend(more);
            teach = teach.min(believed);
        }
        if chance(rng, 0.5) {
            let noise = self.other(rng);
            let snr = uniform(rng, 0.0, 30.0);
            augment::add_at_snr(&mut pcm, level, &noise, snr);
        }
        if chance(rng, 0.5) {
            augment::colour(rng, &mut pcm);
        }
        if chance(rng, 0.3) {
            augment::echo(rng, &mut pcm);
        }
        let peak_db = uniform(rng, -12.0, 0.0);
        augment::set_peak(&mut pcm, peak_db);
        let gain = augment::from_db(uniform(rng, -36.0, 3.0));
        Draft {
            pcm,
            target: target(&labels),
            streamed: false,
            teach,
            gain,
        }
    }

    /// What is known stays; for the rest the teacher's best class of a label is taken.
    fn learn(&self, target: &mut Vec<f32>, teach: f32, teacher: &[f32]) {
        for (target, label) in target.iter_mut().zip(&LABELS) {
            let said = label
                .yamnet
                .iter()
                .filter_map(|&class| teacher.get(class))
                .copied()
                .fold(0.0, f32::max);
            *target = target.max(teach * said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synth::Sound;

    #[test]
    fn labels_are_unique_and_the_synthesiser_agrees() {
        for (at, label) in LABELS.iter().enumerate() {
            assert!(LABELS[..at].iter().all(|other| other.name != label.name));
            for &sound in label.made {
                let names = synth::labels(sound);
                assert!(
                    names.iter().any(|name| label.known_as.contains(name)),
                    "{}",
                    label.name
                );
            }
            assert!(label.yamnet.iter().all(|&class| class < 521));
        }
        assert!(!OTHERS.contains(&Sound::SmokeAlarm));
        assert_eq!(LABELS[SILENCE].name, "Silence");
    }

    #[test]
    fn a_chosen_second_holds_the_sound() {
        let mut pcm = vec![0.0; 80_000];
        pcm[70_000..70_400].fill(0.5);
        for seed in 0..20 {
            let second = loud_second(&mut Rng::with_seed(seed), &pcm);
            assert_eq!(second.len(), LEN);
        }
        let short = loud_second(&mut Rng::with_seed(1), &[0.5; 400]);
        assert_eq!(short.iter().filter(|x| **x > 0.0).count(), 400);
    }
}
