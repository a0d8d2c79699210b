//! What was measured of each phrasing on each file, and what it comes to.
//!
//! A window's top-1 is whatever is nearest to it: the prompt in one phrasing, a phrase of the background
//! or another prompt. The score of a file is that of its best window, as the daemon would have reached.

use std::path::Path;

use serde::Serialize;

use super::phrasings::{Form, Phrasing};
use crate::models::prompt::{Prompt, Scored, background};

/// One phrasing on one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The score of the best window, from 0 to 1.
    pub score: f32,
    /// The cosine in that window.
    pub similarity: f32,
    /// How far above the background it was there, in log-odds before calibration.
    pub margin: f32,
    /// Where that window begins.
    pub start_s: f64,
    /// Windows whose top-1 is the prompt.
    pub top1: usize,
    /// What was nearest beside it in that window: a background phrase or another prompt.
    pub nearest: Option<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileCells {
    /// Its name as it was given.
    pub file: String,
    /// How many windows were heard.
    pub windows: usize,
    /// For each phrasing, and last for all together.
    #[serde(skip)]
    pub cells: Vec<Cell>,
}

/// Collects windows.
#[derive(Debug)]
pub struct Heard {
    phrasings: usize,
    others: usize,
    files: Vec<FileCells>,
}

impl Heard {
    /// For sets of `phrasings`, the prompt as a whole, and `others` other prompts.
    pub fn new(phrasings: usize, others: usize) -> Self {
        Heard {
            phrasings,
            others,
            files: Vec::new(),
        }
    }

    /// Begins a file.
    pub fn begin(&mut self, file: &Path) {
        self.files.push(FileCells {
            file: file.display().to_string(),
            windows: 0,
            cells: Vec::new(),
        });
    }

    /// Takes what a window scores, in the order of the set.
    pub fn window(&mut self, start_s: f64, scored: &[Scored]) {
        let (own, others) = scored.split_at(scored.len().saturating_sub(self.others));
        let Some(file) = self.files.last_mut() else {
            return;
        };
        file.windows += 1;
        let other = others
            .iter()
            .filter(|other| other.cosine.is_finite())
            .max_by(|a, b| a.cosine.total_cmp(&b.cosine));
        for (at, one) in own.iter().enumerate() {
            let rival = one
                .rival
                .map(|rival| (rival.phrase.to_owned(), rival.cosine));
            let other = other.map(|other| (format!("prompt {}", other.name), other.cosine));
            let nearest = [rival, other].into_iter().flatten();
            let nearest = nearest.max_by(|a, b| a.1.total_cmp(&b.1));
            let is_top1 = !one.is_rejected()
                && nearest
                    .as_ref()
                    .is_none_or(|(_, cosine)| one.cosine > *cosine);
            let cell = Cell {
                score: one.probability,
                similarity: one.cosine,
                margin: one.margin,
                start_s,
                top1: usize::from(is_top1),
                nearest: nearest.map(|(name, _)| name),
            };
            match file.cells.get_mut(at) {
                None => file.cells.push(cell),
                Some(best) => {
                    let top1 = best.top1 + cell.top1;
                    if cell.score > best.score {
                        *best = cell;
                    }
                    best.top1 = top1;
                }
            }
        }
    }

    /// Ends a file; one of which nothing was heard is left out.
    pub fn end(&mut self) {
        let whole = self.phrasings + 1;
        let heard = |file: &FileCells| file.windows > 0 && file.cells.len() == whole;
        if self.files.last().is_some_and(|file| !heard(file)) {
            self.files.pop();
        }
    }

    /// Whether no window was heard.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// How far something goes over several phrasings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, of these and not of all that there could be.
    pub spread: f64,
    /// The least.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of some numbers; zeros where there are none.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let square = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / n;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match values.is_empty() {
            true => Spread {
                mean: 0.0,
                spread: 0.0,
                min: 0.0,
                max: 0.0,
            },
            false => Spread {
                mean,
                spread: square.sqrt(),
                min: least,
                max: most,
            },
        }
    }
}

/// One row: a phrasing over all files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What the text tower was asked; for all together, nothing.
    pub text: Option<String>,
    /// The phrase that it is made of.
    pub phrase: Option<String>,
    /// How it was made.
    pub form: Option<Form>,
    /// Share of all windows whose top-1 is the prompt, from 0 to 1.
    pub top1: f64,
    /// Mean of the scores of the files.
    pub score: f64,
    /// Mean of the similarities of the files.
    pub similarity: f64,
    /// File by file.
    pub files: Vec<Cell>,
}

/// Everything that is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The prompt.
    pub prompt: String,
    /// The least score that counts.
    pub threshold: f32,
    /// The model that was asked.
    pub model: String,
    /// How many background phrases compete.
    pub background: usize,
    /// The other prompts, which compete too.
    pub others: Vec<String>,
    /// The files that could be heard.
    pub files: Vec<FileCells>,
    /// How many windows of them.
    pub windows: usize,
    /// Each way of saying it.
    pub phrasings: Vec<Row>,
    /// All phrases in all their sentences, averaged: what the daemon listens with.
    pub together: Row,
    /// Share of windows whose top-1 is the prompt, over the phrasings.
    pub top1: Spread,
    /// Scores over the phrasings.
    pub score: Spread,
}

impl Figures {
    /// Puts together what was heard.
    pub fn new(
        prompt: &Prompt,
        model: &str,
        phrasings: &[Phrasing],
        others: &[Prompt],
        heard: Heard,
    ) -> Self {
        let files = heard.files;
        let windows: usize = files.iter().map(|file| file.windows).sum();
        let row = |at: usize, phrasing: Option<&Phrasing>| {
            let cells: Vec<Cell> = files
                .iter()
                .filter_map(|file| file.cells.get(at).cloned())
                .collect();
            let of = |value: fn(&Cell) -> f64| -> Vec<f64> { cells.iter().map(value).collect() };
            let top1: usize = cells.iter().map(|cell| cell.top1).sum();
            Row {
                text: phrasing.map(|one| one.text.clone()),
                phrase: phrasing.map(|one| one.phrase.clone()),
                form: phrasing.map(|one| one.form),
                top1: top1 as f64 / windows.max(1) as f64,
                score: Spread::of(&of(|cell| f64::from(cell.score))).mean,
                similarity: Spread::of(&of(|cell| f64::from(cell.similarity))).mean,
                files: cells,
            }
        };
        let rows: Vec<Row> = phrasings
            .iter()
            .enumerate()
            .map(|(at, phrasing)| row(at, Some(phrasing)))
            .collect();
        let over = |value: fn(&Row) -> f64| {
            let values: Vec<f64> = rows.iter().map(value).collect();
            Spread::of(&values)
        };
        Figures {
            prompt: prompt.name.to_string(),
            threshold: prompt.threshold,
            model: model.to_owned(),
            background: background().len(),
            others: others.iter().map(|other| other.name.to_string()).collect(),
            windows,
            top1: over(|row| row.top1),
            score: over(|row| row.score),
            together: row(phrasings.len(), None),
            phrasings: rows,
            files,
        }
    }

    /// Of each file, how far the scores go over the phrasings.
    pub fn scores_of(&self, file: usize) -> Spread {
        let of = |row: &Row| row.files.get(file).map(|cell| f64::from(cell.score));
        let values: Vec<f64> = self.phrasings.iter().filter_map(of).collect();
        Spread::of(&values)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::figures;
    use super::*;

    #[test]
    fn the_top_1_is_what_is_nearest_of_everything() {
        let figures = figures();
        assert_eq!(figures.windows, 3);
        let files: Vec<&str> = figures.files.iter().map(|file| &*file.file).collect();
        assert_eq!(files, ["one.wav", "two.wav"]);
        let shares: Vec<f64> = figures.phrasings.iter().map(|row| row.top1).collect();
        assert_eq!(shares, [2.0 / 3.0, 1.0 / 3.0]);
        assert_eq!(figures.together.top1, 1.0);
        let first = &figures.phrasings[0].files[0];
        assert_eq!((first.score, first.start_s, first.top1), (0.9, 2.0, 1));
        assert_eq!(first.nearest.as_deref(), Some("prompt door"));
        let Spread {
            mean,
            spread,
            min,
            max,
        } = figures.top1;
        assert!((mean - 0.5).abs() < 1e-9 && (spread - 1.0 / 6.0).abs() < 1e-9);
        assert_eq!((min, max), (1.0 / 3.0, 2.0 / 3.0));
        assert!(
            (figures.score.mean - 0.65).abs() < 1e-6,
            "{:?}",
            figures.score
        );
        let one = figures.scores_of(0);
        assert!((one.min - 0.8).abs() < 1e-6 && (one.max - 0.9).abs() < 1e-6);
    }

    #[test]
    fn nothing_spreads_over_nothing() {
        assert_eq!(Spread::of(&[]).max, 0.0);
        assert_eq!(Spread::of(&[0.5]).spread, 0.0);
    }
}
