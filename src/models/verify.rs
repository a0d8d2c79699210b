//! Checks weights: that a file is whole safetensors, that every number in it is finite, and that it
//! matches the checksum that stands beside it.
//!
//! Whether the weights fit an architecture is the loader's to say.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::ModelError;
use super::registry::{self, Origin};
use crate::kernels::map::map;

/// The file of checksums beside weights, in the format of `sha256sum`.
pub const CHECKSUMS: &str = "SHA256SUMS";

/// A file that was found in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its path, or the name of an embedded model.
    pub name: String,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// Reads all weights of `model`: a registry name, a directory or a file.
///
/// # Errors
/// With the first file that cannot be read, is damaged or does not match its checksum.
pub fn verify(model: &str) -> Result<Vec<Verified>, ModelError> {
    let place = match registry::find(model) {
        Some(row) if row.origin == Origin::Embedded => {
            // The loader compares embedded weights with the checksum that was built in with them.
            let model = registry::load(row)?;
            return Ok(vec![Verified {
                name: model.info().name.to_string(),
                sha256: model.info().sha256.to_string(),
            }]);
        }
        Some(row) => match (registry::place_of(row), row.origin) {
            (Some(path), Origin::Download { sha256, .. }) => {
                return verify_file(&path, None, sha256).map(|file| vec![file]);
            }
            (Some(path), _) => path,
            (None, _) => return registry::load(row).map(|_| Vec::new()),
        },
        None => PathBuf::from(model),
    };
    let path = place.as_path();
    if path.is_file() {
        return verify_file(path, None, None).map(|file| vec![file]);
    }
    if !path.is_dir() {
        return Err(registry::unknown(model));
    }
    let files = weights_in(path)?;
    if files.is_empty() {
        return Err(ModelError::Read(format!(
            "{model}: no weights in this directory; name one that holds model.safetensors or the like"
        )));
    }
    let sums = Checksums::beside(path)?;
    files
        .iter()
        .map(|file| verify_file(file, sums.as_ref(), None))
        .collect()
}

/// How files of weights end.
const WEIGHTS: [&str; 6] = ["safetensors", "bin", "ckpt", "pt", "pth", "tflite"];

fn weights_in(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let read = |error| unreadable(dir, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let end = path.extension().and_then(|end| end.to_str());
        if end.is_some_and(|end| WEIGHTS.contains(&end)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Checks one file against the checksums beside it, against what is `known`, and against the name of the
/// blob that it is a link to in a hub's cache.
fn verify_file(
    path: &Path,
    sums: Option<&Checksums>,
    known: Option<&str>,
) -> Result<Verified, ModelError> {
    let bytes = File::open(path)
        .and_then(|file| map(&file))
        .map_err(|error| unreadable(path, &error))?;
    let sha256 = hex_sha256(&bytes);
    if let Some(sums) = sums {
        sums.check(path, &sha256)?;
    }
    let blob = blob_sha256(path);
    if let Some(expected) = known.or(blob.as_deref())
        && expected != sha256
    {
        return Err(ModelError::Format(format!(
            "{}: sha256 is {sha256}, expected {expected}: fetch it again",
            path.display()
        )));
    }
    if path.extension().is_some_and(|end| end == "safetensors") {
        check_tensors(path, &bytes)?;
    }
    Ok(Verified {
        name: path.display().to_string(),
        sha256,
    })
}

/// The SHA-256 that a file of a hub's cache is named by: it is a link to a blob of that name.
pub(super) fn blob_sha256(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    let name = target.file_name()?.to_str()?;
    let is_sha256 = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_sha256.then(|| name.to_owned())
}

fn check_tensors(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let path = path.display();
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| {
        ModelError::Format(format!(
            "{path}: not a whole safetensors file ({error}, {} bytes): fetch or export it again",
            bytes.len()
        ))
    })?;
    for (key, tensor) in tensors.iter() {
        if tensor.dtype() != Dtype::F32 {
            continue;
        }
        let (values, _) = tensor.data().as_chunks::<4>();
        let bad = values
            .iter()
            .filter(|bytes| !f32::from_le_bytes(**bytes).is_finite())
            .count();
        if bad > 0 {
            return Err(ModelError::Format(format!(
                "{path}: {bad} of {} numbers in '{key}' are not finite: train or fetch it again",
                values.len()
            )));
        }
    }
    Ok(())
}

/// SHA-256 in lower-case hexadecimal.
pub fn hex_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// A file of checksums.
struct Checksums {
    path: PathBuf,
    /// File name and checksum.
    sums: Vec<(String, String)>,
}

impl Checksums {
    /// Reads the checksums of `dir`; `None` where it has none.
    fn beside(dir: &Path) -> Result<Option<Self>, ModelError> {
        let path = dir.join(CHECKSUMS);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let sums = text
            .lines()
            .filter_map(|line| {
                let (sum, name) = line.split_once(char::is_whitespace)?;
                Some((
                    name.trim_start_matches([' ', '*']).to_owned(),
                    sum.to_ascii_lowercase(),
                ))
            })
            .collect();
        Ok(Some(Checksums { path, sums }))
    }

    fn check(&self, file: &Path, sha256: &str) -> Result<(), ModelError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match self.sums.iter().find(|(listed, _)| *listed == name) {
            Some((_, expected)) if expected == sha256 => Ok(()),
            Some((_, expected)) => Err(ModelError::Format(format!(
                "{}: sha256 is {sha256}, expected {expected}: fetch it again",
                file.display()
            ))),
            None => Err(ModelError::Format(format!(
                "{}: has no line in {}: add one with sha256sum",
                file.display(),
                self.path.display()
            ))),
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ModelError {
    ModelError::Read(format!(
        "{}: cannot be read ({error}): check the path and its permissions",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    fn weights(value: f32) -> Vec<u8> {
        let data: Vec<u8> = [1.0, value, 3.0]
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        let view = TensorView::new(Dtype::F32, vec![3], &data).unwrap();
        safetensors::serialize([("head.weight", view)], None).unwrap()
    }

    fn verify_dir(files: &[(&str, &[u8])]) -> Result<Vec<Verified>, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let path = dir.path().to_str().unwrap();
        verify(path).map_err(|error| error.to_string().replace(path, "DIR"))
    }

    fn check_error(files: &[(&str, &[u8])], expected: &str) {
        let error = verify_dir(files).unwrap_err();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        assert!(error.contains("DIR"), "{error:?} names no path");
        assert_eq!(error.lines().count(), 1, "{error:?}");
    }

    #[test]
    fn whole_weights_are_in_order_with_and_without_checksums() {
        let good = weights(2.0);
        let sum = hex_sha256(&good);
        let listed = format!("{sum}  model.safetensors\n");
        let plain = verify_dir(&[("model.safetensors", &good)]).unwrap();
        assert_eq!(plain[0].sha256, sum);
        let checked =
            verify_dir(&[("model.safetensors", &good), (CHECKSUMS, listed.as_bytes())]).unwrap();
        assert_eq!(checked.len(), 1);
    }

    #[test]
    fn damage_is_named() {
        let good = weights(2.0);
        check_error(&[], "no weights in this directory");
        check_error(&[("model.safetensors", b"")], "not a whole safetensors");
        check_error(
            &[("model.safetensors", b"<html>404")],
            "not a whole safetensors",
        );
        check_error(
            &[("model.safetensors", &good[..good.len() - 2])],
            "not a whole safetensors",
        );
        check_error(
            &[("model.safetensors", &weights(f32::NAN))],
            "1 of 3 numbers in 'head.weight' are not finite",
        );
        let other = format!("{}  model.safetensors\n", hex_sha256(b"other"));
        check_error(
            &[("model.safetensors", &good), (CHECKSUMS, other.as_bytes())],
            "expected",
        );
        check_error(
            &[("model.safetensors", &good), (CHECKSUMS, b"")],
            "has no line in",
        );
    }

    #[test]
    fn what_is_neither_name_nor_path_is_told_so() {
        let error = verify("no-such-model").unwrap_err();
        assert!(matches!(error, ModelError::Unknown(_)), "{error}");
    }
}
