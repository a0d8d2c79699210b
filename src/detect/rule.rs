//! One `[[rule]]` compiled: thresholds, ratios and sample counts in place of text and seconds.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clock::SampleIdx;
use crate::config::{KnownModel, RuleConfig, is_reportable};
use crate::event::Kind;

/// Where a release threshold is not given, this part of the threshold: far enough below it that a
/// score which hovers at the threshold gives one event.
const RELEASE_RATIO: f32 = 0.75;
/// Samples between two observations of the keyword model (10 ms).
const FRAME: u64 = 160;
/// Smoothing of keyword scores where the rule says nothing, in frames (40 ms).
const SMOOTH_FRAMES: usize = 4;
/// Time after a keyword in which the other labels of its rule stay silent where the rule says
/// nothing, in samples (250 ms): one utterance does not fire two similar words.
const LOCKOUT: u64 = 4_000;

/// Why a rule cannot be compiled; the text says what and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule '{rule}': {key}: {text}")]
pub struct RuleError {
    /// Its name.
    pub rule: String,
    /// The key at fault, such as `confirm.hits`.
    pub key: String,
    /// What is wrong with it.
    pub text: String,
}

/// A compiled rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    /// The only model it watches, where it names one.
    pub(super) model: Option<Arc<str>>,
    /// Empty: every reportable label.
    pub(super) labels: Vec<Arc<str>>,
    pub(super) threshold: f32,
    pub(super) own_thresholds: Vec<(Arc<str>, f32)>,
    pub(super) release_ratio: f32,
    pub(super) hits: u32,
    pub(super) of: u32,
    pub(super) refractory: u64,
    pub(super) hold: u64,
    pub(super) smooth: usize,
    pub(super) lockout: u64,
    pub(super) min_level_db: f32,
    pub(super) veto: Vec<Arc<str>>,
    pub(super) veto_threshold: f32,
}

impl Rule {
    /// Compiles the rules in force, in their order.
    ///
    /// # Errors
    /// As [`Rule::from_config`].
    pub fn all_from_config(
        rules: &[RuleConfig],
        known: &[KnownModel],
    ) -> Result<Vec<Rule>, RuleError> {
        rules
            .iter()
            .filter(|rule| rule.enabled)
            .map(|rule| Rule::from_config(rule, known))
            .collect()
    }

    /// Compiles a rule. `known` names the models that run and their labels; a kind that is missing
    /// there is not checked.
    ///
    /// # Errors
    /// When a value is out of range or a label is in none of the models.
    pub fn from_config(config: &RuleConfig, known: &[KnownModel]) -> Result<Rule, RuleError> {
        let mut problems = config.problems();
        problems.extend(config.label_problems(known));
        if let Some(problem) = problems.into_iter().next() {
            return Err(RuleError {
                rule: config.name.clone(),
                key: problem
                    .keys
                    .first()
                    .map_or_else(String::new, |key| key.join(".")),
                text: problem.text,
            });
        }
        let samples = |seconds: f64| SampleIdx::from_secs_f64(seconds).0;
        let instant = config.kind == Kind::Keyword;
        let smooth = match config.smooth {
            _ if !instant => 1,
            Some(time) => usize::try_from(samples(time.as_secs_f64()).div_ceil(FRAME)).unwrap_or(1),
            None => SMOOTH_FRAMES,
        };
        let lockout = match config.lockout {
            _ if !instant => 0,
            Some(time) => samples(time.as_secs_f64()),
            None => LOCKOUT,
        };
        let names = |labels: &[String]| -> Vec<Arc<str>> {
            labels
                .iter()
                .map(|label| Arc::from(label.as_str()))
                .collect()
        };
        Ok(Rule {
            name: Arc::from(config.name.as_str()),
            kind: config.kind,
            model: config.model.as_deref().map(Arc::from),
            labels: names(&config.watched()),
            threshold: config.threshold,
            own_thresholds: config
                .thresholds
                .iter()
                .map(|(label, threshold)| (Arc::from(label.as_str()), *threshold))
                .collect(),
            release_ratio: config
                .release
                .map_or(RELEASE_RATIO, |release| release / config.threshold),
            hits: config.confirm.hits,
            of: config.confirm.of,
            refractory: samples(config.refractory.as_secs_f64()),
            hold: samples(config.hold.as_secs_f64()),
            smooth: smooth.max(1),
            lockout,
            min_level_db: config.min_level_db.unwrap_or(f32::NEG_INFINITY),
            veto: names(&config.veto),
            veto_threshold: config.veto_threshold,
        })
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it listens to.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The threshold in force for labels without one of their own, `0.0..=1.0`.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// The threshold in force for a label.
    pub fn threshold_of(&self, label: &str) -> f32 {
        self.own_thresholds
            .iter()
            .find(|(name, _)| **name == *label)
            .map_or(self.threshold, |(_, own)| *own)
    }

    /// The score below which an episode of a label ends.
    pub fn release_of(&self, label: &str) -> f32 {
        self.threshold_of(label) * self.release_ratio
    }

    /// The threshold in force for a label whose model gives it `own`.
    pub(super) fn threshold_for(&self, label: &str, own: Option<f32>) -> f32 {
        match own {
            Some(own) if self.labels.is_empty() && !self.gives_threshold(label) => own,
            _ => self.threshold_of(label),
        }
    }

    fn gives_threshold(&self, label: &str) -> bool {
        self.own_thresholds.iter().any(|(name, _)| **name == *label)
    }

    /// Whether it reports instants (keywords) rather than starts and ends.
    pub fn is_instant(&self) -> bool {
        self.kind == Kind::Keyword
    }

    /// Whether it may watch labels of this model.
    pub(super) fn watches(&self, model: &KnownModel) -> bool {
        let is_named = |name: &Arc<str>| *name == model.name;
        self.kind == model.kind && self.model.as_ref().is_none_or(is_named)
    }

    /// The labels it watches in each of `models`, with their positions there: a label that several
    /// have belongs to the first. Within a model the order is that of the rule, or by name for a rule
    /// over every label, so that decisions do not depend on the order of a model.
    pub(super) fn positions(&self, models: &[KnownModel]) -> Vec<Vec<(Arc<str>, usize)>> {
        let mut taken: BTreeSet<Arc<str>> = BTreeSet::new();
        let own = |model: &KnownModel| -> Vec<(Arc<str>, usize)> {
            if !self.watches(model) {
                return Vec::new();
            }
            let labels = &model.labels;
            let mut positions: Vec<(Arc<str>, usize)> = if self.labels.is_empty() {
                let all = labels.iter().cloned().zip(0..);
                all.filter(|(label, _)| is_reportable(label)).collect()
            } else {
                let wanted = self.labels.iter();
                wanted
                    .filter_map(|label| {
                        let at = labels.iter().position(|name| name == label)?;
                        Some((Arc::clone(label), at))
                    })
                    .collect()
            };
            if self.labels.is_empty() {
                positions.sort();
            }
            positions.retain(|(label, _)| taken.insert(Arc::clone(label)));
            positions
        };
        models.iter().map(own).collect()
    }
}
