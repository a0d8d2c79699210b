//! One client of the socket: lines in, lines out, and a bounded queue between it and the rest.
//!
//! One task does it all, so nothing is locked: a reader that is too slow fills its own queue, is
//! told how many events it missed, and holds up nobody. Requests are taken one after another;
//! while one is answered or the queue is full, no further one is read.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

use crate::command::{Answer, Refusal};

use super::ask::{Inhibitor, unexpected};
use super::filter::Filter;
use super::protocol::{
    self, Code, DoneResult, DroppedRecord, ErrorRecord, EventRecord, HelloRecord, HistoryResult,
    LearnedResult, LiveRecord, PromptRecord, PromptResult, PromptsResult, ScoreRecord, StateRecord,
    StatusRecord, TaughtRecord, TaughtResult, TopResult,
};
use super::request::{self, Call, MAX_LINE};
use super::{Heard, OutputCtx, ended};

/// Events that wait for a slow reader before further ones are dropped (about 0.7 MB, and shared
/// with every other slow reader).
const QUEUE: usize = 1024;

/// Lines that may wait before live pictures are left out; the next one replaces them.
const LIVE_QUEUE: usize = 8;

/// Bytes that are gathered for one write.
const BATCH: usize = 16 * 1024;

/// How long a client may take over its last lines, at its own end or at shutdown.
const FLUSH_LIMIT: Duration = Duration::from_millis(1500);

/// Serves a client until it closes its side or the outputs end.
///
/// # Errors
/// When the connection breaks; that is the client's matter, not ours.
pub async fn serve(mut stream: UnixStream, mut cx: OutputCtx) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut inbox = Inbox::default();
    let mut outbox = Outbox::default();
    let mut session = Session::default();
    let greeting = HelloRecord::new(cx.state.borrow_and_update().0);
    cx.prompts.mark_unchanged();
    cx.taught.mark_unchanged();
    outbox.push(protocol::line(&greeting).into());

    let mut counted = LiveReader::new(cx.live_readers.clone());
    let mut leave_at = Instant::now();
    while !(inbox.is_finished() && session.pending.is_none() && outbox.is_empty()) {
        let live = session.filter.as_ref().is_some_and(|filter| filter.live);
        counted.set(live);
        tokio::select! {
            read = reader.read_buf(inbox.spare()), if inbox.has_room() => {
                inbox.filled(read?);
                leave_at = Instant::now() + FLUSH_LIMIT;
            }
            wrote = writer.write(outbox.batch()), if !outbox.is_empty() => {
                outbox.wrote(wrote?);
            }
            heard = next(&mut session.events) => session.hear(heard, &mut outbox),
            (id, reply) = answer(&mut session.pending) => session.reply(&id, reply, &mut outbox),
            changed = cx.state.changed(), if live && outbox.has_room() => {
                let Ok(()) = changed else { break };
                let (state, reason) = cx.state.borrow_and_update().clone();
                outbox.push(protocol::line(&StateRecord::new(state, &reason)).into());
            }
            changed = cx.prompts.changed(), if live && outbox.has_room() => {
                let Ok(()) = changed else { break };
                let prompts = cx.prompts.borrow_and_update().clone();
                outbox.push(protocol::line(&PromptsResult::notice(&prompts)).into());
            }
            changed = cx.taught.changed(), if live && outbox.has_room() => {
                let Ok(()) = changed else { break };
                let taught = cx.taught.borrow_and_update().clone();
                outbox.push(protocol::line(&TaughtResult::notice(&taught)).into());
            }
            changed = cx.live.changed(), if live && outbox.lines.len() < LIVE_QUEUE => {
                let Ok(()) = changed else { break };
                let picture = cx.live.borrow_and_update().clone();
                outbox.push(protocol::line(&LiveRecord::from(&*picture)).into());
            }
            () = ended(&mut cx.shutdown) => break,
            () = tokio::time::sleep_until(leave_at), if inbox.eof => return Ok(()),
        }
        while session.pending.is_none() && outbox.has_room() {
            let Some(line) = inbox.next() else { break };
            session.handle(line, &mut cx, &mut outbox);
        }
    }
    // What was published before shutdown is in the queue of events: it still goes out, and what
    // the queue of lines has room for does not matter any longer.
    outbox.open_ended = true;
    while let Some(heard) = session.events.as_mut().map(Receiver::try_recv) {
        match heard {
            Ok(heard) => session.hear(Ok(heard), &mut outbox),
            Err(TryRecvError::Lagged(count)) => outbox.dropped += count,
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    outbox.report_dropped(true);
    let flush = async {
        while !outbox.is_empty() {
            let wrote = writer.write(outbox.batch()).await?;
            outbox.wrote(wrote);
        }
        writer.shutdown().await
    };
    tokio::time::timeout(FLUSH_LIMIT, flush)
        .await
        .unwrap_or(Ok(()))
}

/// Counts a client among those that follow the live picture, while it does.
struct LiveReader {
    readers: Arc<AtomicUsize>,
    counted: bool,
}

impl LiveReader {
    fn new(readers: Arc<AtomicUsize>) -> Self {
        LiveReader {
            readers,
            counted: false,
        }
    }

    fn set(&mut self, follows: bool) {
        if follows != self.counted {
            self.counted = follows;
            if follows {
                self.readers.fetch_add(1, Ordering::Relaxed);
            } else {
                self.readers.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for LiveReader {
    fn drop(&mut self) {
        self.set(false);
    }
}

type Pending = Pin<Box<dyn Future<Output = (Value, Reply)> + Send>>;

/// What a request that had to wait came to.
enum Reply {
    Answer(Result<Answer, Refusal>),
    Held(Result<Inhibitor, Refusal>),
}

async fn next(events: &mut Option<Receiver<Arc<Heard>>>) -> Result<Arc<Heard>, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn answer(pending: &mut Option<Pending>) -> (Value, Reply) {
    match pending {
        Some(future) => {
            let reply = future.await;
            *pending = None;
            reply
        }
        None => std::future::pending().await,
    }
}

/// What the client has asked for so far.
#[derive(Default)]
struct Session {
    filter: Option<Filter>,
    events: Option<Receiver<Arc<Heard>>>,
    pending: Option<Pending>,
    /// Released when the connection ends.
    inhibitors: Vec<Inhibitor>,
}

impl Session {
    fn handle(&mut self, line: Line, cx: &mut OutputCtx, outbox: &mut Outbox) {
        let text = match line {
            Line::Text(text) => text,
            Line::TooLong => {
                let why = format!("the line is over {MAX_LINE} bytes; it was skipped");
                let error = ErrorRecord::new(Code::TooLarge, why);
                return outbox.push(protocol::error_line(&Value::Null, &error).into());
            }
        };
        let parsed = request::parse(&text);
        let id = parsed.id;
        let done = |id: &Value| protocol::result_line(id, &DoneResult {}).into();
        match parsed.call {
            Err(error) => outbox.push(protocol::error_line(&id, &error).into()),
            Ok(Call::Subscribe(filter)) => {
                // Before the answer can be read: whatever happens after it is received.
                self.events = Some(cx.events.subscribe());
                self.filter = Some(filter);
                // The state in force comes first, with its reason, which the greeting lacks.
                cx.state.mark_changed();
                outbox.push(done(&id));
            }
            Ok(Call::Unsubscribe) => {
                self.events = None;
                self.filter = None;
                outbox.push(done(&id));
            }
            Ok(Call::Inhibit { who, why }) => {
                let asker = cx.asker.clone();
                self.pending = Some(Box::pin(async move {
                    (id, Reply::Held(asker.inhibit(who, why).await))
                }));
            }
            Ok(Call::Ask(command)) => {
                let asker = cx.asker.clone();
                self.pending = Some(Box::pin(async move {
                    (id, Reply::Answer(asker.ask(command).await))
                }));
            }
        }
    }

    fn reply(&mut self, id: &Value, reply: Reply, outbox: &mut Outbox) {
        let line = match reply {
            Reply::Answer(Ok(answer)) => answer_line(id, &answer),
            Reply::Held(Ok(inhibitor)) => {
                self.inhibitors.push(inhibitor);
                protocol::result_line(id, &DoneResult {})
            }
            Reply::Answer(Err(refusal)) | Reply::Held(Err(refusal)) => {
                protocol::error_line(id, &refusal.into())
            }
        };
        outbox.push(line.into());
    }

    fn hear(&mut self, heard: Result<Arc<Heard>, RecvError>, outbox: &mut Outbox) {
        match heard {
            Ok(heard) => {
                if self
                    .filter
                    .as_mut()
                    .is_some_and(|filter| filter.passes(&heard.event))
                {
                    outbox.offer(&heard);
                }
            }
            Err(RecvError::Lagged(count)) => outbox.dropped += count,
            // The publisher has gone: shutdown follows.
            Err(RecvError::Closed) => self.events = None,
        }
    }
}

fn answer_line(id: &Value, answer: &Answer) -> String {
    match answer {
        Answer::Done => protocol::result_line(id, &DoneResult {}),
        Answer::Status(status) => protocol::result_line(id, &StatusRecord::from(&**status)),
        Answer::Top(top) => {
            let top = top.iter().map(ScoreRecord::from).collect();
            protocol::result_line(id, &TopResult { top })
        }
        Answer::History(events) => {
            let events = events.iter().map(|e| EventRecord::from(&**e)).collect();
            protocol::result_line(id, &HistoryResult { events })
        }
        Answer::Prompts(prompts) => protocol::result_line(id, &PromptsResult::new(prompts)),
        Answer::Prompt(prompt) => {
            let prompt = PromptRecord::from(&**prompt);
            protocol::result_line(id, &PromptResult { prompt })
        }
        Answer::Taught(taught) => protocol::result_line(id, &TaughtResult::new(taught)),
        Answer::Learned(taught, warnings) => {
            let learned = LearnedResult {
                taught: TaughtRecord::from(&**taught),
                warnings: warnings.iter().map(|text| text.as_str().into()).collect(),
            };
            protocol::result_line(id, &learned)
        }
        other @ Answer::Inhibited(_) => protocol::error_line(id, &unexpected(other).into()),
    }
}

/// A line of the client.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Text(Vec<u8>),
    TooLong,
}

/// Cuts what arrives into lines; never holds much more than one of them.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// Bytes at the front that are known to hold no line end.
    scanned: usize,
    /// In the rest of a line that was too long.
    skipping: bool,
    eof: bool,
}

impl Inbox {
    fn has_room(&self) -> bool {
        !self.eof && self.bytes.len() <= MAX_LINE
    }

    fn spare(&mut self) -> &mut Vec<u8> {
        self.bytes.reserve(4096);
        &mut self.bytes
    }

    fn filled(&mut self, count: usize) {
        self.eof = count == 0;
    }

    fn is_finished(&self) -> bool {
        self.eof && self.bytes.is_empty()
    }

    /// The next complete line; at the end also one without a line end. Empty lines are passed over.
    fn next(&mut self) -> Option<Line> {
        loop {
            let end = self.bytes[self.scanned..]
                .iter()
                .position(|&byte| byte == b'\n');
            let line = match end {
                Some(at) => {
                    let rest = self.bytes.split_off(self.scanned + at + 1);
                    let mut line = std::mem::replace(&mut self.bytes, rest);
                    line.pop();
                    self.scanned = 0;
                    if std::mem::take(&mut self.skipping) {
                        continue;
                    }
                    line
                }
                None if self.skipping => {
                    self.bytes.clear();
                    self.scanned = 0;
                    return None;
                }
                None if self.bytes.len() > MAX_LINE => {
                    self.bytes = Vec::new();
                    self.scanned = 0;
                    self.skipping = true;
                    return Some(Line::TooLong);
                }
                None if self.eof && !self.bytes.is_empty() => {
                    self.scanned = 0;
                    std::mem::take(&mut self.bytes)
                }
                None => {
                    self.scanned = self.bytes.len();
                    return None;
                }
            };
            if line.len() > MAX_LINE {
                return Some(Line::TooLong);
            }
            if !line.trim_ascii().is_empty() {
                return Some(Line::Text(line));
            }
        }
    }
}

/// Lines on their way to the client.
#[derive(Default)]
struct Outbox {
    lines: VecDeque<Arc<str>>,
    batch: Vec<u8>,
    written: usize,
    /// Events dropped and not yet reported.
    dropped: u64,
    /// At shutdown: events are bounded by the backlog alone.
    open_ended: bool,
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.batch.is_empty()
    }

    fn has_room(&self) -> bool {
        self.lines.len() < QUEUE
    }

    /// Queues a line that must not be lost; callers look for room first where they can.
    fn push(&mut self, line: Arc<str>) {
        self.lines.push_back(line);
    }

    /// Queues an event, or counts it as dropped. Once some are dropped, so are the following ones
    /// until the reader has caught up with half of the queue: one report then covers them all.
    fn offer(&mut self, heard: &Heard) {
        self.report_dropped(false);
        if self.dropped == 0 && (self.has_room() || self.open_ended) {
            self.push(heard.line());
        } else {
            self.dropped += 1;
        }
    }

    fn report_dropped(&mut self, at_once: bool) {
        if self.dropped > 0 && (at_once || self.lines.len() <= QUEUE / 2) {
            let count = std::mem::take(&mut self.dropped);
            self.push(protocol::line(&DroppedRecord::new(count)).into());
        }
    }

    /// What to write next; empty only when nothing is queued.
    fn batch(&mut self) -> &[u8] {
        if self.batch.is_empty() {
            while self.batch.len() < BATCH
                && let Some(line) = self.lines.pop_front()
            {
                self.batch.extend_from_slice(line.as_bytes());
                self.batch.push(b'\n');
            }
        }
        &self.batch[self.written..]
    }

    fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.batch.len() {
            self.batch.clear();
            self.batch.shrink_to(2 * BATCH);
            self.written = 0;
            self.report_dropped(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Line> {
        let mut inbox = Inbox::default();
        let mut found = Vec::new();
        for chunk in chunks {
            inbox.spare().extend_from_slice(chunk);
            inbox.filled(chunk.len());
            found.extend(std::iter::from_fn(|| inbox.next()));
        }
        inbox.filled(0);
        found.extend(std::iter::from_fn(|| inbox.next()));
        assert!(inbox.is_finished());
        found
    }

    #[test]
    fn lines_are_cut_however_they_arrive() {
        let text = |text: &str| Line::Text(text.as_bytes().to_vec());
        let long = vec![b'x'; MAX_LINE + 1];
        let full = vec![b'y'; MAX_LINE];
        let check = |chunks: &[&[u8]], expected: Vec<Line>| assert_eq!(lines(chunks), expected);
        check(&[b"a\nb\n"], vec![text("a"), text("b")]);
        check(
            &[b"a", b"b", b"\n", b"\r\n", b"c"],
            vec![text("ab"), text("c")],
        );
        check(
            &[&full, b"\nz\n"],
            vec![Line::Text(full.clone()), text("z")],
        );
        check(
            &[&long, &long, b"tail\nz\n"],
            vec![Line::TooLong, text("z")],
        );
        check(&[&long, b"\nz\n"], vec![Line::TooLong, text("z")]);
        check(&[&long], vec![Line::TooLong]);
    }

    #[test]
    fn a_slow_reader_is_told_once_for_all() {
        let mut outbox = Outbox::default();
        for _ in 0..QUEUE {
            outbox.push("line".into());
        }
        outbox.dropped += 5;
        outbox.report_dropped(false);
        assert_eq!(outbox.lines.len(), QUEUE, "not before there is room");
        while outbox.lines.len() > QUEUE / 2 {
            let all = outbox.batch().len();
            outbox.wrote(all);
        }
        assert_eq!(outbox.dropped, 0);
        assert_eq!(
            &**outbox.lines.back().unwrap(),
            r#"{"type":"dropped","count":5}"#
        );
    }
}
