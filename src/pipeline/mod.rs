//! The sound path at run time: the source and its supervisor, the listener thread, the window workers.
//!
//! | file | does |
//! |---|---|
//! | `listener` | the thread: reads, resamples, feeds recognition, obeys the daemon |
//! | `supervise` | opens the source, notices failure and silence, opens it again |
//! | `recognise` | samples in, events out: level, log-mel, keyword step, windows |
//! | `window` | the newest frames and samples, and when a window of them is due |
//! | `stream` | one stream of windows, with a model or derived from another |
//! | `streams` | all of them, as the listener feeds them |
//! | `change` | other streams and rules while sound goes on |
//! | `worker` | the thread that scores the windows of one model |
//! | `shed` | which model gives way when they cannot all keep up |
//! | `episodes` | decisions become events |
//! | `load` | makes and warms the models |
//! | `slot` | a model that is made anew after it has failed |
//! | `stats` | what is counted on the way |
//!
//! The daemon owns a [`Pipeline`], sends it orders and receives [`Report`]s; it never waits for
//! sound. Outputs are unknown here.

mod change;
#[cfg(test)]
mod changing;
mod episodes;
mod listener;
mod load;
mod recognise;
mod shed;
mod slot;
pub mod stats;
mod stream;
mod streams;
mod supervise;
mod window;
mod worker;

pub use change::{Derived, Standing};
pub use listener::{Pipeline, Report, Reporter, Setup};
pub use load::{Models, Stepped, Windowed};
pub use recognise::{Parts, Recogniser};
pub use slot::{Factory, Slot};
pub use stream::WindowStream;
pub use supervise::{Limits, Pace, SourceFactory};
pub use window::FrameWindow;
