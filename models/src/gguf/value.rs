//! The value of a key.

use std::ops::Range;

use super::cursor::Cursor;

/// Most texts or numbers of a list that are taken into memory; vocabularies have a quarter of a million.
const MOST: usize = 1 << 22;

/// A value; texts and lists stay where they lie in the file.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    Text(Range<usize>),
    List { kind: Kind, count: usize, bytes: Range<usize> },
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Flag,
    Text,
    List,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Flag,
        Self::Text,
        Self::List,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    fn read(from: &mut Cursor<'_>) -> Result<Self, String> {
        let (at, number) = (from.position(), from.word()?);
        let kind = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number));
        kind.copied().ok_or_else(|| format!("{number} at byte {at} is no type of a value"))
    }

    /// Bytes of a value, where all have the same number.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Flag => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::List => None,
        }
    }
}

impl Value {
    /// Reads a type and a value of it.
    pub(super) fn read(from: &mut Cursor<'_>) -> Result<Self, String> {
        match Kind::read(from)? {
            Kind::List => Self::read_list(from),
            kind => Self::read_one(kind, from),
        }
    }

    fn read_one(kind: Kind, from: &mut Cursor<'_>) -> Result<Self, String> {
        let at = from.position();
        Ok(match kind {
            Kind::U8 => Self::Unsigned(from.byte()?.into()),
            Kind::I8 => Self::Signed(from.byte()?.cast_signed().into()),
            Kind::U16 => Self::Unsigned(from.half_word()?.into()),
            Kind::I16 => Self::Signed(from.half_word()?.cast_signed().into()),
            Kind::U32 => Self::Unsigned(from.word()?.into()),
            Kind::I32 => Self::Signed(from.word()?.cast_signed().into()),
            Kind::U64 => Self::Unsigned(from.long()?),
            Kind::I64 => Self::Signed(from.long()?.cast_signed()),
            Kind::F32 => Self::Float(f32::from_bits(from.word()?).into()),
            Kind::F64 => Self::Float(f64::from_bits(from.long()?)),
            Kind::Flag => match from.byte()? {
                0 => Self::Flag(false),
                1 => Self::Flag(true),
                found => return Err(format!("{found} at byte {at} is neither true nor false")),
            },
            Kind::Text => Self::Text(from.text()?),
            Kind::List => return Err(format!("a list within a list at byte {at}")),
        })
    }

    fn read_list(from: &mut Cursor<'_>) -> Result<Self, String> {
        let (at, kind, count) = (from.position(), Kind::read(from)?, from.long()?);
        let start = from.position();
        match (kind, kind.size()) {
            (Kind::List, _) => return Err(format!("a list within a list at byte {at}")),
            (_, Some(size)) => {
                let len = count.checked_mul(size);
                let len = len.ok_or_else(|| format!("{count} values at byte {at}"))?;
                from.skip(len)?;
            }
            // Each takes 8 bytes at least, so that a false count soon meets the end of the file.
            (_, None) => {
                for _ in 0..count {
                    from.text()?;
                }
            }
        }
        let count = usize::try_from(count).map_err(|_| format!("{count} values at byte {at}"))?;
        Ok(Self::List { kind, count, bytes: start..from.position() })
    }

    /// The texts of a list of texts; nothing if it is something else or very long, or one is not UTF-8.
    pub(super) fn as_texts<'b>(&self, file: &'b [u8]) -> Option<Vec<&'b str>> {
        let Self::List { kind: Kind::Text, count: count @ ..=MOST, bytes } = self else {
            return None;
        };
        let bytes = file.get(bytes.clone())?;
        let mut from = Cursor::new(bytes);
        (0..*count).map(|_| std::str::from_utf8(bytes.get(from.text().ok()?)?).ok()).collect()
    }

    /// The numbers of a list of numbers; nothing if it is something else or very long.
    pub(super) fn as_numbers(&self, file: &[u8]) -> Option<Vec<f64>> {
        let Self::List { kind, count: count @ ..=MOST, bytes } = self else { return None };
        let mut from = Cursor::new(file.get(bytes.clone())?);
        (0..*count)
            .map(|_| match Self::read_one(*kind, &mut from).ok()? {
                Self::Unsigned(number) => Some(number as f64),
                Self::Signed(number) => Some(number as f64),
                Self::Float(number) => Some(number),
                _ => None,
            })
            .collect()
    }

    /// What it is, for a sentence.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Unsigned(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Text(_) => "a text".into(),
            Self::List { count, .. } => format!("a list of {count}"),
        }
    }
}
