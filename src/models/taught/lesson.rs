//! The whole way from files to the store, for the command line and the daemon alike.

use std::path::{Path, PathBuf};

use super::clip::Clip;
use super::enrol::{Enrolled, Enrolment, check_count, enrol};
use super::store::Store;
use super::{TaughtKind, TeachError, embedder_for};
use crate::config::prompt::check_name;
use crate::models::room::Room;

/// What is to be taught.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// Its name, the label of its events.
    pub name: String,
    /// Sound or word.
    pub kind: TaughtKind,
    /// False accepts an hour that the threshold is set for.
    pub target_fa_per_hour: f64,
    /// Whether a sound of that name that was taught before is replaced.
    pub replace: bool,
}

/// Learns what `lesson` says from files and keeps it in `store`; `rooms` is the folder of rooms.
///
/// # Errors
/// When the name will not do or is taken, an example will not do, or the disk refuses; the store is
/// then as it was.
pub fn teach(
    lesson: &Lesson,
    files: &[PathBuf],
    store: &Store,
    rooms: &Path,
) -> Result<Enrolled, TeachError> {
    // What can be said without decoding hours of sound is said first.
    check_name(&lesson.name, "sound").map_err(TeachError::Name)?;
    store.check_free(&lesson.name, lesson.replace)?;
    check_count(files.len())?;
    let clips = files
        .iter()
        .map(|file| Clip::open(file))
        .collect::<Result<Vec<_>, _>>()?;
    teach_clips(lesson, &clips, store, rooms)
}

/// The same from examples in memory.
///
/// # Errors
/// As [`teach`].
pub fn teach_clips(
    lesson: &Lesson,
    clips: &[Clip],
    store: &Store,
    rooms: &Path,
) -> Result<Enrolled, TeachError> {
    store.check_free(&lesson.name, lesson.replace)?;
    let mut embedder = embedder_for(lesson.kind)?;
    let sha256 = embedder.info().sha256.clone();
    let room = Room::load(rooms, &sha256)?;
    let mut known = store.list()?.sounds;
    known.retain(|sound| *sound.card.embedder_sha256 == *sha256);
    let enrolment = Enrolment {
        name: &lesson.name,
        kind: lesson.kind,
        clips,
        target_fa_per_hour: lesson.target_fa_per_hour,
        background: None,
        room: room.as_ref(),
        known: &known,
    };
    let enrolled = enrol(&enrolment, &mut *embedder)?;
    store.save(&enrolled.sound, lesson.replace)?;
    Ok(enrolled)
}
