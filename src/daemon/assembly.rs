//! From a configuration to the parts of a pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audio::spec::{SourceSpec, open};
use crate::audio::{AudioError, Source};
use crate::clock::PIPELINE_RATE_HZ;
use crate::config::{Config, ConfigError, Loaded};
use crate::detect::{Content, Engine};
use crate::features::{Frontend, HOP, LogMel};
use crate::models::registry::{self, Model};
use crate::models::{Classifier, ModelError, ModelInfo, Spotter, Task};
use crate::pipeline::{EventModel, Factory, Limits, Models, Pace, Setup};

/// A program that reads a camera connects and waits for a key frame first: 20 s with what any source
/// has.
const PROGRAM_HEAD_START: Duration = Duration::from_secs(18);

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
    /// Event models.
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
                other => Err(wrong_task(other.info(), Task::Keyword)),
            }),
            event: Arc::new(|name| match named(name, Task::Event)? {
                Model::Classifier(model) => Ok(model),
                other => Err(wrong_task(other.info(), Task::Event)),
            }),
            source: Arc::new(open),
        }
    }
}

fn named(name: &str, task: Task) -> Result<Model, ModelError> {
    match name {
        "" => match registry::embedded_for(task) {
            Some(row) => registry::load(row),
            None => registry::open(task.as_str()),
        },
        name => registry::open(name),
    }
}

fn wrong_task(info: &ModelInfo, wanted: Task) -> ModelError {
    ModelError::Unknown(format!(
        "model '{}' answers {}, not {}; 'hark models list' shows which does",
        info.name,
        info.task.as_str(),
        wanted.as_str()
    ))
}

impl Makers {
    /// Makes and warms the models that a configuration wants.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn models(&self, config: &Config) -> Result<Models, ModelError> {
        let keyword = config.keyword.enabled.then(|| {
            let (make, name) = (self.keyword.clone(), config.keyword.model.clone());
            Arc::new(move || make(&name)) as Factory<dyn Spotter>
        });
        let event = config.event.enabled.then(|| {
            let (make, name) = (self.event.clone(), config.event.model.clone());
            EventModel {
                make: Arc::new(move || make(&name)),
                window_frames: frames(config.event.window_s),
                hop_frames: frames(config.event.hop_s),
            }
        });
        Models::load(keyword, event)
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
    (seconds * f64::from(PIPELINE_RATE_HZ) / HOP as f64).round() as usize
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
