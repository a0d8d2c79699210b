//! The labels of the event model and where each of them is known from.

use super::manifest::Clip;
use crate::audio::synth::Sound;

/// One label of the event model.
pub struct EventLabel {
    /// AudioSet display name.
    pub name: &'static str,
    /// Display names in a data set that mean it.
    pub known_as: &'static [&'static str],
    /// Sounds that the synthesiser makes for it.
    pub made: &'static [Sound],
    /// Classes of YAMNet that mean it (index in `yamnet_class_map.csv`).
    pub yamnet: &'static [usize],
    /// How often it is drawn, relative to the others.
    pub weight: f32,
}

const fn label(
    name: &'static str,
    known_as: &'static [&'static str],
    made: &'static [Sound],
    yamnet: &'static [usize],
    weight: f32,
) -> EventLabel {
    EventLabel {
        name,
        known_as,
        made,
        yamnet,
        weight,
    }
}

/// Every label, in the order of the outputs.
pub const LABELS: [EventLabel; 31] = [
    label("Speech", &["Speech"], &[], &[0, 1, 2, 3], 3.0),
    label("Music", &["Music"], &[Sound::Music], &[132, 133], 2.0),
    label("Silence", &["Silence"], &[], &[494], 0.7),
    label(
        "Smoke detector, smoke alarm",
        &["Smoke detector, smoke alarm"],
        &[Sound::SmokeAlarm, Sound::CoAlarm],
        &[393, 394],
        2.0,
    ),
    label(
        "Alarm clock",
        &["Alarm clock"],
        &[Sound::AlarmClock],
        &[389],
        1.0,
    ),
    label(
        "Siren",
        &["Siren"],
        &[Sound::Siren],
        &[390, 391, 317, 318, 319],
        1.5,
    ),
    label(
        "Glass",
        &["Glass", "Shatter"],
        &[Sound::GlassBreak],
        &[435, 437],
        2.0,
    ),
    label(
        "Gunshot, gunfire",
        &["Gunshot, gunfire"],
        &[Sound::Gunshot],
        &[421, 422, 423, 424, 425],
        1.2,
    ),
    label(
        "Explosion",
        &["Explosion"],
        &[Sound::Explosion],
        &[420],
        0.8,
    ),
    label(
        "Doorbell",
        &["Doorbell"],
        &[Sound::Doorbell],
        &[349, 350],
        1.5,
    ),
    label("Knock", &["Knock"], &[Sound::Knock], &[353], 1.2),
    label("Door", &["Door"], &[], &[348, 352], 0.4),
    label(
        "Walk, footsteps",
        &["Walk, footsteps"],
        &[Sound::Footsteps],
        &[48],
        0.8,
    ),
    label(
        "Baby cry, infant cry",
        &["Baby cry, infant cry"],
        &[],
        &[20, 19],
        1.5,
    ),
    label("Dog", &["Dog", "Bark"], &[], &[69, 70, 71, 72], 1.5),
    label("Cat", &["Cat", "Meow"], &[], &[76, 77, 78, 80], 0.6),
    label(
        "Bird",
        &["Bird", "Chirp, tweet"],
        &[],
        &[106, 107, 108, 109],
        1.0,
    ),
    label(
        "Crowing, cock-a-doodle-doo",
        &["Crowing, cock-a-doodle-doo"],
        &[],
        &[96, 94],
        1.3,
    ),
    label(
        "Vehicle horn, car horn, honking",
        &["Vehicle horn, car horn, honking"],
        &[Sound::CarHorn],
        &[302, 303, 312],
        1.2,
    ),
    label(
        "Bell",
        &["Bell", "Church bell"],
        &[Sound::ChurchBell, Sound::SmallBell],
        &[195, 196, 197, 198, 173],
        1.0,
    ),
    label("Sneeze", &["Sneeze"], &[], &[44], 1.3),
    label("Snoring", &["Snoring"], &[], &[38], 0.8),
    label(
        "Tick-tock",
        &["Tick-tock"],
        &[Sound::ClockTick],
        &[402, 400, 401],
        1.3,
    ),
    label(
        "Engine",
        &["Engine", "Idling"],
        &[Sound::Engine],
        &[337, 342, 343, 346],
        0.8,
    ),
    label(
        "Helicopter",
        &["Helicopter"],
        &[Sound::Helicopter],
        &[333],
        1.3,
    ),
    label("Chainsaw", &["Chainsaw"], &[Sound::Chainsaw], &[341], 1.3),
    label("Rain", &["Rain"], &[Sound::Rain], &[283, 284, 285], 1.4),
    label(
        "Water",
        &["Water"],
        &[Sound::Water],
        &[282, 286, 364, 365],
        0.8,
    ),
    label(
        "Waves, surf",
        &["Waves, surf", "Ocean"],
        &[],
        &[289, 288],
        1.4,
    ),
    label(
        "Thunder",
        &["Thunder", "Thunderstorm"],
        &[Sound::Thunder],
        &[281, 280],
        0.8,
    ),
    label("Fire", &["Fire", "Crackle"], &[], &[292, 293], 1.4),
];

/// Sounds that must not be taken for any label, most of all not for an alarm.
pub const OTHERS: [Sound; 10] = [
    Sound::Dishes,
    Sound::Typing,
    Sound::Wind,
    Sound::Fan,
    Sound::Noise,
    Sound::MainsHum,
    Sound::Telephone,
    Sound::ApplianceBeep,
    Sound::ReversingBeep,
    Sound::GameBleeps,
];

/// Labels that hold for a clip.
pub fn labels_of(clip: &Clip) -> Vec<usize> {
    let named = |name: &str| -> Vec<usize> {
        (0..LABELS.len())
            .filter(|&at| LABELS[at].known_as.contains(&name))
            .collect()
    };
    match clip.set.as_str() {
        "keywords" if clip.label == "_silence_" => Vec::new(),
        "keywords" | "wakewords" | "digits" => named("Speech"),
        "speech" if clip.label != "_background_noise_" => named("Speech"),
        "noise" if clip.name.ends_with("running_tap.flac") => named("Water"),
        _ => {
            let mut all: Vec<usize> = clip
                .audioset_labels
                .iter()
                .flat_map(|name| named(name))
                .collect();
            all.sort_unstable();
            all.dedup();
            all
        }
    }
}
