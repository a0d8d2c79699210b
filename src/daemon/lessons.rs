//! Learns, forgets and loads taught sounds on a thread of its own.
//!
//! What was learned is in the store before it is listened for. Whether and when it comes in force is the
//! loop's matter.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::worker::Work;
use crate::command::{AskedState, TaughtKind};
use crate::config::TaughtConfig;
use crate::config::paths::Paths;
use crate::event::Kind;
use crate::models::ModelError;
use crate::models::registry::open_embedder;
use crate::models::taught::{
    Lesson, Store, TaughtModel, TaughtSet, TaughtSound, TeachError, teach,
};
use crate::pipeline::Windowed;

/// Nothing is kept between lessons.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// The set that a stream scores, shared with its model.
pub(super) type SharedSet = Arc<ArcSwap<TaughtSet>>;

/// What a stream was made for; with another of these it must be made anew.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fitting {
    /// Name of the embedder.
    pub name: Arc<str>,
    sha256: Arc<str>,
    window_frames: usize,
    hop_frames: usize,
    gated: bool,
}

/// What is to be done to the store before it is read.
pub(super) enum Deed {
    /// Nothing.
    Read,
    /// Learn from these files.
    Teach {
        name: String,
        kind: TaughtKind,
        files: Vec<PathBuf>,
        replace: bool,
    },
    /// Forget the sound of this name.
    Forget(String),
}

/// What is to be done.
pub(super) struct Job {
    pub deed: Deed,
    pub section: TaughtConfig,
    /// What the running streams were made for.
    pub running: Vec<Fitting>,
}

/// A taught sound and what has become of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub name: Arc<str>,
    pub kind: TaughtKind,
    pub examples: usize,
    pub state: AskedState,
    pub by: Arc<str>,
    pub detail: String,
}

/// The sounds of one embedder, ready to be listened for.
pub(super) struct StreamReady {
    pub fitting: Fitting,
    pub set: TaughtSet,
    /// A stream, where none that runs fits.
    pub stream: Option<(Windowed, SharedSet)>,
}

/// What came of it.
pub(super) struct Done {
    /// Every sound of the store, in the order of their names.
    pub known: Vec<Known>,
    pub streams: Vec<StreamReady>,
    /// What should be looked at in the examples of what was learned.
    pub warnings: Vec<String>,
    /// Entries of the store that are damaged.
    pub faults: Vec<String>,
}

/// The work.
pub(super) struct Lessons {
    store: Store,
    rooms: PathBuf,
}

impl Lessons {
    /// Work with the store and the rooms of these directories.
    pub fn new(paths: &Paths) -> Self {
        Lessons {
            store: store(paths),
            rooms: paths.data.join("room"),
        }
    }
}

/// The store of these directories.
pub(super) fn store(paths: &Paths) -> Store {
    Store::new(paths.data.join("taught"))
}

/// A sound that is being loaded.
pub(super) fn loading(sound: &TaughtSound) -> Known {
    Known {
        name: sound.name.clone(),
        kind: sound.kind,
        examples: sound.card.examples.len(),
        state: AskedState::Loading,
        by: sound.card.embedder.as_str().into(),
        detail: String::new(),
    }
}

impl Work for Lessons {
    type Job = Job;
    type Done = Done;
    type Error = TeachError;

    fn work(&mut self, job: Job) -> Result<Done, TeachError> {
        let mut warnings = Vec::new();
        match job.deed {
            Deed::Read => {}
            Deed::Teach {
                name,
                kind,
                files,
                replace,
            } => {
                let lesson = Lesson {
                    name,
                    kind,
                    target_fa_per_hour: job.section.target_fa_per_hour,
                    replace,
                };
                let enrolled = teach(&lesson, &files, &self.store, &self.rooms)?;
                warnings = enrolled.warnings.iter().map(ToString::to_string).collect();
            }
            Deed::Forget(name) => self.store.remove(&name)?,
        }
        let listing = self.store.list()?;
        let mut done = Done {
            known: listing.sounds.iter().map(loading).collect(),
            streams: Vec::new(),
            warnings,
            faults: listing.faults.into_iter().map(|fault| fault.text).collect(),
        };
        if !job.section.enabled {
            for known in &mut done.known {
                known.state = AskedState::Waiting;
                known.detail = "taught sounds are switched off in [taught]".to_owned();
            }
            return Ok(done);
        }
        let mut left = listing.sounds;
        while let Some(first) = left.first() {
            let embedder = first.card.embedder.clone();
            let (own, others) = left
                .into_iter()
                .partition(|sound| sound.card.embedder == embedder);
            left = others;
            serve(&embedder, own, &job.section, &job.running, &mut done);
        }
        Ok(done)
    }

    fn rest(&mut self) {}
}

/// Makes the stream of an embedder ready, and notes what has become of its sounds.
fn serve(
    embedder: &str,
    sounds: Vec<TaughtSound>,
    section: &TaughtConfig,
    running: &[Fitting],
    done: &mut Done,
) {
    let names: Vec<Arc<str>> = sounds.iter().map(|sound| sound.name.clone()).collect();
    let ready = prepare(embedder, sounds, section, running, &mut done.known);
    let (state, detail) = match ready {
        Ok(Some(stream)) => {
            done.streams.push(stream);
            (AskedState::Ready, String::new())
        }
        // Each was told of.
        Ok(None) => return,
        // It is not installed here, or the name is not known to this version.
        Err(ModelError::Unknown(text)) => (AskedState::Waiting, text),
        Err(error) => (AskedState::Failed, error.to_string()),
    };
    for known in &mut done.known {
        if known.state == AskedState::Loading && names.contains(&known.name) {
            known.state = state;
            known.detail.clone_from(&detail);
        }
    }
}

/// The stream of the sounds that go with the weights of an embedder; none where none does.
fn prepare(
    name: &str,
    mut sounds: Vec<TaughtSound>,
    section: &TaughtConfig,
    running: &[Fitting],
    known: &mut [Known],
) -> Result<Option<StreamReady>, ModelError> {
    let embedder = open_embedder(name)?;
    let info = embedder.info().clone();
    drop(embedder);
    sounds.retain(|sound| {
        let stale = sound.stale(&info);
        let entry = known.iter_mut().find(|known| known.name == sound.name);
        if let (Some(text), Some(entry)) = (&stale, entry) {
            entry.state = AskedState::Failed;
            entry.detail.clone_from(text);
        }
        stale.is_none()
    });
    let Some(first) = sounds.first() else {
        return Ok(None);
    };
    let fitting = Fitting {
        name: info.name.clone(),
        sha256: info.sha256.clone(),
        window_frames: first.card.window_frames,
        hop_frames: first.card.hop_frames,
        gated: section.gate,
    };
    let set = TaughtSet::new(sounds);
    let stream = match running.contains(&fitting) {
        true => None,
        false => Some(open(name, &set, &fitting)?),
    };
    Ok(Some(StreamReady {
        fitting,
        set,
        stream,
    }))
}

/// A stream that scores the sounds of a set, warm.
fn open(
    name: &str,
    set: &TaughtSet,
    fitting: &Fitting,
) -> Result<(Windowed, SharedSet), ModelError> {
    let shared: SharedSet = Arc::new(ArcSwap::from_pointee(set.clone()));
    let (name, of_model) = (name.to_owned(), shared.clone());
    let mut windowed = Windowed::load(
        Arc::new(move || {
            let embedder = open_embedder(&name)?;
            Ok(Box::new(TaughtModel::new(embedder, of_model.clone())))
        }),
        Some(fitting.window_frames),
        Some(fitting.hop_frames),
    )?;
    windowed.kind = Kind::Taught;
    windowed.gated = fitting.gated;
    Ok((windowed, shared))
}
