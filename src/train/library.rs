//! All clips of a data set in memory, decoded once: 16 bit, as they were recorded.

use std::path::Path;

use rayon::prelude::*;

use super::manifest::{Clip, DataError, Manifest, Split};
use crate::audio::{AudioError, file::decode_mono_16k};

/// A clip and its sound.
pub struct Sound {
    /// What is known of it.
    pub clip: Clip,
    pcm: Vec<i16>,
}

impl Sound {
    /// Samples at 16 kHz, full scale 1.0.
    pub fn pcm(&self) -> Vec<f32> {
        self.pcm
            .iter()
            .map(|&sample| f32::from(sample) / 32_768.0)
            .collect()
    }

    /// A stretch of it.
    pub fn part(&self, range: std::ops::Range<usize>) -> Vec<f32> {
        self.pcm[range]
            .iter()
            .map(|&sample| f32::from(sample) / 32_768.0)
            .collect()
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.pcm.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pcm.is_empty()
    }
}

/// Clips in memory, in the order of the manifest.
pub struct Library {
    /// The sounds.
    pub sounds: Vec<Sound>,
}

/// Why a data set could not be taken into memory.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The manifest is not usable.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A clip is not usable.
    #[error(transparent)]
    Audio(#[from] AudioError),
}

impl Library {
    /// Decodes every clip of `root` that `keep` keeps.
    ///
    /// # Errors
    /// When the manifest or a clip cannot be read.
    pub fn open(root: &Path, keep: impl Fn(&Clip) -> bool) -> Result<Self, LibraryError> {
        let clips: Vec<Clip> = Manifest::open(root)?
            .clips
            .into_iter()
            .filter(keep)
            .collect();
        let sounds: Result<Vec<Sound>, AudioError> = clips
            .into_par_iter()
            .map(|clip| {
                let pcm = decode_mono_16k(&clip.path)?;
                let pcm = pcm
                    .iter()
                    .map(|x| (x * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16)
                    .collect();
                Ok(Sound { clip, pcm })
            })
            .collect();
        Ok(Library { sounds: sounds? })
    }

    /// The sounds of a split that `is` chooses.
    pub fn select(&self, split: Split, is: impl Fn(&Clip) -> bool) -> Vec<&Sound> {
        self.sounds
            .iter()
            .filter(|sound| sound.clip.split == split && is(&sound.clip) && !sound.is_empty())
            .collect()
    }
}
