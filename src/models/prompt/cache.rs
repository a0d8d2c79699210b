//! Embeddings of texts on the disk, a file a text.
//!
//! A file is written beside its place and renamed, so that readers and writers of several processes
//! never meet half a file, and the last of two that compute the same wins. A file that is not what it
//! should be is as good as none. The number of files is bounded; the oldest go.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::models::verify::hex;

/// What a file begins with; the last byte counts changes of what a text's embedding is.
const MAGIC: [u8; 8] = *b"hkphrs\0\x01";
/// Bytes of the checksum that a file ends with.
const DIGEST: usize = 32;
/// The most texts that are kept for a model: thousands of prompts in several sentences. At 512 values
/// each that is 32 MiB.
const MAX_ENTRIES: usize = 16_384;
/// The largest file that is read, in bytes; an embedding has some thousand.
const MAX_BYTES: u64 = 1 << 20;

/// The embeddings of one model.
#[derive(Debug)]
pub struct PhraseCache {
    dir: PathBuf,
    /// What else than the weights the embedding of a text depends on.
    tokenizer: [u8; 32],
    /// Files in the folder, once they were counted.
    entries: Option<usize>,
    max_entries: usize,
}

impl PhraseCache {
    /// The cache of the model whose weights have `sha256`, in `$XDG_CACHE_HOME/hark`, which is `cache`;
    /// `tokenizer` stands for the files that make tokens of a text.
    pub fn new(cache: &Path, sha256: &str, tokenizer: [u8; 32]) -> Self {
        PhraseCache {
            dir: cache.join("phrases").join(sha256),
            tokenizer,
            entries: None,
            max_entries: MAX_ENTRIES,
        }
    }

    /// Where the embeddings lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, text: &str) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(self.tokenizer);
        hash.update(text.as_bytes());
        self.dir.join(hex(&hash.finalize()))
    }

    /// The embedding of a text, where it is there and whole.
    pub fn get(&self, text: &str) -> Option<Vec<f32>> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(text)).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        decode(&bytes, text)
    }

    /// Keeps the embedding of a text.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put(&mut self, text: &str, embedding: &[f32]) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        self.make_room()?;
        write_beside(&self.path(text), &encode(text, embedding))
    }

    /// Removes the oldest tenth where there are too many.
    fn make_room(&mut self) -> io::Result<()> {
        let entries = match self.entries {
            Some(entries) => entries,
            None => std::fs::read_dir(&self.dir)?.count(),
        };
        self.entries = Some(entries + 1);
        if entries < self.max_entries {
            return Ok(());
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            // One that another process has removed meanwhile is gone all the same.
            if let Ok(written) = entry.metadata().and_then(|known| known.modified()) {
                files.push((written, entry.path()));
            }
        }
        files.sort();
        let keep = self.max_entries - self.max_entries.div_ceil(10);
        let surplus = files.len().saturating_sub(keep);
        for (_, path) in &files[..surplus] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.entries = Some(files.len() - surplus + 1);
        Ok(())
    }
}

/// `MAGIC`, length of the text, text, number of values, values, SHA-256 of all before; numbers are
/// little-endian.
fn encode(text: &str, embedding: &[f32]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend((embedding.len() as u32).to_le_bytes());
    bytes.extend(embedding.iter().flat_map(|value| value.to_le_bytes()));
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

fn decode(bytes: &[u8], text: &str) -> Option<Vec<f32>> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if Sha256::digest(content)[..] != *digest {
        return None;
    }
    let rest = content.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*length) as usize != text.len() {
        return None;
    }
    let rest = rest.strip_prefix(text.as_bytes())?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (values, odd) = rest.as_chunks::<4>();
    let embedding: Vec<f32> = values.iter().copied().map(f32::from_le_bytes).collect();
    let whole = odd.is_empty()
        && !embedding.is_empty()
        && embedding.len() == u32::from_le_bytes(*count) as usize
        && embedding.iter().all(|value| value.is_finite());
    whole.then_some(embedding)
}

/// Writes a file beside its place and renames it. The disk is not waited for: what a loss of power
/// leaves is found out by its checksum.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    /// Tells the writers of one process apart.
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("{}-{writer}.tmp", std::process::id()));
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it would only take room; that it could not be written is what is told.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(dir: &Path) -> PhraseCache {
        PhraseCache::new(dir, "abc", [7; 32])
    }

    #[test]
    fn what_is_kept_is_found_by_model_tokenizer_and_text() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = cache(dir.path());
        assert_eq!(kept.get("a dog"), None);
        kept.put("a dog", &[0.6, -0.8]).unwrap();
        kept.put("", &[1.0]).unwrap();
        assert_eq!(kept.get("a dog"), Some(vec![0.6, -0.8]));
        assert_eq!(cache(dir.path()).get(""), Some(vec![1.0]));
        assert_eq!(kept.get("a cat"), None);
        assert_eq!(
            PhraseCache::new(dir.path(), "abd", [7; 32]).get("a dog"),
            None
        );
        assert_eq!(
            PhraseCache::new(dir.path(), "abc", [8; 32]).get("a dog"),
            None
        );
        kept.put("a dog", &[0.8, 0.6]).unwrap();
        assert_eq!(kept.get("a dog"), Some(vec![0.8, 0.6]));
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none_and_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = cache(dir.path());
        kept.put("a dog", &[0.6, -0.8]).unwrap();
        let path = kept.path("a dog");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(kept.get("a dog"), None, "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(kept.get("a dog"), None, "{at} bytes");
        }
        // Whole, but of another text or no embedding.
        std::fs::write(&path, encode("a cat", &[0.6, -0.8])).unwrap();
        assert_eq!(kept.get("a dog"), None);
        std::fs::write(&path, encode("a dog", &[0.6, f32::NAN])).unwrap();
        assert_eq!(kept.get("a dog"), None);
        std::fs::write(&path, encode("a dog", &[])).unwrap();
        assert_eq!(kept.get("a dog"), None);
        kept.put("a dog", &[0.6, -0.8]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn writers_at_the_same_time_leave_whole_files() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut kept = cache(dir.path());
                    for n in 0..50 {
                        let text = format!("sound {}", n % 5);
                        kept.put(&text, &[n as f32 % 5.0; 64]).unwrap();
                        assert_eq!(kept.get(&text), Some(vec![n as f32 % 5.0; 64]));
                    }
                });
            }
        });
        assert_eq!(
            std::fs::read_dir(cache(dir.path()).dir()).unwrap().count(),
            5
        );
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = cache(dir.path());
        kept.max_entries = 10;
        for n in 0..10u64 {
            let text = format!("sound {n}");
            kept.put(&text, &[1.0]).unwrap();
            let file = File::options().write(true).open(kept.path(&text)).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(n);
            file.set_modified(time).unwrap();
        }
        kept.put("sound 10", &[1.0]).unwrap();
        let there = |n: usize| kept.get(&format!("sound {n}")).is_some();
        assert!(!there(0) && (1..=10).all(there));
        for n in 11..40 {
            kept.put(&format!("sound {n}"), &[1.0]).unwrap();
        }
        let count = std::fs::read_dir(kept.dir()).unwrap().count();
        assert!((9..=10).contains(&count), "{count}");
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        cache(&file).put("a dog", &[1.0]).unwrap_err();
        let mut kept = cache(dir.path());
        // A folder cannot be replaced by a file.
        std::fs::create_dir_all(kept.path("a dog").join("inside")).unwrap();
        kept.put("a dog", &[1.0]).unwrap_err();
        assert_eq!(std::fs::read_dir(kept.dir()).unwrap().count(), 1);
    }
}
