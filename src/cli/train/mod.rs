//! `hark train`: trains or fine-tunes a model.
//!
//! | file | does |
//! |---|---|
//! | `network` | the small networks for words and sounds, by their labels |
//! | `contrast` | CLAP, by pairs of sounds and texts |
//! | `data` | the sounds and texts that CLAP is trained on |
//! | `measured` | what a trained CLAP can do, for its card |

mod contrast;
mod data;
mod measured;
mod network;

use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Arguments of `hark train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data set: a folder with manifest.csv, or with one folder of sound files for each label.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What is trained: hark-keyword, hark-event or small-clap from scratch, or a weights file (for CLAP: a
    /// name or a directory) to go on from.
    #[arg(long, value_name = "MODEL")]
    base: String,
    /// Where the weights and the card are written.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What is learnt: labels by a small network, or, with CLAP, which sounds and texts belong together.
    #[arg(long, value_enum, default_value_t = Objective::Labels)]
    objective: Objective,
    /// Steps of a round; of all the training of CLAP.
    #[arg(long)]
    steps: Option<NonZeroUsize>,
    /// Examples a step.
    #[arg(long)]
    batch: Option<NonZeroUsize>,
    /// The highest learning rate of the schedule.
    #[arg(long, value_parser = rate)]
    learning_rate: Option<f64>,
    /// Where the random numbers start.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    network: network::Options,
    #[command(flatten)]
    contrast: contrast::Options,
}

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Objective {
    /// Labels.
    Labels,
    /// Sounds and texts in one space.
    Clap,
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("expected a number from 0 to 1, got '{text}'")),
    }
}

/// A number over 0.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate < 1.0 => Ok(rate),
        _ => Err(format!("expected a number between 0 and 1, got '{text}'")),
    }
}

/// Runs the verb.
///
/// # Errors
/// When the data, the teacher, the model or the disk fails.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.objective {
        Objective::Labels => {
            args.contrast.refuse()?;
            network::run(&args)
        }
        Objective::Clap => {
            args.network.refuse()?;
            contrast::run(&args)
        }
    }
}
