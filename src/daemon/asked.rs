//! What is asked to be listened for comes in force: prompts and taught sounds as streams of the
//! pipeline, beside the models of the configuration, while sound goes on.

use std::time::Instant;

use super::lessons::{Deed, Done};
use super::phrases::Ready;
use super::prompts::Change;
use super::taught;
use super::{Daemon, DaemonError, Reply, rules};
use crate::command::{Answer, Command, Notice, Refusal};
use crate::config::KnownModel;
use crate::event::Kind;
use crate::models::ModelError;
use crate::models::taught::TeachError;
use crate::pipeline::Standing;

impl Daemon {
    /// Takes a command about prompts; it is answered when it is done.
    pub(super) fn ask_prompts(&mut self, command: Command, reply: Reply) {
        if self.ending.is_some() {
            return refuse(Some(reply), Refusal::Busy("the daemon is ending".into()));
        }
        let change = match command {
            Command::AddPrompt { label, replace } => Change::Add {
                label,
                replace,
                reply,
            },
            Command::RemovePrompt { name } => Change::Remove { name, reply },
            _ => Change::Refresh { reply: Some(reply) },
        };
        self.prompts.ask(change);
        self.next_prompts();
    }

    /// Makes the prompts ready again: the configuration, the models or the sound path are others.
    pub(super) fn refresh_prompts(&mut self, reply: Option<Reply>) {
        if self.prompts.are_none(&self.loaded) {
            if let Some(reply) = reply {
                // Whoever asked may have gone.
                drop(reply.send(Ok(Answer::Done)));
            }
            return;
        }
        self.prompts.ask(Change::Refresh { reply });
        self.next_prompts();
    }

    /// Begins with the next change of the prompts, where none is under way.
    fn next_prompts(&mut self) {
        while let Some((change, refusal)) = self.prompts.next(&self.loaded) {
            refuse(reply_of(change).1, refusal);
        }
    }

    /// Prompts are ready, or cannot be.
    pub(super) fn finish_prompts(&mut self, ready: Result<Ready, ModelError>) {
        let Some(plan) = self.prompts.planned() else {
            return;
        };
        if self.ending.is_some() {
            let refusal = Refusal::Busy("the daemon is ending".into());
            return refuse(reply_of(plan.change).1, refusal);
        }
        let (change, done) = match ready {
            Ok(ready) => {
                let events = self.event_models();
                let change = self.prompts.accept(plan, ready, &events);
                (change, self.put_in_force())
            }
            Err(error) => {
                let text = error.to_string();
                let change = self.prompts.fail(plan, &text);
                (change, Err(Refusal::Internal(format!("prompts: {text}"))))
            }
        };
        self.tell_prompts();
        let (name, reply) = reply_of(change);
        let found = name.and_then(|name| {
            let mut prompts = self.told_prompts.iter();
            prompts.find(|prompt| *prompt.name == *name).cloned()
        });
        match (done, reply) {
            (Err(refusal), reply) => refuse(reply, refusal),
            // Whoever asked may have gone.
            (Ok(()), Some(reply)) => drop(reply.send(Ok(match found {
                Some(prompt) => Answer::Prompt(Box::new(prompt)),
                None => Answer::Done,
            }))),
            (Ok(()), None) => {}
        }
        self.next_prompts();
    }

    /// The models of events, in their order.
    fn event_models(&self) -> Vec<KnownModel> {
        let known = self.pipeline.stats().known();
        let is_event = |model: &KnownModel| model.kind == Kind::Event;
        known.into_iter().filter(is_event).collect()
    }

    /// Puts the streams of prompts and taught sounds in force, with the rules for them. Rules that were
    /// there keep what they have open.
    fn put_in_force(&mut self) -> Result<(), Refusal> {
        let running = self.pipeline.stats().known();
        let mut known: Vec<KnownModel> = Vec::new();
        let mut standing = Vec::new();
        for model in running {
            match model.kind {
                Kind::Keyword => known.push(model),
                Kind::Event => {
                    standing.push(Standing::Keep {
                        name: model.name.clone(),
                        kind: model.kind,
                        labels: None,
                    });
                    known.push(model);
                }
                // Theirs follow.
                _ => {}
            }
        }
        let asked = self.prompts.standing().into_iter();
        let weights = self.pipeline.stats().models();
        for (mut stream, model) in asked.chain(self.taught.standing()) {
            // Its events name the weights that its scores come from.
            if let Standing::Derived(derived) = &mut stream
                && let Some(of) = weights.iter().find(|of| of.name == derived.of)
            {
                derived.sha256 = of.sha256.clone();
            }
            standing.push(stream);
            known.push(model);
        }
        let set = self.set_models(standing, &known);
        if set.is_err() {
            // What was to run anew is gone: whatever comes next makes it again.
            self.prompts.lose_streams();
            self.taught.lose_streams();
        }
        set.map_err(|error| Refusal::Internal(error.to_string()))
    }

    fn set_models(
        &mut self,
        standing: Vec<Standing>,
        known: &[KnownModel],
    ) -> Result<(), DaemonError> {
        let (mut engine, content, rules) = rules::compile(&self.loaded, known)?;
        let rules = rules.with_counts_of(&self.rules);
        let rules = rules.with_thresholds_of(&self.rules, &mut engine);
        self.pipeline.set_models(standing, engine, content)?;
        self.rules = rules;
        self.alive.follow(self.pipeline.stats());
        Ok(())
    }

    /// Takes a command about taught sounds; it is answered when it is done.
    pub(super) fn ask_taught(&mut self, command: Command, reply: Reply) {
        if self.ending.is_some() {
            return refuse(Some(reply), Refusal::Busy("the daemon is ending".into()));
        }
        let deed = match command {
            Command::Teach {
                name,
                kind,
                files,
                replace,
            } => Deed::Teach {
                name,
                kind,
                files,
                replace,
            },
            Command::Forget { name } => Deed::Forget(name),
            _ => Deed::Read,
        };
        let reply = Some(reply);
        self.taught
            .ask(taught::Change { deed, reply }, &self.loaded);
    }

    /// Makes the taught sounds ready again: the configuration, the store or the sound path are others.
    pub(super) fn refresh_taught(&mut self) {
        let (deed, reply) = (Deed::Read, None);
        self.taught
            .ask(taught::Change { deed, reply }, &self.loaded);
    }

    /// A change of the taught sounds is made, or has failed.
    pub(super) fn finish_taught(&mut self, done: Result<Done, TeachError>) {
        let Some(change) = self.taught.changed() else {
            return;
        };
        if self.ending.is_some() {
            return refuse(change.reply, Refusal::Busy("the daemon is ending".into()));
        }
        let done = match done {
            Ok(mut done) => {
                let warnings = std::mem::take(&mut done.warnings);
                self.taught.accept(&change, done);
                self.put_in_force().map(|()| warnings)
            }
            Err(error) => Err(match error {
                TeachError::Model(_) | TeachError::Disk(_) => Refusal::Internal(error.to_string()),
                _ => Refusal::BadParams(error.to_string()),
            }),
        };
        self.tell_taught();
        match (done, change.reply) {
            (Err(refusal), reply) => refuse(reply, refusal),
            (Ok(warnings), Some(reply)) => {
                let learned = change.learns.and_then(|name| {
                    let mut sounds = self.told_taught.iter();
                    sounds.find(|sound| *sound.name == *name).cloned()
                });
                // Whoever asked may have gone.
                drop(reply.send(Ok(match learned {
                    Some(sound) => Answer::Learned(Box::new(sound), warnings),
                    None => Answer::Done,
                })));
            }
            (Ok(_), None) => {}
        }
        self.taught.next(&self.loaded);
    }

    /// Tells every output of the taught sounds where they are not as they were.
    pub(super) fn tell_taught(&mut self) {
        let now = self
            .taught
            .status(self.rules.threshold_over_all(Kind::Taught));
        if now != self.told_taught {
            self.told_taught = now.clone();
            self.outputs.publish(Notice::Taught(now));
        }
    }

    /// Tells every output of the prompts where they are not as they were.
    pub(super) fn tell_prompts(&mut self) {
        let now = self
            .prompts
            .status(self.rules.threshold_over_all(Kind::Prompt));
        if now != self.told_prompts {
            self.told_prompts = now.clone();
            self.outputs.publish(Notice::Prompts(now));
        }
    }

    /// Looks from time to time whether a model that prompts wait for is there.
    pub(super) fn look_for_models(&mut self, now: Instant) {
        if self.ending.is_none() && self.prompts.is_found(now) {
            self.refresh_prompts(None);
        }
    }
}

/// The name of a prompt that was asked for, and who asked.
fn reply_of(change: Change) -> (Option<String>, Option<Reply>) {
    match change {
        Change::Add { label, reply, .. } => (Some(label.name), Some(reply)),
        Change::Remove { reply, .. } => (None, Some(reply)),
        Change::Refresh { reply } => (None, reply),
    }
}

/// Tells whoever asked; what nobody asked for is in the log.
fn refuse(reply: Option<Reply>, refusal: Refusal) {
    match reply {
        // Whoever asked may have gone.
        Some(reply) => drop(reply.send(Err(refusal))),
        None => tracing::error!("{refusal}"),
    }
}
