//! Writing a bundle: lengths first, bytes as they come, hashes last.
//!
//! Weights are larger than memory, so the writer never sees them. It lays out the file from the lengths; the caller
//! streams each section to [`Writer::offset`] and hashes it on the way ([`crate::Hasher`]); [`Writer::header`] then
//! gives the bytes in front of the first section. Bytes that nobody writes must read as zero, as they do in a new file of
//! [`Writer::file_len`] bytes.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use crate::error::BundleError;
use crate::hash::Hash;
use crate::header::Lists;
use crate::meta::MetaBuf;
use crate::prelude::Prelude;
use crate::program::{Kind, Program, ProgramBuf};
use crate::section::{Entry, SectionKind};
use crate::stored::align;
use crate::view::check_program;

/// A section that will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionSpec {
    /// For weights, the path of the parameter; may be empty for others.
    pub name: String,
    /// What it holds.
    pub kind: SectionKind,
    /// Its length in bytes; for weights [`crate::Tensor::stored_bytes`].
    pub len: u64,
}

/// The layout of a bundle that will be written.
#[derive(Clone, Debug)]
pub struct Writer {
    prelude: Prelude,
    /// The header, with zeros for hashes.
    header: Vec<u8>,
    /// Where its section table starts.
    table: usize,
    entries: Vec<Entry>,
}

impl Writer {
    /// Lays out a bundle, in the order of `sections`, and checks all that a reader will check.
    ///
    /// # Errors
    ///
    /// What a reader would refuse; also more of something than the format can count, or two weights of one name.
    pub fn new(
        meta: MetaBuf,
        program: ProgramBuf,
        sections: Vec<SectionSpec>,
    ) -> Result<Self, BundleError> {
        meta.as_meta().check()?;
        check_program(&program.as_program(), &meta.as_meta())?;
        check_specs(&sections)?;
        check_weights(&program, &sections)?;
        let lists = Lists {
            sections: count("sections", sections.len())?,
            tensors: count("tensors", program.tensors.len())?,
            ops: count("operators", program.ops.len())?,
            segments: count("segments", program.segments.len())?,
            exits: count("exits", program.exits.len())?,
            logits: program.logits,
        };

        let mut header = Vec::new();
        put(&mut header, &meta.as_meta())?;
        put(&mut header, &lists)?;
        let table = header.len();
        header.resize(table.saturating_add(sections.len().saturating_mul(Entry::BYTES)), 0);
        sections.iter().try_for_each(|spec| put(&mut header, &spec.name))?;
        put_program(&mut header, &program.as_program())?;

        let most = u32::MAX.into();
        let found = header.len() as u64;
        let header_bytes = u32::try_from(header.len()).map_err(|_| BundleError::TooMany {
            what: "bytes of header",
            found,
            most,
        })?;
        let mut prelude = Prelude { header_bytes, file_bytes: 0 };
        let mut end = prelude.first_offset();
        let place = |spec: &SectionSpec| {
            let offset = end;
            end = align(end.saturating_add(spec.len));
            Entry { kind: spec.kind, offset, len: spec.len, hash: Hash::default() }
        };
        let entries: Vec<Entry> = sections.iter().map(place).collect();
        if end == u64::MAX {
            return Err(BundleError::TooMany { what: "bytes", found: end, most: end });
        }
        prelude.file_bytes = end;
        Ok(Self { prelude, header, table, entries })
    }

    /// Length of the file: a multiple of 64.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.prelude.file_bytes
    }

    /// Where section `index` starts: a multiple of 64.
    ///
    /// # Panics
    ///
    /// Panics if there is no such section.
    #[must_use]
    pub fn offset(&self, index: usize) -> u64 {
        let entry = self.entries.get(index);
        assert!(entry.is_some(), "no section {index} of {}", self.entries.len());
        entry.map_or(0, |entry| entry.offset)
    }

    /// All bytes in front of the first section: prelude, header and padding. They go to offset 0.
    ///
    /// # Panics
    ///
    /// Panics unless there is one hash for each section.
    #[must_use]
    pub fn header(&self, hashes: &[Hash]) -> Vec<u8> {
        assert_eq!(hashes.len(), self.entries.len(), "one hash for each section");
        let mut header = self.header.clone();
        let rows = header.get_mut(self.table..).unwrap_or_default().chunks_exact_mut(Entry::BYTES);
        for ((row, entry), &hash) in rows.zip(&self.entries).zip(hashes) {
            let written = postcard::to_slice(&Entry { hash, ..*entry }, row);
            debug_assert!(written.is_ok(), "a row has a fixed length");
        }
        let mut bytes = Vec::from(self.prelude.emit(&header));
        bytes.extend(header);
        bytes.resize(self.prelude.first_offset() as usize, 0);
        bytes
    }

    /// The whole file, for bundles that fit in memory.
    ///
    /// # Panics
    ///
    /// Panics unless there are the promised bytes for each section.
    #[must_use]
    pub fn assemble(&self, sections: &[&[u8]]) -> Vec<u8> {
        let hashes: Vec<Hash> = sections.iter().map(|section| Hash::of(section)).collect();
        let mut bytes = self.header(&hashes);
        for (index, (section, entry)) in sections.iter().zip(&self.entries).enumerate() {
            assert_eq!(section.len() as u64, entry.len, "length of section {index}");
            bytes.resize(entry.offset as usize, 0);
            bytes.extend_from_slice(section);
        }
        bytes.resize(self.prelude.file_bytes as usize, 0);
        bytes
    }
}

/// Names and kinds are what a reader accepts, and weights have names of their own.
fn check_specs(sections: &[SectionSpec]) -> Result<(), BundleError> {
    count("sections", sections.len())?;
    let mut names = BTreeSet::new();
    let mut seen = 0;
    for (section, spec) in (0_u16..).zip(sections) {
        if spec.kind == SectionKind::Weight {
            if spec.name.is_empty() {
                return Err(BundleError::WeightUnnamed { section });
            }
            if !names.insert(spec.name.as_str()) {
                return Err(BundleError::NameRepeated { section });
            }
        }
        if seen & spec.kind.once_bit() != 0 {
            return Err(BundleError::SectionRepeated { section, kind: spec.kind });
        }
        seen |= spec.kind.once_bit();
    }
    Ok(())
}

/// Every weight has a section of its size.
fn check_weights(program: &ProgramBuf, specs: &[SectionSpec]) -> Result<(), BundleError> {
    let sections = count("sections", specs.len())?;
    for (tensor, entry) in (0_u16..).zip(&program.tensors) {
        let Kind::Weight { section, .. } = entry.kind else { continue };
        let expected = entry.stored_bytes().ok_or(BundleError::NoStoredForm { tensor })?;
        let spec = specs.get(usize::from(section));
        let spec = spec.ok_or(BundleError::NoSuchSection { tensor, section, sections })?;
        if spec.kind != SectionKind::Weight {
            return Err(BundleError::NotAWeight { tensor, section, kind: spec.kind });
        }
        if spec.len != expected {
            let found = spec.len;
            return Err(BundleError::SectionLength { tensor, section, found, expected });
        }
    }
    Ok(())
}

fn put_program(header: &mut Vec<u8>, program: &Program<'_>) -> Result<(), BundleError> {
    program.tensors.iter().try_for_each(|tensor| put(header, tensor))?;
    program.ops.iter().try_for_each(|op| put(header, op))?;
    program.segments.iter().try_for_each(|segment| put(header, segment))?;
    program.exits.iter().try_for_each(|exit| put(header, exit))
}

/// Appends one value.
fn put<T: Serialize + ?Sized>(header: &mut Vec<u8>, value: &T) -> Result<(), BundleError> {
    let bytes = postcard::to_allocvec(value);
    header.extend(bytes.map_err(|_| BundleError::Malformed { what: "value", index: 0 })?);
    Ok(())
}

fn count(what: &'static str, found: usize) -> Result<u16, BundleError> {
    let most = u64::from(u16::MAX);
    u16::try_from(found).map_err(|_| BundleError::TooMany { what, found: found as u64, most })
}
