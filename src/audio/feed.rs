//! A source's own thread: what files, pipes and commands have in common.
//!
//! The work runs until it is done, fails, or the [`Feed`] is dropped; its outcome is the health of
//! the source.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::ring::PcmWriter;
use super::{AudioError, Health, Running};

/// A thread that writes sound into a ring.
pub struct Feed {
    name: String,
    outcome: Receiver<Result<(), AudioError>>,
    known: Option<Result<(), AudioError>>,
    /// Dropped with the feed; the thread sees the other end close.
    _stop: Sender<()>,
}

/// The thread's view of whether it should go on.
pub struct Stop(Receiver<()>);

impl Stop {
    /// Whether the feed was dropped.
    pub fn is_set(&self) -> bool {
        self.0.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Sleeps until `deadline`; `false` when the feed was dropped meanwhile.
    pub fn sleep_until(&self, deadline: Instant) -> bool {
        self.0.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout)
    }
}

impl Feed {
    /// Runs `work` on a thread of its own. The writer should be owned by `work`, so that it is gone
    /// before the outcome is known.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(
        name: &str,
        work: impl FnOnce(&Stop) -> Result<(), AudioError> + Send + 'static,
    ) -> Result<Self, AudioError> {
        let (stop, stopped) = bounded(0);
        let (done, outcome) = bounded(1);
        thread::Builder::new()
            .name("hark-feed".to_owned())
            .spawn(move || {
                let result = work(&Stop(stopped));
                // Nobody listens when the feed was dropped first.
                drop(done.send(result));
            })
            .map_err(|error| {
                AudioError::Device(format!("{name}: cannot start a thread for it: {error}"))
            })?;
        Ok(Feed {
            name: name.to_owned(),
            outcome,
            known: None,
            _stop: stop,
        })
    }
}

impl Running for Feed {
    fn health(&mut self) -> Health {
        if self.known.is_none() {
            self.known = match self.outcome.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Err(AudioError::Device(format!(
                    "{}: its thread has died; this is a fault in hark, please report it",
                    self.name
                )))),
            };
        }
        match &self.known {
            None => Health::Running,
            Some(Ok(())) => Health::Ended,
            Some(Err(error)) => Health::Failed(error.clone()),
        }
    }
}

/// Copies interleaved 16-bit little-endian samples from `input` into `out` until the input ends, the
/// feed is dropped or the reader has gone; returns the number of whole frames.
///
/// # Errors
/// When reading fails.
pub fn pump_s16le(
    input: &mut impl Read,
    channels: u16,
    out: &mut PcmWriter,
    stop: &Stop,
) -> std::io::Result<u64> {
    let frame_bytes = 2 * usize::from(channels.max(1));
    let mut bytes = vec![0u8; frame_bytes * 4096];
    let mut samples = vec![0.0f32; bytes.len() / 2];
    let mut held = 0;
    let mut frames = 0;
    while !stop.is_set() {
        let got = match input.read(&mut bytes[held..]) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        held += got;
        let whole = held - held % frame_bytes;
        for (sample, pair) in samples.iter_mut().zip(bytes[..whole].chunks_exact(2)) {
            *sample = f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0;
        }
        if !out.write_blocking(&samples[..whole / 2]) {
            break;
        }
        frames += (whole / frame_bytes) as u64;
        bytes.copy_within(whole..held, 0);
        held -= whole;
    }
    Ok(frames)
}

/// The moment at which `frames` at `rate_hz` are over, counted from `start`.
pub fn due(start: Instant, frames: u64, rate_hz: u32) -> Instant {
    start + Duration::from_secs_f64(frames as f64 / f64::from(rate_hz.max(1)))
}
