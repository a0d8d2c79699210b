//! The taught sounds that the daemon listens for: what the store holds, a stream an embedder.
//!
//! Changes are made one at a time: done to the store and made ready by `lessons` on its thread, put in
//! force by the loop.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::Reply;
use super::lessons::{self, Deed, Done, Fitting, IDLE, Job, Known, Lessons, SharedSet};
use super::worker::Worker;
use crate::command::{AskedState, TaughtStatus};
use crate::config::paths::Paths;
use crate::config::{KnownModel, Loaded};
use crate::event::Kind;
use crate::models::taught::TeachError;
use crate::pipeline::{Standing, Windowed};

/// The threshold where no rule gives one: that of the scores of taught sounds.
const THRESHOLD: f32 = 0.5;

/// What is asked of the taught sounds.
pub(super) struct Change {
    pub deed: Deed,
    /// Who asks; none where nobody did.
    pub reply: Option<Reply>,
}

/// A change that is being made.
pub(super) struct UnderWay {
    /// The sound that is taught by it.
    pub learns: Option<String>,
    pub reply: Option<Reply>,
    is_read: bool,
}

/// The stream of an embedder.
struct Stream {
    fitting: Fitting,
    set: SharedSet,
    labels: Arc<[Arc<str>]>,
    /// Until it is handed to the pipeline.
    fresh: Option<Windowed>,
}

/// The taught sounds.
pub(super) struct Taught {
    worker: Worker<Lessons>,
    known: Vec<Known>,
    streams: Vec<Stream>,
    waiting: VecDeque<Change>,
    under_way: Option<UnderWay>,
    /// What is wrong with the store.
    pub warning: Option<Arc<str>>,
}

impl Taught {
    /// What the store holds, none of it ready.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(paths: &Paths) -> std::io::Result<Self> {
        let mut taught = Taught {
            worker: Worker::start("hark-taught", Lessons::new(paths), IDLE)?,
            known: Vec::new(),
            streams: Vec::new(),
            waiting: VecDeque::new(),
            under_way: None,
            warning: None,
        };
        match lessons::store(paths).list() {
            Ok(listing) => {
                taught.known = listing.sounds.iter().map(lessons::loading).collect();
                taught.warn(listing.faults.into_iter().map(|fault| fault.text).collect());
            }
            Err(error) => taught.warn(vec![error.to_string()]),
        }
        Ok(taught)
    }

    /// Damage must not keep a daemon from starting; it is told until something is changed.
    fn warn(&mut self, faults: Vec<String>) {
        if faults.is_empty() {
            return;
        }
        let text = format!("taught sounds are lost: {}", faults.join("; "));
        tracing::error!("{text}");
        self.warning = Some(text.into());
    }

    /// Where results of the thread come out.
    pub fn done(&self) -> &Receiver<Result<Done, TeachError>> {
        self.worker.done()
    }

    /// Whether there is nothing to listen for.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a change is under way or waits.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some() || !self.waiting.is_empty()
    }

    /// Takes a change, and begins with it when its turn comes.
    pub fn ask(&mut self, change: Change, loaded: &Loaded) {
        self.waiting.push_back(change);
        self.next(loaded);
    }

    /// Begins with the next change where none is under way.
    pub fn next(&mut self, loaded: &Loaded) {
        if self.under_way.is_some() {
            return;
        }
        let Some(Change { deed, reply }) = self.waiting.pop_front() else {
            return;
        };
        self.under_way = Some(UnderWay {
            learns: match &deed {
                Deed::Teach { name, .. } => Some(name.clone()),
                _ => None,
            },
            is_read: matches!(deed, Deed::Read),
            reply,
        });
        self.worker.give(Job {
            deed,
            section: loaded.config.taught.clone(),
            running: self.streams.iter().map(|s| s.fitting.clone()).collect(),
        });
    }

    /// The change that is made now, or has failed.
    pub fn changed(&mut self) -> Option<UnderWay> {
        self.under_way.take()
    }

    /// Takes over what came of a change; [`Taught::standing`] has its streams then.
    pub fn accept(&mut self, change: &UnderWay, done: Done) {
        self.known = done.known;
        if !change.is_read {
            self.warning = None;
        }
        self.warn(done.faults);
        let mut old = std::mem::take(&mut self.streams);
        for ready in done.streams {
            let labels = ready.set.labels();
            let running = old.iter().position(|s| s.fitting == ready.fitting);
            let (set, fresh) = match (ready.stream, running) {
                (Some((windowed, set)), _) => (set, Some(windowed)),
                (None, Some(at)) => {
                    let stream = old.swap_remove(at);
                    stream.set.store(Arc::new(ready.set));
                    (stream.set, stream.fresh)
                }
                // It was lost meanwhile, and is made ready again.
                (None, None) => continue,
            };
            self.streams.push(Stream {
                fitting: ready.fitting,
                set,
                labels,
                fresh,
            });
        }
    }

    /// The pipeline is another: no stream runs, and each sound is made ready again.
    pub fn lose_streams(&mut self) {
        self.streams.clear();
        for known in &mut self.known {
            known.state = AskedState::Loading;
            known.detail.clear();
        }
    }

    /// The streams of the taught sounds as the pipeline and the rules see them.
    pub fn standing(&mut self) -> Vec<(Standing, KnownModel)> {
        let standing = self.streams.iter_mut().map(|stream| {
            let name = stream.fitting.name.clone();
            let known = KnownModel {
                kind: Kind::Taught,
                name: name.clone(),
                labels: stream.labels.clone(),
                // Their scores are made for the threshold of the rule.
                thresholds: Arc::default(),
            };
            let standing = match stream.fresh.take() {
                Some(windowed) => Standing::New(windowed),
                None => Standing::Keep {
                    name,
                    kind: Kind::Taught,
                    labels: Some(stream.labels.clone()),
                },
            };
            (standing, known)
        });
        standing.collect()
    }

    /// For `status`; `rule` is the threshold of the rule over every taught sound.
    pub fn status(&self, rule: Option<f32>) -> Arc<[TaughtStatus]> {
        let status = self.known.iter().map(|known| TaughtStatus {
            name: known.name.clone(),
            kind: known.kind,
            examples: known.examples,
            threshold: rule.unwrap_or(THRESHOLD),
            state: known.state,
            by: known.by.clone(),
            detail: known.detail.clone(),
        });
        status.collect()
    }
}
