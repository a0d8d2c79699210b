//! The lock-free ring between a source and the listener: mono samples at the native rate, and beside
//! them the places where some are missing.
//!
//! Samples go through one single-producer, single-consumer ring and gaps through a second, small one.
//! A gap is published just before the first sample that follows it, with the position of that sample,
//! so the reader meets it exactly there. While the ring of gaps is full nothing is pushed at all and
//! the open gap grows; a sample is therefore either delivered in its place or counted.
//!
//! [`PcmWriter::write`] never wakes anybody: the reader of a live source naps for about as long as the
//! missing samples take to arrive, which costs a few wake-ups a second. Only
//! [`PcmWriter::write_blocking`], for files and pipes, waits and wakes through a condition variable.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::{Format, mix};

/// Gaps that can wait for the reader; with more the newest one grows.
const MAX_GAPS: usize = 256;
/// Mono samples mixed at a time, on the stack.
const MIX_BLOCK: usize = 256;
/// Longest sleep of either side before it looks again, should the other side have died on the way.
const MAX_SLEEP: Duration = Duration::from_millis(100);
/// Naps of the reader once the samples are due. Live sound comes in lumps; short naps around the time
/// of arrival keep the reader in step with them.
const DUE_NAP: Duration = Duration::from_millis(10);

/// Makes a ring that holds `capacity_s` seconds of mono sound of `format`.
pub fn pcm_ring(format: Format, capacity_s: f64) -> (PcmWriter, PcmReader) {
    let capacity = (f64::from(format.rate_hz) * capacity_s).ceil().max(1.0) as usize;
    let (samples_in, samples_out) = HeapRb::new(capacity).split();
    let (gaps_in, gaps_out) = HeapRb::new(MAX_GAPS).split();
    let shared = Arc::new(Shared::default());
    let writer = PcmWriter {
        samples: samples_in,
        gaps: gaps_in,
        shared: Arc::clone(&shared),
        channels: usize::from(format.channels.max(1)),
        pushed: 0,
        open_gap: 0,
    };
    let reader = PcmReader {
        samples: samples_out,
        gaps: gaps_out,
        shared,
        rate_hz: format.rate_hz.max(1),
        capacity,
        read: 0,
    };
    (writer, reader)
}

/// What both ends see.
#[derive(Default)]
struct Shared {
    writer_gone: AtomicBool,
    reader_gone: AtomicBool,
    /// Native frames lost so far.
    lost: AtomicU64,
    /// Those of them that no sample follows; set when the writer goes.
    lost_at_end: AtomicU64,
    /// Samples so far that were not finite and were taken as 0.
    invalid: AtomicU64,
    /// How many samples a sleeping reader wants; 0 while it is awake.
    wanted: AtomicUsize,
    /// Whether a blocking writer sleeps.
    writer_sleeps: AtomicBool,
    /// Guards nothing but the two condition variables.
    sleep: Mutex<()>,
    wake_reader: Condvar,
    wake_writer: Condvar,
}

impl Shared {
    /// Sleeps until woken or `timeout`, unless `ready` already holds.
    fn sleep_unless(&self, ready: impl Fn() -> bool, on: &Condvar, timeout: Duration) {
        let guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        // The other side changes its index first and looks for sleepers second, this side announces
        // its sleep first and looks at the index second; with a fence between on both sides at
        // least one of them sees the other.
        fence(Ordering::SeqCst);
        if !ready() {
            drop(on.wait_timeout(guard, timeout));
        }
    }

    fn wake(&self, on: &Condvar) {
        drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        on.notify_one();
    }
}

/// The source's end. Mixes to mono and pushes; real-time safe but for [`PcmWriter::write_blocking`].
pub struct PcmWriter {
    samples: HeapProd<f32>,
    gaps: HeapProd<Gap>,
    shared: Arc<Shared>,
    channels: usize,
    /// Samples pushed so far: the position of the next one.
    pushed: u64,
    /// Frames lost since the last sample that was pushed.
    open_gap: u64,
}

/// A place where frames are missing.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// Position of the first sample behind it, in delivered samples.
    before: u64,
    /// How many frames are missing.
    frames: u64,
}

impl PcmWriter {
    /// Mixes interleaved samples to mono and pushes them; what does not fit is counted as lost.
    /// Samples that are not finite become 0 and are counted. An incomplete last frame is left out.
    /// Real-time safe: no allocation, lock or system call.
    pub fn write(&mut self, interleaved: &[f32]) {
        let mut mono = [0.0; MIX_BLOCK];
        for block in interleaved.chunks(MIX_BLOCK * self.channels) {
            let frames = block.len() / self.channels;
            self.mix(block, &mut mono[..frames]);
            let pushed = self.push(&mono[..frames]);
            self.lost((frames - pushed) as u64);
        }
    }

    /// The same, but waits for room: for files and pipes. Returns `false` when the reader has gone.
    pub fn write_blocking(&mut self, interleaved: &[f32]) -> bool {
        let mut mono = [0.0; MIX_BLOCK];
        for block in interleaved.chunks(MIX_BLOCK * self.channels) {
            let frames = block.len() / self.channels;
            self.mix(block, &mut mono[..frames]);
            let mut rest = &mono[..frames];
            loop {
                if self.shared.reader_gone.load(Ordering::Acquire) {
                    return false;
                }
                rest = &rest[self.push(rest)..];
                self.wake_reader();
                if rest.is_empty() {
                    break;
                }
                self.wait_for_room();
            }
        }
        true
    }

    /// Counts native frames that the device says it has lost. Real-time safe.
    pub fn lost(&mut self, frames: u64) {
        if frames > 0 {
            self.open_gap += frames;
            self.shared.lost.fetch_add(frames, Ordering::Relaxed);
        }
    }

    /// Whether the reader has gone, so that writing on is pointless. Real-time safe.
    pub fn reader_gone(&self) -> bool {
        self.shared.reader_gone.load(Ordering::Acquire)
    }

    fn mix(&self, interleaved: &[f32], mono: &mut [f32]) {
        let invalid = mix::to_mono(interleaved, self.channels, mono);
        if invalid > 0 {
            self.shared.invalid.fetch_add(invalid, Ordering::Relaxed);
        }
    }

    /// Pushes what fits and says how much that was.
    fn push(&mut self, mono: &[f32]) -> usize {
        if mono.is_empty() || self.samples.is_full() || !self.close_gap() {
            return 0;
        }
        let pushed = self.samples.push_slice(mono);
        self.pushed += pushed as u64;
        pushed
    }

    /// Publishes the open gap in front of the next sample; `false` when there is no room for it.
    fn close_gap(&mut self) -> bool {
        if self.open_gap == 0 {
            return true;
        }
        let gap = Gap {
            before: self.pushed,
            frames: self.open_gap,
        };
        let published = self.gaps.try_push(gap).is_ok();
        if published {
            self.open_gap = 0;
        }
        published
    }

    fn wake_reader(&self) {
        fence(Ordering::SeqCst);
        let wanted = self.shared.wanted.load(Ordering::Relaxed);
        if wanted > 0 && (self.samples.occupied_len() >= wanted || self.samples.is_full()) {
            self.shared.wake(&self.shared.wake_reader);
        }
    }

    fn wait_for_room(&self) {
        self.shared.writer_sleeps.store(true, Ordering::Relaxed);
        // Half of the ring must be free, so that a fast writer and its reader change places seldom.
        let enough = self.samples.capacity().get().div_ceil(2);
        self.shared.sleep_unless(
            || self.samples.vacant_len() >= enough || self.reader_gone(),
            &self.shared.wake_writer,
            MAX_SLEEP,
        );
        self.shared.writer_sleeps.store(false, Ordering::Relaxed);
    }
}

impl Drop for PcmWriter {
    fn drop(&mut self) {
        self.shared
            .lost_at_end
            .store(self.open_gap, Ordering::Relaxed);
        self.shared.writer_gone.store(true, Ordering::Release);
        self.shared.wake(&self.shared.wake_reader);
    }
}

/// The listener's end.
pub struct PcmReader {
    samples: HeapCons<f32>,
    gaps: HeapCons<Gap>,
    shared: Arc<Shared>,
    rate_hz: u32,
    capacity: usize,
    /// Samples read so far: the position of the next one.
    read: u64,
}

/// What one read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// Mono samples at the native rate that were appended.
    pub samples: usize,
    /// Frames at the native rate that were lost before these samples.
    pub lost_before: u64,
}

impl PcmReader {
    /// Appends at most `max` mono samples to `out` without waiting; never crosses a gap, so that
    /// `lost_before` stands exactly before the samples it returns. Only at the very end of a source
    /// can there be a loss without samples.
    pub fn read(&mut self, out: &mut Vec<f32>, max: usize) -> Block {
        // The order matters: a gap is published before the samples behind it, and the writer's end
        // after everything, so what is looked at later is at least as new.
        let writer_gone = self.shared.writer_gone.load(Ordering::Acquire);
        let mut samples = self.samples.occupied_len().min(max);
        let mut block = Block::default();
        if let Some(gap) = self.gaps.first().copied() {
            let until_gap = gap.before - self.read;
            if until_gap > 0 {
                samples = samples.min(usize::try_from(until_gap).unwrap_or(usize::MAX));
            } else if samples > 0 {
                block.lost_before = gap.frames;
                self.gaps.skip(1);
                let next = self.gaps.first().map_or(u64::MAX, |next| next.before);
                samples = samples.min(usize::try_from(next - self.read).unwrap_or(usize::MAX));
            }
        }
        if samples > 0 {
            let old = out.len();
            out.resize(old + samples, 0.0);
            block.samples = self.samples.pop_slice(&mut out[old..]);
            out.truncate(old + block.samples);
            self.read += block.samples as u64;
            self.wake_writer();
        } else if writer_gone && max > 0 && self.samples.is_empty() {
            block.lost_before = self.shared.lost_at_end.swap(0, Ordering::Relaxed);
        }
        block
    }

    /// Waits until `samples` are there, the writer has gone, or `timeout` has passed. Sleeps as long
    /// as the missing samples take at the native rate, then in naps of 10 ms; a blocking writer
    /// wakes it earlier.
    pub fn wait(&self, samples: usize, timeout: Duration) {
        let wanted = samples.clamp(1, self.capacity);
        let deadline = Instant::now() + timeout;
        let mut due = false;
        loop {
            let missing = wanted.saturating_sub(self.samples.occupied_len());
            let now = Instant::now();
            if missing == 0 || self.writer_gone() || now >= deadline {
                return;
            }
            let nap = if due {
                DUE_NAP
            } else {
                Duration::from_secs_f64(missing as f64 / f64::from(self.rate_hz))
                    .clamp(DUE_NAP, MAX_SLEEP)
            };
            due = true;
            let nap = nap.min(deadline - now);
            self.shared.wanted.store(wanted, Ordering::Relaxed);
            self.shared.sleep_unless(
                || self.samples.occupied_len() >= wanted || self.writer_gone(),
                &self.shared.wake_reader,
                nap,
            );
            self.shared.wanted.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the writer has gone and everything was read.
    pub fn is_finished(&self) -> bool {
        self.writer_gone()
            && self.samples.is_empty()
            && self.shared.lost_at_end.load(Ordering::Relaxed) == 0
    }

    /// Mono samples that can be read now, gaps left aside.
    pub fn available(&self) -> usize {
        self.samples.occupied_len()
    }

    /// Native frames lost since the start, those whose place has not been read yet included.
    pub fn lost_frames(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Samples since the start that were not finite and were taken as 0.
    pub fn invalid_samples(&self) -> u64 {
        self.shared.invalid.load(Ordering::Relaxed)
    }

    fn writer_gone(&self) -> bool {
        self.shared.writer_gone.load(Ordering::Acquire)
    }

    fn wake_writer(&self) {
        fence(Ordering::SeqCst);
        if self.shared.writer_sleeps.load(Ordering::Relaxed)
            && self.samples.vacant_len() >= self.capacity.div_ceil(2)
        {
            self.shared.wake(&self.shared.wake_writer);
        }
    }
}

impl Drop for PcmReader {
    fn drop(&mut self) {
        self.shared.reader_gone.store(true, Ordering::Release);
        self.shared.wake(&self.shared.wake_writer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MONO: Format = Format {
        rate_hz: 16_000,
        channels: 1,
    };

    /// Numbers start anew here, so that each is exact in `f32` and a possible sample.
    const WRAP: u64 = 1_000_000;

    /// Follows the reader and checks that every frame, numbered from 0 by its value, is either
    /// delivered in its place or counted there.
    #[derive(Default)]
    struct Follower {
        position: u64,
        out: Vec<f32>,
    }

    impl Follower {
        fn take(&mut self, reader: &mut PcmReader, max: usize) -> Block {
            self.out.clear();
            let block = reader.read(&mut self.out, max);
            assert_eq!(block.samples, self.out.len());
            assert!(block.samples <= max);
            self.position += block.lost_before;
            for &sample in &self.out {
                assert_eq!(sample as u64, self.position % WRAP);
                self.position += 1;
            }
            block
        }
    }

    /// Frames `first..first + len`, each with its number as value.
    fn numbered(first: u64, len: u64) -> Vec<f32> {
        (first..first + len).map(|n| (n % WRAP) as f32).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64),
        Lost(u64),
        Read(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        proptest::collection::vec(
            prop_oneof![
                3 => (0u64..700).prop_map(Step::Write),
                1 => (0u64..50).prop_map(Step::Lost),
                3 => (0usize..500).prop_map(Step::Read),
            ],
            0..400,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn every_frame_is_delivered_in_its_place_or_counted_there(steps in steps(), capacity in 1usize..1_000) {
            let (mut writer, mut reader) = pcm_ring(MONO, capacity as f64 / 16_000.0);
            let mut follower = Follower::default();
            let mut written = 0;
            for step in steps {
                match step {
                    Step::Write(len) => {
                        writer.write(&numbered(written, len));
                        written += len;
                    }
                    Step::Lost(frames) => {
                        writer.lost(frames);
                        written += frames;
                    }
                    Step::Read(max) => {
                        follower.take(&mut reader, max);
                    }
                }
            }
            drop(writer);
            while !reader.is_finished() {
                follower.take(&mut reader, usize::MAX);
            }
            prop_assert_eq!(follower.position, written);
        }
    }

    #[test]
    fn an_overrun_is_reported_exactly_before_the_next_sample() {
        let (mut writer, mut reader) = pcm_ring(MONO, 4.0 / 16_000.0);
        let mut follower = Follower::default();
        writer.write(&numbered(0, 7));
        assert_eq!(reader.lost_frames(), 3);
        let first = follower.take(&mut reader, 99);
        assert_eq!((first.samples, first.lost_before), (4, 0));
        assert_eq!(follower.take(&mut reader, 99), Block::default());
        writer.write(&numbered(7, 2));
        let second = follower.take(&mut reader, 99);
        assert_eq!((second.samples, second.lost_before), (2, 3));
    }

    #[test]
    fn more_gaps_than_can_wait_merge_and_stay_exact() {
        let (mut writer, mut reader) = pcm_ring(MONO, 1.0);
        let mut written = 0;
        for _ in 0..2 * MAX_GAPS {
            writer.lost(1);
            writer.write(&numbered(written + 1, 1));
            written += 2;
        }
        drop(writer);
        let mut follower = Follower::default();
        while !reader.is_finished() {
            follower.take(&mut reader, 10);
        }
        assert_eq!(follower.position, written);
    }

    #[test]
    fn two_threads_agree_on_every_frame() {
        let (mut writer, mut reader) = pcm_ring(MONO, 300.0 / 16_000.0);
        let total = 4_000_000u64;
        let thread = std::thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(7);
            let mut written = 0;
            while written < total {
                let len = random.u64(1..200);
                if random.u8(..) < 8 {
                    writer.lost(len);
                } else {
                    writer.write(&numbered(written, len));
                }
                written += len;
            }
            written
        });
        let mut random = fastrand::Rng::with_seed(8);
        let mut follower = Follower::default();
        while !reader.is_finished() {
            follower.take(&mut reader, random.usize(1..400));
        }
        let lost = reader.lost_frames();
        assert_eq!(follower.position, thread.join().unwrap());
        assert!(lost > 0 && lost < total, "{lost}");
    }

    #[test]
    fn a_blocking_writer_loses_nothing() {
        let (mut writer, mut reader) = pcm_ring(MONO, 0.05);
        let total = 3_000_000;
        let thread = std::thread::spawn(move || {
            (0..total / 1_000).all(|n| writer.write_blocking(&numbered(n * 1_000, 1_000)))
        });
        let mut follower = Follower::default();
        while !reader.is_finished() {
            reader.wait(400, Duration::from_secs(5));
            follower.take(&mut reader, usize::MAX);
        }
        assert!(thread.join().unwrap());
        assert_eq!((follower.position, reader.lost_frames()), (total, 0));
    }

    #[test]
    fn a_blocking_writer_learns_that_the_reader_has_gone() {
        let (mut writer, reader) = pcm_ring(MONO, 0.01);
        let thread = std::thread::spawn(move || writer.write_blocking(&vec![0.0; 100_000]));
        drop(reader);
        assert!(!thread.join().unwrap());
    }

    #[test]
    fn waiting_ends_with_the_writer_or_the_timeout() {
        let (writer, reader) = pcm_ring(MONO, 1.0);
        reader.wait(1_000, Duration::ZERO);
        let thread = std::thread::spawn(move || reader.wait(1_000, Duration::from_secs(600)));
        drop(writer);
        thread.join().unwrap();
    }

    #[test]
    fn channels_are_mixed_and_bad_samples_counted() {
        let stereo = Format {
            rate_hz: 16_000,
            channels: 2,
        };
        let (mut writer, mut reader) = pcm_ring(stereo, 1.0);
        writer.write(&[1.0, 0.0, f32::NAN, -1.0]);
        let mut out = Vec::new();
        reader.read(&mut out, 10);
        assert_eq!(out, [0.5, -0.5]);
        assert_eq!(reader.invalid_samples(), 1);
    }
}
