//! What stands above the encoder: a classifier of the whole clip, a speaker's x-vector (Snyder et al.,
//! *X-Vectors*, 2018), or nothing but the mean over time.

use candle_core::Tensor;
use serde::Deserialize;

use super::config::{Config, count, counts};
use super::{Stage, Watch};
use crate::models::ModelError;
use crate::models::layout::Layout;
use crate::nn::layers::{
    Activation, Conv1d, Conv1dSpec, LayerSum, LayerWeights, Linear, mean, mean_std,
};
use crate::nn::params::Params;

/// The heads' keys in `config.json`, with the defaults of `Wav2Vec2Config` and `WavLMConfig`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
struct HeadConfig {
    /// Whether the head sees a weighted sum of all layers rather than the last.
    use_weighted_layer_sum: bool,
    /// Values of a clip before the classifier.
    classifier_proj_size: usize,
    /// Channels of every convolution of the x-vector.
    tdnn_dim: Vec<usize>,
    /// Taps of every convolution of the x-vector.
    tdnn_kernel: Vec<usize>,
    /// Steps between the taps.
    tdnn_dilation: Vec<usize>,
    /// Values of the x-vector.
    xvector_output_dim: usize,
}

impl Default for HeadConfig {
    fn default() -> Self {
        HeadConfig {
            use_weighted_layer_sum: false,
            classifier_proj_size: 256,
            tdnn_dim: vec![512, 512, 512, 512, 1500],
            tdnn_kernel: vec![5, 3, 3, 1, 1],
            tdnn_dilation: vec![1, 2, 3, 1, 1],
            xvector_output_dim: 512,
        }
    }
}

/// Which head a checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mean,
    SequenceClassification,
    XVector,
}

impl Kind {
    /// The class that wrote the checkpoint says it; where there is none, its tensors do. The heads of
    /// other classes (CTC, pretraining) answer no question about a clip and are left aside.
    fn of(layout: &Layout, params: &Params) -> Self {
        let class = layout.architecture();
        if class.ends_with("ForSequenceClassification") {
            Kind::SequenceClassification
        } else if class.ends_with("ForXVector") {
            Kind::XVector
        } else if !class.is_empty() {
            Kind::Mean
        } else if params.has("tdnn.0.kernel.weight") {
            Kind::XVector
        } else if params.has("projector.weight") && params.has("classifier.weight") {
            Kind::SequenceClassification
        } else {
            Kind::Mean
        }
    }
}

/// The head.
pub struct Head {
    layer_weights: Option<LayerWeights>,
    layers: Layers,
}

enum Layers {
    Mean,
    SequenceClassification {
        projector: Linear,
        classifier: Linear,
    },
    XVector {
        projector: Linear,
        tdnn: Vec<Conv1d>,
        feature_extractor: Linear,
        /// The fewest steps that leave two for the deviation.
        steps: usize,
        dim: usize,
    },
}

impl Head {
    /// Reads what the checkpoint has above its encoder, whose last output has steps of `width`.
    ///
    /// # Errors
    /// When the configuration makes no head, or a tensor is missing or misshapen.
    pub fn load(
        layout: &Layout,
        params: &Params,
        config: &Config,
        width: Option<usize>,
    ) -> Result<Self, ModelError> {
        let kind = Kind::of(layout, params);
        let head: HeadConfig = layout.config()?;
        let layer_weights = match head.use_weighted_layer_sum && kind != Kind::Mean {
            true => Some(LayerWeights::load(params, config.num_hidden_layers + 1)?),
            false => None,
        };
        let hidden = config.hidden_size;
        let layers = match kind {
            Kind::Mean => Layers::Mean,
            Kind::SequenceClassification => {
                if width.is_some() {
                    let what = "expected false where a clip is classified, got true";
                    return Err(layout.wrong("add_adapter", what));
                }
                let inner = head.classifier_proj_size;
                count(layout, "classifier_proj_size", inner)?;
                let labels = layout.labels()?.len();
                Layers::SequenceClassification {
                    projector: Linear::load(&params.pp("projector"), hidden, inner)?,
                    classifier: Linear::load(&params.pp("classifier"), inner, labels)?,
                }
            }
            Kind::XVector => {
                if let Some(width) = width.filter(|_| layer_weights.is_none())
                    && width != hidden
                {
                    let what = format!("expected {hidden} as hidden_size has it, got {width}");
                    return Err(layout.wrong("output_hidden_size", &what));
                }
                head.x_vector(layout, params, hidden)?
            }
        };
        Ok(Head {
            layer_weights,
            layers,
        })
    }

    /// The fewest steps that it takes.
    pub fn steps(&self) -> usize {
        match self.layers {
            Layers::XVector { steps, .. } => steps,
            _ => 1,
        }
    }

    /// The sum of layers that it listens to; `None` where it is the last layer.
    pub fn layer_sum(&self) -> Option<LayerSum> {
        self.layer_weights.as_ref().map(LayerWeights::sum)
    }

    /// Values of the embedding that it gives of steps of `width`; `None` where it classifies.
    pub fn embedding_dim(&self, width: usize) -> Option<usize> {
        match self.layers {
            Layers::Mean => Some(width),
            Layers::SequenceClassification { .. } => None,
            Layers::XVector { dim, .. } => Some(dim),
        }
    }

    /// `(batch, steps, width)` to `(batch, labels)` or `(batch, dim)`.
    ///
    /// # Errors
    /// When the shape is another or there are too few steps.
    pub fn forward(&self, x: &Tensor, watch: &mut Watch) -> candle_core::Result<Tensor> {
        match &self.layers {
            Layers::Mean => {
                let pooled = mean(x)?;
                watch(Stage::Pooled, &pooled)?;
                Ok(pooled)
            }
            Layers::SequenceClassification {
                projector,
                classifier,
            } => {
                // The reference takes the mean behind the projector, which makes no difference to a
                // linear layer but to its cost.
                let pooled = projector.forward(&mean(x)?)?;
                watch(Stage::Pooled, &pooled)?;
                classifier.forward(&pooled)
            }
            Layers::XVector {
                projector,
                tdnn,
                feature_extractor,
                ..
            } => {
                let mut x = projector.forward(x)?;
                for (layer, conv) in tdnn.iter().enumerate() {
                    x = conv.forward(&x, Activation::Relu)?;
                    watch(Stage::Tdnn(layer), &x)?;
                }
                let statistics = mean_std(&x)?;
                watch(Stage::Statistics, &statistics)?;
                feature_extractor.forward(&statistics)
            }
        }
    }
}

impl HeadConfig {
    fn x_vector(
        &self,
        layout: &Layout,
        params: &Params,
        hidden: usize,
    ) -> Result<Layers, ModelError> {
        counts(layout, "tdnn_dim", &self.tdnn_dim, None)?;
        let layers = Some(("tdnn_dim", self.tdnn_dim.len()));
        counts(layout, "tdnn_kernel", &self.tdnn_kernel, layers)?;
        counts(layout, "tdnn_dilation", &self.tdnn_dilation, layers)?;
        count(layout, "xvector_output_dim", self.xvector_output_dim)?;
        let (first, last) = match self.tdnn_dim[..] {
            [first, .., last] => (first, last),
            [only] => (only, only),
            [] => (0, 0),
        };
        let spec = |layer: usize| Conv1dSpec {
            dilation: self.tdnn_dilation[layer],
            ..Conv1dSpec::new(
                self.tdnn_dim[layer.saturating_sub(1)],
                self.tdnn_dim[layer],
                self.tdnn_kernel[layer],
            )
        };
        let count = self.tdnn_dim.len();
        // The deviation of a sample needs two steps.
        let steps = (0..count).map(spec).fold(2usize, |steps, spec| {
            steps.saturating_add(spec.dilation * (spec.kernel - 1))
        });
        Ok(Layers::XVector {
            projector: Linear::load(&params.pp("projector"), hidden, first)?,
            tdnn: (0..count)
                .map(|layer| {
                    let params = params.pp("tdnn").pp(layer).pp("kernel");
                    Conv1d::load_unfolded(&params, spec(layer))
                })
                .collect::<Result<_, _>>()?,
            feature_extractor: Linear::load(
                &params.pp("feature_extractor"),
                2 * last,
                self.xvector_output_dim,
            )?,
            steps,
            dim: self.xvector_output_dim,
        })
    }
}
