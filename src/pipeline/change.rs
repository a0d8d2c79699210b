//! Other streams of windows and other rules while sound goes on: what is asked for, held against what
//! runs, and everything that the listener needs for it.
//!
//! All of this happens on the caller's thread: models are warm when they come here, their threads and
//! buffers are made here, and the listener only puts them in place.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::load::Windowed;
use super::shed::Shedding;
use super::stats::ModelStats;
use super::stream::{DerivedStream, WindowStream};
use super::streams::{Place, Stream};
use super::window::History;
use super::worker::Patience;
use crate::config::KnownModel;
use crate::detect::{Content, Engine};
use crate::event::Kind;

/// One stream of windows as it is to be from now on.
pub enum Standing {
    /// One that runs goes on.
    Keep {
        /// Its name.
        name: Arc<str>,
        /// What its labels are to rules: one model may serve several kinds, a stream each.
        kind: Kind,
        /// The labels that its model gives scores for from now on; `None` where they stay.
        labels: Option<Arc<[Arc<str>]>>,
    },
    /// A model that is warm; it takes the place of one of the same name and kind.
    New(Windowed),
    /// Scores that follow from those of another stream; it takes the place of one of the same name and
    /// kind.
    Derived(Derived),
}

/// A stream without a model: each of its scores is the highest of some labels of another stream,
/// observed whenever that one is.
#[derive(Debug, Clone)]
pub struct Derived {
    /// Its name in `status` and events.
    pub name: Arc<str>,
    /// SHA-256 that its events carry: of the weights that the scores come from.
    pub sha256: Arc<str>,
    /// What its labels are to rules.
    pub kind: Kind,
    /// The name of the stream that it follows, a model of sound events.
    pub of: Arc<str>,
    /// Its labels.
    pub labels: Arc<[Arc<str>]>,
    /// By label, the places among the labels of that stream whose highest score it has.
    pub from: Vec<Vec<usize>>,
}

/// A change that the listener has only to carry out.
pub struct Change {
    pub(super) places: Vec<Place>,
    /// With room for the longest window.
    pub(super) pcm: History,
    pub(super) shed: Shedding,
    pub(super) engine: Engine,
    pub(super) content: Option<Content>,
}

/// One stream as the callers know it.
#[derive(Clone)]
struct Member {
    stats: Arc<ModelStats>,
    how: How,
}

#[derive(Clone)]
enum How {
    Scored {
        patience: Patience,
        /// Samples that it needs of the shared history.
        history: usize,
    },
    Derived {
        spec: Arc<Derived>,
    },
}

/// The streams of windows that run, in their order.
pub(super) struct Roster(Vec<Member>);

impl Roster {
    pub fn new(windows: &[WindowStream]) -> Self {
        Roster(windows.iter().map(Member::scored).collect())
    }

    /// What is counted of each.
    pub fn stats(&self) -> Vec<Arc<ModelStats>> {
        self.0.iter().map(|member| member.stats.clone()).collect()
    }

    /// All of them as they are.
    pub fn standing(&self) -> Vec<Standing> {
        let keep = |member: &Member| Standing::Keep {
            name: member.name().clone(),
            kind: member.stats.kind(),
            labels: None,
        };
        self.0.iter().map(keep).collect()
    }

    /// From `limit` on, nobody waits for a window of any of them.
    pub fn ends_at(&self, limit: Instant) {
        for member in &self.0 {
            if let How::Scored { patience, .. } = &member.how {
                patience.ends_at(limit);
            }
        }
    }

    /// What takes the place of these streams, and how the listener gets there.
    ///
    /// # Errors
    /// When they do not fit together, or the system gives no thread.
    pub fn plan(
        &self,
        windows: Vec<Standing>,
        keyword: Option<&ModelStats>,
        engine: Engine,
        content: Option<Content>,
    ) -> io::Result<(Roster, Change)> {
        // Before any thread is started, for what is refused must leave nothing behind.
        let known = self.check(&windows, keyword, &engine)?;
        let position = |name: &Arc<str>| known.iter().position(|model| is_followed(model, name));

        let mut members: Vec<Option<Member>> = Vec::with_capacity(windows.len());
        let mut places = Vec::with_capacity(windows.len());
        let mut derived = Vec::new();
        for (at, (standing, known)) in windows.into_iter().zip(known).enumerate() {
            let from = self.position(&known.name, known.kind);
            let kept = from.and_then(|from| Some((from, self.0.get(from)?)));
            let (member, place) = match (standing, kept) {
                (Standing::New(model), _) => {
                    let mut stream = WindowStream::start(model)?;
                    stream.set_labels(stats_for(stream.stats(), known));
                    let member = Member::scored(&stream);
                    (Some(member), Some(Place::Begun(Stream::Scored(stream))))
                }
                (Standing::Keep { .. }, Some((from, kept))) => match &kept.how {
                    How::Scored { .. } => {
                        let stats = stats_for(&kept.stats, known);
                        let is_same = Arc::ptr_eq(&stats, &kept.stats);
                        let place = Place::Kept(from, (!is_same).then(|| stats.clone()));
                        let how = kept.how.clone();
                        (Some(Member { stats, how }), Some(place))
                    }
                    How::Derived { spec } => {
                        derived.push((at, spec.clone()));
                        (None, None)
                    }
                },
                (Standing::Derived(spec), _) => {
                    derived.push((at, Arc::new(spec)));
                    (None, None)
                }
                (Standing::Keep { name, .. }, None) => return Err(not_running(&name)),
            };
            members.push(member);
            places.push(place);
        }
        // These last, for they follow streams that may stand behind them.
        for (at, spec) in derived {
            let known = &known[at];
            let of = position(&spec.of).and_then(|of| Some((of, members[of].as_ref()?)));
            let Some((of, followed)) = of else {
                return Err(not_running(&spec.of));
            };
            let before = self.position(&spec.name, spec.kind);
            let stats = match before.map(|from| &self.0[from]) {
                Some(Member {
                    stats,
                    how: How::Derived { .. },
                }) if stats.info().sha256 == spec.sha256 => stats_for(stats, known),
                _ => Arc::new(followed.stats.derived(known, spec.sha256.clone())),
            };
            let stream = DerivedStream::new(of, spec.from.clone(), stats.clone());
            places[at] = Some(Place::Derived(before, stream));
            let how = How::Derived { spec };
            members[at] = Some(Member { stats, how });
        }
        let roster = Roster(members.into_iter().flatten().collect());
        let history = roster.0.iter().map(Member::history).max().unwrap_or(0);
        let change = Change {
            pcm: History::new(history),
            shed: Shedding::new(roster.0.len()),
            places: places.into_iter().flatten().collect(),
            engine,
            content,
        };
        Ok((roster, change))
    }

    fn position(&self, name: &Arc<str>, kind: Kind) -> Option<usize> {
        let is_it = |member: &Member| member.name() == name && member.stats.kind() == kind;
        self.0.iter().position(is_it)
    }

    /// Holds streams against those that run and against the engine that is to judge them; gives the
    /// models on windows as the engine knows them.
    ///
    /// # Errors
    /// When they do not fit together; the text says which.
    pub fn check<'a>(
        &self,
        windows: &[Standing],
        keyword: Option<&ModelStats>,
        engine: &'a Engine,
    ) -> io::Result<&'a [KnownModel]> {
        let known = engine.models();
        let keywords = usize::from(keyword.is_some());
        if known.len() != windows.len() + keywords {
            let (wanted, got) = (windows.len() + keywords, known.len());
            return Err(unfit(format!(
                "the rules are made for {got} models, and {wanted} are to run"
            )));
        }
        let (words, known) = known.split_at(keywords);
        if let (Some(keyword), [words]) = (keyword, words) {
            let keyword = keyword.known();
            check_model(words, &keyword.name, keyword.kind, &keyword.labels)?;
        }
        for (at, (standing, model)) in windows.iter().zip(known).enumerate() {
            match standing {
                Standing::New(new) => {
                    check_model(model, &new.info.name, new.kind, &new.info.labels)?;
                }
                Standing::Derived(spec) => {
                    check_model(model, &spec.name, spec.kind, &spec.labels)?;
                }
                Standing::Keep { name, kind, labels } => {
                    let Some(kept) = self.position(name, *kind).map(|at| &self.0[at]) else {
                        return Err(not_running(name));
                    };
                    let own = &kept.stats.info().labels;
                    let labels = labels.as_ref().unwrap_or(own);
                    check_model(model, name, kept.stats.kind(), labels)?;
                    if labels != own && matches!(kept.how, How::Derived { .. }) {
                        return Err(unfit(format!(
                            "the labels of '{name}' follow from another stream; say how"
                        )));
                    }
                }
            }
            let is_twin = |other: &KnownModel| other.name == model.name && other.kind == model.kind;
            if known[..at].iter().any(is_twin) {
                return Err(unfit(format!("the stream '{}' stands twice", model.name)));
            }
        }
        for standing in windows {
            let spec = match standing {
                Standing::Derived(spec) => spec,
                Standing::Keep { name, kind, .. } => {
                    match self.position(name, *kind).map(|at| &self.0[at].how) {
                        Some(How::Derived { spec }) => spec,
                        _ => continue,
                    }
                }
                Standing::New(_) => continue,
            };
            self.check_derived(spec, windows, known)?;
        }
        Ok(known)
    }

    fn check_derived(
        &self,
        spec: &Derived,
        windows: &[Standing],
        known: &[KnownModel],
    ) -> io::Result<()> {
        let of = known.iter().position(|model| is_followed(model, &spec.of));
        let Some(of) = of else {
            return Err(not_running(&spec.of));
        };
        let is_scored = match &windows[of] {
            Standing::New(_) => true,
            Standing::Derived(_) => false,
            Standing::Keep { name, kind, .. } => self
                .position(name, *kind)
                .is_some_and(|at| matches!(self.0[at].how, How::Scored { .. })),
        };
        if !is_scored {
            return Err(unfit(format!(
                "'{}' cannot follow '{}', which follows another stream itself",
                spec.name, spec.of
            )));
        }
        if let Some(from) = self.position(&spec.of, Kind::Event) {
            let is_kept = matches!(&windows[of], Standing::Keep { .. });
            let is_spec = |at: usize| matches!(&self.0[at].how, How::Derived { spec: old } if std::ptr::eq(&**old, spec));
            let goes_on = self.position(&spec.name, spec.kind).is_some_and(is_spec);
            let same = self.0[from].stats.info().labels == known[of].labels;
            if goes_on && !(is_kept && same) {
                return Err(unfit(format!(
                    "'{}' follows '{}', whose labels change; say how it follows the new ones",
                    spec.name, spec.of
                )));
            }
        }
        if spec.from.len() != spec.labels.len() {
            return Err(unfit(format!(
                "'{}' has {} labels, and it is said where {} of them come from",
                spec.name,
                spec.labels.len(),
                spec.from.len()
            )));
        }
        let labels = known[of].labels.len();
        if let Some(place) = spec.from.iter().flatten().find(|place| **place >= labels) {
            return Err(unfit(format!(
                "'{}' follows label {place} of '{}', which has {labels}",
                spec.name, spec.of
            )));
        }
        Ok(())
    }
}

impl Member {
    fn scored(stream: &WindowStream) -> Self {
        Member {
            stats: stream.stats().clone(),
            how: How::Scored {
                patience: stream.patience(),
                history: stream.windows.history(),
            },
        }
    }

    fn name(&self) -> &Arc<str> {
        &self.stats.info().name
    }

    fn history(&self) -> usize {
        match self.how {
            How::Scored { history, .. } => history,
            How::Derived { .. } => 0,
        }
    }
}

/// The same stats where labels and thresholds are as the engine has them, or such that are.
fn stats_for(stats: &Arc<ModelStats>, known: &KnownModel) -> Arc<ModelStats> {
    if stats.known() == *known {
        return stats.clone();
    }
    let (labels, thresholds) = (known.labels.clone(), known.thresholds.clone());
    Arc::new(stats.with_labels(labels, thresholds))
}

fn check_model(
    known: &KnownModel,
    name: &Arc<str>,
    kind: Kind,
    labels: &Arc<[Arc<str>]>,
) -> io::Result<()> {
    if (&known.name, known.kind, &known.labels) == (name, kind, labels) {
        return Ok(());
    }
    Err(unfit(format!(
        "the rules are made for {} labels of '{}' ({}) where {} of '{name}' ({kind}) are to be",
        known.labels.len(),
        known.name,
        known.kind,
        labels.len()
    )))
}

/// Whether a derived stream that names `name` follows this model.
fn is_followed(model: &KnownModel, name: &Arc<str>) -> bool {
    model.name == *name && model.kind == Kind::Event
}

fn not_running(name: &str) -> io::Error {
    unfit(format!("no stream '{name}' runs"))
}

fn unfit(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
