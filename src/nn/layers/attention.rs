//! Attention as an operation on tensors; see [`crate::kernels::attention`].

use candle_core::{CpuStorage, CustomOp3, Error, Layout, Shape, Tensor};

use crate::kernels::attention::{self as kernel, Bias, Relative};
use crate::nn::ops::{values, with_values};

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
) -> candle_core::Result<Tensor> {
    let op = Attention {
        heads,
        scale,
        added: bias.cloned().map_or(Added::Nothing, Added::Bias),
    };
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)
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
) -> candle_core::Result<Tensor> {
    let op = Attention {
        heads,
        scale,
        added: Added::Relative(table.clone(), gates.clone()),
    };
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

struct Attention {
    heads: usize,
    scale: f32,
    added: Added,
}

/// What is added to the scores.
enum Added {
    Nothing,
    Bias(Tensor),
    /// Table and gates.
    Relative(Tensor, Tensor),
}

impl Attention {
    fn misfit(what: &str) -> Error {
        Error::Msg(format!("attention: {what}"))
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (dims, of_keys) = (q_layout.dims(), k_layout.dims());
        let (&[batch, queries, width], &[key_batch, keys, key_width]) = (dims, of_keys) else {
            return Err(Attention::misfit(&format!(
                "expected (batch, time, width), got {dims:?}"
            )));
        };
        if (key_batch, key_width) != (batch, width)
            || v_layout.dims() != of_keys
            || self.heads == 0
            || !width.is_multiple_of(self.heads)
        {
            return Err(Attention::misfit(&format!(
                "{} heads, queries {dims:?}, keys {of_keys:?} and values {:?} do not fit together",
                self.heads,
                v_layout.dims()
            )));
        }
        let shape = kernel::Shape {
            batch,
            heads: self.heads,
            head_dim: width / self.heads,
            queries,
            keys,
            scale: self.scale,
        };
        let name = self.name();
        let (q, k, v) = (
            values(q, q_layout, name)?,
            values(k, k_layout, name)?,
            values(v, v_layout, name)?,
        );
        let mut out = vec![0.0; q.len()];
        match &self.added {
            Added::Nothing => kernel::attention(shape, q, k, v, None, &mut out),
            Added::Relative(table, gates) => {
                if table.dims() != [self.heads, (queries + keys).saturating_sub(1)]
                    || gates.dims() != [batch, queries, self.heads]
                {
                    return Err(Attention::misfit(&format!(
                        "table {:?} and gates {:?} do not fit {shape:?}",
                        table.dims(),
                        gates.dims()
                    )));
                }
                with_values(table, |table| {
                    with_values(gates, |gates| {
                        let bias = Relative { table, gates };
                        kernel::relative_attention(shape, q, k, v, bias, &mut out);
                        Ok(())
                    })
                })?;
            }
            Added::Bias(bias) => {
                let &[of_batch, of_heads, of_queries, of_keys] = bias.dims() else {
                    return Err(Attention::misfit("expected a bias of four dimensions"));
                };
                if of_batch == 0
                    || !batch.is_multiple_of(of_batch)
                    || ![1, self.heads].contains(&of_heads)
                    || ![1, queries].contains(&of_queries)
                    || of_keys != keys
                {
                    return Err(Attention::misfit(&format!(
                        "bias {:?} does not fit {shape:?}",
                        bias.dims()
                    )));
                }
                with_values(bias, |values| {
                    let bias = Bias {
                        values,
                        batch: of_batch,
                        heads: of_heads,
                        queries: of_queries,
                    };
                    kernel::attention(shape, q, k, v, Some(bias), &mut out);
                    Ok(())
                })?;
            }
        }
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::draw;
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
}
