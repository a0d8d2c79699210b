//! The training loop: AdamW on a one-cycle schedule, a moving average of the weights, and a teacher
//! whose every output is learnt beside the labels through heads that are thrown away afterwards.
//!
//! AdamW after Loshchilov and Hutter (2019), the cycle after Smith (2018), distillation after
//! Hinton et al. (2015).

use std::collections::{BTreeMap, VecDeque};

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use fastrand::Rng;

use super::{
    augment::spec_augment,
    pool::{Example, JUDGED, Pool},
    recipe::{Objective, Recipe},
    teacher::TeacherError,
};
use crate::features::N_MELS;
use crate::nn::{batch::BatchNet, weights::Checkpoint};

/// What goes wrong while training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The teacher has failed.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
    /// A shape does not fit, or the like.
    #[error("training: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The loss is no number any more.
    #[error("training: the loss is {0} in round {1}; lower --learning-rate")]
    Diverged(f32, usize),
}

/// How a round went.
pub struct Round {
    /// Rounds done.
    pub round: usize,
    /// Mean loss of its steps.
    pub loss: f32,
}

/// The parts of a teacher's answer that are learnt beside the labels.
#[derive(Debug, Clone, Copy, Default)]
pub struct TeacherShape {
    /// Scores in `0.0..=1.0`, first.
    pub scores: usize,
    /// An embedding behind them.
    pub embedding: usize,
}

/// Trains `start` and calls `report` after every round with the averaged weights.
///
/// # Errors
/// When the teacher fails, the loss diverges, or `report` says so.
pub fn train<E: From<TrainError>>(
    start: &Checkpoint,
    recipe: &Recipe,
    teacher: TeacherShape,
    pool: &mut Pool,
    seed: u64,
    mut report: impl FnMut(&Round, &Checkpoint) -> std::result::Result<(), E>,
) -> std::result::Result<Checkpoint, E> {
    let mut run = Run::new(start, recipe, teacher, seed).map_err(TrainError::from)?;
    run.examples
        .extend(pool.take(recipe.first).map_err(TrainError::from)?);
    for round in 0..recipe.rounds {
        let loss = run.round().map_err(TrainError::from)?;
        if !loss.is_finite() {
            return Err(TrainError::Diverged(loss, round + 1).into());
        }
        report(
            &Round {
                round: round + 1,
                loss,
            },
            &run.averaged(),
        )?;
        if round + 1 < recipe.rounds {
            run.examples
                .extend(pool.take(recipe.fresh).map_err(TrainError::from)?);
            let surplus = run.examples.len().saturating_sub(recipe.kept);
            run.examples.drain(..surplus);
        }
    }
    Ok(run.averaged())
}

/// The heads that learn a teacher's outputs from the embedding.
struct Beside {
    shape: TeacherShape,
    scores: Var,
    embedding: Var,
}

struct Run<'a> {
    recipe: &'a Recipe,
    start: &'a Checkpoint,
    net: BatchNet,
    beside: Option<Beside>,
    optimiser: AdamW,
    average: BTreeMap<String, Vec<f32>>,
    examples: VecDeque<Example>,
    rng: Rng,
    taken: usize,
}

/// Steps between two updates of the moving average.
const AVERAGE_EVERY: usize = 4;

impl<'a> Run<'a> {
    fn new(
        start: &'a Checkpoint,
        recipe: &'a Recipe,
        teacher: TeacherShape,
        seed: u64,
    ) -> Result<Self> {
        let net = BatchNet::new(start)?;
        let width = start.card.net.embedding();
        let mut rng = Rng::with_seed(seed);
        let mut vars: Vec<Var> = net.vars().values().cloned().collect();
        let mut head = |outputs: usize| {
            let scale = (3.0 / width as f32).sqrt();
            let data: Vec<f32> = (0..width * outputs)
                .map(|_| scale * (rng.f32() * 2.0 - 1.0))
                .collect();
            Var::from_tensor(&Tensor::from_vec(data, (width, outputs), &Device::Cpu)?)
        };
        let beside = if recipe.objective == Objective::AnyOf && teacher.scores > 0 {
            let beside = Beside {
                shape: teacher,
                scores: head(teacher.scores)?,
                embedding: head(teacher.embedding)?,
            };
            vars.extend([beside.scores.clone(), beside.embedding.clone()]);
            Some(beside)
        } else {
            None
        };
        let params = ParamsAdamW {
            lr: 0.0,
            weight_decay: recipe.weight_decay,
            ..ParamsAdamW::default()
        };
        let optimiser = AdamW::new(vars, params)?;
        let average = net.tensors()?;
        Ok(Run {
            recipe,
            start,
            net,
            beside,
            optimiser,
            average,
            examples: VecDeque::new(),
            rng,
            taken: 0,
        })
    }

    /// The learning rate at a step: up over the first tenth, then down along a cosine.
    fn rate(&self) -> f64 {
        let all = (self.recipe.rounds * self.recipe.steps) as f64;
        let at = self.taken as f64 / all;
        let shape = if at < 0.1 {
            0.05 + 0.95 * at / 0.1
        } else {
            0.5 + 0.5 * (std::f64::consts::PI * (at - 0.1) / 0.9).cos()
        };
        self.recipe.learning_rate * shape.max(1e-3)
    }

    fn round(&mut self) -> Result<f32> {
        let streamed: Vec<usize> = (0..self.examples.len())
            .filter(|&i| self.examples[i].streamed)
            .collect();
        let aligned: Vec<usize> = (0..self.examples.len())
            .filter(|&i| !self.examples[i].streamed)
            .collect();
        let mut total = 0.0;
        for _ in 0..self.recipe.steps {
            let share = streamed.len() as f32 / self.examples.len().max(1) as f32;
            let group = if self.rng.f32() < share {
                &streamed
            } else {
                &aligned
            };
            let chosen: Vec<usize> = (0..self.recipe.batch)
                .map(|_| group[self.rng.usize(0..group.len())])
                .collect();
            let loss = self.loss(&chosen)?;
            self.optimiser.set_learning_rate(self.rate());
            self.optimiser.backward_step(&loss)?;
            self.taken += 1;
            if self.taken.is_multiple_of(AVERAGE_EVERY) {
                self.update_average()?;
            }
            total += loss.to_scalar::<f32>()?;
        }
        Ok(total / self.recipe.steps as f32)
    }

    fn loss(&mut self, chosen: &[usize]) -> Result<Tensor> {
        let batch = chosen.len();
        let outputs = self.start.card.net.outputs;
        let (mut frames, mut targets) = (Vec::new(), Vec::with_capacity(batch * outputs));
        for &at in chosen {
            let example = &self.examples[at];
            let skip = if example.streamed {
                0
            } else {
                example.frames.len() - JUDGED * N_MELS
            };
            let from = frames.len();
            frames.extend_from_slice(&example.frames[skip..]);
            spec_augment(
                &mut self.rng,
                &self.recipe.spec_augment,
                &mut frames[from..],
            );
            targets.extend_from_slice(&example.target);
        }
        let targets = Tensor::from_vec(targets, (batch, outputs), &Device::Cpu)?;
        let pooled = self.net.pooled(&self.net.embeddings(&frames, batch)?)?;
        let logits = self.net.head(&pooled)?;
        let loss = match self.recipe.objective {
            Objective::OneOf => cross_entropy(&logits, &targets, self.recipe.smoothing)?,
            Objective::AnyOf => binary_cross_entropy(&logits, &targets)?,
        };
        match &self.beside {
            Some(beside) => loss + self.beside_loss(beside, &pooled, chosen)?,
            None => Ok(loss),
        }
    }

    /// Binary cross-entropy to the teacher's scores and one minus the cosine to its embedding.
    fn beside_loss(&self, beside: &Beside, pooled: &Tensor, chosen: &[usize]) -> Result<Tensor> {
        let TeacherShape { scores, embedding } = beside.shape;
        let (mut said, mut embedded) = (Vec::new(), Vec::new());
        for &at in chosen {
            let teacher = &self.examples[at].teacher;
            said.extend_from_slice(&teacher[..scores]);
            embedded.extend_from_slice(&teacher[scores..scores + embedding]);
        }
        let said = Tensor::from_vec(said, (chosen.len(), scores), &Device::Cpu)?;
        let loss = binary_cross_entropy(&pooled.matmul(&beside.scores)?, &said)?;
        if embedding == 0 {
            return Ok(loss);
        }
        let theirs = unit(&Tensor::from_vec(
            embedded,
            (chosen.len(), embedding),
            &Device::Cpu,
        )?)?;
        let ours = unit(&pooled.matmul(&beside.embedding)?)?;
        let cosine = (ours * theirs)?.sum(D::Minus1)?.mean_all()?;
        (loss * 0.3)? + (cosine.affine(-1.0, 1.0)? * 4.0)?
    }

    fn update_average(&mut self) -> Result<()> {
        // The average follows closely at first, so that the random start is forgotten.
        let warm = (1.0 + self.taken as f64) / (10.0 + self.taken as f64);
        let keep = self.recipe.average.powi(AVERAGE_EVERY as i32).min(warm) as f32;
        for (key, now) in self.net.tensors()? {
            if let Some(average) = self.average.get_mut(&key) {
                average
                    .iter_mut()
                    .zip(now)
                    .for_each(|(average, now)| *average += (1.0 - keep) * (now - *average));
            }
        }
        Ok(())
    }

    fn averaged(&self) -> Checkpoint {
        Checkpoint {
            card: self.start.card.clone(),
            tensors: self.average.clone(),
        }
    }
}

/// Rows of length one.
fn unit(x: &Tensor) -> Result<Tensor> {
    let length = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-6)?.sqrt()?;
    x.broadcast_div(&length)
}

/// Mean cross-entropy of a softmax over `(batch, labels)` to target distributions.
///
/// # Errors
/// When the shapes differ.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, smoothing: f32) -> Result<Tensor> {
    let labels = logits.dim(D::Minus1)? as f64;
    let smoothing = f64::from(smoothing);
    let targets = targets.affine(1.0 - smoothing, smoothing / labels)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let normal = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let log_softmax = shifted.broadcast_sub(&normal)?;
    (log_softmax * targets)?.sum(D::Minus1)?.mean_all()?.neg()
}

/// Binary cross-entropy of sigmoids over `(batch, labels)`, summed over labels and averaged over the
/// batch: `max(x, 0) - x z + ln(1 + exp(-|x|))`, which does not overflow.
///
/// # Errors
/// When the shapes differ.
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let soft = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let all = ((logits.relu()? - (logits * targets)?)? + soft)?;
    all.sum(D::Minus1)?.mean_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_equal_their_definitions() {
        let logits = Tensor::new(&[[1.0f32, -2.0, 0.5]], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[[0.0f32, 0.25, 0.75]], &Device::Cpu).unwrap();
        // PyTorch 2.x: F.cross_entropy and F.binary_cross_entropy_with_logits(reduction='sum').
        let z: f64 = [1.0f64, -2.0, 0.5]
            .iter()
            .map(|x| x.exp())
            .sum::<f64>()
            .ln();
        let expected = 0.25 * (z + 2.0) + 0.75 * (z - 0.5);
        let got = cross_entropy(&logits, &targets, 0.0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!((f64::from(got) - expected).abs() < 1e-5);
        let expected: f64 = [(1.0f64, 0.0f64), (-2.0, 0.25), (0.5, 0.75)]
            .iter()
            .map(|&(x, t)| (1.0 + x.exp()).ln() - t * x)
            .sum();
        let got = binary_cross_entropy(&logits, &targets)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!((f64::from(got) - expected).abs() < 1e-5);
    }
}
