//! How the daemon is, and what is told of it: the state in force and its reason, the live picture, and
//! everything for `status`.

use std::sync::Arc;

use super::{Daemon, LIVE_LABELS, OBEY};
use crate::command::{Live, Notice, State, Status};
use crate::pipeline::stats::{cpu_time, rss_bytes};

impl Daemon {
    /// Makes the pipeline pause or go on as commands and inhibitors want it.
    pub(super) fn apply_pause(&mut self) {
        let wanted = self.held || self.pause.is_some() || !self.inhibitors.is_empty();
        if wanted == self.is_paused || self.ending.is_some() {
            return;
        }
        self.is_paused = wanted;
        if wanted {
            if !self.pipeline.pause(OBEY) {
                tracing::warn!("the listener has not paused within {OBEY:?}");
            }
            self.stalled = None;
        } else {
            self.pipeline.resume();
        }
    }

    pub(super) fn state(&self) -> (State, Arc<str>) {
        let is_asked = self.pause.is_some() || !self.inhibitors.is_empty();
        if self.is_paused && !is_asked {
            (
                State::Loading,
                "what is asked for is being made ready".into(),
            )
        } else if self.is_paused {
            let why = match self.inhibitors.values().next() {
                Some((who, why)) => format!("inhibited by {who}: {why}"),
                None => match self.pause.flatten() {
                    Some(_) => "paused for a time".to_owned(),
                    None => "paused until resumed".to_owned(),
                },
            };
            (State::Paused, why.into())
        } else if let Some(why) = &self.stalled {
            (State::Stalled, why.clone())
        } else if let Some(why) = &self.fault {
            (State::Degraded, why.clone())
        } else if self.heard {
            let warning = self.prompts.warning.as_ref();
            match warning.or(self.taught.warning.as_ref()) {
                Some(why) => (State::Degraded, why.clone()),
                None => (State::Listening, "".into()),
            }
        } else {
            (State::Loading, "waiting for the source".into())
        }
    }

    pub(super) fn tell_state(&mut self) {
        let now = self.state();
        if now == self.told {
            return;
        }
        tracing::info!(state = now.0.as_str(), reason = &*now.1, "state");
        self.alive.status(now.0, &now.1);
        self.outputs.publish(Notice::State(now.0, now.1.clone()));
        self.told = now;
    }

    pub(super) fn live(&self) -> Arc<Live> {
        Arc::new(self.pipeline.stats().live(LIVE_LABELS))
    }

    pub(super) fn status(&self) -> Status {
        let (state, reason) = self.state();
        let stats = self.pipeline.stats();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            state,
            reason: reason.to_string(),
            uptime: self.started.elapsed(),
            config_files: self
                .loaded
                .files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
            sources: vec![stats.source()],
            models: stats.models(),
            rules: self.rules.status(),
            prompts: self.told_prompts.clone(),
            taught: self.told_taught.clone(),
            inhibitors: self.inhibitors.values().cloned().collect(),
            live: self.live(),
            events: self.events,
            rss_bytes: rss_bytes(),
            cpu: cpu_time(),
        }
    }
}
