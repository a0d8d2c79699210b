//! The blocks of a Swin transformer (Liu et al., *Swin Transformer*, 2021), as `ClapAudioLayer` and
//! `ClapAudioPatchMerging` of transformers 5.23 compute them.
//!
//! Cutting an image into windows, moved by half a window in every other block, and putting it
//! together again are one pass over memory each; what a moved window may not see and what a distance
//! is worth are one table, made when the block is loaded.

use candle_core::{Device, Tensor};

use super::config::AudioConfig;
use crate::models::ModelError;
use crate::nn::layers::{Activation, Gather, LayerNorm, Linear, attention};
use crate::nn::params::Params;

/// Added to the score of a pair of tokens that are neighbours only because the image was rolled; the
/// reference does not hide them wholly.
const APART: f32 = -100.0;

/// The epsilon of the normalisations that the configuration does not name: PyTorch's default.
pub(super) const EPS: f64 = 1e-5;

/// An image of tokens cut into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Windows {
    /// Tokens down and across.
    size: (usize, usize),
    /// Tokens a side of a window.
    window: usize,
    /// Tokens by which the image is rolled up and to the left first.
    shift: usize,
}

impl Windows {
    /// Tokens down and across with what fills the last windows up.
    fn padded(self) -> (usize, usize) {
        (
            self.size.0.next_multiple_of(self.window),
            self.size.1.next_multiple_of(self.window),
        )
    }

    /// How many there are.
    fn count(self) -> usize {
        let (height, width) = self.padded();
        (height / self.window) * (width / self.window)
    }

    /// Tokens of a window.
    fn tokens(self) -> usize {
        self.window * self.window
    }

    /// The place in the rolled image, down and across, of every token of every window in turn.
    fn places(self) -> impl Iterator<Item = (usize, usize)> {
        let across = self.padded().1 / self.window;
        (0..self.count()).flat_map(move |window| {
            let (top, left) = (window / across * self.window, window % across * self.window);
            (0..self.tokens())
                .map(move |token| (top + token / self.window, left + token % self.window))
        })
    }

    /// From the image's rows to the windows' rows, and back.
    fn gathers(self) -> (Gather, Gather) {
        let (height, width) = self.size;
        let (padded_height, padded_width) = self.padded();
        let mut into = Vec::with_capacity(padded_height * padded_width);
        let mut back = vec![Gather::ZEROS; height * width];
        for (y, x) in self.places() {
            let (y, x) = (
                (y + self.shift) % padded_height,
                (x + self.shift) % padded_width,
            );
            if y < height && x < width {
                back[y * width + x] = into.len() as u32;
                into.push((y * width + x) as u32);
            } else {
                into.push(Gather::ZEROS);
            }
        }
        (Gather::new(into), Gather::new(back))
    }

    /// What is added to the scores, `(windows or 1, heads, tokens, tokens)`: the worth of the distance
    /// between two tokens from `table ((2 window - 1)^2, heads)`, and in a rolled image [`APART`]
    /// where they come from different edges.
    fn bias(self, table: &[f32], heads: usize) -> candle_core::Result<Tensor> {
        let (tokens, reach) = (self.tokens(), 2 * self.window - 1);
        let mut plane = Vec::with_capacity(heads * tokens * tokens);
        for head in 0..heads {
            for a in 0..tokens {
                for b in 0..tokens {
                    let down = a / self.window + self.window - 1 - b / self.window;
                    let across = a % self.window + self.window - 1 - b % self.window;
                    plane.push(table[(down * reach + across) * heads + head]);
                }
            }
        }
        let mut windows = 1;
        if self.shift > 0 {
            windows = self.count();
            plane = plane.repeat(windows);
            let regions: Vec<(usize, usize)> = self.places().map(|at| self.region(at)).collect();
            for (plane, regions) in plane
                .chunks_exact_mut(heads * tokens * tokens)
                .zip(regions.chunks_exact(tokens))
            {
                for (row, a) in plane.chunks_exact_mut(tokens).zip(regions.iter().cycle()) {
                    for (value, b) in row.iter_mut().zip(regions) {
                        if a != b {
                            *value += APART;
                        }
                    }
                }
            }
        }
        Tensor::from_vec(plane, (windows, heads, tokens, tokens), &Device::Cpu)
    }

    /// Which strip of the rolled image a place lies in, down and across: all but the last window, what
    /// of that is from this side, and what came over from the other.
    fn region(self, (y, x): (usize, usize)) -> (usize, usize) {
        let (height, width) = self.padded();
        let strip = |at: usize, length: usize| {
            usize::from(at >= length - self.window) + usize::from(at >= length - self.shift)
        };
        (strip(y, height), strip(x, width))
    }
}

/// Attention within windows.
struct WindowAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    windows: Windows,
    /// Into the windows and back.
    gathers: (Gather, Gather),
    bias: Tensor,
}

impl WindowAttention {
    fn load(
        params: &Params,
        config: &AudioConfig,
        (dim, heads): (usize, usize),
        windows: Windows,
    ) -> Result<Self, ModelError> {
        let own = params.pp("self");
        let part = |key: &str| match config.qkv_bias {
            true => Linear::load(&own.pp(key), dim, dim),
            false => Linear::load_no_bias(&own.pp(key), dim, dim),
        };
        let reach = 2 * windows.window - 1;
        let table = own.get("relative_position_bias_table", &[reach * reach, heads])?;
        Ok(WindowAttention {
            query: part("query")?,
            key: part("key")?,
            value: part("value")?,
            output: Linear::load(&params.pp("output.dense"), dim, dim)?,
            heads,
            windows,
            gathers: windows.gathers(),
            bias: windows.bias(table.values(), heads)?,
        })
    }

    /// `x (batch, tokens, dim)` to the same, added to `residual` of the same shape.
    fn forward(&self, x: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, _, dim) = x.dims3()?;
        let tokens = self.windows.tokens();
        let cut = self.gathers.0.forward(x)?;
        let cut = cut.reshape((batch * self.windows.count(), tokens, dim))?;
        let scale = ((dim / self.heads) as f32).powf(-0.5);
        let seen = attention(
            &self.query.forward(&cut)?,
            &self.key.forward(&cut)?,
            &self.value.forward(&cut)?,
            self.heads,
            scale,
            Some(&self.bias),
        )?;
        let seen = seen.reshape((batch, self.windows.count() * tokens, dim))?;
        self.output
            .forward_add(&self.gathers.1.forward(&seen)?, residual)
    }
}

/// Attention within windows, then two linear layers, each behind a normalisation and beside a residual.
struct Block {
    layernorm_before: LayerNorm,
    attention: WindowAttention,
    layernorm_after: LayerNorm,
    intermediate: Linear,
    hidden_act: Activation,
    output: Linear,
}

impl Block {
    fn load(
        params: &Params,
        config: &AudioConfig,
        hidden_act: Activation,
        (dim, heads): (usize, usize),
        windows: Windows,
    ) -> Result<Self, ModelError> {
        let inner = (config.mlp_ratio * dim as f64) as usize;
        let norm = |key| LayerNorm::load(&params.pp(key), dim, config.layer_norm_eps);
        let attention = params.pp("attention");
        Ok(Block {
            layernorm_before: norm("layernorm_before")?,
            attention: WindowAttention::load(&attention, config, (dim, heads), windows)?,
            layernorm_after: norm("layernorm_after")?,
            intermediate: Linear::load(&params.pp("intermediate.dense"), dim, inner)?,
            hidden_act,
            output: Linear::load(&params.pp("output.dense"), inner, dim)?,
        })
    }

    /// `(batch, tokens, dim)` to the same.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let normal = self.layernorm_before.forward(x)?;
        let x = self.attention.forward(&normal, x)?;
        drop(normal);
        let inner = self
            .intermediate
            .forward_act(&self.layernorm_after.forward(&x)?, self.hidden_act)?;
        self.output.forward_add(&inner, &x)
    }
}

/// Four neighbours become one token of twice the values.
struct PatchMerging {
    neighbours: Gather,
    norm: LayerNorm,
    reduction: Linear,
}

impl PatchMerging {
    fn load(params: &Params, dim: usize, size: (usize, usize)) -> Result<Self, ModelError> {
        let (height, width) = size;
        let mut from = Vec::with_capacity(height * width);
        for y in (0..height).step_by(2) {
            for x in (0..width).step_by(2) {
                // Down first, then across.
                let at = |down: usize, across: usize| ((y + down) * width + x + across) as u32;
                from.extend([at(0, 0), at(1, 0), at(0, 1), at(1, 1)]);
            }
        }
        Ok(PatchMerging {
            neighbours: Gather::new(from),
            norm: LayerNorm::load(&params.pp("norm"), 4 * dim, EPS)?,
            reduction: Linear::load_no_bias(&params.pp("reduction"), 4 * dim, 2 * dim)?,
        })
    }

    /// `(batch, tokens, dim)` to `(batch, tokens / 4, 2 dim)`.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, tokens, dim) = x.dims3()?;
        let x = self.neighbours.forward(x)?;
        let x = x.reshape((batch, tokens / 4, 4 * dim))?;
        self.reduction.forward(&self.norm.forward(&x)?)
    }
}

/// Blocks over an image of one size, and where another stage follows what makes it smaller.
pub(super) struct Stage {
    blocks: Vec<Block>,
    downsample: Option<PatchMerging>,
}

impl Stage {
    /// Loads stage `index` of a checked configuration.
    pub(super) fn load(
        params: &Params,
        config: &AudioConfig,
        hidden_act: Activation,
        index: usize,
    ) -> Result<Self, ModelError> {
        let grid = config.grid();
        let size = (grid.0 >> index, grid.1 >> index);
        let (dim, heads) = (config.dim(index), config.num_attention_heads[index]);
        // A window that covers the image in one direction is not moved.
        let moved = size.0.min(size.1) > config.window_size;
        let blocks = (0..config.depths[index])
            .map(|block| {
                let windows = Windows {
                    size,
                    window: config.window_size,
                    shift: if moved && block % 2 == 1 {
                        config.window_size / 2
                    } else {
                        0
                    },
                };
                let params = params.pp("blocks").pp(block);
                Block::load(&params, config, hidden_act, (dim, heads), windows)
            })
            .collect::<Result<_, _>>()?;
        let downsample = match index + 1 == config.depths.len() {
            true => None,
            false => Some(PatchMerging::load(&params.pp("downsample"), dim, size)?),
        };
        Ok(Stage { blocks, downsample })
    }

    /// `(batch, tokens, dim)` to `(batch, tokens / 4, 2 dim)`, in the last stage to the same; shows what
    /// the last block gives.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        seen: &mut dyn FnMut(&Tensor),
    ) -> candle_core::Result<Tensor> {
        let mut x = x.clone();
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        seen(&x);
        match &self.downsample {
            Some(downsample) => downsample.forward(&x),
            None => Ok(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLED: Windows = Windows {
        size: (4, 4),
        window: 2,
        shift: 1,
    };

    #[test]
    fn a_rolled_image_is_cut_into_windows_and_put_together_again() {
        let x = Tensor::arange(0f32, 16.0, &Device::Cpu).unwrap();
        let x = x.reshape((1, 16, 1)).unwrap();
        let (into, back) = ROLLED.gathers();
        let cut = into.forward(&x).unwrap();
        assert_eq!(
            cut.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            // Windows of the image rolled up and to the left by one.
            [
                5.0, 6.0, 9.0, 10.0, 7.0, 4.0, 11.0, 8.0, 13.0, 14.0, 1.0, 2.0, 15.0, 12.0, 3.0,
                0.0
            ]
        );
        let again = back.forward(&cut).unwrap();
        assert_eq!(
            again.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            x.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        );
    }

    #[test]
    fn an_image_that_windows_do_not_divide_is_filled_up_with_zeros() {
        let windows = Windows {
            size: (3, 2),
            window: 2,
            shift: 0,
        };
        assert_eq!(windows.count(), 2);
        let x = Tensor::arange(1f32, 7.0, &Device::Cpu).unwrap();
        let x = x.reshape((1, 6, 1)).unwrap();
        let (into, back) = windows.gathers();
        let cut = into.forward(&x).unwrap();
        assert_eq!(
            cut.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0]
        );
        assert_eq!(back.forward(&cut).unwrap().dims(), [1, 6, 1]);
    }

    #[test]
    fn the_bias_knows_the_distance_and_what_was_rolled_over() {
        // One head whose worth is the number of the distance.
        let table: Vec<f32> = (0..9).map(|i| i as f32).collect();
        let still = Windows { shift: 0, ..ROLLED };
        let bias = still.bias(&table, 1).unwrap();
        assert_eq!(bias.dims(), [1, 1, 4, 4]);
        let rows = bias.reshape((4, 4)).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows[0], [4.0, 3.0, 1.0, 0.0]);
        assert_eq!(rows[3], [8.0, 7.0, 5.0, 4.0]);
        let bias = ROLLED.bias(&table, 1).unwrap();
        let windows = bias.reshape((4, 4, 4)).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(windows[0], rows);
        // The second window: its right column came over from the left edge.
        assert_eq!(windows[1][0], [4.0, -97.0, 1.0, -100.0]);
        // The last: every token is from another corner.
        assert_eq!(windows[3][0], [4.0, -97.0, -99.0, -100.0]);
    }
}
