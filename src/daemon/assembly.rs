//! From a configuration to the parts of a pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{DaemonError, phrases};
use crate::audio::spec::{SourceSpec, open};
use crate::audio::{AudioError, Source};
use crate::config::{Config, ConfigError, KnownModel, Loaded};
use crate::detect::{Content, Engine};
use crate::event::Kind;
use crate::features::{Frontend, LogMel};
use crate::models::registry::{self, Model};
use crate::models::{Classifier, ModelError, ModelInfo, Spotter, Task};
use crate::pipeline::{Limits, Models, Pace, Setup, Stepped, Windowed};

/// A program that reads a camera connects and waits for a key frame first: 20 s with what any source
/// has.
const PROGRAM_HEAD_START: Duration = Duration::from_secs(18);

/// Frames of 10 ms in a second.
const FRAMES_PER_S: f64 = 100.0;

/// Makes a front end.
pub type FrontMaker = Arc<dyn Fn() -> Box<dyn Frontend> + Send + Sync>;
/// Makes a model of a name; the empty name is the embedded one.
pub type ModelMaker<M> = Arc<dyn Fn(&str) -> Result<Box<M>, ModelError> + Send + Sync>;
/// Opens the source of a specification; the flag asks for files at their own speed.
pub type SourceMaker =
    Arc<dyn Fn(&SourceSpec, bool) -> Result<Box<dyn Source>, AudioError> + Send + Sync>;

/// Where the parts come from. The default ones are real; tests put in their own.
#[derive(Clone)]
pub struct Makers {
    /// The front end of the small models.
    pub front: FrontMaker,
    /// Keyword models.
    pub keyword: ModelMaker<dyn Spotter>,
    /// Models on windows, with scores for labels.
    pub event: ModelMaker<dyn Classifier>,
    /// Sources.
    pub source: SourceMaker,
}

impl Default for Makers {
    fn default() -> Self {
        Makers {
            front: Arc::new(|| Box::new(LogMel::new())),
            keyword: Arc::new(|name| match named(name, Task::Keyword)? {
                Model::Spotter(model) => Ok(model),
                other => Err(misplaced(
                    other.info(),
                    "is run on windows; name it in [event] or in a [[model]]",
                )),
            }),
            event: Arc::new(|name| match named(name, Task::Event)? {
                Model::Classifier(model) => Ok(model),
                Model::Spotter(model) => Err(misplaced(
                    model.info(),
                    "is stepped on every frame; name it in [keyword]",
                )),
                Model::Embedder(model) => Err(misplaced(model.info(), EMBEDS)),
            }),
            source: Arc::new(open),
        }
    }
}

/// What is wrong with a model that answers with embeddings.
const EMBEDS: &str = "answers with embeddings, which no rule can watch; 'hark models list' shows those that answer with scores";

fn named(name: &str, task: Task) -> Result<Model, ModelError> {
    if name.is_empty() {
        return match registry::embedded_for(task) {
            Some(row) => registry::load(row),
            None => registry::open(task.as_str()),
        };
    }
    // Before it is looked for: fetching it would not help.
    if let Some(row) = registry::find(name).filter(|row| row.task.is_embedding()) {
        return Err(ModelError::Unknown(format!(
            "model '{}' {EMBEDS}",
            row.name
        )));
    }
    registry::open(name)
}

fn keyword_error(loaded: &Loaded, error: ModelError) -> DaemonError {
    match error {
        ModelError::Unknown(text) => loaded.fault_at(["keyword", "model"], text).into(),
        error => error.into(),
    }
}

fn misplaced(info: &ModelInfo, why: &str) -> ModelError {
    ModelError::Unknown(format!("model '{}' {why}", info.name))
}

/// A model on windows as the configuration wants it.
struct Wanted<'a> {
    name: &'a str,
    window_s: Option<f64>,
    hop_s: Option<f64>,
    speech_only: bool,
    /// Which `[[model]]`; `None` for `[event]`.
    at: Option<usize>,
}

impl<'a> Wanted<'a> {
    fn all(config: &'a Config) -> impl Iterator<Item = Wanted<'a>> {
        let event = config.event.enabled.then(|| Wanted {
            name: &config.event.model,
            window_s: config.event.window_s,
            hop_s: config.event.hop_s,
            speech_only: config.event.speech_only,
            at: None,
        });
        let more = config.model.iter().enumerate();
        let more = more.filter(|(_, model)| model.enabled);
        event.into_iter().chain(more.map(|(at, model)| Wanted {
            name: &model.name,
            window_s: model.window_s,
            hop_s: model.hop_s,
            speech_only: model.speech_only,
            at: Some(at),
        }))
    }

    fn load(&self, makers: &Makers, loaded: &Loaded) -> Result<Windowed, DaemonError> {
        let (make, name) = (makers.event.clone(), self.name.to_owned());
        let speech_only = self.speech_only;
        let model = Windowed::load(
            Arc::new(move || match speech_only {
                true => registry::behind_speech(make(&name)?),
                false => make(&name),
            }),
            self.window_s.map(frames),
            self.hop_s.map(frames),
        )
        .map_err(|error| self.placed(loaded, error))?;
        if model.hop_frames > model.window_frames {
            let window_s = model.window_frames as f64 / FRAMES_PER_S;
            let text = format!(
                "hop_s would leave out sound between windows of {window_s} s, the model's own; use at most that"
            );
            return Err(self.fault(loaded, "hop_s", text));
        }
        Ok(model)
    }

    /// A name that leads nowhere is a fault of the configuration.
    fn placed(&self, loaded: &Loaded, error: ModelError) -> DaemonError {
        match error {
            ModelError::Unknown(text) => self.fault(loaded, self.name_key(), text),
            error => error.into(),
        }
    }

    fn name_key(&self) -> &'static str {
        self.at.map_or("model", |_| "name")
    }

    fn fault(&self, loaded: &Loaded, key: &str, text: impl Into<String>) -> DaemonError {
        let error = match self.at {
            None => loaded.fault_at(["event", key], text),
            Some(at) => loaded.fault_at(["model", &at.to_string(), key], text),
        };
        error.into()
    }
}

impl Makers {
    /// Makes and warms the models that a configuration wants. Large ones take seconds.
    ///
    /// # Errors
    /// When one cannot be made, or a name leads to none that the daemon can run.
    pub fn models(&self, loaded: &Loaded) -> Result<Models, DaemonError> {
        let config = &loaded.config;
        let mut models = Models::default();
        if config.keyword.enabled {
            let (make, name) = (self.keyword.clone(), config.keyword.model.clone());
            let stepped = Stepped::load(Arc::new(move || make(&name)));
            models.keyword = Some(stepped.map_err(|error| keyword_error(loaded, error))?);
        }
        for wanted in Wanted::all(config) {
            let model = wanted.load(self, loaded)?;
            let name = &model.info.name;
            let is_twin = |other: &Windowed| other.info.name == *name;
            if models.windows.iter().any(is_twin) {
                let text = format!("model '{name}' runs already; remove one of the two");
                return Err(wanted.fault(loaded, wanted.name_key(), text));
            }
            models.windows.push(model);
        }
        Ok(models)
    }

    /// The models that a configuration wants, as rules see them, without warming them up.
    ///
    /// # Errors
    /// As [`Makers::models`].
    pub fn known(&self, loaded: &Loaded) -> Result<Vec<KnownModel>, DaemonError> {
        let as_known = |kind: Kind, info: &ModelInfo| KnownModel {
            kind,
            name: info.name.clone(),
            labels: info.labels.clone(),
            thresholds: Arc::default(),
        };
        let config = &loaded.config;
        check_prompt_model(loaded)?;
        let mut known = Vec::new();
        if config.keyword.enabled {
            let model = (self.keyword)(&config.keyword.model)
                .map_err(|error| keyword_error(loaded, error))?;
            known.push(as_known(Kind::Keyword, model.info()));
        }
        for wanted in Wanted::all(config) {
            let model = (self.event)(wanted.name).map_err(|error| wanted.placed(loaded, error))?;
            known.push(as_known(Kind::Event, model.info()));
        }
        Ok(known)
    }

    /// Puts a pipeline together. `realtime` plays files at their own speed.
    pub fn setup(
        &self,
        spec: &SourceSpec,
        realtime: bool,
        limits: Limits,
        models: Models,
        rules: (Engine, Option<Content>),
        origin: Instant,
    ) -> Setup {
        let (make, opened) = (self.source.clone(), spec.clone());
        Setup {
            spec: spec.to_string(),
            source: Arc::new(move || make(&opened, realtime)),
            pace: pace_of(spec, realtime),
            limits: Limits {
                head_start: match spec {
                    SourceSpec::Command(_) => PROGRAM_HEAD_START,
                    _ => limits.head_start,
                },
                ..limits
            },
            front: (self.front)(),
            models,
            engine: rules.0,
            content: rules.1,
            origin,
            paused: false,
        }
    }
}

fn frames(seconds: f64) -> usize {
    (seconds * FRAMES_PER_S).round() as usize
}

/// Whether the model that `[prompt]` names can be what it is to be.
///
/// # Errors
/// When it leads nowhere, or to no CLAP; the text says where it stands.
pub(super) fn check_prompt_model(loaded: &Loaded) -> Result<(), ConfigError> {
    match phrases::model_fault(&loaded.config.prompt) {
        Some(text) => Err(loaded.fault_at(["prompt", "model"], text)),
        None => Ok(()),
    }
}

/// How time passes in a source.
pub fn pace_of(spec: &SourceSpec, realtime: bool) -> Pace {
    match spec {
        SourceSpec::File(_) if realtime => Pace::Paced,
        SourceSpec::File(_) | SourceSpec::Raw(_) => Pace::Complete,
        SourceSpec::Mic(_) => Pace::Live,
        SourceSpec::Command(_) => Pace::Program,
    }
}

/// The source of a configuration, the default microphone where it names none.
///
/// # Errors
/// When it names more than one, or one that is not understood; the text says where it stands.
pub fn spec_of(loaded: &Loaded) -> Result<SourceSpec, ConfigError> {
    match &loaded.config.source[..] {
        [] => Ok(SourceSpec::Mic(None)),
        [only] => only
            .spec
            .parse()
            .map_err(|error: AudioError| loaded.fault_at(["source", "0", "spec"], error.to_string())),
        more => Err(loaded.fault_at(
            ["source", "1", "spec"],
            format!(
                "{} sources are configured, and one daemon listens to one; start another daemon with its own --config and --socket",
                more.len()
            ),
        )),
    }
}
