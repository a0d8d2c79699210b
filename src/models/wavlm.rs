//! WavLM (Chen et al., *WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech
//! Processing*, 2022), as `WavLMModel`, `WavLMForSequenceClassification` and `WavLMForXVector` of
//! transformers 5.23 compute it.
//!
//! What it shares with wav2vec 2.0 and HuBERT is in [`super::speech_encoder`]; its own is the gated
//! relative position bias: a value for every distance, which every query makes larger or smaller. A
//! checkpoint without a head for clips gives the mean over time of the encoder's output.

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::ModelError;
use super::layout::Layout;
use super::speech_encoder::{
    AdapterConfig, Config, Options, RelativePositions, SpeechModel, count,
};
use crate::nn::layers::{Activation, Linear, activate};
use crate::nn::params::{Parameter, Params, Weight};

/// Outputs of the gates' linear layer; each of the two gates is the sum of half of them.
const GATE_OUTPUTS: usize = 8;
/// Gates of a query.
const GATES: usize = 2;

/// The keys of `WavLMConfig` that the other families have not, with its defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct OwnConfig {
    /// Distances that are told apart, before and after together.
    num_buckets: usize,
    /// The distance from which on all are the same.
    max_bucket_distance: usize,
}

impl Default for OwnConfig {
    fn default() -> Self {
        OwnConfig {
            num_buckets: 320,
            max_bucket_distance: 800,
        }
    }
}

impl OwnConfig {
    fn read(layout: &Layout) -> Result<Self, ModelError> {
        let own: OwnConfig = layout.config()?;
        count(layout, "num_buckets", own.num_buckets)?;
        count(layout, "max_bucket_distance", own.max_bucket_distance)?;
        if own.num_buckets < 4 {
            let what = format!("expected at least 4, got {}", own.num_buckets);
            return Err(layout.wrong("num_buckets", &what));
        }
        if own.max_bucket_distance <= own.exact() {
            let what = format!(
                "expected more than a quarter of num_buckets, which is {}, got {}",
                own.exact(),
                own.max_bucket_distance
            );
            return Err(layout.wrong("max_bucket_distance", &what));
        }
        Ok(own)
    }

    /// Distances on one side that have a bucket of their own.
    fn exact(&self) -> usize {
        self.num_buckets / 2 / 2
    }

    /// The bucket of a key `distance` steps away from the query, after it or before. Far ones share
    /// buckets that grow with the logarithm, which is computed in f32 as the reference does, since it
    /// is cut to a whole number.
    fn bucket(&self, distance: usize, after: bool) -> usize {
        let (side, exact) = (self.num_buckets / 2, self.exact());
        let bucket = if distance < exact {
            distance
        } else {
            let octaves = (distance as f32 / exact as f32).ln();
            let all = (self.max_bucket_distance as f64 / exact as f64).ln() as f32;
            let step = octaves / all * (side - exact) as f32;
            ((exact as f32 + step) as usize).min(side - 1)
        };
        bucket + if after { side } else { 0 }
    }
}

/// What one layer makes of its steps to gate the bias.
struct Gate {
    /// Both gates of a head, the sums of the published layer's outputs; those outputs themselves where
    /// it is trained.
    gru_rel_pos_linear: Linear,
    /// `(1, heads, 1, 1)`.
    gru_rel_pos_const: Parameter,
}

impl Gate {
    fn load(params: &Params, config: &Config) -> Result<Self, ModelError> {
        let heads = config.num_attention_heads;
        let width = config.hidden_size / heads;
        let linear = params.pp("gru_rel_pos_linear");
        let weight = linear.parameter("weight", &[GATE_OUTPUTS, width])?;
        let bias = linear.parameter("bias", &[GATE_OUTPUTS])?;
        let gru_rel_pos_const = params.parameter("gru_rel_pos_const", &[1, heads, 1, 1])?;
        let (Some(weight), Some(bias)) = (weight.fixed(), bias.fixed()) else {
            return Ok(Gate {
                gru_rel_pos_linear: Linear::load(&linear, width, GATE_OUTPUTS)?,
                gru_rel_pos_const,
            });
        };
        // The reference adds the outputs up; the weights can be added once instead.
        let mut sums = vec![0.0; GATES * width];
        let each = GATE_OUTPUTS / GATES;
        for (output, row) in weight.values().chunks_exact(width).enumerate() {
            let sum = &mut sums[output / each * width..][..width];
            sum.iter_mut().zip(row).for_each(|(sum, w)| *sum += w);
        }
        let offsets = bias.values().chunks_exact(each).map(|b| b.iter().sum());
        Ok(Gate {
            gru_rel_pos_linear: Linear::new(
                Weight::from_values(sums, &[GATES, width]),
                Some(Weight::from_values(offsets.collect(), &[GATES])),
            ),
            gru_rel_pos_const,
        })
    }
}

/// The gated relative position bias.
struct GatedPositions {
    config: OwnConfig,
    heads: usize,
    /// `(buckets, heads)`.
    rel_attn_embed: Parameter,
    gates: Vec<Gate>,
}

impl GatedPositions {
    /// Reads them from the encoder's `layers`; the table is that of the first.
    fn load(params: &Params, config: &Config, own: OwnConfig) -> Result<Self, ModelError> {
        let heads = config.num_attention_heads;
        let table = params.pp("0.attention.rel_attn_embed");
        Ok(GatedPositions {
            rel_attn_embed: table.parameter("weight", &[own.num_buckets, heads])?,
            gates: (0..config.num_hidden_layers)
                .map(|layer| Gate::load(&params.pp(layer).pp("attention"), config))
                .collect::<Result<_, _>>()?,
            config: own,
            heads,
        })
    }
}

impl RelativePositions for GatedPositions {
    fn table(&self, steps: usize) -> candle_core::Result<Tensor> {
        let distances = (2 * steps).saturating_sub(1);
        let buckets: Vec<u32> = (0..distances)
            .map(|at| self.config.bucket((at + 1).abs_diff(steps), at >= steps) as u32)
            .collect();
        let buckets = Tensor::from_vec(buckets, distances, &Device::Cpu)?;
        let table = self.rel_attn_embed.tensor()?.index_select(&buckets, 0)?;
        table.t()?.contiguous()
    }

    fn gates(&self, layer: usize, x: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, steps, hidden) = x.dims3()?;
        let Some(gate) = self.gates.get(layer) else {
            return Err(candle_core::Error::Msg(format!(
                "gates: expected a layer below {}, got {layer}",
                self.gates.len()
            )));
        };
        let x = x.reshape((batch, steps, self.heads, hidden / self.heads))?;
        let outputs = gate.gru_rel_pos_linear.forward(&x)?;
        let each = outputs.dim(3)? / GATES;
        let pairs = match each {
            1 => outputs,
            _ => outputs
                .reshape((batch, steps, self.heads * GATES, each))?
                .sum(3)?
                .reshape((batch, steps, self.heads, GATES))?,
        };
        let pairs = activate(&pairs, Activation::Sigmoid)?;
        let gate_of = |which| pairs.narrow(3, which, 1)?.squeeze(3);
        let factors = gate.gru_rel_pos_const.tensor()?.reshape(self.heads)?;
        let scaled = (gate_of(1)?.broadcast_mul(&factors)? - 1.0)?;
        (gate_of(0)? * scaled)? + 2.0
    }
}

/// Loads a directory with a classifier, an x-vector or a bare encoder.
///
/// # Errors
/// When the configuration makes no network, or a tensor is missing or misshapen.
pub fn load(layout: &Layout) -> Result<SpeechModel, ModelError> {
    let config = Config::read(layout)?;
    let own = OwnConfig::read(layout)?;
    let params = layout.params()?;
    let base = params.base("wavlm");
    let positions = GatedPositions::load(&base.pp("encoder.layers"), &config, own)?;
    let options = Options {
        adapter: AdapterConfig::read(layout)?,
        relative: Some(Box::new(positions)),
        ..Options::default()
    };
    SpeechModel::load(layout, &params, &base, &config, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_fall_into_the_buckets_of_the_reference() {
        let own = OwnConfig::default();
        // As `WavLMAttention._relative_positions_bucket` gives them.
        for (distance, bucket) in [(0, 0), (79, 79), (80, 80), (799, 159), (5000, 159)] {
            assert_eq!(own.bucket(distance, false), bucket, "{distance}");
            assert_eq!(own.bucket(distance, true), bucket + 160, "{distance}");
        }
        let buckets: Vec<usize> = (0..3000)
            .map(|distance| own.bucket(distance, false))
            .collect();
        assert!(buckets.is_sorted() && buckets.iter().all(|&bucket| bucket < 160));
    }
}
