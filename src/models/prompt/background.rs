//! What prompts compete with: phrases for what else may be heard.

/// The phrases, made up for this table after the upper levels of the ontology of AudioSet and everyday
/// life.
pub fn background() -> &'static [&'static str] {
    &PHRASES
}

static PHRASES: [&str; 20] = [
    "silence",
    "faint background noise",
    "a quiet room",
    "the hum of an appliance",
    "a fan or air conditioner",
    "wind",
    "rain",
    "running water",
    "traffic in the distance",
    "a car driving past",
    "a person talking",
    "several people talking at once",
    "a television in another room",
    "music",
    "someone walking around",
    "clothes rustling",
    "dishes being handled",
    "someone typing on a keyboard",
    "birds outside",
    "something being put down on a table",
];
