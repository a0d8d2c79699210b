//! The configuration: typed sections, layered files, and validation that names file, line and column.
//!
//! | file | does |
//! |---|---|
//! | `section` | the sections as plain types with their defaults |
//! | `prompt` | label prompts and taught sounds, and what a prompt may look like |
//! | `prompt_file` | the prompts that were added while the daemon ran |
//! | `seconds` | lengths of time |
//! | `paths` | where files live |
//! | `load` | reads and merges the layers |
//! | `calibrated` | the file of `hark calibrate` among the others |
//! | `replace` | writes a file whole or not at all |
//! | `origin` | remembers where each value was written |
//! | `validate` | ranges, contradictions, labels |
//! | `suggest` | the nearest known name |
//! | `error` | one line a fault |

pub mod calibrated;
mod error;
mod load;
mod origin;
pub mod paths;
pub mod prompt;
pub mod prompt_file;
mod replace;
mod seconds;
mod section;
mod suggest;
mod validate;

pub use error::{ConfigError, Fault};
pub use load::{DEFAULT_TOML, Flags, Loaded, load, load_from, load_with};
pub use prompt::{PromptConfig, PromptLabel, TaughtConfig};
pub use replace::replace;
pub use seconds::Seconds;
pub use section::*;
pub use suggest::nearest;
pub use validate::{KnownModel, MAX_CONFIRM, MAX_SMOOTH_S, Problem, is_reportable};
