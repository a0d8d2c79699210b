//! What everything else sounds like to an embedder: the axes along which ordinary sound varies, and
//! points of it, from which thresholds for a rate of false accepts are taken.
//!
//! For the embedded networks a table ships with the program, `models/background-*.safetensors`, made of
//! the training clips by `make taught-background` (recipe and licence: `models/background.md`). It holds
//! for the weights with the checksum in its header and for no others. For other embedders a background
//! is made of synthesised sounds when something is taught; it holds no speech, so words want the table.
//!
//! Axes are the first principal ones, scaled so that the background has about unit variance along each:
//! `((1 - s) l + s mean(l))^-1/2` for the eigenvalue `l` and shrinkage `s`, found by subspace iteration
//! (Golub and Van Loan, *Matrix Computations*, 4th edition, 8.2.4).

use std::collections::HashMap;
use std::sync::OnceLock;

use fastrand::Rng;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::clip::{Beat, Clip};
use super::tail::Tail;
use crate::audio::synth::{self, Sound};
use crate::clock::PIPELINE_RATE_HZ;
use crate::command::TaughtKind;
use crate::models::{Embedder, ModelError, ModelInfo};

/// Most axes that are kept; of the 256 of the event network, 128 find as much as all.
pub const MAX_AXES: usize = 128;
/// Most points that are kept.
pub const MAX_POINTS: usize = 4000;
/// How far small eigenvalues are drawn to the mean.
const SHRINKAGE: f32 = 0.02;
/// Rounds of subspace iteration; the axes of speech and noise differ enough for fewer.
const ROUNDS: usize = 24;
/// Steps of a stored point to one unit of the background's deviation.
const STEPS: f32 = 16.0;
/// The entry of the header that holds the card.
const HEADER: &str = "harkd_background";
/// Seconds of every synthesised sound in a background that is made here.
const MADE_S: f32 = 6.0;
/// What such a background says it is of.
const MADE: &str = "synthesised sounds";

/// The tables that ship, by embedder.
const SHIPPED: [(&str, &[u8]); 2] = [
    (
        "hark-event",
        include_bytes!("../../../models/background-event.safetensors"),
    ),
    (
        "hark-keyword",
        include_bytes!("../../../models/background-keyword.safetensors"),
    ),
];

/// What a table says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackgroundCard {
    /// Registry name of the embedder.
    pub embedder: String,
    /// SHA-256 of its weights, lower-case hexadecimal.
    pub sha256: String,
    /// Windows that were heard; the points are a sample of them.
    pub windows: u64,
    /// Distance between them in seconds.
    pub hop_s: f64,
    /// What was heard, in plain words.
    pub material: String,
    /// SPDX expression.
    pub licence: String,
    /// Labels of what was heard, which points name by number; empty where nothing is known of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// The background of an embedder.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    /// What it says of itself.
    pub card: BackgroundCard,
    /// Mean of the background, `(dim)`.
    mean: Vec<f32>,
    /// Scaled axes, `(axes, dim)`.
    axes: Vec<f32>,
    /// Points along the axes, `(points, axes)`.
    points: Vec<f32>,
    /// Numbers of their labels, `(points)`; empty where there are none.
    labels: Vec<u8>,
}

impl Background {
    /// The table that ships for an embedder; `None` where there is none.
    ///
    /// # Errors
    /// When the table is for other weights, or damaged.
    pub fn shipped(info: &ModelInfo) -> Result<Option<&'static Background>, ModelError> {
        static READ: [OnceLock<Result<Background, String>>; SHIPPED.len()] =
            [const { OnceLock::new() }; SHIPPED.len()];
        let found = SHIPPED.iter().position(|(name, _)| *name == &*info.name);
        let Some(at) = found else { return Ok(None) };
        let read = READ[at].get_or_init(|| Background::from_bytes(SHIPPED[at].1));
        let background = read
            .as_ref()
            .map_err(|what| ModelError::Format(format!("background of {}: {what}", info.name)))?;
        match background.card.sha256 == *info.sha256 {
            true => Ok(Some(background)),
            false => Err(ModelError::Format(format!(
                "the background of {} is of weights with the SHA-256 {}, and these have {}: make it anew with 'make taught-background'",
                info.name, background.card.sha256, info.sha256
            ))),
        }
    }

    /// A background of synthesised sounds, for an embedder without a table.
    ///
    /// # Errors
    /// When the embedder fails.
    pub fn synthesised(
        embedder: &mut dyn Embedder,
        kind: TaughtKind,
    ) -> Result<Background, ModelError> {
        let info = embedder.info().clone();
        let beat = Beat::of(kind, &info);
        let mut rng = Rng::with_seed(1);
        let mut vectors = Vec::new();
        for sound in Sound::ALL {
            let mut pcm = synth::render(sound, &mut rng, MADE_S);
            pcm.resize((MADE_S * PIPELINE_RATE_HZ as f32) as usize, 0.0);
            let Ok(clip) = Clip::new("synthesised", pcm) else {
                continue;
            };
            for window in clip.windows(info.input, beat)? {
                let mut vector = Vec::new();
                embedder.embed(&window, &mut vector)?;
                vectors.push(vector);
            }
        }
        let card = BackgroundCard {
            embedder: info.name.to_string(),
            sha256: info.sha256.to_string(),
            windows: vectors.len() as u64,
            hop_s: beat.hop_frames as f64 / 100.0,
            material: MADE.to_owned(),
            licence: "Apache-2.0".to_owned(),
            labels: Vec::new(),
        };
        Background::of(card, &vectors).map_err(ModelError::Shape)
    }

    /// The background that `vectors`, all of one length, are.
    ///
    /// # Errors
    /// When there are too few of them, or they differ in length.
    pub fn of(card: BackgroundCard, vectors: &[Vec<f32>]) -> Result<Background, String> {
        Background::labelled(card, vectors, &[])
    }

    /// The same where the label of each is known, as a number in the list of the card.
    ///
    /// # Errors
    /// As [`Background::of`], or when a label is missing.
    pub fn labelled(
        card: BackgroundCard,
        vectors: &[Vec<f32>],
        labels: &[u8],
    ) -> Result<Background, String> {
        check_labels(&card, vectors.len(), labels)?;
        let dim = vectors.first().map_or(0, Vec::len);
        if vectors.len() < 16 || dim == 0 || vectors.iter().any(|v| v.len() != dim) {
            return Err(format!(
                "expected 16 points or more of one length, got {} of {dim} values",
                vectors.len()
            ));
        }
        let mut mean = vec![0.0f32; dim];
        for vector in vectors {
            mean.iter_mut().zip(vector).for_each(|(m, v)| *m += v);
        }
        mean.iter_mut().for_each(|m| *m /= vectors.len() as f32);
        let centred: Vec<Vec<f32>> = vectors
            .iter()
            .map(|vector| vector.iter().zip(&mean).map(|(v, m)| v - m).collect())
            .collect();
        let axes = scaled_axes(&centred, dim);
        let mut background = Background {
            card,
            mean,
            axes,
            points: Vec::new(),
            labels: Vec::new(),
        };
        let step = vectors.len().div_ceil(MAX_POINTS).max(1);
        for vector in vectors.iter().step_by(step) {
            let mut point = background.place(vector);
            // What a table keeps of a point is what a background in memory has, too.
            point
                .iter_mut()
                .for_each(|v| *v = stored(*v) as f32 / STEPS);
            background.points.append(&mut point);
        }
        background.labels = labels.iter().step_by(step).copied().collect();
        Ok(background)
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Axes that are kept.
    pub fn axes(&self) -> usize {
        self.axes.len() / self.dim().max(1)
    }

    /// Mean of the background `(dim)` and the scaled axes `(axes, dim)`.
    pub fn frame(&self) -> (&[f32], &[f32]) {
        (&self.mean, &self.axes)
    }

    /// The points along the axes.
    pub fn points(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.points.chunks_exact(self.axes().max(1))
    }

    /// The label of a point, where it is known.
    pub fn label_of(&self, point: usize) -> Option<&str> {
        let label = self.labels.get(point)?;
        self.card.labels.get(*label as usize).map(String::as_str)
    }

    /// Where an embedding `(dim)` lies along the axes.
    pub fn place(&self, embedding: &[f32]) -> Vec<f32> {
        place(&self.mean, &self.axes, embedding)
    }

    /// Hours that the points stand for.
    pub fn hours(&self) -> f64 {
        self.card.windows as f64 * self.card.hop_s / 3600.0
    }

    /// Whether it holds nothing but made sounds.
    pub fn is_made(&self) -> bool {
        self.card.material == MADE
    }

    /// The tail of the scores that its points get, or some of them, over the hours that these stand for.
    pub fn tail(&self, scores: Vec<f32>) -> Tail {
        let share = scores.len() as f64 / self.points().len().max(1) as f64;
        let windows = (self.card.windows as f64 * share).round() as u64;
        Tail::of(scores, windows, self.hours() * share)
    }

    /// Reads a table.
    ///
    /// # Errors
    /// When it is damaged: which tensor, expected and got.
    pub fn from_bytes(bytes: &[u8]) -> Result<Background, String> {
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|e| format!("no whole safetensors: {e}"))?;
        let text = header
            .metadata()
            .as_ref()
            .and_then(|meta| meta.get(HEADER))
            .ok_or_else(|| format!("the header has no entry '{HEADER}'"))?;
        let card: BackgroundCard =
            serde_json::from_str(text).map_err(|e| format!("header: {e}"))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let floats = |key: &str| -> Result<Vec<f32>, String> {
            let view = tensors.tensor(key).map_err(|e| e.to_string())?;
            let values: Vec<f32> = match view.dtype() {
                Dtype::F16 => view
                    .data()
                    .chunks_exact(2)
                    .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
                    .collect(),
                other => return Err(format!("{key}: expected F16, got {other:?}")),
            };
            match values.iter().all(|v| v.is_finite()) {
                true => Ok(values),
                false => Err(format!("{key}: not all numbers are finite")),
            }
        };
        let (mean, axes) = (floats("mean")?, floats("axes")?);
        let view = tensors.tensor("points").map_err(|e| e.to_string())?;
        let count = axes.len() / mean.len().max(1);
        if mean.is_empty()
            || count == 0
            || !axes.len().is_multiple_of(mean.len())
            || view.dtype() != Dtype::I8
            || !view.data().len().is_multiple_of(count)
        {
            return Err(format!(
                "expected a mean (dim), axes (axes, dim) and points (points, axes) of I8, got {}, {} and {} of {:?}",
                mean.len(),
                axes.len(),
                view.data().len(),
                view.dtype()
            ));
        }
        let points: Vec<f32> = view
            .data()
            .iter()
            .map(|&step| f32::from(i8::from_le_bytes([step])) / STEPS)
            .collect();
        let labels = match tensors.tensor("labels") {
            Ok(view) if view.dtype() == Dtype::U8 => view.data().to_vec(),
            Ok(view) => return Err(format!("labels: expected U8, got {:?}", view.dtype())),
            Err(_) => Vec::new(),
        };
        check_labels(&card, points.len() / count, &labels)?;
        Ok(Background {
            card,
            mean,
            axes,
            points,
            labels,
        })
    }

    /// The table as a file.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let halves = |values: &[f32]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
                .collect()
        };
        let (mean, axes) = (halves(&self.mean), halves(&self.axes));
        let points: Vec<u8> = self
            .points
            .iter()
            .flat_map(|v| stored(*v).to_le_bytes())
            .collect();
        let count = self.axes();
        let card = serde_json::to_string(&self.card).map_err(|e| e.to_string())?;
        let mut tensors = vec![
            ("mean", Dtype::F16, vec![self.dim()], &mean),
            ("axes", Dtype::F16, vec![count, self.dim()], &axes),
            (
                "points",
                Dtype::I8,
                vec![points.len() / count.max(1), count],
                &points,
            ),
        ];
        if !self.labels.is_empty() {
            let shape = vec![self.labels.len()];
            tensors.push(("labels", Dtype::U8, shape, &self.labels));
        }
        tensors
            .into_iter()
            .map(|(key, dtype, shape, data)| {
                TensorView::new(dtype, shape, data).map(|view| (key, view))
            })
            .collect::<Result<Vec<_>, _>>()
            .and_then(|views| {
                safetensors::serialize(views, Some(HashMap::from([(HEADER.to_owned(), card)])))
            })
            .map_err(|e| e.to_string())
    }
}

/// Labels are there for all points or for none, and each is in the list.
fn check_labels(card: &BackgroundCard, points: usize, labels: &[u8]) -> Result<(), String> {
    let known = card.labels.len();
    if labels.is_empty() {
        return Ok(());
    }
    match labels.iter().find(|label| usize::from(**label) >= known) {
        Some(label) => Err(format!(
            "label {label} is not among the {known} of the card"
        )),
        None if labels.len() != points => Err(format!(
            "expected a label for each of {points} points, got {}",
            labels.len()
        )),
        None => Ok(()),
    }
}

/// A value of a point in the steps of a table.
fn stored(value: f32) -> i8 {
    (value * STEPS).round().clamp(-127.0, 127.0) as i8
}

/// Where an embedding lies along scaled axes from a mean.
pub(super) fn place(mean: &[f32], axes: &[f32], embedding: &[f32]) -> Vec<f32> {
    let centred: Vec<f32> = embedding.iter().zip(mean).map(|(v, m)| v - m).collect();
    axes.chunks_exact(mean.len().max(1))
        .map(|axis| dot(axis, &centred))
        .collect()
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The principal axes of centred vectors, scaled for unit variance.
fn scaled_axes(centred: &[Vec<f32>], dim: usize) -> Vec<f32> {
    let count = MAX_AXES.min(dim).min(centred.len() / 2).max(1);
    let mut rng = Rng::with_seed(2);
    let mut axes: Vec<Vec<f32>> = (0..count)
        .map(|_| (0..dim).map(|_| rng.f32() - 0.5).collect())
        .collect();
    let covariance = Covariance::of(centred, dim);
    for _ in 0..ROUNDS {
        axes.iter_mut()
            .for_each(|axis| *axis = covariance.times(axis));
        orthonormal(&mut axes);
    }
    let variances: Vec<f32> = axes
        .iter()
        .map(|axis| dot(axis, &covariance.times(axis)))
        .collect();
    let mean = variances.iter().sum::<f32>() / count as f32;
    for (axis, variance) in axes.iter_mut().zip(&variances) {
        let shrunk = (1.0 - SHRINKAGE) * variance.max(0.0) + SHRINKAGE * mean;
        let scale = 1.0 / shrunk.max(1e-12).sqrt();
        axis.iter_mut().for_each(|v| *v *= scale);
    }
    axes.concat()
}

/// A covariance, as a matrix where that is smaller than the vectors it is of.
struct Covariance<'a> {
    centred: &'a [Vec<f32>],
    /// `(dim, dim)`, or empty.
    matrix: Vec<f32>,
}

impl<'a> Covariance<'a> {
    fn of(centred: &'a [Vec<f32>], dim: usize) -> Self {
        let mut matrix = Vec::new();
        if centred.len() > dim {
            matrix = vec![0.0; dim * dim];
            for vector in centred {
                for (row, a) in matrix.chunks_exact_mut(dim).zip(vector) {
                    row.iter_mut()
                        .zip(vector)
                        .for_each(|(sum, b)| *sum += a * b);
                }
            }
            let share = 1.0 / centred.len() as f32;
            matrix.iter_mut().for_each(|v| *v *= share);
        }
        Covariance { centred, matrix }
    }

    fn times(&self, axis: &[f32]) -> Vec<f32> {
        if !self.matrix.is_empty() {
            let rows = self.matrix.chunks_exact(axis.len());
            return rows.map(|row| dot(row, axis)).collect();
        }
        let mut out = vec![0.0; axis.len()];
        let share = 1.0 / self.centred.len() as f32;
        for vector in self.centred {
            let along = dot(vector, axis) * share;
            out.iter_mut()
                .zip(vector)
                .for_each(|(o, v)| *o += along * v);
        }
        out
    }
}

/// Gram-Schmidt, twice, so that rounding leaves nothing of the earlier axes.
fn orthonormal(axes: &mut [Vec<f32>]) {
    for at in 0..axes.len() {
        let (before, rest) = axes.split_at_mut(at);
        let axis = &mut rest[0];
        for _ in 0..2 {
            for other in before.iter() {
                let along = dot(axis, other);
                axis.iter_mut()
                    .zip(other)
                    .for_each(|(v, o)| *v -= along * o);
            }
        }
        let length = dot(axis, axis).sqrt();
        let scale = if length > 1e-12 { 1.0 / length } else { 0.0 };
        axis.iter_mut().for_each(|v| *v *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> BackgroundCard {
        BackgroundCard {
            embedder: "test".into(),
            sha256: "ab".into(),
            windows: 600,
            hop_s: 0.5,
            material: "noise".into(),
            licence: "Apache-2.0".into(),
            labels: Vec::new(),
        }
    }

    /// Points that spread ten times as far along one axis as along the others.
    fn vectors() -> Vec<Vec<f32>> {
        let mut rng = Rng::with_seed(5);
        (0..600)
            .map(|_| {
                (0..8)
                    .map(|at| (rng.f32() - 0.5) * if at == 3 { 10.0 } else { 1.0 } + 2.0)
                    .collect()
            })
            .collect()
    }

    #[test]
    fn the_background_has_about_unit_variance_along_every_axis() {
        let background = Background::of(card(), &vectors()).unwrap();
        assert_eq!((background.dim(), background.axes()), (8, 8));
        for axis in 0..8 {
            let squares: f32 = background.points().map(|p| p[axis] * p[axis]).sum();
            let variance = squares / background.points().len() as f32;
            assert!((0.3..1.1).contains(&variance), "{axis}: {variance}");
        }
        let (mut near, mut far) = (vec![2.0; 8], vec![2.0; 8]);
        (near[3], far[0]) = (4.0, 4.0);
        let length = |point: &[f32]| dot(point, point).sqrt();
        assert!(length(&background.place(&far)) > 3.0 * length(&background.place(&near)));
    }

    #[test]
    fn a_table_is_read_back_as_it_was_but_for_the_precision_of_halves() {
        let background = Background::of(card(), &vectors()).unwrap();
        let read = Background::from_bytes(&background.to_bytes().unwrap()).unwrap();
        assert_eq!(read.card, background.card);
        assert_eq!(read.points, background.points);
        for (a, b) in read.axes.iter().zip(&background.axes) {
            assert!((a - b).abs() < 2e-3 * (1.0 + b.abs()));
        }
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let bytes = Background::of(card(), &vectors())
            .unwrap()
            .to_bytes()
            .unwrap();
        for cut in [0, 7, 100, bytes.len() - 1] {
            assert!(Background::from_bytes(&bytes[..cut]).is_err());
        }
        let few = Background::of(card(), &vectors()[..3]).unwrap_err();
        assert!(few.contains("got 3 of 8"), "{few}");
    }

    #[test]
    fn the_tables_that_ship_are_of_the_weights_that_ship() {
        for kind in [TaughtKind::Sound, TaughtKind::Word] {
            let embedder = super::super::embedder_for(kind).unwrap();
            let mut info = embedder.info().clone();
            let background = Background::shipped(&info).unwrap().unwrap();
            assert!(background.points().len() > 2000);
            info.sha256 = "0".into();
            let error = Background::shipped(&info).unwrap_err().to_string();
            assert!(error.contains("make taught-background"), "{error}");
        }
    }
}
