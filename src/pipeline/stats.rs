//! What the pipeline counts about itself, readable from any thread at any time.
//!
//! Everything here is an atomic that one thread writes and others read, so that the daemon can
//! answer `status` without asking (or waiting for) the listener. The list of models is exchanged as a
//! whole when models come and go; the listener holds on to the entries that it writes. Nothing here
//! decides anything.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::PIPELINE_RATE_HZ;
use crate::command::{Live, ModelStatus, SourceStatus, TopScore};
use crate::config::KnownModel;
use crate::event::{Kind, LabelScore};
use crate::features::HOP;
use crate::models::{ModelInfo, Task};

/// Buckets of a histogram to each doubling of time; eight keep a quantile within 5 %.
const PER_OCTAVE: usize = 8;
/// Doublings from 1 ns up to about 137 s.
const OCTAVES: usize = 37;

/// Step times in logarithmic buckets. Recording is real-time safe: one atomic addition.
pub struct Histogram {
    buckets: Box<[AtomicU32]>,
    count: AtomicU64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Histogram {
            buckets: (0..PER_OCTAVE * OCTAVES)
                .map(|_| AtomicU32::new(0))
                .collect(),
            count: AtomicU64::new(0),
        }
    }

    /// Counts one step.
    pub fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let octave = ns.ilog2() as usize;
        // The bits below the leading one say where within the octave the time lies.
        let below = u128::from(ns - (1 << octave));
        let within = ((below * PER_OCTAVE as u128) >> octave) as usize;
        let bucket = (octave * PER_OCTAVE + within).min(self.buckets.len() - 1);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    /// How many steps were counted.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// The time that the share `q` (`0.0..=1.0`) of the steps does not exceed, in microseconds;
    /// 0 before the first step. Allocates nothing.
    pub fn quantile_us(&self, q: f64) -> f32 {
        let counts = || {
            self.buckets
                .iter()
                .map(|bucket| u64::from(bucket.load(Relaxed)))
        };
        let total: u64 = counts().sum();
        if total == 0 {
            return 0.0;
        }
        let wanted = ((q * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (bucket, count) in counts().enumerate() {
            seen += count;
            if seen >= wanted {
                let octave = (1_u64 << (bucket / PER_OCTAVE)) as f64;
                let middle = ((bucket % PER_OCTAVE) as f64 + 0.5) / PER_OCTAVE as f64;
                return (octave * (1.0 + middle) / 1e3) as f32;
            }
        }
        0.0
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

/// A number that is a float but must be atomic.
struct AtomicF32(AtomicU32);

impl AtomicF32 {
    fn new(value: f32) -> Self {
        AtomicF32(AtomicU32::new(value.to_bits()))
    }

    fn set(&self, value: f32) {
        self.0.store(value.to_bits(), Relaxed);
    }

    fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Relaxed))
    }
}

/// What is counted of the windows of one model, whatever its labels are.
#[derive(Default)]
struct Counts {
    skipped: AtomicU64,
    gated: AtomicU64,
    is_aside: AtomicBool,
}

/// One model as it is seen from outside: its times and its newest scores.
pub struct ModelStats {
    info: ModelInfo,
    kind: Kind,
    thresholds: Arc<[Option<f32>]>,
    /// Times of its steps or windows.
    pub times: Arc<Histogram>,
    /// Length and distance of its windows in seconds; `None` where it is stepped on every frame.
    windows_s: Option<(f64, f64)>,
    counts: Arc<Counts>,
    scores: Box<[AtomicF32]>,
}

impl ModelStats {
    /// A keyword model, stepped on every frame, that has heard nothing yet.
    pub fn new(info: ModelInfo) -> Self {
        ModelStats {
            kind: Kind::Keyword,
            thresholds: Arc::default(),
            times: Arc::default(),
            windows_s: None,
            counts: Arc::default(),
            scores: info.labels.iter().map(|_| AtomicF32::new(0.0)).collect(),
            info,
        }
    }

    /// The same for an event model on windows of `window_frames` frames every `hop_frames`.
    pub fn windowed(info: ModelInfo, window_frames: usize, hop_frames: usize) -> Self {
        let seconds = |frames: usize| (frames * HOP) as f64 / f64::from(PIPELINE_RATE_HZ);
        ModelStats {
            kind: Kind::Event,
            windows_s: Some((seconds(window_frames), seconds(hop_frames))),
            ..ModelStats::new(info)
        }
    }

    /// The same for a model whose labels are of another kind to rules, with their own thresholds.
    pub fn serving(self, kind: Kind, thresholds: Arc<[Option<f32>]>) -> Self {
        ModelStats {
            kind,
            thresholds,
            ..self
        }
    }

    /// The same model with other labels: it goes on counting in the same place, and labels that stay
    /// show what they showed.
    pub fn with_labels(&self, labels: Arc<[Arc<str>]>, thresholds: Arc<[Option<f32>]>) -> Self {
        let shown = |label: &Arc<str>| {
            let at = self.info.labels.iter().position(|known| known == label);
            AtomicF32::new(at.map_or(0.0, |at| self.scores[at].get()))
        };
        ModelStats {
            kind: self.kind,
            thresholds,
            times: self.times.clone(),
            windows_s: self.windows_s,
            counts: self.counts.clone(),
            scores: labels.iter().map(shown).collect(),
            info: ModelInfo {
                labels,
                ..self.info.clone()
            },
        }
    }

    /// A stream whose scores follow from those of this model: `known` says what it is to rules, `sha256`
    /// the weights that its events name.
    pub(super) fn derived(&self, known: &KnownModel, sha256: Arc<str>) -> Self {
        let info = ModelInfo {
            name: known.name.clone(),
            sha256,
            labels: known.labels.clone(),
            task: match known.kind {
                Kind::Prompt => Task::Prompt,
                _ => self.info.task,
            },
            parameters: 0,
            ..self.info.clone()
        };
        ModelStats {
            windows_s: self.windows_s,
            ..ModelStats::new(info).serving(known.kind, known.thresholds.clone())
        }
    }

    /// Length and distance of its windows in seconds; `None` where it is stepped on every frame.
    pub fn windows_s(&self) -> Option<(f64, f64)> {
        self.windows_s
    }

    /// What its labels are to rules.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Says whether its windows are left out for another model.
    pub fn set_aside(&self, is_aside: bool) {
        self.counts.is_aside.store(is_aside, Relaxed);
    }

    /// What the model is; its labels are those in force.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The model as rules see it.
    pub fn known(&self) -> KnownModel {
        KnownModel {
            kind: self.kind,
            name: self.info.name.clone(),
            labels: self.info.labels.clone(),
            thresholds: self.thresholds.clone(),
        }
    }

    /// Shows `scores`; what was shown before fades by `keep` (0 replaces it), so that a peak
    /// between two looks is still seen. Real-time safe.
    pub fn show(&self, scores: &[f32], keep: f32) {
        for (shown, score) in self.scores.iter().zip(scores) {
            shown.set(score.max(shown.get() * keep));
        }
    }

    /// Shows that nothing was heard. Real-time safe.
    pub fn show_nothing(&self) {
        for shown in &self.scores {
            shown.set(0.0);
        }
    }

    /// Counts a window that gave way to a newer one.
    pub fn skip(&self) {
        self.counts.skipped.fetch_add(1, Relaxed);
    }

    /// Windows that gave way to newer ones.
    pub fn skipped(&self) -> u64 {
        self.counts.skipped.load(Relaxed)
    }

    /// Counts a window that was not scored because nothing in it stood out.
    pub fn gate(&self) {
        self.counts.gated.fetch_add(1, Relaxed);
    }

    /// Windows that were not scored because nothing in them stood out.
    pub fn gated(&self) -> u64 {
        self.counts.gated.load(Relaxed)
    }

    /// The `n` best labels, best first.
    pub fn top(&self, n: usize) -> Vec<LabelScore> {
        let scores: Vec<f32> = self.scores.iter().map(AtomicF32::get).collect();
        best(&self.info.labels, &scores, n)
    }

    /// The model as `status` shows it.
    pub fn status(&self) -> ModelStatus {
        ModelStatus {
            name: self.info.name.clone(),
            sha256: self.info.sha256.clone(),
            task: self.info.task.as_str(),
            labels: self.info.labels.len(),
            steps: self.times.count(),
            skipped: self.skipped(),
            gated: self.gated(),
            is_aside: self.counts.is_aside.load(Relaxed),
            windows_s: self.windows_s,
            p50_us: self.times.quantile_us(0.5),
            p99_us: self.times.quantile_us(0.99),
        }
    }
}

/// The `n` best of `scores` with their labels, best first; equal scores stay in label order.
pub fn best(labels: &[Arc<str>], scores: &[f32], n: usize) -> Vec<LabelScore> {
    let mut order: Vec<usize> = (0..labels.len().min(scores.len())).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
        .into_iter()
        .take(n)
        .map(|at| LabelScore {
            label: labels[at].clone(),
            score: scores[at],
        })
        .collect()
}

/// Everything the pipeline of one source counts.
pub struct Stats {
    /// Times of a 10 ms frame through level, features and keyword step.
    pub frames: Histogram,
    /// The keyword model, where it runs.
    pub keyword: Option<Arc<ModelStats>>,
    windows: ArcSwap<Vec<Arc<ModelStats>>>,
    samples: AtomicU64,
    lost: AtomicU64,
    gaps: AtomicU64,
    reopened: AtomicU64,
    turns: AtomicU64,
    level_dbfs: AtomicF32,
    noise_floor_dbfs: AtomicF32,
    content: Mutex<Arc<str>>,
    source: Mutex<SourceStatus>,
}

impl Stats {
    /// Nothing heard yet. The models on windows stand in the order of their streams.
    pub fn new(spec: &str, keyword: Option<ModelStats>, windows: Vec<Arc<ModelStats>>) -> Self {
        Stats {
            frames: Histogram::new(),
            keyword: keyword.map(Arc::new),
            windows: ArcSwap::from_pointee(windows),
            samples: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            level_dbfs: AtomicF32::new(f32::NEG_INFINITY),
            noise_floor_dbfs: AtomicF32::new(f32::NEG_INFINITY),
            content: Mutex::new("".into()),
            source: Mutex::new(SourceStatus {
                spec: spec.to_owned(),
                ..SourceStatus::default()
            }),
        }
    }

    /// Counts samples at the pipeline rate that were handled.
    pub fn handled(&self, samples: u64) {
        self.samples.fetch_add(samples, Relaxed);
    }

    /// Samples at the pipeline rate that were handled.
    pub fn samples(&self) -> u64 {
        self.samples.load(Relaxed)
    }

    /// Counts an interruption in which `lost` samples at the native rate are known (or estimated
    /// from the length of an outage) to be lost.
    pub fn gap(&self, lost: u64) {
        self.gaps.fetch_add(1, Relaxed);
        self.lost.fetch_add(lost, Relaxed);
    }

    /// Samples at the native rate that are known to be lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Goes on counting where `old` stood: the source of a pipeline that this one has replaced.
    pub fn carry_on(&self, old: &Stats) {
        for (count, old) in [
            (&self.samples, &old.samples),
            (&self.lost, &old.lost),
            (&self.gaps, &old.gaps),
            (&self.reopened, &old.reopened),
        ] {
            count.fetch_add(old.load(Relaxed), Relaxed);
        }
    }

    /// Counts a turn of the listener's loop: the sign that it is alive.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Relaxed);
    }

    /// Turns of the listener's loop.
    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    /// Says that the source is open; `again` where it had been open before.
    pub fn opened(&self, name: &str, rate_hz: u32, channels: u16, again: bool) {
        if again {
            self.reopened.fetch_add(1, Relaxed);
        }
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone_into(&mut source.name);
        source.rate_hz = rate_hz;
        source.channels = channels;
    }

    /// Says why no sound arrives; empty when it does.
    pub fn fault(&self, text: &str) {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone_into(&mut source.fault);
    }

    /// Shows the levels, in dB relative to full scale. Real-time safe.
    pub fn levels(&self, level_dbfs: f32, noise_floor_dbfs: f32) {
        self.level_dbfs.set(level_dbfs);
        self.noise_floor_dbfs.set(noise_floor_dbfs);
    }

    /// Shows the content state.
    pub fn content(&self, state: Arc<str>) {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The source as `status` shows it.
    pub fn source(&self) -> SourceStatus {
        SourceStatus {
            samples: self.samples(),
            lost_samples: self.lost(),
            gaps: self.gaps.load(Relaxed),
            reopened: self.reopened.load(Relaxed),
            ..self
                .source
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        }
    }

    /// The models on windows that run now, in the order of their streams.
    pub fn windows(&self) -> Arc<Vec<Arc<ModelStats>>> {
        self.windows.load_full()
    }

    /// Puts others in their place.
    pub(super) fn set_windows(&self, windows: Vec<Arc<ModelStats>>) {
        self.windows.store(Arc::new(windows));
    }

    /// Every model that runs now, in the order of the streams of observations: the keyword model
    /// first.
    pub fn streams(&self) -> Vec<Arc<ModelStats>> {
        let windows = self.windows();
        self.keyword.iter().chain(windows.iter()).cloned().collect()
    }

    /// The models as rules see them, in the same order.
    pub fn known(&self) -> Vec<KnownModel> {
        self.streams().iter().map(|model| model.known()).collect()
    }

    /// How many windows were scored, or left out because nothing in them stood out; `None` where no
    /// model has labels to score windows for. The sign that inference goes on.
    pub fn windows_judged(&self) -> Option<u64> {
        let windows = self.windows();
        let is_asked = |model: &Arc<ModelStats>| !model.info.labels.is_empty();
        windows.iter().any(is_asked).then(|| {
            let judged = |model: &Arc<ModelStats>| model.times.count() + model.gated();
            windows.iter().map(judged).sum()
        })
    }

    /// The models as `status` shows them.
    pub fn models(&self) -> Vec<ModelStatus> {
        self.streams().iter().map(|model| model.status()).collect()
    }

    /// The live picture with the `n` best labels of each model.
    pub fn live(&self, n: usize) -> Live {
        Live {
            level_dbfs: self.level_dbfs.get(),
            noise_floor_dbfs: self.noise_floor_dbfs.get(),
            top: self
                .streams()
                .iter()
                .flat_map(|model| {
                    model.top(n).into_iter().map(|score| TopScore {
                        kind: model.kind,
                        model: model.info.name.clone(),
                        score,
                    })
                })
                .collect(),
            content: self
                .content
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

/// Resident memory of this process in bytes, 0 where `/proc` does not say.
pub fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Processor time that this process has used so far, zero where there is no `/proc`.
///
/// The scheduler's own count is in nanoseconds but forgets threads that have ended; the clock ticks
/// of `/proc/self/stat` (10 ms each) remember them. The greater of the two is the better one.
pub fn cpu_time() -> Duration {
    let ran = |task: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    let running: u64 = std::fs::read_dir("/proc/self/task")
        .map(|tasks| tasks.filter_map(ran).sum())
        .unwrap_or(0);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses and may hold blanks; utime and stime
    // are the 12th and 13th after it.
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(running).max(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let histogram = Histogram::new();
        assert_eq!(histogram.quantile_us(0.5), 0.0);
        for us in 1..=1000 {
            histogram.record(Duration::from_micros(us));
        }
        for (q, expected) in [(0.5, 500.0), (0.99, 990.0), (0.0, 1.0), (1.0, 1000.0)] {
            let got = histogram.quantile_us(q);
            assert!(
                (got / expected - 1.0).abs() < 0.13,
                "quantile {q}: expected about {expected}, got {got}"
            );
        }
        assert_eq!(histogram.count(), 1000);
    }

    #[test]
    fn the_extremes_have_a_bucket() {
        let histogram = Histogram::new();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::from_secs(1_000_000));
        assert_eq!(histogram.count(), 2);
        assert!(histogram.quantile_us(1.0) > 1e8);
    }

    #[test]
    fn the_best_come_first_and_ties_keep_their_order() {
        let labels: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        let names = |scores: &[f32]| -> String {
            best(&labels, scores, 2)
                .iter()
                .map(|score| &*score.label)
                .collect()
        };
        assert_eq!(names(&[0.1, 0.9, 0.1]), "ba");
        assert_eq!(names(&[0.1, 0.2, 0.9]), "cb");
    }

    #[test]
    fn a_model_goes_on_counting_under_other_labels() {
        let labels = |names: &[&str]| -> Arc<[Arc<str>]> {
            names.iter().map(|name| Arc::from(*name)).collect()
        };
        let info = ModelInfo {
            name: "clap".into(),
            sha256: "".into(),
            task: Task::Prompt,
            labels: labels(&["a", "b"]),
            input: crate::models::Input::LogMel,
            window_frames: 1000,
            parameters: 0,
            licence: "Apache-2.0".into(),
        };
        let before = ModelStats::windowed(info, 1000, 200).serving(Kind::Prompt, Arc::default());
        before.show(&[0.2, 0.7], 0.0);
        before.times.record(Duration::from_millis(1));
        let after = before.with_labels(labels(&["b", "c"]), [None, Some(0.4)].into());
        after.skip();
        after.gate();
        assert_eq!((after.times.count(), before.skipped()), (1, 1));
        let shown = after.top(2);
        assert_eq!((&*shown[0].label, shown[0].score), ("b", 0.7));
        assert_eq!((&*shown[1].label, shown[1].score), ("c", 0.0));
        assert_eq!(after.known().thresholds[1], Some(0.4));
        let status = after.status();
        assert_eq!((status.labels, status.gated), (2, 1));
        assert_eq!(status.windows_s, Some((10.0, 2.0)));

        let stats = Stats::new("mic", None, vec![Arc::new(after)]);
        assert_eq!(stats.windows_judged(), Some(2), "one scored, one left out");
        stats.set_windows(vec![Arc::new(before.with_labels([].into(), [].into()))]);
        assert_eq!(stats.windows_judged(), None, "nothing is asked");
    }

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(rss_bytes() > 1 << 20);
        let mut busy = 0_u64;
        while cpu_time().is_zero() && busy < 1 << 32 {
            busy += 1;
        }
        assert!(cpu_time() > Duration::ZERO);
    }
}
