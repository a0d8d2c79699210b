//! The configuration: typed sections, layered files, and validation that names file, line and column.

mod rule;
mod seconds;
mod section;
mod suggest;

pub use rule::{MAX_CONFIRM, MAX_SMOOTH_S, Problem, is_reportable};
pub use seconds::Seconds;
pub use section::*;
