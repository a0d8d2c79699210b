//! WavLM (Chen et al., *WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech
//! Processing*, 2022), as `WavLMModel`, `WavLMForSequenceClassification` and `WavLMForXVector` of
//! transformers 5.23 compute it.
//!
//! What it shares with wav2vec 2.0 and HuBERT is in [`super::speech_encoder`]; its own is the gated
//! relative position bias: a value for every distance, which every query makes larger or smaller. A
//! checkpoint without a head for clips gives the mean over time of the encoder's output. Nothing here is
//! trained.

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::ModelError;
use super::layout::Layout;
use super::speech_encoder::{
    AdapterConfig, Config, Options, RelativePositions, SpeechModel, count,
};
use crate::nn::layers::{Activation, Linear};
use crate::nn::params::{Params, Weight};

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
    /// Both gates of a head, the sums of the published layer's outputs.
    gru_rel_pos_linear: Linear,
    /// `(heads)`.
    gru_rel_pos_const: Weight,
}

impl Gate {
    fn load(params: &Params, config: &Config) -> Result<Self, ModelError> {
        let heads = config.num_attention_heads;
        let width = config.hidden_size / heads;
        let linear = params.pp("gru_rel_pos_linear");
        let weight = linear.get("weight", &[GATE_OUTPUTS, width])?;
        let bias = linear.get("bias", &[GATE_OUTPUTS])?;
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
            gru_rel_pos_const: params.get("gru_rel_pos_const", &[1, heads, 1, 1])?,
        })
    }
}

/// The gated relative position bias.
struct GatedPositions {
    config: OwnConfig,
    heads: usize,
    /// `(buckets, heads)`.
    rel_attn_embed: Weight,
    gates: Vec<Gate>,
}

impl GatedPositions {
    /// Reads them from the encoder's `layers`; the table is that of the first.
    fn load(params: &Params, config: &Config, own: OwnConfig) -> Result<Self, ModelError> {
        let heads = config.num_attention_heads;
        let table = params.pp("0.attention.rel_attn_embed");
        Ok(GatedPositions {
            rel_attn_embed: table.get("weight", &[own.num_buckets, heads])?,
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
        let buckets: Vec<usize> = (0..distances)
            .map(|at| self.config.bucket((at + 1).abs_diff(steps), at >= steps))
            .collect();
        let values = self.rel_attn_embed.values();
        let table: Vec<f32> = (0..self.heads)
            .flat_map(|head| buckets.iter().map(move |at| values[at * self.heads + head]))
            .collect();
        Tensor::from_vec(table, (self.heads, distances), &Device::Cpu)
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
        let pairs = gate
            .gru_rel_pos_linear
            .forward_act(&x, Activation::Sigmoid)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let factors = gate.gru_rel_pos_const.values().iter().cycle();
        let gates: Vec<f32> = pairs
            .chunks_exact(GATES)
            .zip(factors)
            .map(|(pair, factor)| pair[0] * (pair[1] * factor - 1.0) + 2.0)
            .collect();
        Tensor::from_vec(gates, (batch, steps, self.heads), &Device::Cpu)
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
