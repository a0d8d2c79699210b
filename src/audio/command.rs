//! `cmd:...`: a program that writes 16-bit little-endian samples, 16 kHz, mono, to its standard output.
//!
//! The program is started without a shell, with nothing on its standard input; what it writes to
//! standard error goes to the log. A program that exits is a failed source: whoever supervises the
//! sources starts it again. Dropping the source kills the program.

use std::io::Read;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::feed::{Feed, pump_s16le};
use super::ring::PcmWriter;
use super::{AudioError, Format, Health, Running, Source};
use crate::clock::PIPELINE_RATE_HZ;

/// Longest line of a program's standard error that is kept in one piece.
const MAX_LOG_LINE: usize = 1024;

/// A program as a source.
pub struct CommandSource {
    argv: Vec<String>,
}

impl CommandSource {
    /// A program with its arguments, `argv[0]` being the program.
    ///
    /// # Errors
    /// When `argv` is empty.
    pub fn open(argv: Vec<String>) -> Result<Self, AudioError> {
        if argv.first().is_none_or(String::is_empty) {
            return Err(AudioError::Spec(
                "cmd: names no program; write cmd:PROGRAM ARGUMENT...".to_owned(),
            ));
        }
        Ok(CommandSource { argv })
    }
}

impl Source for CommandSource {
    fn name(&self) -> &str {
        &self.argv[0]
    }

    fn format(&self) -> Format {
        Format {
            rate_hz: PIPELINE_RATE_HZ,
            channels: 1,
        }
    }

    fn start(self: Box<Self>, mut out: PcmWriter) -> Result<Box<dyn Running>, AudioError> {
        let name = self.argv[0].clone();
        let mut child = Command::new(&name)
            .args(&self.argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                AudioError::Device(format!(
                    "cmd: cannot start '{name}': {error}; install it or give its full path"
                ))
            })?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        // From here on dropping `running` kills the program.
        let child = Arc::new(Mutex::new(child));
        let mut running = RunningCommand {
            child: Arc::clone(&child),
            feed: None,
        };
        let feed_name = name.clone();
        let feed = Feed::spawn(&feed_name, move |stop| {
            if let Some(stderr) = stderr {
                log_stderr(&name, stderr);
            }
            let read = match stdout {
                Some(mut stdout) => pump_s16le(&mut stdout, 1, &mut out, stop),
                None => Ok(0),
            };
            drop(out);
            if stop.is_set() {
                return Ok(());
            }
            let frames = read.map_err(|error| {
                AudioError::Device(format!("cmd: cannot read from '{name}': {error}"))
            })?;
            Err(AudioError::Device(format!(
                "cmd: '{name}' {} after {:.1} s of sound; see the log for what it said",
                kill_and_reap(&child),
                frames as f64 / f64::from(PIPELINE_RATE_HZ)
            )))
        })?;
        running.feed = Some(feed);
        Ok(Box::new(running))
    }
}

/// A program that runs; dropping it kills it.
struct RunningCommand {
    child: Arc<Mutex<Child>>,
    feed: Option<Feed>,
}

impl Running for RunningCommand {
    fn health(&mut self) -> Health {
        self.feed.as_mut().map_or(Health::Ended, Feed::health)
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        self.feed = None;
        kill_and_reap(&self.child);
    }
}

/// Ends the program if it still runs and collects its status, in words.
fn kill_and_reap(child: &Mutex<Child>) -> String {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // A program that has closed its output but not ended is of no use any more. Killing one that has
    // ended already does nothing, and a killed one can be waited for without delay.
    let status = match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        _ => child.kill().and_then(|()| child.wait()),
    };
    status.map_or_else(|error| format!("cannot be ended ({error})"), in_words)
}

fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("has ended with status {code}"),
        None => "has closed its output or was killed".to_owned(),
    }
}

/// Passes on what the program says, line by line, from a thread of its own.
fn log_stderr(name: &str, mut stderr: ChildStderr) {
    let command = name.to_owned();
    let spawned = thread::Builder::new()
        .name("hark-stderr".to_owned())
        .spawn(move || {
            let mut line = Vec::with_capacity(MAX_LOG_LINE);
            let mut bytes = [0u8; 512];
            while let Ok(got @ 1..) = stderr.read(&mut bytes) {
                for &byte in &bytes[..got] {
                    // Progress displays end their lines with a carriage return.
                    if byte != b'\n' && byte != b'\r' {
                        line.push(byte);
                    }
                    if byte == b'\n' || byte == b'\r' || line.len() == MAX_LOG_LINE {
                        log_line(&command, &mut line);
                    }
                }
            }
            log_line(&command, &mut line);
        });
    if let Err(error) = spawned {
        tracing::warn!(command = name, "cannot follow its standard error: {error}");
    }
}

fn log_line(command: &str, line: &mut Vec<u8>) {
    if !line.is_empty() {
        tracing::info!(command, "{}", String::from_utf8_lossy(line));
        line.clear();
    }
}
