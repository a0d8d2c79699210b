//! `cmd:...`: a program that writes 16-bit little-endian samples, 16 kHz, mono, to its standard output.
//!
//! The program is started without a shell, with nothing on its standard input; what it writes to
//! standard error goes to the log. A program that exits is a failed source: whoever supervises the
//! sources starts it again. Dropping the source kills the program and what it has started: both are a
//! process group of their own.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::feed::{Feed, pump_s16le};
use super::ring::PcmWriter;
use super::{AudioError, Format, Health, Running, Source};
use crate::clock::PIPELINE_RATE_HZ;

/// Longest line of a program's standard error that is kept in one piece.
const MAX_LOG_LINE: usize = 1024;

/// How long a program may take to end after its output has.
const LAST_WORDS: Duration = Duration::from_millis(500);

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
            .process_group(0)
            .spawn()
            .map_err(|error| {
                AudioError::Device(format!(
                    "cmd: cannot start '{name}': {error}; install it or give its full path"
                ))
            })?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        // From here on dropping `running` kills the program.
        let child = Arc::new(Mutex::new(Program {
            child,
            is_over: false,
        }));
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
                end(&child),
                frames as f64 / f64::from(PIPELINE_RATE_HZ)
            )))
        })?;
        running.feed = Some(feed);
        Ok(Box::new(running))
    }
}

/// A program and its status.
struct Program {
    child: Child,
    /// Its status was collected: its number may be another's now.
    is_over: bool,
}

/// A program that runs; dropping it kills it.
struct RunningCommand {
    child: Arc<Mutex<Program>>,
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

/// Waits a moment for a program whose output has ended to end as well, so that its status is told,
/// and ends what is left of it.
fn end(program: &Mutex<Program>) -> String {
    let given_up = Instant::now() + LAST_WORDS;
    loop {
        {
            let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
            let Program { child, is_over } = &mut *program;
            if *is_over || is_zombie(child.id()) || Instant::now() > given_up {
                break;
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    kill_and_reap(program)
}

/// Whether a process has ended and waits for its status to be collected.
fn is_zombie(id: u32) -> bool {
    // The state stands behind the name, which is in parentheses and may hold some of its own.
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

/// Ends the program and what it has started, and collects its status, in words.
fn kill_and_reap(program: &Mutex<Program>) -> String {
    let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
    let Program { child, is_over } = &mut *program;
    // A program that has closed its output but not ended is of no use any more. Killing one that has
    // ended already does not change its status, and a killed one can be waited for without delay. Until
    // then its number, which is that of the group, is nobody else's.
    let killed = match *is_over {
        true => Ok(()),
        false => kill_group(child).or_else(|_| child.kill()),
    };
    let status = killed.and_then(|()| child.wait());
    *is_over |= status.is_ok();
    status.map_or_else(|error| format!("cannot be ended ({error})"), in_words)
}

fn kill_group(child: &Child) -> std::io::Result<()> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or(std::io::ErrorKind::InvalidInput)?;
    Ok(kill_process_group(group, Signal::KILL)?)
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader};

    use super::super::ring::pcm_ring;
    use super::*;

    #[test]
    fn what_the_program_has_started_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("alive");
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        // The helper keeps the fifo open as long as it lives.
        let script = format!(
            "(exec 3>'{}'; echo up >&3; exec sleep 30) & exec cat /dev/zero",
            fifo.display()
        );
        let source = CommandSource::open(vec!["sh".into(), "-c".into(), script]).unwrap();
        let (writer, _reader) = pcm_ring(source.format(), 1.0);
        let running = Box::new(source).start(writer).unwrap();
        let mut alive = BufReader::new(File::open(&fifo).unwrap());
        let mut line = String::new();
        alive.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        let begun = Instant::now();
        drop(running);
        assert_eq!(alive.read_line(&mut line).unwrap(), 0);
        assert!(begun.elapsed() < Duration::from_secs(20), "it was left");
    }
}
