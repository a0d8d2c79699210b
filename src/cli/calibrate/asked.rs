//! Prompts and taught sounds in a calibration: which of them there are, what they score in the room that
//! was just heard, and the calibration of a prompt from recordings of its sound.
//!
//! The gate of a stream is left out: every window counts, so that what is found holds without one too.
//! Prompts that another model answers for want of a CLAP are not calibrated.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::ears::Ear;
use super::hear::Heard;
use super::show::{PositiveRow, RoomRow};
use crate::audio::AudioError;
use crate::audio::file::FileReader;
use crate::cli::out;
use crate::config::paths::Paths;
use crate::config::prompt_file::PromptFile;
use crate::config::{KnownModel, Loaded};
use crate::event::Kind;
use crate::models::prompt::{
    Calibration, Calibrations, InstalledClap, PhraseEmbedder, Prompt, PromptModel, PromptSet,
};
use crate::models::room::Room;
use crate::models::taught::{Store, TaughtKind, TaughtSet};
use crate::models::{ModelError, ModelInfo};
use crate::pipeline::Windowed;

/// The threshold of a prompt that has none of its own.
const THRESHOLD: f32 = 0.5;
/// Frames of 10 ms in a second.
const FRAMES_PER_S: f64 = 100.0;

/// What listens to the room beside the models.
pub struct Asked {
    paths: Paths,
    ears: Vec<Ear>,
    clap: Option<InstalledClap>,
    prompts: Vec<Prompt>,
    /// Thresholds of the prompts themselves.
    thresholds: Vec<Option<f32>>,
    /// Number of the first ear among the models.
    first: usize,
}

/// The same room for everybody.
pub struct Rooms {
    /// The room of each embedder.
    pub rooms: Vec<Room>,
    /// Calibrations of prompts that have changed, with the checksum of their model.
    pub calibrations: Option<(Arc<str>, Calibrations)>,
    /// What became of recordings for prompts.
    pub positives: Vec<PositiveRow>,
}

impl Asked {
    /// The ears of a configuration, and their streams; `first` models stand before them.
    ///
    /// # Errors
    /// When an embedder is damaged, or the prompts that were added cannot be read.
    pub fn open(loaded: &Loaded, first: usize) -> anyhow::Result<(Self, Vec<Windowed>)> {
        let paths = Paths::current();
        let mut asked = Asked {
            ears: Vec::new(),
            clap: None,
            prompts: Vec::new(),
            thresholds: Vec::new(),
            first,
            paths,
        };
        let mut windows = Vec::new();
        let mut take = |asked: &mut Asked, (ear, windowed): (Ear, Windowed)| {
            asked.ears.push(ear);
            windows.push(windowed);
        };
        if loaded.config.taught.enabled {
            for kind in [TaughtKind::Sound, TaughtKind::Word] {
                take(&mut asked, Ear::taught(kind)?);
            }
        }
        let section = &loaded.config.prompt;
        if section.enabled {
            asked.read_prompts(loaded)?;
            let wanted = (!section.model.is_empty()).then_some(section.model.as_str());
            match InstalledClap::locate(wanted) {
                Ok(clap) => {
                    let frames = |seconds: f64| ((seconds * FRAMES_PER_S).round() as usize).max(1);
                    let opened = clap.clone();
                    let make = move || {
                        let none = Arc::new(ArcSwap::from_pointee(PromptSet::default()));
                        let model = PromptModel::open(&opened, none)?;
                        Ok(Box::new(model) as Box<dyn crate::models::Embedder>)
                    };
                    let (window, hop) = (frames(section.window_s), frames(section.hop_s));
                    take(&mut asked, Ear::open(make, Kind::Prompt, window, hop)?);
                    asked.clap = Some(clap);
                }
                Err(ModelError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((asked, windows))
    }

    /// The prompts of the configuration, then those that were added and whose names are free.
    fn read_prompts(&mut self, loaded: &Loaded) -> anyhow::Result<()> {
        let section = &loaded.config.prompt;
        let added = PromptFile::of(&self.paths).load()?;
        for label in section.label.iter().chain(&added) {
            let threshold = label.threshold.or(section.threshold);
            if self
                .prompts
                .iter()
                .all(|prompt| *prompt.name != *label.name)
            {
                self.thresholds.push(threshold);
                self.prompts.push(Prompt {
                    name: label.name.as_str().into(),
                    phrases: label.phrases.clone(),
                    threshold: threshold.unwrap_or(THRESHOLD),
                });
            }
        }
        Ok(())
    }

    /// Whether there is a prompt of this name that a CLAP listens for.
    pub fn has_prompt(&self, name: &str) -> bool {
        self.clap.is_some() && self.prompts.iter().any(|prompt| *prompt.name == *name)
    }

    /// Fills the scores of prompts and taught sounds in and gives the rooms; nothing is written.
    /// `positives` are recordings of prompts.
    ///
    /// # Errors
    /// When a model fails, or a recording cannot be read.
    pub fn hear(
        &self,
        heard: &mut Heard,
        positives: &[(String, PathBuf)],
    ) -> anyhow::Result<Rooms> {
        let mut rooms = Rooms {
            rooms: Vec::new(),
            calibrations: None,
            positives: Vec::new(),
        };
        let sounds = Store::current().list()?.sounds;
        for (at, ear) in self.ears.iter().enumerate() {
            let (room, points) = ear.close(heard.seconds / 60.0, super::now());
            let stream = self.first + at;
            match ear.taught {
                Some(kind) => {
                    let of_ear = sounds
                        .iter()
                        .filter(|sound| sound.kind == kind && sound.stale(&ear.info).is_none());
                    let set = TaughtSet::new(of_ear.cloned().collect());
                    let rows = points.iter().map(|point| {
                        let mut scores = Vec::new();
                        set.score(point, &mut scores).map(|()| scores)
                    });
                    let rows = rows.collect::<Result<Vec<_>, _>>()?;
                    fill(
                        heard,
                        stream,
                        &ear.info,
                        Kind::Taught,
                        set.labels(),
                        set.thresholds(),
                        rows,
                    );
                }
                None => {
                    let room_points = room.as_ref().map_or(&[][..], |room| &room.embeddings);
                    let set = self.prompt_set(room_points, &points, positives, &mut rooms)?;
                    let rows = points.iter().map(|point| {
                        let mut scores = Vec::new();
                        set.score(point, &mut scores);
                        scores
                    });
                    let (rows, own) = (rows.collect(), self.thresholds.iter().copied().collect());
                    fill(
                        heard,
                        stream,
                        &ear.info,
                        Kind::Prompt,
                        set.labels(),
                        own,
                        rows,
                    );
                }
            }
            rooms.rooms.extend(room);
        }
        Ok(rooms)
    }

    /// The prompts in the room that was just heard, calibrated.
    fn prompt_set(
        &self,
        room: &[Vec<f32>],
        points: &[Vec<f32>],
        positives: &[(String, PathBuf)],
        rooms: &mut Rooms,
    ) -> anyhow::Result<PromptSet> {
        let Some(clap) = self.clap.as_ref().filter(|_| !self.prompts.is_empty()) else {
            return Ok(PromptSet::default());
        };
        let sha256 = clap.sha256()?;
        let mut calibrations = Calibrations::load(&self.paths.data, &sha256)?;
        let set = PhraseEmbedder::open(clap, &self.paths.cache)?.prompt_set(&self.prompts, room)?;
        let negatives: Vec<Vec<f32>> = points.iter().map(|point| set.margins(point)).collect();
        let mut model = None;
        for (at, prompt) in self.prompts.iter().enumerate() {
            let files: Vec<&Path> = positives
                .iter()
                .filter(|(name, _)| **name == *prompt.name)
                .map(|(_, file)| file.as_path())
                .collect();
            if files.is_empty() {
                continue;
            }
            let model = match &mut model {
                Some(model) => model,
                none => none.insert(PromptModel::open(
                    clap,
                    Arc::new(ArcSwap::from_pointee(PromptSet::default())),
                )?),
            };
            let mut own = Vec::new();
            for file in &files {
                for embedding in embeddings(model, file)? {
                    own.push(set.margins(&embedding)[at]);
                }
            }
            let others: Vec<f32> = negatives.iter().map(|margins| margins[at]).collect();
            let text = match Calibration::fit(&own, &others) {
                Some(calibration) => {
                    calibrations.set(prompt, calibration);
                    rooms.calibrations = Some((sha256.clone(), calibrations.clone()));
                    format!(
                        "calibrated from {} windows of it and {} of the room",
                        own.len(),
                        others.len()
                    )
                }
                None => "not calibrated: it does not stand out from the room in these recordings"
                    .to_owned(),
            };
            let names: Vec<String> = files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            rooms.positives.push(PositiveRow {
                name: prompt.name.to_string(),
                file: names.join(", "),
                before: None,
                after: None,
                calibration: Some(text),
            });
        }
        Ok(set.calibrated(|prompt| calibrations.of(prompt)))
    }
}

/// Puts the scores of a stream in their place, with what its labels are to rules.
fn fill(
    heard: &mut Heard,
    stream: usize,
    info: &ModelInfo,
    kind: Kind,
    labels: Arc<[Arc<str>]>,
    thresholds: Arc<[Option<f32>]>,
    rows: Vec<Vec<f32>>,
) {
    heard.tracks.rescore(stream, &rows);
    if let Some(known) = heard.known.get_mut(stream) {
        *known = KnownModel {
            kind,
            name: info.name.clone(),
            labels,
            thresholds,
        };
    }
}

/// Embeddings of a recording: of the whole where it is short, of windows every half of one otherwise.
fn embeddings(model: &mut PromptModel, file: &Path) -> anyhow::Result<Vec<Vec<f32>>> {
    let info = crate::models::Classifier::info(model).clone();
    let rate_hz = info.input.rate_hz();
    let mut reader = FileReader::open_at(file, rate_hz)?;
    let mut pcm = Vec::new();
    while let Some(block) = reader.next_block()? {
        pcm.extend_from_slice(block);
    }
    if pcm.is_empty() {
        let text = format!("{}: there is no sound in it", file.display());
        return Err(AudioError::Decode(text).into());
    }
    let window = (info.window_frames * rate_hz as usize / 100).max(1);
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let to = (from + window).min(pcm.len());
        found.push(model.embedding(&pcm[from..to])?);
        if to == pcm.len() {
            return Ok(found);
        }
        from += (window / 2).max(1);
    }
}

impl Rooms {
    /// Writes everything into the data directory.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn save(&self) -> Result<Vec<RoomRow>, ModelError> {
        let data = Paths::current().data;
        let dir = data.join("room");
        if let Some((sha256, calibrations)) = &self.calibrations {
            calibrations.save(&data, sha256)?;
        }
        for room in &self.rooms {
            room.save(&dir)?;
        }
        Ok(self.rows(|room| Some(Room::path(&dir, &room.model_sha256))))
    }

    /// What is shown of the rooms.
    pub fn rows(&self, written: impl Fn(&Room) -> Option<PathBuf>) -> Vec<RoomRow> {
        self.rooms
            .iter()
            .map(|room| RoomRow {
                model: room.model.clone(),
                sha256: room.model_sha256.clone(),
                windows: room.windows,
                points: room.embeddings.len(),
                written: written(room),
            })
            .collect()
    }

    /// Tells of embedders that have heard no window.
    pub fn complain_of_none(&self, asked: &Asked) {
        for ear in &asked.ears {
            if self.rooms.iter().all(|room| *room.model != *ear.info.name) {
                out::complain(format_args!(
                    "{} has heard no whole window of the room; hear it longer",
                    ear.info.name
                ));
            }
        }
    }
}
