//! The recipes of the embedded models: shape of the network, loss, schedule. Chosen on the dev split.

use serde::{Deserialize, Serialize};

use super::augment::SpecAugment;
use crate::nn::spec::{Layer, NetSpec};

/// What a recipe learns to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// One label out of many: softmax and cross-entropy.
    OneOf,
    /// Any number of labels: sigmoid and binary cross-entropy.
    AnyOf,
}

/// How a network is trained.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The loss.
    pub objective: Objective,
    /// Rounds; in each some examples are replaced by new ones.
    pub rounds: usize,
    /// Steps of a round.
    pub steps: usize,
    /// Examples a step.
    pub batch: usize,
    /// Examples before the first round.
    pub first: usize,
    /// New examples a round.
    pub fresh: usize,
    /// Examples kept; the oldest go first.
    pub kept: usize,
    /// Highest learning rate of the one-cycle schedule.
    pub learning_rate: f64,
    /// Weight decay of AdamW.
    pub weight_decay: f64,
    /// Decay of the moving average of the weights, a step.
    pub average: f64,
    /// Share of the target that is spread over all labels.
    pub smoothing: f32,
    /// Masks.
    pub spec_augment: SpecAugment,
}

fn layer(
    channels: usize,
    kernel: (usize, usize),
    stride: (usize, usize),
    dilation: usize,
    pad: bool,
) -> Layer {
    Layer {
        channels,
        kernel,
        stride,
        dilation,
        pad,
    }
}

/// The keyword network: two-dimensional blocks at 20 ms a step, the frequency axis collapsed by one
/// wide kernel, dilated blocks over time, a mean over the newest second.
pub fn keyword_net(outputs: usize) -> NetSpec {
    NetSpec {
        stem: layer(24, (5, 5), (2, 2), 1, true),
        blocks: vec![
            layer(32, (3, 3), (1, 2), 1, true),
            layer(32, (3, 3), (1, 1), 1, true),
            layer(48, (3, 3), (1, 2), 1, true),
            layer(48, (3, 3), (1, 1), 2, true),
            layer(64, (3, 3), (1, 2), 1, true),
            layer(64, (3, 3), (1, 1), 2, true),
            layer(128, (3, 4), (1, 1), 1, false),
            layer(128, (5, 1), (1, 1), 2, true),
            layer(128, (5, 1), (1, 1), 4, true),
            layer(128, (1, 1), (1, 1), 1, true),
        ],
        pool: 50,
        outputs,
    }
}

/// The event network: two-dimensional blocks with strides in time and frequency, a mean over the
/// window.
pub fn event_net(outputs: usize) -> NetSpec {
    NetSpec {
        stem: layer(24, (3, 3), (2, 2), 1, true),
        blocks: vec![
            layer(48, (3, 3), (1, 1), 1, true),
            layer(64, (3, 3), (2, 2), 1, true),
            layer(64, (3, 3), (1, 1), 1, true),
            layer(96, (3, 3), (2, 2), 1, true),
            layer(96, (3, 3), (1, 1), 1, true),
            layer(128, (3, 3), (1, 2), 1, true),
            layer(128, (3, 3), (1, 1), 1, true),
            layer(256, (3, 4), (1, 1), 1, false),
            layer(256, (3, 1), (1, 1), 1, true),
        ],
        pool: 64,
        outputs,
    }
}

/// How the keyword model is trained.
pub fn keyword() -> Recipe {
    Recipe {
        objective: Objective::OneOf,
        rounds: 40,
        steps: 200,
        batch: 64,
        first: 10_000,
        fresh: 4_000,
        kept: 40_000,
        learning_rate: 4e-3,
        weight_decay: 0.02,
        average: 0.998,
        smoothing: 0.05,
        spec_augment: SpecAugment {
            time: (2, 15),
            freq: (2, 10),
            warp: 0.1,
        },
    }
}

/// How the event model is trained.
pub fn event() -> Recipe {
    Recipe {
        objective: Objective::AnyOf,
        rounds: 40,
        steps: 200,
        batch: 64,
        first: 12_000,
        fresh: 5_000,
        kept: 60_000,
        learning_rate: 4e-3,
        weight_decay: 0.02,
        average: 0.998,
        smoothing: 0.0,
        spec_augment: SpecAugment {
            time: (1, 12),
            freq: (2, 8),
            warp: 0.05,
        },
    }
}
