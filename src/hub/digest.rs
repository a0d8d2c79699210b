//! Checksums that a hub names its files by: SHA-256 of large (LFS) files, and git's SHA-1 of small
//! ones, which is over `blob LENGTH\0` and the content (git 2.x, `hash-object`).
//!
//! SHA-1 (FIPS 180-4) serves as the name of a git object here and as no protection against anyone.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek};

use sha2::{Digest, Sha256};

use super::names::is_hex;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;

/// What a file is expected to hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256 of the content, lower-case hexadecimal.
    Sha256(String),
    /// SHA-1 of the git object, lower-case hexadecimal.
    GitSha1(String),
    /// Nobody has published one: any content of the right length will do.
    Unknown,
}

impl Checksum {
    /// The checksum that an ETag of a hub is, by its length.
    pub fn of_etag(etag: &str) -> Option<Self> {
        if is_hex(etag, 64) {
            Some(Checksum::Sha256(etag.to_owned()))
        } else if is_hex(etag, 40) {
            Some(Checksum::GitSha1(etag.to_owned()))
        } else {
            None
        }
    }

    /// Its name in messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Checksum::Sha256(_) => "sha256",
            Checksum::GitSha1(_) => "git sha1",
            Checksum::Unknown => "nothing",
        }
    }

    /// Lower-case hexadecimal.
    pub fn hex(&self) -> &str {
        match self {
            Checksum::Sha256(hex) | Checksum::GitSha1(hex) => hex,
            Checksum::Unknown => "",
        }
    }

    /// Whether a file with this checksum is the expected one.
    pub fn accepts(&self, got: &str) -> bool {
        *self == Checksum::Unknown || self.hex() == got
    }
}

/// The checksum of a file while its bytes arrive.
pub enum Running {
    /// Taken on the way.
    Sha256(Box<Sha256>),
    /// The length comes first in a git object, so this is taken when the file is whole. Only small
    /// files are kept in git.
    AtTheEnd,
}

impl Running {
    /// For a file that has nothing yet.
    pub fn new(expected: &Checksum) -> Self {
        match expected {
            Checksum::Sha256(_) | Checksum::Unknown => Running::Sha256(Box::default()),
            Checksum::GitSha1(_) => Running::AtTheEnd,
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Running::Sha256(hash) = self {
            hash.update(bytes);
        }
    }

    /// Takes the whole of a file that is there already; it stands at its end then.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&mut self, file: &mut File) -> io::Result<u64> {
        file.rewind()?;
        let mut block = vec![0; BLOCK];
        let mut len = 0;
        loop {
            let n = file.read(&mut block)?;
            if n == 0 {
                return Ok(len);
            }
            self.update(&block[..n]);
            len += n as u64;
        }
    }

    /// The checksum of a file of `len` bytes, in lower-case hexadecimal.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn finish(self, file: &mut File, len: u64) -> io::Result<String> {
        match self {
            Running::Sha256(hash) => Ok(hex(&hash.finalize())),
            Running::AtTheEnd => git_sha1(file, len),
        }
    }
}

/// The checksum of a file that is whole.
///
/// # Errors
/// When it cannot be read.
pub fn of_file(file: &mut File, expected: &Checksum) -> io::Result<String> {
    let len = file.metadata()?.len();
    let mut running = Running::new(expected);
    if let Running::Sha256(_) = running {
        running.read(file)?;
    }
    running.finish(file, len)
}

fn git_sha1(file: &mut File, len: u64) -> io::Result<String> {
    file.rewind()?;
    let mut sha1 = Sha1::default();
    sha1.update(format!("blob {len}\0").as_bytes());
    let mut block = vec![0; BLOCK];
    loop {
        let n = file.read(&mut block)?;
        if n == 0 {
            return Ok(hex(&sha1.finish()));
        }
        sha1.update(&block[..n]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// SHA-1, FIPS 180-4 section 6.1.
struct Sha1 {
    state: [u32; 5],
    /// Bytes of a block that is not full yet.
    rest: Vec<u8>,
    len: u64,
}

impl Default for Sha1 {
    fn default() -> Self {
        Sha1 {
            // Section 5.3.1.
            state: [
                0x6745_2301,
                0xefcd_ab89,
                0x98ba_dcfe,
                0x1032_5476,
                0xc3d2_e1f0,
            ],
            rest: Vec::with_capacity(128),
            len: 0,
        }
    }
}

impl Sha1 {
    fn update(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if !self.rest.is_empty() {
            let fill = bytes.len().min(64 - self.rest.len());
            self.rest.extend_from_slice(&bytes[..fill]);
            bytes = &bytes[fill..];
            if self.rest.len() < 64 {
                return;
            }
            compress(&mut self.state, &self.rest);
            self.rest.clear();
        }
        let blocks = bytes.chunks_exact(64);
        self.rest.extend_from_slice(blocks.remainder());
        blocks.for_each(|block| compress(&mut self.state, block));
    }

    fn finish(mut self) -> [u8; 20] {
        // Section 5.1.1: a one, zeros, and the length in bits.
        let mut last = std::mem::take(&mut self.rest);
        last.push(0x80);
        let padded = (last.len() + 8).next_multiple_of(64) - 8;
        last.resize(padded, 0);
        last.extend_from_slice(&(self.len * 8).to_be_bytes());
        for block in last.chunks_exact(64) {
            compress(&mut self.state, block);
        }
        let mut digest = [0; 20];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }
}

/// Section 6.1.2, for one block of 64 bytes.
fn compress(state: &mut [u32; 5], block: &[u8]) {
    let mut w = [0_u32; 80];
    let (words, _) = block.as_chunks::<4>();
    for (word, bytes) in w.iter_mut().zip(words) {
        *word = u32::from_be_bytes(*bytes);
    }
    for t in 16..80 {
        w[t] = (w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16]).rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (t, word) in w.iter().enumerate() {
        let (f, k) = match t {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6),
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(f)
            .wrapping_add(e)
            .wrapping_add(k)
            .wrapping_add(*word);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
        *sum = sum.wrapping_add(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn check_sha1(parts: &[&[u8]], expected: &str) {
        let mut sha1 = Sha1::default();
        parts.iter().for_each(|part| sha1.update(part));
        assert_eq!(hex(&sha1.finish()), expected);
    }

    #[test]
    fn sha1_is_what_the_standard_says() {
        // FIPS 180 examples, in any cut.
        check_sha1(&[b"abc"], "a9993e364706816aba3e25717850c26c9cd0d89d");
        check_sha1(&[b""], "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        let long = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let expected = "84983e441c3bd26ebaae4aa1f95129e5e54670f1";
        check_sha1(&[long], expected);
        check_sha1(&[&long[..1], &long[1..20], &long[20..]], expected);
        let million = vec![b'a'; 1_000_000];
        let parts: Vec<&[u8]> = million.chunks(997).collect();
        check_sha1(&parts, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    }

    #[test]
    fn files_hash_to_their_names() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello\n").unwrap();
        // `printf 'hello\n' | git hash-object --stdin` and `| sha256sum`.
        let git = Checksum::of_etag("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let sha256 =
            Checksum::of_etag("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03")
                .unwrap();
        for expected in [git, sha256] {
            assert_eq!(of_file(&mut file, &expected).unwrap(), expected.hex());
        }
        assert_eq!(Checksum::of_etag("d41d8cd98f00b204e9800998ecf8427e"), None);
    }
}
