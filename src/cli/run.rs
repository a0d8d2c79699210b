//! `hark run`: listens and reports what it hears, in the foreground.

use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::UsageError;
use crate::audio::spec::SourceSpec;
use crate::config::{self, Flags};
use crate::daemon::signals::{self, Signal};
use crate::daemon::{self, DaemonError, Makers, Options};
use crate::pipeline::Limits;

/// Arguments of `hark run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Reads this configuration file and no other.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listens to this: mic, mic:NAME, file:PATH, raw:RATE:CHANNELS or cmd:PROGRAM ARGUMENT...
    #[arg(long, value_name = "SPEC")]
    source: Option<String>,
    /// Plays a file at its own speed, not as fast as it can.
    #[arg(long)]
    realtime: bool,
    /// Writes every event record to standard output, one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Path of the socket; by default $XDG_RUNTIME_DIR/hark/hark.sock.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Which D-Bus: auto, session, system or none.
    #[arg(long, value_name = "BUS")]
    bus: Option<String>,
    /// Logs more; twice for everything. HARK_LOG takes a filter such as harkd::pipeline=debug.
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Logs warnings and errors alone.
    #[arg(long, short, conflicts_with = "verbose")]
    quiet: bool,
}

/// Runs the verb.
///
/// # Errors
/// What keeps the daemon from starting, and a source that has failed for good.
pub fn run(args: Args) -> anyhow::Result<()> {
    start_log(&args)?;
    if let Some(spec) = &args.source
        && let Err(error) = spec.parse::<SourceSpec>()
    {
        return Err(UsageError(format!("--source: {error}")).into());
    }
    let flags = Flags {
        config: args.config,
        source: args.source,
        socket: args.socket,
        bus: args.bus,
    };
    let lines = args
        .json
        .then(|| Box::new(io::stdout()) as Box<dyn Write + Send>);
    let ended = daemon::run(Options {
        load: Box::new(move || config::load(&flags)),
        makers: Makers::default(),
        limits: Limits::default(),
        realtime: args.realtime,
        // A service starts before the sound server does and must wait for it; a person wants to
        // know at once.
        wait_for_source: is_service(),
        lines,
        signals: signals::listen(hangup()).context("cannot follow signals")?,
        paths: config::paths::Paths::current(),
    });
    ended.map_err(unwrap_daemon_error)
}

/// The error that decides on the exit code.
pub(super) fn unwrap_daemon_error(error: DaemonError) -> anyhow::Error {
    match error {
        DaemonError::Config(error) => error.into(),
        DaemonError::Rule(error) => error.into(),
        DaemonError::Audio(error) => error.into(),
        DaemonError::Model(error) => error.into(),
        DaemonError::Bus(error) => error.into(),
        error @ (DaemonError::Thread(_) | DaemonError::Lines(_)) => error.into(),
    }
}

/// Whether a service manager has started this process and is told how it is.
fn is_service() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some() || is_journal()
}

/// What SIGHUP asks for: a daemon reads its configuration again; a program in a terminal ends with it.
fn hangup() -> Signal {
    if !is_service() && io::stderr().is_terminal() {
        Signal::End
    } else {
        Signal::Reload
    }
}

/// Whether standard error goes to the journal: systemd names its device and inode.
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| named == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Logs to the journal where standard error is one, and to standard error otherwise.
fn start_log(args: &Args) -> anyhow::Result<()> {
    let level = match (args.quiet, args.verbose) {
        (true, _) => "warn",
        // The journal is kept, and what was heard at home is not for keeping.
        (false, 0) if is_service() => "warn,harkd=info,harkd::heard=off",
        (false, 0) => "warn,harkd=info",
        (false, 1) => "info,harkd=debug",
        (false, _) => "debug,harkd=trace",
    };
    let filter = match std::env::var("HARK_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .with_context(|| format!("HARK_LOG='{text}' is no log filter; try HARK_LOG=debug"))?,
        _ => EnvFilter::new(level),
    };
    let log = tracing_subscriber::registry().with(filter);
    if is_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        log.with(journal.with_syslog_identifier("hark".into()))
            .init();
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false);
        log.with(lines).init();
    }
    Ok(())
}
