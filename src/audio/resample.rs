//! Mono sound of any rate to any other, [`PIPELINE_RATE_HZ`] for one, in a stream.
//!
//! Whatever the chunks that go in, the same samples come out. The delay of the filter is taken off
//! the start, so output sample `k` stands for the time `k / rate` of the input and sample indices
//! need no correction; [`Resampler::flush`] hands out the tail that the filter still holds.
//!
//! Rates whose ratio has small terms use rubato's FFT method in blocks of 20 ms; rates with
//! an awkward ratio (44 056 Hz, say) use its windowed sinc, which is right to one sample in time.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{
    Async, Fft, FixedAsync, FixedSync, Indexing, Resampler as Method, SincInterpolationParameters,
    SincInterpolationType, WindowFunction,
};

use super::AudioError;
use crate::clock::{PIPELINE_RATE_HZ, SampleIdx};

/// Lowest rate that is accepted, in hertz.
pub const MIN_RATE_HZ: u32 = 1_000;
/// Highest rate that is accepted, in hertz.
pub const MAX_RATE_HZ: u32 = 384_000;

/// Blocks of the FFT method a second: 20 ms keep the transition band at 0.3 kHz below the edge and
/// the wait for a full block well under the latency that is allowed.
const BLOCKS_PER_S: u32 = 50;
/// Shortest block of the FFT method, which is also the length of its filter, in native samples.
const MIN_BLOCK: u32 = 128;
/// A smallest whole block longer than this part of a second is left to the sinc method.
const MAX_BLOCKS_PER_S: u32 = 16;
/// Length of the sinc in samples of the lower of the two rates.
const SINC_LEN: f64 = 128.0;
/// Native samples that the sinc method takes at a time, at most.
const SINC_BLOCK: usize = 1024;

/// A streaming resampler for mono sound, native rate to [`PIPELINE_RATE_HZ`] or another.
pub struct Resampler {
    rate_hz: u32,
    to_hz: u32,
    method: Option<Box<dyn Method<f32>>>,
    block: Vec<f32>,
    filled: usize,
    scratch: Vec<f32>,
    /// Output samples of the current stretch that are still to be dropped: the filter's delay.
    to_drop: usize,
    /// Native frames before the current stretch, lost ones included.
    stretch_start: u64,
    /// Native samples pushed in the current stretch.
    pushed: u64,
    /// Samples handed out in the current stretch.
    emitted: u64,
}

impl Resampler {
    /// A resampler from `rate_hz`; at 16 kHz samples pass through untouched.
    ///
    /// # Errors
    /// When the rate is outside [`MIN_RATE_HZ`]..=[`MAX_RATE_HZ`].
    pub fn new(rate_hz: u32) -> Result<Self, AudioError> {
        Resampler::between(rate_hz, PIPELINE_RATE_HZ)
    }

    /// A resampler from `rate_hz` to `to_hz`; where they are the same, samples pass through untouched.
    ///
    /// # Errors
    /// When a rate is outside [`MIN_RATE_HZ`]..=[`MAX_RATE_HZ`].
    pub fn between(rate_hz: u32, to_hz: u32) -> Result<Self, AudioError> {
        for rate_hz in [rate_hz, to_hz] {
            if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz) {
                return Err(AudioError::Decode(format!(
                    "a rate of {rate_hz} Hz is not supported: use {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
                )));
            }
        }
        let method = if rate_hz == to_hz {
            None
        } else {
            Some(method(rate_hz, to_hz).map_err(|error| {
                AudioError::Decode(format!(
                    "cannot resample from {rate_hz} to {to_hz} Hz: {error}"
                ))
            })?)
        };
        let mut resampler = Resampler {
            rate_hz,
            to_hz,
            block: vec![0.0; method.as_ref().map_or(0, |m| m.input_frames_max())],
            scratch: vec![0.0; method.as_ref().map_or(0, |m| m.output_frames_max())],
            method,
            filled: 0,
            to_drop: 0,
            stretch_start: 0,
            pushed: 0,
            emitted: 0,
        };
        resampler.begin_stretch(0);
        Ok(resampler)
    }

    /// The native rate in hertz.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Index of the next sample that will be handed out, lost native frames counted in; in samples of
    /// the rate that goes out.
    pub fn next_idx(&self) -> SampleIdx {
        SampleIdx(self.to_output(self.stretch_start) + self.emitted)
    }

    /// Takes native samples and appends resampled ones to `out`. Allocates only to grow `out`.
    pub fn push(&mut self, mono: &[f32], out: &mut Vec<f32>) {
        self.pushed += mono.len() as u64;
        if self.method.is_none() {
            out.extend_from_slice(mono);
            self.emitted += mono.len() as u64;
            return;
        }
        let mut rest = mono;
        while !rest.is_empty() {
            let wanted = self.block_len() - self.filled;
            let (now, later) = rest.split_at(wanted.min(rest.len()));
            self.block[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            rest = later;
            if self.filled == self.block_len() {
                self.process(usize::MAX, out);
            }
        }
    }

    /// Appends what the filter still holds, so that all samples pushed since the start (or the last
    /// gap) are in: `ceil(pushed * to_hz / rate_hz)` samples in all. The stream then starts anew at
    /// the same time.
    pub fn flush(&mut self, out: &mut Vec<f32>) {
        if self.method.is_some() {
            let total = self.to_output(self.pushed);
            while self.emitted < total {
                let left = usize::try_from(total - self.emitted).unwrap_or(usize::MAX);
                let len = self.block_len();
                self.block[self.filled..len].fill(0.0);
                self.process(left, out);
            }
        }
        self.begin_stretch(self.stretch_start + self.pushed);
    }

    /// Says that `lost` native frames are missing here: appends the tail of what came before to
    /// `out` and starts afresh behind the gap. [`Resampler::next_idx`] then stands behind it.
    pub fn gap(&mut self, lost: u64, out: &mut Vec<f32>) {
        self.flush(out);
        self.begin_stretch(self.stretch_start + lost);
    }

    fn begin_stretch(&mut self, at_native: u64) {
        self.stretch_start = at_native;
        self.pushed = 0;
        self.emitted = 0;
        self.filled = 0;
        if let Some(method) = &mut self.method {
            method.reset();
            self.to_drop = method.output_delay();
        }
    }

    fn block_len(&self) -> usize {
        self.method.as_ref().map_or(0, |m| m.input_frames_next())
    }

    /// Native frames in samples of the rate that goes out, rounded up.
    fn to_output(&self, native: u64) -> u64 {
        let scaled =
            (u128::from(native) * u128::from(self.to_hz)).div_ceil(u128::from(self.rate_hz));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    /// Sends the full block through the filter and appends at most `limit` samples to `out`.
    fn process(&mut self, limit: usize, out: &mut Vec<f32>) {
        self.filled = 0;
        let Some(method) = &mut self.method else {
            return;
        };
        let room = self.scratch.len();
        let produced = match (
            SequentialSlice::new(&self.block, 1, self.block.len()),
            SequentialSlice::new_mut(&mut self.scratch, 1, room),
        ) {
            (Ok(input), Ok(mut output)) => method
                .process_into_buffer(&input, &mut output, None::<&Indexing>)
                .map_or(0, |(_, produced)| produced),
            _ => 0,
        };
        debug_assert!(produced > 0, "the buffers are sized by the method itself");
        let skipped = self.to_drop.min(produced);
        self.to_drop -= skipped;
        let kept = &self.scratch[skipped..produced];
        let kept = &kept[..kept.len().min(limit)];
        out.extend_from_slice(kept);
        self.emitted += kept.len() as u64;
    }
}

fn method(
    rate_hz: u32,
    to_hz: u32,
) -> Result<Box<dyn Method<f32>>, rubato::ResamplerConstructionError> {
    let smallest_block = rate_hz / gcd(rate_hz, to_hz);
    if smallest_block <= rate_hz / MAX_BLOCKS_PER_S {
        let wanted = (rate_hz / BLOCKS_PER_S).max(MIN_BLOCK);
        let mut blocks = wanted.div_ceil(smallest_block);
        // An odd filter has its centre half a sample beside the delay that rubato states.
        if smallest_block % 2 == 1 {
            blocks = blocks.next_multiple_of(2);
        }
        let fft = Fft::new(
            rate_hz as usize,
            to_hz as usize,
            (blocks * smallest_block) as usize,
            1,
            FixedSync::Both,
        )?;
        return Ok(Box::new(fft));
    }
    let ratio = f64::from(to_hz) / f64::from(rate_hz);
    let parameters = SincInterpolationParameters {
        sinc_len: (SINC_LEN / ratio.min(1.0)) as usize,
        f_cutoff: None,
        oversampling_factor: 256,
        interpolation: SincInterpolationType::Linear,
        window: WindowFunction::BlackmanHarris2,
    };
    let sinc = Async::new_sinc(ratio, 1.0, &parameters, SINC_BLOCK, 1, FixedAsync::Input)?;
    Ok(Box::new(sinc))
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    fn tone(rate_hz: u32, hz: f64, len: usize) -> Vec<f32> {
        (0..len)
            .map(|n| (0.5 * (TAU * hz * n as f64 / f64::from(rate_hz)).sin()) as f32)
            .collect()
    }

    fn whole(rate_hz: u32, mono: &[f32]) -> Vec<f32> {
        let mut resampler = Resampler::new(rate_hz).unwrap();
        let mut out = Vec::new();
        resampler.push(mono, &mut out);
        resampler.flush(&mut out);
        out
    }

    /// A tone must come out as the same tone at the same time, at every rate.
    #[track_caller]
    fn check_tone(rate_hz: u32, hz: f64, tolerance: f32) {
        let out = whole(rate_hz, &tone(rate_hz, hz, rate_hz as usize));
        assert_eq!(out.len(), 16_000, "{rate_hz} Hz");
        let expected = tone(PIPELINE_RATE_HZ, hz, 16_000);
        let worst = (4_000..12_000)
            .map(|n| (out[n] - expected[n]).abs())
            .fold(0.0, f32::max);
        assert!(worst < tolerance, "{rate_hz} Hz: off by {worst}");
    }

    #[test]
    fn a_tone_keeps_its_place_and_height() {
        check_tone(16_000, 1_000.0, 1e-6);
        check_tone(1_000, 100.0, 1e-3);
        for rate_hz in [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000] {
            check_tone(rate_hz, 1_000.0, 1e-3);
        }
        check_tone(192_000, 1_000.0, 1e-3);
        check_tone(384_000, 1_000.0, 1e-3);
        check_tone(48_000, 7_000.0, 1e-3);
    }

    #[test]
    fn a_tone_keeps_its_place_and_height_on_the_way_to_any_rate() {
        let check = |rate_hz: u32, to_hz: u32, tolerance: f32| {
            let mut resampler = Resampler::between(rate_hz, to_hz).unwrap();
            let mut out = Vec::new();
            resampler.push(&tone(rate_hz, 400.0, rate_hz as usize), &mut out);
            resampler.flush(&mut out);
            assert_eq!(out.len(), to_hz as usize, "{rate_hz} to {to_hz} Hz");
            let expected = tone(to_hz, 400.0, out.len());
            let middle = out.len() / 4..out.len() * 3 / 4;
            let worst = middle
                .map(|n| (out[n] - expected[n]).abs())
                .fold(0.0, f32::max);
            assert!(
                worst <= tolerance,
                "{rate_hz} to {to_hz} Hz: off by {worst}"
            );
        };
        check(48_000, 48_000, 0.0);
        for rate_hz in [1_000, 8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 96_000] {
            check(rate_hz, 48_000, 1e-3);
            check(rate_hz, 32_000, 1e-3);
        }
        check(44_056, 48_000, (0.5 * TAU * 400.0 / 48_000.0) as f32);
        assert!(Resampler::between(48_000, 999).is_err());
    }

    #[test]
    fn awkward_rates_are_right_to_one_sample() {
        let one_sample = (0.5 * TAU * 400.0 / 16_000.0) as f32;
        for rate_hz in [7_919, 15_999, 44_056, 47_999, 383_981] {
            check_tone(rate_hz, 400.0, one_sample);
        }
    }

    #[test]
    fn what_is_above_the_band_does_not_fold_into_it() {
        let out = whole(48_000, &tone(48_000, 9_500.0, 48_000));
        let loudest = out[1_000..15_000]
            .iter()
            .fold(0.0f32, |a, x| a.max(x.abs()));
        assert!(loudest < 1e-4, "{loudest}");
    }

    #[test]
    fn a_gap_moves_the_index_and_forgets_the_past() {
        let mut resampler = Resampler::new(48_000).unwrap();
        let mut out = Vec::new();
        resampler.push(&tone(48_000, 500.0, 4_801), &mut out);
        resampler.gap(48_000, &mut out);
        assert_eq!(out.len(), 1_601);
        assert_eq!(resampler.next_idx(), SampleIdx(17_601));
        out.clear();
        resampler.push(&[0.0; 48_000], &mut out);
        assert!(out.iter().all(|&x| x == 0.0));
        assert_eq!(resampler.next_idx(), SampleIdx(17_601 + out.len() as u64));
    }

    #[test]
    fn rates_out_of_range_are_refused() {
        for rate_hz in [0, 999, 384_001, u32::MAX] {
            let error = Resampler::new(rate_hz).err().unwrap().to_string();
            assert!(error.contains(&rate_hz.to_string()), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn chunking_changes_nothing(
            rate_hz in prop_oneof![
                Just(8_000u32), Just(16_000), Just(44_100), Just(48_000), Just(192_000), 1_000u32..60_000
            ],
            cuts in proptest::collection::vec(0usize..3_000, 0..12),
            len in 0usize..20_000,
        ) {
            let input: Vec<f32> = (0..len).map(|n| ((n * 7_919) % 1_000) as f32 / 500.0 - 1.0).collect();
            let expected = whole(rate_hz, &input);
            let mut resampler = Resampler::new(rate_hz).unwrap();
            let mut out = Vec::new();
            let mut rest = input.as_slice();
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                resampler.push(now, &mut out);
                rest = later;
            }
            resampler.push(rest, &mut out);
            resampler.flush(&mut out);
            prop_assert_eq!(out.len() as u64, (len as u64 * 16_000).div_ceil(u64::from(rate_hz)));
            prop_assert_eq!(out, expected);
        }
    }
}
