//! `hark pause`: stops a running daemon from listening, for a time or until resumed.

use serde_json::json;

use super::daemon::SocketArgs;
use super::{UsageError, out};
use crate::config::Seconds;
use crate::outputs::pause_time;

/// Arguments of `hark pause`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long: seconds, or a number with ms, s, m or h; without it until 'hark resume'
    duration: Option<Seconds>,
    #[command(flatten)]
    daemon: SocketArgs,
}

/// Runs the verb.
///
/// # Errors
/// When no daemon listens or the duration is zero.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (params, text) = match args.duration {
        None => (json!({}), "paused until 'hark resume'".to_owned()),
        Some(duration) => {
            let seconds = duration.as_secs_f64();
            pause_time(seconds).map_err(UsageError)?;
            let text = format!("paused for {duration}; 'hark resume' ends it earlier");
            (json!({"seconds": seconds}), text)
        }
    };
    args.daemon.connect()?.call("pause", params)?;
    Ok(out::line(text)?)
}
