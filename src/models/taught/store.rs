//! The folder of taught sounds: `taught/<slug>/sound.safetensors` with the numbers and `card.json` with
//! what is known of them. Nothing of the examples themselves is kept.
//!
//! A sound is written into a folder beside its place and put there by one rename, so that a loss of
//! power leaves the old one or the new one. An entry that is damaged is reported and set aside when the
//! folder is listed; the others go on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::TeachError;
use super::card::{Card, VERSION};
use super::form::Form;
use super::sound::TaughtSound;
use crate::config::paths::Paths;
use crate::config::prompt::{brief, check_name};
use crate::config::replace;
use crate::models::verify::hex;

/// The numbers of a sound.
const NUMBERS: &str = "sound.safetensors";
/// What is known of it.
const CARD: &str = "card.json";
/// Larger files are none of ours: 128 axes of 4096 values are 2 MB.
const MAX_BYTES: u64 = 16 << 20;
/// The end of the name of an entry that was set aside.
const ASIDE: &str = "damaged";
/// Letters of a name in the name of its folder.
const SLUG_CHARS: usize = 40;

/// The folder of taught sounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store(PathBuf);

/// An entry of the folder that is not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong, where, and what to do.
    pub text: String,
}

/// What the folder holds.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The sounds, in the order of their names.
    pub sounds: Vec<TaughtSound>,
    /// What is damaged.
    pub faults: Vec<Fault>,
}

impl Store {
    /// The store in a folder, which need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Store(dir.into())
    }

    /// The store of this user.
    pub fn current() -> Self {
        Store::new(Paths::current().data.join("taught"))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Every sound, and what is damaged, which is set aside.
    ///
    /// # Errors
    /// When the folder cannot be read; one that is not there holds nothing.
    pub fn list(&self) -> Result<Listing, TeachError> {
        let mut listing = Listing::default();
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
            Err(error) => return Err(disk(&self.0, &error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| disk(&self.0, &error))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy());
            let is_ours = name.is_some_and(|name| {
                !name.starts_with('.') && !name.ends_with(&format!(".{ASIDE}"))
            });
            if !is_ours || !path.is_dir() {
                continue;
            }
            match read(&path) {
                Ok(sound) => listing.sounds.push(sound),
                Err(text) => listing.faults.push(set_aside(path, &text)),
            }
        }
        listing.sounds.sort_by(|a, b| a.name.cmp(&b.name));
        listing.faults.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    /// The sound of a name.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn load(&self, name: &str) -> Result<TaughtSound, TeachError> {
        let path = self.place(name);
        if !path.is_dir() {
            return Err(self.unknown(name));
        }
        read(&path).map_err(|text| TeachError::Disk(format!("{}: {text}", path.display())))
    }

    /// Whether a name is free, or may be replaced.
    ///
    /// # Errors
    /// When it is taken.
    pub fn check_free(&self, name: &str, replace: bool) -> Result<(), TeachError> {
        match !replace && self.place(name).exists() {
            true => Err(TeachError::Name(format!(
                "a sound '{}' was taught already; use another name, or --replace",
                brief(name)
            ))),
            false => Ok(()),
        }
    }

    /// Keeps a sound.
    ///
    /// # Errors
    /// When its name is taken and not to be replaced, or the disk refuses; the store is then as it was.
    pub fn save(&self, sound: &TaughtSound, replace: bool) -> Result<(), TeachError> {
        check_name(&sound.name, "sound").map_err(TeachError::Name)?;
        self.check_free(&sound.name, replace)?;
        let to = self.place(&sound.name);
        write(&self.0, &to, sound).map_err(|error| disk(&to, &error))
    }

    /// Forgets a sound.
    ///
    /// # Errors
    /// When there is none of that name, or the disk refuses.
    pub fn remove(&self, name: &str) -> Result<(), TeachError> {
        let path = self.place(name);
        if !path.is_dir() {
            return Err(self.unknown(name));
        }
        // Out of the way at once, so that nobody reads half of it.
        let gone = self.hidden("removed", &path);
        fs::rename(&path, &gone)
            .and_then(|()| fs::remove_dir_all(&gone))
            .map_err(|error| disk(&path, &error))
    }

    /// Copies a sound into the folder `to`, as a folder of its own, and says where it is.
    ///
    /// # Errors
    /// When there is none of that name, something is in the way there, or the disk refuses.
    pub fn export(&self, name: &str, to: &Path) -> Result<PathBuf, TeachError> {
        let sound = self.load(name)?;
        let path = to.join(slug(name));
        if path.exists() {
            return Err(TeachError::Disk(format!(
                "{}: it is there already; remove it, or export to another folder",
                path.display()
            )));
        }
        write(to, &path, &sound).map_err(|error| disk(&path, &error))?;
        Ok(path)
    }

    /// Keeps a sound that was exported to the folder `from`.
    ///
    /// # Errors
    /// When there is no whole one, or as [`Store::save`].
    pub fn import(&self, from: &Path, replace: bool) -> Result<TaughtSound, TeachError> {
        let sound =
            read(from).map_err(|text| TeachError::Disk(format!("{}: {text}", from.display())))?;
        self.save(&sound, replace)?;
        Ok(sound)
    }

    /// Where the sound of a name is kept.
    fn place(&self, name: &str) -> PathBuf {
        self.0.join(slug(name))
    }

    fn hidden(&self, what: &str, path: &Path) -> PathBuf {
        hidden(&self.0, what, path)
    }

    fn unknown(&self, name: &str) -> TeachError {
        TeachError::Unknown(format!(
            "no sound '{}' was taught; 'hark taught list' shows what was",
            brief(name)
        ))
    }
}

/// A name beside `path` that no other process writes to.
fn hidden(dir: &Path, what: &str, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    dir.join(format!(".{name}.{}.{what}", std::process::id()))
}

/// The name of the folder of a sound: its letters and digits, and a few digits of the checksum of the
/// name, so that no two names share a folder.
fn slug(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_lowercase(),
            false => '-',
        })
        .take(SLUG_CHARS)
        .collect();
    let digest = hex(&Sha256::digest(name.as_bytes()));
    format!("{}-{}", plain.trim_matches('-'), &digest[..8])
}

fn disk(path: &Path, error: &io::Error) -> TeachError {
    TeachError::Disk(format!("{}: {error}", path.display()))
}

/// Puts a damaged entry out of the way, so that its name is free, and says so.
fn set_aside(path: PathBuf, text: &str) -> Fault {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{ASIDE}"));
    let aside = path.with_file_name(name);
    let moved = fs::rename(&path, &aside).is_ok();
    let (path, what) = match moved {
        true => (aside, "set aside; teach the sound again"),
        false => (path, "remove it, and teach the sound again"),
    };
    Fault {
        text: format!("{}: {text}: {what}", path.display()),
        path,
    }
}

/// Writes a sound to the folder `to`, which is in `dir`, whole or not at all.
fn write(dir: &Path, to: &Path, sound: &TaughtSound) -> io::Result<()> {
    let partial = hidden(dir, "partial", to);
    let written = write_files(&partial, sound).and_then(|()| {
        // A folder takes the place of an empty one alone.
        let old = hidden(dir, "old", to);
        let had = to.exists();
        if had {
            fs::rename(to, &old)?;
        }
        fs::rename(&partial, to)?;
        if had {
            fs::remove_dir_all(&old)?;
        }
        fs::File::open(dir)?.sync_all()
    });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

fn write_files(dir: &Path, sound: &TaughtSound) -> io::Result<()> {
    let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let card = serde_json::to_string_pretty(&sound.card).map_err(|e| wrong(e.to_string()))?;
    let numbers = sound.form.to_bytes().map_err(wrong)?;
    fs::create_dir_all(dir)?;
    replace(&dir.join(NUMBERS), &numbers)?;
    replace(&dir.join(CARD), format!("{card}\n").as_bytes())
}

/// Reads the sound of a folder.
fn read(dir: &Path) -> Result<TaughtSound, String> {
    let bytes = |name: &str| -> Result<Vec<u8>, String> {
        let path = dir.join(name);
        let size = fs::metadata(&path).map_err(|error| format!("{name}: {error}"))?;
        if size.len() > MAX_BYTES {
            return Err(format!("{name}: {} bytes are too many", size.len()));
        }
        fs::read(&path).map_err(|error| format!("{name}: {error}"))
    };
    let card: Card =
        serde_json::from_slice(&bytes(CARD)?).map_err(|error| format!("{CARD}: {error}"))?;
    if card.version != VERSION {
        return Err(format!(
            "{CARD}: version: expected {VERSION}, got {}",
            card.version
        ));
    }
    check_name(&card.name, "sound").map_err(|error| format!("{CARD}: {error}"))?;
    Ok(TaughtSound {
        name: card.name.as_str().into(),
        kind: card
            .kind
            .parse()
            .map_err(|error| format!("{CARD}: kind: {error}"))?,
        form: Form::from_bytes(&bytes(NUMBERS)?).map_err(|error| format!("{NUMBERS}: {error}"))?,
        card,
    })
}

#[cfg(test)]
mod tests {
    use super::super::card::Example;
    use super::*;
    use crate::command::TaughtKind;

    fn sound(name: &str) -> TaughtSound {
        TaughtSound {
            name: name.into(),
            kind: TaughtKind::Sound,
            card: Card {
                version: VERSION,
                name: name.to_owned(),
                kind: "sound".to_owned(),
                embedder: "hark-event".to_owned(),
                embedder_sha256: "ab".to_owned(),
                window_frames: 100,
                hop_frames: 50,
                examples: vec![Example {
                    name: "a.wav".to_owned(),
                    seconds: 1.0,
                    left_out_score: 0.75,
                }],
                target_fa_per_hour: 1.0,
                expected_fa_per_hour: 1.0,
                expected_recall: 1.0,
                background_hours: 1.5,
                background: "clips".to_owned(),
                room: false,
                warnings: Vec::new(),
                taught: "2026-01-01T00:00:00Z".to_owned(),
            },
            form: Form {
                mean: vec![1.0, 2.0, 3.0],
                axes: vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.5],
                direction: vec![0.6, 0.8],
                threshold: 2.0,
                slope: 1.5,
            },
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("taught"));
        (dir, store)
    }

    fn names(listing: &Listing) -> Vec<&str> {
        listing.sounds.iter().map(|sound| &*sound.name).collect()
    }

    #[test]
    fn what_is_kept_is_read_back_listed_replaced_and_forgotten() {
        let (_dir, store) = store();
        assert!(store.list().unwrap().sounds.is_empty());
        for name in ["my doorbell", "Ünï \u{1f514}", "My Doorbell"] {
            store.save(&sound(name), false).unwrap();
        }
        assert_eq!(
            names(&store.list().unwrap()),
            ["My Doorbell", "my doorbell", "Ünï \u{1f514}"]
        );
        assert_eq!(store.load("my doorbell").unwrap(), sound("my doorbell"));
        let mut other = sound("my doorbell");
        let taken = store.save(&other, false).unwrap_err().to_string();
        assert!(taken.contains("--replace"), "{taken}");
        other.form.threshold = 3.0;
        store.save(&other, true).unwrap();
        assert_eq!(store.load("my doorbell").unwrap(), other);
        store.remove("my doorbell").unwrap();
        assert_eq!(store.list().unwrap().sounds.len(), 2);
        let gone = store.remove("my doorbell").unwrap_err();
        assert!(gone.to_string().contains("hark taught list"), "{gone}");
        let left = fs::read_dir(store.dir()).unwrap().count();
        assert_eq!(left, 2, "something was left behind");
    }

    #[test]
    fn a_damaged_sound_is_set_aside_and_the_others_go_on() {
        let (_dir, store) = store();
        store.save(&sound("whole"), false).unwrap();
        for (name, file, content) in [
            ("no card", CARD, &b"{"[..]),
            ("cut", NUMBERS, b"12345678"),
            ("later", CARD, b"{\"version\": 2}"),
        ] {
            store.save(&sound(name), false).unwrap();
            fs::write(store.place(name).join(file), content).unwrap();
        }
        let listing = store.list().unwrap();
        assert_eq!(names(&listing), ["whole"]);
        assert_eq!(listing.faults.len(), 3);
        for fault in &listing.faults {
            assert!(fault.text.contains("set aside"), "{}", fault.text);
            assert!(fault.path.is_dir());
        }
        let again = store.list().unwrap();
        assert!(again.faults.is_empty());
        store.save(&sound("cut"), false).unwrap();
    }

    #[test]
    fn a_sound_goes_from_one_store_to_another() {
        let ((dir, store), (_other_dir, other)) = (store(), store());
        store.save(&sound("kettle"), false).unwrap();
        let out = dir.path().join("out");
        let path = store.export("kettle", &out).unwrap();
        assert!(store.export("kettle", &out).is_err());
        let taken = other.import(&path, false).unwrap();
        assert_eq!(taken, sound("kettle"));
        assert_eq!(other.load("kettle").unwrap(), taken);
        assert!(other.import(&path, false).is_err());
        assert!(other.import(dir.path(), true).is_err());
    }

    #[test]
    fn names_that_a_path_or_a_terminal_would_obey_stay_harmless() {
        let (dir, store) = store();
        store.save(&sound("../../etc/x"), false).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(matches!(
            store.save(&sound("a\u{7}b"), false),
            Err(TeachError::Name(_))
        ));
        assert!(matches!(
            store.save(&sound(""), false),
            Err(TeachError::Name(_))
        ));
    }
}
