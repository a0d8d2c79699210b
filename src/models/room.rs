//! What the room itself sounds like to an embedder: points of its background, never sound.
//!
//! `hark calibrate` hears the room while nothing happens in it. The embeddings of those windows are
//! kept, a bounded sample of them, so that prompts and taught sounds know what the room reaches by
//! itself. A file a model: `ROOM/<sha256 of its weights>.safetensors` with the tensor `embeddings`
//! `(points, dim)` and a card in the header entry `harkd_room`. Hearing is no matter of this file, and
//! neither is what is made of the points.
//!
//! The sample is uniform over everything heard: algorithm R of J. S. Vitter, *Random Sampling with a
//! Reservoir*, ACM TOMS 11(1), 1985.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::config::replace;

/// Points that are kept of a room: their 99.5th percentile still rests on more than one of them, and
/// 512 points of 512 values are a megabyte.
pub const MAX_POINTS: usize = 512;

/// The entry of the header that holds the card.
const CARD: &str = "harkd_room";
/// The only tensor.
const POINTS: &str = "embeddings";
/// Larger files are no rooms: [`MAX_POINTS`] points of 16384 values.
const MAX_BYTES: u64 = 32 << 20;

/// A room as one embedder knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// Registry name or directory of the model.
    pub model: String,
    /// SHA-256 of its weights, lower-case hexadecimal.
    pub model_sha256: String,
    /// Points of one length, at most [`MAX_POINTS`]: a uniform sample of the windows heard.
    pub embeddings: Vec<Vec<f32>>,
    /// How long the room was heard.
    pub minutes: f64,
    /// Windows that the points are a sample of.
    pub windows: u64,
    /// Length of a window in seconds.
    pub window_s: f64,
    /// Distance between windows in seconds.
    pub hop_s: f64,
    /// When it was heard.
    pub when: SystemTime,
}

/// What a file says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    model: String,
    sha256: String,
    minutes: f64,
    windows: u64,
    window_s: f64,
    hop_s: f64,
    /// RFC 3339 in UTC.
    heard: String,
}

impl Room {
    /// Where the room of the model with this digest lies in the folder of rooms.
    pub fn path(dir: &Path, sha256: &str) -> PathBuf {
        dir.join(format!("{sha256}.safetensors"))
    }

    /// Reads what is known of the room; `None` where nobody has listened to it with this model.
    ///
    /// # Errors
    /// When `sha256` is no digest, or the file cannot be read, is damaged, or belongs to another model;
    /// the text names the file, and what to do.
    pub fn load(dir: &Path, sha256: &str) -> Result<Option<Room>, ModelError> {
        let path = Self::path(dir, checked(sha256)?);
        let name = path.display().to_string();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ModelError::Read(format!("{name}: {error}"))),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ModelError::Read(format!("{name}: {error}")))?;
        let room = Room::from_bytes(&bytes).and_then(|room| match room.model_sha256 == sha256 {
            true => Ok(room),
            false => Err(format!(
                "it is of the model {} ({}), expected {sha256}",
                room.model, room.model_sha256
            )),
        });
        room.map(Some).map_err(|what| {
            ModelError::Format(format!(
                "{name}: {what}; remove it, or make it anew with 'hark calibrate'"
            ))
        })
    }

    /// Writes the room into the folder of rooms, whole or not at all.
    ///
    /// # Errors
    /// When its digest is none, its points are none, too many, of several lengths or not finite, or the
    /// disk refuses; an older file stays as it was.
    pub fn save(&self, dir: &Path) -> Result<(), ModelError> {
        let path = Self::path(dir, checked(&self.model_sha256)?);
        let name = path.display().to_string();
        let bytes = self
            .to_bytes()
            .map_err(|what| ModelError::Format(format!("{name}: {what}")))?;
        replace(&path, &bytes).map_err(|error| ModelError::Read(format!("{name}: {error}")))
    }

    fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let dim = self.embeddings.first().map_or(0, Vec::len);
        self.check()?;
        let card = Card {
            model: self.model.clone(),
            sha256: self.model_sha256.clone(),
            minutes: self.minutes,
            windows: self.windows,
            window_s: self.window_s,
            hop_s: self.hop_s,
            heard: jiff::Timestamp::try_from(self.when)
                .map_err(|error| format!("when it was heard: {error}"))?
                .to_string(),
        };
        let card = serde_json::to_string(&card).map_err(|error| error.to_string())?;
        let values: Vec<u8> = self
            .embeddings
            .iter()
            .flatten()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let shape = vec![self.embeddings.len(), dim];
        TensorView::new(Dtype::F32, shape, &values)
            .and_then(|view| {
                let header = HashMap::from([(CARD.to_owned(), card)]);
                safetensors::serialize([(POINTS, view)], Some(header))
            })
            .map_err(|error| error.to_string())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Room, String> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(format!("it is larger than {} MiB", MAX_BYTES >> 20));
        }
        let damaged = |error| format!("not a whole safetensors file ({error})");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let text = header
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(CARD))
            .ok_or_else(|| format!("the header has no '{CARD}' entry, so it is no room"))?;
        let card: Card = serde_json::from_str(text)
            .map_err(|error| format!("header entry '{CARD}': {error}"))?;
        let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let points = file
            .tensor(POINTS)
            .map_err(|_| format!("{POINTS}: expected a tensor, got none of that name"))?;
        let (shape, dtype) = (points.shape(), points.dtype());
        let dim = match shape {
            [points, dim] if points * dim > 0 && dtype == Dtype::F32 => *dim,
            _ => {
                return Err(format!(
                    "{POINTS}: expected F32 (points, dim), got {dtype:?} {shape:?}"
                ));
            }
        };
        let values: Vec<f32> = points
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let when: jiff::Timestamp = card
            .heard
            .parse()
            .map_err(|error| format!("header entry '{CARD}', heard: {error}"))?;
        let room = Room {
            model: card.model,
            model_sha256: card.sha256,
            embeddings: values.chunks_exact(dim).map(<[f32]>::to_vec).collect(),
            minutes: card.minutes,
            windows: card.windows,
            window_s: card.window_s,
            hop_s: card.hop_s,
            when: when.into(),
        };
        room.check()?;
        Ok(room)
    }

    /// What a room must be for others to reckon with it.
    fn check(&self) -> Result<(), String> {
        let count = self.embeddings.len();
        if !(1..=MAX_POINTS).contains(&count) {
            return Err(format!(
                "{POINTS}: expected 1 to {MAX_POINTS} points, got {count}"
            ));
        }
        let dim = self.embeddings[0].len();
        if let Some(odd) = self.embeddings.iter().find(|point| point.len() != dim) {
            let got = odd.len();
            return Err(format!(
                "{POINTS}: expected {dim} values a point, got {got}"
            ));
        }
        let mut values = self.embeddings.iter().flatten();
        if dim == 0 || values.any(|value| !value.is_finite()) {
            return Err(format!(
                "{POINTS}: expected finite values, got none, NaN or infinity"
            ));
        }
        for (key, value) in [
            ("minutes", self.minutes),
            ("window_s", self.window_s),
            ("hop_s", self.hop_s),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(format!("{key}: expected a length of time, got {value}"));
            }
        }
        Ok(())
    }
}

/// The digest, where it is one: it becomes the name of a file.
fn checked(sha256: &str) -> Result<&str, ModelError> {
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if sha256.len() == 64 && sha256.chars().all(is_digit) {
        return Ok(sha256);
    }
    Err(ModelError::Unknown(format!(
        "the digest of a model is 64 hexadecimal digits in lower case, got '{}'",
        sha256.escape_default()
    )))
}

/// A uniform sample of what passes by, of bounded size.
#[derive(Debug)]
pub struct Reservoir {
    points: Vec<Vec<f32>>,
    most: usize,
    seen: u64,
    rng: fastrand::Rng,
}

impl Reservoir {
    /// An empty sample of at most `most` points; `seed` settles which.
    pub fn new(most: usize, seed: u64) -> Self {
        Reservoir {
            points: Vec::new(),
            most,
            seen: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes a point. After `n` of them each is in the sample with probability `most / n`.
    pub fn push(&mut self, point: &[f32]) {
        self.seen += 1;
        if self.points.len() < self.most {
            self.points.push(point.to_vec());
            return;
        }
        let at = usize::try_from(self.rng.u64(..self.seen)).unwrap_or(usize::MAX);
        if let Some(slot) = self.points.get_mut(at) {
            slot.clear();
            slot.extend_from_slice(point);
        }
    }

    /// Points that passed by so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The sample.
    pub fn into_points(self) -> Vec<Vec<f32>> {
        self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    const SHA: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn room() -> Room {
        Room {
            model: "hark-event".into(),
            model_sha256: SHA.into(),
            embeddings: vec![vec![0.5, -1.0, 3e-8], vec![0.0, 1.0, -0.25]],
            minutes: 10.5,
            windows: 1200,
            window_s: 1.0,
            hop_s: 0.5,
            when: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250),
        }
    }

    #[test]
    fn a_room_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("hark/room");
        assert_eq!(Room::load(&below, SHA).unwrap(), None);
        room().save(&below).unwrap();
        assert_eq!(Room::load(&below, SHA).unwrap(), Some(room()));
        let later = Room {
            minutes: 20.0,
            ..room()
        };
        later.save(&below).unwrap();
        assert_eq!(Room::load(&below, SHA).unwrap(), Some(later));
        assert_eq!(fs::read_dir(&below).unwrap().count(), 1);
    }

    #[test]
    fn a_cut_or_flipped_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        room().save(dir.path()).unwrap();
        let path = Room::path(dir.path(), SHA);
        let good = fs::read(&path).unwrap();
        for cut in [0, 1, 7, 8, 60, good.len() - 1] {
            fs::write(&path, &good[..cut]).unwrap();
            let error = Room::load(dir.path(), SHA).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(error.contains("hark calibrate"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        // Whatever byte is wrong, it is read or refused, and never a panic.
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..2000 {
            let mut bytes = good.clone();
            bytes[rng.usize(..good.len())] = rng.u8(..);
            drop(Room::from_bytes(&bytes));
        }
    }

    #[test]
    fn a_file_of_another_kind_or_model_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = Room::path(dir.path(), SHA);
        let check = |bytes: &[u8], expected: &str| {
            fs::write(&path, bytes).unwrap();
            let error = Room::load(dir.path(), SHA).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let values = 1.0f32.to_le_bytes();
        let view = TensorView::new(Dtype::F32, vec![1, 1], &values).unwrap();
        let none = safetensors::serialize([(POINTS, view)], None::<HashMap<_, _>>).unwrap();
        check(&none, "harkd_room");
        let other = Room {
            model_sha256: SHA.replace('0', "f"),
            ..room()
        };
        check(&other.to_bytes().unwrap(), "it is of the model hark-event");
        let nan = {
            let mut bytes = room().to_bytes().unwrap();
            let last = bytes.len() - 4;
            bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
            bytes
        };
        check(&nan, "finite");
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff", "safetensors");
    }

    #[test]
    fn what_is_no_room_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let check = |change: &dyn Fn(&mut Room), expected: &str| {
            let mut room = room();
            change(&mut room);
            let error = room.save(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&|room| room.embeddings.clear(), "1 to 512 points, got 0");
        check(
            &|room| room.embeddings = vec![vec![1.0]; MAX_POINTS + 1],
            "got 513",
        );
        check(
            &|room| room.embeddings[1].truncate(2),
            "3 values a point, got 2",
        );
        check(&|room| room.embeddings[1][0] = f32::NAN, "finite");
        check(&|room| room.minutes = 0.0, "minutes");
        check(&|room| room.hop_s = f64::NAN, "hop_s");
        check(
            &|room| room.model_sha256 = "../../x".into(),
            "64 hexadecimal",
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        Room::load(dir.path(), "../../etc/passwd").unwrap_err();
        Room::load(dir.path(), &"0".repeat(63)).unwrap_err();
    }

    #[test]
    fn the_reservoir_is_a_fair_sample_of_bounded_size() {
        let mut few = Reservoir::new(8, 1);
        for n in 0..5u8 {
            few.push(&[f32::from(n)]);
        }
        assert_eq!(few.into_points().len(), 5);
        // Of 64 points each should stand in a sample of 16 in a quarter of the draws.
        let mut kept = [0u32; 64];
        for seed in 0..4000 {
            let mut sample = Reservoir::new(16, seed);
            for n in 0..64u8 {
                sample.push(&[f32::from(n)]);
            }
            assert_eq!(sample.seen(), 64);
            let points = sample.into_points();
            assert_eq!(points.len(), 16);
            for point in points {
                kept[point[0] as usize] += 1;
            }
        }
        // 1000 expected, standard deviation 27: six of them.
        assert!(kept.iter().all(|&n| (836..=1164).contains(&n)), "{kept:?}");
    }
}
