//! Files of `torch.save`: `pytorch_model.bin`, `.pt`, `.pth`, `.ckpt`.
//!
//! Both formats of torch 2.15 (`torch/serialization.py`) are read: the zip archive (since torch 1.6),
//! and the one before, a row of pickles with the storages behind them. Tensors are used where they
//! lie in the mapped file. Dicts inside dicts become one tree of names with dots between the parts;
//! whatever is no tensor is left out.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Fault, Pickle, Value};
use super::{Stored, Tensors, open, wrong};
use crate::nn::weights::WeightsError;

/// How the legacy format begins: a pickle of its magic number, 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// How a zip archive begins.
const ZIP: &[u8] = b"PK\x03\x04";
/// The most values that are looked at; shared dicts can stand for more than the file has bytes.
const MAX_VALUES: usize = 1 << 18;
/// The longest name of a tensor, in bytes.
const MAX_KEY: usize = 1024;
/// The most dicts inside each other.
const MAX_DEPTH: usize = 16;

/// Where each storage lies in the file.
type Places<'a> = HashMap<&'a str, Range<usize>>;

/// Whether a file of this name and these first bytes is one of ours.
pub(super) fn is(name: &str, start: &[u8]) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default();
    ["bin", "pt", "pth", "ckpt"].iter().any(|e| extension == *e)
        || start.starts_with(ZIP)
        || start.starts_with(MAGIC)
}

/// The tensors of one file.
pub(super) fn read(path: &Path) -> Result<Tensors, WeightsError> {
    let file = open(path)?;
    let tensors =
        if file.starts_with(ZIP) {
            read_zip(&file)
        } else if file.starts_with(MAGIC) {
            read_legacy(&file)
        } else {
            Err("expected a file of torch.save, got neither its zip archive nor its legacy format; \
             fetch it again"
            .to_owned())
        };
    tensors.map_err(|what| wrong(&path.display().to_string(), what))
}

/// The zip archive: `NAME/data.pkl` and `NAME/data/KEY` for every storage.
fn read_zip(file: &Arc<Mmap>) -> Result<Tensors, String> {
    let broken = |error: zip::result::ZipError| format!("not a whole archive ({error})");
    let mut archive = ZipArchive::new(Cursor::new(&file[..])).map_err(broken)?;
    let mut entries = HashMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(format!(
                "{name}: expected values as they are, got a compressed or encrypted entry"
            ));
        }
        let place = entry
            .data_start()
            .and_then(|start| part(file, start, entry.size()))
            .ok_or_else(|| format!("{name}: reaches beyond the end of the file"))?;
        entries.insert(name, place);
    }
    let Some((root, pickle)) = entries
        .iter()
        .find_map(|(name, place)| Some((name.strip_suffix("data.pkl")?, place)))
    else {
        return Err("expected an entry data.pkl, got none".to_owned());
    };
    if let Some(order) = entries.get(&format!("{root}byteorder"))
        && &file[order.clone()] != b"little"
    {
        return Err("byteorder: expected little, got another".to_owned());
    }
    let storages = format!("{root}data/");
    let places = entries
        .iter()
        .filter_map(|(name, place)| Some((name.strip_prefix(&storages)?, place.clone())))
        .collect();
    if pickle.len() > pickle::MAX_BYTES {
        return Err(format!(
            "data.pkl: expected at most {} bytes, got {}",
            pickle::MAX_BYTES,
            pickle.len()
        ));
    }
    let pickle = pickle::read(&file[pickle.clone()]).map_err(|fault| at("data.pkl", 0, &fault))?;
    collect(&pickle, &places, file)
}

/// The legacy format: pickles of a magic number, a version, the machine, the object and the keys of
/// its storages, then each storage with its length before it.
fn read_legacy(file: &Arc<Mmap>) -> Result<Tensors, String> {
    let mut start = MAGIC.len();
    let mut next = |name: &str| {
        let read = pickle::read(&file[start..]).map_err(|fault| at(name, start, &fault))?;
        start += read.length;
        Ok::<_, String>(read)
    };
    match next("version")?.root {
        Some(Value::Int(1001)) => {}
        other => return Err(format!("version: expected 1001, got {other:?}")),
    }
    let machine = next("machine")?;
    let big_endian = [Value::Text("little_endian"), Value::Bool(false)];
    if machine
        .sequences
        .iter()
        .any(|s| s.windows(2).any(|w| w == big_endian))
    {
        return Err("machine: expected a little-endian one".to_owned());
    }
    let object = next("object")?;
    let keys = next("storages")?;
    let Some(Value::List(keys_at)) = keys.root else {
        return Err(format!("storages: expected a list, got {:?}", keys.root));
    };
    let widths: HashMap<&str, usize> = object
        .storages
        .iter()
        .map(|storage| (storage.key, storage.dtype.width()))
        .collect();
    let mut places = Places::new();
    for key in &keys.sequences[keys_at] {
        let known = match key {
            Value::Text(key) => widths.get_key_value(key),
            _ => None,
        };
        let Some((&key, width)) = known else {
            return Err(format!("storages: expected a key of a tensor, got {key:?}"));
        };
        let bytes = file
            .get(start..)
            .and_then(|rest| rest.first_chunk::<8>())
            .and_then(|count| u64::from_le_bytes(*count).checked_mul(*width as u64))
            .and_then(|bytes| part(file, start as u64 + 8, bytes))
            .ok_or_else(|| format!("storage {key}: reaches beyond the end of the file"))?;
        start = bytes.end;
        places.insert(key, bytes);
    }
    collect(&object, &places, file)
}

/// `length` bytes from `start`, where the file has them.
fn part(file: &[u8], start: u64, length: u64) -> Option<Range<usize>> {
    let end = usize::try_from(start.checked_add(length)?).ok()?;
    (end <= file.len()).then_some(start as usize..end)
}

fn at(name: &str, start: usize, fault: &Fault) -> String {
    format!("{name} at byte {}: {}", start + fault.at, fault.what)
}

/// Every tensor of a dict and of the dicts in it.
fn collect(pickle: &Pickle<'_>, places: &Places<'_>, file: &Arc<Mmap>) -> Result<Tensors, String> {
    let Some(Value::Dict(root)) = pickle.root else {
        return Err(format!("expected a dict of tensors, got {:?}", pickle.root));
    };
    let mut tensors = Tensors::new();
    let mut open = vec![(String::new(), root, 0)];
    let mut seen = 0;
    while let Some((prefix, dict, depth)) = open.pop() {
        for pair in pickle.sequences[dict].chunks_exact(2) {
            seen += 1;
            let key = match pair[0] {
                Value::Text(text) => format!("{prefix}{text}"),
                Value::Int(number) => format!("{prefix}{number}"),
                _ => continue,
            };
            if seen > MAX_VALUES || depth > MAX_DEPTH || key.len() > MAX_KEY {
                let start: String = key.chars().take(80).collect();
                return Err(format!(
                    "{start}: expected at most {MAX_VALUES} values, {MAX_DEPTH} dicts inside each \
                     other and names of {MAX_KEY} bytes, got more"
                ));
            }
            match pair[1] {
                Value::Dict(inner) => open.push((format!("{key}."), inner, depth + 1)),
                Value::Tensor(index) => {
                    let stored = view(pickle, index, places, file)
                        .map_err(|what| format!("{key}: {what}"))?;
                    tensors.insert(key, stored);
                }
                _ => {}
            }
        }
    }
    Ok(tensors)
}

/// Where a tensor lies in the file.
fn view(
    pickle: &Pickle<'_>,
    index: usize,
    places: &Places<'_>,
    file: &Arc<Mmap>,
) -> Result<Stored, String> {
    let tensor = &pickle.tensors[index];
    let storage = &pickle.storages[tensor.storage];
    let place = places
        .get(storage.key)
        .ok_or_else(|| format!("expected storage {}, got no such storage", storage.key))?;
    let (width, held) = (storage.dtype.width(), place.len() / storage.dtype.width());
    let beyond = || {
        format!(
            "expected values {tensor:?} inside storage {}, which has {held}",
            storage.key
        )
    };
    let count = tensor
        .shape
        .iter()
        .try_fold(1usize, |count, length| count.checked_mul(*length));
    // A view that repeats values could ask for any amount of memory; trained weights do not.
    let count = count.filter(|count| *count <= held).ok_or_else(beyond)?;
    // One past the last value; nothing where there is none.
    let mut reach = usize::from(count > 0);
    let mut run = count.max(1);
    let mut in_order = true;
    for (&length, &stride) in tensor.shape.iter().zip(&tensor.strides) {
        run /= length.max(1);
        in_order &= length <= 1 || stride == run;
        if count > 0 {
            reach = (length - 1)
                .checked_mul(stride)
                .and_then(|step| reach.checked_add(step))
                .ok_or_else(beyond)?;
        }
    }
    let end = tensor
        .offset
        .checked_add(reach)
        .filter(|end| *end <= held)
        .ok_or_else(beyond)?;
    Ok(Stored {
        dtype: storage.dtype,
        shape: tensor.shape.clone(),
        strides: (!in_order && count > 0).then(|| tensor.strides.clone()),
        file: file.clone(),
        bytes: place.start + tensor.offset * width..place.start + end * width,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::super::Params;

    fn fixture(name: &str) -> PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/fixtures/pickle")
            .join(name)
    }

    const WHOLE: [&str; 3] = ["zip.bin", "protocol4.bin", "legacy.bin"];

    #[test]
    fn every_form_of_file_gives_the_same_tensors() {
        for name in WHOLE {
            let root = Params::open_file(&fixture(name)).unwrap();
            let state = root.pp("state_dict");
            let counts = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
            assert_eq!(state.get("weight", &[2, 3]).unwrap().values(), counts);
            assert_eq!(root.get("parameter", &[2, 3]).unwrap().values(), counts);
            let turned = state.get("turned", &[3, 2]).unwrap();
            assert_eq!(turned.values(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
            let tail = state.get("tail", &[2]).unwrap();
            assert_eq!(tail.values(), [4.0, 5.0]);
            if name != "legacy.bin" {
                assert!(tail.is_mapped());
            }
            assert_eq!(state.get("half", &[2]).unwrap().values(), [0.25, -2.0]);
            assert_eq!(state.get("brain", &[1, 1]).unwrap().values(), [-3.0]);
            assert_eq!(state.get("wide", &[]).unwrap().values(), [7.5]);
            assert!(state.get("none", &[0, 4]).unwrap().values().is_empty());
            let error = state.get("steps", &[]).unwrap_err().to_string();
            assert!(
                error.contains("state_dict.steps: expected real numbers"),
                "{error}"
            );
            assert_eq!(root.keys().count(), 9, "{name}");
        }
    }

    #[test]
    fn a_directory_may_hold_it_whole_or_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let shard = dir.path().join("pytorch_model-00001-of-00001.bin");
        std::fs::copy(fixture("zip.bin"), &shard).unwrap();
        std::fs::write(
            dir.path().join("pytorch_model.bin.index.json"),
            r#"{"weight_map":{"parameter":"pytorch_model-00001-of-00001.bin"}}"#,
        )
        .unwrap();
        let params = Params::open_dir(dir.path()).unwrap();
        assert_eq!(params.keys().collect::<Vec<_>>(), ["parameter"]);
        // By its content where its name says nothing.
        std::fs::rename(&shard, dir.path().join("weights")).unwrap();
        assert!(Params::open_file(&dir.path().join("weights")).is_ok());
        std::fs::copy(fixture("legacy.bin"), dir.path().join("pytorch_model.bin")).unwrap();
        assert_eq!(Params::open_dir(dir.path()).unwrap().keys().count(), 9);
    }

    #[test]
    fn what_must_not_be_read_is_an_error_that_says_why_and_where() {
        for (name, part) in [
            ("hostile.bin", "data.pkl at byte "),
            ("hostile.bin", "got posix.system"),
            ("hostile-legacy.bin", "object at byte "),
            ("hostile-legacy.bin", "got posix.system"),
            ("compressed.bin", "data.pkl: expected values as they are"),
            ("repeated.bin", "weight: expected values"),
        ] {
            let error = Params::open_file(&fixture(name)).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(name), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.pt");
        std::fs::write(&path, "<html>not found</html>").unwrap();
        let error = Params::open_file(&path).unwrap_err().to_string();
        assert!(
            error.contains("model.pt: expected a file of torch.save"),
            "{error}"
        );
    }

    #[test]
    fn dicts_that_stand_for_more_than_the_file_are_an_error() {
        // Each dict holds the one before twice: 2^40 values, and 2^10, whose names grow too long.
        for (depth, key) in [(40, "a".to_owned()), (10, "a".repeat(500))] {
            let mut program = b"}q\0".to_vec();
            for level in 0..depth {
                program.extend(b"}(");
                for end in ["0", "1"] {
                    program.push(b'X');
                    program.extend((key.len() as u32 + 1).to_le_bytes());
                    program.extend(key.as_bytes());
                    program.extend(end.as_bytes());
                    program.extend([b'h', level]);
                }
                program.extend([b'u', b'q', level + 1]);
            }
            program.push(b'.');
            let pickle = super::pickle::read(&program).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("any");
            std::fs::write(&path, [0; 8]).unwrap();
            let file = super::open(&path).unwrap();
            let error = super::collect(&pickle, &super::Places::new(), &file).unwrap_err();
            assert!(error.contains("expected at most"), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn a_damaged_file_is_an_error_or_sound_and_never_a_panic(
            which in 0usize..3,
            cut in proptest::option::of(0.0f64..1.0),
            changes in proptest::collection::vec((0.0f64..1.0, any::<u8>()), 0..4),
        ) {
            let mut bytes = std::fs::read(fixture(WHOLE[which])).unwrap();
            let length = bytes.len() as f64;
            for (at, byte) in changes {
                bytes[(at * length) as usize] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate((cut * length) as usize);
            }
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("pytorch_model.bin");
            std::fs::write(&path, &bytes).unwrap();
            match Params::open_file(&path) {
                Err(error) => prop_assert!(error.to_string().contains("pytorch_model.bin: ")),
                Ok(params) => for key in params.keys() {
                    let shape = params.shape(key).unwrap();
                    if let Ok(weight) = params.get(key, shape) {
                        prop_assert!(weight.values().len() <= bytes.len());
                    }
                },
            }
        }
    }
}
