//! The lowest thresholds of a rule that keep what a room does by itself from firing it.
//!
//! What fired over score tracks in which nothing happened is a false accept by definition. Candidates
//! are run over the tracks through the engine itself, so that confirmation, vetoes, level gates,
//! lockout and refractory times count as they do live; no model is asked again.
//!
//! - Thresholds are those of labels, in steps of 0.01: a clock that ticks raises `Tick-tock` and leaves
//!   the doorbell of the same rule alone. The false accepts of a rule are those of its labels together,
//!   and the label that fires most is raised first.
//! - More false accepts at a *higher* threshold are possible: one long event falls apart into several.
//!   So every candidate is counted, and one holds only where all above it do. (Whether anything fires at
//!   all is monotonic: until then the engine keeps no state but the hits.)
//! - A label that fires even at the highest candidate keeps its threshold: raised, it would be deaf to
//!   the sound itself and no quieter.
//! - A threshold is raised where the count is over the target. It is lowered only on request, and only
//!   where enough was heard: all thresholds are then the lowest for which the target is shown with a
//!   confidence of 95 % (see `poisson`), which for some may be higher than before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::poisson::most_that_shows;
use super::tracks::Tracks;
use super::{Engine, Rule, RuleError};
use crate::config::{KnownModel, RuleConfig};
use crate::event::{Kind, Phase};

/// No threshold is lowered below this: under it a score says "rather not" for any model whose scores
/// are probabilities, and a room that was quiet for hours says nothing about the day it is not.
pub const FLOOR: f32 = 0.4;
/// No threshold is raised above this: a model must be able to reach it.
pub const CEILING: f32 = 0.99;
/// Candidates in a unit.
const STEPS: f32 = 100.0;

/// What a rule is to keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// False accepts an hour of all labels of a rule together.
    pub per_hour: f64,
    /// How long the tracks are.
    pub hours: f64,
    /// Whether thresholds may go down.
    pub may_lower: bool,
}

impl Target {
    /// The most false accepts in the tracks that keep the target.
    pub fn allowed(&self) -> u32 {
        // Half an hour at two an hour is one, whatever rounding makes of it.
        (self.per_hour * self.hours + 1e-9) as u32
    }

    /// The most that still show the target, where thresholds may go down and enough was heard.
    fn shown(&self) -> Option<u32> {
        let most = most_that_shows(self.per_hour, self.hours);
        most.filter(|_| self.may_lower)
    }
}

/// What comes of one label of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelProposal {
    /// The label.
    pub label: Arc<str>,
    /// Name of the model whose label it is.
    pub model: Arc<str>,
    /// The threshold in force.
    pub old: f32,
    /// The threshold that the room needs.
    pub needed: f32,
    /// The threshold that is proposed: the one needed, or the old one where the label is held.
    pub new: f32,
    /// Whether no threshold keeps it quiet; it keeps the old one then, for the highest would make it deaf
    /// and not quiet.
    pub is_beyond: bool,
    /// The highest score in the tracks, before smoothing.
    pub highest: f32,
    /// False accepts at the threshold in force.
    pub before: u32,
    /// False accepts at the proposed one.
    pub after: u32,
}

/// What comes of one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Its name.
    pub rule: Arc<str>,
    /// What it listens to.
    pub kind: Kind,
    /// Its labels, those that a model has.
    pub labels: Vec<LabelProposal>,
}

impl Proposal {
    /// False accepts at the thresholds in force.
    pub fn before(&self) -> u32 {
        self.labels.iter().map(|label| label.before).sum()
    }

    /// False accepts at the proposed thresholds.
    pub fn after(&self) -> u32 {
        self.labels.iter().map(|label| label.after).sum()
    }
}

impl LabelProposal {
    /// Whether another threshold is proposed.
    pub fn is_changed(&self) -> bool {
        self.old != self.new
    }

    /// Whether another threshold is needed and not proposed.
    pub fn is_held(&self) -> bool {
        self.old == self.new && self.needed != self.new
    }
}

/// Proposes thresholds for a rule, from tracks of the models `known` in which nothing happened. Labels
/// for which `is_held` answers true are counted and keep their thresholds.
///
/// # Errors
/// When the rule cannot be compiled.
pub fn propose(
    rule: &RuleConfig,
    known: &[KnownModel],
    tracks: &Tracks,
    target: Target,
    is_held: &dyn Fn(&str) -> bool,
) -> Result<Proposal, RuleError> {
    let compiled = Rule::from_config(rule, &[])?;
    let mut labels = Vec::new();
    for (stream, positions) in compiled.positions(known).into_iter().enumerate() {
        for (label, index) in positions {
            let own = known[stream].thresholds.get(index).copied().flatten();
            let old = compiled.threshold_for(&label, own);
            labels.push(LabelProposal {
                model: known[stream].name.clone(),
                old,
                needed: old,
                new: old,
                is_beyond: false,
                highest: tracks.highest(stream, index),
                before: 0,
                after: 0,
                label,
            });
        }
    }
    let search = Search {
        rule,
        known,
        tracks,
    };
    let old: Vec<f32> = labels.iter().map(|label| label.old).collect();
    let before = search.counts(&labels, &old)?;
    for (label, count) in labels.iter_mut().zip(&before) {
        label.before = *count;
    }
    search.settle(&mut labels, target)?;
    for label in &mut labels {
        if !label.is_beyond && !is_held(&label.label) {
            label.new = label.needed;
        }
    }
    let new: Vec<f32> = labels.iter().map(|label| label.new).collect();
    let after = if new == old {
        before
    } else {
        search.counts(&labels, &new)?
    };
    for (label, count) in labels.iter_mut().zip(after) {
        label.after = count;
    }
    Ok(Proposal {
        rule: compiled.name().clone(),
        kind: compiled.kind(),
        labels,
    })
}

/// How often each label of a rule fires over tracks, with the thresholds that `proposal` has for them.
///
/// # Errors
/// When the rule cannot be compiled.
pub fn count(
    rule: &RuleConfig,
    known: &[KnownModel],
    tracks: &Tracks,
    proposal: &Proposal,
    threshold: fn(&LabelProposal) -> f32,
) -> Result<Vec<u32>, RuleError> {
    let thresholds: Vec<f32> = proposal.labels.iter().map(threshold).collect();
    let search = Search {
        rule,
        known,
        tracks,
    };
    search.counts(&proposal.labels, &thresholds)
}

/// A rule over tracks.
struct Search<'a> {
    rule: &'a RuleConfig,
    known: &'a [KnownModel],
    tracks: &'a Tracks,
}

/// False accepts of one label alone by its threshold.
struct Curve {
    /// Ascending.
    thresholds: Vec<f32>,
    /// The most at each threshold and all above it.
    most: Vec<u32>,
}

impl Curve {
    /// The first threshold above that at `at` with fewer false accepts.
    fn next(&self, at: usize) -> Option<usize> {
        (at + 1..self.most.len()).find(|&next| self.most[next] < self.most[at])
    }

    /// Where `threshold` stands.
    fn position(&self, threshold: f32) -> usize {
        self.thresholds
            .iter()
            .position(|other| *other >= threshold)
            .unwrap_or(self.thresholds.len() - 1)
    }
}

impl Search<'_> {
    /// The rule over some of its labels with thresholds of their own.
    fn with(&self, name: String, labels: &[(Arc<str>, f32)]) -> RuleConfig {
        let thresholds = labels.iter().map(|(l, t)| (l.to_string(), *t));
        RuleConfig {
            name,
            labels: labels.iter().map(|(label, _)| label.to_string()).collect(),
            prompt: None,
            taught: None,
            thresholds: thresholds.collect::<BTreeMap<_, _>>(),
            ..self.rule.clone()
        }
    }

    /// How often each label fires when all of them have these thresholds.
    fn counts(&self, labels: &[LabelProposal], thresholds: &[f32]) -> Result<Vec<u32>, RuleError> {
        let mut counts = vec![0; labels.len()];
        if labels.is_empty() {
            return Ok(counts);
        }
        let names = labels.iter().map(|label| label.label.clone());
        let pairs: Vec<(Arc<str>, f32)> = names.zip(thresholds.iter().copied()).collect();
        let rule = Rule::from_config(&self.with(self.rule.name.clone(), &pairs), &[])?;
        let mut engine = Engine::new(vec![rule], self.known);
        self.tracks.replay(&mut engine, &mut |decision| {
            if decision.phase != Phase::End
                && let Some(at) = pairs.iter().position(|(label, _)| *label == decision.label)
            {
                counts[at] += 1;
            }
        });
        Ok(counts)
    }

    /// Counts every candidate of every label in one pass.
    fn curves(&self, labels: &[LabelProposal], target: Target) -> Result<Vec<Curve>, RuleError> {
        let mut curves: Vec<Curve> = labels
            .iter()
            .map(|label| {
                let thresholds = candidates(label, target.may_lower);
                Curve {
                    most: vec![0; thresholds.len()],
                    thresholds,
                }
            })
            .collect();
        let mut rules = Vec::new();
        let mut places = Vec::new();
        for (at, (label, curve)) in labels.iter().zip(&curves).enumerate() {
            for (step, threshold) in curve.thresholds.iter().enumerate() {
                // What no score reaches is not counted, for it cannot fire.
                if *threshold <= label.highest {
                    let single = [(label.label.clone(), *threshold)];
                    let rule = self.with(places.len().to_string(), &single);
                    rules.push(Rule::from_config(&rule, &[])?);
                    places.push((at, step));
                }
            }
        }
        let mut engine = Engine::new(rules, self.known);
        self.tracks.replay(&mut engine, &mut |decision| {
            let place = decision
                .rule
                .parse()
                .ok()
                .and_then(|n: usize| places.get(n));
            if decision.phase != Phase::End
                && let Some(&(at, step)) = place
            {
                curves[at].most[step] += 1;
            }
        });
        for curve in &mut curves {
            let mut most = 0;
            for count in curve.most.iter_mut().rev() {
                most = most.max(*count);
                *count = most;
            }
        }
        Ok(curves)
    }

    /// Finds the thresholds that the target needs, and the labels that none keeps quiet.
    fn settle(&self, labels: &mut [LabelProposal], target: Target) -> Result<(), RuleError> {
        let before: u32 = labels.iter().map(|label| label.before).sum();
        let shown = target.shown();
        let allowed = shown.unwrap_or(target.allowed());
        if labels.is_empty() || before <= allowed && shown.is_none() {
            return Ok(());
        }
        let mut curves = self.curves(labels, target)?;
        let mut is_beyond = vec![false; labels.len()];
        loop {
            let start = curves
                .iter()
                .zip(&*labels)
                .map(|(curve, label)| match shown {
                    Some(_) => 0,
                    None => curve.position(label.old),
                });
            let (places, left) =
                self.raised(&curves, start.collect(), labels, &is_beyond, allowed)?;
            for (at, label) in labels.iter_mut().enumerate() {
                if !is_beyond[at] {
                    label.needed = curves[at].thresholds[places[at]];
                }
            }
            let total: u32 = (0..labels.len())
                .filter(|at| !is_beyond[*at])
                .map(|at| left[at])
                .sum();
            let stuck: Vec<usize> = (0..labels.len())
                .filter(|&at| !is_beyond[at] && left[at] > 0 && labels[at].needed >= CEILING)
                .collect();
            if total <= allowed || stuck.is_empty() {
                return Ok(());
            }
            // Without them the others may need less.
            for at in stuck {
                is_beyond[at] = true;
                labels[at].is_beyond = true;
                let old = labels[at].old;
                curves[at] = Curve {
                    thresholds: vec![old],
                    most: vec![0],
                };
            }
        }
    }

    /// Raises the label that fires most, again and again, until all that count fire at most `allowed`
    /// times together, or none can go higher. Gives the places on the curves, and how often each label
    /// fires there beside the others.
    fn raised(
        &self,
        curves: &[Curve],
        mut places: Vec<usize>,
        labels: &[LabelProposal],
        is_beyond: &[bool],
        allowed: u32,
    ) -> Result<(Vec<usize>, Vec<u32>), RuleError> {
        let counted: Vec<usize> = (0..curves.len()).filter(|at| !is_beyond[*at]).collect();
        let most = |places: &[usize], at: usize| curves[at].most[places[at]];
        loop {
            let total: u32 = counted.iter().map(|&at| most(&places, at)).sum();
            let next = counted
                .iter()
                .filter_map(|&at| Some((most(&places, at), at, curves[at].next(places[at])?)))
                .max();
            match next {
                Some((_, at, next)) if total > allowed => places[at] = next,
                _ => break,
            }
        }
        // Each label was counted by itself. Beside each other one may fire where another no longer
        // locks it out, so all together are the proof.
        loop {
            let counts = self.counts(labels, &thresholds(curves, &places))?;
            let can_rise = |at: usize| places[at] + 1 < curves[at].thresholds.len();
            let noisiest = counted
                .iter()
                .copied()
                .filter(|&at| counts[at] > 0 && can_rise(at))
                .max_by_key(|&at| counts[at]);
            let total: u32 = counted.iter().map(|&at| counts[at]).sum();
            match noisiest {
                Some(at) if total > allowed => places[at] += 1,
                _ => return Ok((places, counts)),
            }
        }
    }
}

fn thresholds(curves: &[Curve], places: &[usize]) -> Vec<f32> {
    let each = curves.iter().zip(places);
    each.map(|(curve, at)| curve.thresholds[*at]).collect()
}

/// The thresholds that a label may have: the one in force, all above it in steps, and those below it
/// where it may go down.
fn candidates(label: &LabelProposal, may_lower: bool) -> Vec<f32> {
    let from = if may_lower {
        FLOOR.min(label.old)
    } else {
        label.old
    };
    let mut all: Vec<f32> = (1..=(CEILING * STEPS).round() as u16)
        .map(|step| f32::from(step) / STEPS)
        .filter(|threshold| *threshold >= from && *threshold != label.old)
        .chain([label.old])
        .collect();
    all.sort_by(f32::total_cmp);
    all
}
