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
    closed: Receiver<()>,
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
        // Closed, without a message, when the thread has ended.
        let (alive, closed) = bounded::<()>(0);
        std::thread::Builder::new()
            .name("hark-lines".into())
            .spawn(move || {
                let _alive = alive;
                for event in &events {
                    let written = writeln!(to, "{}", event_line(&event)).and_then(|()| to.flush());
                    if let Err(error) = written {
                        if error.kind() != io::ErrorKind::BrokenPipe {
                            tracing::error!("cannot write events to standard output: {error}");
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

    /// Becomes ready when nobody reads any more.
    pub fn closed(&self) -> &Receiver<()> {
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
    pub fn finish(self, signals: &Receiver<Signal>, limit: Duration) {
        drop(self.queue);
        let late = match limit {
            Duration::MAX => never(),
            limit => after(limit),
        };
        select! {
            recv(self.closed) -> _ => {}
            recv(signals) -> _ => {}
            recv(late) -> _ => {}
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
            lines.finish(&never(), Duration::MAX);
        }
    }
}
