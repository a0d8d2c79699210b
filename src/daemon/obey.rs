//! What is asked of the daemon, command by command.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Daemon, OBEY, Reply};
use crate::command::{Answer, Command, Refusal};

/// The longest pause that is taken: a year.
const MAX_PAUSE: Duration = Duration::from_secs(366 * 24 * 3600);

impl Daemon {
    /// Does what is asked and answers; what takes its time is answered when it is done.
    pub(super) fn obey(&mut self, command: Command, reply: Reply) {
        let answer = match command {
            // Answered when it is done.
            Command::Reload => return self.reload(Some(reply)),
            Command::Status => Ok(Answer::Status(Box::new(self.status()))),
            Command::Top { n } => {
                let live = self.pipeline.stats().live(n);
                let mut top: Vec<_> = live.top.into_iter().map(|entry| entry.score).collect();
                top.sort_by(|a, b| b.score.total_cmp(&a.score));
                // What several models hear is told once, as the surest has it.
                let mut told = BTreeSet::new();
                top.retain(|entry| told.insert(entry.label.clone()));
                top.truncate(n);
                Ok(Answer::Top(top))
            }
            Command::Pause { duration } => {
                let until = duration.map(|time| Instant::now() + time.min(MAX_PAUSE));
                self.pause = Some(until);
                self.apply_pause();
                self.tell_state();
                Ok(Answer::Done)
            }
            Command::Resume => {
                self.pause = None;
                match self.inhibitors.values().next() {
                    Some((who, why)) => Err(Refusal::Busy(format!(
                        "{who} keeps hark from listening: {why}; end that first"
                    ))),
                    None => {
                        self.apply_pause();
                        self.tell_state();
                        Ok(Answer::Done)
                    }
                }
            }
            Command::Inhibit { who, why } => {
                let number = self.next_inhibitor;
                self.next_inhibitor += 1;
                self.inhibitors.insert(number, (who, why));
                self.apply_pause();
                self.tell_state();
                Ok(Answer::Inhibited(number))
            }
            Command::Release { inhibitor } => match self.inhibitors.remove(&inhibitor) {
                Some(_) => Ok(Answer::Done),
                None => Err(Refusal::BadParams(format!(
                    "there is no inhibitor {inhibitor}"
                ))),
            },
            Command::SetThreshold { rule, threshold } => {
                match self.pipeline.set_threshold(&rule, threshold, OBEY) {
                    Some(Ok(())) => {
                        self.rules.set_threshold(&rule, threshold);
                        self.tell_prompts();
                        self.tell_taught();
                        Ok(Answer::Done)
                    }
                    Some(Err(text)) => Err(Refusal::BadParams(text)),
                    None => Err(Refusal::Busy("the listener is busy; try again".into())),
                }
            }
            Command::AddPrompt { .. } | Command::RemovePrompt { .. } => {
                return self.ask_prompts(command, reply);
            }
            Command::Prompts => Ok(Answer::Prompts(self.told_prompts.clone())),
            Command::Taught => Ok(Answer::Taught(self.told_taught.clone())),
            Command::Teach { .. } | Command::Forget { .. } | Command::TaughtChanged => {
                return self.ask_taught(command, reply);
            }
            Command::History { n } => {
                let from = self.history.len().saturating_sub(n);
                Ok(Answer::History(
                    self.history.range(from..).cloned().collect(),
                ))
            }
        };
        // Whoever asked may have gone.
        drop(reply.send(answer));
    }
}
