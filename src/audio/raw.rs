//! `raw:RATE:CHANNELS`: interleaved 16-bit little-endian samples on standard input.

use std::io::IsTerminal;

use super::feed::{Feed, pump_s16le};
use super::ring::PcmWriter;
use super::{AudioError, Format, Running, Source};

/// Standard input as a source; it ends when the input ends.
pub struct RawSource {
    format: Format,
}

impl RawSource {
    /// Takes standard input as samples of `format`.
    ///
    /// # Errors
    /// When standard input is a terminal.
    pub fn open(format: Format) -> Result<Self, AudioError> {
        if std::io::stdin().is_terminal() {
            return Err(AudioError::Device(
                "raw: standard input is a terminal; pipe 16-bit little-endian samples into hark"
                    .to_owned(),
            ));
        }
        Ok(RawSource { format })
    }
}

impl Source for RawSource {
    fn name(&self) -> &str {
        "standard input"
    }

    fn format(&self) -> Format {
        self.format
    }

    fn start(self: Box<Self>, mut out: PcmWriter) -> Result<Box<dyn Running>, AudioError> {
        let channels = self.format.channels;
        let feed = Feed::spawn("standard input", move |stop| {
            let mut input = std::io::stdin().lock();
            match pump_s16le(&mut input, channels, &mut out, stop) {
                Ok(_) => Ok(()),
                Err(error) => Err(AudioError::Device(format!(
                    "raw: cannot read standard input: {error}"
                ))),
            }
        })?;
        Ok(Box::new(feed))
    }
}
