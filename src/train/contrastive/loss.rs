//! The contrastive loss between a batch of sounds and a batch of texts: InfoNCE over their cosines, in
//! both directions, with a learned temperature (Radford et al., *Learning Transferable Visual Models
//! From Natural Language Supervision*, 2021; Wu et al., *Large-Scale Contrastive Language-Audio
//! Pretraining with Feature Fusion and Keyword-to-Caption Augmentation*, 2023).
//!
//! Where several texts of a batch are right for a sound, its target is shared among them (Yang et al.,
//! *Unified Contrastive Learning in Image-Text-Label Space*, 2022); with one each it is the plain loss.

use candle_core::{D, Result, Tensor, Var};

use crate::train::trainer::cross_entropy;

/// The largest logarithm of a scale: a temperature of 0.01, where CLIP and CLAP stop.
pub const MAX_LOG_SCALE: f64 = 4.605_170_185_988_092;

/// The logarithm of the scale that training from random weights begins with: a temperature of 0.07.
pub const FIRST_LOG_SCALE: f32 = 2.659_26;

/// The least square of the length of a row before it is divided by it.
const MIN_SQUARE: f64 = 1e-24;

/// How the two scales of a checkpoint enter the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `logit_scale_a` in both directions, as LAION trains its models (`ClipLoss` of LAION-AI/CLAP
    /// without `mlp_loss`): a sound chooses among the texts and a text among the sounds.
    OneScale,
    /// `logit_scale_t` and `logit_scale_a` as the loss of `ClapModel` has them (transformers 5.23). That
    /// one transposes the logits of the sounds before their cross-entropy, so in both of its terms a
    /// text chooses among the sounds, once with each scale.
    TwoScales,
}

/// The logarithms of the scales, trained.
#[derive(Debug, Clone)]
pub struct LogScales {
    /// `logit_scale_a`, `()`.
    pub a: Var,
    /// `logit_scale_t`, `()`.
    pub t: Var,
}

impl LogScales {
    /// Puts what a step has made of them back between 0 and [`MAX_LOG_SCALE`].
    ///
    /// # Errors
    /// When candle refuses.
    pub fn clamp(&self) -> Result<()> {
        for scale in [&self.a, &self.t] {
            scale.set(&scale.as_tensor().clamp(0.0, MAX_LOG_SCALE)?)?;
        }
        Ok(())
    }
}

/// Rows at length 1, with gradients.
///
/// # Errors
/// When candle refuses.
pub fn unit_rows(x: &Tensor) -> Result<Tensor> {
    let length = x
        .sqr()?
        .sum_keepdim(D::Minus1)?
        .maximum(MIN_SQUARE)?
        .sqrt()?;
    x.broadcast_div(&length)
}

/// The loss of sounds `(sounds, dim)` and texts `(texts, dim)`, both as the projections leave them.
/// `right (sounds, texts)` holds 1 where a text is right for a sound and 0 elsewhere; every row and
/// every column needs a 1.
///
/// # Errors
/// When the shapes differ.
pub fn info_nce(
    audio: &Tensor,
    text: &Tensor,
    right: &Tensor,
    scales: &LogScales,
    form: Form,
) -> Result<Tensor> {
    let cosines = unit_rows(audio)?.matmul(&unit_rows(text)?.t()?)?;
    let scaled = |scale: &Var| cosines.broadcast_mul(&scale.as_tensor().exp()?);
    let of_texts = shares(&right.t()?.contiguous()?)?;
    let (audio_logits, other, other_target) = match form {
        Form::OneScale => (scaled(&scales.a)?, scaled(&scales.a)?, shares(right)?),
        Form::TwoScales => {
            let other = scaled(&scales.t)?.t()?.contiguous()?;
            (scaled(&scales.a)?, other, of_texts.clone())
        }
    };
    let of_sounds = audio_logits.t()?.contiguous()?;
    let sum =
        cross_entropy(&of_sounds, &of_texts, 0.0)? + cross_entropy(&other, &other_target, 0.0)?;
    sum? * 0.5
}

/// Rows that sum to one.
fn shares(right: &Tensor) -> Result<Tensor> {
    right.broadcast_div(&right.sum_keepdim(D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn scales(a: f32, t: f32) -> LogScales {
        let var = |value: f32| Var::new(value, &Device::Cpu).unwrap();
        LogScales {
            a: var(a),
            t: var(t),
        }
    }

    fn loss(audio: &[[f32; 2]], text: &[[f32; 2]], right: &[[f32; 2]], a: f32) -> f32 {
        let tensor = |rows: &[[f32; 2]]| {
            Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu).unwrap()
        };
        info_nce(
            &tensor(audio),
            &tensor(text),
            &tensor(right),
            &scales(a, a),
            Form::OneScale,
        )
        .unwrap()
        .to_scalar()
        .unwrap()
    }

    #[test]
    fn length_does_not_count_and_the_right_order_costs_least() {
        let (audio, right) = ([[3.0, 0.0], [0.0, 0.2]], [[1.0, 0.0], [0.0, 1.0]]);
        let good = loss(&audio, &[[1.0, 0.0], [0.0, 9.0]], &right, 10f32.ln());
        let expected = (1.0 + (-10f32).exp()).ln();
        assert!((good - expected).abs() < 1e-6, "{good} {expected}");
        let bad = loss(&audio, &[[0.0, 1.0], [1.0, 0.0]], &right, 10f32.ln());
        assert!((bad - expected - 10.0).abs() < 1e-4, "{bad}");
    }

    #[test]
    fn equal_texts_share_the_target_and_push_nothing_apart() {
        let audio = [[1.0, 0.0], [1.0, 0.0]];
        let shared = loss(&audio, &audio, &[[1.0, 1.0], [1.0, 1.0]], 3.0);
        assert!((shared - 2f32.ln()).abs() < 1e-6, "{shared}");
    }

    #[test]
    fn scales_stay_within_their_bounds() {
        let scales = scales(7.0, -1.0);
        scales.clamp().unwrap();
        let value = |var: &Var| var.as_tensor().to_scalar::<f32>().unwrap();
        assert!((value(&scales.a).exp() - 100.0).abs() < 1e-2);
        assert_eq!(value(&scales.t), 0.0);
    }
}
