//! Tests of the search for thresholds: cases by hand, and any tracks against counting by brute force.

use std::sync::Arc;

use proptest::prelude::*;

use super::search::*;
use super::tracks::{Told, Tracks};
use super::{Engine, Observation, Rule};
use crate::clock::SampleIdx;
use crate::config::{Confirm, KnownModel, RuleConfig, Seconds};
use crate::event::{Kind, Phase};

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
    let propose_for =
        |known: &[KnownModel]| propose(&every, known, &rows, target(1.0, 0.1), &|_| false).unwrap();
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
