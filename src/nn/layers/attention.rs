//! Attention as an operation on tensors; see [`crate::kernels::attention`].

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use super::function::{Backward, Function, Output, View, call2, call3};
use crate::kernels::attention::{self as kernel, Bias, Relative, Shape};
use crate::kernels::attention_backward::{self as backward, Dropout, Inputs};
use crate::kernels::rows;
use crate::nn::ops::with_values;

/// Attention of `heads` heads: `q (batch, queries, width)`, `k` and `v (batch, keys, width)` to
/// `(batch, queries, width)`. `scale` multiplies the scores, then `bias` is added, of shape
/// `(batch or 1, heads or 1, queries or 1, keys)`; a bias of fewer sequences than the batch is
/// repeated in turn.
///
/// # Errors
/// When the shapes do not fit together.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    scale: f32,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    attention_dropping(q, k, v, heads, scale, bias, None)
}

/// [`attention`], some of whose weights are dropped: what [`super::Dropout::of_weights`] says.
///
/// # Errors
/// The same.
pub fn attention_dropping(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    scale: f32,
    bias: Option<&Tensor>,
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    let attention = Attention {
        heads,
        scale,
        dropout,
        added: Added::Nothing,
    };
    let Some(bias) = bias else {
        return call3(attention, q, k, v);
    };
    if [q, k, v, bias].iter().all(|tensor| !tensor.track_op()) {
        let added = Added::Bias(bias.clone());
        return call3(Attention { added, ..attention }, q, k, v);
    }
    // An operation of the graph takes three tensors at most: keys and values go in as one.
    if k.dims() != v.dims() {
        return Err(misfit(&format!(
            "keys {:?} and values {:?} do not fit together",
            k.dims(),
            v.dims()
        )));
    }
    call3(Biased(attention), q, &Tensor::cat(&[k, v], 0)?, bias)
}

/// [`attention`] with a bias `gates (batch, queries, heads)` times `table (heads, queries + keys - 1)`
/// by the key's place less the query's, the farthest before first.
///
/// # Errors
/// When the shapes do not fit together.
pub fn relative_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    scale: f32,
    table: &Tensor,
    gates: &Tensor,
) -> Result<Tensor> {
    if [q, k, v, table, gates]
        .iter()
        .any(|tensor| tensor.track_op())
    {
        // Here the bias of every pair is made, which the fixed form is spared.
        let bias = call2(PairBias, table, gates)?;
        return attention(q, k, v, heads, scale, Some(&bias));
    }
    let attention = Attention {
        heads,
        scale,
        dropout: None,
        added: Added::Relative(table.clone(), gates.clone()),
    };
    call3(attention, q, k, v)
}

fn misfit(what: &str) -> Error {
    Error::Msg(format!("attention: {what}"))
}

/// Attention of `q`, `k` and `v`.
struct Attention {
    heads: usize,
    scale: f32,
    dropout: Option<Dropout>,
    added: Added,
}

/// What is added to the scores, where it needs no gradient.
enum Added {
    Nothing,
    Bias(Tensor),
    /// Table and gates.
    Relative(Tensor, Tensor),
}

impl Attention {
    /// The shape of an attention of `heads` heads.
    fn shape(&self, q: &[usize], k: &[usize], v: &[usize]) -> Result<Shape> {
        let (&[batch, queries, width], &[key_batch, keys, key_width]) = (q, k) else {
            return Err(misfit(&format!("expected (batch, time, width), got {q:?}")));
        };
        if (key_batch, key_width) != (batch, width)
            || v != k
            || self.heads == 0
            || !width.is_multiple_of(self.heads)
        {
            return Err(misfit(&format!(
                "{} heads, queries {q:?}, keys {k:?} and values {v:?} do not fit together",
                self.heads
            )));
        }
        Ok(Shape {
            batch,
            heads: self.heads,
            head_dim: width / self.heads,
            queries,
            keys,
            scale: self.scale,
        })
    }

    fn run(&self, shape: Shape, inputs: Inputs) -> Vec<f32> {
        if self.dropout.is_some() {
            return backward::attention(shape, inputs);
        }
        let mut out = vec![0.0; inputs.q.len()];
        kernel::attention(shape, inputs.q, inputs.k, inputs.v, inputs.bias, &mut out);
        out
    }
}

/// A bias of these dimensions, where it fits.
fn bias_of<'a>(values: &'a [f32], dims: &[usize], shape: Shape) -> Result<Bias<'a>> {
    let &[batch, heads, queries, keys] = dims else {
        return Err(misfit("expected a bias of four dimensions"));
    };
    if batch == 0
        || !shape.batch.is_multiple_of(batch)
        || ![1, shape.heads].contains(&heads)
        || ![1, shape.queries].contains(&queries)
        || keys != shape.keys
    {
        return Err(misfit(&format!("bias {dims:?} does not fit {shape:?}")));
    }
    Ok(Bias {
        values,
        batch,
        heads,
        queries,
    })
}

impl Function<3> for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward(&self, [q, k, v]: [View; 3]) -> Output {
        let shape = self.shape(q.dims, k.dims, v.dims)?;
        let inputs = Inputs {
            q: q.values,
            k: k.values,
            v: v.values,
            bias: None,
            dropout: self.dropout,
        };
        let out = match &self.added {
            Added::Nothing => self.run(shape, inputs),
            Added::Bias(bias) => with_values(bias, |values| {
                let bias = Some(bias_of(values, bias.dims(), shape)?);
                Ok(self.run(shape, Inputs { bias, ..inputs }))
            })?,
            Added::Relative(table, gates) => {
                let distances = (shape.queries + shape.keys).saturating_sub(1);
                if table.dims() != [shape.heads, distances]
                    || gates.dims() != [shape.batch, shape.queries, shape.heads]
                {
                    return Err(misfit(&format!(
                        "table {:?} and gates {:?} do not fit {shape:?}",
                        table.dims(),
                        gates.dims()
                    )));
                }
                let mut out = vec![0.0; q.values.len()];
                with_values(table, |table| {
                    with_values(gates, |gates| {
                        let bias = Relative { table, gates };
                        kernel::relative_attention(
                            shape, q.values, k.values, v.values, bias, &mut out,
                        );
                        Ok(())
                    })
                })?;
                out
            }
        };
        Ok((out, q.dims.into()))
    }

    fn backward(&self, at: Backward<3>) -> Result<[Option<Vec<f32>>; 3]> {
        let [q, k, v] = at.x;
        let inputs = Inputs {
            q: q.values,
            k: k.values,
            v: v.values,
            bias: None,
            dropout: self.dropout,
        };
        let shape = self.shape(q.dims, k.dims, v.dims)?;
        let grads = backward::gradients(shape, inputs, at.grad, false);
        Ok([Some(grads.q), Some(grads.k), Some(grads.v)])
    }
}

/// Attention of `q`, of `k` with `v` behind it, and of the bias.
struct Biased(Attention);

impl Biased {
    /// The halves of what keys and values are in.
    fn inputs<'a>(&self, [q, kv, bias]: [View<'a>; 3]) -> Result<(Shape, Inputs<'a>)> {
        let (k, v) = kv.values.split_at(kv.values.len() / 2);
        let mut dims = kv.dims.to_vec();
        dims[0] /= 2;
        let shape = self.0.shape(q.dims, &dims, &dims)?;
        let inputs = Inputs {
            q: q.values,
            k,
            v,
            bias: Some(bias_of(bias.values, bias.dims, shape)?),
            dropout: self.0.dropout,
        };
        Ok((shape, inputs))
    }
}

impl Function<3> for Biased {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward(&self, x: [View; 3]) -> Output {
        let (shape, inputs) = self.inputs(x)?;
        Ok((self.0.run(shape, inputs), x[0].dims.into()))
    }

    fn backward(&self, at: Backward<3>) -> Result<[Option<Vec<f32>>; 3]> {
        let (shape, inputs) = self.inputs(at.x)?;
        let grads = backward::gradients(shape, inputs, at.grad, at.wanted[2]);
        let kv = [grads.k, grads.v].concat();
        let bias = Some(grads.bias).filter(|_| at.wanted[2]);
        Ok([Some(grads.q), Some(kv), bias])
    }
}

/// From a table `(heads, queries + keys - 1)` and gates `(batch, queries, heads)` to the bias of every
/// pair, `(batch, heads, queries, keys)`.
struct PairBias;

impl PairBias {
    /// Batch, heads, queries, keys.
    fn shape(table: &[usize], gates: &[usize]) -> Result<[usize; 4]> {
        match (table, gates) {
            (&[heads, distances], &[batch, queries, gate_heads])
                if heads == gate_heads && queries > 0 && distances >= queries =>
            {
                Ok([batch, heads, queries, distances + 1 - queries])
            }
            _ => Err(misfit(&format!(
                "table {table:?} and gates {gates:?} do not fit together"
            ))),
        }
    }
}

/// Where the keys of `query` begin in the table of `head`.
fn first([_, _, queries, keys]: [usize; 4], head: usize, query: usize) -> usize {
    head * (queries + keys - 1) + queries - 1 - query
}

impl Function<2> for PairBias {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward(&self, [table, gates]: [View; 2]) -> Output {
        let shape = PairBias::shape(table.dims, gates.dims)?;
        let [batch, heads, queries, keys] = shape;
        let mut out = vec![0.0; batch * heads * queries * keys];
        out.par_chunks_mut((queries * keys).max(1))
            .enumerate()
            .for_each(|(plane, out)| {
                let (sequence, head) = (plane / heads, plane % heads);
                for (query, out) in out.chunks_exact_mut(keys.max(1)).enumerate() {
                    let gate = gates.values[(sequence * queries + query) * heads + head];
                    let from = first(shape, head, query);
                    rows::add_scaled(out, gate, &table.values[from..][..keys]);
                }
            });
        Ok((out, (batch, heads, queries, keys).into()))
    }

    fn backward(&self, at: Backward<2>) -> Result<[Option<Vec<f32>>; 2]> {
        let [table, gates] = at.x;
        let shape = PairBias::shape(table.dims, gates.dims)?;
        let [_, heads, queries, keys] = shape;
        let mut of_table = vec![0.0; table.values.len()];
        let mut of_gates = vec![0.0; gates.values.len()];
        for (row, grad) in at.grad.chunks_exact(keys.max(1)).enumerate() {
            let (plane, query) = (row / queries, row % queries);
            let (sequence, head) = (plane / heads, plane % heads);
            let gate = (sequence * queries + query) * heads + head;
            let from = first(shape, head, query);
            let part = &mut of_table[from..from + keys];
            rows::add_scaled(part, gates.values[gate], grad);
            let known = &table.values[from..from + keys];
            of_gates[gate] = known.iter().zip(grad).map(|(a, b)| a * b).sum();
        }
        Ok([Some(of_table), Some(of_gates)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradients, check_layer, draw};
    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let q = draw(1, &[2, 5, 12]);
        let k = draw(2, &[2, 7, 12]);
        assert_eq!(
            attention(&q, &k, &k, 3, 1.0, None).unwrap().dims(),
            [2, 5, 12]
        );
        assert!(attention(&q, &k, &k, 5, 1.0, None).is_err());
        assert!(attention(&q, &k, &q, 3, 1.0, None).is_err());
        assert!(attention(&q, &draw(2, &[1, 7, 12]), &k, 3, 1.0, None).is_err());
        let bias = draw(3, &[1, 3, 5, 7]);
        assert!(attention(&q, &k, &k, 3, 1.0, Some(&bias)).is_ok());
        assert!(attention(&q, &k, &k, 3, 1.0, Some(&draw(3, &[1, 2, 5, 7]))).is_err());
        let (table, gates) = (draw(4, &[3, 11]), draw(5, &[2, 5, 3]));
        assert!(relative_attention(&q, &k, &k, 3, 1.0, &table, &gates).is_ok());
        assert!(relative_attention(&q, &k, &k, 3, 1.0, &gates, &gates).is_err());
        assert!(relative_attention(&q, &k, &k, 3, 1.0, &table, &table).is_err());
    }
    #[test]
    fn the_trained_form_is_the_same_and_gradients_are_those_of_differences() {
        let (q, k, v) = (
            draw(1, &[4, 3, 6]),
            draw(2, &[4, 5, 6]),
            draw(3, &[4, 5, 6]),
        );
        let (q, k) = ((q * 3.0).unwrap(), (k * 3.0).unwrap());
        let plain = [q.clone(), k.clone(), v.clone()];
        check_layer(&plain, |[q, k, v]| {
            attention(&q.tensor(), &k.tensor(), &v.tensor(), 2, 0.6, None)
        });
        for shape in [[4, 2, 3, 5], [2, 2, 3, 5], [1, 1, 3, 5], [2, 1, 1, 5]] {
            let inputs = [q.clone(), k.clone(), v.clone(), draw(4, &shape)];
            check_layer(&inputs, |[q, k, v, bias]| {
                let bias = bias.tensor();
                attention(&q.tensor(), &k.tensor(), &v.tensor(), 2, 0.6, Some(&bias))
            });
        }
        let inputs = [
            q.clone(),
            k.clone(),
            v.clone(),
            draw(5, &[2, 7]),
            draw(6, &[4, 3, 2]),
        ];
        check_layer(&inputs, |[q, k, v, table, gates]| {
            let (table, gates) = (table.tensor(), gates.tensor());
            relative_attention(
                &q.tensor(),
                &k.tensor(),
                &v.tensor(),
                2,
                0.6,
                &table,
                &gates,
            )
        });
        let dropout = Some(Dropout {
            share: 0.3,
            seed: 5,
        });
        let bias = draw(4, &[1, 2, 3, 5]);
        check_gradients(&[q, k, v, bias], |x| {
            attention_dropping(&x[0], &x[1], &x[2], 2, 0.6, Some(x[3].as_tensor()), dropout)
        });
    }
}
