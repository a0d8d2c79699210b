//! Examples made in the background: threads draw, a teacher scores, the trainer takes them in a
//! fixed order, so that a run repeats.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};
use fastrand::Rng;

use super::augment;
use super::teacher::{Teacher, TeacherError};
use crate::features::{HOP, LogMel, N_MELS, log_mel::WINDOW};

/// Frames before the judged second in a streamed example.
pub const CONTEXT: usize = 50;
/// Frames of the judged second.
pub const JUDGED: usize = 100;
/// Samples of an example with context.
pub const SPAN: usize = (CONTEXT + JUDGED - 1) * HOP + WINDOW;
/// Examples that are drawn and scored together.
const BATCH: usize = 64;

/// An example before it is scored.
pub struct Draft {
    /// Sound, [`SPAN`] samples (or the judged part alone where a source has no context).
    pub pcm: Vec<f32>,
    /// What is known, one value a label.
    pub target: Vec<f32>,
    /// Whether context belongs to it.
    pub streamed: bool,
    /// How far the teacher is believed, `0.0..=1.0`.
    pub teach: f32,
    /// What the student hears it times, after the teacher has heard it as it is.
    pub gain: f32,
}

/// An example as the trainer takes it.
pub struct Example {
    /// Frames `(context + judged, N_MELS)`.
    pub frames: Vec<f32>,
    /// What is to be learnt, one value a label.
    pub target: Vec<f32>,
    /// Everything the teacher said; empty without one.
    pub teacher: Vec<f32>,
    /// Whether context belongs to it.
    pub streamed: bool,
}

/// Where examples come from.
pub trait ExampleSource: Send + Sync {
    /// Draws one.
    fn draw(&self, rng: &mut Rng) -> Draft;
    /// Takes what the teacher said into the target.
    fn learn(&self, target: &mut Vec<f32>, teach: f32, teacher: &[f32]);
}

/// A batch of examples, or why there is none.
type Made = Result<Vec<Example>, TeacherError>;

/// A running background maker of examples.
pub struct Pool {
    workers: Vec<(Receiver<Made>, JoinHandle<()>)>,
    next: usize,
}

impl Pool {
    /// Starts `threads` makers, each with a teacher of its own where there is one.
    ///
    /// # Errors
    /// When a teacher does not start.
    pub fn start(
        source: Arc<dyn ExampleSource>,
        teacher: Option<&[String]>,
        threads: usize,
        seed: u64,
    ) -> Result<Self, TeacherError> {
        let mut workers = Vec::new();
        for thread in 0..threads.max(1) {
            let mut teacher = teacher.map(Teacher::start).transpose()?;
            let source = source.clone();
            let (sender, receiver) = bounded(4);
            let handle = std::thread::spawn(move || {
                let mut rng = Rng::with_seed(seed.wrapping_add(thread as u64 * 0x9E37_79B9));
                loop {
                    let made = make(&*source, teacher.as_mut(), &mut rng);
                    let failed = made.is_err();
                    if sender.send(made).is_err() || failed {
                        return;
                    }
                }
            });
            workers.push((receiver, handle));
        }
        Ok(Pool { workers, next: 0 })
    }

    /// At least `count` new examples.
    ///
    /// # Errors
    /// When a teacher has failed.
    pub fn take(&mut self, count: usize) -> Result<Vec<Example>, TeacherError> {
        let mut all = Vec::with_capacity(count + BATCH);
        while all.len() < count {
            let (receiver, _) = &self.workers[self.next];
            self.next = (self.next + 1) % self.workers.len();
            match receiver.recv() {
                Ok(made) => all.extend(made?),
                // A maker ends only after it has sent its error, which was returned then.
                Err(_) => return Ok(all),
            }
        }
        Ok(all)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (receiver, handle) in self.workers.drain(..) {
            drop(receiver);
            let _ = handle.join();
        }
    }
}

fn make(
    source: &dyn ExampleSource,
    teacher: Option<&mut Teacher>,
    rng: &mut Rng,
) -> Result<Vec<Example>, TeacherError> {
    let drafts: Vec<Draft> = (0..BATCH).map(|_| source.draw(rng)).collect();
    let said = match teacher {
        Some(teacher) => {
            let samples = teacher.header().samples;
            let windows: Vec<&[f32]> = drafts
                .iter()
                .map(|draft| &draft.pcm[draft.pcm.len() - samples..])
                .collect();
            teacher.score(&windows)?
        }
        None => vec![Vec::new(); drafts.len()],
    };
    let examples = drafts.into_iter().zip(said).map(|(draft, teacher)| {
        let Draft {
            mut pcm,
            mut target,
            streamed,
            teach,
            gain,
        } = draft;
        pcm.iter_mut().for_each(|x| *x *= gain);
        augment::quantise(&mut pcm);
        let frames = LogMel::batch(&pcm);
        debug_assert!(frames.len() >= (JUDGED + if streamed { CONTEXT } else { 0 }) * N_MELS);
        if !teacher.is_empty() {
            source.learn(&mut target, teach, &teacher);
        }
        Example {
            frames,
            target,
            teacher,
            streamed,
        }
    });
    Ok(examples.collect())
}
