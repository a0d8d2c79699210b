//! Windows of samples through a published model.
//!
//! The last window of a file holds what is left, and a file shorter than a window is one window of
//! its own length, so that a window no shorter than the file gives what the reference gives for the
//! whole file.

use std::sync::Arc;

use super::score::{Emit, Scored};
use crate::models::registry::Model;
use crate::models::{Classifier, Embedder, Input, ModelError, ModelInfo};

/// A model that takes samples.
enum Heard {
    Scores(Box<dyn Classifier>),
    Embedding(Box<dyn Embedder>),
}

/// Scores the windows of one file after the other.
pub struct SampleScorer {
    model: Heard,
    window: usize,
    hop: usize,
    /// Samples from `start` on.
    pcm: Vec<f32>,
    start: u64,
    /// Samples before `start` that are still to come, where windows leave gaps.
    skip: usize,
    /// End of the last window that was scored.
    covered: u64,
    out: Vec<f32>,
}

impl SampleScorer {
    /// Windows of `window` samples every `hop` samples, both at least 1; `None` gives the model back
    /// where it does not take samples.
    pub fn new(model: Model, window: usize, hop: usize) -> Result<Self, Model> {
        let model = match model {
            Model::Classifier(model) if model.info().input != Input::LogMel => Heard::Scores(model),
            Model::Embedder(model) => Heard::Embedding(model),
            other => return Err(other),
        };
        Ok(SampleScorer {
            model,
            window: window.max(1),
            hop: hop.max(1),
            pcm: Vec::new(),
            start: 0,
            skip: 0,
            covered: 0,
            out: Vec::new(),
        })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        match &self.model {
            Heard::Scores(model) => model.info(),
            Heard::Embedding(model) => model.info(),
        }
    }

    /// Begins another file.
    pub fn begin(&mut self) {
        self.pcm.clear();
        self.start = 0;
        self.skip = 0;
        self.covered = 0;
    }

    /// Takes samples at the model's rate and emits the windows that they finish.
    ///
    /// # Errors
    /// When the model fails, or `emit` does.
    pub fn push(&mut self, pcm: &[f32], emit: &mut Emit<'_>) -> anyhow::Result<()> {
        let gap = self.skip.min(pcm.len());
        self.skip -= gap;
        self.pcm.extend_from_slice(&pcm[gap..]);
        // One sample more than a window shows that the window is not the file's last: that one
        // ends where the file ends.
        while self.pcm.len() > self.window {
            self.score(self.window, emit)?;
            let here = self.hop.min(self.pcm.len());
            self.pcm.drain(..here);
            self.skip = self.hop - here;
            self.start += self.hop as u64;
        }
        Ok(())
    }

    /// Ends the file: what no window has held yet is one more window.
    ///
    /// # Errors
    /// As [`SampleScorer::push`].
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        if !self.pcm.is_empty() && self.start + self.pcm.len() as u64 > self.covered {
            self.score(self.pcm.len(), emit)?;
        }
        Ok(())
    }

    fn score(&mut self, samples: usize, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        let pcm = &self.pcm[..samples];
        let ran: Result<(), ModelError> = match &mut self.model {
            Heard::Scores(model) => model.classify(pcm, &mut self.out),
            Heard::Embedding(model) => model.embed(pcm, &mut self.out),
        };
        ran?;
        self.covered = self.start + samples as u64;
        let info = self.info();
        let seconds = |at: u64| at as f64 / f64::from(info.input.rate_hz());
        let labels: &[Arc<str>] = &info.labels;
        emit(Scored {
            start_s: seconds(self.start),
            end_s: seconds(self.covered),
            model: &info.name,
            labels,
            scores: &self.out,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Task;

    /// Says how many samples it got and which was the first.
    struct Counts(ModelInfo);

    impl Classifier for Counts {
        fn info(&self) -> &ModelInfo {
            &self.0
        }
        fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
            *scores = vec![window.len() as f32, window[0]];
            Ok(())
        }
    }

    fn counts() -> Model {
        Model::Classifier(Box::new(Counts(ModelInfo {
            name: "fake".into(),
            sha256: "".into(),
            task: Task::Event,
            labels: vec![Arc::from("length"), Arc::from("first")].into(),
            input: Input::Samples { rate_hz: 10 },
            window_frames: 100,
            parameters: 0,
            licence: "Apache-2.0".into(),
        })))
    }

    /// Start, end, length and first sample of every window of a file of `len` samples.
    fn windows(len: usize, window: usize, hop: usize, chunk: usize) -> Vec<[f64; 4]> {
        let Ok(mut scorer) = SampleScorer::new(counts(), window, hop) else {
            panic!("it takes samples");
        };
        let pcm: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let mut got = Vec::new();
        let mut emit = |scored: Scored<'_>| {
            got.push([
                scored.start_s,
                scored.end_s,
                f64::from(scored.scores[0]),
                f64::from(scored.scores[1]),
            ]);
            Ok(())
        };
        scorer.begin();
        for block in pcm.chunks(chunk) {
            scorer.push(block, &mut emit).unwrap();
        }
        scorer.finish(&mut emit).unwrap();
        got
    }

    #[test]
    fn every_sample_is_in_a_window_and_none_is_made_up() {
        for chunk in [1, 3, 7, 100] {
            assert_eq!(
                windows(25, 10, 5, chunk),
                [
                    [0.0, 1.0, 10.0, 0.0],
                    [0.5, 1.5, 10.0, 5.0],
                    [1.0, 2.0, 10.0, 10.0],
                    [1.5, 2.5, 10.0, 15.0]
                ]
            );
            assert_eq!(
                windows(12, 10, 10, chunk),
                [[0.0, 1.0, 10.0, 0.0], [1.0, 1.2, 2.0, 10.0]]
            );
            assert_eq!(windows(10, 10, 5, chunk), [[0.0, 1.0, 10.0, 0.0]]);
            assert_eq!(windows(4, 10, 5, chunk), [[0.0, 0.4, 4.0, 0.0]]);
            // Windows further apart than they are long leave out what is between.
            assert_eq!(
                windows(25, 4, 10, chunk),
                [
                    [0.0, 0.4, 4.0, 0.0],
                    [1.0, 1.4, 4.0, 10.0],
                    [2.0, 2.4, 4.0, 20.0]
                ]
            );
        }
        assert!(windows(0, 10, 5, 1).is_empty());
    }
}
