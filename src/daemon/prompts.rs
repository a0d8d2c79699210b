//! The prompts that the daemon listens for: those of the configuration and those that were added.
//!
//! Changes are made one at a time: planned here, made ready by `phrases` on its thread, and put in force
//! by the loop. What fails leaves everything as it was. Without a CLAP the other models answer for
//! what they know, and the rest waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Reply;
use super::phrases::{self, ClapReady, Fitting, IDLE, Job, Phrases, Ready, SharedSet};
use super::worker::Worker;
use crate::command::{AskedState, PromptStatus, Refusal};
use crate::config::paths::Paths;
use crate::config::prompt::set_problems;
use crate::config::prompt_file::PromptFile;
use crate::config::{KnownModel, Loaded, PromptConfig, PromptLabel};
use crate::event::Kind;
use crate::models::prompt::{Prompt, fallback};
use crate::pipeline::{Derived, Standing, Windowed};

/// How often it is looked whether a model that prompts wait for has been fetched.
const LOOK: Duration = Duration::from_secs(30);
/// The threshold where neither prompt, section nor rule gives one.
const THRESHOLD: f32 = 0.5;

/// A prompt and where it stands in the configuration; nowhere where it was added.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    label: PromptLabel,
    place: String,
}

/// What has become of a prompt.
#[derive(Debug, Clone)]
struct Fate {
    state: AskedState,
    by: Arc<str>,
    detail: String,
    calibrated: bool,
}

impl Fate {
    fn new(state: AskedState, by: &Arc<str>, detail: impl Into<String>) -> Self {
        Fate {
            state,
            by: by.clone(),
            detail: detail.into(),
            calibrated: false,
        }
    }
}

/// What is asked of the prompts.
pub(super) enum Change {
    /// One more.
    Add {
        /// The prompt, checked by itself.
        label: PromptLabel,
        /// Whether it may take the place of another.
        replace: bool,
        /// Who asks.
        reply: Reply,
    },
    /// One less.
    Remove {
        /// Its name.
        name: String,
        /// Who asks.
        reply: Reply,
    },
    /// The configuration, the models or the sound path are others.
    Refresh {
        /// Who asks; none where nobody did.
        reply: Option<Reply>,
    },
}

/// A change whose prompts are being made ready.
pub(super) struct Plan {
    /// What was asked.
    pub change: Change,
    entries: Vec<Entry>,
    added: Vec<PromptLabel>,
    section: PromptConfig,
}

/// The stream of a CLAP.
struct Stream {
    name: Arc<str>,
    fitting: Fitting,
    set: SharedSet,
    /// Until it is handed to the pipeline.
    fresh: Option<Windowed>,
}

/// A model of events that answers for prompts.
struct Fallback {
    model: KnownModel,
    /// The places of the prompts, and of the labels that answer each.
    answered: Vec<(usize, Vec<usize>)>,
}

/// The prompts.
pub(super) struct Prompts {
    file: PromptFile,
    /// Those that were added, also where the configuration has one of the same name.
    added: Vec<PromptLabel>,
    entries: Vec<Entry>,
    fates: Vec<Fate>,
    section: PromptConfig,
    worker: Worker<Phrases>,
    stream: Option<Stream>,
    /// What answers without a CLAP.
    derived: Vec<Fallback>,
    waiting: VecDeque<Change>,
    under_way: Option<Plan>,
    /// When to look for a model that prompts wait for.
    look_at: Option<Instant>,
    /// What was wrong with the file of added prompts.
    pub warning: Option<Arc<str>>,
    /// Why nothing can be added: the damaged file is still in the way.
    blocked: Option<String>,
}

impl Prompts {
    /// The prompts of a configuration and of the file, none of them ready.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(paths: &Paths, loaded: &Loaded) -> std::io::Result<Self> {
        let mut prompts = Prompts {
            file: PromptFile::of(paths),
            added: Vec::new(),
            entries: Vec::new(),
            fates: Vec::new(),
            section: loaded.config.prompt.clone(),
            worker: Worker::start("hark-prompts", Phrases::new(paths), IDLE)?,
            stream: None,
            derived: Vec::new(),
            waiting: VecDeque::new(),
            under_way: None,
            look_at: None,
            warning: None,
            blocked: None,
        };
        prompts.read_added();
        prompts.entries = entries_of(loaded, &prompts.added);
        prompts.lose_streams();
        Ok(prompts)
    }

    /// A damaged file must not keep a daemon from starting that somebody relies on: it is kept under
    /// another name, and that is told for as long as nothing was changed.
    fn read_added(&mut self) {
        let error = match self.file.load() {
            Ok(added) => {
                self.added = added;
                return;
            }
            Err(error) => error,
        };
        let text = match self.file.set_aside() {
            Ok(aside) => format!(
                "the prompts that were added are lost: {error}; the file is kept as {}",
                aside.display()
            ),
            Err(why) => {
                let text = format!("{error}; it cannot be moved out of the way either: {why}");
                self.blocked = Some(text.clone());
                format!("the prompts that were added are lost: {text}")
            }
        };
        tracing::error!("{text}");
        self.warning = Some(text.into());
    }

    /// Where results of the thread come out.
    pub fn done(&self) -> &crossbeam_channel::Receiver<Result<Ready, crate::models::ModelError>> {
        self.worker.done()
    }

    /// Whether there is nothing to listen for.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there are none, and will be none with this configuration.
    pub fn are_none(&mut self, loaded: &Loaded) -> bool {
        let are_none = self.entries.is_empty()
            && self.added.is_empty()
            && loaded.config.prompt.label.is_empty()
            && !self.is_busy();
        if are_none {
            self.section = loaded.config.prompt.clone();
        }
        are_none
    }

    /// Whether a change is under way or waits.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some() || !self.waiting.is_empty()
    }

    /// Takes a change; [`Prompts::next`] begins with it when its turn comes.
    pub fn ask(&mut self, change: Change) {
        self.waiting.push_back(change);
    }

    /// The pipeline is another: no stream runs, and each prompt is made ready again.
    pub fn lose_streams(&mut self) {
        self.stream = None;
        self.derived.clear();
        let none: Arc<str> = "".into();
        self.fates = vec![Fate::new(AskedState::Loading, &none, ""); self.entries.len()];
    }

    /// Whether prompts wait for a model that is there now.
    pub fn is_found(&mut self, now: Instant) -> bool {
        if self.look_at.is_none_or(|at| now < at) || self.is_busy() {
            return false;
        }
        self.look_at = Some(now + LOOK);
        phrases::is_installed(&self.section)
    }

    /// Begins with the next change where none is under way. A change that cannot be comes back with
    /// the reason.
    pub fn next(&mut self, loaded: &Loaded) -> Option<(Change, Refusal)> {
        while self.under_way.is_none() {
            let change = self.waiting.pop_front()?;
            match self.plan(&change, loaded) {
                Ok((entries, added)) => self.begin(change, entries, added, loaded),
                Err(text) => return Some((change, Refusal::BadParams(text))),
            }
        }
        None
    }

    fn begin(
        &mut self,
        change: Change,
        entries: Vec<Entry>,
        added: Vec<PromptLabel>,
        loaded: &Loaded,
    ) {
        let section = loaded.config.prompt.clone();
        let is_refresh = matches!(change, Change::Refresh { .. });
        let prompts = match section.enabled {
            true => prompts_of(&entries, &section),
            false => Vec::new(),
        };
        self.worker.give(Job {
            prompts,
            section: section.clone(),
            running: self.stream.as_ref().map(|stream| stream.fitting.clone()),
            look_again: is_refresh,
            save: (!is_refresh).then(|| added.clone()),
        });
        self.under_way = Some(Plan {
            change,
            entries,
            added,
            section,
        });
    }

    /// What there is to listen for once the change is made.
    fn plan(
        &self,
        change: &Change,
        loaded: &Loaded,
    ) -> Result<(Vec<Entry>, Vec<PromptLabel>), String> {
        let mut added = self.added.clone();
        let configured = |name: &str| {
            let labels = &loaded.config.prompt.label;
            let at = labels.iter().position(|label| label.name == name)?;
            Some(place_of(loaded, at))
        };
        if let (Some(why), false) = (&self.blocked, matches!(change, Change::Refresh { .. })) {
            return Err(why.clone());
        }
        match change {
            Change::Add { label, replace, .. } => {
                label.check()?;
                let name = &label.name;
                if let Some(place) = configured(name) {
                    return Err(format!(
                        "there is a prompt '{name}' in {place}; change it there, or choose another name"
                    ));
                }
                match added.iter_mut().find(|known| known.name == *name) {
                    Some(_) if !replace => {
                        return Err(format!(
                            "there is a prompt '{name}' already; choose another name, or replace it (--replace on the command line)"
                        ));
                    }
                    Some(known) => *known = label.clone(),
                    None => added.push(label.clone()),
                }
            }
            Change::Remove { name, .. } => {
                if let Some(place) = configured(name) {
                    return Err(format!(
                        "the prompt '{name}' stands in {place}; remove it there"
                    ));
                }
                let before = added.len();
                added.retain(|known| known.name != *name);
                if added.len() == before {
                    return Err(self.no_such(name));
                }
            }
            Change::Refresh { .. } => {}
        }
        let entries = entries_of(loaded, &added);
        if matches!(change, Change::Add { .. }) {
            if !loaded.config.prompt.enabled {
                return Err("prompts are switched off: set enabled = true in [prompt]".to_owned());
            }
            let labels: Vec<PromptLabel> = entries.iter().map(|e| e.label.clone()).collect();
            if let Some(problem) = set_problems(&labels) {
                return Err(problem.text);
            }
        }
        Ok((entries, added))
    }

    fn no_such(&self, name: &str) -> String {
        let brief = crate::config::prompt::brief(name);
        let names: Vec<&str> = self.added.iter().map(|label| label.name.as_str()).collect();
        match names.is_empty() {
            true => format!("there is no prompt '{brief}'; none was added"),
            false => format!(
                "there is no prompt '{brief}'; those that were added: {}",
                names.join(", ")
            ),
        }
    }

    /// The plan whose prompts are ready now, or have failed to be.
    pub fn planned(&mut self) -> Option<Plan> {
        self.under_way.take()
    }

    /// Takes over a plan whose prompts are ready; [`Prompts::standing`] has its streams then. `known`
    /// are the models of events, in their order.
    pub fn accept(&mut self, plan: Plan, ready: Ready, known: &[KnownModel]) -> Change {
        self.entries = plan.entries;
        self.added = plan.added;
        self.section = plan.section;
        self.look_at = None;
        self.derived.clear();
        match ready {
            Ready::Clap(clap) => self.listen(*clap),
            Ready::Absent(pull) => self.fall_back(&pull, known),
            Ready::Nothing => {
                self.stream = None;
                let none: Arc<str> = "".into();
                let text = "prompts are switched off in [prompt]";
                self.fates = vec![Fate::new(AskedState::Waiting, &none, text); self.entries.len()];
            }
        }
        if !matches!(plan.change, Change::Refresh { .. }) {
            self.warning = None;
        }
        plan.change
    }

    /// The prompts of a plan cannot be made ready: without a stream they have failed, and with one
    /// everything stays as it was.
    pub fn fail(&mut self, plan: Plan, why: &str) -> Change {
        let is_refresh = matches!(plan.change, Change::Refresh { .. });
        if is_refresh && self.stream.is_none() {
            self.entries = plan.entries;
            self.section = plan.section;
            self.derived.clear();
            let none: Arc<str> = "".into();
            self.fates = vec![Fate::new(AskedState::Failed, &none, why); self.entries.len()];
        }
        plan.change
    }

    fn listen(&mut self, clap: ClapReady) {
        let fates = clap.calibrated.into_iter().map(|calibrated| Fate {
            calibrated,
            ..Fate::new(AskedState::Ready, &clap.name, "")
        });
        self.fates = fates.collect();
        match clap.stream {
            Some((windowed, set)) => {
                self.stream = Some(Stream {
                    name: clap.name,
                    fitting: clap.fitting,
                    set,
                    fresh: Some(windowed),
                });
            }
            None => {
                if let Some(stream) = &self.stream {
                    stream.set.store(Arc::new(clap.set));
                }
            }
        }
    }

    /// Lets the models of events answer for what they know.
    fn fall_back(&mut self, pull: &str, known: &[KnownModel]) {
        self.stream = None;
        self.look_at = Some(Instant::now() + LOOK);
        let none: Arc<str> = "".into();
        self.fates.clear();
        for (at, prompt) in prompts_of(&self.entries, &self.section).iter().enumerate() {
            let answer = known.iter().find_map(|model| {
                let labels = fallback::labels_for(prompt, &model.labels);
                (!labels.is_empty()).then_some((model, labels))
            });
            let Some((model, labels)) = answer else {
                self.fates.push(Fate::new(AskedState::Waiting, &none, pull));
                continue;
            };
            let names: Vec<&str> = labels.iter().map(|&label| &*model.labels[label]).collect();
            let text = format!(
                "a fallback, by its labels {}; for the phrases themselves {pull}",
                names.join(", ")
            );
            self.fates
                .push(Fate::new(AskedState::Fallback, &model.name, text));
            match self
                .derived
                .iter_mut()
                .find(|fallback| fallback.model.name == model.name)
            {
                Some(fallback) => fallback.answered.push((at, labels)),
                None => self.derived.push(Fallback {
                    model: model.clone(),
                    answered: vec![(at, labels)],
                }),
            }
        }
    }

    /// The streams of the prompts as the pipeline and the rules see them, in their order.
    pub fn standing(&mut self) -> Vec<(Standing, KnownModel)> {
        let (entries, section) = (&self.entries, &self.section);
        let mut standing = Vec::new();
        if let Some(stream) = &mut self.stream {
            let known = known_as(&stream.name, entries, section);
            let standing_as = match stream.fresh.take() {
                Some(mut windowed) => {
                    windowed.thresholds = known.thresholds.clone();
                    Standing::New(windowed)
                }
                None => Standing::Keep {
                    name: stream.name.clone(),
                    kind: Kind::Prompt,
                    labels: Some(known.labels.clone()),
                },
            };
            standing.push((standing_as, known));
        }
        for Fallback { model, answered } in &self.derived {
            let own = answered.iter().map(|(at, _)| &entries[*at]);
            let known = known_as(&model.name, own, section);
            let derived = Derived {
                name: model.name.clone(),
                sha256: "".into(),
                kind: Kind::Prompt,
                of: model.name.clone(),
                labels: known.labels.clone(),
                from: answered.iter().map(|(_, from)| from.clone()).collect(),
            };
            standing.push((Standing::Derived(derived), known));
        }
        standing
    }

    /// For `status`; `rule` is the threshold of the rule over every prompt.
    pub fn status(&self, rule: Option<f32>) -> Arc<[PromptStatus]> {
        let threshold = |label: &PromptLabel| {
            let own = label.threshold.or(self.section.threshold);
            own.or(rule).unwrap_or(THRESHOLD)
        };
        let both = self.entries.iter().zip(&self.fates);
        both.map(|(Entry { label, place }, fate)| PromptStatus {
            name: label.name.as_str().into(),
            phrases: label.phrases.clone(),
            threshold: threshold(label),
            state: fate.state,
            by: fate.by.clone(),
            detail: fate.detail.clone(),
            calibrated: fate.calibrated,
            place: place.clone(),
        })
        .collect()
    }
}

/// A stream of these prompts as the rules see it.
fn known_as<'a>(
    name: &Arc<str>,
    entries: impl IntoIterator<Item = &'a Entry>,
    section: &PromptConfig,
) -> KnownModel {
    let (labels, thresholds): (Vec<Arc<str>>, Vec<Option<f32>>) = entries
        .into_iter()
        .map(|Entry { label, .. }| {
            let own = label.threshold.or(section.threshold);
            (label.name.as_str().into(), own)
        })
        .unzip();
    KnownModel {
        kind: Kind::Prompt,
        name: name.clone(),
        labels: labels.into(),
        thresholds: thresholds.into(),
    }
}

fn place_of(loaded: &Loaded, at: usize) -> String {
    loaded.place_of(["prompt", "label", &at.to_string(), "name"])
}

/// The prompts of the configuration, then those that were added and whose names are free.
fn entries_of(loaded: &Loaded, added: &[PromptLabel]) -> Vec<Entry> {
    let configured = &loaded.config.prompt.label;
    let of_config = configured.iter().enumerate().map(|(at, label)| Entry {
        label: label.clone(),
        place: place_of(loaded, at),
    });
    let is_free = |label: &&PromptLabel| {
        let twin = configured.iter().position(|known| known.name == label.name);
        if let Some(at) = twin {
            tracing::warn!(
                "the prompt '{}' that was added gives way to the one in {}",
                label.name,
                place_of(loaded, at)
            );
        }
        twin.is_none()
    };
    let of_file = added.iter().filter(is_free).map(|label| Entry {
        label: label.clone(),
        place: String::new(),
    });
    of_config.chain(of_file).collect()
}

fn prompts_of(entries: &[Entry], section: &PromptConfig) -> Vec<Prompt> {
    let threshold = |label: &PromptLabel| label.threshold.or(section.threshold);
    entries
        .iter()
        .map(|Entry { label, .. }| Prompt {
            name: label.name.as_str().into(),
            phrases: label.phrases.clone(),
            threshold: threshold(label).unwrap_or(THRESHOLD),
        })
        .collect()
}
