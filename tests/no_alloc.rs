//! The capture callback under an allocator that ends the process when it is asked for anything.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use harkd::audio::Format;
use harkd::audio::mic::Callback;
use harkd::audio::resample::Resampler;
use harkd::audio::ring::pcm_ring;

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
