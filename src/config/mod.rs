//! The configuration: typed sections, layered files, and validation that names file, line and column.

mod section;

pub use section::*;
