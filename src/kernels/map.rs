//! Files mapped into memory, read only.

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

/// Maps a whole file; its pages are read when they are first touched and can be dropped again by
/// the system.
///
/// # Errors
/// When the system refuses.
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is read only and lives as long as its `Mmap`. A file that another program
    // shortens meanwhile would end this one by a bus error, as with every mapped file; weights are
    // published by rename and never written in place.
    unsafe { MmapOptions::new().map(file) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_mapped_file_reads_like_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        assert_eq!(&*map(&file).unwrap(), &*bytes);
    }
}
