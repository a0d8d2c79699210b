//! Sound files of any kind that symphonia reads, block by block as interleaved samples.
//!
//! No resampling, no thread. A file that ends early or has damaged packets gives what can be read;
//! a damaged packet is replaced by silence of the usual length, so that times behind it stay right.
//! symphonia panics on some damaged files; that ends the file, not the program.

use std::cell::Cell;
use std::fs::File;
use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::resample::{MAX_RATE_HZ, MIN_RATE_HZ};
use super::{AudioError, Format};

/// A file that is short by less than this, in seconds, has its padding counted otherwise.
const SLACK_S: f64 = 0.05;
/// Programs that cannot seek back write 0x7fffffff or 0xffffffff, less a header, for the length.
const PLACEHOLDER_BYTES: u64 = 0x7fff_0000;

/// An open sound file.
pub struct Decoder {
    path: PathBuf,
    reader: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    format: Format,
    declared_frames: Option<u64>,
    length_is_exact: bool,
    samples: Vec<f32>,
    /// The first block was decoded at opening, to learn the format, and has not been handed out.
    first_waits: bool,
    damaged_packets: u64,
    /// Native frames handed out so far.
    decoded_frames: u64,
    /// What was found to be wrong with the file by its end.
    damage: Option<String>,
    ended: bool,
}

impl Decoder {
    /// Opens the file and decodes its first block, so that the format is known for certain.
    ///
    /// # Errors
    /// When there is no such file, it is not a sound file, its codec is not known, it holds no
    /// sound, or its rate is out of range.
    pub fn open(path: &Path) -> Result<Self, AudioError> {
        guarded(path, || Self::open_unguarded(path))
    }

    fn open_unguarded(path: &Path) -> Result<Self, AudioError> {
        let fail = |what: String| decode_error(path, what);
        let metadata =
            std::fs::metadata(path).map_err(|error| fail(format!("cannot open it: {error}")))?;
        if metadata.is_dir() {
            return Err(fail("it is a directory, not a sound file".to_owned()));
        }
        if !metadata.is_file() {
            return Err(fail(
                "it is not a regular file; feed pipes and devices in with raw: or cmd:".to_owned(),
            ));
        }
        if metadata.len() == 0 {
            return Err(fail("the file is empty".to_owned()));
        }
        let file = File::open(path).map_err(|error| fail(format!("cannot open it: {error}")))?;
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let reader = symphonia::default::get_probe()
            .probe(
                &Hint::new(),
                stream,
                FormatOptions::default(),
                MetadataOptions::default(),
            )
            .map_err(|error| {
                fail(format!(
                    "it is not a sound file that can be read (wav, flac, ogg vorbis, mp3, m4a, aiff): {}",
                    plain(&error)
                ))
            })?;
        let track = reader
            .default_track(TrackType::Audio)
            .ok_or_else(|| fail("it has no audio track".to_owned()))?;
        let (track_id, declared_frames) = (track.id, track.num_frames);
        let parameters = track
            .codec_params
            .as_ref()
            .and_then(|parameters| parameters.audio())
            .ok_or_else(|| fail("its audio track does not say how it is coded".to_owned()))?;
        let length_is_exact = is_exact(parameters, declared_frames);
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|error| {
                fail(format!(
                    "its codec is not supported ({}): convert it to wav or flac",
                    plain(&error)
                ))
            })?;
        let mut opened = Decoder {
            path: path.to_owned(),
            reader,
            decoder,
            track: track_id,
            format: Format {
                rate_hz: 0,
                channels: 0,
            },
            declared_frames,
            length_is_exact,
            samples: Vec::new(),
            first_waits: false,
            damaged_packets: 0,
            decoded_frames: 0,
            damage: None,
            ended: false,
        };
        if !opened.decode_block()? {
            return Err(fail("it holds no sound".to_owned()));
        }
        opened.first_waits = true;
        Ok(opened)
    }

    /// The native form.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Length in native frames as the file states it; a damaged file may hold less.
    pub fn declared_frames(&self) -> Option<u64> {
        self.declared_frames
    }

    /// What is wrong with the file, known once its end was reached: it ends early, or parts of it
    /// were replaced by silence.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// The next interleaved samples, a whole number of frames; `None` at the end.
    ///
    /// # Errors
    /// When the disk fails, or rate or channels change within the file.
    pub fn next_block(&mut self) -> Result<Option<&[f32]>, AudioError> {
        if self.first_waits {
            self.first_waits = false;
            return Ok(Some(&self.samples));
        }
        let path = self.path.clone();
        let decoded = guarded(&path, || self.decode_block());
        // After an error its state is not to be relied on.
        self.ended |= decoded.is_err();
        Ok(decoded?.then_some(self.samples.as_slice()))
    }

    /// Decodes the next non-empty block into `samples`; `false` at the end.
    fn decode_block(&mut self) -> Result<bool, AudioError> {
        while !self.ended {
            let packet = match self.reader.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    self.end(None);
                    break;
                }
                Err(Error::IoError(error)) if error.kind() != ErrorKind::UnexpectedEof => {
                    return Err(decode_error(&self.path, format!("cannot read it: {error}")));
                }
                Err(error) => {
                    if self.format.rate_hz == 0 && !matches!(error, Error::IoError(_)) {
                        return Err(decode_error(
                            &self.path,
                            format!("it cannot be read as sound: {}", plain(&error)),
                        ));
                    }
                    self.end(Some(&error));
                    break;
                }
            };
            if packet.track_id != self.track {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(buffer) => {
                    let spec = buffer.spec();
                    let format = Format {
                        rate_hz: spec.rate(),
                        channels: u16::try_from(spec.channels().count()).unwrap_or(u16::MAX),
                    };
                    let buffer_frames = buffer.frames() as u64;
                    if buffer_frames == 0 {
                        continue;
                    }
                    buffer.copy_to_vec_interleaved(&mut self.samples);
                    self.check_format(format)?;
                    self.decoded_frames += buffer_frames;
                    return Ok(true);
                }
                Err(Error::IoError(_) | Error::DecodeError(_)) => {
                    self.damaged_packets += 1;
                    if !self.samples.is_empty() {
                        self.samples.fill(0.0);
                        self.decoded_frames +=
                            self.samples.len() as u64 / u64::from(self.format.channels);
                        return Ok(true);
                    }
                }
                Err(error) => {
                    return Err(decode_error(
                        &self.path,
                        format!("it cannot be decoded: {}", plain(&error)),
                    ));
                }
            }
        }
        if self.format.rate_hz == 0 && self.damaged_packets > 0 {
            return Err(decode_error(
                &self.path,
                format!("all of its {} packets are damaged", self.damaged_packets),
            ));
        }
        Ok(false)
    }

    fn check_format(&mut self, format: Format) -> Result<(), AudioError> {
        if self.format.rate_hz == 0 {
            if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&format.rate_hz) || format.channels == 0 {
                return Err(decode_error(
                    &self.path,
                    format!(
                        "{} Hz with {} channels is not supported: use {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz",
                        format.rate_hz, format.channels
                    ),
                ));
            }
            self.format = format;
        }
        if format == self.format {
            return Ok(());
        }
        Err(decode_error(
            &self.path,
            format!(
                "it changes from {} Hz, {} channels to {} Hz, {} channels on the way: split it there",
                self.format.rate_hz, self.format.channels, format.rate_hz, format.channels
            ),
        ))
    }

    fn end(&mut self, error: Option<&Error>) {
        self.ended = true;
        let rate_hz = f64::from(self.format.rate_hz.max(1));
        let found_s = self.decoded_frames as f64 / rate_hz;
        let declared_s = self.declared_frames.map(|frames| frames as f64 / rate_hz);
        self.damage = match (error, declared_s) {
            (Some(error), _) => Some(format!(
                "it ends early, after {found_s:.2} s: {}",
                plain(error)
            )),
            (None, Some(declared_s)) if self.length_is_exact && declared_s - found_s > SLACK_S => {
                Some(format!(
                    "it ends early, after {found_s:.2} of {declared_s:.2} s"
                ))
            }
            _ if self.damaged_packets > 0 => Some(format!(
                "{} damaged packets were replaced by silence",
                self.damaged_packets
            )),
            _ => None,
        };
        if let Some(damage) = &self.damage {
            tracing::warn!("{}: {damage}", self.path.display());
        }
    }
}

/// Whether a file's statement of its length is one: that of an mp3 file may be a guess from its
/// first packets, and a wav file that was written into a pipe says the most that it can.
fn is_exact(parameters: &AudioCodecParameters, declared_frames: Option<u64>) -> bool {
    if parameters.codec == CODEC_ID_MP3 {
        return false;
    }
    let channels = parameters
        .channels
        .as_ref()
        .map_or(1, |channels| channels.count());
    let bytes = u64::from(parameters.bits_per_sample.unwrap_or(16)) / 8 * channels as u64;
    declared_frames.is_some_and(|frames| frames.saturating_mul(bytes) < PLACEHOLDER_BYTES)
}

thread_local! {
    /// Whether a panic on this thread is expected and will be reported as an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and makes an error of a panic in it, without the usual text on standard error.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, AudioError>) -> Result<T, AudioError> {
    static QUIET_HOOK: Once = Once::new();
    QUIET_HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                usual(info);
            }
        }));
    });
    GUARDED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    result.unwrap_or_else(|_| {
        Err(decode_error(
            path,
            "it is damaged in a way that its decoder does not survive".to_owned(),
        ))
    })
}

fn decode_error(path: &Path, what: String) -> AudioError {
    AudioError::Decode(format!("{}: {what}", path.display()))
}

/// The reason without symphonia's own prefix.
fn plain(error: &Error) -> String {
    match error {
        Error::DecodeError(text) | Error::Unsupported(text) | Error::LimitError(text) => {
            (*text).to_owned()
        }
        other => other.to_string(),
    }
}
