//! The decision engine as the listener runs it: every 10 ms, and without allocating.

use std::sync::Arc;

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use harkd::clock::SampleIdx;
use harkd::config::{Config, DEFAULT_TOML, KnownModel};
use harkd::detect::{Content, Engine, LevelMeter, Observation, Rule};
use harkd::event::Kind;

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

fn default_engine() -> (Engine, [KnownModel; 2]) {
    let config: Config = toml::from_str(DEFAULT_TOML).unwrap();
    let labels = |kind: Kind, more: &[&str]| -> Arc<[Arc<str>]> {
        config
            .rule
            .iter()
            .filter(|rule| rule.kind == kind)
            .flat_map(|rule| rule.labels.iter().map(String::as_str))
            .chain(more.iter().copied())
            .map(Arc::from)
            .collect()
    };
    let known = [
        (Kind::Keyword, &["_unknown_", "_silence_"][..]),
        (Kind::Event, &["Speech", "Music", "Silence"]),
    ]
    .map(|(kind, more)| KnownModel {
        kind,
        name: kind.as_str().into(),
        labels: labels(kind, more),
        thresholds: Arc::default(),
    });
    let rules = Rule::all_from_config(&config.rule, &known).unwrap();
    (Engine::new(rules, &known), known)
}

#[test]
fn the_steady_state_allocates_nothing() {
    let (mut engine, [words, sounds]) = default_engine();
    let mut content = Content::new(2.0, 1, &sounds.labels);
    let mut meter = LevelMeter::new();
    let pcm = [0.1_f32; 160];
    let mut quiet = vec![0.01_f32; words.labels.len()];
    let mut sound_scores = vec![0.01_f32; sounds.labels.len()];
    let mut counted = 0_usize;
    let mut frame = |turn: u64| {
        // A word of 300 ms every three seconds, a sound of two seconds every ten.
        quiet[0] = if turn % 300 < 30 { 0.95 } else { 0.01 };
        sound_scores[0] = if turn % 1000 < 200 { 0.95 } else { 0.01 };
        let step = || {
            meter.push(&pcm);
            let seen = Observation {
                stream: 0,
                start: SampleIdx(turn * 160),
                end: SampleIdx(turn * 160 + 400),
                scores: &quiet,
                level_dbfs: meter.level_dbfs(),
            };
            engine.observe(&seen, &mut |_| counted += 1);
            if turn.is_multiple_of(50) {
                let seen = Observation {
                    stream: 1,
                    start: SampleIdx(turn * 160),
                    end: SampleIdx(turn * 160 + 16_000),
                    scores: &sound_scores,
                    level_dbfs: meter.level_over_dbfs(16_000),
                };
                engine.observe(&seen, &mut |_| counted += 1);
                content.observe(&seen, meter.noise_floor_dbfs(), &mut |_| counted += 1);
            }
        };
        assert_no_alloc(step);
    };
    for turn in 0..3000 {
        frame(turn);
    }
    // Ten words, three sounds with start and end, and the content of the first sound.
    assert!(counted >= 16, "{counted} decisions");
    let mut ended = 0;
    assert_no_alloc(|| engine.close(SampleIdx(3000 * 160), &mut |_| ended += 1));
    assert_eq!((engine.open_episodes(), ended), (0, 0));
}
