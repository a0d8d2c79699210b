//! What `hark classify` shows: a table or JSON lines on standard output, a bar on standard error.

use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::score::Scored;
use crate::cli::{Reported, exit_code, out};
use crate::pipeline::stats;

/// A single file that is shorter than this needs no bar, in seconds.
const LONG_S: f64 = 60.0;

/// One window, in the order of the documentation.
#[derive(Debug, Serialize)]
struct WindowRecord<'a> {
    file: &'a str,
    start_s: f64,
    end_s: f64,
    model: &'a str,
    task: &'a str,
    #[serde(flatten)]
    answer: Answer<'a>,
}

/// A label and its score, with every digit that the model gives: someone may compare.
#[derive(Debug, Serialize)]
struct ScoreRecord<'a> {
    label: &'a str,
    score: f32,
}

/// What the model says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer<'a> {
    /// Best first.
    Scores(Vec<ScoreRecord<'a>>),
    /// A point.
    Embedding(&'a [f32]),
}

/// Writes windows on standard output.
pub struct Show {
    json: bool,
    top_k: usize,
    task: &'static str,
    is_embedding: bool,
    file: String,
}

impl Show {
    /// `top_k` labels for each window, all where it is 0; or an embedding.
    pub fn new(json: bool, top_k: usize, task: &'static str, is_embedding: bool) -> Self {
        Show {
            json,
            top_k,
            task,
            is_embedding,
            file: String::new(),
        }
    }

    /// Says which file the next windows are of; its heading comes with the first of them.
    pub fn begin(&mut self, file: &Path) {
        self.file = file.display().to_string();
    }

    /// Writes one window.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub fn window(&mut self, window: Scored<'_>) -> anyhow::Result<()> {
        let keep = match self.top_k {
            0 => window.labels.len(),
            top_k => top_k,
        };
        let best = stats::best(window.labels, window.scores, keep);
        if self.json {
            let record = WindowRecord {
                file: &self.file,
                start_s: window.start_s,
                end_s: window.end_s,
                model: window.model,
                task: self.task,
                answer: if self.is_embedding {
                    Answer::Embedding(window.scores)
                } else {
                    Answer::Scores(
                        best.iter()
                            .map(|entry| ScoreRecord {
                                label: &entry.label,
                                score: entry.score,
                            })
                            .collect(),
                    )
                },
            };
            out::line(serde_json::to_string(&record)?)?;
            return Ok(());
        }
        if window.start_s == 0.0 {
            out::line(format_args!(
                "{}  ({}, {})",
                self.file, window.model, self.task
            ))?;
        }
        if self.is_embedding {
            let length = window.scores.iter().map(|v| v * v).sum::<f32>().sqrt();
            out::line(format_args!(
                "{:9.2} {:9.2}  embedding of {} values, length {length:.3}; --json shows them",
                window.start_s,
                window.end_s,
                window.scores.len()
            ))?;
            return Ok(());
        }
        let scores: Vec<String> = best
            .iter()
            .map(|entry| format!("{} {:.2}", entry.label, entry.score))
            .collect();
        out::line(format_args!(
            "{:9.2} {:9.2}  {}",
            window.start_s,
            window.end_s,
            scores.join(", ")
        ))?;
        Ok(())
    }
}

/// The bar: only where a person looks at standard error, and only for work that takes a while.
pub struct Progress {
    bar: ProgressBar,
    /// Whether the bar counts files; otherwise it counts the samples of the only one.
    by_file: bool,
}

impl Progress {
    /// For `files` files.
    pub fn new(files: usize) -> Self {
        let by_file = files > 1;
        let bar = if by_file && stderr().is_terminal() {
            ProgressBar::new(files as u64).with_style(style("[{wide_bar}] {pos}/{len} {eta} {msg}"))
        } else {
            ProgressBar::hidden()
        };
        Progress { bar, by_file }
    }

    /// Runs `each` for every file; one that fails is told on standard error and the others go on.
    ///
    /// # Errors
    /// At once when standard output takes no more; otherwise with the kind of the first file that
    /// failed, after all were tried.
    pub fn over(
        mut self,
        files: &[PathBuf],
        mut each: impl FnMut(&Path, &mut Progress) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut failed = None;
        for file in files {
            if let Err(error) = each(file, &mut self) {
                if error.is::<out::OutError>() {
                    return Err(error);
                }
                self.aside(|| out::complain(format_args!("{error:#}")));
                failed.get_or_insert(exit_code(&error));
            }
            self.end();
        }
        match failed {
            None => Ok(()),
            Some(code) => Err(Reported(code).into()),
        }
    }

    /// Begins a file of `declared_s` seconds at `rate_hz`.
    pub fn begin(&mut self, file: &Path, declared_s: Option<f64>, rate_hz: u32) {
        self.bar.set_message(file.display().to_string());
        let long = declared_s.filter(|length_s| *length_s >= LONG_S);
        if let (false, Some(length_s), true) = (self.by_file, long, stderr().is_terminal()) {
            let samples = length_s * f64::from(rate_hz);
            self.bar = ProgressBar::new(samples as u64)
                .with_style(style("[{wide_bar}] {percent} % {eta}"));
        }
    }

    /// Counts samples of the file.
    pub fn advance(&self, samples: usize) {
        if !self.by_file {
            self.bar.inc(samples as u64);
        }
    }

    /// Counts a file as done.
    pub fn end(&self) {
        if self.by_file {
            self.bar.inc(1);
        }
    }

    /// Runs `write` with the bar out of the way.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
