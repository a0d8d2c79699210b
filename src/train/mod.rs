//! Fine-tuning mode: labelled clips in, a weights file out.
//!
//! [`recipe`] says what is learnt and how long; [`library`] holds the clips in memory; [`augment`]
//! bends them; [`keyword_data`] and [`event_data`] make examples, the synthesiser, [`espeak`] and [`hard`]
//! negatives among their sources; [`teacher`] asks a larger model about them; [`pool`] makes them in the
//! background; [`trainer`] is the loop; [`metrics`] says what came of it.

pub mod augment;
pub mod check;
pub mod contrastive;
pub mod dev_set;
pub mod espeak;
pub mod event_data;
pub mod event_labels;
pub mod hard;
pub mod keyword_data;
pub mod library;
pub mod manifest;
pub mod metrics;
pub mod pool;
pub mod recipe;
pub mod retrieval;
pub mod teacher;
pub mod trainer;
pub mod zero_shot;

pub use manifest::{Clip, DataError, Manifest, Split};
