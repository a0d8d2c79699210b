//! An engine with other rules or other models goes on where the old one stood.
//!
//! What stays the same (an equal rule, the same label of the model of the same name and kind) keeps its
//! state: confirmation so far, the open episode, refractory time, smoothing. What is gone ends. So a
//! label that is added, a model that comes or a configuration that is read again ends no alarm whose
//! rule is as it was. Models are known by name here, not by weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Decision;
use super::engine::{Engine, Stream, Watch};
use crate::config::KnownModel;

impl Engine {
    /// Takes over the state of `old`, and ends what it had open and this engine does not watch; the
    /// decisions name models by their place in the list that `old` was told. To be called before the
    /// first observation. Allocates, by the number of labels.
    ///
    /// Numbers of episodes go on, and those that stay open keep theirs. A label whose own threshold is
    /// another now is judged by the new one from the next observation on.
    pub fn carry_over(&mut self, old: Engine, emit: &mut dyn FnMut(Decision)) {
        let Engine {
            rules: old_rules,
            watches: mut old_watches,
            models: old_models,
            streams: old_streams,
            next_episode,
            resumed_at,
            // It was told of the old models by their numbers.
            witness: _,
        } = old;
        self.next_episode = self.next_episode.max(next_episode);
        self.resumed_at = self.resumed_at.max(resumed_at);
        for (stream, model) in self.streams.iter_mut().zip(&self.models) {
            let before = old_models.iter().position(|other| is_same(other, model));
            if let Some(at) = before {
                stream.carry_over(model, &old_streams[at], &old_models[at]);
            }
        }
        for watch in &mut self.watches {
            let rule = &self.rules[watch.rule];
            let model = &self.models[watch.stream];
            let before = old_watches.iter_mut().find(|old| {
                old_rules[old.rule] == *rule && is_same(&old_models[old.stream], model)
            });
            if let Some(before) = before {
                watch.carry_over(before);
            }
        }
        for watch in &mut old_watches {
            watch.interrupt(&old_rules[watch.rule], emit);
        }
    }
}

fn is_same(model: &KnownModel, other: &KnownModel) -> bool {
    model.kind == other.kind && model.name == other.name
}

impl Stream {
    fn carry_over(&mut self, model: &KnownModel, old: &Stream, old_model: &KnownModel) {
        self.end = old.end;
        self.len = old.len;
        if model.labels == old_model.labels {
            self.scores.copy_from_slice(&old.scores);
            return;
        }
        let known: BTreeMap<&Arc<str>, f32> = old_model
            .labels
            .iter()
            .zip(old.scores.iter().copied())
            .collect();
        for (score, label) in self.scores.iter_mut().zip(model.labels.iter()) {
            *score = known.get(label).copied().unwrap_or(0.0);
        }
    }
}

impl Watch {
    /// Goes on where `old` stood, a watch of an equal rule; tracks that are taken over have nothing
    /// open there any more. Labels that are new count as never heard.
    fn carry_over(&mut self, old: &mut Watch) {
        self.turn = old.turn;
        self.locked_until = old.locked_until;
        self.starts.copy_from_slice(&old.starts);
        let (tracks, old_tracks) = (self.tracks.len(), old.tracks.len());
        let places: BTreeMap<Arc<str>, usize> = old
            .tracks
            .iter()
            .map(|track| Arc::clone(&track.label))
            .zip(0..)
            .collect();
        for (at, track) in self.tracks.iter_mut().enumerate() {
            let Some(&from) = places.get(&track.label) else {
                continue;
            };
            track.carry_over(&mut old.tracks[from]);
            for (rows, old_rows) in [(&mut self.recent, &old.recent), (&mut self.raw, &old.raw)] {
                let values = old_rows.iter().skip(from).step_by(old_tracks);
                for (slot, value) in rows.iter_mut().skip(at).step_by(tracks).zip(values) {
                    *slot = *value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::clock::SampleIdx;
    use crate::config::{Confirm, RuleConfig, Seconds};
    use crate::detect::{Observation, Rule};
    use crate::event::{Kind, Phase};

    fn rule(name: &str, kind: Kind) -> RuleConfig {
        RuleConfig {
            name: name.to_owned(),
            kind,
            refractory: Seconds::ZERO,
            ..RuleConfig::default()
        }
    }

    fn model(kind: Kind, name: &str, labels: &[&str]) -> KnownModel {
        KnownModel {
            kind,
            name: name.into(),
            labels: labels.iter().map(|label| Arc::from(*label)).collect(),
            thresholds: Arc::default(),
        }
    }

    fn engine(rules: &[RuleConfig], models: &[KnownModel]) -> Engine {
        let rules = rules.iter().map(|rule| Rule::from_config(rule, &[]));
        Engine::new(rules.collect::<Result<_, _>>().unwrap(), models)
    }

    /// Feeds one window of 1 s that begins at `at_s`.
    fn feed(engine: &mut Engine, stream: usize, at_s: u64, scores: &[f32]) -> Vec<Decision> {
        let mut log = Vec::new();
        let seen = Observation {
            stream,
            start: SampleIdx(at_s * 16_000),
            end: SampleIdx((at_s + 1) * 16_000),
            scores,
            level_dbfs: -40.0,
        };
        engine.observe(&seen, &mut |decision| log.push(decision));
        log
    }

    /// Puts `next` in the place of the engine; gives what ends.
    fn change(engine: &mut Engine, mut next: Engine) -> Vec<Decision> {
        let mut log = Vec::new();
        std::mem::swap(engine, &mut next);
        engine.carry_over(next, &mut |decision| log.push(decision));
        log
    }

    fn told(log: &[Decision]) -> Vec<(Phase, &str, u64)> {
        log.iter()
            .map(|decision| (decision.phase, &*decision.label, decision.episode))
            .collect()
    }

    #[test]
    fn an_added_label_or_model_ends_nothing_and_numbers_go_on() {
        let rules = [rule("sounds", Kind::Event), rule("asked", Kind::Prompt)];
        let sounds = model(Kind::Event, "sounds", &["Dog", "Alarm"]);
        let mut engine = engine(&rules, std::slice::from_ref(&sounds));
        assert_eq!(
            told(&feed(&mut engine, 0, 0, &[0.0, 0.9])),
            [(Phase::Start, "Alarm", 0)]
        );
        // The model stands in another place, has its labels in another order, and one more.
        let models = [
            model(Kind::Prompt, "clap", &["water"]),
            model(Kind::Event, "sounds", &["Alarm", "Cat", "Dog"]),
        ];
        assert!(change(&mut engine, super::tests::engine(&rules, &models)).is_empty());
        assert!(engine.has_open(1) && !engine.has_open(0));
        assert!(feed(&mut engine, 1, 1, &[0.9, 0.0, 0.0]).is_empty());
        assert_eq!(
            told(&feed(&mut engine, 0, 1, &[0.9])),
            [(Phase::Start, "water", 1)]
        );
        let log = feed(&mut engine, 1, 2, &[0.0, 0.0, 0.0]);
        assert_eq!(told(&log), [(Phase::End, "Alarm", 0)]);
        assert_eq!(
            log[0].end,
            Some(SampleIdx(32_000)),
            "it lasted over the change"
        );
    }

    #[test]
    fn what_is_gone_ends_once() {
        let check = |rules: &[RuleConfig], models: &[KnownModel], ends: &[&str]| {
            let old_rules = [rule("a", Kind::Event), rule("b", Kind::Prompt)];
            let old = [
                model(Kind::Event, "sounds", &["Dog", "Cat"]),
                model(Kind::Prompt, "clap", &["water"]),
            ];
            let mut engine = engine(&old_rules, &old);
            feed(&mut engine, 0, 0, &[0.9, 0.9]);
            feed(&mut engine, 1, 0, &[0.9]);
            assert_eq!(engine.open_episodes(), 3);
            let log = change(&mut engine, super::tests::engine(rules, models));
            let mut got: Vec<&str> = log.iter().map(|decision| &*decision.label).collect();
            got.sort_unstable();
            assert_eq!(got, ends);
            assert!(log.iter().all(|decision| decision.phase == Phase::End));
            assert_eq!(engine.open_episodes(), 3 - ends.len());
        };
        let (a, b) = (rule("a", Kind::Event), rule("b", Kind::Prompt));
        let sounds = model(Kind::Event, "sounds", &["Dog", "Cat"]);
        let clap = model(Kind::Prompt, "clap", &["water"]);
        let (a, b) = (&a, &b);
        check(
            &[a.clone(), b.clone()],
            &[sounds.clone(), clap.clone()],
            &[],
        );
        check(
            &[b.clone(), a.clone()],
            &[clap.clone(), sounds.clone()],
            &[],
        );
        check(
            &[a.clone(), b.clone()],
            std::slice::from_ref(&sounds),
            &["water"],
        );
        check(
            &[a.clone(), b.clone()],
            &[model(Kind::Event, "sounds", &["Cat"]), clap.clone()],
            &["Dog"],
        );
        check(
            &[a.clone(), b.clone()],
            &[model(Kind::Event, "others", &["Dog", "Cat"]), clap.clone()],
            &["Cat", "Dog"],
        );
        let stricter = RuleConfig {
            threshold: 0.8,
            ..a.clone()
        };
        check(
            &[stricter, b.clone()],
            &[sounds.clone(), clap.clone()],
            &["Cat", "Dog"],
        );
        check(&[], &[], &["Cat", "Dog", "water"]);
    }

    #[test]
    fn refractory_confirmation_and_vetoes_go_on() {
        let rules = [RuleConfig {
            confirm: Confirm { hits: 2, of: 3 },
            refractory: Seconds::new(10.0).unwrap(),
            veto: vec!["Music".into()],
            ..rule("r", Kind::Event)
        }];
        let models = [model(Kind::Event, "m", &["Dog", "Music"])];
        let more = [model(Kind::Event, "m", &["Music", "Cat", "Dog"])];
        let mut engine = engine(&rules, &models);
        assert!(feed(&mut engine, 0, 0, &[0.9, 0.0]).is_empty());
        assert!(change(&mut engine, super::tests::engine(&rules, &more)).is_empty());
        // The first of two hits was before the change.
        let log = feed(&mut engine, 0, 1, &[0.0, 0.9, 0.9]);
        assert_eq!(told(&log), [(Phase::Start, "Dog", 0)]);
        assert_eq!(log[0].start, SampleIdx(0));
        assert_eq!(feed(&mut engine, 0, 2, &[0.0; 3]).len(), 1);
        assert!(change(&mut engine, super::tests::engine(&rules, &models)).is_empty());
        for at in 3..12 {
            assert!(feed(&mut engine, 0, at, &[0.9, 0.0]).is_empty(), "{at} s");
        }
        assert!(feed(&mut engine, 0, 12, &[0.9, 0.0]).is_empty());
        assert_eq!(feed(&mut engine, 0, 13, &[0.9, 0.0]).len(), 1);
        // An old window is still an old one.
        assert!(change(&mut engine, super::tests::engine(&rules, &more)).is_empty());
        assert!(feed(&mut engine, 0, 13, &[0.0; 3]).is_empty());
        assert!(engine.has_open(0));
    }

    #[test]
    fn a_label_may_have_a_threshold_of_its_own_that_changes() {
        let with = |own: Option<f32>| KnownModel {
            thresholds: [own, None].into(),
            ..model(Kind::Prompt, "clap", &["water", "door"])
        };
        let rules = [rule("asked", Kind::Prompt)];
        let mut engine = engine(&rules, &[with(Some(0.8))]);
        assert!(feed(&mut engine, 0, 0, &[0.7, 0.4]).is_empty());
        let log = feed(&mut engine, 0, 1, &[0.8, 0.5]);
        let thresholds: Vec<f32> = log.iter().map(|decision| decision.threshold).collect();
        assert_eq!(thresholds, [0.5, 0.8], "door and water, by name");
        // 0.45 is over the release of 0.5, and under that of 0.8.
        assert!(change(&mut engine, super::tests::engine(&rules, &[with(None)])).is_empty());
        assert!(feed(&mut engine, 0, 2, &[0.45, 0.45]).is_empty());
        let strict = super::tests::engine(&rules, &[with(Some(0.8))]);
        assert!(change(&mut engine, strict).is_empty());
        assert_eq!(
            told(&feed(&mut engine, 0, 3, &[0.45, 0.45])),
            [(Phase::End, "water", 1)]
        );

        // The rule's own word on a label, and a list of labels, go before it.
        let spoken = RuleConfig {
            thresholds: [("water".to_owned(), 0.6)].into(),
            ..rule("asked", Kind::Prompt)
        };
        let listed = RuleConfig {
            labels: vec!["water".into()],
            ..rule("asked", Kind::Prompt)
        };
        for (rule, expected) in [(spoken, 0.6), (listed, 0.5)] {
            let mut engine = super::tests::engine(&[rule], &[with(Some(0.8))]);
            let log = feed(&mut engine, 0, 0, &[1.0, 0.0]);
            assert_eq!(log[0].threshold, expected);
        }

        let mut engine = super::tests::engine(&rules, &[with(Some(0.8))]);
        engine.set_threshold("asked", 0.9).unwrap();
        let log = feed(&mut engine, 0, 0, &[0.85, 0.85]);
        assert_eq!(told(&log), [(Phase::Start, "water", 0)], "it keeps its own");
    }

    const LABELS: [&str; 4] = ["a", "b", "c", "d"];

    /// Windows with the score of each label, and now and then another set of labels and rules.
    #[derive(Debug, Clone)]
    struct Turn {
        scores: [f32; 4],
        /// The labels of the two models from here on, in any order.
        change: Option<(Vec<usize>, Vec<usize>, u8)>,
    }

    fn turns() -> impl Strategy<Value = Vec<Turn>> {
        let labels = || {
            Just([0_usize, 1, 2, 3])
                .prop_shuffle()
                .prop_flat_map(|all| (0..=4_usize).prop_map(move |n| all[..n].to_vec()))
        };
        let score = || prop_oneof![Just(0.0_f32), Just(1.0_f32), 0.0_f32..1.0];
        let change = prop::option::weighted(0.2, (labels(), labels(), 0_u8..4));
        let turn = (prop::array::uniform4(score()), change)
            .prop_map(|(scores, change)| Turn { scores, change });
        prop::collection::vec((turn, 1_usize..4), 1..50).prop_map(|runs| {
            runs.into_iter()
                .flat_map(|(turn, times)| {
                    let rest = Turn {
                        change: None,
                        ..turn.clone()
                    };
                    std::iter::once(turn).chain(std::iter::repeat_n(rest, times - 1))
                })
                .collect()
        })
    }

    /// Bit 0 and 1 leave out one of the two rules.
    fn rules(base: &RuleConfig, without: u8) -> Vec<RuleConfig> {
        let other = RuleConfig {
            name: "other".into(),
            kind: Kind::Prompt,
            ..base.clone()
        };
        [base.clone(), other]
            .into_iter()
            .enumerate()
            .filter(|(at, _)| without >> at & 1 == 0)
            .map(|(_, rule)| rule)
            .collect()
    }

    fn base() -> impl Strategy<Value = RuleConfig> {
        let confirm = (1_u32..5).prop_flat_map(|of| (1..=of, Just(of)));
        (confirm, 0.0_f64..3.0, 0.0_f64..2.0).prop_map(|((hits, of), refractory, hold)| {
            RuleConfig {
                confirm: Confirm { hits, of },
                refractory: Seconds::new(refractory).unwrap(),
                hold: Seconds::new(hold).unwrap(),
                ..rule("base", Kind::Event)
            }
        })
    }

    /// Runs the turns, with their changes or without; gives every decision with its turn.
    fn run(base: &RuleConfig, turns: &[Turn], changes: bool) -> Vec<(usize, Decision)> {
        let names = |places: &[usize]| places.iter().map(|at| LABELS[*at]).collect::<Vec<_>>();
        let mut labels = (vec![0, 1, 2, 3], vec![0, 1]);
        let make = |labels: &(Vec<usize>, Vec<usize>), without: u8| {
            let models = [
                model(Kind::Event, "one", &names(&labels.0)),
                model(Kind::Prompt, "two", &names(&labels.1)),
            ];
            engine(&rules(base, without), &models)
        };
        let mut engine = make(&labels, 0);
        let mut log = Vec::new();
        for (at, turn) in turns.iter().enumerate() {
            if let Some((first, second, without)) = turn.change.as_ref().filter(|_| changes) {
                labels = (first.clone(), second.clone());
                let ended = change(&mut engine, make(&labels, *without));
                log.extend(ended.into_iter().map(|decision| (at, decision)));
            }
            for (stream, places) in [&labels.0, &labels.1].into_iter().enumerate() {
                let scores: Vec<f32> = places.iter().map(|at| turn.scores[*at]).collect();
                let decisions = feed(&mut engine, stream, at as u64, &scores);
                log.extend(decisions.into_iter().map(|decision| (at, decision)));
            }
        }
        engine.close(SampleIdx(u64::MAX), &mut |decision| {
            log.push((turns.len(), decision));
        });
        assert_eq!(engine.open_episodes(), 0);
        log
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_changes_keep_one_end_for_every_start(base in base(), turns in turns()) {
            let mut open: BTreeMap<(Arc<str>, Arc<str>), u64> = BTreeMap::new();
            let mut numbers = BTreeSet::new();
            for (at, decision) in run(&base, &turns, true) {
                let key = (decision.rule.clone(), decision.label.clone());
                match decision.phase {
                    Phase::Start => {
                        prop_assert!(open.insert(key, decision.episode).is_none(), "turn {}", at);
                        prop_assert!(numbers.insert(decision.episode), "a number came twice");
                    }
                    Phase::End => {
                        prop_assert_eq!(open.remove(&key), Some(decision.episode), "turn {}", at);
                    }
                    Phase::Instant => prop_assert!(false, "no rule gives instants"),
                }
            }
            prop_assert!(open.is_empty(), "{:?}", open);
        }

        #[test]
        fn a_label_and_rule_that_stay_are_decided_as_if_nothing_had_changed(
            base in base(),
            turns in turns(),
        ) {
            // Label a and the first rule stay in every change.
            let turns: Vec<Turn> = turns
                .into_iter()
                .map(|mut turn| {
                    if let Some((first, _, without)) = &mut turn.change {
                        *without &= 2;
                        if !first.contains(&0) {
                            first.push(0);
                        }
                    }
                    turn
                })
                .collect();
            let of_a = |changes: bool| -> Vec<_> {
                run(&base, &turns, changes)
                    .into_iter()
                    .filter(|(_, decision)| *decision.label == *"a" && *decision.rule == *"base")
                    .map(|(at, decision)| (at, Decision { episode: 0, ..decision }))
                    .collect()
            };
            prop_assert_eq!(of_a(true), of_a(false));
        }
    }
}
