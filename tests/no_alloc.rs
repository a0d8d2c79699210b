//! The capture callback and the listener's frames under an allocator that ends the process when it
//! is asked for anything.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use harkd::audio::Format;
use harkd::audio::mic::Callback;
use harkd::audio::resample::Resampler;
use harkd::audio::ring::pcm_ring;
use harkd::clock::WallClock;
use harkd::config::{Flags, load_from, paths::Paths};
use harkd::detect::{Content, Engine, Rule};
use harkd::event::Kind;
use harkd::features::LogMel;
use harkd::models::{Classifier, Input, ModelError, ModelInfo, embedded_event, embedded_keyword};
use harkd::pipeline::stats::{ModelStats, Stats};
use harkd::pipeline::{Parts, Recogniser, Stepped, WindowStream, Windowed};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

#[test]
fn the_capture_callback_allocates_nothing() {
    let format = Format {
        rate_hz: 48_000,
        channels: 2,
    };
    let (writer, mut reader) = pcm_ring(format, 0.5);
    let mut callback = Callback::new(writer, format, Arc::new(AtomicBool::new(false)));
    let ints = vec![1_000i16; 4_800];
    let floats = vec![f32::NAN; 40_000];
    let mut out = Vec::with_capacity(48_000);
    for round in 0..50 {
        // The reader comes only now and then, so the ring overruns and gaps are recorded as well.
        assert_no_alloc(|| {
            callback.deliver(&ints);
            callback.deliver(&floats);
            callback.deliver(&ints);
        });
        if round % 5 == 0 {
            out.clear();
            assert_no_alloc(|| reader.read(&mut out, 24_000));
        }
    }
    assert!(reader.lost_frames() > 0 && reader.invalid_samples() > 0);
}

#[test]
fn the_resampler_allocates_nothing_once_its_output_has_room() {
    for rate_hz in [8_000, 16_000, 44_100, 48_000, 192_000] {
        let mut resampler = Resampler::new(rate_hz).unwrap();
        let mono = vec![0.25; 2_400];
        let mut out = Vec::with_capacity(16_000);
        for _ in 0..100 {
            out.clear();
            assert_no_alloc(|| resampler.push(&mono, &mut out));
        }
    }
}

/// Answers to samples without looking at them; on the listener's side that makes no difference.
struct Deaf(ModelInfo);

/// A model on windows of 1.5 s, four times a second.
fn deaf(name: &'static str, labels: usize) -> Windowed {
    let make = Arc::new(move || {
        let mut info = embedded_event()?.info().clone();
        info.name = name.into();
        info.labels = info.labels.iter().take(labels).cloned().collect();
        info.input = Input::Samples { rate_hz: 32_000 };
        Ok(Box::new(Deaf(info)) as Box<dyn Classifier>)
    });
    Windowed::load(make, Some(150), Some(25)).unwrap()
}

impl Classifier for Deaf {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        assert_eq!(window.len(), 48_000, "1.5 s at 32 kHz");
        scores.resize(self.0.labels.len(), 0.0);
        Ok(())
    }
}

#[test]
fn a_frame_allocates_nothing_while_nothing_is_heard() {
    let keyword = Stepped::load(Arc::new(embedded_keyword)).unwrap();
    let windows = [
        Windowed::load(Arc::new(embedded_event), None, None).unwrap(),
        deaf("deaf", 5),
        // One that waits for something to stand out, and one that is asked nothing.
        Windowed {
            kind: Kind::Prompt,
            gated: true,
            ..deaf("gated", 5)
        },
        deaf("idle", 0),
    ];
    let home = Paths::new(std::path::Path::new("/nonexistent"), None, |_| None);
    let config = load_from(&Flags::default(), &home, []).unwrap().config;
    let windows = windows.map(|model| WindowStream::start(model).unwrap());
    let stats = Arc::new(Stats::new(
        "test",
        Some(ModelStats::new(keyword.info.clone())),
        windows
            .iter()
            .map(|stream| stream.stats().clone())
            .collect(),
    ));
    let known = stats.known();
    let mut recogniser = Recogniser::new(Parts {
        front: Box::new(LogMel::new()),
        keyword: Some(keyword.slot),
        windows: windows.into(),
        engine: Engine::new(Rule::all_from_config(&config.rule, &known).unwrap(), &known),
        content: Some(Content::new(2.0, 1, &known[1].labels)),
        stats: stats.clone(),
        clock: WallClock::new(Instant::now()),
        complete: true,
    });
    // A quiet room: noise of the lowest bits.
    let mut random = fastrand::Rng::with_seed(1);
    let room: Vec<f32> = (0..64_000).map(|_| (random.f32() - 0.5) * 1e-3).collect();
    let mut hear = |pcm: &[f32]| recogniser.push(pcm, &mut |event| panic!("{event:?}"));
    hear(&room);
    let count = |at: usize| stats.windows()[at].times.count();
    let before = [count(0), count(1)];
    for block in room.chunks(960) {
        assert_no_alloc(|| hear(block));
    }
    assert!(count(0) >= before[0] + 7 && count(1) >= before[1] + 15);
    assert!(count(2) <= 3 && stats.windows()[2].gated() >= 20);
    assert_eq!(count(3), 0);
}
