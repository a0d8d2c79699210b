//! CLAP: sounds and phrases as points in one space (Wu et al., *Large-Scale Contrastive Language-Audio
//! Pretraining with Feature Fusion and Keyword-to-Caption Augmentation*, 2023), as `ClapModel` of
//! transformers 5.23 computes it.
//!
//! How near a sound is to a phrase is the cosine between their embeddings; scores are a softmax over
//! the phrases. The two towers load apart from the same mapped tensors, so that the text tower can be
//! dropped once its phrases are known.
//!
//! Both can be trained, whole or in parts, when they are loaded with [`Params::trainable`]: gradients
//! pass from the embeddings of [`ClapAudio::forward`] and [`ClapText::forward`] to every tensor that was
//! chosen, `logit_scale_a` and `logit_scale_t` aside, which stand above the towers.

mod audio;
mod config;
mod fusion;
mod image;
mod swin;
mod text;
mod tokenizer;
mod windows;

pub use audio::ClapAudio;
pub use config::{AudioConfig, Config, Pair, TextConfig};
pub use text::ClapText;
pub use tokenizer::RobertaTokenizer;

use candle_core::{D, Tensor};

use super::ModelError;
use super::layout::{Activated, Layout};
use crate::nn::layers::{Activation, Linear};
use crate::nn::params::Params;

/// The least length of an embedding, as in `torch.nn.functional.normalize`: one of zeros stays zeros.
const MIN_NORM: f32 = 1e-12;

/// `embedding` at length 1.
pub fn normalise(mut embedding: Vec<f32>) -> Vec<f32> {
    let square: f32 = embedding.iter().map(|value| value * value).sum();
    let norm = square.sqrt().max(MIN_NORM);
    embedding.iter_mut().for_each(|value| *value /= norm);
    embedding
}

/// Every row of `embeddings (batch, dim)` at length 1; gradients pass.
///
/// # Errors
/// When candle refuses.
pub fn at_length_one(embeddings: &Tensor) -> candle_core::Result<Tensor> {
    let square = embeddings.sqr()?.sum_keepdim(D::Minus1)?;
    let norm = square.maximum(f64::from(MIN_NORM * MIN_NORM))?.sqrt()?;
    embeddings.broadcast_div(&norm)
}

/// The cosine of two embeddings of length 1, from -1 to 1.
pub fn similarity(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The mean of embeddings, of length 1; that of one is itself.
pub fn mean_embedding(embeddings: &[Vec<f32>]) -> Vec<f32> {
    if let [one] = embeddings {
        return one.clone();
    }
    let mut sum = vec![0.0; embeddings.first().map_or(0, Vec::len)];
    for embedding in embeddings {
        for (sum, value) in sum.iter_mut().zip(embedding) {
            *sum += value;
        }
    }
    normalise(sum)
}

/// From what a tower gives to the common space.
struct Projection {
    linear1: Linear,
    activation: Activation,
    linear2: Linear,
}

impl Projection {
    fn load(
        params: &Params,
        layout: &Layout,
        config: &Config,
        inputs: usize,
    ) -> Result<Self, ModelError> {
        let (key, name) = ("projection_hidden_act", &config.projection_hidden_act);
        let dim = config.projection_dim;
        Ok(Projection {
            activation: config::activation(layout, key, name)?,
            linear1: Linear::load(&params.pp("linear1"), inputs, dim)?,
            linear2: Linear::load(&params.pp("linear2"), dim, dim)?,
        })
    }

    /// `(batch, inputs)` to `(batch, dim)`.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.linear2
            .forward(&self.linear1.forward_act(x, self.activation)?)
    }

    /// The same at length 1.
    fn embed(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        at_length_one(&self.forward(x)?)
    }
}

/// How similarities become logits: a factor a side, whose logarithm was trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitScale {
    /// `logit_scale_a`, of the logits a sound has.
    pub a: f32,
    /// `logit_scale_t`, of the logits a phrase has.
    pub t: f32,
}

impl LogitScale {
    /// Reads both.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn load(params: &Params) -> Result<Self, ModelError> {
        let one = |key| -> Result<f32, ModelError> {
            let weight = params.get(key, &[])?;
            Ok(weight.values().first().copied().unwrap_or_default())
        };
        Ok(LogitScale {
            a: one("logit_scale_a")?,
            t: one("logit_scale_t")?,
        })
    }

    /// What a sound of these similarities to some phrases scores for each, a softmax: what the
    /// zero-shot-audio-classification pipeline gives.
    pub fn scores(self, similarities: &[f32]) -> Vec<f32> {
        let scale = self.a.exp();
        let mut scores: Vec<f32> = similarities.iter().map(|cosine| cosine * scale).collect();
        Activated::Softmax.apply(&mut scores);
        scores
    }
}

/// A loaded CLAP with both towers.
pub struct Clap {
    /// From sounds to embeddings.
    pub audio: ClapAudio,
    /// From phrases to embeddings.
    pub text: ClapText,
    /// From similarities to scores.
    pub logit_scale: LogitScale,
}

impl Clap {
    /// Loads a directory with `ClapModel`.
    ///
    /// # Errors
    /// When it is none, the configuration makes no network, the feature extractor or the tokenizer
    /// does not go with it, or a tensor is missing or misshapen.
    pub fn load(layout: &Layout) -> Result<Self, ModelError> {
        if layout.model_type() != "clap" {
            let what = format!("expected \"clap\", got \"{}\"", layout.model_type());
            return Err(layout.wrong("model_type", &what));
        }
        let params = layout.params()?;
        Ok(Clap {
            audio: ClapAudio::load(layout, &params)?,
            text: ClapText::load(layout, &params)?,
            logit_scale: LogitScale::load(&params)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_have_length_one_and_nothing_stays_nothing() {
        assert_eq!(normalise(vec![3.0, -4.0]), [0.6, -0.8]);
        assert_eq!(normalise(vec![0.0; 3]), [0.0; 3]);
        assert_eq!(similarity(&[0.6, -0.8], &[0.0, -1.0]), 0.8);
    }

    #[test]
    fn embeddings_are_averaged_on_the_sphere() {
        assert_eq!(mean_embedding(&[vec![1.0, 0.0]]), [1.0, 0.0]);
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let between = mean_embedding(&[vec![1.0, 0.0], vec![0.0, 1.0]]);
        assert!(between.iter().all(|value| (value - half).abs() < 1e-6));
        assert!(mean_embedding(&[]).is_empty());
    }

    #[test]
    fn a_batch_of_embeddings_is_each_of_them_by_itself() {
        let rows = [[3.0f32, -4.0], [0.0, 0.0], [0.0, 1e-3]];
        let batch = Tensor::new(&rows, &candle_core::Device::Cpu).unwrap();
        let batch = at_length_one(&batch).unwrap().to_vec2::<f32>().unwrap();
        for (got, row) in batch.iter().zip(rows) {
            for (got, expected) in got.iter().zip(normalise(row.to_vec())) {
                assert!((got - expected).abs() < 1e-6, "{got} {expected}");
            }
        }
    }

    #[test]
    fn scores_are_shares_that_the_scale_sharpens() {
        let scale = LogitScale {
            a: 10f32.ln(),
            t: 0.0,
        };
        let scores = scale.scores(&[0.5, 0.4]);
        let expected = 1.0 / (1.0 + (-1.0f32).exp());
        assert!((scores[0] - expected).abs() < 1e-6, "{scores:?}");
        assert!((scores[0] + scores[1] - 1.0).abs() < 1e-6, "{scores:?}");
    }
}
