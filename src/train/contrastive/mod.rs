//! Contrastive training: sounds and texts that belong together are drawn near each other, all others
//! of a batch apart.
//!
//! | file | does |
//! |---|---|
//! | `loss` | InfoNCE both ways with a learned temperature |
//! | `names`, `pairs` | what a sound may be called; which sounds and texts make a batch |
//! | `ontology` | AudioSet's names, descriptions and kinds, for texts without sounds |
//! | `bend` | what happens to a clip before it is heard |
//! | `small`, `vocabulary` | a small CLAP with random weights, and its tokenizer |
//! | `texts` | pairs of texts without a sound |
//! | `towers` | a CLAP whose parts are variables |
//! | `adamw` | the optimiser |
//! | `trainer` | the loop |
//! | `state` | a run that was cut short |
//! | `directory` | the model directory and its card |
//! | `files` | files that are whole or not there |

pub mod adamw;
pub mod bend;
pub mod directory;
pub mod files;
pub mod loss;
pub mod names;
pub mod ontology;
pub mod pairs;
pub mod small;
pub mod state;
pub mod texts;
pub mod towers;
pub mod trainer;
pub mod vocabulary;
