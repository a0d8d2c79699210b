//! Signals as messages.

use std::io;

use crossbeam_channel::{Receiver, unbounded};
use tokio::signal::unix::{SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End, with every open event closed.
    End,
    /// Read the configuration again.
    Reload,
}

/// Takes over SIGTERM and SIGINT, which ask for the end, and SIGHUP, which asks for `hangup`, for the
/// rest of the process.
///
/// # Errors
/// When the system does not give the handlers or a thread.
pub fn listen(hangup: Signal) -> io::Result<Receiver<Signal>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    drop(entered);
    let (tell, signals) = unbounded();
    std::thread::Builder::new()
        .name("hark-signals".into())
        .spawn(move || {
            runtime.block_on(async move {
                loop {
                    let got = tokio::select! {
                        Some(()) = term.recv() => Signal::End,
                        Some(()) = int.recv() => Signal::End,
                        Some(()) = hup.recv() => hangup,
                        else => return,
                    };
                    if tell.send(got).is_err() {
                        return;
                    }
                }
            });
        })?;
    Ok(signals)
}
