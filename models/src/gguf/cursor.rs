//! Reads little-endian numbers and texts from bytes that may end anywhere.

use std::ops::Range;

/// A position in a file.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Passes over some bytes.
    pub(super) fn skip(&mut self, len: u64) -> Result<Range<usize>, String> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let end = end.filter(|end| *end <= self.bytes.len()).ok_or_else(|| {
            let left = self.bytes.len() - self.at;
            format!("{len} bytes are needed at byte {}, and {left} are left", self.at)
        })?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let range = self.skip(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    pub(super) fn magic(&mut self) -> Result<[u8; 4], String> {
        self.array()
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn half_word(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn word(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn long(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length and as many bytes.
    pub(super) fn text(&mut self) -> Result<Range<usize>, String> {
        let len = self.long()?;
        self.skip(len)
    }

    /// A text that names something: short, and UTF-8.
    pub(super) fn name(&mut self, longest: usize) -> Result<String, String> {
        let start = self.at;
        let range = self.text()?;
        if range.is_empty() || range.len() > longest {
            let len = range.len();
            return Err(format!("the name at byte {start} has {len} bytes, not 1 to {longest}"));
        }
        let name = std::str::from_utf8(&self.bytes[range])
            .map_err(|_| format!("the name at byte {start} is not UTF-8"))?;
        Ok(name.into())
    }
}
