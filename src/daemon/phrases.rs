//! Makes prompts ready on a thread of its own: finds the CLAP, embeds phrases, loads the audio tower.
//!
//! The text tower is in memory only while phrases are new; embeddings are kept on disk by the model's
//! checksum. What was added while the daemon ran is written to disk here too, once it can be listened
//! for. Whether and when a set comes in force is the loop's matter.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::worker::Work;
use crate::config::paths::Paths;
use crate::config::prompt_file::PromptFile;
use crate::config::{PromptConfig, PromptLabel};
use crate::event::Kind;
use crate::models::prompt::{
    Calibrations, InstalledClap, PhraseEmbedder, Prompt, PromptModel, PromptSet,
};
use crate::models::room::Room;
use crate::models::{ModelError, registry};
use crate::pipeline::Windowed;

/// How long the text tower is kept for more phrases.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// Frames of 10 ms in a second.
const FRAMES_PER_S: f64 = 100.0;
/// The CLAP that is named to whoever has none.
const SUGGESTED: &str = "clap-unfused";

/// The set that a stream scores, shared with its model.
pub(super) type SharedSet = Arc<ArcSwap<PromptSet>>;

/// What a stream was made for; with another of these it must be made anew.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fitting {
    sha256: Arc<str>,
    window_frames: usize,
    hop_frames: usize,
    gated: bool,
}

/// What is to be made ready.
pub(super) struct Job {
    /// The prompts in their order.
    pub prompts: Vec<Prompt>,
    /// Where their model and windows are set.
    pub section: PromptConfig,
    /// What the running stream was made for, where one runs.
    pub running: Option<Fitting>,
    /// Whether models may have changed on disk since the last job.
    pub look_again: bool,
    /// What the file of added prompts shall hold once the prompts are ready.
    pub save: Option<Vec<PromptLabel>>,
}

/// What came of it.
pub(super) enum Ready {
    /// A CLAP can listen for the prompts.
    Clap(Box<ClapReady>),
    /// No CLAP is installed; the text says what to do.
    Absent(String),
    /// There is nothing to listen for.
    Nothing,
}

/// Prompts that a CLAP can listen for.
pub(super) struct ClapReady {
    /// Its name.
    pub name: Arc<str>,
    /// What a stream for them must have been made for.
    pub fitting: Fitting,
    /// The prompts with their embeddings.
    pub set: PromptSet,
    /// Whether what was measured in the room counts in their scores, by prompt.
    pub calibrated: Vec<bool>,
    /// A stream, where the running one does not fit.
    pub stream: Option<(Windowed, SharedSet)>,
}

/// The work.
pub(super) struct Phrases {
    paths: Paths,
    file: PromptFile,
    /// The CLAP of the last job, by the name that asked for it.
    clap: Option<(String, InstalledClap, PhraseEmbedder)>,
}

impl Phrases {
    /// Work with the models and files of these directories.
    pub fn new(paths: &Paths) -> Self {
        Phrases {
            paths: paths.clone(),
            file: PromptFile::of(paths),
            clap: None,
        }
    }

    fn prepare(&mut self, job: &Job) -> Result<Ready, ModelError> {
        if job.prompts.is_empty() {
            self.clap = None;
            return Ok(Ready::Nothing);
        }
        let model = &job.section.model;
        if job.look_again || self.clap.as_ref().is_none_or(|(of, ..)| of != model) {
            self.clap = None;
            let wanted = (!model.is_empty()).then_some(model.as_str());
            let clap = match InstalledClap::locate(wanted) {
                Ok(clap) => clap,
                Err(ModelError::Unknown(_)) => return Ok(Ready::Absent(pull(model))),
                Err(error) => return Err(error),
            };
            let embedder = PhraseEmbedder::open(&clap, &self.paths.cache)?;
            self.clap = Some((model.clone(), clap, embedder));
        }
        let Some((_, clap, embedder)) = &mut self.clap else {
            return Ok(Ready::Absent(pull(model)));
        };
        let sha256 = clap.sha256()?;
        let room = Room::load(&self.paths.data.join("room"), &sha256)?;
        let points = room.as_ref().map_or(&[][..], |room| &room.embeddings);
        let calibrations = Calibrations::load(&self.paths.data, &sha256)?;
        let set = embedder
            .prompt_set(&job.prompts, points)?
            .calibrated(|prompt| calibrations.of(prompt));
        let calibrated = job
            .prompts
            .iter()
            .map(|prompt| !points.is_empty() || calibrations.of(prompt).is_some())
            .collect();
        let frames = |seconds: f64| ((seconds * FRAMES_PER_S).round() as usize).max(1);
        let fitting = Fitting {
            sha256,
            window_frames: frames(job.section.window_s),
            hop_frames: frames(job.section.hop_s),
            gated: job.section.gate,
        };
        let stream = match &job.running {
            Some(running) if *running == fitting => None,
            _ => Some(open(clap, &set, &fitting)?),
        };
        Ok(Ready::Clap(Box::new(ClapReady {
            name: clap.name.clone(),
            fitting,
            set,
            calibrated,
            stream,
        })))
    }
}

impl Work for Phrases {
    type Job = Job;
    type Done = Ready;
    type Error = ModelError;

    fn work(&mut self, job: Job) -> Result<Ready, ModelError> {
        let ready = self.prepare(&job)?;
        if let Some(prompts) = &job.save {
            self.file.save(prompts).map_err(|error| {
                let path = self.file.path().display();
                ModelError::Read(format!("{path}: the prompts cannot be kept: {error}"))
            })?;
        }
        Ok(ready)
    }

    fn rest(&mut self) {
        if let Some((_, clap, embedder)) = &mut self.clap
            && embedder.is_loaded()
        {
            tracing::debug!(
                "{}: the text tower is dropped until it is needed",
                clap.name
            );
            embedder.unload();
        }
    }
}

/// A stream that scores the prompts of a set, warm.
fn open(
    clap: &InstalledClap,
    set: &PromptSet,
    fitting: &Fitting,
) -> Result<(Windowed, SharedSet), ModelError> {
    let shared: SharedSet = Arc::new(ArcSwap::from_pointee(set.clone()));
    let (clap, of_model) = (clap.clone(), shared.clone());
    let mut windowed = Windowed::load(
        Arc::new(move || Ok(Box::new(PromptModel::open(&clap, of_model.clone())?))),
        Some(fitting.window_frames),
        Some(fitting.hop_frames),
    )?;
    windowed.kind = Kind::Prompt;
    windowed.gated = fitting.gated;
    Ok((windowed, shared))
}

/// The command that fetches the CLAP that is asked for.
fn pull(model: &str) -> String {
    let name = if model.is_empty() { SUGGESTED } else { model };
    format!("fetch its model with 'hark models pull {name}'")
}

/// Whether the CLAP that a configuration asks for is on this machine.
pub(super) fn is_installed(section: &PromptConfig) -> bool {
    let model = &section.model;
    InstalledClap::locate((!model.is_empty()).then_some(model)).is_ok()
}

/// What is wrong with the model that a configuration names: it leads nowhere, or to no CLAP. One that
/// is known and not installed is waited for.
pub(super) fn model_fault(section: &PromptConfig) -> Option<String> {
    let model = section.model.as_str();
    if !section.enabled || model.is_empty() {
        return None;
    }
    match InstalledClap::locate(Some(model)) {
        Ok(clap) => clap.layout().err().map(|error| error.to_string()),
        Err(_) if registry::find(model).is_some_and(|row| row.task.as_str() == "prompt") => None,
        Err(error) => Some(error.to_string()),
    }
}
