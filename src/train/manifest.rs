//! What a data set holds: the rows of a `manifest.csv`, or a folder of labelled folders.
//!
//! Reads names alone, never sound: [`super::check`] opens the clips. Two layouts are known:
//!
//! - `DIR/manifest.csv` with a header of at least `path` and `label` or `caption`; `split` (`train`, or
//!   `dev` under any of its usual names), `speaker`, `source`, `licence`, `duration_s`, `fold` and
//!   `audioset_labels` (`;` between display names) are read where they stand, further columns are passed
//!   over. Several captions of a clip stand in `caption_1` and so on, as in Clotho.
//! - `DIR/label/*.wav` (flac, ogg, mp3 as well), as GTZAN is kept: one clip in five is held out for
//!   dev, chosen by a hash of its name, so that a clip stays where it is when others are added.

use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

/// Extensions that the folder layout takes for sound.
const SOUND: [&str; 6] = ["wav", "flac", "ogg", "mp3", "m4a", "aiff"];

/// One clip in so many is held out where a data set says nothing about it.
const DEV_ONE_IN: u8 = 5;

/// What can be wrong with a data set; each text says which file, which line and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The folder or the manifest cannot be read.
    #[error("{path}: {reason}")]
    Read {
        /// What was opened.
        path: PathBuf,
        /// Why it cannot be read, and what to do.
        reason: String,
    },
    /// A row of the manifest makes no sense.
    #[error("{path}:{line}: {reason}")]
    Row {
        /// The manifest.
        path: PathBuf,
        /// Line of the row, from 1.
        line: u64,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The data set holds nothing that the work at hand could use.
    #[error("{path}: {reason}")]
    Empty {
        /// Folder of the data set.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Something in the data is broken, found by a check of the clips.
    #[error("{path}: {reason}")]
    Broken {
        /// Folder of the data set.
        path: PathBuf,
        /// How much of it, and of what kind.
        reason: String,
    },
}

/// What a clip is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// To learn from.
    Train,
    /// To measure on, never to learn from.
    Dev,
}

impl Split {
    /// The name in a manifest and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Dev => "dev",
        }
    }
}

impl std::str::FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "train" => Ok(Split::Train),
            "dev" | "test" | "valid" | "validation" | "eval" => Ok(Split::Dev),
            _ => Err(format!(
                "unknown split '{text}': expected train, dev, test or validation"
            )),
        }
    }
}

/// One clip with everything that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Path of the sound file, the root of the data set included.
    pub path: PathBuf,
    /// The same path as the data set names it, with `/`.
    pub name: String,
    /// First folder of `name` (`keywords`, `events`, ...); empty in the folder layout.
    pub set: String,
    /// The label.
    pub label: String,
    /// What it is for.
    pub split: Split,
    /// Who speaks, or which recording it was cut from; `None` where that is not known.
    pub speaker: Option<String>,
    /// Where it comes from.
    pub source: String,
    /// SPDX expression of its licence.
    pub licence: String,
    /// Length in seconds, 0 where the data set does not say.
    pub duration_s: f64,
    /// Fold of a cross-validation.
    pub fold: Option<u8>,
    /// AudioSet display names that hold for it, the most special first.
    pub audioset_labels: Vec<String>,
    /// Sentences that describe it; the label is the first of them where the data set has no label.
    pub captions: Vec<String>,
}

/// A data set: its root and its clips, in the order of the manifest (or of the names).
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Folder of the data set.
    pub root: PathBuf,
    /// Every clip.
    pub clips: Vec<Clip>,
}

impl Manifest {
    /// Reads `root/manifest.csv`, or the folders under `root` where there is none.
    ///
    /// # Errors
    /// When neither can be read, a row makes no sense, or there is no clip at all.
    pub fn open(root: &Path) -> Result<Manifest, DataError> {
        let table = root.join("manifest.csv");
        let clips = if table.is_file() {
            read_table(root, &table)?
        } else {
            read_folders(root)?
        };
        if clips.is_empty() {
            return Err(DataError::Empty {
                path: root.to_owned(),
                reason: "no clips: expected manifest.csv, or one folder of sound files a label"
                    .to_owned(),
            });
        }
        Ok(Manifest {
            root: root.to_owned(),
            clips,
        })
    }

    /// The clips of one set and split, in order.
    pub fn of<'a>(&'a self, set: &'a str, split: Split) -> impl Iterator<Item = &'a Clip> + 'a {
        self.clips
            .iter()
            .filter(move |clip| clip.set == set && clip.split == split)
    }
}

/// Column numbers of a manifest.
struct Columns {
    path: usize,
    label: Option<usize>,
    /// `caption`, `caption_1`, `caption_2` and so on, in the order of the header.
    captions: Vec<usize>,
    split: Option<usize>,
    source: Option<usize>,
    speaker: Option<usize>,
    licence: Option<usize>,
    duration_s: Option<usize>,
    fold: Option<usize>,
    audioset_labels: Option<usize>,
}

impl Columns {
    fn find(header: &csv::StringRecord) -> Result<Columns, String> {
        let column = |name: &str| header.iter().position(|cell| cell.trim() == name);
        let missing = |name: &str| format!("no column {name} in the header");
        let is_caption = |cell: &str| {
            cell.strip_prefix("caption").is_some_and(|rest| {
                rest.is_empty()
                    || rest
                        .strip_prefix('_')
                        .is_some_and(|n| n.parse::<u8>().is_ok())
            })
        };
        let captions: Vec<usize> = (0..header.len())
            .filter(|&at| header.get(at).is_some_and(|cell| is_caption(cell.trim())))
            .collect();
        let label = column("label");
        if label.is_none() && captions.is_empty() {
            return Err(missing("'label' or 'caption'"));
        }
        Ok(Columns {
            path: column("path").ok_or_else(|| missing("'path'"))?,
            label,
            captions,
            split: column("split"),
            source: column("source"),
            speaker: column("speaker"),
            licence: column("licence"),
            duration_s: column("duration_s"),
            fold: column("fold"),
            audioset_labels: column("audioset_labels"),
        })
    }
}

fn read_table(root: &Path, table: &Path) -> Result<Vec<Clip>, DataError> {
    let failed = |error: csv::Error| match error.position() {
        Some(at) => DataError::Row {
            path: table.to_owned(),
            line: at.line(),
            reason: error.to_string(),
        },
        None => DataError::Read {
            path: table.to_owned(),
            reason: error.to_string(),
        },
    };
    let mut reader = csv::Reader::from_path(table).map_err(failed)?;
    let bad = |line, reason| DataError::Row {
        path: table.to_owned(),
        line,
        reason,
    };
    let header = reader.headers().map_err(failed)?;
    let columns = Columns::find(header).map_err(|reason| bad(1, reason))?;
    let mut clips = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let line = record.position().map_or(0, csv::Position::line);
        clips.push(clip_of(root, &columns, &record).map_err(|reason| bad(line, reason))?);
    }
    Ok(clips)
}

fn clip_of(root: &Path, columns: &Columns, record: &csv::StringRecord) -> Result<Clip, String> {
    let cell = |column: Option<usize>| column.and_then(|at| record.get(at)).unwrap_or("").trim();
    let name = cell(Some(columns.path));
    let captions: Vec<String> = columns
        .captions
        .iter()
        .map(|&at| cell(Some(at)))
        .filter(|caption| !caption.is_empty())
        .map(str::to_owned)
        .collect();
    let label = match (cell(columns.label), captions.first()) {
        ("", Some(caption)) => caption,
        (label, _) => label,
    };
    if name.is_empty() || label.is_empty() {
        return Err(match columns.captions.is_empty() {
            true => "path and label must not be empty".to_owned(),
            false => "expected a path and a label or a caption, got none of one".to_owned(),
        });
    }
    let inside = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(format!(
            "path '{name}' leaves the data folder: give it relative to manifest.csv, without '..'"
        ));
    }
    let split = match cell(columns.split) {
        "" => split_by_name(name),
        text => text.parse()?,
    };
    let duration_s = match cell(columns.duration_s) {
        "" => 0.0,
        text => text
            .parse()
            .ok()
            .filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0)
            .ok_or_else(|| format!("duration_s '{text}' is not a number of seconds"))?,
    };
    let fold = match cell(columns.fold) {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| format!("fold '{text}' is not a number from 0 to 255"))?,
        ),
    };
    let speaker = cell(columns.speaker);
    Ok(Clip {
        path: root.join(name),
        name: name.to_owned(),
        set: match name.split_once('/') {
            Some((set, _)) => set.to_owned(),
            None => String::new(),
        },
        label: label.to_owned(),
        split,
        speaker: (!speaker.is_empty()).then(|| speaker.to_owned()),
        source: cell(columns.source).to_owned(),
        licence: cell(columns.licence).to_owned(),
        duration_s,
        fold,
        audioset_labels: cell(columns.audioset_labels)
            .split(';')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect(),
        captions,
    })
}

fn read_folders(root: &Path) -> Result<Vec<Clip>, DataError> {
    let mut clips = Vec::new();
    for folder in sorted_entries(root)? {
        if !folder.is_dir() {
            continue;
        }
        let label = file_name(&folder);
        for path in sorted_entries(&folder)? {
            let known = path.extension().is_some_and(|extension| {
                SOUND
                    .iter()
                    .any(|sound| extension.eq_ignore_ascii_case(sound))
            });
            if !known {
                continue;
            }
            let name = format!("{label}/{}", file_name(&path));
            clips.push(Clip {
                split: split_by_name(&name),
                path,
                name,
                set: String::new(),
                label: label.clone(),
                speaker: None,
                source: String::new(),
                licence: String::new(),
                duration_s: 0.0,
                fold: None,
                audioset_labels: Vec::new(),
                captions: Vec::new(),
            });
        }
    }
    Ok(clips)
}

fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |error: std::io::Error| DataError::Read {
        path: folder.to_owned(),
        reason: format!("{error}: expected a folder with manifest.csv, or one folder a label"),
    };
    let mut entries = std::fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<PathBuf>, std::io::Error>>()
        })
        .map_err(failed)?;
    entries.sort();
    Ok(entries)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The split of a clip of which nothing is said: by the first byte of SHA-256 of its name.
fn split_by_name(name: &str) -> Split {
    if Sha256::digest(name.as_bytes())[0].is_multiple_of(DEV_ONE_IN) {
        Split::Dev
    } else {
        Split::Train
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Manifest, DataError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("manifest.csv"), text).unwrap();
        Manifest::open(folder.path())
    }

    #[test]
    fn a_row_gives_everything_it_says() {
        let manifest = table(concat!(
            "path,label,split,source,speaker,licence,attribution,duration_s,fold,audioset_labels\n",
            "events/dog/a.flac,dog,dev,ESC,,CC0-1.0,\"x, y\",4.5,4,\"Bark;Domestic animals, pets\"\n",
            "b.wav,cat,train,,ann,,,,,\n",
        ))
        .unwrap();
        let dog = &manifest.clips[0];
        assert_eq!(
            (dog.set.as_str(), dog.split, dog.fold),
            ("events", Split::Dev, Some(4))
        );
        assert_eq!(dog.audioset_labels, ["Bark", "Domestic animals, pets"]);
        assert_eq!(
            (dog.duration_s, dog.licence.as_str(), &dog.speaker),
            (4.5, "CC0-1.0", &None)
        );
        assert!(dog.path.ends_with("events/dog/a.flac") && dog.path.starts_with(&manifest.root));
        let cat = &manifest.clips[1];
        assert_eq!(
            (cat.set.as_str(), cat.speaker.as_deref()),
            ("", Some("ann"))
        );
        assert_eq!(manifest.of("events", Split::Dev).count(), 1);
    }

    #[test]
    fn captions_stand_beside_labels_or_in_their_place() {
        let clotho = table("path,caption_1,caption_2,caption_language\na.wav,A dog barks.,,en\n");
        let clip = &clotho.unwrap().clips[0];
        assert_eq!(
            (clip.label.as_str(), &clip.captions[..]),
            ("A dog barks.", &["A dog barks.".to_owned()][..])
        );
        let both =
            table("path,label,caption\na.wav,dog,\nb.wav,dog,\"It barks, twice.\"\n").unwrap();
        assert!(both.clips[0].captions.is_empty());
        assert_eq!(both.clips[1].captions, ["It barks, twice."]);
        let error = table("path,caption\na.wav,\n").unwrap_err().to_string();
        assert!(
            error.contains("manifest.csv:2: expected a path and a label or a caption"),
            "{error}"
        );
        let error = table("path,title\na.wav,x\n").unwrap_err().to_string();
        assert!(error.contains("no column 'label' or 'caption'"), "{error}");
    }

    #[test]
    fn a_bad_row_is_named_by_file_and_line() {
        let check = |rows: &str, expected: &str| {
            let error = table(&format!("path,label,split,duration_s,fold\n{rows}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
            assert!(!error.contains('\n'));
        };
        check(
            "a,b,train,1,\nc,d,tset,1,\n",
            "manifest.csv:3: unknown split 'tset'",
        );
        check("a,,train,1,\n", "manifest.csv:2: path and label");
        check("../a,b,train,1,\n", "manifest.csv:2: path '../a' leaves");
        check("/etc/a,b,train,1,\n", "leaves the data folder");
        check("a,b,dev,NaN,\n", "duration_s 'NaN'");
        check("a,b,dev,-1,\n", "duration_s '-1'");
        check("a,b,dev,1,999\n", "fold '999'");
        check("a,b\n", "manifest.csv:2:");
        check("", "no clips");
        let error = table("label,split\n").unwrap_err().to_string();
        assert!(
            error.contains("manifest.csv:1: no column 'path'"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_of_folders_is_split_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for label in ["rock", "blues"] {
            std::fs::create_dir(folder.path().join(label)).unwrap();
            for number in 0..100 {
                let name = format!("{label}/{label}.{number:05}.WAV");
                std::fs::write(folder.path().join(name), b"").unwrap();
            }
        }
        std::fs::write(folder.path().join("rock/notes.txt"), b"").unwrap();
        let manifest = Manifest::open(folder.path()).unwrap();
        assert_eq!(manifest.clips.len(), 200);
        assert_eq!(manifest.clips[0].label, "blues");
        let dev = manifest.of("", Split::Dev).count();
        assert!((25..=60).contains(&dev), "{dev} of 200");
        assert_eq!(manifest, Manifest::open(folder.path()).unwrap());
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let error = Manifest::open(Path::new("/nonexistent/data")).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/data: "));
    }

    #[test]
    fn the_visible_data_reads() {
        let root = std::env::var_os("HARKD_DATA").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
            PathBuf::from,
        );
        if !root.is_dir() {
            println!("skipped: {} is not there", root.display());
            return;
        }
        let manifest = Manifest::open(&root).unwrap();
        assert_eq!(manifest.clips.len(), 5585);
        assert_eq!(manifest.of("keywords", Split::Dev).count(), 466);
    }
}
