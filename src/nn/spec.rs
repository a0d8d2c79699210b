//! The shape of a network: a strided stem and depthwise-separable blocks over
//! `(time, frequency, channel)`, causal in time, a mean over the newest steps, a dense head.
//!
//! Depthwise-separable blocks after MobileNet (Howard et al. 2017), streamed with ring buffers after
//! Rybakov et al., *Streaming keyword spotting on mobile devices* (2020); the frequency axis is
//! collapsed by one wide kernel as in BC-ResNet (Kim et al. 2021).

use serde::{Deserialize, Serialize};

use crate::features::N_MELS;
use crate::kernels::depthwise::Geometry;

/// A whole network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetSpec {
    /// The first layer, a full convolution over the log-mel frame.
    pub stem: Layer,
    /// The blocks, in order.
    pub blocks: Vec<Layer>,
    /// How many of the newest steps the head sees the mean of.
    pub pool: usize,
    /// Outputs of the head.
    pub outputs: usize,
}

/// A convolution; in a block it is depthwise and followed by a dense layer over channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Channels that come out.
    pub channels: usize,
    /// Kernel in frames and in frequency positions.
    pub kernel: (usize, usize),
    /// Stride in frames and in frequency positions.
    #[serde(default = "unit")]
    pub stride: (usize, usize),
    /// Distance between the kernel's frames.
    #[serde(default = "one")]
    pub dilation: usize,
    /// Whether frequency is padded so that a stride of one keeps its positions.
    #[serde(default)]
    pub pad: bool,
}

fn unit() -> (usize, usize) {
    (1, 1)
}

fn one() -> usize {
    1
}

impl Layer {
    /// The geometry of the convolution.
    pub fn geometry(&self) -> Geometry {
        Geometry {
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            pad_freq: if self.pad { self.kernel.1 / 2 } else { 0 },
        }
    }
}

/// The frequency positions and channels of one frame between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameShape {
    /// Frequency positions.
    pub freqs: usize,
    /// Channels of each.
    pub channels: usize,
}

impl FrameShape {
    /// Values of one frame.
    pub fn len(self) -> usize {
        self.freqs * self.channels
    }

    /// Whether a frame holds nothing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl NetSpec {
    /// Frame shapes from the input (`N_MELS` positions, one channel) to the last block.
    pub fn shapes(&self) -> Vec<FrameShape> {
        let mut shapes = vec![FrameShape {
            freqs: N_MELS,
            channels: 1,
        }];
        for layer in std::iter::once(&self.stem).chain(&self.blocks) {
            let freqs = shapes[shapes.len() - 1].freqs;
            shapes.push(FrameShape {
                freqs: layer.geometry().out_freqs(freqs),
                channels: layer.channels,
            });
        }
        shapes
    }

    /// Whether block `index` adds its input to its output.
    pub fn is_residual(&self, index: usize) -> bool {
        let shapes = self.shapes();
        self.blocks[index].stride == (1, 1) && shapes[index + 1] == shapes[index + 2]
    }

    /// Input frames for one step of the head.
    pub fn stride(&self) -> usize {
        self.stem.stride.0
            * self
                .blocks
                .iter()
                .map(|block| block.stride.0)
                .product::<usize>()
    }

    /// Values that the head sees: the last frame, flattened.
    pub fn embedding(&self) -> usize {
        self.shapes().last().map_or(0, |shape| shape.len())
    }

    /// Says what is wrong with a specification that came from a file; sizes are bounded so that a
    /// hostile one cannot ask for the machine's memory.
    ///
    /// # Errors
    /// In one line: which layer and what it must be.
    pub fn validate(&self) -> Result<(), String> {
        let mut freqs = N_MELS;
        for (at, layer) in std::iter::once(&self.stem).chain(&self.blocks).enumerate() {
            let name = if at == 0 {
                "stem".to_owned()
            } else {
                format!("blocks.{}", at - 1)
            };
            let sizes = [
                layer.kernel.0,
                layer.kernel.1,
                layer.stride.0,
                layer.stride.1,
                layer.dilation,
            ];
            if sizes.iter().any(|&size| size == 0 || size > 64) {
                return Err(format!(
                    "{name}: kernel, stride and dilation must be 1 to 64, got {sizes:?}"
                ));
            }
            if layer.channels == 0 || layer.channels > 2048 {
                return Err(format!(
                    "{name}: channels must be 1 to 2048, got {}",
                    layer.channels
                ));
            }
            let geometry = layer.geometry();
            if freqs + 2 * geometry.pad_freq < layer.kernel.1 {
                return Err(format!(
                    "{name}: a kernel of {} does not fit {freqs} positions",
                    layer.kernel.1
                ));
            }
            freqs = geometry.out_freqs(freqs);
        }
        if self.blocks.len() > 64 || self.pool == 0 || self.pool > 4096 {
            return Err(format!(
                "expected at most 64 blocks and a pool of 1 to 4096, got {} and {}",
                self.blocks.len(),
                self.pool
            ));
        }
        if self.outputs == 0 || self.outputs > 4096 {
            return Err(format!("outputs must be 1 to 4096, got {}", self.outputs));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn sample() -> NetSpec {
    let layer = |channels, kernel, stride, dilation, pad| Layer {
        channels,
        kernel,
        stride,
        dilation,
        pad,
    };
    NetSpec {
        stem: layer(8, (3, 3), (2, 2), 1, true),
        blocks: vec![
            layer(8, (3, 3), (1, 1), 1, true),
            layer(12, (3, 3), (2, 2), 1, true),
            layer(16, (3, 16), (1, 1), 1, false),
            layer(16, (5, 1), (1, 1), 2, true),
        ],
        pool: 5,
        outputs: 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_follow_strides_and_padding() {
        let spec = sample();
        let shapes: Vec<_> = spec
            .shapes()
            .iter()
            .map(|s| (s.freqs, s.channels))
            .collect();
        assert_eq!(
            shapes,
            [(64, 1), (32, 8), (32, 8), (16, 12), (1, 16), (1, 16)]
        );
        assert_eq!(
            [0, 1, 2, 3].map(|i| spec.is_residual(i)),
            [true, false, false, true]
        );
        assert_eq!((spec.stride(), spec.embedding()), (4, 16));
        assert_eq!(spec.validate(), Ok(()));
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let mut spec = sample();
        spec.blocks[2].kernel.1 = 17;
        assert!(
            spec.validate()
                .unwrap_err()
                .contains("blocks.2: a kernel of 17 does not fit 16")
        );
        spec.blocks[2].kernel.1 = 0;
        assert!(spec.validate().unwrap_err().contains("blocks.2"));
    }
}
