//! What a CLAP that was just trained can do: on dev clips of the labels it heard, and on clips of those
//! it never did.

use std::path::Path;

use super::data::names_of;
use crate::models::clap::Clap;
use crate::models::layout::Layout;
use crate::train::contrastive::pairs::is_held_out;
use crate::train::retrieval::{Retrieval, both_ways};
use crate::train::zero_shot::{Question, similarities};
use crate::train::{Clip, Manifest, Split};

/// The figures, as rows of the card; none where there are no clips to measure on.
///
/// # Errors
/// When the directory is no CLAP, or a clip cannot be read.
pub fn measure(
    dir: &Path,
    manifest: &Manifest,
    sets: &[String],
    held_out: &[String],
) -> anyhow::Result<Vec<(String, String)>> {
    let clap = Clap::load(&Layout::open(dir)?)?;
    let in_sets = |clip: &&Clip| sets.is_empty() || sets.contains(&clip.set);
    let is_held = |clip: &&Clip| is_held_out(&names_of(clip), held_out);
    let mut rows = Vec::new();
    let heard = manifest
        .clips
        .iter()
        .filter(|clip| clip.split == Split::Dev)
        .filter(in_sets)
        .filter(|clip| !is_held(clip));
    let held = manifest.clips.iter().filter(in_sets).filter(is_held);
    for (what, question) in [
        ("dev", Question::new(heard, Vec::new())),
        ("never heard (all splits)", Question::new(held, Vec::new())),
    ] {
        if question.clips.is_empty() {
            continue;
        }
        let table = similarities(&clap, &question, &mut || {})?;
        let right: Vec<Vec<bool>> = question
            .right
            .iter()
            .map(|right| {
                (0..question.texts.len())
                    .map(|at| right.contains(&at))
                    .collect()
            })
            .collect();
        let (forth, back) = both_ways(&table, &right);
        if question.has_labels {
            let chance = 1.0 / question.texts.len() as f64;
            let value = format!(
                "{:.1} % of {} clips among {} labels (chance {:.1} %)",
                100.0 * forth.r1,
                question.clips.len(),
                question.texts.len(),
                100.0 * chance
            );
            rows.push((format!("{what}, zero-shot accuracy"), value));
        }
        for (direction, figures) in [("sound to text", forth), ("text to sound", back)] {
            rows.push((format!("{what}, {direction}"), shown(figures)));
        }
    }
    Ok(rows)
}

fn shown(figures: Retrieval) -> String {
    format!(
        "R@1 {:.1} %, R@5 {:.1} %, R@10 {:.1} %, mAP@10 {:.3} ({} queries, {} answers)",
        100.0 * figures.r1,
        100.0 * figures.r5,
        100.0 * figures.r10,
        figures.map10,
        figures.queries,
        figures.answers
    )
}
