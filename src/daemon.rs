//! The daemon: one closed enum of messages, one loop.
//!
//! Only this loop changes what the daemon does. It owns the pipeline and the outputs, answers
//! requests, follows signals, keeps the history, and tells systemd how it is. It never waits for
//! sound, and no output can make it wait.

mod alive;
mod asked;
mod assembly;
mod lessons;
mod lines;
mod loading;
mod obey;
mod phrases;
mod prompts;
mod reload;
mod rules;
pub mod signals;
mod state;
mod taught;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select, unbounded};
use tokio::sync::oneshot;

use crate::audio::AudioError;
use crate::clock::{SampleIdx, WallClock};
use crate::command::{Answer, Notice, PromptStatus, Refusal, Request, State, TaughtStatus};
use crate::config::paths::Paths;
use crate::config::{ConfigError, Loaded};
use crate::detect::RuleError;
use crate::event::{Event, Phase};
use crate::models::ModelError;
use crate::models::taught::TeachError;
use crate::outputs::{BusError, Outputs, spawn_all};
use crate::pipeline::{Limits, Models, Pace, Pipeline, Report, Reporter};
use alive::Alive;
pub use assembly::Makers;
use assembly::pace_of;
pub use assembly::spec_of;
use lessons::Done;
use lines::Lines;
use loading::Meanwhile;
use phrases::Ready;
use prompts::Prompts;
use reload::Reloading;
use rules::Rules;
use signals::Signal;
use taught::Taught;

/// Events that `history` remembers.
const HISTORY: usize = 1000;
/// Distance between live pictures.
const LIVE: Duration = Duration::from_millis(100);
/// Best labels of each model in a live picture.
const LIVE_LABELS: usize = 5;
/// The loop wakes at least this often.
const TICK: Duration = Duration::from_secs(1);
/// How long the listener may take to obey.
const OBEY: Duration = Duration::from_secs(2);
/// How long the listener may take to end before what is left is given up. This, twice [`SEND`] and the
/// wait for the pipeline's threads stay below `TimeoutStopSec` of the service (15 s).
const END: Duration = Duration::from_secs(5);
/// How long the lines, and then the outputs, may take to send the last events.
const SEND: Duration = Duration::from_secs(3);
/// How long a file waits for the outputs to be ready for its events.
const OUTPUTS_READY: Duration = Duration::from_secs(2);

/// Where an answer goes.
type Reply = oneshot::Sender<Result<Answer, Refusal>>;

/// Reads the configuration, at the start and on reload.
pub type Loader = Box<dyn Fn() -> Result<Loaded, ConfigError> + Send>;

/// What a daemon is started with.
pub struct Options {
    /// Reads the configuration.
    pub load: Loader,
    /// Where models, sources and front end come from.
    pub makers: Makers,
    /// The times that rule the source.
    pub limits: Limits,
    /// Files are played at their own speed.
    pub realtime: bool,
    /// A source that is missing at the start is waited for; otherwise it is an error.
    pub wait_for_source: bool,
    /// Where every event record goes as a line, beside the outputs.
    pub lines: Option<Box<dyn Write + Send>>,
    /// Signals as they come.
    pub signals: Receiver<Signal>,
    /// Where what was asked for, what was taught and what is cached lies.
    pub paths: Paths,
}

/// Why a daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration does not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A rule of the configuration does not fit the models.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The source is missing or has failed for good.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// A model cannot be made.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The socket cannot be served.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}; raise the limit on processes")]
    Thread(#[from] std::io::Error),
    /// The event records cannot be written.
    #[error("cannot write events to standard output: {0}")]
    Lines(std::io::Error),
}

/// Everything that can happen to a daemon.
enum Message {
    /// An output asks.
    Request(Request),
    /// The pipeline of this number reports.
    Report(u64, Report),
    /// The system or the user wants something.
    Signal(Signal),
    /// Prompts are ready, or cannot be.
    Prompts(Result<Ready, ModelError>),
    /// A change of the taught sounds is made, or has failed.
    Taught(Result<Done, TeachError>),
    /// The models of a reload are loaded, or cannot be.
    Models(Result<Models, DaemonError>),
    /// Nobody reads the lines any more, or they cannot be written.
    LinesClosed(Option<std::io::Error>),
    /// Time has passed.
    Tick,
}

/// Runs a daemon until its source is over or it is told to end.
///
/// # Errors
/// What keeps it from starting, and a source that has failed for good.
pub fn run(options: Options) -> Result<(), DaemonError> {
    match Daemon::start(options)? {
        Some(daemon) => daemon.serve(),
        None => Ok(()),
    }
}

struct Daemon {
    load: Loader,
    makers: Makers,
    limits: Limits,
    realtime: bool,
    wait_for_source: bool,
    loaded: Loaded,
    pipeline: Pipeline,
    /// Number of the pipeline; an older one only ends its events.
    generation: u64,
    outputs: Outputs,
    requests: Receiver<Request>,
    /// What was asked before there were models.
    early: VecDeque<Request>,
    reports: Receiver<(u64, Report)>,
    reporter: Sender<(u64, Report)>,
    signals: Receiver<Signal>,
    lines: Option<Lines>,
    started: Instant,
    rules: Rules,
    prompts: Prompts,
    /// What the outputs know of them.
    told_prompts: Arc<[PromptStatus]>,
    taught: Taught,
    /// What the outputs know of them.
    told_taught: Arc<[TaughtStatus]>,
    /// Whether sound that does not wait is held back until all that is asked for is ready.
    held: bool,
    history: VecDeque<Arc<Event>>,
    events: u64,
    /// What has started and not ended, with the number of its pipeline.
    open: Vec<(u64, Arc<Event>)>,
    /// Paused by command, and until when.
    pause: Option<Option<Instant>>,
    inhibitors: BTreeMap<u64, (String, String)>,
    next_inhibitor: u64,
    /// The reload whose models are being loaded.
    reloading: Option<Reloading>,
    /// Whether another one follows it.
    reload_again: bool,
    /// What was done about `pause` and `inhibitors`.
    is_paused: bool,
    /// Why no sound arrives.
    stalled: Option<Arc<str>>,
    /// What is wrong with the models.
    fault: Option<Arc<str>>,
    heard: bool,
    told: (State, Arc<str>),
    alive: Alive,
    next_live: Instant,
    /// When ending is given up, once it has begun.
    ending: Option<Instant>,
    result: Result<(), DaemonError>,
}

impl Daemon {
    /// `None` when it is told to end while models are loaded.
    fn start(options: Options) -> Result<Option<Self>, DaemonError> {
        let started = Instant::now();
        let Options {
            load,
            makers,
            limits,
            realtime,
            wait_for_source,
            lines,
            signals,
            paths,
        } = options;
        let loaded = load()?;
        let spec = spec_of(&loaded)?;
        assembly::check_prompt_model(&loaded)?;
        let pace = pace_of(&spec, realtime);
        let (asked, requests) = unbounded();
        let mut outputs = spawn_all(Arc::new(loaded.config.clone()), asked)?;
        let prompts = Prompts::start(&paths, &loaded)?;
        let told_prompts = prompts.status(None);
        outputs.publish(Notice::Prompts(told_prompts.clone()));
        let taught = Taught::start(&paths)?;
        let told_taught = taught.status(None);
        outputs.publish(Notice::Taught(told_taught.clone()));
        let mut meanwhile = Meanwhile::default();
        let models = loading::wait(
            &loading::begin(&makers, &loaded)?,
            &requests,
            &signals,
            || loading::status(&loaded, started, &told_prompts, &told_taught),
            &mut meanwhile,
        )?;
        let Some(models) = models else {
            outputs.shutdown(SEND);
            return Ok(None);
        };
        let (engine, content, rules) = rules::compile(&loaded, &models.known())?;
        let lines = lines
            .map(|to| Lines::start(to, pace == Pace::Complete))
            .transpose()?;
        if !pace.is_endless() {
            outputs.wait_tried(OUTPUTS_READY);
        }
        let (reporter, reports) = unbounded();
        let mut setup = makers.setup(&spec, realtime, limits, models, (engine, content), started);
        // A file would be over before they are ready.
        let held = !pace.is_endless() && !(prompts.is_empty() && taught.is_empty());
        setup.paused = held;
        let pipeline = Pipeline::start(setup, report_as(0, reporter.clone()))?;
        let mut alive = Alive::new(started);
        alive.follow(pipeline.stats());
        alive.ready();
        Ok(Some(Daemon {
            load,
            makers,
            limits,
            realtime,
            wait_for_source,
            loaded,
            pipeline,
            generation: 0,
            outputs,
            requests,
            early: meanwhile.requests,
            reports,
            reporter,
            signals,
            lines,
            started,
            rules,
            prompts,
            told_prompts,
            taught,
            told_taught,
            held,
            history: VecDeque::with_capacity(HISTORY),
            events: 0,
            open: Vec::new(),
            pause: None,
            inhibitors: BTreeMap::new(),
            next_inhibitor: 1,
            reloading: None,
            reload_again: meanwhile.reload,
            is_paused: held,
            stalled: None,
            fault: None,
            heard: false,
            told: (State::Loading, "".into()),
            alive,
            next_live: started,
            ending: None,
            result: Ok(()),
        }))
    }

    fn serve(mut self) -> Result<(), DaemonError> {
        self.refresh_prompts(None);
        if !self.taught.is_empty() {
            self.refresh_taught();
        }
        if std::mem::take(&mut self.reload_again) {
            self.reload(None);
        }
        loop {
            match self.next() {
                Message::Request(Request { command, reply }) => self.obey(command, reply),
                Message::Report(generation, Report::Ended(ended)) => {
                    self.close(generation);
                    if generation == self.generation {
                        if let Err(error) = ended
                            && self.result.is_ok()
                        {
                            self.result = Err(error.into());
                        }
                        break;
                    }
                }
                Message::Report(generation, report) => self.follow(generation, report),
                Message::Signal(Signal::Reload) => self.reload_by_signal(),
                Message::Signal(Signal::End) => self.end(),
                Message::Prompts(ready) => self.finish_prompts(ready),
                Message::Taught(done) => self.finish_taught(done),
                Message::Models(models) => self.finish_reload(models),
                Message::LinesClosed(error) => {
                    self.lines = None;
                    if let Some(error) = error
                        && self.result.is_ok()
                    {
                        self.result = Err(DaemonError::Lines(error));
                    }
                    self.end();
                }
                Message::Tick => {}
            }
            self.keep_time();
            if self.ending.is_some_and(|limit| Instant::now() >= limit) {
                tracing::warn!("the listener did not end within {END:?}");
                self.close(self.generation);
                break;
            }
        }
        self.finish()
    }

    /// Waits for the next message, or until something is due.
    fn next(&mut self) -> Message {
        if let Some(request) = self.early.pop_front() {
            return Message::Request(request);
        }
        let now = Instant::now();
        let pause = self.pause.flatten();
        let live = self.outputs.is_live_wanted().then_some(self.next_live);
        let due = [Some(now + TICK), pause, self.ending, live];
        let wait = due
            .into_iter()
            .flatten()
            .min()
            .map_or(TICK, |due| due.saturating_duration_since(now));
        let none = never();
        let closed = self.lines.as_ref().map_or(&none, Lines::closed);
        let none = never();
        let models = self
            .reloading
            .as_ref()
            .map_or(&none, |reload| &reload.models);
        select! {
            recv(self.requests) -> got => got.map_or(Message::Tick, Message::Request),
            recv(self.reports) -> got => {
                got.map_or(Message::Tick, |(generation, report)| Message::Report(generation, report))
            }
            recv(self.signals) -> got => got.map_or(Message::Tick, Message::Signal),
            recv(self.prompts.done()) -> ready => ready.map_or(Message::Tick, Message::Prompts),
            recv(self.taught.done()) -> done => done.map_or(Message::Tick, Message::Taught),
            recv(models) -> loaded => Message::Models(loaded.unwrap_or_else(|_| Err(loading::broken()))),
            recv(closed) -> failed => Message::LinesClosed(failed.ok()),
            default(wait) => Message::Tick,
        }
    }

    /// Everything that hangs on time and state rather than on a message.
    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.pause.flatten().is_some_and(|until| now >= until) {
            self.pause = None;
        }
        self.held &= self.prompts.is_busy() || self.taught.is_busy();
        self.look_for_models(now);
        self.apply_pause();
        self.tell_state();
        if now >= self.next_live && self.outputs.is_live_wanted() {
            self.next_live = now + LIVE;
            self.outputs.publish(Notice::Live(self.live()));
        }
        self.alive.feed(self.told.0, self.pipeline.stats());
    }

    fn follow(&mut self, generation: u64, report: Report) {
        match report {
            Report::Event(event) => self.heard(generation, event),
            // A pipeline that was replaced has nothing else to say.
            _ if generation != self.generation => {}
            Report::Stalled { error, is_missing } => {
                // Whoever has listened already waits for a device that a reload names.
                let at_start = is_missing && generation == 0;
                if at_start && !self.wait_for_source && self.ending.is_none() {
                    self.result = Err(error.into());
                    self.end();
                } else {
                    self.stalled = Some(error.to_string().into());
                }
            }
            Report::Heard => {
                self.heard = true;
                self.stalled = None;
            }
            Report::Fault(fault) => self.fault = fault,
            Report::Ended(_) => {}
        }
    }

    fn heard(&mut self, generation: u64, event: Event) {
        if event.phase != Phase::End {
            self.events += 1;
            self.rules.count(&event);
        }
        tracing::info!(
            target: "harkd::heard",
            kind = event.kind.as_str(),
            phase = event.phase.as_str(),
            label = &*event.label,
            score = f64::from(event.score),
            "heard"
        );
        let event = Arc::new(event);
        match event.phase {
            Phase::Start => self.open.push((generation, event.clone())),
            Phase::End => self.open.retain(|(_, open)| open.id != event.id),
            Phase::Instant => {}
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(event.clone());
        if let Some(lines) = &mut self.lines {
            lines.write(event.clone());
        }
        self.outputs.publish(Notice::Event(event));
    }

    /// Ends what a listener has left open, as one that has crashed or hangs does.
    fn close(&mut self, generation: u64) {
        let left: Vec<Arc<Event>> = self
            .open
            .iter()
            .filter(|(of, _)| *of == generation)
            .map(|(_, event)| event.clone())
            .collect();
        // A clock whose first sample is now.
        let clock = WallClock::new(self.started);
        let (time, mono_us) = (clock.wall_time(SampleIdx(0)), clock.mono_us(SampleIdx(0)));
        for event in left {
            let lasted = time.duration_since(event.time).unwrap_or_default();
            let end = Event {
                phase: Phase::End,
                time,
                mono_us,
                end: Some(event.start + SampleIdx::from_secs_f64(lasted.as_secs_f64()).0),
                ..(*event).clone()
            };
            self.heard(generation, end);
        }
    }

    /// Begins to end: the pipeline closes every open episode and says when it is done.
    fn end(&mut self) {
        if self.ending.is_none() {
            self.alive.stopping();
            self.ending = Some(Instant::now() + END);
            self.pipeline.stop();
        }
    }

    /// Everything was heard: lets the outputs send it, and ends.
    fn finish(self) -> Result<(), DaemonError> {
        let Daemon {
            pipeline,
            outputs,
            lines,
            signals,
            alive,
            ending,
            mut result,
            ..
        } = self;
        alive.stopping();
        if let Some(lines) = lines {
            // A file's lines are all written, however slowly they are read; unless told to end.
            let limit = ending.map_or(Duration::MAX, |_| SEND);
            if let Err(error) = lines.finish(&signals, limit)
                && result.is_ok()
            {
                result = Err(DaemonError::Lines(error));
            }
        }
        outputs.shutdown(SEND);
        drop(pipeline);
        result
    }
}

fn report_as(generation: u64, to: Sender<(u64, Report)>) -> Reporter {
    // A daemon that has gone needs no reports.
    Box::new(move |report| drop(to.send((generation, report))))
}
