//! Windows of log-mel frames through a small model of our own.

use std::sync::Arc;

use super::score::{Emit, Scored};
use crate::clock::SampleIdx;
use crate::detect::{LevelMeter, content};
use crate::features::{Frontend, HOP, LogMel, N_MELS, log_mel};
use crate::models::registry::Model;
use crate::models::{ModelError, ModelInfo};
use crate::pipeline::FrameWindow;

/// How far a frame sees beyond the 10 ms that it stands for, in samples.
const REACH: u64 = (log_mel::WINDOW - HOP) as u64;

/// Scores the windows of one file after the other.
pub struct FrameScorer {
    features: LogMel,
    frames: Vec<(SampleIdx, [f32; N_MELS])>,
    window: FrameWindow,
    windows: Windows,
    /// Samples of the file so far.
    samples: u64,
}

impl FrameScorer {
    /// Windows of `window_frames` every `hop_frames`, both at least 1; `content` turns the scores
    /// of an event model into those of the four content states.
    pub fn new(model: Model, content: bool, window_frames: usize, hop_frames: usize) -> Self {
        let states = content.then(|| content::State::ALL.map(|state| Arc::from(state.as_str())));
        FrameScorer {
            features: LogMel::new(),
            frames: Vec::new(),
            window: FrameWindow::new(window_frames, hop_frames),
            windows: Windows {
                model,
                states,
                level: LevelMeter::new(),
                scores: Vec::new(),
                covered: SampleIdx(0),
            },
            samples: 0,
        }
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        self.windows.model.info()
    }

    /// Begins another file.
    pub fn begin(&mut self) {
        self.features.reset(SampleIdx(0));
        self.window.reset();
        self.windows.level = LevelMeter::new();
        self.windows.covered = SampleIdx(0);
        self.samples = 0;
    }

    /// Takes samples at the pipeline rate and emits the windows that they finish.
    ///
    /// # Errors
    /// When the model refuses a window, or `emit` fails.
    pub fn push(&mut self, pcm: &[f32], emit: &mut Emit<'_>) -> anyhow::Result<()> {
        // Small steps keep the level in time with the frames.
        for step in pcm.chunks(HOP) {
            self.samples += step.len() as u64;
            self.windows.level.push(step);
            self.step(step, None, emit)?;
        }
        Ok(())
    }

    /// Ends the file: what no window has held yet is filled up with silence to one more window.
    ///
    /// # Errors
    /// As [`FrameScorer::push`].
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        let end = SampleIdx(self.samples);
        while self.windows.covered < end {
            self.step(&[0.0; HOP], Some(end), emit)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        pcm: &[f32],
        file_end: Option<SampleIdx>,
        emit: &mut Emit<'_>,
    ) -> anyhow::Result<()> {
        let FrameScorer {
            features, frames, ..
        } = self;
        frames.clear();
        features.push(pcm, &mut |at, frame| {
            let mut kept = [0.0; N_MELS];
            kept.copy_from_slice(frame);
            frames.push((at, kept));
        });
        for (at, frame) in &self.frames {
            let stands_to = SampleIdx(at.0.saturating_sub(REACH));
            if self.window.push(stands_to, frame) {
                let (start, end) = self.window.span();
                let end = file_end.map_or(end, |file_end| end.min(file_end));
                self.windows.score(start, end, self.window.newest(), emit)?;
            }
        }
        Ok(())
    }
}

/// The model and what stands around it.
struct Windows {
    model: Model,
    /// Names of the content states, where those are asked for.
    states: Option<[Arc<str>; 4]>,
    level: LevelMeter,
    scores: Vec<f32>,
    /// End of the last window that was scored.
    covered: SampleIdx,
}

impl Windows {
    fn score(
        &mut self,
        start: SampleIdx,
        end: SampleIdx,
        frames: &[f32],
        emit: &mut Emit<'_>,
    ) -> anyhow::Result<()> {
        run(&mut self.model, frames, &mut self.scores)?;
        self.covered = end;
        let info: &ModelInfo = self.model.info();
        let mut scored = Scored {
            start_s: start.as_secs_f64(),
            end_s: end.as_secs_f64(),
            model: &info.name,
            labels: &info.labels,
            scores: &self.scores,
        };
        let Some(states) = &self.states else {
            return emit(scored);
        };
        let samples = usize::try_from(end.0 - start.0.min(end.0)).unwrap_or(usize::MAX);
        let level = self.level.level_over_dbfs(samples);
        let floor = self.level.noise_floor_dbfs();
        let by_state = content::window_scores(&info.labels, &self.scores, level, floor);
        scored.labels = states;
        scored.scores = &by_state;
        emit(scored)
    }
}

/// Scores one window `(frames, N_MELS)`. A model that runs frame by frame starts afresh and is
/// asked after the last frame.
fn run(model: &mut Model, frames: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
    match model {
        Model::Classifier(model) => {
            scores.clear();
            model.classify(frames, scores)
        }
        Model::Spotter(model) => {
            scores.resize(model.info().labels.len(), 0.0);
            model.reset();
            for frame in frames.chunks_exact(N_MELS) {
                model.step(frame, scores);
            }
            Ok(())
        }
        Model::Embedder(_) => Err(ModelError::Shape(
            "a model that takes samples was given frames".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Classifier, Spotter, Task};

    fn info(task: Task) -> ModelInfo {
        ModelInfo {
            name: "fake".into(),
            sha256: "".into(),
            task,
            labels: vec![Arc::from("Speech"), Arc::from("Dog")].into(),
            input: crate::models::Input::LogMel,
            window_frames: 100,
            parameters: 0,
            licence: "Apache-2.0".into(),
        }
    }

    /// Says how many frames it got.
    struct Counts(ModelInfo);

    impl Classifier for Counts {
        fn info(&self) -> &ModelInfo {
            &self.0
        }
        fn classify(&mut self, frames: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
            scores.extend([(frames.len() / N_MELS) as f32 / 1000.0, 0.9]);
            Ok(())
        }
    }

    /// Says how many frames it got since it was reset.
    struct Steps(ModelInfo, usize);

    impl Spotter for Steps {
        fn info(&self) -> &ModelInfo {
            &self.0
        }
        fn step(&mut self, _: &[f32], scores: &mut [f32]) {
            self.1 += 1;
            scores[0] = self.1 as f32 / 1000.0;
        }
        fn reset(&mut self) {
            self.1 = 0;
        }
    }

    fn windows(scorer: &mut FrameScorer, pcm: &[f32], chunk: usize) -> Vec<(f64, f64, Vec<f32>)> {
        let mut got = Vec::new();
        let mut emit = |scored: Scored<'_>| {
            assert_eq!(scored.labels.len(), scored.scores.len());
            got.push((scored.start_s, scored.end_s, scored.scores.to_vec()));
            Ok(())
        };
        scorer.begin();
        for block in pcm.chunks(chunk) {
            scorer.push(block, &mut emit).unwrap();
        }
        scorer.finish(&mut emit).unwrap();
        got
    }

    fn noise(samples: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..samples).map(|_| rng.f32() * 0.2 - 0.1).collect()
    }

    #[test]
    fn every_sample_is_in_a_window_and_none_ends_after_the_file() {
        let mut scorer = FrameScorer::new(
            Model::Classifier(Box::new(Counts(info(Task::Event)))),
            false,
            100,
            50,
        );
        for samples in [1, 159, 8_000, 16_000, 16_001, 40_000, 41_234] {
            let got = windows(&mut scorer, &noise(samples), 1_000);
            let end = samples as f64 / 16_000.0;
            assert_eq!(got[0].0, 0.0, "{samples} samples");
            assert_eq!(got.last().unwrap().1, end, "{samples} samples");
            for pair in got.windows(2) {
                assert!(
                    pair[1].0 - pair[0].0 <= 0.5 && pair[1].0 < pair[0].1,
                    "{pair:?}"
                );
            }
            assert!(
                got.iter().all(|(_, _, scores)| scores[0] == 0.1),
                "whole windows"
            );
        }
    }

    #[test]
    fn chunks_do_not_matter() {
        let mut scorer = FrameScorer::new(
            Model::Classifier(Box::new(Counts(info(Task::Event)))),
            true,
            100,
            50,
        );
        let pcm = noise(50_000);
        let whole = windows(&mut scorer, &pcm, pcm.len());
        assert_eq!(whole, windows(&mut scorer, &pcm, 160));
        assert_eq!(whole, windows(&mut scorer, &pcm, 77));
    }

    #[test]
    fn a_keyword_model_starts_afresh_in_each_window() {
        let model = Model::Spotter(Box::new(Steps(info(Task::Keyword), 0)));
        let mut scorer = FrameScorer::new(model, false, 100, 50);
        let got = windows(&mut scorer, &noise(48_000), 4_000);
        assert!(got.len() >= 5);
        assert!(got.iter().all(|(_, _, scores)| scores[0] == 0.1), "{got:?}");
    }

    #[test]
    fn content_of_digital_silence_is_silence() {
        let mut scorer = FrameScorer::new(
            Model::Classifier(Box::new(Counts(info(Task::Event)))),
            true,
            100,
            50,
        );
        let got = windows(&mut scorer, &[0.0; 32_000], 4_000);
        let silence = content::State::Silence as usize;
        assert!(
            got.iter().all(|(_, _, scores)| scores[silence] == 1.0),
            "{got:?}"
        );
        let got = windows(&mut scorer, &noise(32_000), 4_000);
        let environment = content::State::Environment as usize;
        assert!(
            got.iter().all(|(_, _, scores)| scores[environment] == 0.9),
            "{got:?}"
        );
    }
}
