//! Tests of recognition whose streams, labels and rules change while sound goes on.

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::Standing;
use crate::config::KnownModel;
use crate::event::{Kind, Phase};

use rig::*;

#[test]
fn a_label_that_is_added_leaves_the_open_episode_of_another_alone() {
    let (model, hold) = ear("clap", Kind::Prompt, false, &["3k"]);
    let mut rig = Rig::new(vec![model]);
    rig.play(&tone(3, 2.2));
    let id = rig.log[0].id;
    assert_eq!(rig.told(), ["start 3k"]);
    rig.relabel("clap", &hold, &["2k", "3k"])
        .play(&tone(3, 2.0));
    assert_eq!(rig.told(), [""; 0]);
    assert_eq!(&*rig.stats.known()[0].labels, &*labels(&["2k", "3k"]));
    assert_eq!(hold.asked(), 7, "4.2 s: a change holds up no window");
    rig.play(&tone(2, 2.0));
    let ended = rig.log.iter().find(|event| event.phase == Phase::End);
    assert_eq!(ended.unwrap().id, id);
    assert_eq!(rig.told_sorted(), ["end 3k", "start 2k"]);
    rig.finish();
    assert_eq!(rig.told(), ["end 2k"]);
}

#[test]
fn removing_the_label_of_an_open_episode_ends_it_once() {
    let (model, hold) = ear("clap", Kind::Prompt, false, &["2k", "3k"]);
    let mut rig = Rig::new(vec![model]);
    rig.play(&tone(3, 2.0));
    assert_eq!(rig.told(), ["start 3k"]);
    rig.relabel("clap", &hold, &["2k"]);
    let last = rig.log[0].clone();
    assert_eq!(rig.told(), ["end 3k"]);
    assert_eq!(last.model.unwrap().name.as_ref(), "clap");
    assert_eq!(last.scores[0].label.as_ref(), "3k", "as it was then");
    rig.play(&tone(3, 1.0)).relabel("clap", &hold, &[]);
    let asked = hold.asked();
    rig.play(&tone(3, 5.0)).finish();
    assert_eq!(rig.told(), [""; 0]);
    assert_eq!(hold.asked(), asked, "without labels nothing is asked");
}

#[test]
fn a_window_scored_under_other_labels_is_not_misread() {
    let (model, hold) = ear("clap", Kind::Prompt, false, &["2k", "3k"]);
    let mut rig = Rig::new(vec![model]);
    rig.play(&tone(0, 2.0));
    hold.set.store(Arc::new(labels(&["3k", "2k"])));
    rig.play(&tone(3, 1.0));
    assert_eq!(rig.told(), [""; 0], "3 kHz stands where 2 kHz is in force");
    assert_eq!(rig.recogniser.fault(), None, "two windows are on their way");
    rig.play(&tone(3, 0.5));
    let fault = rig.recogniser.fault().unwrap();
    assert!(fault.contains("clap answers for other labels"), "{fault}");
    assert_eq!(rig.told(), [""; 0]);
    rig.relabel("clap", &hold, &["3k", "2k"])
        .play(&tone(3, 0.5));
    assert_eq!(rig.told(), ["start 3k"]);
    assert_eq!(rig.recogniser.fault(), None);
}

#[test]
fn streams_come_and_go_and_the_others_hear_on() {
    let (first, _) = ear("first", Kind::Event, false, &["3k"]);
    let (second, asked) = ear("second", Kind::Event, false, &["2k", "5k"]);
    let both = [tone(3, 2.0), tone(2, 2.0)].concat();
    let both: Vec<f32> = both
        .iter()
        .zip(both.iter().rev())
        .map(|(a, b)| a + b)
        .collect();
    let mut rig = Rig::new(vec![first, second]);
    rig.play(&both);
    assert_eq!(rig.told(), ["start 3k", "start 2k"]);
    rig.change(vec![keep("second", None)]).unwrap();
    assert_eq!(rig.told(), ["end 3k"]);
    let before = asked.asked();
    // A stream before it: its place is another, its episode is the same.
    let (third, _) = ear("third", Kind::Prompt, false, &["3k"]);
    rig.change(vec![Standing::New(third), keep("second", None)])
        .unwrap();
    rig.play(&both);
    assert_eq!(asked.asked(), before + 8);
    assert_eq!(rig.told(), ["start 3k"]);
    rig.finish();
    assert_eq!(rig.told_sorted(), ["end 2k", "end 3k"]);
}

#[test]
fn derived_scores_are_the_highest_of_their_labels() {
    let (model, hold) = ear("events", Kind::Event, false, &["2k", "3k", "4k"]);
    let mut rig = Rig::new(vec![model]);
    let wanted = derived("events", vec![vec![1], vec![0, 2]]);
    // It may stand before the stream that it follows.
    rig.change(vec![
        Standing::Derived(wanted.clone()),
        keep("events", None),
    ])
    .unwrap();
    rig.play(&tone(4, 1.2));
    let from: Vec<(Kind, String, String)> = rig
        .log
        .iter()
        .map(|event| {
            let model = event.model.as_ref().unwrap();
            (event.kind, event.label.to_string(), model.name.to_string())
        })
        .collect();
    let told = |kind: Kind, label: &str, model: &str| (kind, label.to_owned(), model.to_owned());
    assert_eq!(
        from,
        [
            told(Kind::Event, "4k", "events"),
            told(Kind::Prompt, "any", "by events")
        ]
    );
    rig.told();
    // Kept, and kept in another place, it goes on.
    rig.change(vec![keep("events", None), keep("by events", None)])
        .unwrap();
    rig.play(&tone(4, 1.0));
    assert_eq!(rig.told(), [""; 0]);
    rig.play(&tone(3, 1.0));
    assert_eq!(
        rig.told_sorted(),
        ["end 4k", "end any", "start 3k", "start beep"]
    );
    let status = rig.stats.models();
    assert_eq!((&*status[1].name, status[1].task), ("by events", "prompt"));
    assert!(status[1].steps >= 3 && status[1].windows_s == Some((1.0, 0.5)));
    // Other labels of what it follows: it must be said anew.
    let error = |rig: &mut Rig, windows| rig.change(windows).err().unwrap();
    let text = error(
        &mut rig,
        vec![
            keep("events", Some(labels(&["3k"]))),
            keep("by events", None),
        ],
    );
    assert!(text.contains("whose labels change"), "{text}");
    hold.set.store(Arc::new(labels(&["3k"])));
    let wanted = derived("events", vec![vec![0], vec![]]);
    rig.change(vec![
        keep("events", Some(labels(&["3k"]))),
        Standing::Derived(wanted),
    ])
    .unwrap();
    assert_eq!(rig.told(), [""; 0]);
    rig.play(&tone(0, 1.0));
    assert_eq!(rig.told_sorted(), ["end 3k", "end beep"]);
}

#[test]
fn what_does_not_fit_together_is_refused_and_changes_nothing() {
    let (model, hold) = ear("events", Kind::Event, false, &["3k", "4k"]);
    let mut rig = Rig::new(vec![model]);
    rig.play(&tone(3, 2.0));
    assert_eq!(rig.told(), ["start 3k"]);
    let follows = |of: &str, from: &[&[usize]]| {
        let from = from.iter().map(|from| from.to_vec()).collect();
        Standing::Derived(derived(of, from))
    };
    let mut check = |windows: Vec<Standing>, part: &str| {
        let text = rig.change(windows).err().unwrap();
        assert!(text.contains(part), "{text}");
    };
    check(vec![keep("other", None)], "no stream 'other' runs");
    check(
        vec![keep("events", None), keep("events", None)],
        "'events' stands twice",
    );
    let events = || keep("events", None);
    check(
        vec![events(), follows("other", &[&[0], &[1]])],
        "no stream 'other' runs",
    );
    check(
        vec![events(), follows("by events", &[&[0], &[1]])],
        "no stream 'by events' runs",
    );
    check(
        vec![events(), follows("events", &[&[0]])],
        "has 2 labels, and it is said where 1 of them",
    );
    check(
        vec![events(), follows("events", &[&[0], &[1, 2]])],
        "follows label 2 of 'events', which has 2",
    );
    // Rules for other labels, and for other models.
    let known = rig.stats.known();
    let relabelled = KnownModel {
        labels: labels(&["4k", "3k"]),
        ..known[0].clone()
    };
    for (models, part) in [
        (vec![relabelled], "the rules are made for 2 labels"),
        (vec![], "made for 0 models, and 1 are to run"),
        (vec![known[0].clone(); 2], "made for 2 models, and 1 are"),
    ] {
        let engine = compile(&rules(), &models);
        let plan = rig.roster.plan(vec![events()], None, engine, None);
        let text = plan.err().unwrap().to_string();
        assert!(text.contains(part), "{text}");
    }
    let asked = hold.asked();
    rig.play(&tone(3, 1.0));
    assert_eq!(rig.told(), [""; 0]);
    assert_eq!(hold.asked(), asked + 2);
}

/// A cheap event model and a gated one of prompts.
fn behind_the_gate(prompts: &[&str]) -> (Rig, Hold) {
    let (events, _) = ear("events", Kind::Event, false, &["5k", "6k"]);
    let (clap, hold) = ear("clap", Kind::Prompt, true, prompts);
    (Rig::new(vec![events, clap]), hold)
}

#[test]
fn a_gated_model_is_asked_where_something_stands_out_and_misses_nothing_of_it() {
    let (mut rig, hold) = behind_the_gate(&["3k"]);
    rig.play(&tone(0, 20.0));
    assert_eq!(hold.asked(), 3, "a first look, and then it is quiet");
    let status = rig.stats.models().swap_remove(1);
    assert_eq!((status.steps, status.gated), (3, 36));
    rig.play(&tone(3, 2.0)).play(&tone(0, 4.0));
    assert_eq!(rig.told(), ["start 3k", "end 3k"]);
    let asked = hold.asked();
    assert!((8..=9).contains(&asked), "{asked}");
    rig.play(&tone(0, 10.0)).finish();
    assert_eq!(hold.asked(), asked);
    // After a gap it looks again.
    let at = rig.recogniser.next_idx();
    rig.recogniser.gap(at, &mut |_| {});
    rig.play(&tone(0, 5.0));
    assert_eq!(hold.asked(), asked + 3);
}

#[test]
fn a_steady_sound_lasts_as_long_as_it_does_and_then_ends() {
    let (mut rig, hold) = behind_the_gate(&["3k"]);
    rig.play(&tone(0, 15.0)).play(&tone(3, 40.0));
    assert_eq!(rig.told(), ["start 3k"]);
    assert!(hold.asked() >= 80, "{}", hold.asked());
    rig.play(&tone(0, 5.0));
    let ended = rig.log[0].end.unwrap().as_secs_f64();
    assert_eq!(rig.told(), ["end 3k"]);
    assert!((55.0..56.0).contains(&ended), "{ended}");
    // A steady sound that nobody waits for is soon left alone.
    let before = hold.asked();
    rig.play(&tone(2, 40.0));
    let asked = hold.asked() - before;
    assert!((15..=30).contains(&asked), "{asked} of 80");
    // A new one under it is found, though it is no louder.
    let before = hold.asked();
    let under: Vec<f32> = tone(5, 6.0)
        .iter()
        .zip(tone(3, 6.0))
        .map(|(a, b)| a + b)
        .collect();
    rig.play(&under);
    assert!(hold.asked() > before);
    assert!(rig.told().contains(&"start 3k".to_owned()));
}

#[test]
fn where_nothing_can_be_made_out_what_is_open_ends() {
    let (mut rig, hold) = behind_the_gate(&["always"]);
    rig.play(&tone(0, 5.0));
    assert_eq!(rig.told(), ["start always"]);
    let asked = hold.asked();
    assert!(asked >= 9, "asked on while it is open: {asked}");
    rig.play(&vec![0.0; 48_000]);
    assert_eq!(rig.told(), ["end always"]);
    assert!(hold.asked() <= asked + 1);
    assert_eq!(rig.stats.live(1).top[1].score.score, 0.0);
}

#[test]
fn other_labels_have_a_look_at_what_goes_on_already() {
    let (mut rig, hold) = behind_the_gate(&["4k"]);
    rig.play(&tone(3, 30.0));
    let asked = hold.asked();
    rig.play(&tone(3, 10.0));
    assert_eq!(hold.asked(), asked, "steady from the beginning");
    rig.relabel("clap", &hold, &["3k", "4k"])
        .play(&tone(3, 5.0));
    assert_eq!(rig.told(), ["start 3k"]);
}

#[test]
fn a_window_that_was_not_asked_about_waits_for_those_before_it() {
    let (mut rig, hold) = behind_the_gate(&["3k"]);
    rig.recogniser.set_complete(false);
    let busy = hold.busy.lock().unwrap();
    rig.play(&tone(3, 2.0)).play(&tone(0, 5.0));
    assert_eq!(
        rig.told(),
        [""; 0],
        "the first window is still being scored"
    );
    assert!(rig.stats.models()[1].gated >= 8);
    drop(busy);
    let limit = Instant::now() + Duration::from_secs(30);
    while rig.log.len() < 2 && Instant::now() < limit {
        rig.recogniser.poll(&mut |event| rig.log.push(event));
    }
    assert_eq!(rig.told(), ["start 3k", "end 3k"]);
}

#[test]
fn prompts_are_set_aside_for_a_cheap_model_that_cannot_keep_up() {
    let (events, busy) = ear("events", Kind::Event, false, &["2k"]);
    let (clap, _) = ear("clap", Kind::Prompt, false, &["3k"]);
    let mut rig = Rig::new(vec![events, clap]);
    rig.play(&tone(3, 2.0));
    assert_eq!(rig.told(), ["start 3k"]);
    rig.recogniser.set_complete(false);
    let guard = busy.busy.lock().unwrap();
    rig.play(&tone(3, 10.0));
    assert_eq!(
        rig.recogniser.fault().as_deref(),
        Some("clap is set aside: events cannot keep up beside it; prompts give way first")
    );
    assert!(rig.stats.models()[1].is_aside);
    assert_eq!(rig.told(), ["end 3k"], "nobody listens for it any more");
    // Other labels do not bring it back.
    let keep_all = vec![keep("events", None), keep("clap", None)];
    rig.change(keep_all).unwrap();
    assert!(rig.recogniser.fault().is_some());
    // Without the one that it has made room for, it is back at once.
    drop(guard);
    rig.change(vec![keep("clap", None)]).unwrap();
    assert_eq!(rig.recogniser.fault(), None);
    rig.recogniser.set_complete(true);
    rig.play(&tone(3, 1.0));
    assert_eq!(rig.told(), ["start 3k"]);
}

#[test]
fn any_chunking_gives_the_same_events_with_the_gate_on() {
    let scene = [
        tone(0, 12.3),
        tone(3, 2.7),
        tone(5, 1.1),
        tone(0, 4.0),
        tone(2, 15.0),
        tone(0, 3.01),
        tone(3, 0.6),
    ]
    .concat();
    let heard = |chunk: usize| {
        let (mut rig, hold) = behind_the_gate(&["2k", "3k"]);
        for part in scene.chunks(chunk) {
            rig.play(part);
        }
        rig.finish();
        let log: Vec<_> = rig
            .log
            .iter()
            .map(|event| (event.phase, event.label.clone(), event.start, event.end))
            .collect();
        (log, hold.asked(), rig.stats.models()[1].gated)
    };
    let expected = heard(1 << 20);
    assert!(expected.0.len() >= 6 && expected.2 > 15, "{expected:?}");
    for chunk in [33, 160, 1600, 7919] {
        assert_eq!(heard(chunk), expected, "chunk {chunk}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Streams, labels and gates at random over random tones: what started ends, once.
    #[test]
    fn any_changes_keep_one_end_for_every_start(
        turns in prop::collection::vec(
            (0_u32..5, 1_usize..20, prop::option::of((0_usize..8, 0_u8..8))), 1..14),
    ) {
        const NAMES: [&str; 3] = ["1k", "2k", "3k"];
        let (events, events_hold) = ear("events", Kind::Event, false, &NAMES);
        let (clap, clap_hold) = ear("clap", Kind::Prompt, true, &NAMES);
        let mut rig = Rig::new(vec![events, clap]);
        for (khz, tenths, change) in turns {
            if let Some((labels_of, how)) = change {
                let chosen = |bits: usize| -> Vec<&str> {
                    (0..3).filter(|at| bits >> at & 1 == 1).map(|at| NAMES[at]).collect()
                };
                let set = labels(&chosen(labels_of));
                let (name, hold) = match how & 1 {
                    0 => ("events", &events_hold),
                    _ => ("clap", &clap_hold),
                };
                hold.set.store(Arc::new(set.clone()));
                let mut windows: Vec<Standing> = ["events", "clap"]
                    .into_iter()
                    .map(|own| keep(own, (own == name).then(|| set.clone())))
                    .collect();
                if how & 2 == 2 {
                    windows.reverse();
                }
                if how & 4 == 4 {
                    let all: Vec<usize> = (0..labels_of.count_ones() as usize).collect();
                    let of = if name == "events" { all } else { Vec::new() };
                    windows.insert(1, Standing::Derived(derived("events", vec![of, vec![]])));
                }
                rig.change(windows).unwrap();
            }
            rig.play(&tone(khz, tenths as f32 / 10.0));
        }
        rig.finish();
        let mut open = std::collections::BTreeMap::new();
        for event in &rig.log {
            let key = (event.rule.clone(), event.label.clone());
            match event.phase {
                Phase::Start => prop_assert!(open.insert(key, event.id).is_none()),
                Phase::End => prop_assert_eq!(open.remove(&key), Some(event.id)),
                Phase::Instant => prop_assert!(false),
            }
        }
        prop_assert!(open.is_empty());
    }
}
