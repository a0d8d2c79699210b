//! Scaled dot-product attention over all heads at once (Vaswani et al., *Attention is all you need*,
//! 2017), without a copy of a head and without the whole matrix of scores.
//!
//! Queries are taken a few dozen at a time: their scores stay in the cache between the two products
//! and the softmax, and memory grows with the sequence's length and not with its square.

use rayon::prelude::*;

use super::gemm::{Matrix, gemm};
use super::rows;

/// The shape of one attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Heads; the width of a row is `heads * head_dim`.
    pub heads: usize,
    /// Values of a head in a row.
    pub head_dim: usize,
    /// Queries a sequence.
    pub queries: usize,
    /// Keys a sequence.
    pub keys: usize,
    /// Factor on the scores before the bias, usually `head_dim ** -0.5`.
    pub scale: f32,
}

/// Something added to the scores: `(batch or 1, heads or 1, queries or 1, keys)`.
#[derive(Debug, Clone, Copy)]
pub struct Bias<'a> {
    /// The values, row-major; negative infinity hides a key.
    pub values: &'a [f32],
    /// How many sequences they hold: 1, a divisor of the batch (repeated in turn) or the batch.
    pub batch: usize,
    /// How many heads they hold.
    pub heads: usize,
    /// How many queries they hold.
    pub queries: usize,
}

/// A bias that depends on how far apart query and key are, made larger or smaller for every query
/// (WavLM's gated relative position bias).
#[derive(Debug, Clone, Copy)]
pub struct Relative<'a> {
    /// `(heads, queries + keys - 1)`, by the key's place less the query's, the farthest before first.
    pub table: &'a [f32],
    /// The factor of every query, `(batch, queries, heads)`.
    pub gates: &'a [f32],
}

/// Queries that are taken together.
const BLOCK: usize = 64;

/// `out (batch, queries, heads * head_dim)` from `q` of the same shape and from `k` and `v (batch,
/// keys, heads * head_dim)`, all row-major.
///
/// # Panics
/// When a length does not fit the shape.
pub fn attention(
    shape: Shape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    bias: Option<Bias>,
    out: &mut [f32],
) {
    let Some(bias) = bias else {
        return attend(shape, q, k, v, |_, _, _, _| {}, out);
    };
    let Shape {
        batch,
        heads,
        queries,
        keys,
        ..
    } = shape;
    assert!(
        bias.batch > 0
            && batch.is_multiple_of(bias.batch)
            && [1, heads].contains(&bias.heads)
            && [1, queries].contains(&bias.queries)
            && bias.values.len() == bias.batch * bias.heads * bias.queries * keys,
        "attention: bias does not fit {shape:?}"
    );
    let add = |sequence: usize, head: usize, query: usize, scores: &mut [f32]| {
        let plane = (sequence % bias.batch * bias.heads + head % bias.heads) * bias.queries;
        let at = plane + if bias.queries == 1 { 0 } else { query };
        rows::add(scores, &bias.values[at * keys..][..keys]);
    };
    attend(shape, q, k, v, add, out);
}

/// [`attention`] with a relative bias, which takes memory for every distance and not for every pair.
///
/// # Panics
/// The same.
pub fn relative_attention(
    shape: Shape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    bias: Relative,
    out: &mut [f32],
) {
    let Shape {
        batch,
        heads,
        queries,
        keys,
        ..
    } = shape;
    let distances = (queries + keys).saturating_sub(1);
    assert!(
        bias.table.len() == heads * distances && bias.gates.len() == batch * queries * heads,
        "attention: relative bias does not fit {shape:?}"
    );
    let add = |sequence: usize, head: usize, query: usize, scores: &mut [f32]| {
        let gate = bias.gates[(sequence * queries + query) * heads + head];
        let from = head * distances + queries - 1 - query;
        rows::add_scaled(scores, gate, &bias.table[from..][..keys]);
    };
    attend(shape, q, k, v, add, out);
}

/// Attention where `add(sequence, head, query, scores)` changes the scores of one query before the
/// softmax.
fn attend(
    shape: Shape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    add: impl Fn(usize, usize, usize, &mut [f32]) + Sync,
    out: &mut [f32],
) {
    let Shape {
        batch,
        heads,
        head_dim,
        queries,
        keys,
        scale,
    } = shape;
    let width = heads * head_dim;
    assert!(
        q.len() == batch * queries * width
            && out.len() == q.len()
            && k.len() == batch * keys * width
            && v.len() == k.len(),
        "attention: lengths do not fit {shape:?}"
    );
    if out.is_empty() || keys == 0 {
        out.fill(0.0);
        return;
    }
    // One task is a block of queries with all their heads, so that its output is one slice.
    let blocks = queries.div_ceil(BLOCK);
    let task = |(index, out): (usize, &mut [f32]), scores: &mut Vec<f32>| {
        let (sequence, first) = (index / blocks, index % blocks * BLOCK);
        let rows = out.len() / width;
        scores.resize(rows * keys, 0.0);
        let (q, k, v) = (
            &q[(sequence * queries + first) * width..][..rows * width],
            &k[sequence * keys * width..][..keys * width],
            &v[sequence * keys * width..][..keys * width],
        );
        for head in 0..heads {
            let from = head * head_dim;
            let of = |values, rows| Matrix::new(values, rows, head_dim, (width, 1));
            gemm(
                scale,
                of(&q[from..], rows),
                of(&k[from..], keys).transposed(),
                0.0,
                scores,
                keys,
            );
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                add(sequence, head, first + row, scores);
            }
            rows::softmax(scores, keys);
            let scores = Matrix::row_major(scores, rows, keys);
            gemm(
                1.0,
                scores,
                of(&v[from..], keys),
                0.0,
                &mut out[from..],
                width,
            );
        }
    };
    // Sequences end with a shorter block, hence one division of the output after the other.
    let mut parts: Vec<(usize, &mut [f32])> = Vec::with_capacity(batch * blocks);
    for (sequence, out) in out.chunks_exact_mut(queries * width).enumerate() {
        for (block, out) in out.chunks_mut(BLOCK * width).enumerate() {
            parts.push((sequence * blocks + block, out));
        }
    }
    parts
        .into_par_iter()
        .for_each_init(Vec::new, |scores, part| task(part, scores));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain twin, straight from the definition.
    fn plain(shape: Shape, q: &[f32], k: &[f32], v: &[f32], bias: Option<Bias>) -> Vec<f32> {
        let width = shape.heads * shape.head_dim;
        let mut out = vec![0.0; q.len()];
        for b in 0..shape.batch {
            for h in 0..shape.heads {
                for i in 0..shape.queries {
                    let row = |values: &[f32], rows: usize, at: usize, d: usize| {
                        values[(b * rows + at) * width + h * shape.head_dim + d]
                    };
                    let scores: Vec<f64> = (0..shape.keys)
                        .map(|j| {
                            let dot: f32 = (0..shape.head_dim)
                                .map(|d| row(q, shape.queries, i, d) * row(k, shape.keys, j, d))
                                .sum();
                            let bias = bias.map_or(0.0, |bias| {
                                let plane = b % bias.batch * bias.heads + h % bias.heads;
                                bias.values
                                    [(plane * bias.queries + i % bias.queries) * shape.keys + j]
                            });
                            f64::from(dot * shape.scale + bias).exp()
                        })
                        .collect();
                    let sum: f64 = scores.iter().sum();
                    for d in 0..shape.head_dim {
                        let value: f64 = (0..shape.keys)
                            .map(|j| scores[j] / sum * f64::from(row(v, shape.keys, j, d)))
                            .sum();
                        out[(b * shape.queries + i) * width + h * shape.head_dim + d] =
                            value as f32;
                    }
                }
            }
        }
        out
    }

    #[test]
    fn attention_of_every_shape_equals_its_definition() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.f32() - 0.5).collect() };
        for (batch, heads, head_dim, queries, keys) in [
            (1, 1, 4, 1, 1),
            (2, 3, 5, 70, 9),
            (4, 2, 16, 64, 130),
            (1, 4, 8, 129, 129),
        ] {
            let shape = Shape {
                batch,
                heads,
                head_dim,
                queries,
                keys,
                scale: 0.7,
            };
            let width = heads * head_dim;
            let (q, k, v) = (
                draw(batch * queries * width),
                draw(batch * keys * width),
                draw(batch * keys * width),
            );
            let mut hidden = draw(batch * keys);
            hidden[0] = f32::NEG_INFINITY;
            let shared = draw(heads * queries * keys);
            let full = draw(batch * queries * keys);
            let biases = [
                None,
                (keys > 1).then_some(Bias {
                    values: &hidden,
                    batch,
                    heads: 1,
                    queries: 1,
                }),
                Some(Bias {
                    values: &shared,
                    batch: 1,
                    heads,
                    queries,
                }),
                Some(Bias {
                    values: &full,
                    batch,
                    heads: 1,
                    queries,
                }),
            ];
            for bias in biases {
                let mut fast = vec![f32::NAN; q.len()];
                attention(shape, &q, &k, &v, bias, &mut fast);
                for (fast, plain) in fast.iter().zip(plain(shape, &q, &k, &v, bias)) {
                    assert!((fast - plain).abs() < 1e-5, "{shape:?}: {fast} {plain}");
                }
            }
        }
    }

    #[test]
    fn a_relative_bias_is_the_bias_of_every_pair() {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.f32() - 0.5).collect() };
        for (batch, heads, queries, keys) in [(1, 1, 1, 1), (2, 3, 70, 70), (1, 2, 5, 9)] {
            let shape = Shape {
                batch,
                heads,
                head_dim: 4,
                queries,
                keys,
                scale: 0.7,
            };
            let width = heads * 4;
            let (q, k, v) = (
                draw(batch * queries * width),
                draw(batch * keys * width),
                draw(batch * keys * width),
            );
            let distances = queries + keys - 1;
            let (table, gates) = (draw(heads * distances), draw(batch * queries * heads));
            let mut values = Vec::new();
            for b in 0..batch {
                for h in 0..heads {
                    for i in 0..queries {
                        let gate = gates[(b * queries + i) * heads + h];
                        values.extend(
                            (0..keys).map(|j| gate * table[h * distances + (j + queries - 1) - i]),
                        );
                    }
                }
            }
            let bias = Bias {
                values: &values,
                batch,
                heads,
                queries,
            };
            let relative = Relative {
                table: &table,
                gates: &gates,
            };
            let mut fast = vec![f32::NAN; q.len()];
            relative_attention(shape, &q, &k, &v, relative, &mut fast);
            for (fast, plain) in fast.iter().zip(plain(shape, &q, &k, &v, Some(bias))) {
                assert!((fast - plain).abs() < 1e-5, "{shape:?}: {fast} {plain}");
            }
        }
    }
}
