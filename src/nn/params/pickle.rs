//! A reader of pickles that hold tensors, and nothing else.
//!
//! A pickle is a program for a small stack machine, and Python's own machine will call any function
//! that the program names. This one knows the instructions (`pickletools` of Python 3.11) and the
//! names that `torch.save` of torch 1.x and 2.x writes for state dicts, and refuses every other.
//! Nothing is ever called: a name stands for one of a few shapes of data. It does not look at the
//! storages; it says which part of which storage a tensor is.

use std::collections::HashMap;

use super::Dtype;

/// The longest pickle in bytes; that of a thousand tensors has a fifth of a million.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// The most instructions that are followed; a tensor takes about 30. Every one makes at most one
/// value, which bounds the memory too.
const MAX_STEPS: usize = 1 << 21;
/// The most dimensions of a tensor; PyTorch itself stops at 64, published tensors have up to 6.
const MAX_DIMS: usize = 16;

/// What went wrong, and at which byte of the pickle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: usize,
    pub what: String,
}

/// A value; what is behind an index lies in the [`Pickle`], so that neither sharing nor nesting costs
/// anything, however deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    /// Something that no tensor needs: a real number, bytes, a numpy scalar.
    Opaque,
    /// A tuple, by index into [`Pickle::sequences`].
    Tuple(usize),
    /// A list, likewise.
    List(usize),
    /// A dict, likewise: keys and values in turn.
    Dict(usize),
    /// By index into [`Pickle::storages`].
    Storage(usize),
    /// By index into [`Pickle::tensors`].
    Tensor(usize),
    Global(Global),
}

/// The names that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Dtype),
    /// A call whose outcome is [`Value::Opaque`].
    Opaque,
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", "Size") => Global::Size,
            ("torch", "FloatStorage") => Global::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Global::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Global::Storage(Dtype::Bf16),
            ("torch", "DoubleStorage") => Global::Storage(Dtype::F64),
            ("torch", "LongStorage") => Global::Storage(Dtype::Other(8)),
            ("torch", "IntStorage") => Global::Storage(Dtype::Other(4)),
            ("torch", "ShortStorage") => Global::Storage(Dtype::Other(2)),
            ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => {
                Global::Storage(Dtype::Other(1))
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar")
            | ("numpy", "dtype")
            | ("_codecs", "encode") => Global::Opaque,
            _ => return None,
        })
    }
}

/// Values that tensors share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    /// Its name in the file.
    pub key: &'a str,
    pub dtype: Dtype,
}

/// A view of a storage; lengths count values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorView {
    /// By index into [`Pickle::storages`].
    pub storage: usize,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// What a pickle holds.
#[derive(Debug, Default)]
pub(super) struct Pickle<'a> {
    /// The whole; `None` where it holds nothing that is known.
    pub root: Option<Value<'a>>,
    pub sequences: Vec<Vec<Value<'a>>>,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<TensorView>,
    /// Bytes that were read.
    pub length: usize,
}

/// Reads one pickle from the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, Fault> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(MAX_BYTES)],
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        pickle: Pickle::default(),
    };
    for _ in 0..MAX_STEPS {
        let start = machine.at;
        match machine.step() {
            Ok(true) => {
                machine.pickle.length = machine.at;
                return Ok(machine.pickle);
            }
            Ok(false) => {}
            Err(what) => return Err(Fault { at: start, what }),
        }
    }
    Err(Fault {
        at: machine.at,
        what: format!("expected at most {MAX_STEPS} instructions, got more"),
    })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Where in the stack each open mark stands.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    pickle: Pickle<'a>,
}

impl<'a> Machine<'a> {
    /// Follows one instruction; true at the end.
    fn step(&mut self) -> Result<bool, String> {
        let [code] = self.fixed::<1>()?;
        let value = match code {
            // PROTO, FRAME: what follows is the same in every protocol known here.
            0x80 => return self.fixed::<1>().map(|_| false),
            0x95 => return self.fixed::<8>().map(|_| false),
            // MARK, STOP
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(false);
            }
            b'.' => {
                self.pickle.root = Some(self.pop()?);
                return Ok(true);
            }
            // NONE, NEWTRUE, NEWFALSE
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            // BININT1, BININT2, BININT, LONG1, LONG4
            b'K' => Value::Int(i64::from(u8::from_le_bytes(self.fixed()?))),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.fixed()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.fixed()?))),
            0x8a => self.sized::<1>().map(long)?,
            0x8b => self.sized::<4>().map(long)?,
            // BINFLOAT
            b'G' => self.fixed::<8>().map(|_| Value::Opaque)?,
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => self.sized::<1>().and_then(text)?,
            b'X' => self.sized::<4>().and_then(text)?,
            0x8d => self.sized::<8>().and_then(text)?,
            // SHORT_BINSTRING, BINSTRING: what Python 2 wrote for text.
            b'U' => self.sized::<1>().and_then(text)?,
            b'T' => self.sized::<4>().and_then(text)?,
            // SHORT_BINBYTES, BINBYTES, BINBYTES8
            b'C' => self.sized::<1>().map(|_| Value::Opaque)?,
            b'B' => self.sized::<4>().map(|_| Value::Opaque)?,
            0x8e => self.sized::<8>().map(|_| Value::Opaque)?,
            // EMPTY_TUPLE, TUPLE1 to 3, TUPLE
            b')' => Value::Tuple(self.sequence(Vec::new())),
            0x85..=0x87 => {
                let values = self.top(usize::from(code - 0x84))?;
                Value::Tuple(self.sequence(values))
            }
            b't' => {
                let values = self.marked()?;
                Value::Tuple(self.sequence(values))
            }
            // EMPTY_LIST, EMPTY_DICT
            b']' => Value::List(self.sequence(Vec::new())),
            b'}' => Value::Dict(self.sequence(Vec::new())),
            // APPEND, APPENDS
            b'a' => return self.top(1).and_then(|values| self.extend(values, false)),
            b'e' => return self.marked().and_then(|values| self.extend(values, false)),
            // SETITEM, SETITEMS
            b's' => return self.top(2).and_then(|values| self.extend(values, true)),
            b'u' => return self.marked().and_then(|values| self.extend(values, true)),
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let [index] = self.fixed()?;
                return self.remember(index.into());
            }
            b'r' => {
                let index = u32::from_le_bytes(self.fixed()?);
                return self.remember(index);
            }
            0x94 => return self.remember(self.memo.len() as u32),
            b'h' => {
                let [index] = self.fixed()?;
                self.recall(index.into())?
            }
            b'j' => {
                let index = u32::from_le_bytes(self.fixed()?);
                self.recall(index)?
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                global(module, name)?
            }
            0x93 => match self.top(2)?[..] {
                [Value::Text(module), Value::Text(name)] => global(module, name)?,
                _ => return Err("expected two texts that name something".to_owned()),
            },
            // REDUCE, BINPERSID
            b'R' => self.reduce()?,
            b'Q' => self.storage()?,
            // BUILD: attributes, of which state dicts have `_metadata`, numpy types theirs.
            b'b' => {
                self.pop()?;
                return match self.stack.last() {
                    Some(Value::Dict(_) | Value::Opaque) => Ok(false),
                    other => Err(format!("expected attributes of a dict, got {other:?}")),
                };
            }
            _ => {
                return Err(format!(
                    "expected the instructions that tensors need, got 0x{code:02x}"
                ));
            }
        };
        self.stack.push(value);
        Ok(false)
    }

    /// The next `count` bytes.
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let bytes = self.bytes;
        let rest = &bytes[self.at..];
        let taken = rest.get(..count).ok_or_else(|| {
            format!(
                "expected {count} more bytes, got {} (the file is cut off or damaged)",
                rest.len()
            )
        })?;
        self.at += count;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut fixed = [0; N];
        fixed.copy_from_slice(self.take(N)?);
        Ok(fixed)
    }

    /// Bytes with their length before them, in `N` bytes.
    fn sized<const N: usize>(&mut self) -> Result<&'a [u8], String> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(&self.fixed::<N>()?);
        self.take(usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX))
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        let length = length.ok_or("expected a line, got no end of it")?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|error| error.to_string())
    }

    fn sequence(&mut self, values: Vec<Value<'a>>) -> usize {
        self.pickle.sequences.push(values);
        self.pickle.sequences.len() - 1
    }

    /// Where the stack begins above the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        Ok(self.top(1)?[0])
    }

    /// Takes `count` values off the stack.
    fn top(&mut self, count: usize) -> Result<Vec<Value<'a>>, String> {
        let height = self.stack.len() - self.floor();
        if height < count {
            return Err(format!(
                "expected {count} values on the stack, got {height}"
            ));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    /// Takes what is above the last mark, and the mark.
    fn marked(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or("expected a mark, got none")?;
        Ok(self.stack.split_off(mark))
    }

    /// Puts values at the end of the list or dict on the stack.
    fn extend(&mut self, values: Vec<Value<'a>>, pairs: bool) -> Result<bool, String> {
        let index = match self.stack[self.floor()..].last() {
            Some(Value::Dict(index)) if pairs && values.len().is_multiple_of(2) => *index,
            Some(Value::List(index)) if !pairs => *index,
            other => {
                return Err(format!(
                    "expected a place for {} values, got {other:?}",
                    values.len()
                ));
            }
        };
        self.pickle.sequences[index].extend(values);
        Ok(false)
    }

    fn remember(&mut self, index: u32) -> Result<bool, String> {
        let value = *self.stack.last().ok_or("expected a value, got none")?;
        self.memo.insert(index, value);
        Ok(false)
    }

    fn recall(&mut self, index: u32) -> Result<Value<'a>, String> {
        let value = self.memo.get(&index).copied();
        value.ok_or_else(|| format!("expected a value remembered as {index}, got none"))
    }

    fn tuple(&self, value: Value<'a>) -> Result<&[Value<'a>], String> {
        match value {
            Value::Tuple(index) => Ok(&self.pickle.sequences[index]),
            other => Err(format!("expected a tuple, got {other:?}")),
        }
    }

    /// The shape of data that a call stands for.
    fn reduce(&mut self) -> Result<Value<'a>, String> {
        let call = self.top(2)?;
        let values = self.tuple(call[1])?;
        match (call[0], values) {
            (Value::Global(Global::OrderedDict), []) => Ok(Value::Dict(self.sequence(Vec::new()))),
            (Value::Global(Global::Size), [tuple @ Value::Tuple(_)]) => Ok(*tuple),
            (Value::Global(Global::Opaque), _) => Ok(Value::Opaque),
            (Value::Global(Global::RebuildParameter), [tensor @ Value::Tensor(_), ..]) => {
                Ok(*tensor)
            }
            (
                Value::Global(Global::RebuildTensor),
                [Value::Storage(storage), offset, shape, strides, ..],
            ) => {
                let view = TensorView {
                    storage: *storage,
                    offset: length(offset)?,
                    shape: self.lengths(*shape)?,
                    strides: self.lengths(*strides)?,
                };
                if view.shape.len() != view.strides.len() {
                    return Err(format!(
                        "expected as many strides as dimensions, got {view:?}"
                    ));
                }
                self.pickle.tensors.push(view);
                Ok(Value::Tensor(self.pickle.tensors.len() - 1))
            }
            (other, values) => Err(format!(
                "expected a tensor or a dict to be made, got {other:?} of {} values",
                values.len()
            )),
        }
    }

    fn lengths(&self, value: Value<'a>) -> Result<Vec<usize>, String> {
        let values = self.tuple(value)?;
        if values.len() > MAX_DIMS {
            return Err(format!(
                "expected at most {MAX_DIMS} dimensions, got {}",
                values.len()
            ));
        }
        values.iter().map(length).collect()
    }

    /// The storage that a persistent id names: `("storage", type, key, place, length, ..)`.
    fn storage(&mut self) -> Result<Value<'a>, String> {
        let id = self.pop()?;
        match self.tuple(id)? {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype)),
                Value::Text(key),
                _,
                _,
            ]
            | [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype)),
                Value::Text(key),
                _,
                _,
                Value::None,
            ] => {
                let (key, dtype) = (*key, *dtype);
                self.pickle.storages.push(Storage { key, dtype });
                Ok(Value::Storage(self.pickle.storages.len() - 1))
            }
            other => Err(format!("expected the name of a storage, got {other:?}")),
        }
    }
}

/// A whole number of any length, little endian; [`Value::Opaque`] where 64 bits do not hold it.
fn long(bytes: &[u8]) -> Value<'_> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    match wide.get_mut(..bytes.len()) {
        Some(low) => low.copy_from_slice(bytes),
        None => return Value::Opaque,
    }
    Value::Int(i64::from_le_bytes(wide))
}

fn text(bytes: &[u8]) -> Result<Value<'_>, String> {
    std::str::from_utf8(bytes)
        .map(Value::Text)
        .map_err(|error| format!("expected UTF-8: {error}"))
}

fn global<'a>(module: &str, name: &str) -> Result<Value<'a>, String> {
    Global::named(module, name)
        .map(Value::Global)
        .ok_or_else(|| format!("expected the names that tensors need, got {module}.{name}"))
}

fn length(value: &Value<'_>) -> Result<usize, String> {
    match value {
        Value::Int(length) => usize::try_from(*length).ok(),
        _ => None,
    }
    .ok_or_else(|| format!("expected a length, got {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> Fault {
        read(bytes).unwrap_err()
    }

    #[test]
    fn plain_data_is_read_in_every_spelling() {
        let pickle = read(b"\x80\x04\x95\0\0\0\0\0\0\0\0}\x94(\x8c\x01aK\x05X\x01\0\0\0bM\0\x01\x8c\x01cJ\xff\xff\xff\xff\x8c\x01d\x8a\x02\0\x80u.rest").unwrap();
        assert_eq!(pickle.root, Some(Value::Dict(0)));
        let expected = [("a", 5), ("b", 256), ("c", -1), ("d", -32768)];
        let expected: Vec<Value> = expected
            .iter()
            .flat_map(|(key, value)| [Value::Text(key), Value::Int(*value)])
            .collect();
        assert_eq!(pickle.sequences[0], expected);
        let wide = read(b"\x8a\x09\0\0\0\0\0\0\0\0\x01.").unwrap();
        assert_eq!(wide.root, Some(Value::Opaque));
        assert_eq!(wide.length, 12);
    }

    #[test]
    fn what_tensors_do_not_need_is_refused_by_name_and_place() {
        for (bytes, at, part) in [
            (
                &b"\x80\x02cos\nsystem\n(X\x02\0\0\0lst R."[..],
                2,
                "got os.system",
            ),
            (b"cbuiltins\neval\n.", 0, "got builtins.eval"),
            (b"\x8c\x02os\x8c\x06system\x93.", 12, "got os.system"),
            (b"\x80\x02i.", 2, "got 0x69"),
            (b"N}\x81.", 2, "got 0x81"),
            (b"ccollections\nOrderedDict\nK\x01\x85R.", 28, "of 1 values"),
            (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", 34, "of 0 values"),
        ] {
            let fault = fault(bytes);
            assert_eq!(fault.at, at, "{fault:?}");
            assert!(fault.what.contains(part), "{fault:?}");
        }
    }

    #[test]
    fn programs_that_make_no_sense_are_faults() {
        for bytes in [
            &b""[..],
            b".",
            b"K",
            b"X\xff\xff\xff\xffab",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab",
            b"h\x07.",
            b"q\x00.",
            b"t.",
            b"N(\x85.",
            b"]N(\x85.",
            b"Ns.",
            b"}Na.",
            b"}(Nu.",
            b"(.",
            b"cos",
            b"c\xff\n\xff\n.",
            b"NQ.",
            b")Q.",
            b"NN\x93.",
            b"NNb.",
        ] {
            assert!(!fault(bytes).what.is_empty(), "{bytes:?}");
        }
        // Nothing but instructions, without an end.
        assert!(fault(&vec![b'N'; MAX_STEPS + 1]).what.contains("at most"));
        let deep: Vec<u8> = std::iter::once(b'N')
            .chain(std::iter::repeat_n(0x85, 1 << 20))
            .chain([b'.'])
            .collect();
        assert!(read(&deep).is_ok());
    }
}
