//! The section table: what lies where behind the header.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SectionKind {
    /// One weight tensor, laid out as its [`crate::Layout`] says. The only kind that may occur more than once; its
    /// name is the path of the parameter.
    Weight,
    /// The tokenizer: `tokenizer.json`.
    Tokenizer,
    /// The chat template: Jinja source.
    ChatTemplate,
    /// What was measured to choose thresholds and quantization.
    Calibration,
    /// Where the weights come from: repository, revision, hashes and licence, as JSON.
    Provenance,
}

impl SectionKind {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Tokenizer => "tokenizer",
            Self::ChatTemplate => "chat template",
            Self::Calibration => "calibration",
            Self::Provenance => "provenance",
        }
    }

    /// One bit for each kind that may occur once only; none for weights.
    pub(crate) fn once_bit(self) -> u8 {
        match self {
            Self::Weight => 0,
            Self::Tokenizer => 1,
            Self::ChatTemplate => 2,
            Self::Calibration => 4,
            Self::Provenance => 8,
        }
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One section of a bundle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// What it holds.
    pub kind: SectionKind,
    /// For weights, the path of the parameter, such as `layers.0.mixer.in_proj.weight`; may be empty for others.
    pub name: &'a str,
    /// Where it starts in the file; a multiple of 64.
    pub offset: u64,
    /// The digest that its bytes should have.
    pub hash: Hash,
    /// Its bytes, not yet hashed: see [`crate::Bundle::verify_section`].
    pub bytes: &'a [u8],
}

impl fmt::Debug for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("offset", &self.offset)
            .field("len", &self.bytes.len())
            .field("hash", &self.hash)
            .finish()
    }
}

/// A row of the section table. Every field has a fixed length, so that the length of the header does not depend on
/// the offsets behind it, and a row is found without reading the rows before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) kind: SectionKind,
    #[serde(with = "postcard::fixint::le")]
    pub(crate) offset: u64,
    #[serde(with = "postcard::fixint::le")]
    pub(crate) len: u64,
    pub(crate) hash: Hash,
}

impl Entry {
    /// Length of a row: kind, offset, length, hash.
    pub(crate) const BYTES: usize = 1 + 8 + 8 + Hash::BYTES;
}

/// The sections of a bundle, in the order of the file. See [`crate::Bundle::sections`].
#[derive(Clone, Debug)]
pub struct Sections<'a> {
    pub(crate) file: &'a [u8],
    pub(crate) entries: &'a [u8],
    pub(crate) names: &'a [u8],
}

impl<'a> Iterator for Sections<'a> {
    type Item = Section<'a>;

    fn next(&mut self) -> Option<Section<'a>> {
        let (entry, entries) = postcard::take_from_bytes::<Entry>(self.entries).ok()?;
        let (name, names) = postcard::take_from_bytes::<&str>(self.names).ok()?;
        (self.entries, self.names) = (entries, names);
        let Entry { kind, offset, hash, .. } = entry;
        Some(Section { kind, name, offset, hash, bytes: entry.bytes(self.file)? })
    }
}

impl Entry {
    /// The section's bytes, if the file has them.
    pub(crate) fn bytes<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset).ok()?;
        let end = start.checked_add(usize::try_from(self.len).ok()?)?;
        file.get(start..end)
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_same_length_whatever_it_holds() {
        for number in [0, 1, u64::MAX] {
            let hash = Hash([255; 32]);
            let entry = Entry { kind: SectionKind::Provenance, offset: number, len: number, hash };
            let bytes = postcard::to_allocvec(&entry).unwrap();
            assert_eq!(bytes.len(), Entry::BYTES, "offset and length {number}");
        }
    }
}
