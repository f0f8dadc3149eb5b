//! The structure of a file: every count and offset is held against the bytes that are there.

use std::collections::BTreeMap;

use super::Stored;
use super::cursor::Cursor;
use super::value::Value;
use crate::checkpoint::Encoding;

/// How a file begins.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// Most keys, and most tensors: a hundred times what models have.
const MOST: u64 = 1 << 16;
/// Longest name of a key or tensor.
const LONGEST_NAME: usize = 256;
/// Most dimensions of a tensor.
const DIMENSIONS: u32 = 4;
/// Where tensors start, unless the file says otherwise.
const ALIGNMENT: u64 = 32;

type Parsed = (BTreeMap<String, Value>, BTreeMap<String, Stored>);

/// Reads keys and tensors.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let mut from = Cursor::new(bytes);
    let magic = from.magic()?;
    if magic != MAGIC {
        return Err(format!("it begins with {magic:?}, not with \"GGUF\""));
    }
    match from.word()? {
        2 | 3 => {}
        1 => return Err("version 1 is too old: convert the model again".into()),
        found if found.swap_bytes() <= 3 => return Err("it is big-endian".into()),
        found => return Err(format!("version {found} is not known here: 2 and 3 are")),
    }
    let (tensors, keys) = (from.long()?, from.long()?);
    if tensors > MOST || keys > MOST {
        return Err(format!("{tensors} tensors and {keys} keys: up to {MOST} are taken"));
    }
    let mut values = BTreeMap::new();
    for _ in 0..keys {
        let key = from.name(LONGEST_NAME)?;
        let value = Value::read(&mut from).map_err(|what| format!("{key}: {what}"))?;
        if let Some(_twice) = values.insert(key.clone(), value) {
            return Err(format!("{key} is there twice"));
        }
    }
    let alignment = alignment(values.get("general.alignment"))?;
    let mut entries = Vec::new();
    for _ in 0..tensors {
        entries.push(Entry::read(&mut from)?);
    }
    let data = (from.position() as u64).next_multiple_of(alignment);
    let mut stored = BTreeMap::new();
    for entry in entries {
        let tensor = entry.place(data, alignment, bytes.len() as u64);
        let tensor = tensor.map_err(|what| format!("{}: {what}", entry.name))?;
        if stored.insert(entry.name.clone(), tensor).is_some() {
            return Err(format!("{} is there twice", entry.name));
        }
    }
    Ok((values, stored))
}

fn alignment(value: Option<&Value>) -> Result<u64, String> {
    match value {
        None => Ok(ALIGNMENT),
        Some(&Value::Unsigned(found)) if found.is_power_of_two() && found <= 1 << 20 => Ok(found),
        Some(found) => Err(format!("general.alignment is {}, not a power of two", found.name())),
    }
}

/// What a file says of a tensor.
struct Entry {
    name: String,
    /// As the file has them: columns first.
    dimensions: Vec<u64>,
    kind: u32,
    offset: u64,
}

impl Entry {
    fn read(from: &mut Cursor<'_>) -> Result<Self, String> {
        let name = from.name(LONGEST_NAME)?;
        let count = from.word()?;
        if !(1..=DIMENSIONS).contains(&count) {
            return Err(format!("{name} has {count} dimensions, not 1 to {DIMENSIONS}"));
        }
        let dimensions = (0..count).map(|_| from.long()).collect::<Result<_, _>>()?;
        Ok(Self { name, dimensions, kind: from.word()?, offset: from.long()? })
    }

    /// Where the tensor lies in a file of `len` bytes whose tensors start at `data`.
    fn place(&self, data: u64, alignment: u64, len: u64) -> Result<Stored, String> {
        let encoding = Encoding::of_gguf(self.kind)?;
        let columns = self.dimensions.first().copied().unwrap_or(0);
        let numbers = self.dimensions.iter().try_fold(1_u64, |all, size| all.checked_mul(*size));
        let numbers = numbers.filter(|numbers| *numbers > 0);
        let numbers = numbers.ok_or_else(|| format!("dimensions {:?}", self.dimensions))?;
        if !columns.is_multiple_of(encoding.block_numbers() as u64) {
            let block = encoding.block_numbers();
            return Err(format!(
                "rows of {columns} numbers are not whole {encoding} blocks of {block}"
            ));
        }
        if !self.offset.is_multiple_of(alignment) {
            return Err(format!("offset {} is no multiple of {alignment}", self.offset));
        }
        let bytes =
            (numbers / encoding.block_numbers() as u64).checked_mul(encoding.block_bytes() as u64);
        let range = bytes.and_then(|bytes| {
            let start = data.checked_add(self.offset)?;
            Some((start, start.checked_add(bytes)?))
        });
        let Some((start, end)) = range.filter(|(_, end)| *end <= len) else {
            return Err(format!("it ends beyond the file's {len} bytes"));
        };
        let size =
            |number: u64| usize::try_from(number).map_err(|_| format!("{number} is too large"));
        let shape = self.dimensions.iter().rev().map(|number| size(*number));
        let shape = shape.collect::<Result<_, _>>()?;
        Ok(Stored { encoding, shape, bytes: size(start)?..size(end)? })
    }
}
