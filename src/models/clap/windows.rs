//! The windows of a Swin transformer: an image of tokens cut up, moved by half a window in every other
//! block, and put together again, and what is added to the scores within them.

use candle_core::{Device, Result, Tensor};

use crate::nn::layers::Gather;
use crate::nn::params::Parameter;

/// Added to the score of a pair of tokens that are neighbours only because the image was rolled; the
/// reference does not hide them wholly.
const APART: f32 = -100.0;

/// An image of tokens cut into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    /// Tokens down and across.
    pub size: (usize, usize),
    /// Tokens a side of a window.
    pub window: usize,
    /// Tokens by which the image is rolled up and to the left first.
    pub shift: usize,
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
    pub fn count(self) -> usize {
        let (height, width) = self.padded();
        (height / self.window) * (width / self.window)
    }

    /// Tokens of a window.
    pub fn tokens(self) -> usize {
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
    pub fn gathers(self) -> (Gather, Gather) {
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

    /// Where in the table of distances the worth of every pair of tokens stands, row by row.
    fn distances(self) -> Vec<u32> {
        let (tokens, reach) = (self.tokens(), 2 * self.window - 1);
        let pair = |a: usize, b: usize| {
            let down = a / self.window + self.window - 1 - b / self.window;
            let across = a % self.window + self.window - 1 - b % self.window;
            (down * reach + across) as u32
        };
        (0..tokens)
            .flat_map(|a| (0..tokens).map(move |b| pair(a, b)))
            .collect()
    }

    /// [`APART`] where tokens of a window come from different edges of the rolled image, zero
    /// elsewhere, `(windows, tokens, tokens)`; `None` where nothing was rolled.
    fn apart(self) -> Option<Vec<f32>> {
        if self.shift == 0 {
            return None;
        }
        let regions: Vec<(usize, usize)> = self.places().map(|at| self.region(at)).collect();
        let windows = regions.chunks_exact(self.tokens());
        Some(
            windows
                .flat_map(|regions| regions.iter().map(move |a| (a, regions)))
                .flat_map(|(a, regions)| {
                    regions
                        .iter()
                        .map(move |b| if a == b { 0.0 } else { APART })
                })
                .collect(),
        )
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

/// What is added to the scores: the worth of the distance between two tokens, and in a rolled image
/// [`APART`] where they come from different edges.
pub(super) enum Bias {
    /// `(windows or 1, heads, tokens, tokens)`.
    Fixed(Tensor),
    /// What that is made of on every run.
    Trained {
        /// `((2 window - 1)^2, heads)`.
        table: Parameter,
        /// Where in it the worth of every pair stands, `(tokens * tokens)`.
        distances: Tensor,
        /// `(windows, 1, tokens, tokens)`.
        apart: Option<Tensor>,
    },
}

impl Bias {
    /// From the table of a checkpoint, `((2 window - 1)^2, heads)`.
    pub fn new(windows: Windows, table: Parameter) -> Result<Self> {
        let tokens = windows.tokens();
        let distances = windows.distances();
        let apart = windows.apart().map(|apart| {
            Tensor::from_vec(apart, (windows.count(), 1, tokens, tokens), &Device::Cpu)
        });
        let bias = Bias::Trained {
            distances: Tensor::from_vec(distances, tokens * tokens, &Device::Cpu)?,
            apart: apart.transpose()?,
            table: table.clone(),
        };
        match table.is_trained() {
            true => Ok(bias),
            false => bias.tensor().map(Bias::Fixed),
        }
    }

    /// `(windows or 1, heads, tokens, tokens)`.
    pub fn tensor(&self) -> Result<Tensor> {
        let (table, distances, apart) = match self {
            Bias::Fixed(bias) => return Ok(bias.clone()),
            Bias::Trained {
                table,
                distances,
                apart,
            } => (table.tensor()?, distances, apart),
        };
        let (_, heads) = table.dims2()?;
        let tokens = distances.elem_count().isqrt();
        let plane = table.index_select(distances, 0)?.t()?;
        let plane = plane.reshape((1, heads, tokens, tokens))?;
        match apart {
            None => Ok(plane),
            Some(apart) => plane.broadcast_add(apart),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::nn::params::Weight;

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
        let bias = |windows, trained| {
            let table = Weight::from_values(table.clone(), &[9, 1]);
            let table = match trained {
                false => Parameter::from(table),
                true => Var::from_tensor(&table.tensor().unwrap()).unwrap().into(),
            };
            let bias = Bias::new(windows, table).unwrap();
            assert_eq!(matches!(bias, Bias::Trained { .. }), trained);
            bias.tensor().unwrap()
        };
        let still = Windows { shift: 0, ..ROLLED };
        for windows in [still, ROLLED] {
            let (fixed, trained) = (bias(windows, false), bias(windows, true));
            assert!(trained.track_op());
            let values = |bias: Tensor| bias.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(fixed.dims(), trained.dims());
            assert_eq!(values(fixed), values(trained));
        }
        let bias = |windows| bias(windows, false);
        let still = bias(still);
        assert_eq!(still.dims(), [1, 1, 4, 4]);
        let rows = still.reshape((4, 4)).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows[0], [4.0, 3.0, 1.0, 0.0]);
        assert_eq!(rows[3], [8.0, 7.0, 5.0, 4.0]);
        let windows = bias(ROLLED)
            .reshape((4, 4, 4))
            .unwrap()
            .to_vec3::<f32>()
            .unwrap();
        assert_eq!(windows[0], rows);
        // The second window: its right column came over from the left edge.
        assert_eq!(windows[1][0], [4.0, -97.0, 1.0, -100.0]);
        // The last: every token is from another corner.
        assert_eq!(windows[3][0], [4.0, -97.0, -99.0, -100.0]);
    }
}
