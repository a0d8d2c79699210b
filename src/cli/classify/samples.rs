//! Windows of samples through a published model.
//!
//! A file shorter than a window is one window of its own length, so that a window no shorter than the
//! file gives what the reference gives for the whole file.

use std::sync::Arc;

use super::score::{Emit, Scored};
use crate::cli::windows::{SLACK_S, Windows};
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
    /// Length of and distance between windows, and what needs none of its own, in samples.
    lengths: (usize, usize, usize),
    windows: Windows,
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
        let info = model.info();
        let slack = (SLACK_S * f64::from(info.input.rate_hz())) as usize;
        let lengths = (window, hop, slack.saturating_sub(1));
        Ok(SampleScorer {
            model,
            lengths,
            windows: Windows::new(window, hop, lengths.2),
            out: Vec::new(),
        })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    /// Begins another file.
    pub fn begin(&mut self) {
        let (window, hop, slack) = self.lengths;
        self.windows = Windows::new(window, hop, slack);
    }

    /// Takes samples at the model's rate and emits the windows that they finish.
    ///
    /// # Errors
    /// When the model fails, or `emit` does.
    pub fn push(&mut self, pcm: &[f32], emit: &mut Emit<'_>) -> anyhow::Result<()> {
        self.windows.push(pcm);
        self.score(emit)
    }

    /// Ends the file: what no window has held yet is in one more.
    ///
    /// # Errors
    /// As [`SampleScorer::push`].
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        self.windows.end();
        self.score(emit)
    }

    /// Scores every window that is whole.
    fn score(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        let SampleScorer {
            model,
            windows,
            out,
            ..
        } = self;
        while let Some((start, pcm)) = windows.take() {
            let ran: Result<(), ModelError> = match model {
                Heard::Scores(model) => model.classify(pcm, out),
                Heard::Embedding(model) => model.embed(pcm, out),
            };
            ran?;
            let info = model.info();
            let seconds = |at: u64| at as f64 / f64::from(info.input.rate_hz());
            let labels: &[Arc<str>] = &info.labels;
            emit(Scored {
                start_s: seconds(start),
                end_s: seconds(start + pcm.len() as u64),
                model: &info.name,
                labels,
                scores: out,
            })?;
        }
        Ok(())
    }
}

impl Heard {
    fn info(&self) -> &ModelInfo {
        match self {
            Heard::Scores(model) => model.info(),
            Heard::Embedding(model) => model.info(),
        }
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
    fn every_window_is_whole_and_none_is_made_up() {
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
                [[0.0, 1.0, 10.0, 0.0], [0.2, 1.2, 10.0, 2.0]]
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
