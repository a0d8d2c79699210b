//! The numbers of a taught sound: from an embedding to a score, and to a file and back.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::background::{dot, place};

/// The numbers of a taught sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// Mean of the background, `(dim)`.
    pub mean: Vec<f32>,
    /// Scaled axes, `(axes, dim)`.
    pub axes: Vec<f32>,
    /// Unit vector from the background to the sound along them, `(axes)`.
    pub direction: Vec<f32>,
    /// Likeness of a score of 0.5.
    pub threshold: f32,
    /// Rise of the logit of the score with likeness.
    pub slope: f32,
}

/// How like a direction a point along the axes is: the cosine, since loud and clear sounds lie far out
/// in every direction. -1 to 1.
pub fn likeness(direction: &[f32], point: &[f32]) -> f32 {
    dot(direction, point) / dot(point, point).sqrt().max(1e-6)
}

impl Form {
    /// The score of an embedding of the right length.
    pub fn score(&self, embedding: &[f32]) -> f32 {
        let point = place(&self.mean, &self.axes, embedding);
        let over = likeness(&self.direction, &point) - self.threshold;
        1.0 / (1.0 + (-over * self.slope).exp())
    }

    /// The numbers as a safetensors file.
    ///
    /// # Errors
    /// When they cannot be written down.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let bytes = |values: &[f32]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        let (dim, count) = (self.mean.len(), self.direction.len());
        let tensors = [
            ("mean", vec![dim], bytes(&self.mean)),
            ("axes", vec![count, dim], bytes(&self.axes)),
            ("direction", vec![count], bytes(&self.direction)),
            ("threshold", vec![2], bytes(&[self.threshold, self.slope])),
        ];
        let views = tensors
            .iter()
            .map(|(key, shape, data)| {
                TensorView::new(Dtype::F32, shape.clone(), data).map(|view| (*key, view))
            })
            .collect::<Result<Vec<_>, _>>();
        views
            .and_then(|views| safetensors::serialize(views, None))
            .map_err(|error| error.to_string())
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it is damaged: which tensor, expected and got.
    pub fn from_bytes(bytes: &[u8]) -> Result<Form, String> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| format!("not a whole safetensors file ({error})"))?;
        let floats = |key: &str| -> Result<Vec<f32>, String> {
            let view = tensors.tensor(key).map_err(|error| format!("{error}"))?;
            if view.dtype() != Dtype::F32 {
                return Err(format!("{key}: expected F32, got {:?}", view.dtype()));
            }
            let (values, _) = view.data().as_chunks::<4>();
            let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
            match values.iter().all(|value| value.is_finite()) {
                true => Ok(values),
                false => Err(format!("{key}: not all numbers are finite")),
            }
        };
        let (mean, axes) = (floats("mean")?, floats("axes")?);
        let (direction, limits) = (floats("direction")?, floats("threshold")?);
        let fits =
            !mean.is_empty() && !direction.is_empty() && limits.len() == 2 && limits[1] > 0.0;
        if !fits || axes.len() != mean.len() * direction.len() {
            return Err(format!(
                "expected a mean (dim), axes (axes, dim), a direction (axes) and a threshold with a slope over 0, got {}, {}, {} and {limits:?}",
                mean.len(),
                axes.len(),
                direction.len()
            ));
        }
        Ok(Form {
            mean,
            axes,
            direction,
            threshold: limits[0],
            slope: limits[1],
        })
    }
}
