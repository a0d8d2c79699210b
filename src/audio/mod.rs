//! Where sound comes from, up to mono blocks at the pipeline rate.
//!
//! A [`Source`] writes interleaved samples into a [`ring::PcmWriter`] from a thread or callback of
//! its own; the listener reads mono blocks from the [`ring::PcmReader`] and resamples them.

mod alsa_names;
pub mod command;
pub mod decode;
pub mod feed;
pub mod file;
mod limit;
pub mod mic;
pub mod mix;
pub mod raw;
pub mod resample;
pub mod ring;
pub mod silence;
pub mod spec;
pub mod synth;

use std::time::Duration;

use ring::PcmWriter;

/// How often a live source delivers; a listener should wait for as much.
///
/// Every delivery from PulseAudio costs about 0.2 ms in the client library, whatever its length: 1 % of
/// a core at 20 ms, 0.4 % at 60 ms, 0.3 % at 80 ms. A word's latency bounds it from above.
pub const PERIOD: Duration = Duration::from_millis(60);

/// The native form of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Rate in hertz.
    pub rate_hz: u32,
    /// Interleaved channels.
    pub channels: u16,
}

/// Something that makes sound available.
pub trait Source: Send {
    /// Stable name of the device or file, for events and `status`.
    fn name(&self) -> &str;
    /// The native form; fixed once opened.
    fn format(&self) -> Format;
    /// Starts writing into `out` from a thread or callback of the source's own.
    ///
    /// # Errors
    /// When the device refuses.
    fn start(self: Box<Self>, out: PcmWriter) -> Result<Box<dyn Running>, AudioError>;
}

/// A started source; dropping it stops it without blocking for long.
pub trait Running: Send {
    /// How it is. Cheap: called on every wake-up of the listener.
    fn health(&mut self) -> Health;
}

/// How a started source is.
#[derive(Debug)]
pub enum Health {
    /// Samples are expected.
    Running,
    /// A file or pipe has ended; what was written can still be read.
    Ended,
    /// It has failed and should be opened again.
    Failed(AudioError),
}

/// What can go wrong with sound; each text says what, where and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    /// The device is not there, or has gone.
    #[error("{0}")]
    Device(String),
    /// The file or stream cannot be read as sound.
    #[error("{0}")]
    Decode(String),
    /// The specification is not understood.
    #[error("{0}")]
    Spec(String),
}
