//! `hark models suggest`: which way leads to a label soonest.
//!
//! The order is that of the least work: a model that knows the label, a description in plain words,
//! a model trained on clips of it.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{UsageError, out};
use crate::models::Task;
use crate::models::registry::{self, ROWS, Row};
use crate::train::manifest::Manifest;

/// As many clips as training wants at least.
const CLIPS: usize = 20;

/// Arguments of `hark models suggest`.
#[derive(Debug, clap::Args)]
pub struct SuggestArgs {
    /// What you want to hear, such as "dog bark", "Dutch" or "computer".
    #[arg(required = true, value_name = "LABEL")]
    labels: Vec<String>,
    /// A data set that may hold clips of it.
    #[arg(long, value_name = "D")]
    data: Option<PathBuf>,
    /// One JSON object for each label.
    #[arg(long)]
    json: bool,
}

/// A model that knows a label.
#[derive(Debug, Serialize)]
struct Knows {
    model: &'static str,
    task: &'static str,
    /// What the model calls it.
    label: String,
    installed: bool,
}

/// The advice for one label.
#[derive(Debug, Serialize)]
struct Advice<'a> {
    label: &'a str,
    knows: Vec<Knows>,
    clips: usize,
    /// `model`, `prompt` or `train`.
    way: &'static str,
    command: String,
}

/// Runs the verb.
///
/// # Errors
/// When a label is empty or the data set cannot be read.
pub fn run(args: &SuggestArgs) -> anyhow::Result<()> {
    let manifest = args.data.as_deref().map(Manifest::open).transpose()?;
    let known: Vec<(&'static Row, Vec<String>)> = ROWS
        .iter()
        .map(|row| (row, registry::labels_of(row)))
        .collect();
    for wanted in &args.labels {
        if words(wanted).is_empty() {
            return Err(
                UsageError(format!("'{wanted}' names nothing: give a label in words")).into(),
            );
        }
        let clips = manifest.as_ref().map_or(0, |manifest| {
            manifest
                .clips
                .iter()
                .filter(|clip| likeness(wanted, &clip.label) > 0)
                .count()
        });
        let advice = advise(wanted, clips, &known);
        if args.json {
            out::line(serde_json::to_string(&advice)?)?;
        } else {
            show(&advice)?;
        }
    }
    Ok(())
}

fn advise<'a>(wanted: &'a str, clips: usize, known: &[(&'static Row, Vec<String>)]) -> Advice<'a> {
    let mut knows: Vec<(usize, Knows)> = known
        .iter()
        .filter_map(|(row, labels)| {
            let (likeness, label) = labels
                .iter()
                .map(|label| (likeness(wanted, label), label))
                .max_by_key(|(likeness, label)| (*likeness, std::cmp::Reverse(label.len())))?;
            (likeness > 0).then(|| {
                let knows = Knows {
                    model: row.name,
                    task: row.task.as_str(),
                    label: label.clone(),
                    installed: registry::is_installed(row),
                };
                (likeness, knows)
            })
        })
        .collect();
    // The better match first, then what is here already; equal ones stay in the order of the rows.
    knows.sort_by_key(|(likeness, knows)| (std::cmp::Reverse(*likeness), !knows.installed));
    let knows: Vec<Knows> = knows.into_iter().map(|(_, knows)| knows).collect();
    let (way, command) = match (knows.first(), clips >= CLIPS) {
        (Some(best), _) if best.installed => (
            "model",
            format!("hark classify --model {} FILE", best.model),
        ),
        (Some(best), _) => ("model", format!("hark models pull {}", best.model)),
        (None, true) => ("train", "hark models pull distilhubert".to_owned()),
        (None, _) => {
            let pull = match registry::best_for(Task::Prompt) {
                Some(row) if !registry::is_installed(row) => {
                    format!("hark models pull {}, then ", row.name)
                }
                _ => String::new(),
            };
            (
                "prompt",
                format!("{pull}hark score --prompt '{wanted}' FILE"),
            )
        }
    };
    Advice {
        label: wanted,
        knows,
        clips,
        way,
        command,
    }
}

fn show(advice: &Advice<'_>) -> anyhow::Result<()> {
    out::line(advice.label)?;
    for knows in &advice.knows {
        out::line(format_args!(
            "  {:<18} {:<9} knows it as '{}'{}",
            knows.model,
            knows.task,
            knows.label,
            if knows.installed { ", installed" } else { "" }
        ))?;
    }
    let why = match advice.way {
        "model" => "a model knows it",
        "train" => "no model knows it, and there are clips to train a base on",
        _ => "no model knows it: describe it in plain words (CLAP), or collect clips of it",
    };
    if advice.clips > 0 {
        out::line(format_args!("  {} clips in the data set", advice.clips))?;
    }
    out::line(format_args!("  {why}: {}", advice.command))?;
    Ok(())
}

/// The words of a label, small, without endings that only grammar asks for.
fn words(label: &str) -> Vec<String> {
    label
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| {
            !word.is_empty() && !["a", "an", "the", "of", "sound", "and", "in"].contains(word)
        })
        .map(|word| {
            let stem = ["ing", "es", "s"]
                .iter()
                .find_map(|ending| word.strip_suffix(ending).filter(|stem| stem.len() >= 3));
            stem.unwrap_or(word).to_owned()
        })
        .collect()
}

/// How alike a wish and a label are: 0 for not at all, 3 for the same, 2 for one of the names that
/// the label lists between commas, 1 where the wish holds a whole name or is the head of one.
fn likeness(wanted: &str, label: &str) -> usize {
    let wish = words(wanted);
    if wish == words(label) {
        return 3;
    }
    let names: Vec<Vec<String>> = label
        .split([',', '('])
        .map(words)
        .filter(|name| !name.is_empty())
        .collect();
    if names.contains(&wish) {
        return 2;
    }
    let holds = |all: &[String], part: &[String]| part.iter().all(|word| all.contains(word));
    usize::from(
        names
            .iter()
            .any(|name| holds(&wish, name) || (wish.len() > 1 && holds(name, &wish))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_alike_by_their_words() {
        for (wanted, label, expected) in [
            ("Dog", "Dog", 3),
            ("knocking", "Knock", 3),
            ("smoke alarm", "Smoke detector, smoke alarm", 2),
            ("a dog barking", "Bark", 1),
            ("a dog barking", "Dog", 1),
            ("glass shatter", "Shatter", 1),
            ("tube amplifier", "Amplification", 0),
            ("car", "Car alarm", 0),
            ("English", "English", 3),
        ] {
            assert_eq!(likeness(wanted, label), expected, "{wanted} / {label}");
        }
    }

    #[test]
    fn what_a_model_knows_is_left_to_it_and_the_rest_to_words_or_training() {
        let known: Vec<(&'static Row, Vec<String>)> = ROWS
            .iter()
            .map(|row| (row, registry::labels_of(row)))
            .collect();
        let way = |label, clips| advise(label, clips, &known).way;
        assert_eq!(way("siren", 0), "model");
        assert_eq!(advise("siren", 0, &known).knows[0].model, "hark-event");
        assert_eq!(
            advise("Dutch", 0, &known).knows[0].model,
            "whisper-language"
        );
        assert_eq!(way("vintage valve amplifier", 0), "prompt");
        assert_eq!(way("vintage valve amplifier", 100), "train");
    }
}
