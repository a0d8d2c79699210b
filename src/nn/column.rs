//! The per-frame form: one log-mel frame in, logits out, over slices and ring buffers. No tensor
//! library, no allocation after construction, real-time safe.
//!
//! Normalisation is folded into the layer before it. Every layer keeps the few past frames that its
//! kernel sees, so a frame costs the same however long the past.

use super::{
    spec::{FrameShape, NetSpec},
    weights::Checkpoint,
};
use crate::kernels::{
    depthwise::{Geometry, accumulate},
    matmul::dense,
};

/// A network that is stepped frame by frame.
pub struct Column {
    stem: Stem,
    blocks: Vec<Block>,
    pool: Pool,
    head_weight: Vec<f32>,
    head_bias: Vec<f32>,
    logits: Vec<f32>,
}

/// The newest frames that a layer's kernel sees, and where in its stride it is.
struct History {
    frames: Vec<f32>,
    len: usize,
    held: usize,
    newest: usize,
    phase: usize,
    stride: usize,
}

impl History {
    fn new(geometry: &Geometry, len: usize) -> Self {
        let held = (geometry.kernel.0 - 1) * geometry.dilation + 1;
        History {
            frames: vec![0.0; held * len],
            len,
            held,
            newest: 0,
            phase: 0,
            stride: geometry.stride.0,
        }
    }

    /// Takes a frame; true when an output is due.
    fn push(&mut self, frame: &[f32]) -> bool {
        self.newest = (self.newest + 1) % self.held;
        self.frames[self.newest * self.len..][..self.len].copy_from_slice(frame);
        self.phase = (self.phase + 1) % self.stride;
        self.phase == 0
    }

    /// The frame `back` frames before the newest one; zeros before the first.
    fn frame(&self, back: usize) -> &[f32] {
        let at = (self.newest + self.held - back) % self.held;
        &self.frames[at * self.len..][..self.len]
    }

    fn reset(&mut self) {
        self.frames.fill(0.0);
        self.phase = 0;
    }
}

struct Stem {
    geometry: Geometry,
    history: History,
    weight: Vec<f32>,
    bias: Vec<f32>,
    patches: Vec<f32>,
    out: Vec<f32>,
}

impl Stem {
    fn step(&mut self, frame: &[f32]) -> bool {
        if !self.history.push(frame) {
            return false;
        }
        let (kt, kf) = self.geometry.kernel;
        for tap in 0..kt {
            let frame = self.history.frame((kt - 1 - tap) * self.geometry.dilation);
            gather(&self.geometry, frame, tap, &mut self.patches);
        }
        debug_assert_eq!(self.patches.len() % (kt * kf), 0);
        dense(&self.patches, &self.weight, &self.bias, true, &mut self.out);
        true
    }
}

/// Writes what time tap `tap` of the stem's kernel sees of `frame` into `patches (out_freqs,
/// kernel_time * kernel_freq)`, zeros beyond the edges. Shared with the batch form. Real-time safe.
pub(super) fn gather(geometry: &Geometry, frame: &[f32], tap: usize, patches: &mut [f32]) {
    let (kt, kf) = geometry.kernel;
    for (position, patch) in patches.chunks_exact_mut(kt * kf).enumerate() {
        for (i, value) in patch[tap * kf..(tap + 1) * kf].iter_mut().enumerate() {
            let at = (position * geometry.stride.1 + i).checked_sub(geometry.pad_freq);
            *value = at.and_then(|at| frame.get(at)).copied().unwrap_or(0.0);
        }
    }
}

struct Block {
    geometry: Geometry,
    channels: usize,
    history: History,
    depthwise: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    residual: bool,
    mixed: Vec<f32>,
    out: Vec<f32>,
}

impl Block {
    fn step(&mut self, frame: &[f32]) -> bool {
        if !self.history.push(frame) {
            return false;
        }
        let (kt, kf) = self.geometry.kernel;
        self.mixed.fill(0.0);
        for (tap, weights) in self.depthwise.chunks_exact(kf * self.channels).enumerate() {
            let frame = self.history.frame((kt - 1 - tap) * self.geometry.dilation);
            accumulate(
                &self.geometry,
                self.channels,
                frame,
                weights,
                &mut self.mixed,
            );
        }
        dense(&self.mixed, &self.weight, &self.bias, true, &mut self.out);
        if self.residual {
            for (out, x) in self.out.iter_mut().zip(self.history.frame(0)) {
                *out += x;
            }
        }
        true
    }
}

/// The mean of the newest `steps` embeddings. The running sum is replaced once a round by one that
/// was summed afresh, so rounding errors do not pile up over days.
struct Pool {
    ring: Vec<f32>,
    steps: usize,
    at: usize,
    filled: usize,
    sum: Vec<f32>,
    fresh: Vec<f32>,
    mean: Vec<f32>,
}

impl Pool {
    fn new(steps: usize, len: usize) -> Self {
        let zeros = vec![0.0; len];
        Pool {
            ring: vec![0.0; steps * len],
            steps,
            at: 0,
            filled: 0,
            sum: zeros.clone(),
            fresh: zeros.clone(),
            mean: zeros,
        }
    }

    fn step(&mut self, embedding: &[f32]) {
        let len = embedding.len();
        let slot = &mut self.ring[self.at * len..][..len];
        for (((sum, fresh), old), new) in self
            .sum
            .iter_mut()
            .zip(&mut self.fresh)
            .zip(slot)
            .zip(embedding)
        {
            *sum += new - *old;
            *fresh += new;
            *old = *new;
        }
        self.filled = (self.filled + 1).min(self.steps);
        self.at = (self.at + 1) % self.steps;
        if self.at == 0 {
            self.sum.copy_from_slice(&self.fresh);
            self.fresh.fill(0.0);
        }
        let share = 1.0 / self.filled as f32;
        for (mean, sum) in self.mean.iter_mut().zip(&self.sum) {
            *mean = sum * share;
        }
    }

    fn reset(&mut self) {
        for values in [
            &mut self.ring,
            &mut self.sum,
            &mut self.fresh,
            &mut self.mean,
        ] {
            values.fill(0.0);
        }
        (self.at, self.filled) = (0, 0);
    }
}

impl Column {
    /// Builds the per-frame form of a checkpoint, whose tensors were checked when it was read.
    pub fn new(checkpoint: &Checkpoint) -> Self {
        let net: &NetSpec = &checkpoint.card.net;
        let shapes = net.shapes();
        let (weight, bias) = folded(checkpoint, "stem", "stem.weight");
        let geometry = net.stem.geometry();
        let stem = Stem {
            history: History::new(&geometry, shapes[0].len()),
            patches: vec![0.0; shapes[1].freqs * net.stem.kernel.0 * net.stem.kernel.1],
            out: vec![0.0; shapes[1].len()],
            geometry,
            weight,
            bias,
        };
        let blocks = net.blocks.iter().enumerate().map(|(at, layer)| {
            let prefix = format!("blocks.{at}");
            let (weight, bias) = folded(checkpoint, &prefix, &format!("{prefix}.pointwise.weight"));
            let (input, output): (FrameShape, FrameShape) = (shapes[at + 1], shapes[at + 2]);
            let geometry = layer.geometry();
            Block {
                history: History::new(&geometry, input.len()),
                channels: input.channels,
                depthwise: checkpoint
                    .values(&format!("{prefix}.depthwise.weight"))
                    .to_vec(),
                residual: net.is_residual(at),
                mixed: vec![0.0; output.freqs * input.channels],
                out: vec![0.0; output.len()],
                geometry,
                weight,
                bias,
            }
        });
        let blocks = blocks.collect();
        let (head_weight, head_bias) = calibrated_head(checkpoint);
        Column {
            stem,
            blocks,
            pool: Pool::new(net.pool, net.embedding()),
            logits: vec![0.0; net.outputs],
            head_weight,
            head_bias,
        }
    }

    /// Takes one frame `(N_MELS)`; true when the network took a step and the logits are new.
    pub fn step(&mut self, frame: &[f32]) -> bool {
        if !self.stem.step(frame) {
            return false;
        }
        let mut frame = &self.stem.out[..];
        for block in &mut self.blocks {
            if !block.step(frame) {
                return false;
            }
            frame = &block.out;
        }
        self.pool.step(frame);
        true
    }

    /// The mean of the newest embeddings, `(embedding)`; zeros before the first step.
    pub fn embedding(&self) -> &[f32] {
        &self.pool.mean
    }

    /// The embedding of the newest step alone, `(embedding)`; zeros before the first.
    pub fn newest(&self) -> &[f32] {
        self.blocks
            .last()
            .map_or(&self.stem.out, |block| &block.out)
    }

    /// The logits of the head for the present embedding, `(outputs)`.
    pub fn logits(&mut self) -> &[f32] {
        dense(
            &self.pool.mean,
            &self.head_weight,
            &self.head_bias,
            false,
            &mut self.logits,
        );
        &self.logits
    }

    /// Forgets everything heard.
    pub fn reset(&mut self) {
        self.stem.history.reset();
        self.blocks
            .iter_mut()
            .for_each(|block| block.history.reset());
        self.pool.reset();
    }
}

/// Weight and bias of a dense layer with the normalisation behind it folded in.
fn folded(checkpoint: &Checkpoint, prefix: &str, weight: &str) -> (Vec<f32>, Vec<f32>) {
    let norm = |part: &str| checkpoint.values(&format!("{prefix}.norm.{part}"));
    let (gamma, beta, mean, var) = (
        norm("weight"),
        norm("bias"),
        norm("running_mean"),
        norm("running_var"),
    );
    let scale: Vec<f32> = gamma
        .iter()
        .zip(var)
        .map(|(g, v)| g / (v.max(0.0) + super::ops::NORM_EPS).sqrt())
        .collect();
    let bias = beta
        .iter()
        .zip(mean)
        .zip(&scale)
        .map(|((b, m), s)| b - m * s)
        .collect();
    let mut weight = checkpoint.values(weight).to_vec();
    for row in weight.chunks_exact_mut(scale.len()) {
        row.iter_mut().zip(&scale).for_each(|(w, s)| *w *= s);
    }
    (weight, bias)
}

/// Weight and bias of the head with the calibration of every label folded in.
fn calibrated_head(checkpoint: &Checkpoint) -> (Vec<f32>, Vec<f32>) {
    let mut weight = checkpoint.values("head.weight").to_vec();
    let mut bias = checkpoint.values("head.bias").to_vec();
    for (label, &(factor, offset)) in checkpoint.card.calibration.iter().enumerate() {
        bias[label] = bias[label] * factor + offset;
        for row in weight.chunks_exact_mut(bias.len()) {
            row[label] *= factor;
        }
    }
    (weight, bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{spec::sample, weights::random_checkpoint};

    fn frames(count: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..count)
            .map(|_| (0..64).map(|_| rng.f32() * 2.0 - 1.0).collect())
            .collect()
    }

    #[test]
    fn a_reset_network_is_a_new_one() {
        let checkpoint = random_checkpoint(sample(), 7);
        let (mut used, mut new) = (Column::new(&checkpoint), Column::new(&checkpoint));
        frames(37, 1).iter().for_each(|frame| {
            used.step(frame);
        });
        used.reset();
        for frame in frames(31, 2) {
            assert_eq!(used.step(&frame), new.step(&frame));
            assert_eq!(used.logits(), new.logits());
        }
    }

    #[test]
    fn the_mean_stays_exact_over_a_long_time() {
        let mut pool = Pool::new(5, 1);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut all = Vec::new();
        for _ in 0..20_003 {
            all.push(rng.f32() * 1e3);
            pool.step(&all[all.len() - 1..]);
        }
        let expected: f32 = all[all.len() - 5..].iter().sum::<f32>() / 5.0;
        assert!((pool.mean[0] - expected).abs() < 1e-3);
    }

    #[test]
    fn calibration_scales_the_logits() {
        let mut checkpoint = random_checkpoint(sample(), 8);
        let mut plain = Column::new(&checkpoint);
        checkpoint.card.calibration = vec![(2.0, 1.0); 4];
        let mut calibrated = Column::new(&checkpoint);
        for frame in frames(20, 4) {
            plain.step(&frame);
            calibrated.step(&frame);
        }
        let expected: Vec<f32> = plain.logits().iter().map(|l| l * 2.0 + 1.0).collect();
        for (got, expected) in calibrated.logits().iter().zip(expected) {
            assert!((got - expected).abs() < 1e-4);
        }
    }
}
