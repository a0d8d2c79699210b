//! The listener thread: the only one that touches sound.
//!
//! It wakes once a period of the source (60 ms), takes what the ring holds, and does everything for it in
//! the order of the samples. Between wake-ups it obeys the daemon.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::change::{Change, Roster, Standing};
use super::load::Models;
use super::recognise::{Parts, Recogniser};
use super::stats::{ModelStats, Stats};
use super::stream::WindowStream;
use super::supervise::{Limits, Pace, Sound, SourceFactory, Supervisor, Turn};
use crate::audio::resample::Resampler;
use crate::audio::{AudioError, Format};
use crate::clock::{PIPELINE_RATE_HZ, SampleIdx, WallClock};
use crate::detect::{Content, Engine};
use crate::event::Event;
use crate::features::Frontend;

/// A program whose sound is so far ahead of time is not live, and waiting for windows loses nothing.
const AHEAD: Duration = Duration::from_millis(500);
/// Sound taken from the ring at once.
const READ: Duration = Duration::from_millis(100);
/// How long dropping a pipeline waits for its threads.
const END: Duration = Duration::from_secs(2);
/// How long a pipeline that is told to stop still waits for windows in hand; what is left of [`END`] is
/// for the device.
const LAST_WINDOWS: Duration = Duration::from_millis(1200);

/// Takes what the pipeline reports; must not block for long.
pub type Reporter = Box<dyn Fn(Report) + Send>;

/// Everything a pipeline is started with.
pub struct Setup {
    /// The specification of the source, for `status`.
    pub spec: String,
    /// Opens the source.
    pub source: SourceFactory,
    /// How time passes in it.
    pub pace: Pace,
    /// The times that rule it.
    pub limits: Limits,
    /// The front end of the models.
    pub front: Box<dyn Frontend>,
    /// The models.
    pub models: Models,
    /// The rules.
    pub engine: Engine,
    /// The content state, `None` where it is switched off.
    pub content: Option<Content>,
    /// The start of the daemon, for monotonic times.
    pub origin: Instant,
    /// Whether it begins paused, with the device left alone.
    pub paused: bool,
}

/// What the pipeline tells the daemon.
#[derive(Debug)]
pub enum Report {
    /// Something was heard.
    Event(Event),
    /// Sound has stopped, and why; the source is being retried.
    Stalled {
        /// Why.
        error: AudioError,
        /// Whether the source has never been there.
        is_missing: bool,
    },
    /// Sound arrives, for the first time or again.
    Heard,
    /// A model is broken or cannot keep up, and why; `None` when all is well again.
    Fault(Option<Arc<str>>),
    /// The source is over, or has failed for good. Every event was reported; the thread has ended.
    Ended(Result<(), AudioError>),
}

enum Order {
    Pause(Sender<()>),
    Resume,
    Change(Box<Change>),
    Threshold {
        rule: String,
        threshold: f32,
        reply: Sender<Result<(), String>>,
    },
    Stop,
}

/// A running pipeline. Dropping it stops it; every open episode ends first. A listener that a model or
/// device holds up for more than two seconds is left to itself.
pub struct Pipeline {
    orders: Sender<Order>,
    stats: Arc<Stats>,
    /// The streams of windows that run, or will when the listener gets to its orders.
    roster: Mutex<Roster>,
    ended: Receiver<()>,
}

impl Pipeline {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the system gives no thread, or the engine was made for other models. A source that does not
    /// open is no error: it is reported.
    pub fn start(setup: Setup, report: Reporter) -> std::io::Result<Self> {
        let Setup {
            spec,
            source,
            pace,
            limits,
            front,
            models: Models { keyword, windows },
            engine,
            content,
            origin,
            paused,
        } = setup;
        let windows = windows
            .into_iter()
            .map(WindowStream::start)
            .collect::<std::io::Result<Vec<_>>>()?;
        let stats = Arc::new(Stats::new(
            &spec,
            keyword
                .as_ref()
                .map(|model| ModelStats::new(model.info.clone())),
            windows
                .iter()
                .map(|stream| stream.stats().clone())
                .collect(),
        ));
        let roster = Roster::new(&windows);
        roster.check(&roster.standing(), stats.keyword.as_deref(), &engine)?;
        let recogniser = Recogniser::new(Parts {
            front,
            keyword: keyword.map(|model| model.slot),
            windows,
            engine,
            content,
            stats: stats.clone(),
            clock: WallClock::new(origin),
            complete: pace == Pace::Complete,
        });
        let (orders, inbox) = unbounded();
        let listener = Listener {
            inbox,
            report,
            stats: stats.clone(),
            supervisor: Supervisor::new(source, pace, limits),
            pace,
            recogniser,
            stretch: None,
            native: Vec::new(),
            pcm: Vec::new(),
            paused: paused.then(Instant::now),
            opened_once: false,
            fault: None,
        };
        // Closed, without a message, when the thread has ended.
        let (running, ended) = bounded::<()>(0);
        std::thread::Builder::new()
            .name("hark-listener".into())
            .spawn(move || {
                let _running = running;
                listener.run();
            })?;
        Ok(Pipeline {
            orders,
            stats,
            roster: Mutex::new(roster),
            ended,
        })
    }

    /// What it counts.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Ends what is open, releases the device, and waits for both at most `limit`. Whether it was
    /// done in time.
    pub fn pause(&self, limit: Duration) -> bool {
        let (tell, done) = bounded(1);
        self.send(Order::Pause(tell));
        done.recv_timeout(limit).is_ok()
    }

    /// Listens again.
    pub fn resume(&self) {
        self.send(Order::Resume);
    }

    /// Puts other rules in force. Rules that stay the same keep what they have open; what is gone ends.
    ///
    /// # Errors
    /// When the engine was made for other models than those that run.
    pub fn set_rules(&self, engine: Engine, content: Option<Content>) -> std::io::Result<()> {
        let roster = self.roster();
        let standing = roster.standing();
        self.change(roster, standing, engine, content)
    }

    /// Puts other streams of windows in place of those that run, in the order of `windows`, and rules
    /// for them, while sound goes on: threads of new models are started here, and the listener changes
    /// over between two frames. What stays the same keeps its windows and its open episodes; what is
    /// gone ends. [`Stats`] shows the new streams as soon as this returns.
    ///
    /// # Errors
    /// When the system gives no thread, or the streams do not fit together: a name that does not run or
    /// stands twice, a derived stream of one that does not run, an engine for other models or labels.
    /// Everything stays as it was then.
    pub fn set_models(
        &self,
        windows: Vec<Standing>,
        engine: Engine,
        content: Option<Content>,
    ) -> std::io::Result<()> {
        self.change(self.roster(), windows, engine, content)
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(
        &self,
        mut roster: MutexGuard<'_, Roster>,
        windows: Vec<Standing>,
        engine: Engine,
        content: Option<Content>,
    ) -> std::io::Result<()> {
        let keyword = self.stats.keyword.as_deref();
        let (next, change) = roster.plan(windows, keyword, engine, content)?;
        self.stats.set_windows(next.stats());
        *roster = next;
        // Sent while the roster is held, so that changes arrive in its order.
        self.send(Order::Change(Box::new(change)));
        Ok(())
    }

    /// Sets the threshold of a rule; `None` where the listener did not answer within `limit`.
    pub fn set_threshold(
        &self,
        rule: &str,
        threshold: f32,
        limit: Duration,
    ) -> Option<Result<(), String>> {
        let (reply, answer) = bounded(1);
        self.send(Order::Threshold {
            rule: rule.to_owned(),
            threshold,
            reply,
        });
        answer.recv_timeout(limit).ok()
    }

    /// Asks it to end; [`Report::Ended`] follows. Windows in hand are waited for a little.
    pub fn stop(&self) {
        let limit = Instant::now() + LAST_WINDOWS;
        self.roster().ends_at(limit);
        self.send(Order::Stop);
    }

    fn send(&self, order: Order) {
        // A listener that has ended has told the daemon so.
        drop(self.orders.send(order));
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop();
        if self.ended.recv_timeout(END) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the listener has not ended within {END:?} and is left behind");
        }
    }
}

/// Sound of one rate without a change of device.
struct Stretch {
    resampler: Resampler,
    /// Pipeline index of the resampler's sample 0.
    base: SampleIdx,
    format: Format,
    opened: Instant,
}

impl Stretch {
    fn next_idx(&self) -> SampleIdx {
        self.base + self.resampler.next_idx().0
    }
}

struct Listener {
    inbox: Receiver<Order>,
    report: Reporter,
    stats: Arc<Stats>,
    supervisor: Supervisor,
    pace: Pace,
    recogniser: Recogniser,
    stretch: Option<Stretch>,
    /// Mono samples at the native rate.
    native: Vec<f32>,
    /// Mono samples at the pipeline rate.
    pcm: Vec<f32>,
    /// Since when it is paused.
    paused: Option<Instant>,
    opened_once: bool,
    /// The fault that the daemon knows of.
    fault: Option<Arc<str>>,
}

/// Whether the listener goes on.
enum Next {
    Go,
    End(Result<(), AudioError>),
}

impl Listener {
    /// Listens to the end and reports it, whatever happens.
    fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.listen())).unwrap_or_else(|_| {
            Err(AudioError::Device(
                "the listener has crashed; this is a fault in hark, please report it".into(),
            ))
        });
        let report = std::mem::replace(&mut self.report, Box::new(drop));
        // The source and the workers are gone before the daemon is told.
        if catch_unwind(AssertUnwindSafe(|| drop(self))).is_err() {
            tracing::error!("the listener has crashed while it ended");
        }
        report(Report::Ended(ended));
    }

    fn listen(&mut self) -> Result<(), AudioError> {
        if self.paused.is_none() {
            self.supervisor.open();
        }
        let ended = loop {
            self.stats.turn();
            match self.step() {
                Next::Go => {}
                Next::End(ended) => break ended,
            }
            self.tell_faults();
        };
        let Listener {
            recogniser, report, ..
        } = self;
        recogniser.finish(&mut |event| report(Report::Event(event)));
        ended
    }

    fn step(&mut self) -> Next {
        while let Ok(order) = self.inbox.try_recv() {
            if let Next::End(ended) = self.obey(order) {
                return Next::End(ended);
            }
        }
        if self.paused.is_some() {
            return self.idle(Duration::MAX);
        }
        let max = self.stretch.as_ref().map_or(1, |stretch| {
            (f64::from(stretch.format.rate_hz) * READ.as_secs_f64()) as usize
        });
        self.native.clear();
        match self.supervisor.turn(&mut self.native, max.max(1)) {
            Turn::Opened {
                name,
                format,
                again,
                outage,
            } => return self.opened(&name, format, again, outage),
            Turn::Samples(block) => {
                self.samples(block.lost_before);
                match self.supervisor.judge() {
                    Some(Sound::Heard) => self.heard(),
                    Some(Sound::Muted(error)) => self.stalled(error),
                    None => {}
                }
            }
            Turn::Stalled(error) => {
                let for_good = !self.pace.is_endless() || matches!(error, AudioError::Spec(_));
                if for_good {
                    return Next::End(Err(error));
                }
                self.interrupt(Duration::ZERO);
                self.stretch = None;
                self.stalled(error);
            }
            Turn::Idle(wait) => {
                let Listener {
                    recogniser, report, ..
                } = self;
                recogniser.poll(&mut |event| report(Report::Event(event)));
                return self.idle(wait);
            }
            Turn::Ended => {
                self.flush();
                return Next::End(Ok(()));
            }
        }
        Next::Go
    }

    /// Waits for an order, at most `wait`.
    fn idle(&mut self, wait: Duration) -> Next {
        if wait.is_zero() {
            return Next::Go;
        }
        let order = match wait {
            Duration::MAX => self
                .inbox
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            wait => self.inbox.recv_timeout(wait),
        };
        match order {
            Ok(order) => self.obey(order),
            Err(RecvTimeoutError::Timeout) => Next::Go,
            // The daemon has gone without saying so.
            Err(RecvTimeoutError::Disconnected) => Next::End(Ok(())),
        }
    }

    fn obey(&mut self, order: Order) -> Next {
        match order {
            Order::Stop => return Next::End(Ok(())),
            Order::Pause(done) => {
                if self.paused.is_none() {
                    self.paused = Some(Instant::now());
                    self.supervisor.close();
                    self.interrupt(Duration::ZERO);
                    if self.pace.is_endless() {
                        // What comes next is a stretch of its own, however long it takes to open.
                        self.stretch = None;
                    }
                    self.stats.fault("");
                }
                // Nobody may be waiting any more.
                let _ = done.send(());
            }
            Order::Resume => {
                if let Some(since) = self.paused.take() {
                    if self.pace.is_endless() {
                        self.interrupt(since.elapsed());
                    }
                    self.supervisor.open();
                }
            }
            Order::Change(change) => {
                let Listener {
                    recogniser, report, ..
                } = self;
                recogniser.change(*change, &mut |event| report(Report::Event(event)));
            }
            Order::Threshold {
                rule,
                threshold,
                reply,
            } => drop(reply.send(self.recogniser.set_threshold(&rule, threshold))),
        }
        Next::Go
    }

    fn opened(&mut self, name: &str, format: Format, again: bool, outage: Duration) -> Next {
        let resampler = match Resampler::new(format.rate_hz) {
            Ok(resampler) => resampler,
            Err(error) => return Next::End(Err(error)),
        };
        self.opened_once = true;
        self.stats
            .opened(name, format.rate_hz, format.channels, again);
        if !outage.is_zero() {
            let lost = outage.as_secs_f64() * f64::from(format.rate_hz);
            self.stats.gap(lost as u64);
            self.interrupt(outage);
        }
        self.recogniser.set_source(name);
        self.stretch = Some(Stretch {
            resampler,
            base: self.recogniser.next_idx(),
            format,
            opened: Instant::now(),
        });
        Next::Go
    }

    /// Handles what was read, and `lost` native frames before it.
    fn samples(&mut self, lost: u64) {
        let Listener {
            stretch,
            recogniser,
            report,
            native,
            pcm,
            stats,
            supervisor,
            pace,
            ..
        } = self;
        let Some(stretch) = stretch else {
            return;
        };
        let mut emit = |event| report(Report::Event(event));
        pcm.clear();
        if lost > 0 {
            stats.gap(lost);
            stretch.resampler.gap(lost, pcm);
            stats.handled(pcm.len() as u64);
            recogniser.push(pcm, &mut emit);
            recogniser.gap(stretch.next_idx(), &mut emit);
            pcm.clear();
        }
        stretch.resampler.push(native, pcm);
        stats.handled(pcm.len() as u64);
        // What still waits in the ring is the newest: without it, events found in a backlog would be
        // given the time of their discovery.
        let waiting = supervisor.backlog() as f64 / f64::from(stretch.format.rate_hz.max(1));
        let waiting = (waiting * f64::from(PIPELINE_RATE_HZ)) as u64;
        recogniser.arrived(stretch.next_idx() + waiting);
        if *pace == Pace::Program {
            let sound = stretch.next_idx().since(stretch.base);
            recogniser.set_complete(sound > stretch.opened.elapsed() + AHEAD);
        }
        recogniser.push(pcm, &mut emit);
    }

    /// Takes what the resampler still holds.
    fn flush(&mut self) {
        let Listener {
            stretch,
            recogniser,
            report,
            pcm,
            stats,
            ..
        } = self;
        if let Some(stretch) = stretch {
            pcm.clear();
            stretch.resampler.flush(pcm);
            stats.handled(pcm.len() as u64);
            recogniser.push(pcm, &mut |event| report(Report::Event(event)));
        }
    }

    /// Ends what is open and begins anew `later`: the index stays in step with the room.
    fn interrupt(&mut self, later: Duration) {
        self.flush();
        let Listener {
            recogniser,
            report,
            stretch,
            ..
        } = self;
        let next = stretch
            .as_ref()
            .map_or(recogniser.next_idx(), Stretch::next_idx);
        let later = (later.as_secs_f64() * f64::from(PIPELINE_RATE_HZ)) as u64;
        recogniser.gap(next + later, &mut |event| report(Report::Event(event)));
    }

    fn heard(&mut self) {
        self.stats.fault("");
        (self.report)(Report::Heard);
    }

    fn stalled(&mut self, error: AudioError) {
        let text = error.to_string();
        if text != self.stats.source().fault {
            tracing::warn!("{text}; trying again");
        }
        self.stats.fault(&text);
        (self.report)(Report::Stalled {
            error,
            is_missing: !self.opened_once,
        });
    }

    fn tell_faults(&mut self) {
        let fault = self.recogniser.fault();
        if fault != self.fault {
            self.fault.clone_from(&fault);
            (self.report)(Report::Fault(fault));
        }
    }
}
