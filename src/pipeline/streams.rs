//! All streams of windows: when a window is handed over, which of them gives way when they are too
//! many, and how they come and go while sound goes on.

use std::sync::Arc;

use super::shed::Shedding;
use super::stats::ModelStats;
use super::stream::{DerivedStream, Span, Verdict, WindowStream};
use super::window::{History, Windows};
use super::worker::Job;
use crate::clock::SampleIdx;
use crate::detect::{Gate, LevelMeter};
use crate::event::Kind;

/// One stream, with or without a model of its own.
pub(super) enum Stream {
    Scored(WindowStream),
    Derived(DerivedStream),
}

impl Stream {
    pub fn stats(&self) -> &Arc<ModelStats> {
        match self {
            Stream::Scored(stream) => &stream.stats,
            Stream::Derived(stream) => &stream.stats,
        }
    }

    fn scored(&self) -> Option<&WindowStream> {
        match self {
            Stream::Scored(stream) => Some(stream),
            Stream::Derived(_) => None,
        }
    }

    fn telling_labels(&self) -> usize {
        self.scored().map_or(0, WindowStream::telling_labels)
    }

    fn is_gated(&self) -> bool {
        self.scored().is_some_and(WindowStream::is_gated)
    }
}

/// The place of a stream in another arrangement.
pub(super) enum Place {
    /// It goes on; with other labels where there are stats for them.
    Kept(usize, Option<Arc<ModelStats>>),
    /// It begins now.
    Begun(Stream),
    /// It goes on, or begins, without a model.
    Derived(Option<usize>, DerivedStream),
}

impl Place {
    /// Where it stood before.
    pub fn from(&self) -> Option<usize> {
        match self {
            Place::Kept(from, _) | Place::Derived(Some(from), _) => Some(*from),
            _ => None,
        }
    }
}

/// All of them, in the order of the streams of observations.
pub(super) struct WindowStreams {
    streams: Vec<Stream>,
    /// Samples for all that take them.
    pcm: History,
    shed: Shedding,
    /// The model that was set aside last, until somebody has taken note.
    left_out: Option<usize>,
    /// Whether anything stands out, for streams that wait for it.
    gate: Gate,
    /// Whether there are any.
    is_gated: bool,
}

impl WindowStreams {
    pub fn new(streams: Vec<WindowStream>) -> Self {
        let kept = streams.iter().map(|stream| stream.windows.history()).max();
        let streams: Vec<Stream> = streams.into_iter().map(Stream::Scored).collect();
        WindowStreams {
            pcm: History::new(kept.unwrap_or(0)),
            shed: Shedding::new(streams.len()),
            left_out: None,
            gate: Gate::new(streams.iter().map(Stream::telling_labels)),
            is_gated: streams.iter().any(Stream::is_gated),
            streams,
        }
    }

    /// Puts the streams into other places, without a gap for those that stay. `pcm` and `shed` have
    /// room for them. Those that are gone end by themselves.
    pub fn rearrange(&mut self, places: Vec<Place>, mut pcm: History, mut shed: Shedding) {
        pcm.carry_over(&self.pcm);
        shed.carry_over(&self.shed, places.iter().map(Place::from));
        self.pcm = pcm;
        self.shed = shed;
        self.left_out = None;
        // The averages of a model stand for the labels that it had.
        let usual: Vec<Option<usize>> = places
            .iter()
            .map(|place| match place {
                Place::Kept(from, None) => Some(*from),
                _ => None,
            })
            .collect();
        let mut old: Vec<Option<Stream>> = self.streams.drain(..).map(Some).collect();
        for place in places {
            let stream = match place {
                Place::Begun(stream) => Some(stream),
                Place::Derived(_, stream) => Some(Stream::Derived(stream)),
                Place::Kept(from, stats) => {
                    let mut stream = old.get_mut(from).and_then(Option::take);
                    if let (Some(Stream::Scored(stream)), Some(stats)) = (&mut stream, stats) {
                        stream.set_labels(stats);
                    }
                    stream
                }
            };
            self.streams.extend(stream);
        }
        for gone in old.into_iter().flatten() {
            if let Stream::Scored(stream) = gone {
                stream.worker.retire();
            }
        }
        let gate = Gate::new(self.streams.iter().map(Stream::telling_labels));
        let old = std::mem::replace(&mut self.gate, gate);
        self.gate.carry_over(old, usual);
        self.is_gated = self.streams.iter().any(Stream::is_gated);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// What is counted of each.
    pub fn stats(&self) -> impl Iterator<Item = &Arc<ModelStats>> {
        self.streams.iter().map(Stream::stats)
    }

    /// What is counted of one.
    pub fn stats_of(&self, at: usize) -> Option<Arc<ModelStats>> {
        self.streams.get(at).map(|stream| stream.stats().clone())
    }

    /// The streams with a model, with their numbers.
    fn scored(&self) -> impl Iterator<Item = (usize, &WindowStream)> {
        let streams = self.streams.iter().enumerate();
        streams.filter_map(|(at, stream)| Some((at, stream.scored()?)))
    }

    fn scored_mut(&mut self) -> impl Iterator<Item = &mut WindowStream> {
        self.streams.iter_mut().filter_map(|stream| match stream {
            Stream::Scored(stream) => Some(stream),
            Stream::Derived(_) => None,
        })
    }

    /// Takes one hop of samples that ends at `end`. Allocates nothing.
    ///
    /// A stream without labels keeps its history too: a copy of 10 ms costs nothing to speak of, and a
    /// label that is added is held against the last seconds at once.
    pub fn samples(&mut self, end: SampleIdx, hop: &[f32]) {
        self.pcm.push(hop);
        for stream in self.scored_mut() {
            if let Windows::Samples(schedule) = &mut stream.windows {
                let complete = schedule.push(end);
                stream.is_due(complete);
            }
        }
    }

    /// Takes one frame of the front end. Allocates nothing.
    pub fn frame(&mut self, end: SampleIdx, frame: &[f32]) {
        for stream in self.scored_mut() {
            if let Windows::Frames(window) = &mut stream.windows {
                let complete = window.push(end, frame);
                stream.is_due(complete);
            }
        }
    }

    /// Takes the level of the sound that ends at `end`. Allocates nothing.
    pub fn level(&mut self, end: SampleIdx, meter: &LevelMeter) {
        if self.is_gated {
            let (level, floor) = (meter.level_dbfs(), meter.noise_floor_dbfs());
            self.gate.hear(end, level, floor);
        }
    }

    /// Takes the scores of a stream over a window that ends at `end`. Allocates nothing.
    pub fn scores(&mut self, at: usize, end: SampleIdx, scores: &[f32]) {
        if self.is_gated {
            self.gate.note(at, end, scores);
        }
    }

    /// Gives every window that is due to its worker, but for those in which nothing stands out; whether
    /// there were any. `has_open` says whether a stream has an open episode. Allocates nothing.
    pub fn hand_over(&mut self, meter: &LevelMeter, has_open: impl Fn(usize) -> bool) -> bool {
        let mut any = false;
        for at in 0..self.streams.len() {
            let Stream::Scored(stream) = &mut self.streams[at] else {
                continue;
            };
            // Without labels there is nothing to ask.
            if std::mem::take(&mut stream.due) && stream.has_labels() {
                any = true;
                self.hand_over_one(at, meter, || has_open(at));
            }
        }
        if any {
            for (at, stream) in self.streams.iter().enumerate() {
                let at = match stream {
                    Stream::Scored(_) => at,
                    Stream::Derived(stream) => stream.of,
                };
                stream.stats().set_aside(self.shed.is_aside(at));
            }
        }
        any
    }

    fn hand_over_one(&mut self, at: usize, meter: &LevelMeter, has_open: impl Fn() -> bool) {
        let Stream::Scored(stream) = &mut self.streams[at] else {
            return;
        };
        if !self.shed.admits(at) {
            stream.stats.skip();
            return;
        }
        let (start, end) = stream.windows.span();
        let samples = usize::try_from(end.0 - start.0).unwrap_or(usize::MAX);
        let span = Span {
            start,
            end,
            level_dbfs: meter.level_over_dbfs(samples),
        };
        stream.is_asked = stream.passes(&self.gate, has_open());
        stream.unasked = (!stream.is_asked).then_some(span);
        if !stream.is_asked {
            stream.stats.gate();
            // A model that is not asked keeps up.
            self.shed.note(at, false, |_| None);
            return;
        }
        let WindowStream {
            worker,
            windows,
            stats,
            ..
        } = &*stream;
        let skipped = worker.submit(|job| {
            job.start = span.start;
            job.end = span.end;
            job.level_dbfs = span.level_dbfs;
            job.input.clear();
            job.input.extend_from_slice(windows.newest(&self.pcm));
        });
        if skipped {
            stats.skip();
        }
        let streams = &self.streams;
        let rank = |other: usize| streams[other].scored()?.rank();
        if let Some(last) = self.shed.note(at, skipped, rank) {
            self.left_out = Some(last);
        }
    }

    /// A model that has just been set aside, and how far it has heard.
    pub fn take_left_out(&mut self) -> Option<(usize, SampleIdx)> {
        let at = self.left_out.take()?;
        Some((at, self.streams.get(at)?.scored()?.windows.span().1))
    }

    /// A window that is done, with the number of its stream; give it back with
    /// [`WindowStreams::recycle`]. With `wait` it waits for those that are under way.
    pub fn done(&self, wait: bool) -> Option<(usize, Job)> {
        self.scored().find_map(|(at, stream)| {
            let job = match wait {
                true => stream.worker.done_blocking(),
                false => stream.worker.done(),
            };
            Some((at, job?))
        })
    }

    /// A window that its model was not asked about, with the number of its stream, once all windows
    /// before it are done and taken.
    pub fn take_unasked(&mut self) -> Option<(usize, Span)> {
        let mut streams = self.streams.iter_mut().enumerate();
        streams.find_map(|(at, stream)| match stream {
            Stream::Scored(stream) if stream.unasked.is_some() && stream.worker.is_idle() => {
                Some((at, stream.unasked.take()?))
            }
            _ => None,
        })
    }

    /// Gives a buffer back.
    pub fn recycle(&self, at: usize, job: Job) {
        if let Some(stream) = self.streams.get(at).and_then(Stream::scored) {
            stream.worker.recycle(job);
        }
    }

    /// What a window of a stream is worth under the labels in force.
    pub fn verdict(&mut self, at: usize, job: &Job) -> Verdict {
        match self.streams.get_mut(at) {
            Some(Stream::Scored(stream)) => stream.verdict(job),
            _ => Verdict::Foreign,
        }
    }

    /// Whether the stream `at` follows from `of`.
    pub fn is_derived(&self, at: usize, of: usize) -> bool {
        matches!(&self.streams[at], Stream::Derived(stream) if stream.of == of)
    }

    /// The scores of the stream `at` where it follows from `of`, whose scores are given.
    pub fn derive(
        &mut self,
        at: usize,
        of: usize,
        scores: &[f32],
    ) -> Option<(&[f32], Arc<ModelStats>)> {
        match &mut self.streams[at] {
            Stream::Derived(stream) if stream.of == of => {
                let stats = stream.stats.clone();
                Some((stream.derive(scores), stats))
            }
            _ => None,
        }
    }

    /// Notes why the last window of a model has no scores; whether it is the first that has none.
    pub fn set_fault(&mut self, at: usize, fault: Option<Arc<str>>) -> bool {
        let Some(Stream::Scored(stream)) = self.streams.get_mut(at) else {
            return false;
        };
        let is_fault = fault.is_some();
        let before = std::mem::replace(&mut stream.fault, fault);
        is_fault && before.is_none()
    }

    /// From now on only the end of the stream itself is put into windows; the most frames that it
    /// takes to complete them.
    pub fn begin_tail(&mut self) -> usize {
        let mut longest = 0;
        for stream in self.scored_mut() {
            let left = match stream.has_labels() {
                true => stream.windows.frames_to_due(),
                false => 0,
            };
            stream.tail = Some(left);
            longest = longest.max(left);
        }
        longest
    }

    /// Forgets everything heard.
    pub fn reset(&mut self) {
        self.pcm.reset();
        self.gate.reset();
        for stream in self.scored_mut() {
            stream.reset();
        }
    }

    /// What is wrong at the moment.
    pub fn fault(&self) -> Option<Arc<str>> {
        let failed = self.scored().find_map(|(_, stream)| stream.fault.clone());
        let model = |at: usize| self.streams.get(at).map(Stream::stats);
        failed
            .or_else(|| {
                let (last, first) = self.shed.aside()?;
                let (last, first) = (model(last)?, model(first)?);
                let why = match last.kind() {
                    Kind::Prompt => "; prompts give way first",
                    _ => "",
                };
                let (last, first) = (&last.info().name, &first.info().name);
                let text = format!("{last} is set aside: {first} cannot keep up beside it{why}");
                Some(text.into())
            })
            .or_else(|| {
                let behind = &model(self.shed.behind()?)?.info().name;
                Some(format!("{behind} cannot keep up: most of its windows are skipped").into())
            })
    }
}

impl Drop for WindowStreams {
    fn drop(&mut self) {
        // All of them at once, so that their limits run beside each other.
        for (_, stream) in self.scored() {
            stream.worker.close();
        }
    }
}
