//! Loading models beside the loop: large ones take seconds, and whoever asks is answered meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded, never, select};

use super::signals::Signal;
use super::{DaemonError, Makers};
use crate::command::{Answer, Command, Live, PromptStatus, Request, State, Status, TaughtStatus};
use crate::config::Loaded;
use crate::models::ModelError;
use crate::pipeline::Models;
use crate::pipeline::stats::{cpu_time, rss_bytes};

/// Where the models come from once they are warm.
pub(super) type Loading = Receiver<Result<Models, DaemonError>>;

/// Begins to load the models of a configuration.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn begin(makers: &Makers, loaded: &Loaded) -> std::io::Result<Loading> {
    let (tell, models) = bounded(1);
    let (makers, loaded) = (makers.clone(), loaded.clone());
    thread::Builder::new()
        .name("hark-loading".into())
        // Whoever wanted them may have gone.
        .spawn(move || drop(tell.send(makers.models(&loaded))))?;
    Ok(models)
}

/// The error of a loading that ended without a result.
pub(super) fn broken() -> DaemonError {
    let text = "a model has crashed while it was loaded; this is a fault in hark, please report it";
    DaemonError::Model(ModelError::Format(text.into()))
}

/// What came while the first models were loaded.
#[derive(Default)]
pub(super) struct Meanwhile {
    /// What was asked and can only be answered with models, oldest first.
    pub requests: VecDeque<Request>,
    /// Whether the configuration is to be read again.
    pub reload: bool,
}

/// Waits for the first models: status is answered at once, the rest is kept for later. `None` when
/// the daemon is told to end.
///
/// # Errors
/// When a model cannot be made.
pub(super) fn wait(
    models: &Loading,
    requests: &Receiver<Request>,
    signals: &Receiver<Signal>,
    status: impl Fn() -> Status,
    meanwhile: &mut Meanwhile,
) -> Result<Option<Models>, DaemonError> {
    let (mut requests, mut signals) = (requests.clone(), signals.clone());
    loop {
        select! {
            recv(models) -> loaded => return loaded.unwrap_or_else(|_| Err(broken())).map(Some),
            recv(requests) -> asked => match asked {
                Ok(Request { command: Command::Status, reply }) => {
                    drop(reply.send(Ok(Answer::Status(Box::new(status())))));
                }
                Ok(Request { command: Command::Prompts, reply }) => {
                    drop(reply.send(Ok(Answer::Prompts(status().prompts))));
                }
                Ok(Request { command: Command::Taught, reply }) => {
                    drop(reply.send(Ok(Answer::Taught(status().taught))));
                }
                Ok(request) => meanwhile.requests.push_back(request),
                Err(_) => requests = never(),
            },
            recv(signals) -> signal => match signal {
                Ok(Signal::End) => return Ok(None),
                Ok(Signal::Reload) => meanwhile.reload = true,
                Err(_) => signals = never(),
            },
        }
    }
}

/// The status of a daemon that has no models yet.
pub(super) fn status(
    loaded: &Loaded,
    started: Instant,
    prompts: &Arc<[PromptStatus]>,
    taught: &Arc<[TaughtStatus]>,
) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION"),
        state: State::Loading,
        reason: "models are being loaded".into(),
        uptime: started.elapsed(),
        config_files: loaded
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
        sources: Vec::new(),
        models: Vec::new(),
        rules: Vec::new(),
        prompts: prompts.clone(),
        taught: taught.clone(),
        inhibitors: Vec::new(),
        live: Live {
            level_dbfs: f32::NEG_INFINITY,
            noise_floor_dbfs: f32::NEG_INFINITY,
            ..Live::default()
        }
        .into(),
        events: 0,
        rss_bytes: rss_bytes(),
        cpu: cpu_time(),
    }
}
