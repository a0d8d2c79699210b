//! The rules in force as the daemon knows them: compiled for the pipeline, counted for `status`.

use std::collections::BTreeMap;

use super::DaemonError;
use crate::command::RuleStatus;
use crate::config::{KnownModel, Loaded};
use crate::detect::{Content, Engine, Rule};
use crate::event::{Event, Kind};

/// The rules for `status`.
pub(super) struct Rules {
    rules: Vec<RuleStatus>,
    /// Names of the rules over every label, with their kind.
    over_all: Vec<(Kind, String)>,
    /// Thresholds that were set by hand, by rule.
    by_hand: BTreeMap<String, f32>,
}

/// Compiles the rules and the content state of a configuration for the models that run.
///
/// # Errors
/// When a rule names a label that no model has, or a value is out of range.
pub(super) fn compile(
    loaded: &Loaded,
    known: &[KnownModel],
) -> Result<(Engine, Option<Content>, Rules), DaemonError> {
    loaded.validate_labels(known)?;
    let config = &loaded.config;
    let rules = config
        .rule
        .iter()
        .filter(|rule| rule.enabled)
        // Labels of the built-in rules may be missing.
        .map(|rule| Rule::from_config(rule, &[]))
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
    let content = config.content.enabled.then(|| content(loaded, known));
    let rules_status = Rules {
        rules: status,
        over_all: config
            .rule
            .iter()
            .filter(|rule| rule.enabled && rule.watched().is_empty())
            .map(|rule| (rule.kind, rule.name.clone()))
            .collect(),
        by_hand: BTreeMap::new(),
    };
    Ok((Engine::new(rules, known), content.flatten(), rules_status))
}

/// The content state by the first model that tells speech and music, if there is one.
fn content(loaded: &Loaded, known: &[KnownModel]) -> Option<Content> {
    let is_windowed = |model: &KnownModel| model.kind == Kind::Event;
    let told = known
        .iter()
        .position(|model| is_windowed(model) && Content::is_told_by(&model.labels));
    if told.is_none() && known.iter().any(is_windowed) {
        tracing::warn!("no model has the labels Speech and Music: there are no content changes");
    }
    let stream = told?;
    let hold_s = loaded.config.content.hold_s;
    Some(Content::new(hold_s, stream, &known.get(stream)?.labels))
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
            self.by_hand.insert(name.to_owned(), threshold);
        }
    }

    /// Whether a threshold was set by hand.
    pub fn are_changed(&self) -> bool {
        !self.by_hand.is_empty()
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

    /// Keeps the thresholds that were set by hand, here and in the engine of these rules.
    pub fn with_thresholds_of(mut self, old: &Rules, engine: &mut Engine) -> Self {
        for (name, threshold) in &old.by_hand {
            if engine.set_threshold(name, *threshold).is_ok() {
                self.set_threshold(name, *threshold);
            }
        }
        self
    }

    /// The threshold in force of the first rule over every label of a kind.
    pub fn threshold_over_all(&self, kind: Kind) -> Option<f32> {
        let (_, name) = self.over_all.iter().find(|(of, _)| *of == kind)?;
        let rule = self.rules.iter().find(|rule| *rule.name == **name)?;
        Some(rule.threshold)
    }

    /// For `status`.
    pub fn status(&self) -> Vec<RuleStatus> {
        self.rules.clone()
    }
}
