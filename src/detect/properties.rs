//! Property tests of the decision engine: what holds for any rules and any scores.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Decision, Engine, Observation, Rule};
use crate::clock::SampleIdx;
use crate::config::{Confirm, KnownModel, RuleConfig, Seconds};
use crate::event::{Kind, Phase};

const LABELS: [&str; 5] = ["a", "b", "c", "_unknown_", "loud"];

/// One observation, perhaps after a gap.
#[derive(Debug, Clone)]
struct Step {
    scores: [f32; 5],
    level_dbfs: f32,
    gap: bool,
}

/// A decision and the number of the step that gave it; `None` for the last `close`.
type Logged = (Option<usize>, Decision);

fn scores() -> impl Strategy<Value = f32> {
    prop_oneof![Just(0.0_f32), Just(1.0_f32), 0.0_f32..1.0, Just(f32::NAN)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        prop::array::uniform5(scores()),
        -90.0_f32..0.0,
        prop::bool::weighted(0.05),
    )
        .prop_map(|(scores, level_dbfs, gap)| Step {
            scores,
            level_dbfs,
            gap,
        });
    // Each step is held a few times, so that confirmations and releases come about.
    prop::collection::vec((step, 1_usize..5), 1..60).prop_map(|runs| {
        runs.into_iter()
            .flat_map(|(step, times)| {
                let rest = Step {
                    gap: false,
                    ..step.clone()
                };
                std::iter::once(step).chain(std::iter::repeat_n(rest, times - 1))
            })
            .collect()
    })
}

fn rule() -> impl Strategy<Value = RuleConfig> {
    let confirm = (1_u32..7).prop_flat_map(|of| (1..=of, Just(of)));
    (
        prop_oneof![Just(Kind::Event), Just(Kind::Keyword)],
        (0.1_f32..1.0, prop::option::of(0.0_f32..1.0)),
        confirm,
        (0.0_f64..3.0, 0.0_f64..2.0),
        prop::option::of(0.0_f64..0.05),
        prop::option::of(-80.0_f32..-20.0),
        any::<bool>(),
        prop::option::of(0.1_f32..1.0),
    )
        .prop_map(
            |(kind, (threshold, ratio), (hits, of), times, smooth, gate, veto, own)| {
                let keyword = kind == Kind::Keyword;
                // Frames come 50 times as often as windows.
                let scale = if keyword { 0.02 } else { 1.0 };
                RuleConfig {
                    name: "rule".to_owned(),
                    kind,
                    labels: if veto {
                        vec!["b".to_owned(), "a".to_owned(), "c".to_owned()]
                    } else {
                        Vec::new()
                    },
                    threshold,
                    thresholds: own.map(|own| ("b".to_owned(), own)).into_iter().collect(),
                    release: ratio.map(|ratio| ratio * threshold),
                    confirm: Confirm { hits, of },
                    refractory: Seconds::new(times.0 * scale).unwrap(),
                    hold: Seconds::new(if keyword { 0.0 } else { times.1 }).unwrap(),
                    smooth: smooth.filter(|_| keyword).and_then(Seconds::new),
                    lockout: smooth.filter(|_| keyword).and_then(Seconds::new),
                    min_level_db: gate,
                    veto: veto.then(|| "loud".to_owned()).into_iter().collect(),
                    ..RuleConfig::default()
                }
            },
        )
}

fn model(kind: Kind, order: [usize; 5]) -> KnownModel {
    KnownModel {
        kind,
        name: "model".into(),
        labels: order.iter().map(|at| Arc::from(LABELS[*at])).collect(),
        thresholds: Arc::default(),
    }
}

/// When each step is: frames of 25 ms every 10 ms, or windows of 1 s every 0.5 s. A gap skips more
/// than a window.
fn stretches(kind: Kind, steps: &[Step]) -> Vec<(SampleIdx, SampleIdx)> {
    let (hop, len) = if kind == Kind::Keyword {
        (160, 400)
    } else {
        (8_000, 16_000)
    };
    let mut turn = 0;
    steps
        .iter()
        .map(|step| {
            turn += if step.gap { 5 } else { 1 };
            (SampleIdx(turn * hop), SampleIdx(turn * hop + len))
        })
        .collect()
}

/// Runs the steps with the labels of the model in `order`, and closes at the end.
fn run(rule: &RuleConfig, steps: &[Step], order: [usize; 5]) -> (Vec<Logged>, usize) {
    let rule = Rule::from_config(rule, &[]).unwrap();
    let kind = rule.kind();
    let mut engine = Engine::new(vec![rule], &[model(kind, order)]);
    let mut log = Vec::new();
    let mut heard_to = SampleIdx(0);
    for (at, (step, (start, end))) in steps.iter().zip(stretches(kind, steps)).enumerate() {
        if step.gap {
            engine.close(heard_to, &mut |decision| log.push((Some(at), decision)));
            assert_eq!(engine.open_episodes(), 0);
        }
        let scores = order.map(|at| step.scores[at]);
        let seen = Observation {
            stream: 0,
            start,
            end,
            scores: &scores,
            level_dbfs: step.level_dbfs,
        };
        engine.observe(&seen, &mut |decision| log.push((Some(at), decision)));
        heard_to = end;
    }
    engine.close(heard_to, &mut |decision| log.push((None, decision)));
    (log, engine.open_episodes())
}

const AS_IS: [usize; 5] = [0, 1, 2, 3, 4];

fn by_label(log: &[Logged]) -> BTreeMap<String, Vec<&Logged>> {
    let mut map: BTreeMap<String, Vec<&Logged>> = BTreeMap::new();
    for logged in log {
        map.entry(logged.1.label.to_string())
            .or_default()
            .push(logged);
    }
    map
}

/// Episodes of one label as pairs of first and last decision; instants pair with themselves.
fn episodes(log: &[Logged]) -> Vec<Vec<(&Logged, &Logged)>> {
    by_label(log)
        .into_values()
        .map(|decisions| {
            let mut open: Option<&Logged> = None;
            let mut pairs = Vec::new();
            for logged in decisions {
                match logged.1.phase {
                    Phase::Start => {
                        assert!(open.is_none(), "two starts without an end");
                        open = Some(logged);
                    }
                    Phase::End => {
                        let start = open.take().expect("an end without a start");
                        assert_eq!(start.1.episode, logged.1.episode);
                        assert_eq!(start.1.start, logged.1.start);
                        pairs.push((start, logged));
                    }
                    Phase::Instant => pairs.push((logged, logged)),
                }
            }
            assert!(open.is_none(), "a start without an end");
            pairs
        })
        .collect()
}

/// What a rule that watches `a` alone does, worked out on whole vectors: `(start, end)` of each
/// episode in steps.
fn reference(
    over: &[bool],
    released: &[bool],
    (hits, of): (usize, usize),
    gap: &[bool],
) -> Vec<(usize, usize)> {
    let mut episodes = Vec::new();
    let mut first = 0;
    let mut at = 0;
    while at < over.len() {
        if gap[at] {
            first = at;
        }
        let from = first.max((at + 1).saturating_sub(of));
        let window: Vec<usize> = (from..=at).filter(|at| over[*at]).collect();
        if !over[at] || window.len() < hits {
            at += 1;
            continue;
        }
        let over_at = (at + 1..over.len())
            .find(|at| released[*at] || gap[*at])
            .unwrap_or(over.len());
        episodes.push((window[0], over_at - 1));
        // Windows overlap by a half: the first one that lies behind the episode counts next, but
        // for a gap, which begins anew.
        let interrupted = gap.get(over_at).copied().unwrap_or(false);
        at = if interrupted { over_at } else { over_at + 1 };
        first = at;
    }
    episodes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_start_has_one_end(rule in rule(), steps in steps()) {
        let (log, open) = run(&rule, &steps, AS_IS);
        prop_assert_eq!(open, 0);
        let instant = rule.kind == Kind::Keyword;
        for (_, decision) in &log {
            prop_assert_eq!(decision.phase == Phase::Instant, instant);
            prop_assert!(!decision.label.starts_with('_'));
        }
        let mut numbers: Vec<u64> = episodes(&log)
            .into_iter()
            .flatten()
            .map(|(first, _)| first.1.episode)
            .collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), count, "an episode number came twice");
    }

    #[test]
    fn two_models_with_a_shared_label_never_give_two_starts(
        rule in rule(),
        steps in steps(),
        others in steps(),
        late in 0_usize..4,
    ) {
        let rule = RuleConfig { kind: Kind::Event, smooth: None, lockout: None, ..rule };
        let models = [model(Kind::Event, AS_IS), model(Kind::Event, AS_IS)];
        let mut engine = Engine::new(vec![Rule::from_config(&rule, &models).unwrap()], &models);
        let mut log: Vec<Logged> = Vec::new();
        // Both hear the same sound, and the second answers `late` windows after the first.
        let times = stretches(Kind::Event, &steps);
        for at in 0..times.len() + late {
            let answers = [(0, Some(at), &steps), (1, at.checked_sub(late), &others)];
            for (stream, at, own) in answers {
                let Some((at, (start, end))) = at.and_then(|at| Some((at, *times.get(at)?))) else {
                    continue;
                };
                let step = &own[at % own.len()];
                let (scores, level_dbfs) = (&step.scores, step.level_dbfs);
                let seen = Observation { stream, start, end, scores, level_dbfs };
                engine.observe(&seen, &mut |decision| log.push((Some(at), decision)));
            }
        }
        engine.close(SampleIdx(u64::MAX), &mut |decision| log.push((None, decision)));
        // Panics where a label starts twice without an end.
        episodes(&log);
        prop_assert!(log.iter().all(|(_, decision)| decision.stream == 0));
    }

    #[test]
    fn refractory_time_lies_between_episodes(rule in rule(), steps in steps()) {
        let (log, _) = run(&rule, &steps, AS_IS);
        let refractory = SampleIdx::from_secs_f64(rule.refractory.as_secs_f64()).0;
        for label in episodes(&log) {
            for pair in label.windows(2) {
                let ended = pair[0].1.1.end.unwrap();
                prop_assert!(pair[1].0.1.start >= ended + refractory);
            }
        }
    }

    #[test]
    fn peak_and_times_are_in_order(rule in rule(), steps in steps()) {
        let (log, _) = run(&rule, &steps, AS_IS);
        for (first, last) in episodes(&log).into_iter().flatten() {
            let own = rule.thresholds.get(&*first.1.label).copied();
            prop_assert_eq!(first.1.threshold, own.unwrap_or(rule.threshold));
            prop_assert!(first.1.score >= first.1.threshold);
            prop_assert!(first.1.peak >= first.1.score);
            prop_assert!(last.1.peak >= first.1.peak && last.1.peak <= 1.0);
            prop_assert!(last.1.peak >= last.1.score || last.1.score < last.1.threshold);
            prop_assert!(last.1.end.unwrap() > first.1.start);
            prop_assert_eq!(first.1.end.is_none(), first.1.phase == Phase::Start);
        }
    }

    #[test]
    fn an_episode_holds_until_release(rule in rule(), steps in steps()) {
        let (log, _) = run(&rule, &steps, AS_IS);
        let compiled = Rule::from_config(&rule, &[]).unwrap();
        let hold = SampleIdx::from_secs_f64(rule.hold.as_secs_f64()).0;
        let times = stretches(rule.kind, &steps);
        for (first, last) in episodes(&log).into_iter().flatten() {
            let (Some(ended_at), Phase::End) = (last.0, last.1.phase) else { continue };
            if steps[ended_at].gap {
                continue;
            }
            let label = LABELS.iter().position(|name| *name == &*first.1.label).unwrap();
            let release = compiled.release_of(&first.1.label);
            // A score that is no number counts as 0, which `max` makes of it here.
            let score = |at: usize| steps[at].scores[label].max(0.0);
            prop_assert!(score(ended_at) < release);
            prop_assert!(times[ended_at].1 > last.1.end.unwrap() + hold);
            let still = (0..ended_at).filter(|at| times[*at].1 > last.1.end.unwrap());
            for at in still {
                prop_assert!(score(at) < release, "over release after its end");
            }
        }
    }

    #[test]
    fn a_word_falls_below_release_before_it_fires_again(rule in rule(), steps in steps()) {
        let rule = RuleConfig {
            kind: Kind::Keyword,
            hold: Seconds::ZERO,
            smooth: Some(Seconds::ZERO),
            lockout: Some(Seconds::ZERO),
            ..rule
        };
        let (log, _) = run(&rule, &steps, AS_IS);
        let compiled = Rule::from_config(&rule, &[]).unwrap();
        for label in episodes(&log) {
            for pair in label.windows(2) {
                let (earlier, later) = (pair[0].0, pair[1].0);
                let label = LABELS.iter().position(|name| *name == &*later.1.label).unwrap();
                let release = compiled.release_of(&later.1.label);
                let fell = (earlier.0.unwrap() + 1..later.0.unwrap())
                    .any(|at| steps[at].scores[label].max(0.0) < release || steps[at].gap);
                prop_assert!(fell || steps[later.0.unwrap()].gap);
            }
        }
    }

    #[test]
    fn confirmation_is_as_documented(rule in rule(), steps in steps()) {
        let rule = RuleConfig {
            kind: Kind::Event,
            labels: vec!["a".to_owned()],
            thresholds: BTreeMap::new(),
            refractory: Seconds::ZERO,
            hold: Seconds::ZERO,
            smooth: None,
            lockout: None,
            ..rule
        };
        let (log, _) = run(&rule, &steps, AS_IS);
        let release = Rule::from_config(&rule, &[]).unwrap().release_of("a");
        let score = |step: &Step| step.scores[0].max(0.0);
        let over: Vec<bool> = steps
            .iter()
            .map(|step| {
                let gate = rule.min_level_db.is_none_or(|level| step.level_dbfs >= level);
                let vetoed = !rule.veto.is_empty() && step.scores[4] >= rule.veto_threshold;
                score(step) >= rule.threshold && gate && !vetoed
            })
            .collect();
        let released: Vec<bool> = steps.iter().map(|step| score(step) < release).collect();
        let gap: Vec<bool> = steps.iter().map(|step| step.gap).collect();
        let confirm = (rule.confirm.hits as usize, rule.confirm.of as usize);
        let times = stretches(Kind::Event, &steps);
        let expected: Vec<_> = reference(&over, &released, confirm, &gap)
            .into_iter()
            .map(|(first, last)| (times[first].0, times[last].1))
            .collect();
        let got: Vec<_> = episodes(&log)
            .into_iter()
            .flatten()
            .map(|(first, last)| (first.1.start, last.1.end.unwrap()))
            .collect();
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn the_order_of_labels_changes_nothing(
        rule in rule(),
        steps in steps(),
        order in Just(AS_IS).prop_shuffle(),
    ) {
        let once = run(&rule, &steps, AS_IS);
        prop_assert_eq!(&once, &run(&rule, &steps, AS_IS), "the same twice");
        prop_assert_eq!(&once, &run(&rule, &steps, order));
    }
}
