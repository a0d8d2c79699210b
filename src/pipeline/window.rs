//! Windows of log-mel frames: keeping the last one, and having it scored on a thread of its own.
//!
//! The exchange between listener and worker is one window deep: a newer window replaces one that
//! still waits, and the replaced one is counted as skipped. Buffers travel round, so that handing
//! over a window allocates nothing. Deciding what scores mean is not done here.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::SampleIdx;
use crate::features::{HOP, N_MELS};
use crate::models::Classifier;

use super::slot::Slot;

/// Windows that go round: one waits, one is scored, one is filled or read.
const JOBS: usize = 3;

/// The newest frames of the stream, always contiguous.
pub struct FrameWindow {
    frames: Vec<f32>,
    len: usize,
    hop: usize,
    /// Frames since the last reset.
    seen: usize,
    end: SampleIdx,
}

impl FrameWindow {
    /// Keeps `window_frames` frames and is due every `hop_frames`, both at least 1.
    pub fn new(window_frames: usize, hop_frames: usize) -> Self {
        let len = window_frames.max(1);
        FrameWindow {
            // Twice the window and the newest frames are moved to the front once a window.
            frames: Vec::with_capacity(2 * len * N_MELS),
            len,
            hop: hop_frames.max(1),
            seen: 0,
            end: SampleIdx(0),
        }
    }

    /// Length of a window in frames.
    pub fn frames(&self) -> usize {
        self.len
    }

    /// Takes the frame that ends at `end` and says whether a window is due. Allocates nothing.
    pub fn push(&mut self, end: SampleIdx, frame: &[f32]) -> bool {
        if self.frames.len() + frame.len() > self.frames.capacity() {
            let keep = (self.len - 1) * N_MELS;
            let from = self.frames.len() - keep;
            self.frames.copy_within(from.., 0);
            self.frames.truncate(keep);
        }
        self.frames.extend_from_slice(frame);
        self.end = end;
        self.seen += 1;
        self.seen >= self.len && (self.seen - self.len).is_multiple_of(self.hop)
    }

    /// The newest window `(frames, N_MELS)`, oldest first; shorter at the start of a stream.
    pub fn newest(&self) -> &[f32] {
        let from = self.frames.len().saturating_sub(self.len * N_MELS);
        &self.frames[from..]
    }

    /// First sample of the newest window and one past its last.
    pub fn span(&self) -> (SampleIdx, SampleIdx) {
        let samples = (self.seen.min(self.len) * HOP) as u64;
        (SampleIdx(self.end.0.saturating_sub(samples)), self.end)
    }

    /// Frames that must still come before the stream's end is in a window.
    pub fn frames_to_due(&self) -> usize {
        match self.seen {
            0 => 0,
            seen if seen < self.len => self.len - seen,
            seen => match (seen - self.len) % self.hop {
                0 => 0,
                over => self.hop - over,
            },
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.frames.clear();
        self.seen = 0;
    }
}

/// A window on its way to the worker and back.
#[derive(Debug, Default)]
pub struct Job {
    /// First sample.
    pub start: SampleIdx,
    /// One past the last sample.
    pub end: SampleIdx,
    /// Level of the window, in dB relative to full scale.
    pub level_dbfs: f32,
    /// Frames `(frames, N_MELS)`, oldest first.
    pub frames: Vec<f32>,
    /// What the model gave; empty where it failed.
    pub scores: Vec<f32>,
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
}

/// The thread that scores windows, seen from the listener. Dropping it ends the thread after the
/// window in hand.
pub struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread around `model`, for windows of `window_frames` frames.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(model: Slot<dyn Classifier>, window_frames: usize) -> std::io::Result<Self> {
        let job = || Job {
            frames: Vec::with_capacity(window_frames * N_MELS),
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
        let thread = std::thread::Builder::new()
            .name("hark-windows".into())
            .spawn({
                let shared = shared.clone();
                move || work(&shared, model)
            })?;
        Ok(Worker {
            shared,
            thread: Some(thread),
        })
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

    /// The next window that is done, waiting while one waits or is scored; `None` when there is none.
    pub fn done_blocking(&self) -> Option<Job> {
        let mut exchange = self.shared.lock();
        loop {
            if !exchange.done.is_empty() {
                return Some(exchange.done.remove(0));
            }
            if (exchange.waiting.is_none() && !exchange.scoring) || self.is_dead() {
                return None;
            }
            exchange = self.shared.wait(exchange);
        }
    }

    /// Gives a buffer back.
    pub fn recycle(&self, job: Job) {
        self.shared.lock().free.push(job);
    }

    fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the window thread had ended by itself");
        }
    }
}

/// The worker's loop.
fn work(shared: &Shared, mut model: Slot<dyn Classifier>) {
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
        let Job { frames, scores, .. } = &mut job;
        job.failure = model.run(|model| model.classify(frames, scores)).err();
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

    fn info() -> ModelInfo {
        ModelInfo {
            name: "fake".into(),
            sha256: "".into(),
            task: Task::Event,
            labels: vec![Arc::from("Bell")].into(),
            input: crate::models::Input::LogMel,
            window_frames: 3,
            parameters: 0,
            licence: "Apache-2.0".into(),
        }
    }

    fn frame(value: f32) -> [f32; N_MELS] {
        [value; N_MELS]
    }

    #[test]
    fn a_window_is_due_when_it_is_full_and_then_every_hop() {
        let mut window = FrameWindow::new(4, 2);
        let due: Vec<u64> = (1..=9)
            .filter(|&n| window.push(SampleIdx(n * HOP as u64), &frame(n as f32)))
            .collect();
        assert_eq!(due, [4, 6, 8]);
        assert_eq!(window.frames_to_due(), 1);
        let newest: Vec<f32> = window.newest().iter().step_by(N_MELS).copied().collect();
        assert_eq!(newest, [6.0, 7.0, 8.0, 9.0]);
        assert_eq!(window.span(), (SampleIdx(5 * 160), SampleIdx(9 * 160)));
        window.reset();
        assert_eq!(window.frames_to_due(), 0);
        window.push(SampleIdx(20 * 160), &frame(1.0));
        assert_eq!(window.span(), (SampleIdx(19 * 160), SampleIdx(20 * 160)));
        assert_eq!(window.frames_to_due(), 3);
    }

    /// Waits for the test before it answers, and gives the first value of the window.
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

        fn classify(&mut self, frames: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
            let _ = self.entered.send(());
            match self.go.recv() {
                Ok(Verdict::Fail) => Err(ModelError::Shape("bad window".into())),
                Ok(Verdict::Panic) => panic!("out of cheese"),
                _ => {
                    scores.push(frames[0]);
                    Ok(())
                }
            }
        }
    }

    fn held() -> (Worker, Receiver<()>, Sender<Verdict>, Arc<AtomicU32>) {
        let (entered, has_entered) = unbounded();
        let (tell, go) = bounded(8);
        let made = Arc::new(AtomicU32::new(0));
        let make: Factory<dyn Classifier> = Arc::new({
            let made = made.clone();
            move || {
                made.fetch_add(1, Ordering::SeqCst);
                Ok(Box::new(Held {
                    info: info(),
                    entered: entered.clone(),
                    go: go.clone(),
                }))
            }
        });
        let worker = Worker::spawn(Slot::new(make).unwrap(), 1).unwrap();
        (worker, has_entered, tell, made)
    }

    fn submit(worker: &Worker, value: f32) -> bool {
        worker.submit(|job| {
            job.frames.clear();
            job.frames.extend_from_slice(&frame(value));
        })
    }

    #[test]
    fn the_latest_window_wins_and_the_skipped_one_is_counted() {
        let (worker, entered, go, _) = held();
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
        let (worker, _entered, go, made) = held();
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
}
