//! Putting another configuration in force while the daemon listens.
//!
//! Rules, prompts and taught sounds change in place. Other models or another source need another
//! pipeline: its models are loaded beside the loop, and only when it runs does the old one end.

use super::assembly::{check_prompt_model, spec_of};
use super::loading::{self, Loading};
use super::{Daemon, DaemonError, Reply, report_as, rules};
use crate::command::{Answer, Refusal};
use crate::config::{Config, Loaded};
use crate::pipeline::{Models, Pipeline};

/// A reload whose models are being loaded.
pub(super) struct Reloading {
    loaded: Loaded,
    /// Where the models come from.
    pub models: Loading,
    reply: Option<Reply>,
}

impl Daemon {
    /// Puts a new configuration in force, or leaves the old one as it is; whoever asked is told when it
    /// is done.
    pub(super) fn reload(&mut self, reply: Option<Reply>) {
        match self.begin_reload() {
            Ok(Some((loaded, models))) => {
                self.reloading = Some(Reloading {
                    loaded,
                    models,
                    reply,
                });
            }
            // Answered when the prompts are ready too.
            Ok(None) => self.refresh_asked(reply),
            Err(refusal) => answer(reply, Err(refusal)),
        }
    }

    /// The same as soon as the reload under way is over.
    pub(super) fn reload_by_signal(&mut self) {
        if self.reloading.is_some() {
            self.reload_again = true;
        } else {
            self.reload(None);
        }
    }

    /// `None` when it is done already.
    fn begin_reload(&mut self) -> Result<Option<(Loaded, Loading)>, Refusal> {
        if self.ending.is_some() {
            return Err(Refusal::Busy("the daemon is ending".into()));
        }
        if self.reloading.is_some() {
            let text = "the models of another reload are still being loaded; try again";
            return Err(Refusal::Busy(text.into()));
        }
        let loaded = (self.load)().map_err(|error| refuse(error.into()))?;
        check_prompt_model(&loaded).map_err(|error| refuse(error.into()))?;
        let old = &self.loaded.config;
        let new = &loaded.config;
        if needs_new_pipeline(old, new) {
            spec_of(&loaded).map_err(|error| refuse(error.into()))?;
            let models = loading::begin(&self.makers, &loaded)
                .map_err(|error| Refusal::Internal(DaemonError::from(error).to_string()))?;
            return Ok(Some((loaded, models)));
        }
        let known = self.pipeline.stats().known();
        let (engine, content, rules) = rules::compile(&loaded, &known).map_err(refuse)?;
        // Rules that stay the same keep what they have open.
        if old.rule != new.rule || old.content != new.content || self.rules.are_changed() {
            let set = self.pipeline.set_rules(engine, content);
            set.map_err(|error| refuse(error.into()))?;
            self.rules = rules.with_counts_of(&self.rules);
        }
        self.accept(loaded);
        Ok(None)
    }

    /// The models of a reload are there, or have failed.
    pub(super) fn finish_reload(&mut self, models: Result<Models, DaemonError>) {
        let Some(Reloading { loaded, reply, .. }) = self.reloading.take() else {
            return;
        };
        let done = if self.ending.is_some() {
            Err(Refusal::Busy("the daemon is ending".into()))
        } else {
            models
                .and_then(|models| self.replace_pipeline(&loaded, models))
                .map_err(refuse)
        };
        if done.is_ok() {
            self.accept(loaded);
        }
        match done {
            Ok(()) => self.refresh_asked(reply),
            Err(refusal) => answer(reply, Err(refusal)),
        }
        if std::mem::take(&mut self.reload_again) {
            self.reload(None);
        }
    }

    /// Starts a pipeline beside the old one; only when it runs does the old one end.
    fn replace_pipeline(&mut self, loaded: &Loaded, models: Models) -> Result<(), DaemonError> {
        let spec = spec_of(loaded)?;
        let (engine, content, rules) = rules::compile(loaded, &models.known())?;
        let mut setup = self.makers.setup(
            &spec,
            self.realtime,
            self.limits,
            models,
            (engine, content),
            self.started,
        );
        // A microphone that was to be left alone is not opened by a reload.
        setup.paused = self.is_paused;
        let generation = self.generation + 1;
        let pipeline = Pipeline::start(setup, report_as(generation, self.reporter.clone()))?;
        self.generation = generation;
        let old = std::mem::replace(&mut self.pipeline, pipeline);
        let counted = old.stats().clone();
        drop(old);
        self.pipeline.stats().carry_on(&counted);
        self.prompts.lose_streams();
        self.taught.lose_streams();
        self.rules = rules.with_counts_of(&self.rules);
        self.stalled = None;
        self.fault = None;
        Ok(())
    }

    /// What was asked for follows the configuration, the models on disk and the pipeline.
    fn refresh_asked(&mut self, reply: Option<Reply>) {
        // Whoever reads the configuration again has read what was wrong, too.
        self.prompts.warning = None;
        self.taught.warning = None;
        self.refresh_taught();
        self.refresh_prompts(reply);
    }

    fn accept(&mut self, loaded: Loaded) {
        let (old, new) = (&self.loaded.config, &loaded.config);
        if (&old.socket, &old.dbus) != (&new.socket, &new.dbus) {
            tracing::warn!("[socket] and [dbus] take effect at the next start");
        }
        self.alive.follow(self.pipeline.stats());
        self.loaded = loaded;
        tracing::info!("configuration read again");
    }
}

/// Tells whoever asked, or the log.
fn answer(reply: Option<Reply>, answer: Result<Answer, Refusal>) {
    match (reply, answer) {
        // Whoever asked may have gone.
        (Some(reply), answer) => drop(reply.send(answer)),
        (None, Err(refusal)) => tracing::error!("{refusal}"),
        (None, Ok(_)) => {}
    }
}

fn refuse(error: DaemonError) -> Refusal {
    Refusal::BadParams(error.to_string())
}

/// Whether the sound path must be built anew for another configuration.
fn needs_new_pipeline(old: &Config, new: &Config) -> bool {
    old.source != new.source
        || old.keyword != new.keyword
        || old.event != new.event
        || old.model != new.model
}
