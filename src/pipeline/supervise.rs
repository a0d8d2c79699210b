//! Keeps a source going: opens it, notices when it fails or falls silent, and opens it again.
//!
//! Opening and dropping a device can hang (an ALSA stream whose server died does), so both happen
//! on throw-away threads and never on the listener's. What the samples mean is not known here.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::audio::ring::{Block, PcmReader, pcm_ring};
use crate::audio::silence::DigitalSilence;
use crate::audio::{AudioError, Format, Health, PERIOD, Running, Source};

/// Opens the source, at the start and again after an outage.
pub type SourceFactory = Arc<dyn Fn() -> Result<Box<dyn Source>, AudioError> + Send + Sync>;

/// How time passes in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A device: sound that is not taken in time is lost, and a failed source is opened again.
    Live,
    /// A program that waits for its reader: it is started again when it ends. It may be live, or
    /// make sound faster than time passes, and then nothing need be skipped.
    Program,
    /// A file that is played at its own speed: windows may be skipped, and its end is the end.
    Paced,
    /// A file or pipe that waits for its reader: nothing may be skipped, and its end is the end.
    Complete,
}

impl Pace {
    /// Whether the source is opened again when it fails or ends.
    pub fn is_endless(self) -> bool {
        matches!(self, Pace::Live | Pace::Program)
    }
}

/// The times that rule a source. The defaults are those of a running daemon.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without samples for this long, a live source is stalled and opened again.
    pub no_samples: Duration,
    /// So much longer may the first sample after opening take: a program has to connect first.
    pub head_start: Duration,
    /// After this long of nothing but zeros, a live source is taken for muted.
    pub digital_silence: Duration,
    /// Wait before the first new attempt; doubled after each.
    pub first_retry: Duration,
    /// Longest wait between attempts: a device that is back must be heard within 3 s.
    pub last_retry: Duration,
    /// An attempt to open that takes longer is abandoned.
    pub open: Duration,
    /// Sound for this long makes the next wait the first one again.
    pub settled: Duration,
    /// Sound that the ring holds while the listener is busy.
    pub ring: Duration,
    /// Sound that is gathered for one wake-up of the listener.
    pub gather: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            no_samples: Duration::from_secs(2),
            head_start: Duration::ZERO,
            digital_silence: Duration::from_secs(10),
            first_retry: Duration::from_millis(200),
            last_retry: Duration::from_secs(2),
            open: Duration::from_secs(5),
            settled: Duration::from_secs(5),
            ring: Duration::from_secs(4),
            gather: PERIOD,
        }
    }
}

/// What came of one turn of the source.
#[derive(Debug)]
pub enum Turn {
    /// The source is open; samples may follow. `again` where it had been open before, and
    /// `outage` is the time without sound since then.
    Opened {
        /// Stable name of the device or file.
        name: String,
        /// The native form.
        format: Format,
        /// Whether it had been open before.
        again: bool,
        /// Time between the last sample and now; zero at first.
        outage: Duration,
    },
    /// Samples were appended.
    Samples(Block),
    /// Sound has stopped, and why; the source is being retried.
    Stalled(AudioError),
    /// Nothing to read for at most this long.
    Idle(Duration),
    /// A file or pipe is over, and every sample of it was read.
    Ended,
}

/// A change of what arrives from a source that is open.
#[derive(Debug)]
pub enum Sound {
    /// Sound arrives, for the first time or again.
    Heard,
    /// Samples arrive, and for long all of them were zero.
    Muted(AudioError),
}

/// A started source with its end of the ring.
struct Open {
    running: Box<dyn Running>,
    reader: PcmReader,
    format: Format,
    /// When it was opened or last gave samples.
    last: Instant,
    opened: Instant,
    heard: bool,
    silence: DigitalSilence,
    /// How it has ended, once it has.
    fate: Option<Health>,
}

impl Open {
    fn ask(&mut self) {
        self.fate = match self.running.health() {
            Health::Running => None,
            fate => Some(fate),
        };
    }
}

type Attempt = Result<(Box<dyn Running>, PcmReader, Format, String), AudioError>;

enum State {
    /// Deliberately closed.
    Closed,
    Opening {
        since: Instant,
        result: Receiver<Attempt>,
        alive: Weak<()>,
    },
    Waiting {
        until: Instant,
    },
    Open(Box<Open>),
    Ended,
}

/// The source and its state. All waiting is bounded, so its owner stays responsive.
pub struct Supervisor {
    make: SourceFactory,
    pace: Pace,
    limits: Limits,
    state: State,
    /// When sound was last heard, for the length of an outage.
    last_sound: Option<Instant>,
    /// Outage before a pause that began in it.
    outage: Duration,
    opened_before: bool,
    retry: Duration,
    told: Told,
    /// Attempts to open that never came back; no new one is made while there are many.
    hung: Vec<Weak<()>>,
}

/// What the owner was told of the sound last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Stalled,
    Sound,
}

/// Attempts that may hang at the same time.
const MAX_HUNG: usize = 3;
/// How long a stopped source may take before it is left to its own thread.
const STOP_WAIT: Duration = Duration::from_millis(300);

impl Supervisor {
    /// A closed source.
    pub fn new(make: SourceFactory, pace: Pace, limits: Limits) -> Self {
        Supervisor {
            make,
            pace,
            limits,
            state: State::Closed,
            last_sound: None,
            outage: Duration::ZERO,
            opened_before: false,
            retry: limits.first_retry,
            told: Told::Nothing,
            hung: Vec::new(),
        }
    }

    /// Starts to open the source; a source that merely waits for its reader goes on where it was.
    pub fn open(&mut self) {
        if matches!(self.state, State::Closed) {
            if !self.outage.is_zero() {
                self.last_sound = Some(Instant::now());
            }
            self.attempt();
        }
    }

    /// Releases the device. A file or pipe is kept and simply not read.
    pub fn close(&mut self) {
        if self.pace.is_endless() {
            self.told = Told::Nothing;
            // What is not listened to is not lost, but an outage so far is.
            let last = self.last_sound.take();
            if !matches!(self.state, State::Open(_)) {
                self.outage += last.map_or(Duration::ZERO, |last| last.elapsed());
            }
            self.retry = self.limits.first_retry;
            self.stop();
            self.state = State::Closed;
        }
    }

    /// One turn: at most a few times `limits.gather` of waiting.
    /// Appends at most `max` mono samples at the native rate to `out`.
    pub fn turn(&mut self, out: &mut Vec<f32>, max: usize) -> Turn {
        match &mut self.state {
            State::Closed => Turn::Idle(self.limits.last_retry),
            State::Ended => Turn::Ended,
            State::Waiting { until } => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    self.attempt();
                    return Turn::Idle(Duration::ZERO);
                }
                Turn::Idle(left)
            }
            State::Opening {
                since,
                result,
                alive,
            } => match result.recv_timeout(self.limits.gather) {
                Ok(attempt) => self.opened(attempt),
                Err(RecvTimeoutError::Disconnected) => self.fail(AudioError::Device(
                    "opening the source has crashed; this is a fault in hark, please report it"
                        .into(),
                )),
                Err(_) if since.elapsed() < self.limits.open => Turn::Idle(Duration::ZERO),
                Err(_) => {
                    self.hung.push(alive.clone());
                    self.fail(AudioError::Device(format!(
                        "the source did not open within {:?}",
                        self.limits.open
                    )))
                }
            },
            State::Open(_) => self.read(out, max),
        }
    }

    fn attempt(&mut self) {
        self.hung.retain(|alive| alive.strong_count() > 0);
        if self.hung.len() >= MAX_HUNG {
            self.wait_for_retry();
            return;
        }
        // Without a buffer, an attempt that nobody waits for any more is dropped over there.
        let (tell, result) = bounded(0);
        let token = Arc::new(());
        let alive = Arc::downgrade(&token);
        let make = self.make.clone();
        let ring = self.limits.ring.as_secs_f64();
        let opening = move || {
            let attempt = make().and_then(|source| {
                let (format, name) = (source.format(), source.name().to_owned());
                let (writer, reader) = pcm_ring(format, ring);
                let running = source.start(writer)?;
                Ok((running, reader, format, name))
            });
            drop(tell.send(attempt));
            drop(token);
        };
        self.state = match thread::Builder::new()
            .name("hark-open".into())
            .spawn(opening)
        {
            Ok(_) => State::Opening {
                since: Instant::now(),
                result,
                alive,
            },
            Err(error) => {
                tracing::warn!("cannot start a thread to open the source: {error}");
                State::Waiting {
                    until: Instant::now() + self.limits.last_retry,
                }
            }
        };
    }

    fn opened(&mut self, attempt: Attempt) -> Turn {
        match attempt {
            Ok((running, reader, format, name)) => {
                let now = Instant::now();
                let again = std::mem::replace(&mut self.opened_before, true);
                let outage = std::mem::take(&mut self.outage)
                    + self.last_sound.map_or(Duration::ZERO, |last| now - last);
                // Counted up to here: a source that opens without a sound begins another one.
                self.last_sound = self.last_sound.map(|_| now);
                self.state = State::Open(Box::new(Open {
                    running,
                    reader,
                    format,
                    last: now,
                    opened: now,
                    heard: false,
                    silence: DigitalSilence::default(),
                    fate: None,
                }));
                Turn::Opened {
                    name,
                    format,
                    again,
                    outage,
                }
            }
            Err(error) => self.fail(error),
        }
    }

    fn read(&mut self, out: &mut Vec<f32>, max: usize) -> Turn {
        let State::Open(open) = &mut self.state else {
            return Turn::Idle(Duration::ZERO);
        };
        let gather = (f64::from(open.format.rate_hz) * self.limits.gather.as_secs_f64()) as usize;
        // Longer than a period, so that one that is late does not cost a wake-up for nothing.
        let patience = self.limits.gather * 4;
        open.reader.wait(gather.clamp(1, max), patience);
        // Asked before reading, so that what was written before the end is read before it is told;
        // and kept, for it may be told only once.
        if open.fate.is_none() {
            open.ask();
        }
        let from = out.len();
        let block = open.reader.read(out, max);
        let now = Instant::now();
        if block.samples > 0 || block.lost_before > 0 {
            open.last = now;
            open.heard = true;
            self.last_sound = Some(now);
            open.silence.push(&out[from..]);
            if now - open.opened > self.limits.settled {
                self.retry = self.limits.first_retry;
            }
            return Turn::Samples(block);
        }
        let no_samples = match open.heard {
            true => self.limits.no_samples,
            false => self.limits.no_samples + self.limits.head_start,
        };
        // A writer that has gone since the question knows better now.
        if open.fate.is_none() && open.reader.is_finished() {
            open.ask();
        }
        match open.fate.take().unwrap_or(Health::Running) {
            Health::Ended if !self.pace.is_endless() => {
                self.stop();
                self.state = State::Ended;
                Turn::Ended
            }
            Health::Ended => self.fail(AudioError::Device("the source has ended".into())),
            Health::Failed(error) => self.fail(error),
            Health::Running if open.reader.is_finished() && self.pace.is_endless() => {
                self.fail(AudioError::Device("the source has stopped writing".into()))
            }
            Health::Running if self.pace.is_endless() && now - open.last > no_samples => {
                let limit = no_samples;
                self.fail(AudioError::Device(format!("no samples for {limit:?}")))
            }
            Health::Running => Turn::Idle(Duration::ZERO),
        }
    }

    /// Samples at the native rate that have arrived and were not read yet; zero where the source waits
    /// for its reader.
    pub fn backlog(&self) -> usize {
        match &self.state {
            State::Open(open) if self.pace == Pace::Live => open.reader.available(),
            _ => 0,
        }
    }

    /// To be asked after samples: whether the state of the sound has changed with them. Digital
    /// silence stalls the source without closing it, for the device may be unmuted at any moment.
    pub fn judge(&mut self) -> Option<Sound> {
        let State::Open(open) = &self.state else {
            return None;
        };
        let limit = self.limits.digital_silence;
        let is_muted = self.pace.is_endless()
            && open.silence.seconds(open.format.rate_hz) >= limit.as_secs_f64();
        match self.told {
            Told::Nothing | Told::Stalled if open.heard && !is_muted => {
                self.told = Told::Sound;
                Some(Sound::Heard)
            }
            Told::Nothing | Told::Sound if is_muted => {
                self.told = Told::Stalled;
                Some(Sound::Muted(AudioError::Device(format!(
                    "nothing but digital silence for {limit:?}; is the device muted?"
                ))))
            }
            _ => None,
        }
    }

    fn fail(&mut self, error: AudioError) -> Turn {
        self.stop();
        self.wait_for_retry();
        self.told = Told::Stalled;
        if self.opened_before {
            self.last_sound.get_or_insert_with(Instant::now);
        }
        Turn::Stalled(error)
    }

    fn wait_for_retry(&mut self) {
        self.state = State::Waiting {
            until: Instant::now() + self.retry,
        };
        self.retry = (self.retry * 2).min(self.limits.last_retry);
    }

    /// Drops what is open on a thread of its own, and waits a moment for it.
    fn stop(&mut self) {
        let State::Open(open) = std::mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        let (tell, stopped) = bounded::<()>(0);
        let dropping = move || {
            drop(open);
            drop(tell);
        };
        match thread::Builder::new()
            .name("hark-close".into())
            .spawn(dropping)
        {
            // The channel is closed when the source is gone.
            Ok(_) => drop(stopped.recv_timeout(STOP_WAIT)),
            Err(error) => tracing::warn!("the source was closed in place: {error}"),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}
