//! The rules in force as the daemon knows them: compiled for the pipeline, counted for `status`.

use std::sync::Arc;

use super::DaemonError;
use crate::command::RuleStatus;
use crate::config::Loaded;
use crate::detect::{Content, Engine, Rule};
use crate::event::{Event, Kind};

/// Names and labels of the models that run.
pub(super) type Known = [(Kind, Arc<[Arc<str>]>)];

/// The rules for `status`.
pub(super) struct Rules {
    rules: Vec<RuleStatus>,
    changed: bool,
}

/// Compiles the rules and the content state of a configuration for models with these labels.
///
/// # Errors
/// When a rule names a label that no model has, or a value is out of range.
pub(super) fn compile(
    loaded: &Loaded,
    known: &Known,
) -> Result<(Engine, Option<Content>, Rules), DaemonError> {
    let known: Vec<(Kind, &[Arc<str>])> = known
        .iter()
        .map(|(kind, labels)| (*kind, &**labels))
        .collect();
    loaded.validate_labels(&known)?;
    let config = &loaded.config;
    let rules = config
        .rule
        .iter()
        .filter(|rule| rule.enabled)
        .map(|rule| Rule::from_config(rule, &known))
        .collect::<Result<Vec<_>, _>>()?;
    let status = rules
        .iter()
        .map(|rule| RuleStatus {
            name: rule.name().clone(),
            kind: rule.kind(),
            threshold: rule.threshold(),
            fired: 0,
        })
        .collect();
    let content = config
        .content
        .enabled
        .then(|| Content::new(config.content.hold_s));
    let rules_status = Rules {
        rules: status,
        changed: false,
    };
    Ok((Engine::new(rules), content, rules_status))
}

impl Rules {
    /// Counts an event that has begun.
    pub fn count(&mut self, event: &Event) {
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.name == event.rule) {
            rule.fired += 1;
        }
    }

    /// Notes a threshold that was set by hand.
    pub fn set_threshold(&mut self, name: &str, threshold: f32) {
        if let Some(rule) = self.rules.iter_mut().find(|rule| &*rule.name == name) {
            rule.threshold = threshold;
            self.changed = true;
        }
    }

    /// Whether a threshold was set by hand.
    pub fn are_changed(&self) -> bool {
        self.changed
    }

    /// Goes on counting where `old` stood, for rules of the same name.
    pub fn with_counts_of(mut self, old: &Rules) -> Self {
        for rule in &mut self.rules {
            rule.fired = old
                .rules
                .iter()
                .find(|before| before.name == rule.name)
                .map_or(0, |before| before.fired);
        }
        self
    }

    /// For `status`.
    pub fn status(&self) -> Vec<RuleStatus> {
        self.rules.clone()
    }
}
