//! `mic`, `mic:NAME`, `file:PATH`, `raw:RATE:CHANNELS`, `cmd:...`: where sound comes from, in a word.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::command::CommandSource;
use super::file::FileSource;
use super::mic::Mic;
use super::raw::RawSource;
use super::resample::{MAX_RATE_HZ, MIN_RATE_HZ};
use super::{AudioError, Format, Source};

/// Most channels that `raw:` accepts.
const MAX_CHANNELS: u16 = 64;

/// Where sound comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// The default microphone, or the one with this stable name (or a unique part of it).
    Mic(Option<String>),
    /// A sound file.
    File(PathBuf),
    /// 16-bit little-endian samples on standard input.
    Raw(Format),
    /// A program that writes 16-bit little-endian samples, 16 kHz, mono.
    Command(Vec<String>),
}

impl SourceSpec {
    /// Whether the source comes to an end by itself, as a file or a pipe does.
    pub fn is_finite(&self) -> bool {
        matches!(self, SourceSpec::File(_) | SourceSpec::Raw(_))
    }
}

impl FromStr for SourceSpec {
    type Err = AudioError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |what: &str| Err(AudioError::Spec(format!("source '{text}': {what}")));
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        match (kind, rest) {
            ("mic", None) => Ok(SourceSpec::Mic(None)),
            ("mic", Some("")) => {
                fail("the name is empty; write mic, or mic:NAME as 'hark devices' lists it")
            }
            ("mic", Some(name)) => Ok(SourceSpec::Mic(Some(name.to_owned()))),
            ("file", None | Some("")) => fail("the path is missing; write file:PATH"),
            ("file", Some(path)) => Ok(SourceSpec::File(PathBuf::from(path))),
            ("raw", rest) => match rest.and_then(parse_raw) {
                Some(format) => Ok(SourceSpec::Raw(format)),
                None => fail(&format!(
                    "write raw:RATE:CHANNELS with {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz and 1 to {MAX_CHANNELS} channels, as in raw:16000:1"
                )),
            },
            ("cmd", rest) => match rest.map(shlex::split) {
                Some(Some(argv)) if !argv.is_empty() => Ok(SourceSpec::Command(argv)),
                Some(None) => fail("a quote is not closed, or a backslash ends the command"),
                _ => fail("the program is missing; write cmd:PROGRAM ARGUMENT..."),
            },
            _ => fail(
                "not known; write mic, mic:NAME, file:PATH, raw:RATE:CHANNELS or cmd:PROGRAM ARGUMENT...",
            ),
        }
    }
}

fn parse_raw(text: &str) -> Option<Format> {
    let (rate, channels) = text.split_once(':')?;
    let format = Format {
        rate_hz: rate.parse().ok()?,
        channels: channels.parse().ok()?,
    };
    let possible = (MIN_RATE_HZ..=MAX_RATE_HZ).contains(&format.rate_hz)
        && (1..=MAX_CHANNELS).contains(&format.channels);
    possible.then_some(format)
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSpec::Mic(None) => f.write_str("mic"),
            SourceSpec::Mic(Some(name)) => write!(f, "mic:{name}"),
            SourceSpec::File(path) => write!(f, "file:{}", path.display()),
            SourceSpec::Raw(format) => write!(f, "raw:{}:{}", format.rate_hz, format.channels),
            SourceSpec::Command(argv) => {
                f.write_str("cmd:")?;
                for (n, word) in argv.iter().enumerate() {
                    let space = if n == 0 { "" } else { " " };
                    match shlex::try_quote(word) {
                        Ok(quoted) => write!(f, "{space}{quoted}")?,
                        Err(_) => write!(f, "{space}{word:?}")?,
                    }
                }
                Ok(())
            }
        }
    }
}

/// Opens a source. `realtime` paces a file to the speed of its sound; the others have their own.
///
/// # Errors
/// When the device, file or program is not there or cannot be used.
pub fn open(spec: &SourceSpec, realtime: bool) -> Result<Box<dyn Source>, AudioError> {
    Ok(match spec {
        SourceSpec::Mic(name) => Box::new(Mic::open(name.as_deref())?),
        SourceSpec::File(path) => Box::new(FileSource::open(path, realtime)?),
        SourceSpec::Raw(format) => Box::new(RawSource::open(*format)?),
        SourceSpec::Command(argv) => Box::new(CommandSource::open(argv.clone())?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: SourceSpec) {
        let spec: SourceSpec = text.parse().unwrap();
        assert_eq!(spec, expected);
        assert_eq!(spec.to_string().parse::<SourceSpec>().unwrap(), expected);
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let error = text.parse::<SourceSpec>().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&format!("'{text}'")), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    fn words(words: &[&str]) -> SourceSpec {
        SourceSpec::Command(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn every_kind_is_read_and_written_back() {
        check("mic", SourceSpec::Mic(None));
        check(
            "mic:alsa_input.usb-0:1",
            SourceSpec::Mic(Some("alsa_input.usb-0:1".to_owned())),
        );
        check("file:a b:c.wav", SourceSpec::File("a b:c.wav".into()));
        let stereo = Format {
            rate_hz: 44_100,
            channels: 2,
        };
        check("raw:44100:2", SourceSpec::Raw(stereo));
        check(
            "cmd:ffmpeg -i 'rtsp://a b' -f s16le -",
            words(&["ffmpeg", "-i", "rtsp://a b", "-f", "s16le", "-"]),
        );
        check("cmd:a ''", words(&["a", ""]));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        check_error("", "write mic, mic:NAME");
        check_error("microphone", "write mic, mic:NAME");
        check_error("mic:", "hark devices");
        check_error("file:", "file:PATH");
        check_error("file", "file:PATH");
        for raw in [
            "raw",
            "raw:",
            "raw:16000",
            "raw:0:1",
            "raw:16000:0",
            "raw:16000:65",
            "raw:999999:1",
            "raw:-1:1",
            "raw:a:b",
            "raw:16000:1:1",
        ] {
            check_error(raw, "raw:RATE:CHANNELS");
        }
        check_error("cmd", "program is missing");
        check_error("cmd:  ", "program is missing");
        check_error("cmd:a 'b", "quote");
    }
}
