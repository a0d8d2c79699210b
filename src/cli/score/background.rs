//! Everyday sounds that compete with the prompts of `hark score --background`: what most recordings
//! hold most of the time, so that a prompt that is not heard has something to lose against.

/// The phrases, for the same templates as the prompts. Made up for this table.
pub const PHRASES: [&str; 20] = [
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
