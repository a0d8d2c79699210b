//! Sound files: as a source like any other, as a stream of mono blocks of any rate for offline work,
//! or whole for training.

use std::path::Path;
use std::time::Instant;

use super::decode::Decoder;
use super::feed::{Feed, Stop, due};
use super::mix;
use super::resample::Resampler;
use super::ring::PcmWriter;
use super::{AudioError, Format, PERIOD, Running, Source};
use crate::clock::PIPELINE_RATE_HZ;

/// A sound file as mono blocks at the pipeline rate or another, without loading the whole file.
pub struct FileReader {
    decoder: Decoder,
    resampler: Resampler,
    mono: Vec<f32>,
    out: Vec<f32>,
    invalid_samples: u64,
    ended: bool,
}

impl FileReader {
    /// Opens the file at the pipeline rate.
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub fn open(path: &Path) -> Result<Self, AudioError> {
        FileReader::open_at(path, PIPELINE_RATE_HZ)
    }

    /// Opens the file for blocks of `rate_hz`; samples of a file that has this rate come through
    /// untouched, the mean over channels apart.
    ///
    /// # Errors
    /// As [`Decoder::open`], and when the rate is out of range.
    pub fn open_at(path: &Path, rate_hz: u32) -> Result<Self, AudioError> {
        let decoder = Decoder::open(path)?;
        let resampler = Resampler::between(decoder.format().rate_hz, rate_hz)?;
        Ok(FileReader {
            decoder,
            resampler,
            mono: Vec::new(),
            out: Vec::new(),
            invalid_samples: 0,
            ended: false,
        })
    }

    /// Length in seconds as the file states it; a damaged file may hold less.
    pub fn declared_s(&self) -> Option<f64> {
        let frames = self.decoder.declared_frames()?;
        Some(frames as f64 / f64::from(self.decoder.format().rate_hz))
    }

    /// Samples so far that were not finite and were taken as 0.
    pub fn invalid_samples(&self) -> u64 {
        self.invalid_samples
    }

    /// What is wrong with the file, known once its end was reached.
    pub fn damage(&self) -> Option<&str> {
        self.decoder.damage()
    }

    /// The next mono samples at the rate that was asked for, never empty; `None` at the end.
    ///
    /// # Errors
    /// As [`Decoder::next_block`].
    pub fn next_block(&mut self) -> Result<Option<&[f32]>, AudioError> {
        self.out.clear();
        while self.out.is_empty() && !self.ended {
            let channels = usize::from(self.decoder.format().channels);
            match self.decoder.next_block()? {
                Some(block) => {
                    self.mono.resize(block.len() / channels, 0.0);
                    self.invalid_samples += mix::to_mono(block, channels, &mut self.mono);
                    self.resampler.push(&self.mono, &mut self.out);
                }
                None => {
                    self.resampler.flush(&mut self.out);
                    self.ended = true;
                }
            }
        }
        Ok((!self.out.is_empty()).then_some(self.out.as_slice()))
    }
}

/// The whole file as mono samples at the pipeline rate.
///
/// # Errors
/// As [`FileReader::open`] and [`FileReader::next_block`]; each names the file.
pub fn decode_mono_16k(path: &Path) -> Result<Vec<f32>, AudioError> {
    decode_mono(path, PIPELINE_RATE_HZ)
}

/// The whole file as mono samples at `rate_hz`.
///
/// # Errors
/// As [`FileReader::open_at`] and [`FileReader::next_block`]; each names the file.
pub fn decode_mono(path: &Path, rate_hz: u32) -> Result<Vec<f32>, AudioError> {
    /// What is reserved at most on the word of a header: ten minutes.
    const MAX_RESERVE_S: f64 = 600.0;
    let mut reader = FileReader::open_at(path, rate_hz)?;
    let expected_s = reader.declared_s().unwrap_or(0.0).min(MAX_RESERVE_S);
    let mut samples = Vec::with_capacity((expected_s * f64::from(rate_hz)) as usize + 1);
    while let Some(block) = reader.next_block()? {
        samples.extend_from_slice(block);
    }
    Ok(samples)
}

/// A sound file as a source: as fast as the reader takes it, or paced like a microphone.
pub struct FileSource {
    name: String,
    decoder: Decoder,
    realtime: bool,
}

impl FileSource {
    /// Opens the file.
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub fn open(path: &Path, realtime: bool) -> Result<Self, AudioError> {
        Ok(FileSource {
            name: path.display().to_string(),
            decoder: Decoder::open(path)?,
            realtime,
        })
    }
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn format(&self) -> Format {
        self.decoder.format()
    }

    fn start(self: Box<Self>, out: PcmWriter) -> Result<Box<dyn Running>, AudioError> {
        let FileSource {
            name,
            decoder,
            realtime,
        } = *self;
        let feed = Feed::spawn(&name, move |stop| play(decoder, realtime, out, stop))?;
        Ok(Box::new(feed))
    }
}

fn play(
    mut decoder: Decoder,
    realtime: bool,
    mut out: PcmWriter,
    stop: &Stop,
) -> Result<(), AudioError> {
    let Format { rate_hz, channels } = decoder.format();
    let piece_frames = (PERIOD.as_secs_f64() * f64::from(rate_hz)).ceil() as usize;
    let start = Instant::now();
    let mut frames = 0u64;
    while let Some(block) = decoder.next_block()? {
        for piece in block.chunks(piece_frames * usize::from(channels)) {
            frames += (piece.len() / usize::from(channels)) as u64;
            let go_on = if realtime {
                stop.sleep_until(due(start, frames, rate_hz))
            } else {
                !stop.is_set()
            };
            if !go_on || !out.write_blocking(piece) {
                return Ok(());
            }
        }
    }
    Ok(())
}
