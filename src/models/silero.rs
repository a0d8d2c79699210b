//! Silero VAD at 16 kHz: how likely a chunk of 32 ms is speech, from the published safetensors file.
//!
//! The network of snakers4/silero-vad (`silero-vad` 6.2.3 on PyPI, `tinygrad_model.py` and
//! `silero_vad_16k_op15.onnx`): short-time spectrum as a convolution with stored sines, magnitudes,
//! four convolutions, one LSTM cell that remembers from chunk to chunk, one output. A chunk is heard
//! with the 64 samples before it and its own last 64 mirrored after it.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::ModelError;
use super::network::Network;
use crate::kernels::matmul::dense;

/// Samples of a window of its own, a second, where it is asked as a model on windows.
const WINDOW: usize = 16_000;
/// Samples of a chunk (32 ms).
pub const CHUNK: usize = 512;
/// Samples heard again before a chunk, and mirrored after it.
const CONTEXT: usize = 64;
/// Samples under one frame of the spectrum, and between frames.
const N_FFT: usize = 256;
const HOP: usize = 128;
const FRAMES: usize = (CONTEXT + CHUNK + CONTEXT - N_FFT) / HOP + 1;
const BINS: usize = N_FFT / 2 + 1;
/// Columns of the stored sines, filled up to whole vectors.
const SINES: usize = (2 * BINS).next_multiple_of(8);
/// Values that the cell remembers, twice.
const HIDDEN: usize = 128;
/// Channels in, channels out and stride of the encoder's convolutions, all three frames long.
const ENCODER: [(usize, usize, usize); 4] =
    [(BINS, 128, 1), (128, 64, 2), (64, 64, 2), (64, HIDDEN, 1)];

/// A dense layer: weights `(inputs, outputs)` and bias `(outputs)`.
struct Dense {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// The detector with what it remembers.
pub struct Silero {
    stft: Dense,
    encoder: [Dense; 4],
    lstm_cell: Dense,
    final_conv: Dense,
    /// Context, chunk and mirror.
    heard: [f32; CONTEXT + CHUNK + CONTEXT],
    /// Two buffers that the layers go between, and the rows that a convolution reads.
    now: Vec<f32>,
    next: Vec<f32>,
    rows: Vec<f32>,
    /// What goes into the cell, `(2 * HIDDEN)`: the encoder's output and the last output of the cell.
    input: [f32; 2 * HIDDEN],
    cell: [f32; HIDDEN],
    gates: [f32; 4 * HIDDEN],
}

/// The tensors of a file, checked as they are taken.
struct Tensors<'a> {
    path: &'a str,
    tensors: SafeTensors<'a>,
}

impl Tensors<'_> {
    fn take(&self, key: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let error = |what: String| ModelError::Format(format!("{}: {key}: {what}", self.path));
        let tensor = (self.tensors.tensor(key)).map_err(|source| error(source.to_string()))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(error(format!(
                "expected F32 {shape:?}, got {:?} {:?}",
                tensor.dtype(),
                tensor.shape()
            )));
        }
        let (values, _) = tensor.data().as_chunks::<4>();
        Ok(values.iter().map(|&v| f32::from_le_bytes(v)).collect())
    }

    /// Weights `(outputs, inputs, taps)` as `(taps * inputs, columns)`, zeros in columns of no output.
    fn transposed(
        &self,
        key: &str,
        [outputs, inputs, taps]: [usize; 3],
        columns: usize,
    ) -> Result<Vec<f32>, ModelError> {
        let weights = self.take(key, &[outputs, inputs, taps])?;
        let mut all = vec![0.0; taps * inputs * columns];
        for (at, weight) in weights.into_iter().enumerate() {
            let (output, input, tap) = (at / (inputs * taps), at / taps % inputs, at % taps);
            all[(tap * inputs + input) * columns + output] = weight;
        }
        Ok(all)
    }
}

impl Silero {
    /// Reads the published file.
    ///
    /// # Errors
    /// When it cannot be read, or a tensor is missing or misshapen.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let name = path.display().to_string();
        let bytes =
            std::fs::read(path).map_err(|source| ModelError::Read(format!("{name}: {source}")))?;
        Silero::from_bytes(&bytes, &name)
    }

    /// Reads a file that is in memory already; `path` is for messages.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub fn from_bytes(bytes: &[u8], path: &str) -> Result<Self, ModelError> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|source| ModelError::Format(format!("{path}: {source}")))?;
        let file = Tensors { path, tensors };
        let convolution = |at: usize| {
            let (inputs, outputs, _) = ENCODER[at];
            let key = format!("conv{}", at + 1);
            Ok::<_, ModelError>(Dense {
                weights: file.transposed(
                    &format!("{key}.weight"),
                    [outputs, inputs, 3],
                    outputs,
                )?,
                bias: file.take(&format!("{key}.bias"), &[outputs])?,
            })
        };
        let [from_input, from_hidden] = ["weight_ih", "weight_hh"].map(|part| {
            let weights = file.take(&format!("lstm_cell.{part}"), &[4 * HIDDEN, HIDDEN])?;
            let columns = (0..HIDDEN).map(|input| weights.iter().skip(input).step_by(HIDDEN));
            Ok::<Vec<f32>, ModelError>(columns.flatten().copied().collect())
        });
        let [mut bias, hidden_bias] = ["bias_ih", "bias_hh"]
            .map(|part| file.take(&format!("lstm_cell.{part}"), &[4 * HIDDEN]));
        for (bias, hidden) in bias.iter_mut().flatten().zip(hidden_bias?) {
            *bias += hidden;
        }
        Ok(Silero {
            stft: Dense {
                weights: file.transposed("stft_conv.weight", [2 * BINS, 1, N_FFT], SINES)?,
                bias: vec![0.0; SINES],
            },
            encoder: [
                convolution(0)?,
                convolution(1)?,
                convolution(2)?,
                convolution(3)?,
            ],
            lstm_cell: Dense {
                weights: [from_input?, from_hidden?].concat(),
                bias: bias?,
            },
            final_conv: Dense {
                weights: file.take("final_conv.weight", &[1, HIDDEN, 1])?,
                bias: file.take("final_conv.bias", &[1])?,
            },
            heard: [0.0; CONTEXT + CHUNK + CONTEXT],
            now: vec![0.0; FRAMES * SINES],
            next: vec![0.0; FRAMES * SINES],
            rows: vec![0.0; FRAMES * 3 * BINS],
            input: [0.0; 2 * HIDDEN],
            cell: [0.0; HIDDEN],
            gates: [0.0; 4 * HIDDEN],
        })
    }

    /// Takes the next chunk (mono, 16 kHz) and gives the probability that it is speech. Real-time
    /// safe.
    pub fn step(&mut self, chunk: &[f32; CHUNK]) -> f32 {
        const END: usize = CONTEXT + CHUNK;
        self.heard.copy_within(CHUNK..END, 0);
        self.heard[CONTEXT..END].copy_from_slice(chunk);
        for at in 0..CONTEXT {
            self.heard[END + at] = self.heard[END - 2 - at];
        }
        self.magnitudes();
        let mut frames = FRAMES;
        for (layer, (inputs, outputs, stride)) in self.encoder.iter().zip(ENCODER) {
            let after = frames.div_ceil(stride);
            let rows = &mut self.rows[..after * 3 * inputs];
            rows.fill(0.0);
            for (at, tap) in rows.chunks_exact_mut(inputs).enumerate() {
                // Tap 1 of 3 is the frame that the stride stands on; outside there are zeros.
                let frame = (at / 3 * stride + at % 3).checked_sub(1);
                if let Some(frame) = frame.filter(|&frame| frame < frames) {
                    tap.copy_from_slice(&self.now[frame * inputs..(frame + 1) * inputs]);
                }
            }
            let out = &mut self.next[..after * outputs];
            dense(rows, &layer.weights, &layer.bias, true, out);
            std::mem::swap(&mut self.now, &mut self.next);
            frames = after;
        }
        self.remember();
        let hidden = self.input[HIDDEN..].iter().map(|h| h.max(0.0));
        let weights = &self.final_conv.weights;
        let sum: f32 = hidden.zip(weights).map(|(h, w)| h * w).sum();
        sigmoid(sum + self.final_conv.bias[0])
    }

    /// Forgets everything heard.
    pub fn reset(&mut self) {
        self.heard.fill(0.0);
        self.input.fill(0.0);
        self.cell.fill(0.0);
    }

    /// The spectrum of what is heard into `now (FRAMES, BINS)`.
    fn magnitudes(&mut self) {
        let rows = &mut self.rows[..FRAMES * N_FFT];
        for (at, row) in rows.chunks_exact_mut(N_FFT).enumerate() {
            row.copy_from_slice(&self.heard[at * HOP..at * HOP + N_FFT]);
        }
        let sines = &mut self.next[..FRAMES * SINES];
        dense(rows, &self.stft.weights, &self.stft.bias, false, sines);
        let frames = sines.chunks_exact(SINES);
        for (out, frame) in self.now.chunks_exact_mut(BINS).zip(frames) {
            for ((out, re), im) in out.iter_mut().zip(frame).zip(&frame[BINS..]) {
                *out = (re * re + im * im).sqrt();
            }
        }
    }

    /// One step of the LSTM cell (PyTorch's order of gates: input, forget, candidate, output) on the
    /// frame in `now`; the new output stands in the second half of `input`.
    fn remember(&mut self) {
        self.input[..HIDDEN].copy_from_slice(&self.now[..HIDDEN]);
        let Dense { weights, bias } = &self.lstm_cell;
        dense(&self.input, weights, bias, false, &mut self.gates);
        let hidden = &mut self.input[HIDDEN..];
        for (at, (hidden, cell)) in hidden.iter_mut().zip(&mut self.cell).enumerate() {
            let gate = |part: usize| self.gates[part * HIDDEN + at];
            *cell = sigmoid(gate(1)) * *cell + sigmoid(gate(0)) * gate(2).tanh();
            *hidden = sigmoid(gate(3)) * cell.tanh();
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Over a window it gives the highest probability of its chunks, one label.
impl Network for Silero {
    fn rate_hz(&self) -> u32 {
        crate::clock::PIPELINE_RATE_HZ
    }

    fn window(&self) -> usize {
        WINDOW
    }

    fn run(&mut self, pcm: &[f32]) -> Result<Vec<f32>, ModelError> {
        Ok(vec![self.most(pcm, 1.0)])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use safetensors::tensor::TensorView;

    use super::*;

    fn shapes() -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::from(
            [
                ("stft_conv.weight", vec![258, 1, 256]),
                ("lstm_cell.weight_ih", vec![512, 128]),
                ("lstm_cell.weight_hh", vec![512, 128]),
                ("lstm_cell.bias_ih", vec![512]),
                ("lstm_cell.bias_hh", vec![512]),
                ("final_conv.weight", vec![1, 128, 1]),
                ("final_conv.bias", vec![1]),
            ]
            .map(|(key, shape)| (key.to_owned(), shape)),
        );
        for (at, (inputs, outputs, _)) in (1..).zip(ENCODER) {
            shapes.insert(format!("conv{at}.weight"), vec![outputs, inputs, 3]);
            shapes.insert(format!("conv{at}.bias"), vec![outputs]);
        }
        shapes
    }

    fn file(shapes: &BTreeMap<String, Vec<usize>>) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(6);
        let data: BTreeMap<_, Vec<u8>> = shapes
            .iter()
            .map(|(key, shape)| {
                let mut draw = || (rng.f32() - 0.5) * 0.2;
                let values = (0..shape.iter().product()).flat_map(|_| draw().to_le_bytes());
                (key.clone(), values.collect())
            })
            .collect();
        let views = data.iter().map(|(key, data)| {
            let view = TensorView::new(Dtype::F32, shapes[key].clone(), data).unwrap();
            (key.clone(), view)
        });
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn it_remembers_and_forgets() {
        let mut vad = Silero::from_bytes(&file(&shapes()), "test").unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut chunk = || std::array::from_fn(|_| rng.f32() - 0.5);
        let (a, b): ([f32; CHUNK], [f32; CHUNK]) = (chunk(), chunk());
        let first = [a, b, b].map(|chunk| vad.step(&chunk));
        assert!(first.iter().all(|p| (0.0..=1.0).contains(p)), "{first:?}");
        assert_ne!(first[1], first[2], "the second hearing of a chunk");
        vad.reset();
        assert_eq!([a, b, b].map(|chunk| vad.step(&chunk)), first);
        vad.reset();
        assert_ne!(vad.step(&b), first[1], "a chunk without what came before");
    }

    #[test]
    fn a_missing_or_misshapen_tensor_is_named() {
        let check = |shapes: &BTreeMap<String, Vec<usize>>, parts: &[&str]| {
            let Err(error) = Silero::from_bytes(&file(shapes), "vad.safetensors") else {
                panic!("{parts:?} passed");
            };
            for part in parts {
                assert!(error.to_string().contains(part), "{error}: {part}");
            }
        };
        for key in shapes().keys() {
            let mut without = shapes();
            without.remove(key);
            check(&without, &["vad.safetensors", key]);
            let mut other = shapes();
            other.get_mut(key).unwrap().push(1);
            check(&other, &["vad.safetensors", key, "expected F32"]);
        }
        assert!(Silero::from_bytes(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "x").is_err());
    }
}
