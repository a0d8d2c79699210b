//! What prompts compete with: a fixed set of phrases for what else may be heard.
//!
//! They cover the ontology of AudioSet at its upper levels, where a home, an office or a street is likely
//! to be, with what most recordings hold most of the time first. All 527 labels would take the text tower
//! four times as long and say little more: what matters is that whatever is heard finds some phrase that
//! fits it. A phrase that means the same as a prompt does not compete with it ([`super::PromptSet`]).

/// The phrases, in a fixed order; made up for this table.
pub fn background() -> &'static [&'static str] {
    &PHRASES
}

static PHRASES: [&str; 130] = [
    // Nothing in particular.
    "silence",
    "faint background noise",
    "white noise",
    "static",
    "mains hum",
    "a microphone being handled",
    "wind noise on a microphone",
    "an echo in a large hall",
    "a quiet room",
    "a busy public place",
    // Voices.
    "a person talking",
    "a man speaking",
    "a woman speaking",
    "a child speaking",
    "several people talking at once",
    "a crowd murmuring",
    "a voice on the radio",
    "a television in another room",
    "a synthetic voice",
    "whispering",
    "shouting",
    "screaming",
    "laughter",
    "crying",
    "a baby babbling",
    "singing",
    "humming a tune",
    "children playing",
    "cheering and applause",
    // Bodies.
    "breathing",
    "snoring",
    "coughing",
    "sneezing",
    "sniffing",
    "chewing",
    "a burp",
    "clapping",
    "finger snapping",
    "footsteps",
    "someone running",
    "whistling a tune",
    "clothes rustling",
    // Animals.
    "a dog barking",
    "a dog growling",
    "a cat meowing",
    "birds chirping",
    "a crow cawing",
    "a pigeon cooing",
    "a rooster crowing",
    "a horse",
    "a cow mooing",
    "a sheep bleating",
    "a pig",
    "a frog croaking",
    "insects buzzing",
    "crickets",
    "a mouse scratching",
    // Music.
    "music",
    "pop music",
    "rock music",
    "classical music",
    "electronic music",
    "hip hop",
    "jazz",
    "background music in a shop",
    "a choir",
    "a guitar",
    "a piano",
    "an organ",
    "drums",
    "a violin",
    "a trumpet",
    "a flute",
    "an accordion",
    "a bell ringing",
    "wind chimes",
    // Weather, water and fire.
    "wind",
    "leaves rustling",
    "rain",
    "thunder",
    "a stream",
    "waves on a beach",
    "running water",
    "water dripping",
    "water splashing",
    "something being poured",
    "a crackling fire",
    // At home and at work.
    "a door opening and closing",
    "a knock on a door",
    "a doorbell",
    "a drawer being opened",
    "dishes being handled",
    "cooking in a kitchen",
    "a kettle boiling",
    "a microwave oven",
    "a toilet flushing",
    "a vacuum cleaner",
    "a hair dryer",
    "a washing machine",
    "the hum of a refrigerator",
    "a fan or air conditioner",
    "someone typing on a keyboard",
    "a mouse click",
    "paper being handled",
    "a printer",
    "keys jingling",
    "a clock ticking",
    "a telephone ringing",
    "a phone vibrating",
    "an electronic beep",
    "something being put down on a table",
    "something falling to the floor",
    "furniture being moved",
    "a plastic bag being crumpled",
    "a creaking floor",
    // Outside, machines and alarms.
    "traffic in the distance",
    "a car driving past",
    "a motorcycle",
    "a truck or bus",
    "a train",
    "an aeroplane flying over",
    "an engine idling",
    "a car horn",
    "a siren in the distance",
    "an alarm",
    "a power drill",
    "hammering",
    "a lawn mower",
    "an explosion or a gunshot",
    "fireworks",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::models::audioset::Ontology;

    #[test]
    fn the_phrases_are_different_and_plain() {
        let different: HashSet<_> = background().iter().collect();
        assert_eq!(different.len(), background().len());
        for phrase in background() {
            assert!(
                phrase.is_ascii() && phrase.trim() == *phrase && phrase.len() < 60,
                "{phrase}"
            );
        }
    }

    #[test]
    fn every_upper_branch_of_the_ontology_is_covered() {
        let ontology = Ontology::get();
        let meant: HashSet<usize> = background()
            .iter()
            .flat_map(|phrase| ontology.meant(phrase))
            .collect();
        for name in [
            "Human voice",
            "Respiratory sounds",
            "Human locomotion",
            "Digestive",
            "Hands",
            "Human group actions",
            "Domestic animals, pets",
            "Livestock, farm animals, working animals",
            "Wild animals",
            "Musical instrument",
            "Music genre",
            "Wind",
            "Thunderstorm",
            "Water",
            "Fire",
            "Vehicle",
            "Engine",
            "Domestic sounds, home sounds",
            "Bell",
            "Alarm",
            "Mechanisms",
            "Tools",
            "Explosion",
            "Liquid",
            "Onomatopoeia",
            "Silence",
            "Noise",
        ] {
            let at = ontology.named(name).unwrap();
            let kinds = ontology.kinds_of(at);
            let covered = meant.contains(&at) || meant.iter().any(|at| kinds.contains(at));
            assert!(covered, "{name}");
        }
    }
}
