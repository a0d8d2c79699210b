//! `hark classify --against`: how near the voices of files are to the voice of one.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::audio::file::FileReader;
use crate::cli::{Reported, UsageError, exit_code, out};
use crate::models::Embedder;
use crate::models::registry::Model;

/// The longest part of a file that is one window, in seconds; what is longer is the mean of several.
const WINDOW_S: u32 = 30;

/// One comparison.
#[derive(Debug, Serialize)]
struct SimilarityRecord<'a> {
    file: &'a str,
    against: &'a str,
    model: &'a str,
    task: &'a str,
    similarity: f32,
}

/// Compares every file with `reference`.
///
/// # Errors
/// When the model gives no embeddings or the reference cannot be read; otherwise with the kind of the
/// first file that failed, after all were tried.
pub fn run(model: Model, reference: &Path, files: &[PathBuf], json: bool) -> anyhow::Result<()> {
    let Model::Embedder(mut model) = model else {
        return Err(UsageError(format!(
            "--against compares voices, and model '{}' gives no embeddings: use --task speaker",
            model.info().name
        ))
        .into());
    };
    let expected = embedding(&mut *model, reference)?;
    let mut failed = None;
    for file in files {
        let similarity = match embedding(&mut *model, file) {
            Ok(found) => cosine(&expected, &found),
            Err(error) => {
                out::complain(format_args!("{error:#}"));
                failed.get_or_insert(exit_code(&error));
                continue;
            }
        };
        let info = model.info();
        let (file, against) = (file.display().to_string(), reference.display().to_string());
        if json {
            out::line(serde_json::to_string(&SimilarityRecord {
                file: &file,
                against: &against,
                model: &info.name,
                task: info.task.as_str(),
                similarity,
            })?)?;
        } else {
            out::line(format_args!("{similarity:7.3}  {file}"))?;
        }
    }
    match failed {
        None => Ok(()),
        Some(code) => Err(Reported(code).into()),
    }
}

/// The embedding of a whole file, of length 1: the mean over its windows where it is long.
fn embedding(model: &mut dyn Embedder, file: &Path) -> anyhow::Result<Vec<f32>> {
    let rate_hz = model.info().input.rate_hz();
    let mut reader = FileReader::open_at(file, rate_hz)?;
    let window = (rate_hz * WINDOW_S) as usize;
    let (mut pcm, mut sum, mut one) = (Vec::new(), Vec::new(), Vec::new());
    let mut take = |pcm: &[f32], model: &mut dyn Embedder| -> anyhow::Result<()> {
        model.embed(pcm, &mut one)?;
        let length = norm(&one);
        sum.resize(one.len(), 0.0);
        for (sum, value) in sum.iter_mut().zip(&one) {
            *sum += value / length.max(f32::MIN_POSITIVE);
        }
        Ok(())
    };
    while let Some(block) = reader.next_block()? {
        pcm.extend_from_slice(block);
        if pcm.len() >= 2 * window {
            take(&pcm[..window], model)?;
            pcm.drain(..window);
        }
    }
    if pcm.is_empty() {
        anyhow::bail!(crate::audio::AudioError::Decode(format!(
            "{}: there is no sound in it to compare",
            file.display()
        )));
    }
    // The last two windows share what is left, so that none is a mere syllable.
    for part in pcm.chunks(pcm.len().div_ceil(pcm.len().div_ceil(window))) {
        take(part, model)?;
    }
    let length = norm(&sum).max(f32::MIN_POSITIVE);
    sum.iter_mut().for_each(|value| *value /= length);
    Ok(sum)
}

fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// Cosine of the angle between two embeddings of length 1.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
