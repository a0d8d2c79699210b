//! Event records as lines on a stream, for `hark run --json`.
//!
//! A thread of its own writes, so that a reader that is slow never holds the daemon up. Of a file
//! nothing may be missing, so its lines wait however many they are; those of a live source are left
//! out and counted once there are too many.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, after, bounded, never, select, unbounded};

use super::signals::Signal;
use crate::event::Event;
use crate::outputs::protocol::event_line;

/// Lines that wait for the reader.
const QUEUE: usize = 1024;

/// The stream and its thread.
pub(super) struct Lines {
    queue: Sender<Arc<Event>>,
    closed: Receiver<io::Error>,
    left_out: u64,
}

impl Lines {
    /// Starts to write to `to`; `complete` leaves nothing out.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut to: Box<dyn Write + Send>, complete: bool) -> io::Result<Self> {
        let (queue, events) = if complete {
            unbounded::<Arc<Event>>()
        } else {
            bounded(QUEUE)
        };
        // Closed when the thread has ended; the message is what kept it from writing.
        let (failed, closed) = bounded::<io::Error>(1);
        std::thread::Builder::new()
            .name("hark-lines".into())
            .spawn(move || {
                for event in &events {
                    let written = writeln!(to, "{}", event_line(&event)).and_then(|()| to.flush());
                    if let Err(error) = written {
                        if error.kind() != io::ErrorKind::BrokenPipe {
                            // There is room for the only one.
                            drop(failed.send(error));
                        }
                        return;
                    }
                }
            })?;
        Ok(Lines {
            queue,
            closed,
            left_out: 0,
        })
    }

    /// Becomes ready when nothing can be written any more: with the reason, or closed where the reader
    /// has simply gone.
    pub fn closed(&self) -> &Receiver<io::Error> {
        &self.closed
    }

    /// Takes an event.
    pub fn write(&mut self, event: Arc<Event>) {
        // A reader that has gone is seen on `closed`.
        if let Err(TrySendError::Full(_)) = self.queue.try_send(event) {
            self.left_out += 1;
            tracing::warn!(
                "standard output is not read: {} events left out",
                self.left_out
            );
        }
    }

    /// Writes what is queued, at most for `limit`, or until told to end.
    ///
    /// # Errors
    /// When the stream takes no more; a reader that has gone is none.
    pub fn finish(self, signals: &Receiver<Signal>, limit: Duration) -> io::Result<()> {
        drop(self.queue);
        let (mut signals, none) = (signals, never());
        let late = match limit {
            Duration::MAX => never(),
            limit => after(limit),
        };
        loop {
            select! {
                recv(self.closed) -> failed => return failed.map_or(Ok(()), Err),
                recv(signals) -> signal => match signal {
                    Ok(Signal::End) => return Ok(()),
                    // There is nothing left that could be reloaded.
                    Ok(Signal::Reload) => {}
                    Err(_) => signals = &none,
                },
                recv(late) -> _ => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event() -> Arc<Event> {
        use crate::clock::SampleIdx;
        use crate::event::{Kind, Phase};
        Arc::new(Event {
            id: ulid::Ulid::generate(),
            phase: Phase::Instant,
            kind: Kind::Keyword,
            rule: "words".into(),
            label: "yes".into(),
            score: 0.9,
            threshold: 0.5,
            time: std::time::SystemTime::now(),
            mono_us: 0,
            source: "test".into(),
            start: SampleIdx(0),
            end: None,
            peak: 0.9,
            level_dbfs: -20.0,
            noise_floor_dbfs: -60.0,
            model: None,
            scores: Vec::new(),
            clip: None,
        })
    }

    #[test]
    fn a_closed_reader_is_told_and_nothing_hangs() {
        for complete in [true, false] {
            let mut lines = Lines::start(Box::new(Closed), complete).unwrap();
            for _ in 0..QUEUE + 10 {
                lines.write(event());
            }
            assert!(lines.closed().recv().is_err());
            lines.finish(&never(), Duration::MAX).unwrap();
        }
    }

    #[test]
    fn a_full_disk_is_an_error_and_only_the_end_interrupts() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut lines = Lines::start(Box::new(Full), true).unwrap();
        lines.write(event());
        let (tell, signals) = unbounded();
        tell.send(Signal::Reload).unwrap();
        let error = lines.finish(&signals, Duration::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);

        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = bounded::<()>(0);
        let mut lines = Lines::start(Box::new(Stuck(stuck)), true).unwrap();
        lines.write(event());
        tell.send(Signal::Reload).unwrap();
        tell.send(Signal::End).unwrap();
        lines.finish(&signals, Duration::MAX).unwrap();
        assert!(signals.is_empty(), "the reload came first");
        drop(release);
    }
}
