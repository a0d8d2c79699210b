//! Tables, vectors and strings of a flatbuffer, every offset checked before it is followed.
//!
//! The binary format as FlatBuffers' *Internals* page gives it: little endian; a table starts with
//! the signed distance back to its field list (two bytes each: length of the list, length of the
//! table, then where each field stands in the table, 0 for its default); tables, vectors and strings
//! are reached by an unsigned distance forward, vectors and strings start with their length. Nothing
//! is followed deeper than a caller asks, so a file that points into itself cannot loop.

use std::ops::Range;

use super::TfliteError;

/// The bytes of a file and its name.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    bytes: &'a [u8],
    path: &'a str,
}

/// A table in it.
pub struct Table<'a> {
    bytes: Bytes<'a>,
    name: &'static str,
    at: usize,
    /// Where each field stands in the table.
    fields: Range<usize>,
    /// Length of the table itself.
    size: usize,
}

impl<'a> Bytes<'a> {
    /// Over the bytes of `path`.
    pub fn new(bytes: &'a [u8], path: &'a str) -> Self {
        Bytes { bytes, path }
    }

    /// An error in `table` at byte `at`.
    pub fn error(&self, table: &'static str, at: usize, what: impl Into<String>) -> TfliteError {
        TfliteError::Format {
            path: self.path.to_owned(),
            table,
            at,
            what: what.into(),
        }
    }

    fn read<const N: usize>(&self, table: &'static str, at: usize) -> Result<[u8; N], TfliteError> {
        self.bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .ok_or_else(|| {
                let what = format!(
                    "expected {N} bytes, the file ends after {}",
                    self.bytes.len()
                );
                self.error(table, at, what)
            })
    }

    fn u16(&self, table: &'static str, at: usize) -> Result<usize, TfliteError> {
        Ok(u16::from_le_bytes(self.read(table, at)?).into())
    }

    fn u32(&self, table: &'static str, at: usize) -> Result<usize, TfliteError> {
        Ok(u32::from_le_bytes(self.read(table, at)?) as usize)
    }

    /// Where the offset at `at` points.
    fn follow(&self, table: &'static str, at: usize) -> Result<usize, TfliteError> {
        let distance = self.u32(table, at)?;
        at.checked_add(distance)
            .filter(|&to| distance > 0 && to < self.bytes.len())
            .ok_or_else(|| {
                let what = format!("expected an offset into the file, got {distance}");
                self.error(table, at, what)
            })
    }

    /// The first table.
    pub fn root(&self, name: &'static str) -> Result<Table<'a>, TfliteError> {
        let distance = self.u32(name, 0)?;
        self.table(name, distance)
    }

    fn table(&self, name: &'static str, at: usize) -> Result<Table<'a>, TfliteError> {
        let back = i64::from(i32::from_le_bytes(self.read(name, at)?));
        let Some(list) = usize::try_from(at as i64 - back)
            .ok()
            .filter(|&list| list < self.bytes.len())
        else {
            let what = format!("its field list lies {back} bytes before it, outside the file");
            return Err(self.error(name, at, what));
        };
        let (length, size) = (self.u16(name, list)?, self.u16(name, list + 2)?);
        if length < 4 {
            let what = format!("expected a field list of 4 bytes or more, got {length}");
            return Err(self.error(name, at, what));
        }
        if list + length > self.bytes.len() || at + size > self.bytes.len() {
            let what = format!(
                "its field list of {length} bytes or its own {size} end outside the file of {}",
                self.bytes.len()
            );
            return Err(self.error(name, at, what));
        }
        Ok(Table {
            bytes: *self,
            name,
            at,
            fields: list + 4..list + length,
            size,
        })
    }
}

impl<'a> Table<'a> {
    /// Where it starts.
    pub fn at(&self) -> usize {
        self.at
    }

    /// An error in this table.
    pub fn error(&self, what: String) -> TfliteError {
        self.bytes.error(self.name, self.at, what)
    }

    /// Where field `slot` of `width` bytes stands; `None` where it has its default.
    fn field(&self, slot: usize, width: usize) -> Result<Option<usize>, TfliteError> {
        let entry = self.fields.start + slot * 2;
        if entry + 2 > self.fields.end {
            return Ok(None);
        }
        match self.bytes.u16(self.name, entry)? {
            0 => Ok(None),
            inside if inside < 4 || inside + width > self.size => Err(self.error(format!(
                "field {slot} of {width} bytes at {inside} lies outside its {} bytes",
                self.size
            ))),
            inside => Ok(Some(self.at + inside)),
        }
    }

    fn value<const N: usize>(&self, slot: usize) -> Result<Option<[u8; N]>, TfliteError> {
        self.field(slot, N)?
            .map(|at| self.bytes.read(self.name, at))
            .transpose()
    }

    /// A byte.
    pub fn i8(&self, slot: usize, default: i8) -> Result<i8, TfliteError> {
        Ok(self.value(slot)?.map_or(default, i8::from_le_bytes))
    }

    /// A signed number.
    pub fn i32(&self, slot: usize, default: i32) -> Result<i32, TfliteError> {
        Ok(self.value(slot)?.map_or(default, i32::from_le_bytes))
    }

    /// An unsigned number.
    pub fn u32(&self, slot: usize, default: u32) -> Result<u32, TfliteError> {
        Ok(self.value(slot)?.map_or(default, u32::from_le_bytes))
    }

    /// A table that hangs on this one.
    pub fn table(&self, slot: usize, name: &'static str) -> Result<Option<Table<'a>>, TfliteError> {
        let Some(at) = self.field(slot, 4)? else {
            return Ok(None);
        };
        let to = self.bytes.follow(self.name, at)?;
        self.bytes.table(name, to).map(Some)
    }

    /// The bytes of a vector with elements of `width` bytes; empty where there is none.
    pub fn vector(&self, slot: usize, width: usize) -> Result<Range<usize>, TfliteError> {
        let Some(at) = self.field(slot, 4)? else {
            return Ok(0..0);
        };
        let start = self.bytes.follow(self.name, at)?;
        let length = self.bytes.u32(self.name, start)?;
        length
            .checked_mul(width)
            .and_then(|size| size.checked_add(start + 4))
            .filter(|&end| end <= self.bytes.bytes.len())
            .map(|end| start + 4..end)
            .ok_or_else(|| {
                self.error(format!(
                    "field {slot}: {length} elements of {width} bytes at {start} end outside the file of {}",
                    self.bytes.bytes.len()
                ))
            })
    }

    fn bounded(&self, slot: usize, width: usize, most: usize) -> Result<&'a [u8], TfliteError> {
        let range = self.vector(slot, width)?;
        if range.len() > most * width {
            return Err(self.error(format!(
                "field {slot}: expected {most} elements or fewer, got {}",
                range.len() / width
            )));
        }
        Ok(&self.bytes.bytes[range])
    }

    /// Signed numbers, `most` or fewer.
    pub fn i32s(&self, slot: usize, most: usize) -> Result<Vec<i32>, TfliteError> {
        let (values, _) = self.bounded(slot, 4, most)?.as_chunks::<4>();
        Ok(values.iter().map(|&v| i32::from_le_bytes(v)).collect())
    }

    /// Text of `most` bytes or fewer; what is not UTF-8 in it is replaced.
    pub fn string(&self, slot: usize, most: usize) -> Result<String, TfliteError> {
        Ok(String::from_utf8_lossy(self.bounded(slot, 1, most)?).into_owned())
    }

    /// Tables that hang on this one in a vector, `most` or fewer.
    pub fn tables(
        &self,
        slot: usize,
        name: &'static str,
        most: usize,
    ) -> Result<Vec<Table<'a>>, TfliteError> {
        self.bounded(slot, 4, most)?;
        self.vector(slot, 4)?
            .step_by(4)
            .map(|at| {
                let to = self.bytes.follow(self.name, at)?;
                self.bytes.table(name, to)
            })
            .collect()
    }
}
