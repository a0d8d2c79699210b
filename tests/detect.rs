//! The decision engine as the listener runs it: every 10 ms, and without allocating.

use std::sync::Arc;

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use harkd::clock::SampleIdx;
use harkd::config::{Config, DEFAULT_TOML};
use harkd::detect::{Content, Engine, LevelMeter, Observation, Rule};
use harkd::event::Kind;

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

fn default_engine() -> (Engine, Vec<Arc<str>>, Vec<Arc<str>>) {
    let config: Config = toml::from_str(DEFAULT_TOML).unwrap();
    let labels = |kind: Kind, more: &[&str]| -> Vec<Arc<str>> {
        config
            .rule
            .iter()
            .filter(|rule| rule.kind == kind)
            .flat_map(|rule| rule.labels.iter().map(String::as_str))
            .chain(more.iter().copied())
            .map(Arc::from)
            .collect()
    };
    let words = labels(Kind::Keyword, &["_unknown_", "_silence_"]);
    let sounds = labels(Kind::Event, &["Speech", "Music", "Silence"]);
    let known = [
        (Kind::Keyword, words.as_slice()),
        (Kind::Event, sounds.as_slice()),
    ];
    let rules = Rule::all_from_config(&config.rule, &known).unwrap();
    (Engine::new(rules), words, sounds)
}

#[test]
fn the_steady_state_allocates_nothing() {
    let (mut engine, words, sounds) = default_engine();
    let mut content = Content::new(2.0);
    let mut meter = LevelMeter::new();
    let pcm = [0.1_f32; 160];
    let mut quiet = vec![0.01_f32; words.len()];
    let mut sound_scores = vec![0.01_f32; sounds.len()];
    let mut counted = 0_usize;
    let mut frame = |turn: u64, check: bool| {
        // A word of 300 ms every three seconds, a sound of two seconds every ten.
        quiet[0] = if turn % 300 < 30 { 0.95 } else { 0.01 };
        sound_scores[0] = if turn % 1000 < 200 { 0.95 } else { 0.01 };
        let mut step = || {
            meter.push(&pcm);
            let seen = Observation {
                kind: Kind::Keyword,
                start: SampleIdx(turn * 160),
                end: SampleIdx(turn * 160 + 400),
                labels: &words,
                scores: &quiet,
                level_dbfs: meter.level_dbfs(),
            };
            engine.observe(&seen, &mut |_| counted += 1);
            if turn.is_multiple_of(50) {
                let seen = Observation {
                    kind: Kind::Event,
                    start: SampleIdx(turn * 160),
                    end: SampleIdx(turn * 160 + 16_000),
                    labels: &sounds,
                    scores: &sound_scores,
                    level_dbfs: meter.level_over_dbfs(16_000),
                };
                engine.observe(&seen, &mut |_| counted += 1);
                content.observe(&seen, meter.noise_floor_dbfs(), &mut |_| counted += 1);
            }
        };
        if check { assert_no_alloc(step) } else { step() }
    };
    // The first observation of each kind binds the rules to its labels.
    frame(0, false);
    for turn in 1..3000 {
        frame(turn, true);
    }
    // Ten words, three sounds with start and end, and the content of the first sound.
    assert!(counted >= 16, "{counted} decisions");
    let mut ended = 0;
    assert_no_alloc(|| engine.close(SampleIdx(3000 * 160), &mut |_| ended += 1));
    assert_eq!((engine.open_episodes(), ended), (0, 0));
}
