//! The gradient of scaled dot-product attention, and attention with some of its weights dropped.
//!
//! Nothing but queries, keys and values is kept from the way forward: the weights of one head are
//! computed again when its gradient comes back, as in Dao et al., *FlashAttention* (2022), so that no
//! layer holds on to a matrix of all pairs.

use rayon::prelude::*;

use super::attention::{Bias, Shape};
use super::gemm::{Matrix, gemm};
use super::{backward, rows};

/// Weights that are dropped at random; those that stay count for more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// How many of them, from 0 up to but not including 1.
    pub share: f32,
    /// Which: the same seed drops the same.
    pub seed: u64,
}

impl Dropout {
    /// What every value of part `part` is multiplied by: nothing, or the inverse of what stays.
    pub fn apply(self, part: usize, values: &mut [f32]) {
        // An odd multiplier, the golden ratio of 2^64, spreads the numbers of the parts.
        let spread = (part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut rng = fastrand::Rng::with_seed(self.seed ^ spread);
        let stays = 1.0 / (1.0 - self.share);
        for value in values {
            *value *= if rng.f32() < self.share { 0.0 } else { stays };
        }
    }
}

/// The gradients of what goes into an attention.
#[derive(Debug)]
pub struct Gradients {
    /// Of the queries.
    pub q: Vec<f32>,
    /// Of the keys.
    pub k: Vec<f32>,
    /// Of the values.
    pub v: Vec<f32>,
    /// Of the bias, empty where it was not asked for.
    pub bias: Vec<f32>,
}

/// What goes into an attention, beside its shape; as in [`super::attention::attention`].
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// What is added to the scores.
    pub bias: Option<Bias<'a>>,
    /// What is dropped of their softmax.
    pub dropout: Option<Dropout>,
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head<'a> {
    shape: Shape,
    inputs: Inputs<'a>,
    sequence: usize,
    head: usize,
}

impl<'a> Head<'a> {
    /// This head's part of `rows` rows a sequence.
    fn part(&self, values: &'a [f32], rows: usize) -> Matrix<'a> {
        let width = self.shape.heads * self.shape.head_dim;
        let at = self.sequence * rows * width + self.head * self.shape.head_dim;
        Matrix::new(
            values.get(at..).unwrap_or(&[]),
            rows,
            self.shape.head_dim,
            (width, 1),
        )
    }

    fn q(&self) -> Matrix<'a> {
        self.part(self.inputs.q, self.shape.queries)
    }

    fn k(&self) -> Matrix<'a> {
        self.part(self.inputs.k, self.shape.keys)
    }

    fn v(&self) -> Matrix<'a> {
        self.part(self.inputs.v, self.shape.keys)
    }

    /// The softmax of the scores, `(queries, keys)`.
    fn weights(&self) -> Vec<f32> {
        let Shape {
            queries,
            keys,
            scale,
            ..
        } = self.shape;
        let mut weights = vec![0.0; queries * keys];
        gemm(
            scale,
            self.q(),
            self.k().transposed(),
            0.0,
            &mut weights,
            keys,
        );
        if let Some(bias) = self.inputs.bias {
            let plane =
                (self.sequence % bias.batch * bias.heads + self.head % bias.heads) * bias.queries;
            for (query, scores) in weights.chunks_exact_mut(keys.max(1)).enumerate() {
                let at = plane + query % bias.queries;
                rows::add(scores, &bias.values[at * keys..][..keys]);
            }
        }
        rows::softmax(&mut weights, keys);
        weights
    }

    /// Drops what is dropped of this head.
    fn drop_some(&self, values: &mut [f32]) {
        if let Some(dropout) = self.inputs.dropout {
            dropout.apply(self.sequence * self.shape.heads + self.head, values);
        }
    }
}

/// Attention with dropout: `(batch, queries, heads * head_dim)`.
///
/// # Panics
/// When a length does not fit the shape.
pub fn attention(shape: Shape, inputs: Inputs) -> Vec<f32> {
    let Shape {
        batch,
        heads,
        head_dim,
        queries,
        keys,
        ..
    } = shape;
    let parts: Vec<Vec<f32>> = (0..batch * heads)
        .into_par_iter()
        .map(|at| {
            let head = Head {
                shape,
                inputs,
                sequence: at / heads,
                head: at % heads,
            };
            let mut weights = head.weights();
            head.drop_some(&mut weights);
            let mut out = vec![0.0; queries * head_dim];
            let weights = Matrix::row_major(&weights, queries, keys);
            gemm(1.0, weights, head.v(), 0.0, &mut out, head_dim);
            out
        })
        .collect();
    gather(&parts, heads, head_dim)
}

/// Of one head the gradients of queries, keys and values, sequence by sequence, and that of its plane of
/// the bias.
type Task = (Vec<[Vec<f32>; 3]>, Vec<f32>);

/// The gradients of [`super::attention::attention`], or of it with dropout, from that of its output;
/// that of the bias where `wants_bias`.
///
/// # Panics
/// When a length does not fit the shape.
pub fn gradients(shape: Shape, inputs: Inputs, grad: &[f32], wants_bias: bool) -> Gradients {
    let Shape {
        batch,
        heads,
        head_dim,
        queries,
        keys,
        scale,
    } = shape;
    // Sequences that share a plane of the bias are done by one task, which adds up its gradient.
    let planes = inputs.bias.filter(|_| wants_bias);
    let groups = planes.map_or(batch, |bias| bias.batch);
    let tasks: Vec<Task> = (0..groups * heads)
        .into_par_iter()
        .map(|task| {
            let (group, head) = (task / heads, task % heads);
            let mut plane = planes.map_or(Vec::new(), |bias| vec![0.0; bias.queries * keys]);
            let parts = (group..batch)
                .step_by(groups.max(1))
                .map(|sequence| {
                    let head = Head {
                        shape,
                        inputs,
                        sequence,
                        head,
                    };
                    let weights = head.weights();
                    let up = head.part(grad, queries);
                    let mut of = [queries, keys, keys].map(|rows| vec![0.0; rows * head_dim]);
                    let [of_q, of_k, of_v] = &mut of;
                    let mut dropped = weights.clone();
                    head.drop_some(&mut dropped);
                    let dropped = Matrix::row_major(&dropped, queries, keys);
                    gemm(1.0, dropped.transposed(), up, 0.0, of_v, head_dim);
                    let mut scores = vec![0.0; queries * keys];
                    gemm(1.0, up, head.v().transposed(), 0.0, &mut scores, keys);
                    head.drop_some(&mut scores);
                    backward::softmax(&weights, &mut scores, keys);
                    for part in scores.chunks_exact(plane.len().max(1)) {
                        if !plane.is_empty() {
                            rows::add(&mut plane, part);
                        }
                    }
                    let scores = Matrix::row_major(&scores, queries, keys);
                    gemm(scale, scores, head.k(), 0.0, of_q, head_dim);
                    gemm(scale, scores.transposed(), head.q(), 0.0, of_k, head_dim);
                    of
                })
                .collect();
            (parts, plane)
        })
        .collect();
    let mut bias = planes.map_or(Vec::new(), |bias| vec![0.0; bias.values.len()]);
    for (task, (_, plane)) in tasks.iter().enumerate() {
        if let (Some(planes), false) = (planes, plane.is_empty()) {
            let at = (task / heads * planes.heads + task % heads % planes.heads) * plane.len();
            rows::add(&mut bias[at..at + plane.len()], plane);
        }
    }
    // By sequence and head: a task has every `groups`-th sequence of its head.
    let part = |which: usize| -> Vec<&[f32]> {
        (0..batch * heads)
            .map(|at| {
                let (sequence, head) = (at / heads, at % heads);
                let (parts, _) = &tasks[sequence % groups * heads + head];
                &*parts[sequence / groups][which]
            })
            .collect()
    };
    Gradients {
        q: gather(&part(0), heads, head_dim),
        k: gather(&part(1), heads, head_dim),
        v: gather(&part(2), heads, head_dim),
        bias,
    }
}

/// Heads `(rows, head_dim)`, by sequence and then by head, as `(batch, rows, heads * head_dim)`.
fn gather<T: AsRef<[f32]> + Sync>(parts: &[T], heads: usize, head_dim: usize) -> Vec<f32> {
    let length = parts.first().map_or(0, |part| part.as_ref().len());
    let mut out = vec![0.0; parts.len() * length];
    if length == 0 {
        return out;
    }
    out.par_chunks_exact_mut(heads * length)
        .zip(parts.par_chunks_exact(heads))
        .for_each(|(out, parts)| {
            for (row, out) in out.chunks_exact_mut(heads * head_dim).enumerate() {
                for (out, part) in out.chunks_exact_mut(head_dim).zip(parts) {
                    out.copy_from_slice(&part.as_ref()[row * head_dim..][..head_dim]);
                }
            }
        });
    out
}

#[cfg(test)]
mod tests {
    use super::super::attention::attention as fast;
    use super::*;

    fn draw(seed: u64, len: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..len).map(|_| rng.f32() - 0.5).collect()
    }

    const SHAPE: Shape = Shape {
        batch: 4,
        heads: 3,
        head_dim: 5,
        queries: 6,
        keys: 7,
        scale: 0.7,
    };

    #[test]
    fn dropping_nothing_is_attention_and_dropping_keeps_the_mean() {
        let (q, k, v) = (
            draw(1, 4 * 6 * 15),
            draw(2, 4 * 7 * 15),
            draw(3, 4 * 7 * 15),
        );
        let bias = draw(4, 2 * 3 * 6 * 7);
        let bias = Bias {
            values: &bias,
            batch: 2,
            heads: 3,
            queries: 6,
        };
        let mut expected = vec![0.0; q.len()];
        fast(SHAPE, &q, &k, &v, Some(bias), &mut expected);
        let with = |dropout| {
            attention(
                SHAPE,
                Inputs {
                    q: &q,
                    k: &k,
                    v: &v,
                    bias: Some(bias),
                    dropout,
                },
            )
        };
        for (got, expected) in with(None).iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-5);
        }
        let seeded = |seed| with(Some(Dropout { share: 0.3, seed }));
        assert_eq!(seeded(1), seeded(1));
        assert_ne!(seeded(1), seeded(2));
        let mut mean = vec![0.0; q.len()];
        for seed in 0..4000 {
            rows::add_scaled(&mut mean, 1.0 / 4000.0, &seeded(seed));
        }
        for (mean, expected) in mean.iter().zip(&expected) {
            assert!((mean - expected).abs() < 0.03, "{mean} {expected}");
        }
    }

    #[test]
    fn dropout_drops_its_share_of_every_part() {
        let dropout = Dropout {
            share: 0.25,
            seed: 7,
        };
        for part in 0..3 {
            let mut values = vec![1.0; 10_000];
            dropout.apply(part, &mut values);
            let zeros = values.iter().filter(|value| **value == 0.0).count();
            assert!((2300..2700).contains(&zeros), "{zeros}");
            assert!(
                values
                    .iter()
                    .all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6)
            );
        }
    }
}
