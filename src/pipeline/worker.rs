//! The thread that scores the windows of one model.
//!
//! The exchange between listener and worker is one window deep: a newer window replaces one that
//! still waits, and the replaced one is counted as skipped. Buffers travel round, so that handing
//! over a window allocates nothing. Deciding what scores mean is not done here.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::slot::Slot;
use crate::audio::resample::Resampler;
use crate::clock::{PIPELINE_RATE_HZ, SampleIdx};
use crate::models::{Classifier, Input};

/// Windows that go round: one waits, one is scored, one is filled or read.
const JOBS: usize = 3;
/// How long the end of a worker waits for the window in hand where nobody has set a limit.
const END: Duration = Duration::from_secs(1);
/// What threads of large models add to their niceness: the listener and the small models go first.
const NICER: i32 = 10;

/// A window on its way to the worker and back.
#[derive(Debug, Default)]
pub struct Job {
    /// First sample.
    pub start: SampleIdx,
    /// One past the last sample.
    pub end: SampleIdx,
    /// Level of the window, in dB relative to full scale.
    pub level_dbfs: f32,
    /// What the model is fed with, oldest first: frames `(frames, N_MELS)`, or samples at the pipeline
    /// rate.
    pub input: Vec<f32>,
    /// What the model gave; empty where it failed.
    pub scores: Vec<f32>,
    /// What it gave them for.
    pub labels: Arc<[Arc<str>]>,
    /// How long it took.
    pub took: Duration,
    /// Why there are no scores.
    pub failure: Option<Arc<str>>,
}

#[derive(Default)]
struct Exchange {
    waiting: Option<Job>,
    scoring: bool,
    done: Vec<Job>,
    free: Vec<Job>,
    closed: bool,
    /// Whether the thread has ended.
    ended: bool,
    /// When nobody waits for a window any more.
    limit: Option<Instant>,
}

struct Shared {
    exchange: Mutex<Exchange>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, Exchange>) -> MutexGuard<'a, Exchange> {
        self.changed
            .wait(guard)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change until the limit; `None` when it has passed.
    fn wait_to_limit<'a>(
        &self,
        guard: MutexGuard<'a, Exchange>,
    ) -> Option<MutexGuard<'a, Exchange>> {
        let Some(limit) = guard.limit else {
            return Some(self.wait(guard));
        };
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let (guard, _) = self
            .changed
            .wait_timeout(guard, left)
            .unwrap_or_else(PoisonError::into_inner);
        Some(guard)
    }
}

/// Sets how long a worker is waited for, from any thread.
#[derive(Clone)]
pub struct Patience(Arc<Shared>);

impl Patience {
    /// From `limit` on, or an earlier one, nobody waits for a window; whoever does now is told.
    pub fn ends_at(&self, limit: Instant) {
        self.0.lock().limit.get_or_insert(limit);
        self.0.changed.notify_all();
    }
}

/// The thread that scores windows, seen from the listener. Dropping it ends the thread after the
/// window in hand; one that takes too long is left to itself.
pub struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread around `model`, for windows of `values` values of its `input`.
    ///
    /// # Errors
    /// When the system gives no thread, or nothing leads to the model's rate.
    pub fn spawn(
        model: Slot<dyn Classifier>,
        input: Input,
        values: usize,
    ) -> std::io::Result<Self> {
        let job = || Job {
            input: Vec::with_capacity(values),
            ..Job::default()
        };
        let shared = Arc::new(Shared {
            exchange: Mutex::new(Exchange {
                done: Vec::with_capacity(JOBS),
                free: (0..JOBS).map(|_| job()).collect(),
                ..Exchange::default()
            }),
            changed: Condvar::new(),
        });
        let resampler = match input {
            Input::Samples { rate_hz } if rate_hz != PIPELINE_RATE_HZ => Some(
                Resampler::between(PIPELINE_RATE_HZ, rate_hz)
                    .map_err(|error| std::io::Error::other(error.to_string()))?,
            ),
            _ => None,
        };
        let is_large = input != Input::LogMel;
        let thread = std::thread::Builder::new()
            .name("hark-windows".into())
            .spawn({
                let ending = Ending(shared.clone());
                move || {
                    let ending = ending;
                    if is_large {
                        step_back();
                    }
                    work(&ending.0, model, resampler);
                }
            })?;
        Ok(Worker {
            shared,
            thread: Some(thread),
        })
    }

    /// What sets how long it is waited for.
    pub fn patience(&self) -> Patience {
        Patience(self.shared.clone())
    }

    /// Hands over a window that `fill` writes into a used buffer; true when an older one that still
    /// waited was skipped for it. Allocates nothing.
    pub fn submit(&self, fill: impl FnOnce(&mut Job)) -> bool {
        let mut exchange = self.shared.lock();
        let (mut job, skipped) = match (exchange.free.pop(), exchange.waiting.take()) {
            (Some(job), None) => (job, false),
            (free, Some(older)) => {
                exchange.free.extend(free);
                (older, true)
            }
            // Scores that nobody has taken yet give way like a window that waits.
            (None, None) => (exchange.done.swap_remove(0), true),
        };
        job.scores.clear();
        job.failure = None;
        fill(&mut job);
        exchange.waiting = Some(job);
        drop(exchange);
        self.shared.changed.notify_all();
        skipped
    }

    /// A window that is done, oldest first, without waiting; give it back with [`Worker::recycle`].
    pub fn done(&self) -> Option<Job> {
        let mut exchange = self.shared.lock();
        (!exchange.done.is_empty()).then(|| exchange.done.remove(0))
    }

    /// The next window that is done, waiting while one waits or is scored and patience lasts; `None`
    /// when there is none.
    pub fn done_blocking(&self) -> Option<Job> {
        let mut exchange = self.shared.lock();
        loop {
            if !exchange.done.is_empty() {
                return Some(exchange.done.remove(0));
            }
            if (exchange.waiting.is_none() && !exchange.scoring) || exchange.ended {
                return None;
            }
            exchange = self.shared.wait_to_limit(exchange)?;
        }
    }

    /// Whether no window waits, is scored, or is done and not taken yet.
    pub fn is_idle(&self) -> bool {
        let exchange = self.shared.lock();
        exchange.waiting.is_none() && !exchange.scoring && exchange.done.is_empty()
    }

    /// Gives a buffer back.
    pub fn recycle(&self, job: Job) {
        self.shared.lock().free.push(job);
    }

    /// Tells the thread to end after the window in hand, so that several end beside each other.
    pub fn close(&self) {
        let mut exchange = self.shared.lock();
        exchange.closed = true;
        exchange.limit.get_or_insert_with(|| Instant::now() + END);
        drop(exchange);
        self.shared.changed.notify_all();
    }

    /// Lets the thread end by itself after the window in hand; nobody waits for it.
    pub fn retire(mut self) {
        self.close();
        drop(self.thread.take());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.close();
        let mut exchange = self.shared.lock();
        while !exchange.ended {
            match self.shared.wait_to_limit(exchange) {
                Some(guard) => exchange = guard,
                None => {
                    tracing::warn!("a model is in the middle of a window and is left behind");
                    return;
                }
            }
        }
        drop(exchange);
        if thread.join().is_err() {
            tracing::error!("the window thread had ended by itself");
        }
    }
}

/// Says that the thread has ended, however it does.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

/// Lets other threads go before this one. On Linux niceness belongs to the thread.
fn step_back() {
    let own = rustix::process::getpriority_process(None).unwrap_or(0);
    if let Err(error) = rustix::process::setpriority_process(None, own + NICER) {
        tracing::debug!("a window thread keeps its priority: {error}");
    }
}

/// Lets other threads go before those that large models share. Without effect where something has
/// used them before.
pub(super) fn pool_steps_back() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|n| format!("hark-pool-{n}"))
            .start_handler(|_| step_back());
        if let Err(error) = pool.build_global() {
            tracing::debug!("the threads of large models keep their priority: {error}");
        }
    });
}

/// The worker's loop.
fn work(shared: &Shared, mut model: Slot<dyn Classifier>, mut resampler: Option<Resampler>) {
    let mut resampled = Vec::new();
    loop {
        let mut job = {
            let mut exchange = shared.lock();
            loop {
                if exchange.closed {
                    return;
                }
                if let Some(job) = exchange.waiting.take() {
                    exchange.scoring = true;
                    break job;
                }
                exchange = shared.wait(exchange);
            }
        };
        let begun = Instant::now();
        let Job {
            input,
            scores,
            labels,
            ..
        } = &mut job;
        let window = match &mut resampler {
            Some(resampler) => {
                resampled.clear();
                resampler.push(input, &mut resampled);
                resampler.flush(&mut resampled);
                &resampled
            }
            None => &*input,
        };
        let scored = model.run(|model| {
            model.classify(window, scores)?;
            *labels = model.labels();
            Ok(())
        });
        job.failure = scored.err();
        if job.failure.is_some() {
            job.scores.clear();
        }
        job.took = begun.elapsed();
        let mut exchange = shared.lock();
        exchange.scoring = false;
        exchange.done.push(job);
        drop(exchange);
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

    use super::*;
    use crate::models::{ModelError, ModelInfo, Task};
    use crate::pipeline::slot::Factory;

    fn info(input: Input) -> ModelInfo {
        ModelInfo {
            name: "fake".into(),
            sha256: "".into(),
            task: Task::Event,
            labels: vec![Arc::from("Bell")].into(),
            input,
            window_frames: 3,
            parameters: 0,
            licence: "Apache-2.0".into(),
        }
    }

    /// Waits for the test before it answers, and gives the first value and the length of the window.
    struct Held {
        info: ModelInfo,
        entered: Sender<()>,
        go: Receiver<Verdict>,
    }

    enum Verdict {
        Score,
        Fail,
        Panic,
    }

    impl Classifier for Held {
        fn info(&self) -> &ModelInfo {
            &self.info
        }

        fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
            let _ = self.entered.send(());
            match self.go.recv() {
                Ok(Verdict::Fail) => Err(ModelError::Shape("bad window".into())),
                Ok(Verdict::Panic) => panic!("out of cheese"),
                _ => {
                    scores.extend([window[0], window.len() as f32]);
                    Ok(())
                }
            }
        }
    }

    fn held(input: Input) -> (Worker, Receiver<()>, Sender<Verdict>, Arc<AtomicU32>) {
        let (entered, has_entered) = unbounded();
        let (tell, go) = bounded(8);
        let made = Arc::new(AtomicU32::new(0));
        let make: Factory<dyn Classifier> = Arc::new({
            let made = made.clone();
            move || {
                made.fetch_add(1, Ordering::SeqCst);
                Ok(Box::new(Held {
                    info: info(input),
                    entered: entered.clone(),
                    go: go.clone(),
                }))
            }
        });
        let worker = Worker::spawn(Slot::new(make).unwrap(), input, 160).unwrap();
        (worker, has_entered, tell, made)
    }

    fn submit(worker: &Worker, value: f32) -> bool {
        worker.submit(|job| {
            job.input.clear();
            job.input.extend_from_slice(&[value; 160]);
        })
    }

    #[test]
    fn the_latest_window_wins_and_the_skipped_one_is_counted() {
        let (worker, entered, go, _) = held(Input::LogMel);
        assert!(!submit(&worker, 1.0));
        entered.recv().unwrap();
        assert!(!submit(&worker, 2.0), "one may wait");
        assert!(submit(&worker, 3.0), "the one that waited is skipped");
        assert!(submit(&worker, 4.0));
        go.send(Verdict::Score).unwrap();
        go.send(Verdict::Score).unwrap();
        let mut got = Vec::new();
        while let Some(job) = worker.done_blocking() {
            got.push(job.scores[0]);
            worker.recycle(job);
        }
        assert_eq!(got, [1.0, 4.0]);
        assert!(worker.done().is_none());
    }

    #[test]
    fn a_model_that_fails_or_panics_is_made_anew() {
        let (worker, _entered, go, made) = held(Input::LogMel);
        for (verdict, said) in [
            (Verdict::Fail, "bad window"),
            (Verdict::Panic, "out of cheese"),
        ] {
            // After a failure windows are refused for a moment, then the model is made anew.
            go.send(verdict).unwrap();
            let before = made.load(Ordering::SeqCst);
            submit(&worker, 1.0);
            let job = worker.done_blocking().unwrap();
            let mut failure = job.failure.clone().unwrap();
            worker.recycle(job);
            assert!(failure.contains(said), "{failure}");
            go.send(Verdict::Score).unwrap();
            while !failure.is_empty() {
                submit(&worker, 5.0);
                let job = worker.done_blocking().unwrap();
                failure = job.failure.clone().unwrap_or_default();
                worker.recycle(job);
            }
            assert_eq!(made.load(Ordering::SeqCst), before + 1);
        }
    }

    #[test]
    fn samples_come_at_the_rate_of_the_model() {
        for (rate_hz, expected) in [(16_000, 160.0), (32_000, 320.0), (8_000, 80.0)] {
            let (worker, _entered, go, _) = held(Input::Samples { rate_hz });
            // Every window is by itself: nothing of the one before is in it.
            for value in [1.0, 0.0] {
                go.send(Verdict::Score).unwrap();
                submit(&worker, value);
                let job = worker.done_blocking().unwrap();
                assert_eq!(job.scores[1], expected);
                assert!((job.scores[0] - value).abs() < 0.6, "{:?}", job.scores);
                assert!(value > 0.0 || job.scores[0] == 0.0, "{:?}", job.scores);
                worker.recycle(job);
            }
        }
    }

    #[test]
    fn a_window_that_lasts_is_not_waited_for_beyond_the_limit() {
        let (worker, entered, go, _) = held(Input::LogMel);
        submit(&worker, 1.0);
        entered.recv().unwrap();
        let patience = worker.patience();
        let (told, has_told) = bounded(0);
        let waiting = std::thread::spawn(move || {
            told.send(()).unwrap();
            let none = worker.done_blocking().is_none();
            drop(worker);
            none
        });
        has_told.recv().unwrap();
        patience.ends_at(Instant::now());
        assert!(waiting.join().unwrap(), "the window is still in hand");
        drop(go);
    }
}
