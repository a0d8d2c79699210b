//! Reads a TensorFlow Lite file: tensors with their quantisation, operators in order.
//!
//! The flatbuffer of schema version 3 (`schema.fbs` of TensorFlow Lite; identifier `TFL3`), first
//! subgraph alone, over a byte slice with every offset checked before it is followed. Nothing is run
//! here, and only the options that a model of this project asks for are read; whatever else a file
//! holds is skipped.

use std::ops::Range;
use std::path::Path;

mod flatbuffer;

use flatbuffer::{Bytes, Table};

/// Builtin operator codes (`BuiltinOperator` of the schema), those that models here look for.
pub mod code {
    /// Two-dimensional convolution, weights `(out, height, width, in)`.
    pub const CONV_2D: i32 = 3;
    /// Depthwise convolution, weights `(1, height, width, channels)`.
    pub const DEPTHWISE_CONV_2D: i32 = 4;
    /// Dense layer, weights `(out, in)`.
    pub const FULLY_CONNECTED: i32 = 9;
    /// Sigmoid.
    pub const LOGISTIC: i32 = 14;
    /// Product, element by element.
    pub const MUL: i32 = 18;
    /// Mean over axes.
    pub const MEAN: i32 = 40;
    /// Natural logarithm.
    pub const LOG: i32 = 73;
    /// Fourier transform of real rows.
    pub const RFFT2D: i32 = 131;
    /// Magnitude of complex numbers.
    pub const COMPLEX_ABS: i32 = 135;
}

/// More tensors or operators than this is no model that runs here, and bounds what a file can ask for.
const MAX_ENTRIES: usize = 20_000;
/// The longest name, and the longest list of a tensor's or operator's own.
const MAX_NAME: usize = 1_024;
const MAX_LIST: usize = 256;

/// Why a file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TfliteError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content is not what it should be.
    #[error("{path}: {table} at byte {at}: {what}")]
    Format {
        /// The file.
        path: String,
        /// The table of the schema that was being read.
        table: &'static str,
        /// Where in the file.
        at: usize,
        /// What is wrong: expected and got.
        what: String,
    },
}

/// The type of a tensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// 32-bit integers.
    I32,
    /// 8-bit integers, quantised where the tensor says how.
    I8,
    /// Any other, by its number in the schema (`TensorType`).
    Other(u8),
}

/// One tensor; constant where it has data.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape; 1 stands for a dimension that the caller sets.
    pub shape: Vec<usize>,
    /// Type of its values.
    pub dtype: Dtype,
    /// The axis that the scales run along.
    pub quantised_axis: usize,
    at: usize,
    data: Range<usize>,
    scales: Range<usize>,
    zero_points: Range<usize>,
}

/// Int8 weights whose value is `data * scale` of its place along `axis`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantised<'a> {
    /// The integers, row-major.
    pub data: &'a [i8],
    /// One a place along `axis`.
    pub scales: Vec<f32>,
    /// Which axis.
    pub axis: usize,
}

/// How a convolution treats its borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// As many outputs as strides begin in the input, with zeros around it, the odd one behind.
    Same,
    /// Only where the kernel lies inside.
    Valid,
}

/// What follows a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(0, x)`.
    Relu,
    /// Any other, by its number in the schema (`ActivationFunctionType`).
    Other(u8),
}

/// Options of both convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Treatment of the borders.
    pub padding: Padding,
    /// Stride in height and width.
    pub stride: (usize, usize),
    /// Dilation in height and width.
    pub dilation: (usize, usize),
    /// Outputs a channel, 1 in a full convolution.
    pub depth_multiplier: usize,
    /// What follows.
    pub activation: Activation,
}

/// What an operator is told beside its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Options {
    /// Of `CONV_2D` and `DEPTHWISE_CONV_2D`.
    Conv(Conv),
    /// Of `FULLY_CONNECTED`.
    Dense(Activation),
    /// Of any other, not read.
    Other,
}

/// One operator.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Its builtin code, one of [`code`] or any other.
    pub code: i32,
    /// Tensors that go in; `None` for an optional one that is left out.
    pub inputs: Vec<Option<usize>>,
    /// Tensors that come out.
    pub outputs: Vec<usize>,
    /// Its options.
    pub options: Options,
    at: usize,
}

/// A file in memory.
#[derive(Debug, Clone)]
pub struct Tflite {
    path: String,
    bytes: Vec<u8>,
    tensors: Vec<Tensor>,
    operators: Vec<Operator>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

impl Tflite {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is not a TensorFlow Lite model.
    pub fn open(path: &Path) -> Result<Self, TfliteError> {
        let name = path.display().to_string();
        match std::fs::read(path) {
            Ok(bytes) => Tflite::from_bytes(bytes, &name),
            Err(source) => Err(TfliteError::Io { path: name, source }),
        }
    }

    /// Reads a file that is in memory already; `path` is for messages.
    ///
    /// # Errors
    /// When it is not a TensorFlow Lite model.
    pub fn from_bytes(bytes: Vec<u8>, path: &str) -> Result<Self, TfliteError> {
        let reader = Bytes::new(&bytes, path);
        if bytes.get(4..8) != Some(b"TFL3") {
            return Err(reader.error("Model", 4, "expected the identifier TFL3"));
        }
        let model = reader.root("Model")?;
        let version = model.u32(0, 0)?;
        if version != 3 {
            return Err(model.error(format!("expected schema version 3, got {version}")));
        }
        let codes = model
            .tables(1, "OperatorCode", MAX_ENTRIES)?
            .iter()
            // Old files have the code in one byte alone; new ones in both where it fits.
            .map(|code| Ok(i32::from(code.i8(0, 0)?).max(code.i32(3, 0)?)))
            .collect::<Result<Vec<_>, TfliteError>>()?;
        let buffers = model
            .tables(4, "Buffer", MAX_ENTRIES)?
            .iter()
            .map(|buffer| buffer.vector(0, 1))
            .collect::<Result<Vec<_>, _>>()?;
        let graphs = model.tables(2, "SubGraph", MAX_LIST)?;
        let Some(graph) = graphs.first() else {
            return Err(model.error("expected a subgraph, got none".into()));
        };
        let tensors = graph
            .tables(0, "Tensor", MAX_ENTRIES)?
            .iter()
            .map(|table| tensor(table, &buffers))
            .collect::<Result<Vec<_>, _>>()?;
        let operators = graph
            .tables(3, "Operator", MAX_ENTRIES)?
            .iter()
            .map(|table| operator(table, &codes, tensors.len()))
            .collect::<Result<Vec<_>, _>>()?;
        let inputs = indices(graph, 1, tensors.len())?;
        let outputs = indices(graph, 2, tensors.len())?;
        Ok(Tflite {
            path: path.to_owned(),
            tensors,
            operators,
            inputs,
            outputs,
            bytes,
        })
    }

    /// The file, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// All tensors, by index.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Number of weights: the constants that are no whole numbers of 32 bits.
    pub fn parameters(&self) -> usize {
        self.tensors
            .iter()
            .filter(|tensor| !tensor.data.is_empty() && tensor.dtype != Dtype::I32)
            .map(|tensor| tensor.shape.iter().product::<usize>())
            .sum()
    }

    /// All operators in the order of execution.
    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// Tensors that the caller fills.
    pub fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// Tensors that the caller reads.
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }

    /// An error about operator `index`.
    pub fn operator_error(&self, index: usize, what: String) -> TfliteError {
        let at = self.operators.get(index).map_or(0, |operator| operator.at);
        TfliteError::Format {
            path: self.path.clone(),
            table: "Operator",
            at,
            what: format!("number {index}: {what}"),
        }
    }

    fn constant(
        &self,
        index: usize,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<(&Tensor, &[u8]), TfliteError> {
        let error = |at, what: String| TfliteError::Format {
            path: self.path.clone(),
            table: "Tensor",
            at,
            what: format!("number {index}: {what}"),
        };
        let Some(tensor) = self.tensors.get(index) else {
            return Err(error(0, format!("there are {}", self.tensors.len())));
        };
        let data = &self.bytes[tensor.data.clone()];
        let width = if dtype == Dtype::I8 { 1 } else { 4 };
        let expected = shape.iter().product::<usize>() * width;
        if tensor.dtype != dtype || tensor.shape != shape || data.len() != expected {
            return Err(error(
                tensor.at,
                format!(
                    "'{}': expected {dtype:?} {shape:?} in {expected} bytes, got {:?} {:?} in {}",
                    tensor.name,
                    tensor.dtype,
                    tensor.shape,
                    data.len()
                ),
            ));
        }
        Ok((tensor, data))
    }

    /// The values of constant `index`, which must have this shape.
    ///
    /// # Errors
    /// When type, shape or length are others.
    pub fn f32s(&self, index: usize, shape: &[usize]) -> Result<Vec<f32>, TfliteError> {
        let (_, data) = self.constant(index, Dtype::F32, shape)?;
        Ok(floats(data))
    }

    /// The int8 weights of constant `index`, which must have this shape and a scale for every place
    /// along one of its axes.
    ///
    /// # Errors
    /// When type, shape, length or scales are others, or a zero point is not zero.
    pub fn quantised(&self, index: usize, shape: &[usize]) -> Result<Quantised<'_>, TfliteError> {
        let (tensor, data) = self.constant(index, Dtype::I8, shape)?;
        let scales = floats(&self.bytes[tensor.scales.clone()]);
        let zero_points = &self.bytes[tensor.zero_points.clone()];
        let axis = tensor.quantised_axis;
        let usable = |scale: &f32| scale.is_finite() && *scale > 0.0;
        if shape.get(axis) != Some(&scales.len()) || !scales.iter().all(usable) {
            return Err(TfliteError::Format {
                path: self.path.clone(),
                table: "QuantizationParameters",
                at: tensor.at,
                what: format!(
                    "'{}': expected a positive scale for each place along one axis of {shape:?}, got {} along axis {axis}",
                    tensor.name,
                    scales.len()
                ),
            });
        }
        if zero_points.iter().any(|&byte| byte != 0) {
            return Err(TfliteError::Format {
                path: self.path.clone(),
                table: "QuantizationParameters",
                at: tensor.at,
                what: format!("'{}': expected zero points of 0", tensor.name),
            });
        }
        Ok(Quantised {
            data: bytemuck::cast_slice(data),
            scales,
            axis,
        })
    }
}

/// Little-endian floats, wherever they stand.
fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    values.iter().map(|&v| f32::from_le_bytes(v)).collect()
}

fn tensor(table: &Table<'_>, buffers: &[Range<usize>]) -> Result<Tensor, TfliteError> {
    let shape = table
        .i32s(0, MAX_LIST)?
        .into_iter()
        .map(|size| {
            usize::try_from(size)
                .map_err(|_| table.error(format!("expected sizes of 0 or more, got {size}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if shape
        .iter()
        .try_fold(1usize, |all, &size| all.checked_mul(size))
        .is_none_or(|all| all > isize::MAX as usize / 8)
    {
        return Err(table.error(format!("the shape {shape:?} is beyond any memory")));
    }
    let dtype = match table.i8(1, 0)? as u8 {
        0 => Dtype::F32,
        2 => Dtype::I32,
        9 => Dtype::I8,
        other => Dtype::Other(other),
    };
    let buffer = table.u32(2, 0)? as usize;
    let Some(data) = buffers.get(buffer) else {
        return Err(table.error(format!(
            "expected a buffer under {}, got {buffer}",
            buffers.len()
        )));
    };
    let (mut scales, mut zero_points, mut axis) = (0..0, 0..0, 0);
    if let Some(quantisation) = table.table(4, "QuantizationParameters")? {
        scales = quantisation.vector(2, 4)?;
        zero_points = quantisation.vector(3, 8)?;
        axis = quantisation.i32(6, 0)?;
    }
    Ok(Tensor {
        name: table.string(3, MAX_NAME)?,
        shape,
        dtype,
        quantised_axis: usize::try_from(axis)
            .map_err(|_| table.error(format!("expected an axis of 0 or more, got {axis}")))?,
        at: table.at(),
        data: data.clone(),
        scales,
        zero_points,
    })
}

fn indices(table: &Table<'_>, slot: usize, tensors: usize) -> Result<Vec<usize>, TfliteError> {
    table
        .i32s(slot, MAX_LIST)?
        .into_iter()
        .map(|index| {
            usize::try_from(index)
                .ok()
                .filter(|&index| index < tensors)
                .ok_or_else(|| {
                    table.error(format!("expected a tensor under {tensors}, got {index}"))
                })
        })
        .collect()
}

fn operator(table: &Table<'_>, codes: &[i32], tensors: usize) -> Result<Operator, TfliteError> {
    let code = table.u32(0, 0)? as usize;
    let Some(&code) = codes.get(code) else {
        return Err(table.error(format!(
            "expected an operator code under {}, got {code}",
            codes.len()
        )));
    };
    let inputs = table
        .i32s(1, MAX_LIST)?
        .into_iter()
        .map(|index| match usize::try_from(index) {
            Ok(index) if index < tensors => Ok(Some(index)),
            Err(_) if index == -1 => Ok(None),
            _ => Err(table.error(format!("expected a tensor under {tensors}, got {index}"))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Operator {
        code,
        inputs,
        outputs: indices(table, 2, tensors)?,
        options: options(table, code)?,
        at: table.at(),
    })
}

fn options(table: &Table<'_>, code: i32) -> Result<Options, TfliteError> {
    // Which table the options are: `BuiltinOptions` of the schema.
    let expected = match code {
        code::CONV_2D => (1, "Conv2DOptions"),
        code::DEPTHWISE_CONV_2D => (2, "DepthwiseConv2DOptions"),
        code::FULLY_CONNECTED => (8, "FullyConnectedOptions"),
        _ => return Ok(Options::Other),
    };
    let kind = table.i8(3, 0)? as u8;
    let Some(options) = table.table(4, expected.1)?.filter(|_| kind == expected.0) else {
        return Err(table.error(format!("expected {}, got options {kind}", expected.1)));
    };
    let activation = |slot| {
        Ok(match options.i8(slot, 0)? as u8 {
            0 => Activation::None,
            1 => Activation::Relu,
            other => Activation::Other(other),
        })
    };
    if code == code::FULLY_CONNECTED {
        return Ok(Options::Dense(activation(0)?));
    }
    let size = |slot, default| {
        let size = options.i32(slot, default)?;
        usize::try_from(size)
            .ok()
            .filter(|&size| size > 0)
            .ok_or_else(|| options.error(format!("expected sizes over 0, got {size}")))
    };
    let padding = match options.i8(0, 0)? {
        0 => Padding::Same,
        1 => Padding::Valid,
        other => return Err(options.error(format!("expected padding 0 or 1, got {other}"))),
    };
    let depthwise = usize::from(code == code::DEPTHWISE_CONV_2D);
    Ok(Options::Conv(Conv {
        padding,
        stride: (size(2, 0)?, size(1, 0)?),
        dilation: (size(5 + depthwise, 1)?, size(4 + depthwise, 1)?),
        depth_multiplier: if depthwise == 1 { size(3, 0)? } else { 1 },
        activation: activation(3 + depthwise)?,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file with every kind of table that is read, written by FlatBuffers' own library
    /// (`tests/golden/real.py tiny`).
    const TINY: &[u8] = include_bytes!("../../tests/golden/fixtures/tiny.tflite");

    /// Opens bytes and asks for whatever can be asked for.
    fn exhaust(bytes: Vec<u8>) -> Result<(), TfliteError> {
        let file = Tflite::from_bytes(bytes, "m.tflite")?;
        for (index, tensor) in file.tensors().iter().enumerate() {
            let _ = file.f32s(index, &tensor.shape);
            let _ = file.quantised(index, &tensor.shape);
        }
        file.f32s(1, &[1, 3, 3, 2])?;
        file.quantised(2, &[2, 3]).map(|_| ())
    }

    #[test]
    fn a_small_file_is_read_as_it_was_written() {
        let file = Tflite::from_bytes(TINY.to_vec(), "tiny.tflite").unwrap();
        assert_eq!((file.inputs(), file.outputs()), (&[0][..], &[5][..]));
        let names: Vec<_> = file.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["in", "deep", "dense", "bias", "middle", "out"]);
        assert_eq!(file.tensors()[4].shape, [1, 2, 4, 2]);
        assert_eq!(file.f32s(1, &[1, 3, 3, 2]).unwrap()[17], 17.0);
        let expected = Quantised {
            data: &[1, 2, 3, -3, -2, -1],
            scales: vec![0.25, 0.5],
            axis: 0,
        };
        assert_eq!(file.quantised(2, &[2, 3]).unwrap(), expected);
        let [deep, full, dense, other] = file.operators() else {
            panic!("{:?}", file.operators());
        };
        assert_eq!(deep.code, code::DEPTHWISE_CONV_2D);
        assert_eq!(deep.inputs, [Some(0), Some(1), None]);
        assert_eq!(
            (dense.code, &dense.outputs[..]),
            (code::FULLY_CONNECTED, &[5][..])
        );
        assert_eq!(
            (other.code, other.options),
            (code::COMPLEX_ABS, Options::Other)
        );
        let expected = Conv {
            padding: Padding::Same,
            stride: (2, 1),
            dilation: (1, 1),
            depth_multiplier: 1,
            activation: Activation::Relu,
        };
        assert_eq!(deep.options, Options::Conv(expected));
        let expected = Conv {
            padding: Padding::Valid,
            stride: (1, 3),
            dilation: (2, 1),
            depth_multiplier: 1,
            activation: Activation::None,
        };
        assert_eq!(full.options, Options::Conv(expected));
        assert_eq!(dense.options, Options::Dense(Activation::None));
    }

    #[test]
    fn no_cut_and_no_changed_byte_makes_it_panic() {
        exhaust(TINY.to_vec()).unwrap();
        for cut in 0..TINY.len() {
            let cut_off = exhaust(TINY[..cut].to_vec());
            // The last bytes are padding and text that nothing asks for.
            assert!(cut_off.is_err() || cut + 64 > TINY.len(), "cut at {cut}");
        }
        for at in 0..TINY.len() {
            for value in [0, 1, 3, 4, 0x7f, 0x80, 0xfe, 0xff] {
                let mut bytes = TINY.to_vec();
                bytes[at] = value;
                let _ = exhaust(bytes);
            }
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(
            places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = TINY.to_vec();
            for (place, value) in places {
                let at = place.index(bytes.len());
                bytes[at] = value;
            }
            let _ = exhaust(bytes.clone());
            bytes.truncate(cut.index(TINY.len()));
            let _ = exhaust(bytes);
        }
    }

    #[test]
    fn what_is_no_model_is_refused_with_file_table_and_offset() {
        let check = |bytes: &[u8], expected: &str| {
            let error = Tflite::from_bytes(bytes.to_vec(), "m.tflite").unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            b"",
            "m.tflite: Model at byte 4: expected the identifier TFL3",
        );
        check(
            b"\x08\0\0\0TFL3",
            "m.tflite: Model at byte 8: expected 4 bytes, the file ends after 8",
        );
        // A table whose vtable offset points before the file.
        check(
            b"\x08\0\0\0TFL3\x7f\0\0\0",
            "m.tflite: Model at byte 8: its field list lies 127 bytes before it, outside the file",
        );
        // A table that is its own field list: four bytes, of which the length says nothing.
        check(
            b"\x08\0\0\0TFL3\0\0\0\0",
            "m.tflite: Model at byte 8: expected a field list of 4 bytes or more, got 0",
        );
        let missing = Tflite::open(Path::new("/nowhere/m.tflite")).unwrap_err();
        assert!(matches!(missing, TfliteError::Io { .. }), "{missing}");
    }
}
