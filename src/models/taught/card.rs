//! What is known of a taught sound beside its numbers: where it comes from and what to expect of it.

use serde::{Deserialize, Serialize};

/// The version of the format of a taught sound.
pub const VERSION: u32 = 1;

/// The card of a taught sound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// `VERSION`.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// `sound` or `word`.
    pub kind: String,
    /// Registry name of the embedder that it was taught with.
    pub embedder: String,
    /// SHA-256 of the embedder's weights, lower-case hexadecimal.
    pub embedder_sha256: String,
    /// Length of the windows that it was taught with, in frames of 10 ms.
    pub window_frames: usize,
    /// Distance between them.
    pub hop_frames: usize,
    /// The examples: nothing of their sound is kept.
    pub examples: Vec<Example>,
    /// False accepts an hour that the threshold was set for.
    pub target_fa_per_hour: f64,
    /// False accepts an hour that the background leads to expect at the threshold, single windows
    /// counted.
    pub expected_fa_per_hour: f64,
    /// Share of the examples that are recognised when they are left out of the teaching.
    pub expected_recall: f64,
    /// Hours of background behind the threshold, and what it was.
    pub background_hours: f64,
    /// What the background was.
    pub background: String,
    /// Whether the room's own background counted (`hark calibrate`).
    pub room: bool,
    /// What was odd about the examples.
    pub warnings: Vec<String>,
    /// When it was taught, RFC 3339.
    pub taught: String,
}

/// An example on the card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Name of the file, without its folder.
    pub name: String,
    /// Length in seconds.
    pub seconds: f64,
    /// The score that it gets when it is left out of the teaching; at 0.5 it is just recognised.
    pub left_out_score: f32,
}
