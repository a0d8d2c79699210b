//! Threads and schedule: listener, worker, supervision.

pub mod stats;
pub mod window;
