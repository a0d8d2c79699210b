//! What was measured, as text for people, as the JSON object of the interface, and as files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::stream::StreamFigures;
use crate::cli::out;
use crate::train::metrics::{Confusion, average_precision, best, mean};
use crate::train::retrieval::Retrieval;

/// A clip that was taken for something else.
#[derive(Debug, Clone, Serialize)]
pub struct Wrong {
    /// The clip, as the data set names it.
    pub clip: String,
    /// Its label.
    pub truth: String,
    /// What the model said.
    pub said: String,
    /// And with which score.
    pub score: f32,
}

/// Top-1 figures over a list of labels.
pub struct ClipFigures {
    /// The labels.
    pub labels: Vec<String>,
    /// What was said for what was true.
    pub confusion: Confusion,
    /// The clips that were taken for something else.
    pub wrong: Vec<Wrong>,
    truth: Vec<usize>,
    scores: Vec<Vec<f32>>,
}

impl ClipFigures {
    /// Nothing measured yet.
    pub fn new(labels: Vec<String>) -> Self {
        ClipFigures {
            confusion: Confusion::new(labels.len()),
            scores: vec![Vec::new(); labels.len()],
            labels,
            wrong: Vec::new(),
            truth: Vec::new(),
        }
    }

    /// Counts a clip by its label and its scores, one a label.
    pub fn add(&mut self, truth: usize, scores: &[f32]) {
        self.confusion.add(truth, best(scores));
        self.truth.push(truth);
        for (column, score) in self.scores.iter_mut().zip(scores) {
            column.push(*score);
        }
    }

    /// Average precision of a label over these clips.
    fn average_precision(&self, label: usize) -> Option<f64> {
        let truth: Vec<bool> = self.truth.iter().map(|at| *at == label).collect();
        average_precision(&self.scores[label], &truth)
    }

    fn table(&self) -> Table<'_> {
        let precision: Vec<Option<f64>> = (0..self.labels.len())
            .map(|label| self.average_precision(label))
            .collect();
        let per_label = self
            .labels
            .iter()
            .enumerate()
            .map(|(at, label)| {
                let figures = self.confusion.label(at);
                let row = LabelRow {
                    precision: figures.precision,
                    recall: figures.recall,
                    f1: figures.f1,
                    support: figures.support,
                    average_precision: precision[at],
                };
                (label.as_str(), row)
            })
            .collect();
        Table {
            n: self.confusion.total(),
            accuracy: self.confusion.accuracy(),
            macro_f1: self.confusion.macro_f1(),
            map: mean(precision.into_iter().flatten()),
            per_label,
            confusion: self.confusion.rows().collect(),
            labels: &self.labels,
        }
    }
}

/// How well a label of an event model is ranked over all clips.
#[derive(Debug, Serialize)]
pub struct LabelPrecision {
    /// The label.
    pub label: String,
    /// `None` where no clip has it.
    pub average_precision: Option<f64>,
    /// Area under the ROC curve.
    pub auc: Option<f64>,
    /// Clips that have it.
    pub positives: usize,
}

/// Breaking glass against everything else.
#[derive(Debug, Serialize)]
pub struct Glass {
    /// Area under the ROC curve by the best window of each clip.
    pub auc_best_window: f64,
    /// The same by the mean over its windows.
    pub auc_mean: f64,
    /// Clips with glass.
    pub positives: usize,
    /// Clips without.
    pub negatives: usize,
}

/// What was measured clip by clip.
pub struct Measured {
    /// `keyword`, `event` or `retrieval`.
    pub task: &'static str,
    /// The figures that the interface names.
    pub main: ClipFigures,
    /// Over all words, wake words too (keyword models).
    pub words: Option<ClipFigures>,
    /// Over all clips and labels (event models).
    pub precision: Vec<LabelPrecision>,
    /// Glass (event models).
    pub glass: Option<Glass>,
    /// How clips and texts find each other (CLAP).
    pub retrieval: Option<BothWays>,
}

/// How clips and texts find each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BothWays {
    /// Clips that look for a text of theirs.
    pub audio_to_text: Retrieval,
    /// Texts that look for a clip of theirs.
    pub text_to_audio: Retrieval,
    /// The accuracy of a guess among the labels; `None` for captions.
    pub chance: Option<f64>,
}

/// What was measured.
pub enum Report {
    /// Clip by clip.
    Clips(Box<Measured>),
    /// On streams.
    Stream(StreamFigures),
}

/// The JSON object: the fields that the interface fixes, and some more.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    model: &'a str,
    task: &'a str,
    split: &'a str,
    #[serde(flatten)]
    table: Option<Table<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy_without_silence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all_words: Option<Table<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    average_precision: &'a [LabelPrecision],
    #[serde(skip_serializing_if = "Option::is_none")]
    glass: Option<&'a Glass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retrieval: Option<&'a BothWays>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a StreamFigures>,
}

#[derive(Debug, Serialize)]
struct Table<'a> {
    n: u64,
    accuracy: f64,
    macro_f1: f64,
    map: f64,
    per_label: BTreeMap<&'a str, LabelRow>,
    confusion: Vec<&'a [u64]>,
    labels: &'a [String],
}

#[derive(Debug, Serialize)]
struct LabelRow {
    precision: f64,
    recall: f64,
    f1: f64,
    support: u64,
    average_precision: Option<f64>,
}

impl Report {
    /// The JSON object.
    pub fn record<'a>(&'a self, model: &'a str, split: &'a str) -> Record<'a> {
        let mut record = Record {
            model,
            task: "keyword",
            split,
            table: None,
            accuracy_without_silence: None,
            all_words: None,
            average_precision: &[],
            glass: None,
            retrieval: None,
            stream: None,
        };
        match self {
            Report::Stream(stream) => record.stream = Some(stream),
            Report::Clips(measured) => {
                let mut table = measured.main.table();
                if measured.task == "event" {
                    let known = measured.precision.iter();
                    table.map = mean(known.filter_map(|row| row.average_precision));
                }
                record.task = measured.task;
                // Captions are no labels: of them there is no table.
                record.table = (!measured.main.labels.is_empty()).then_some(table);
                record.retrieval = measured.retrieval.as_ref();
                record.accuracy_without_silence = without_silence(&measured.main);
                record.all_words = measured.words.as_ref().map(ClipFigures::table);
                record.average_precision = &measured.precision;
                record.glass = measured.glass.as_ref();
            }
        }
        record
    }
}

/// Accuracy over the clips that are no silence, as KWT-1 is compared.
fn without_silence(figures: &ClipFigures) -> Option<f64> {
    let silence = figures.labels.iter().position(|l| l == "_silence_")?;
    let rest = (0..figures.labels.len()).filter(|label| *label != silence);
    let (hits, total) = rest.fold((0.0, 0.0), |(hits, total), label| {
        let row = figures.confusion.label(label);
        (
            hits + row.recall * row.support as f64,
            total + row.support as f64,
        )
    });
    (total > 0.0).then(|| hits / total)
}

/// Shows a report on standard output.
///
/// # Errors
/// When standard output takes no more.
pub fn show(record: &Record<'_>, report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        out::line(serde_json::to_string(record)?)?;
        return Ok(());
    }
    match report {
        Report::Stream(stream) => stream.show(record.model),
        Report::Clips(measured) => show_clips(record, measured),
    }
}

fn show_clips(record: &Record<'_>, measured: &Measured) -> anyhow::Result<()> {
    if let Some(both) = &measured.retrieval {
        show_retrieval(record, both)?;
    }
    if let Some(table) = &record.table {
        show_table(record.model, record.split, table)?;
    }
    if let Some(accuracy) = record.accuracy_without_silence {
        out::line(format_args!(
            "without _silence_: accuracy {:.1} %",
            100.0 * accuracy
        ))?;
    }
    if let Some(words) = &record.all_words {
        out::line("")?;
        show_table("all words, wake words too", record.split, words)?;
    }
    if !measured.precision.is_empty() {
        out::line(format_args!(
            "\n{:<34} {:>9} {:>7} {:>7}",
            "over all clips", "positives", "AP", "AUC"
        ))?;
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), |x| format!("{x:.3}"));
        for row in &measured.precision {
            out::line(format_args!(
                "{:<34} {:>9} {:>7} {:>7}",
                row.label,
                row.positives,
                shown(row.average_precision),
                shown(row.auc)
            ))?;
        }
    }
    if let Some(glass) = &measured.glass {
        out::line(format_args!(
            "\nglass against everything else ({} and {} clips): AUC {:.3} by the best window, {:.3} by the mean",
            glass.positives, glass.negatives, glass.auc_best_window, glass.auc_mean
        ))?;
    }
    Ok(())
}

fn show_retrieval(record: &Record<'_>, both: &BothWays) -> anyhow::Result<()> {
    out::line(format_args!(
        "{} ({}): {} clips, {} texts",
        record.model, record.split, both.audio_to_text.queries, both.audio_to_text.answers
    ))?;
    out::line(format_args!(
        "{:<34} {:>7} {:>7} {:>7} {:>7}",
        "direction", "R@1", "R@5", "R@10", "mAP@10"
    ))?;
    for (direction, figures) in [
        ("audio to text", &both.audio_to_text),
        ("text to audio", &both.text_to_audio),
    ] {
        out::line(format_args!(
            "{direction:<34} {:>7.3} {:>7.3} {:>7.3} {:>7.3}",
            figures.r1, figures.r5, figures.r10, figures.map10
        ))?;
    }
    if let Some(chance) = both.chance {
        out::line(format_args!(
            "zero-shot accuracy of a guess: {:.1} %\n",
            100.0 * chance
        ))?;
    }
    Ok(())
}

fn show_table(title: &str, split: &str, table: &Table<'_>) -> anyhow::Result<()> {
    out::line(format_args!(
        "{title} ({split}): accuracy {:.1} % of {} clips, macro F1 {:.3}, mAP {:.3}",
        100.0 * table.accuracy,
        table.n,
        table.macro_f1,
        table.map
    ))?;
    out::line(format_args!(
        "{:<34} {:>9} {:>9} {:>7} {:>7}",
        "label", "support", "precision", "recall", "F1"
    ))?;
    for label in table.labels {
        if let Some(row) = table.per_label.get(label.as_str()) {
            out::line(format_args!(
                "{label:<34} {:>9} {:>9.3} {:>7.3} {:>7.3}",
                row.support, row.precision, row.recall, row.f1
            ))?;
        }
    }
    Ok(())
}

/// Writes a report into a folder, which is made where it is not there.
///
/// # Errors
/// When a file cannot be written.
pub fn write(record: &Record<'_>, report: &Report, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(
        dir.join("report.json"),
        serde_json::to_string_pretty(record)? + "\n",
    )?;
    let Report::Clips(measured) = report else {
        return Ok(());
    };
    let main = &measured.main;
    let mut confusion = csv::Writer::from_path(dir.join("confusion.csv"))?;
    confusion
        .write_record(std::iter::once("truth").chain(main.labels.iter().map(String::as_str)))?;
    for (label, row) in main.labels.iter().zip(main.confusion.rows()) {
        let counts = row.iter().map(u64::to_string);
        confusion.write_record(std::iter::once(label.clone()).chain(counts))?;
    }
    confusion.flush()?;
    let mut wrong = csv::Writer::from_path(dir.join("wrong.csv"))?;
    for miss in main
        .wrong
        .iter()
        .chain(measured.words.iter().flat_map(|words| &words.wrong))
    {
        wrong.serialize(miss)?;
    }
    wrong.flush()?;
    let mut labels = csv::Writer::from_path(dir.join("labels.csv"))?;
    labels.write_record(["label", "support", "precision", "recall", "f1"])?;
    for (at, label) in main.labels.iter().enumerate() {
        let row = main.confusion.label(at);
        labels.write_record([
            label.clone(),
            row.support.to_string(),
            row.precision.to_string(),
            row.recall.to_string(),
            row.f1.to_string(),
        ])?;
    }
    labels.flush()?;
    if !measured.precision.is_empty() {
        let mut precision = csv::Writer::from_path(dir.join("precision.csv"))?;
        for row in &measured.precision {
            precision.serialize(row)?;
        }
        precision.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_fields_of_the_interface() {
        let mut main = ClipFigures::new(vec!["_silence_".into(), "yes".into()]);
        main.add(0, &[0.1, 0.9]);
        main.add(1, &[0.2, 0.8]);
        main.add(1, &[0.3, 0.7]);
        let report = Report::Clips(Box::new(Measured {
            task: "keyword",
            main,
            words: None,
            precision: Vec::new(),
            glass: None,
            retrieval: None,
        }));
        let json = serde_json::to_value(report.record("m", "dev")).unwrap();
        assert_eq!(json["model"], "m");
        assert_eq!(json["n"], 3);
        assert_eq!(json["accuracy"], 2.0 / 3.0);
        assert_eq!(json["accuracy_without_silence"], 1.0);
        assert_eq!(json["labels"], serde_json::json!(["_silence_", "yes"]));
        assert_eq!(json["confusion"], serde_json::json!([[0, 1], [0, 2]]));
        assert_eq!(json["per_label"]["yes"]["support"], 2);
        for key in ["macro_f1", "map"] {
            assert!(json[key].is_f64(), "{key}");
        }
        for key in ["precision", "recall", "f1"] {
            assert!(json["per_label"]["yes"][key].is_f64(), "{key}");
        }
        assert!(json.get("stream").is_none() && json.get("glass").is_none());
    }
}
