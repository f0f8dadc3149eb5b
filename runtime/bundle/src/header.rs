//! The header: metadata, the section table and the Program, as postcard values one after the other.
//!
//! ```text
//! Meta  Lists { sections, tensors, ops, segments, exits, logits }
//! Entry × sections   name × sections   Tensor × tensors   Op × ops   Segment × segments   Exit × exits
//! ```
//!
//! It is walked once when a bundle is opened, and each list is remembered as the bytes it takes.

use serde::{Deserialize, Serialize};

use crate::error::BundleError;
use crate::meta::Meta;
use crate::program::{Exit, Op, Segment, Tensor, TensorId};
use crate::section::Entry;

/// How long the lists of a bundle are: what storage must hold to read its Program into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sections behind the header.
    pub sections: usize,
    /// Entries of the tensor table.
    pub tensors: usize,
    /// Operators.
    pub ops: usize,
    /// Segments.
    pub segments: usize,
    /// Exits.
    pub exits: usize,
}

/// What stands in front of the lists.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Lists {
    pub(crate) sections: u16,
    pub(crate) tensors: u16,
    pub(crate) ops: u16,
    pub(crate) segments: u16,
    pub(crate) exits: u16,
    pub(crate) logits: TensorId,
}

/// A header whose every value is known to decode.
#[derive(Clone, Debug)]
pub(crate) struct Header<'a> {
    pub(crate) meta: Meta<'a>,
    pub(crate) lists: Lists,
    pub(crate) entries: &'a [u8],
    pub(crate) names: &'a [u8],
    pub(crate) tensors: &'a [u8],
    pub(crate) ops: &'a [u8],
    pub(crate) segments: &'a [u8],
    pub(crate) exits: &'a [u8],
}

impl<'a> Header<'a> {
    /// Walks over all of `bytes`, which must hold the lists and nothing else.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let mut rest = bytes;
        let meta: Meta<'a> = take(&mut rest, "metadata", 0)?;
        let lists: Lists = take(&mut rest, "list lengths", 0)?;
        let header = Self {
            meta,
            lists,
            entries: skip::<Entry>(&mut rest, "section", lists.sections)?,
            names: skip::<&str>(&mut rest, "section name", lists.sections)?,
            tensors: skip::<Tensor>(&mut rest, "tensor", lists.tensors)?,
            ops: skip::<Op>(&mut rest, "operator", lists.ops)?,
            segments: skip::<Segment>(&mut rest, "segment", lists.segments)?,
            exits: skip::<Exit>(&mut rest, "exit", lists.exits)?,
        };
        match rest.len() {
            0 => Ok(header),
            left => Err(BundleError::HeaderExcess { left: left as u64 }),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            sections: self.lists.sections.into(),
            tensors: self.lists.tensors.into(),
            ops: self.lists.ops.into(),
            segments: self.lists.segments.into(),
            exits: self.lists.exits.into(),
        }
    }

    /// Row `index` of the section table.
    pub(crate) fn entry(&self, index: usize) -> Option<Entry> {
        let row = self.entries.get(index.checked_mul(Entry::BYTES)?..)?;
        postcard::from_bytes(row.get(..Entry::BYTES)?).ok()
    }
}

/// Decodes one value from the front of `rest`.
pub(crate) fn take<'a, T: Deserialize<'a>>(
    rest: &mut &'a [u8],
    what: &'static str,
    index: u16,
) -> Result<T, BundleError> {
    let (value, behind) =
        postcard::take_from_bytes(rest).map_err(|_| BundleError::Malformed { what, index })?;
    *rest = behind;
    Ok(value)
}

/// Takes `count` values off the front of `rest`, and returns the bytes that they were.
fn skip<'a, T: Deserialize<'a>>(
    rest: &mut &'a [u8],
    what: &'static str,
    count: u16,
) -> Result<&'a [u8], BundleError> {
    let all = *rest;
    (0..count).try_for_each(|index| take::<T>(rest, what, index).map(drop))?;
    let taken = all.len().saturating_sub(rest.len());
    Ok(all.get(..taken).unwrap_or(all))
}
