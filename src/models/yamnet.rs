//! YAMNet: 521 sound events from the published `yamnet.tflite`, a MobileNet-v1 on log-mel patches.
//!
//! Plakal and Ellis, `tensorflow/models` `research/audioset/yamnet`; Howard et al., *MobileNets*
//! (arXiv 1704.04861). The published file is a hybrid: most weights are int8 and its run time
//! quantises activations while it runs, which changes scores by up to 0.9 against the same weights in
//! floats. What is equalled here is the run time that people use: LiteRT 2.3.0 on x86 with its default
//! XNNPACK delegate. There, a pointwise or dense layer quantises every row between its own smallest
//! and largest value ([`crate::kernels::int8`]), an int8 depthwise layer the whole image
//! ([`crate::kernels::conv3x3`]), and two depthwise layers and the first convolution are floats. As a
//! rounding step makes a large difference out of a small one, everything up to the logits is done in
//! the same order with the same roundings, and is equal to the bit on processors that fuse
//! multiply-add; without that (and in LiteRT without the delegate, whose scores differ by up to 0.2)
//! expect differences of the size of a quantisation step.

mod front;
mod plan;

use std::path::Path;

use super::ModelError;
use super::audioset::yamnet_labels;
use super::network::Network;
use crate::kernels::conv3x3::{self, After};
use crate::kernels::int8::Int8Rows;
use crate::nn::tflite::Tflite;

use front::{Front, N_MELS, PATCH, PATCH_HOP};
use plan::{Layer, Plan};

pub use front::{PATCH_HOP_SAMPLES, PATCH_SAMPLES};

/// Values of an embedding.
pub const EMBEDDING: usize = 1024;

/// The model with its buffers; one patch is in work at a time.
pub struct Yamnet {
    front: Front,
    net: Net,
    parameters: usize,
}

/// The network after the front end.
struct Net {
    plan: Plan,
    now: Vec<f32>,
    next: Vec<f32>,
    rows: Int8Rows,
    /// Means over the last image `(embedding)`, and the scores made of them `(labels)`.
    embedding: Vec<f32>,
    scores: Vec<f32>,
}

impl Yamnet {
    /// Reads the published file.
    ///
    /// # Errors
    /// When it cannot be read or is another network.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Yamnet::from_tflite(&Tflite::open(path)?)
    }

    /// Builds it from a file that was read already.
    ///
    /// # Errors
    /// When it is another network.
    pub fn from_tflite(file: &Tflite) -> Result<Self, ModelError> {
        let mut plan = plan::read(file, yamnet_labels().len())?;
        if plan.embedding != EMBEDDING {
            return Err(ModelError::Format(format!(
                "{}: expected an embedding of {EMBEDDING}, got {}",
                file.path(),
                plan.embedding
            )));
        }
        let window = std::mem::take(&mut plan.window);
        let front = Front::new(window, plan.mel.clone());
        let net = Net {
            now: Vec::new(),
            next: Vec::new(),
            rows: Int8Rows::default(),
            embedding: vec![0.0; plan.embedding],
            scores: vec![0.0; plan.dense.outputs()],
            plan,
        };
        Ok(Yamnet {
            front,
            net,
            parameters: file.parameters(),
        })
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The labels in the order of the scores.
    pub fn labels(&self) -> &'static [&'static str] {
        yamnet_labels()
    }

    /// Scores every patch of `pcm` (mono, 16 kHz, any length): `scores` becomes `(patches, labels)`.
    ///
    /// A patch is 0.975 s long and another begins every 0.48 s; silence follows the end of `pcm`
    /// until the last is whole, so there is at least one. Gives how many patches there are.
    /// Allocates only for sounds longer than any before.
    pub fn classify_patches(&mut self, pcm: &[f32], scores: &mut Vec<f32>) -> usize {
        scores.clear();
        self.each_patch(pcm, |net| {
            net.score();
            scores.extend_from_slice(&net.scores);
        })
    }

    /// Scores `pcm` as a whole: the mean of its patches' scores, `(labels)`, as the published example
    /// takes it.
    pub fn classify(&mut self, pcm: &[f32], scores: &mut Vec<f32>) {
        scores.clear();
        scores.resize(yamnet_labels().len(), 0.0);
        let patches = self.each_patch(pcm, |net| {
            net.score();
            add(scores, &net.scores);
        });
        divide(scores, patches);
    }

    /// The embedding of every patch of `pcm`: `out` becomes `(patches, EMBEDDING)`. Gives how many
    /// patches there are.
    pub fn embed_patches(&mut self, pcm: &[f32], out: &mut Vec<f32>) -> usize {
        out.clear();
        self.each_patch(pcm, |net| out.extend_from_slice(&net.embedding))
    }

    /// The mean of the embeddings of the patches of `pcm`, `(EMBEDDING)`.
    pub fn embed(&mut self, pcm: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(EMBEDDING, 0.0);
        let patches = self.each_patch(pcm, |net| add(out, &net.embedding));
        divide(out, patches);
    }

    /// Runs every patch up to its embedding and hands the network to `take`.
    fn each_patch(&mut self, pcm: &[f32], mut take: impl FnMut(&mut Net)) -> usize {
        let frames = self.front.frames(pcm);
        let patches = frames.windows(PATCH * N_MELS).step_by(PATCH_HOP * N_MELS);
        patches
            .inspect(|patch| {
                self.net.embed(patch);
                take(&mut self.net);
            })
            .count()
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
}

fn divide(sum: &mut [f32], count: usize) {
    sum.iter_mut().for_each(|sum| *sum /= count as f32);
}

impl Net {
    /// Takes a patch of log-mel frames `(PATCH, N_MELS)` to its embedding.
    fn embed(&mut self, patch: &[f32]) {
        let Net {
            plan, now, next, ..
        } = self;
        let (weights, bias) = &plan.first;
        let (height, width) = plan.patch.out();
        now.resize(height * width * bias.len(), 0.0);
        conv3x3::first(&plan.patch, patch, weights, bias, now);
        for layer in &plan.layers {
            match layer {
                Layer::Depthwise(layer) => {
                    let (height, width) = layer.image.out();
                    next.resize(height * width * layer.image.channels, 0.0);
                    let bias = &layer.bias;
                    let mut input = 1.0;
                    let after = match &layer.scale {
                        None => After::Bias(bias),
                        Some(scale) => {
                            conv3x3::quantise(now, &mut input);
                            After::Scaled { scale, input, bias }
                        }
                    };
                    conv3x3::depthwise(&layer.image, now, &layer.weights, after, next);
                }
                Layer::Pointwise(dense) => {
                    let places = now.len() / dense.inputs();
                    next.resize(places * dense.outputs(), 0.0);
                    dense.apply(now, &mut self.rows, true, next);
                }
            }
            std::mem::swap(now, next);
        }
        self.embedding.fill(0.0);
        now.chunks_exact(plan.embedding)
            .for_each(|place| add(&mut self.embedding, place));
        // The reference multiplies by the reciprocal.
        let share = 1.0 / plan.places as f32;
        self.embedding.iter_mut().for_each(|value| *value *= share);
    }

    /// Makes scores of the embedding.
    fn score(&mut self) {
        let dense = &self.plan.dense;
        dense.apply(&self.embedding, &mut self.rows, false, &mut self.scores);
        for score in &mut self.scores {
            *score = 1.0 / (1.0 + (-*score).exp());
        }
    }
}

/// The outputs are scores, not logits; those of a window are the mean over its patches.
impl Network for Yamnet {
    fn rate_hz(&self) -> u32 {
        crate::clock::PIPELINE_RATE_HZ
    }

    fn window(&self) -> usize {
        PATCH_SAMPLES
    }

    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        let mut scores = Vec::new();
        self.classify(pcm, &mut scores);
        Ok(scores)
    }
}
