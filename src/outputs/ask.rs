//! The way from an output to the daemon's loop: one command, one answer, with a time limit.
//!
//! It bounds how many requests are under way, and makes sure that an inhibitor whose holder has
//! gone is released, even where the answer came too late for anybody to take it.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::{Semaphore, oneshot};

use crate::command::{Answer, Command, Refusal, Request};

/// Requests under way over all outputs; more are refused as busy.
const UNDER_WAY: usize = 64;

/// How long the daemon may take over an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The same for a reload and for what is asked to be listened for, which may load other weights.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

/// Asks the daemon's loop.
#[derive(Debug, Clone)]
pub struct Asker {
    requests: Sender<Request>,
    permits: Arc<Semaphore>,
}

impl Asker {
    /// Sends to `requests`, which should be unbounded.
    pub fn new(requests: Sender<Request>) -> Self {
        Asker {
            requests,
            permits: Arc::new(Semaphore::new(UNDER_WAY)),
        }
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// What the daemon refuses; `Busy` when too much is under way or the answer takes too long.
    pub async fn ask(&self, command: Command) -> Result<Answer, Refusal> {
        let _permit = self
            .permits
            .try_acquire()
            .map_err(|_| Refusal::Busy(format!("{UNDER_WAY} requests are under way; try again")))?;
        let limit = match command {
            Command::Reload
            | Command::AddPrompt { .. }
            | Command::RemovePrompt { .. }
            | Command::Teach { .. }
            | Command::Forget { .. }
            | Command::TaughtChanged => LOAD_LIMIT,
            _ => ANSWER_LIMIT,
        };
        let answer = self.send(command)?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::Internal("the daemon is ending".into())),
            Err(_) => Err(Refusal::Busy(format!(
                "no answer within {} s; try again",
                limit.as_secs()
            ))),
        }
    }

    /// Asks the daemon not to listen for as long as the answer lives.
    ///
    /// # Errors
    /// As [`Asker::ask`]. A number that arrives after the time limit is released at once.
    pub async fn inhibit(&self, who: String, why: String) -> Result<Inhibitor, Refusal> {
        let answer = self.send(Command::Inhibit { who, why })?;
        let requests = self.requests.clone();
        // A task of its own: a caller that gives up half-way must not leave an inhibitor behind.
        let granted = tokio::spawn(async move {
            match answer.await {
                Ok(Ok(Answer::Inhibited(number))) => Ok(Inhibitor { number, requests }),
                Ok(Ok(other)) => Err(unexpected(&other)),
                Ok(Err(refusal)) => Err(refusal),
                Err(_) => Err(Refusal::Internal("the daemon is ending".into())),
            }
        });
        match tokio::time::timeout(ANSWER_LIMIT, granted).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(Refusal::Internal(panic.to_string())),
            Err(_) => Err(Refusal::Busy(format!(
                "no answer within {} s; try again",
                ANSWER_LIMIT.as_secs()
            ))),
        }
    }

    fn send(
        &self,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Answer, Refusal>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        match self.requests.try_send(Request { command, reply }) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => {
                Err(Refusal::Busy("the daemon is busy; try again".into()))
            }
            Err(TrySendError::Disconnected(_)) => {
                Err(Refusal::Internal("the daemon is ending".into()))
            }
        }
    }
}

/// The refusal for an answer that does not belong to its command.
pub(super) fn unexpected(answer: &Answer) -> Refusal {
    Refusal::Internal(format!("unexpected answer {answer:?}"))
}

/// While it lives, the daemon does not listen.
#[derive(Debug)]
pub struct Inhibitor {
    number: u64,
    requests: Sender<Request>,
}

impl Drop for Inhibitor {
    fn drop(&mut self) {
        let (reply, _) = oneshot::channel();
        let release = Request {
            command: Command::Release {
                inhibitor: self.number,
            },
            reply,
        };
        // A daemon that has ended holds no inhibitors.
        drop(self.requests.try_send(release));
    }
}
