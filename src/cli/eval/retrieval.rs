//! CLAP on labelled or captioned clips: which text is nearest to a clip, which clip is nearest to a text.
//!
//! With labels, a label stands for the mean of its sentences, and the best label of a clip is its
//! zero-shot label; with a caption column the captions are the texts, and there is no accuracy. Ties and
//! several right answers are counted as [`crate::train::retrieval`] says.

use super::figures::{BothWays, ClipFigures, Measured, Report, Wrong};
use super::{Args, bar, finish};
use crate::cli::UsageError;
use crate::models::ModelError;
use crate::models::clap::Clap;
use crate::models::layout::Layout;
use crate::models::registry;
use crate::train::metrics::best;
use crate::train::retrieval::both_ways;
use crate::train::zero_shot::{Question, nothing, read_labels, similarities};
use crate::train::{Clip, Manifest};

/// Measures, writes and shows.
///
/// # Errors
/// When the model is no CLAP, or a clip or a text does not go through it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.stream || args.equal_loudness {
        return Err(UsageError(
            "--stream and --equal-loudness are not of --objective retrieval".to_owned(),
        )
        .into());
    }
    let (dir, row) = registry::locate(&args.model)?;
    let layout = Layout::open(&dir)?;
    if layout.model_type() != "clap" {
        return Err(ModelError::Unknown(format!(
            "model '{}': --objective retrieval measures a CLAP, and this is of type '{}'",
            args.model,
            layout.model_type()
        ))
        .into());
    }
    let clap = Clap::load(&layout)?;
    let manifest = Manifest::open(&args.data)?;
    let labels = match &args.labels {
        None => Vec::new(),
        Some(file) => read_labels(file)?,
    };
    let wanted = |clip: &&Clip| {
        args.split.takes(clip)
            && args.fold.is_none_or(|fold| clip.fold == Some(fold))
            && (args.sets.is_empty() || args.sets.contains(&clip.set))
    };
    let question = Question::new(manifest.clips.iter().filter(wanted), labels);
    if question.clips.is_empty() {
        return Err(nothing(&manifest, args.split.as_str()).into());
    }
    let bar = bar(question.clips.len());
    let table = similarities(&clap, &question, &mut || bar.inc(1))?;
    bar.finish_and_clear();
    let name = row.map_or_else(|| dir.display().to_string(), |row| row.name.to_owned());
    finish(
        args,
        &name,
        &Report::Clips(Box::new(measured(&question, &table))),
    )
}

fn measured(question: &Question, table: &[Vec<f32>]) -> Measured {
    let texts = question.texts.len();
    let right: Vec<Vec<bool>> = question
        .right
        .iter()
        .map(|right| (0..texts).map(|at| right.contains(&at)).collect())
        .collect();
    let (audio_to_text, text_to_audio) = both_ways(table, &right);
    let names = question.texts.iter().map(|text| text.name.clone());
    let mut main = ClipFigures::new(match question.has_labels {
        true => names.collect(),
        false => Vec::new(),
    });
    if question.has_labels {
        for (((_, clip), right), row) in question.clips.iter().zip(&question.right).zip(table) {
            let (truth, said) = (right[0], best(row));
            main.add(truth, row);
            if said != truth {
                main.wrong.push(Wrong {
                    clip: clip.clone(),
                    truth: main.labels[truth].clone(),
                    said: main.labels[said].clone(),
                    score: row[said],
                });
            }
        }
    }
    Measured {
        task: "retrieval",
        main,
        words: None,
        precision: Vec::new(),
        glass: None,
        retrieval: Some(BothWays {
            audio_to_text,
            text_to_audio,
            chance: question.has_labels.then(|| 1.0 / texts.max(1) as f64),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::zero_shot::Text;

    fn question(right: Vec<Vec<usize>>, has_labels: bool) -> Question {
        Question {
            clips: (0..right.len())
                .map(|at| (format!("{at}.wav").into(), format!("{at}.wav")))
                .collect(),
            texts: vec![Text::label("dog"), Text::label("cat")],
            right,
            has_labels,
        }
    }

    #[test]
    fn the_best_label_of_a_clip_is_its_zero_shot_label() {
        let question = question(vec![vec![0], vec![1], vec![1]], true);
        let table = [vec![0.9, 0.1], vec![0.6, 0.5], vec![0.0, 0.2]];
        let report = Report::Clips(Box::new(measured(&question, &table)));
        let json = serde_json::to_value(report.record("m", "dev")).unwrap();
        assert_eq!(json["task"], "retrieval");
        assert!((json["accuracy"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(json["retrieval"]["audio_to_text"]["r1"], json["accuracy"]);
        assert_eq!(json["retrieval"]["text_to_audio"]["queries"], 2);
        assert_eq!(json["retrieval"]["chance"], 0.5);
        assert_eq!(json["per_label"]["cat"]["support"], 2);
    }

    #[test]
    fn captions_have_no_accuracy() {
        let question = question(vec![vec![0, 1]], false);
        let report = Report::Clips(Box::new(measured(&question, &[vec![0.1, 0.2]])));
        let json = serde_json::to_value(report.record("m", "dev")).unwrap();
        assert!(json.get("accuracy").is_none() && json["retrieval"]["chance"].is_null());
        assert_eq!(json["retrieval"]["audio_to_text"]["r1"], 1.0);
    }
}
