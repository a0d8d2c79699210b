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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Observation;
    use super::super::tracks::Told;
    use super::*;
    use crate::clock::SampleIdx;
    use crate::config::{Confirm, Seconds};

    const LABELS: [&str; 3] = ["a", "b", "c"];

    fn known(kind: Kind) -> Vec<KnownModel> {
        vec![KnownModel {
            kind,
            name: "m".into(),
            labels: LABELS.map(Arc::from).into(),
            thresholds: Arc::default(),
        }]
    }

    fn tracks(rows: &[[f32; 3]]) -> Tracks {
        let mut tracks = Tracks::default();
        for (n, scores) in (0..).zip(rows) {
            tracks.push(Told::Seen(&Observation {
                stream: 0,
                start: SampleIdx(n * 8000),
                end: SampleIdx(n * 8000 + 16_000),
                scores,
                level_dbfs: -30.0,
            }));
        }
        tracks
    }

    fn rule(kind: Kind) -> RuleConfig {
        RuleConfig {
            name: "r".into(),
            kind,
            labels: LABELS.map(str::to_owned).to_vec(),
            smooth: (kind == Kind::Keyword).then_some(Seconds::ZERO),
            refractory: Seconds::ZERO,
            ..RuleConfig::default()
        }
    }

    fn target(per_hour: f64, hours: f64) -> Target {
        Target {
            per_hour,
            hours,
            may_lower: false,
        }
    }

    fn proposed(proposal: &Proposal) -> Vec<f32> {
        proposal.labels.iter().map(|label| label.new).collect()
    }

    fn check(rows: &[[f32; 3]], target: Target, expected: [f32; 3], counts: (u32, u32)) {
        let known = known(Kind::Event);
        let proposal = propose(&rule(Kind::Event), &known, &tracks(rows), target, &|_| {
            false
        })
        .unwrap();
        assert_eq!(proposed(&proposal), expected);
        assert_eq!((proposal.before(), proposal.after()), counts);
    }

    const QUIET: [f32; 3] = [0.0; 3];

    #[test]
    fn only_the_label_that_fires_is_raised_and_no_further_than_needed() {
        let rows = [[0.7, 0.1, 0.4], QUIET, [0.62, 0.1, 0.49], QUIET];
        check(&rows, target(1.0, 0.1), [0.71, 0.5, 0.5], (2, 0));
        // One of two an hour is left.
        check(&rows, target(1.0, 1.0), [0.63, 0.5, 0.5], (2, 1));
        check(&rows, target(2.0, 1.0), [0.5, 0.5, 0.5], (2, 2));
    }

    #[test]
    fn the_label_that_fires_most_gives_way_first() {
        let rows = [
            [0.6, 0.9, 0.0],
            QUIET,
            [0.7, 0.0, 0.0],
            QUIET,
            [0.8, 0.0, 0.0],
            QUIET,
        ];
        check(&rows, target(2.0, 1.0), [0.71, 0.5, 0.5], (4, 2));
        check(&rows, target(3.0, 1.0), [0.61, 0.5, 0.5], (4, 3));
    }

    #[test]
    fn one_long_event_that_would_fall_apart_is_raised_past_that() {
        // One event at 0.5; between 0.76 and 0.8 three of them, for the release follows the threshold.
        let rows = [
            [0.8, 0.0, 0.0],
            [0.55, 0.0, 0.0],
            [0.8, 0.0, 0.0],
            [0.55, 0.0, 0.0],
            [0.8, 0.0, 0.0],
            QUIET,
        ];
        check(&rows, target(1.0, 1.0), [0.5, 0.5, 0.5], (1, 1));
        let with_another = [&rows[..], &[[0.52, 0.0, 0.0], QUIET]].concat();
        check(&with_another, target(1.0, 1.0), [0.81, 0.5, 0.5], (2, 0));
    }

    #[test]
    fn a_held_label_is_counted_and_left_alone() {
        let rows = [[0.9, 0.7, 0.0], QUIET];
        let proposal = propose(
            &rule(Kind::Event),
            &known(Kind::Event),
            &tracks(&rows),
            target(1.0, 0.2),
            &|label| label == "a",
        )
        .unwrap();
        assert_eq!(proposed(&proposal), [0.5, 0.71, 0.5]);
        assert!(proposal.labels[0].is_held() && !proposal.labels[1].is_held());
        assert_eq!(proposal.labels[0].needed, 0.91);
        assert_eq!((proposal.before(), proposal.after()), (2, 1));
    }

    #[test]
    fn what_fires_at_any_threshold_keeps_its_own() {
        let rows = [[1.0, 0.7, 0.0], QUIET];
        check(&rows, target(1.0, 0.1), [0.5, 0.71, 0.5], (2, 1));
        // It takes nothing of what the others may have.
        let rows = [[1.0, 0.7, 0.0], QUIET, [1.0, 0.0, 0.0], QUIET];
        check(&rows, target(1.0, 1.0), [0.5, 0.5, 0.5], (3, 3));
    }

    #[test]
    fn a_threshold_is_lowered_on_request_and_only_where_enough_was_heard() {
        let rows = [[0.45, 0.0, 0.0], QUIET];
        let lower = |per_hour, hours| Target {
            may_lower: true,
            ..target(per_hour, hours)
        };
        check(&rows, lower(1.0, 2.9), [0.5, 0.5, 0.5], (0, 0));
        check(&rows, lower(1.0, 3.0), [0.46, 0.4, 0.4], (0, 0));
        // One false accept is allowed and shown by now.
        check(&rows, lower(1.0, 4.8), [0.4, 0.4, 0.4], (0, 1));
        // What fires is raised beside it.
        let loud = [[0.8, 0.0, 0.0], QUIET, [0.7, 0.0, 0.0], QUIET];
        check(&loud, lower(0.1, 40.0), [0.81, 0.4, 0.4], (2, 0));
    }

    #[test]
    fn a_rule_over_every_label_and_one_that_no_model_serves() {
        let every = RuleConfig {
            labels: Vec::new(),
            ..rule(Kind::Event)
        };
        let rows = tracks(&[[0.0, 0.66, 0.0], QUIET]);
        let propose_for = |known: &[KnownModel]| {
            propose(&every, known, &rows, target(1.0, 0.1), &|_| false).unwrap()
        };
        assert_eq!(
            proposed(&propose_for(&known(Kind::Event))),
            [0.5, 0.67, 0.5]
        );
        assert!(propose_for(&known(Kind::Keyword)).labels.is_empty());
    }

    fn rows() -> impl Strategy<Value = Vec<[f32; 3]>> {
        let score = prop_oneof![3 => 0.0_f32..1.0, 2 => Just(0.0_f32), 1 => Just(f32::NAN)];
        prop::collection::vec(prop::array::uniform3(score), 1..120)
    }

    fn any_rule() -> impl Strategy<Value = RuleConfig> {
        let confirm = (1_u32..4).prop_flat_map(|of| (1..=of, Just(of)));
        (
            prop::bool::ANY,
            confirm,
            0.2_f32..1.0,
            0.0_f64..3.0,
            prop::option::of(0.0_f32..0.2),
        )
            .prop_map(|(is_word, (hits, of), threshold, refractory_s, release)| {
                let kind = if is_word { Kind::Keyword } else { Kind::Event };
                RuleConfig {
                    threshold,
                    release,
                    confirm: Confirm { hits, of },
                    refractory: Seconds::new(refractory_s).unwrap(),
                    ..rule(kind)
                }
            })
    }

    /// Counts with nothing but an engine and the threshold of the whole rule.
    fn brute_count(rule: &RuleConfig, tracks: &Tracks, label: &str, threshold: f32) -> u32 {
        let rule = RuleConfig {
            labels: vec![label.to_owned()],
            release: rule.release.map(|at| at / rule.threshold * threshold),
            threshold,
            ..rule.clone()
        };
        let known = known(rule.kind);
        let mut count = 0;
        let mut engine = Engine::new(vec![Rule::from_config(&rule, &known).unwrap()], &known);
        tracks.replay(&mut engine, &mut |decision| {
            count += u32::from(decision.phase != Phase::End);
        });
        count
    }

    proptest! {
        #[test]
        fn the_proposal_keeps_the_target_on_the_tracks_it_was_made_from(
            rule in any_rule(), rows in rows(), per_hour in 0.0_f64..20.0, may_lower: bool,
        ) {
            let target = Target { may_lower, ..target(per_hour, 1.0) };
            let (known, tracks) = (known(rule.kind), tracks(&rows));
            let proposal = propose(&rule, &known, &tracks, target, &|_| false).unwrap();
            let counted = count(&rule, &known, &tracks, &proposal, |label| label.new).unwrap();
            let after: Vec<u32> = proposal.labels.iter().map(|label| label.after).collect();
            prop_assert_eq!(counted, after);
            let is_stuck = |label: &LabelProposal| label.is_beyond || label.old > CEILING;
            let loud = proposal.labels.iter().filter(|label| !is_stuck(label));
            let any_stuck = proposal.labels.iter().any(is_stuck);
            let after: u32 = loud.map(|label| label.after).sum();
            prop_assert!(after <= target.allowed(), "{:?}", proposal);
            prop_assert!(any_stuck || proposal.after() <= target.allowed(), "{:?}", proposal);
            for label in &proposal.labels {
                let goes_down = may_lower && label.new >= FLOOR.min(label.old);
                prop_assert!(label.new >= label.old || goes_down, "{:?}", label);
                prop_assert!(label.new == label.old || label.new <= CEILING, "{:?}", label);
            }
        }

        #[test]
        fn the_search_finds_what_trying_every_threshold_finds(
            rule in any_rule(), rows in rows(), allowed in 0_u32..4,
        ) {
            let rule = RuleConfig { labels: vec!["b".into()], ..rule };
            let (known, tracks) = (known(rule.kind), tracks(&rows));
            let target = target(f64::from(allowed), 1.0);
            let proposal = propose(&rule, &known, &tracks, target, &|_| false).unwrap();
            let tried: Vec<f32> = (1_u8..100)
                .map(|step| f32::from(step) / 100.0)
                .filter(|threshold| *threshold > rule.threshold)
                .collect();
            let holds = |from: f32| {
                let mut above = tried.iter().filter(|other| **other >= from);
                above.all(|at| brute_count(&rule, &tracks, "b", *at) <= allowed)
            };
            let expected = if brute_count(&rule, &tracks, "b", rule.threshold) <= allowed {
                rule.threshold
            } else {
                let lowest = tried.iter().copied().find(|at| holds(*at));
                lowest.unwrap_or_else(|| tried.last().copied().unwrap_or(rule.threshold))
            };
            prop_assert_eq!(proposal.labels[0].needed, expected);
        }

        #[test]
        fn a_stricter_target_never_gives_a_lower_threshold(
            rule in any_rule(), rows in rows(), loose in 0_u32..9, tight in 0_u32..9,
        ) {
            prop_assume!(tight <= loose);
            let rule = RuleConfig { labels: vec!["a".into()], ..rule };
            let (known, tracks) = (known(rule.kind), tracks(&rows));
            let new = |allowed: u32| {
                let target = target(f64::from(allowed), 1.0);
                propose(&rule, &known, &tracks, target, &|_| false).unwrap().labels[0].needed
            };
            prop_assert!(new(tight) >= new(loose));
        }
    }
}
