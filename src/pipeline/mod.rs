//! The sound path at run time: the source and its supervisor, the listener thread, the window worker.
//!
//! | file | does |
//! |---|---|
//! | `listener` | the thread: reads, resamples, feeds recognition, obeys the daemon |
//! | `supervise` | opens the source, notices failure and silence, opens it again |
//! | `recognise` | samples in, events out: level, log-mel, keyword step, windows |
//! | `window` | the newest frames, and the worker that scores windows of them |
//! | `episodes` | decisions become events |
//! | `load` | makes and warms the models |
//! | `slot` | a model that is made anew after it has failed |
//! | `stats` | what is counted on the way |
//!
//! The daemon owns a [`Pipeline`], sends it orders and receives [`Report`]s; it never waits for
//! sound. Outputs are unknown here.

mod episodes;
mod listener;
mod load;
mod recognise;
mod slot;
pub mod stats;
mod supervise;
mod window;

pub use listener::{Pipeline, Report, Reporter, Setup};
pub use load::{EventModel, Models};
pub use recognise::{Parts, Recogniser};
pub use slot::{Factory, Slot};
pub use supervise::{Limits, Pace, SourceFactory};
pub use window::{FrameWindow, Worker};
