//! The checked view of a bundle: holding a [`Bundle`] proves its structure.

use crate::calibration::Calibration;
use crate::check;
use crate::error::BundleError;
use crate::hash::Hash;
use crate::header::{Counts, Header, take};
use crate::meta::Meta;
use crate::prelude::Prelude;
#[cfg(feature = "alloc")]
use crate::program::ProgramBuf;
use crate::program::{DType, Exit, Kind, Op, Program, Rows, Segment, Tensor};
use crate::section::{SectionKind, Sections};
use crate::signature::Signature;
use crate::stored::align;

/// A bundle, borrowed from the bytes of its file.
///
/// Holding one proves: the prelude is right and the header has its hash; sections lie one behind the other, each at a
/// multiple of 64 bytes, with zeros between, up to the last byte of the file or its signature; every weight of the tensor table has a
/// section of its size; the metadata is in range.
///
/// It does not prove that the Program is sound, which [`Bundle::read_program`] checks, nor that the sections hold
/// what was written, which [`Bundle::verify`] checks.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    file: &'a [u8],
    header: Header<'a>,
    hash: Hash,
    signature: Option<Signature>,
}

impl<'a> Bundle<'a> {
    /// Checks the structure of a bundle. Reads the header and the padding, and no section.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in the order of the file.
    pub fn parse(file: &'a [u8]) -> Result<Self, BundleError> {
        let (prelude, bytes, trailer) = Prelude::parse(file)?;
        let signature = trailer.map(Signature::parse).transpose()?;
        let header = Header::parse(bytes)?;
        header.meta.check()?;
        let bundle = Self { file, hash: prelude.hash(bytes), header, signature };
        bundle.check_sections(prelude, bytes.len())?;
        bundle.check_tensors()?;
        Ok(bundle)
    }

    /// What it says about its model.
    #[must_use]
    pub fn meta(&self) -> &Meta<'a> {
        &self.header.meta
    }

    /// The hash of prelude and header, which stands for the whole file.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Who vouches for it. That is a claim until a [`PublicKey`](crate::PublicKey) has verified it.
    #[must_use]
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// How long its lists are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.header.counts()
    }

    /// The sections, in the order of the file.
    #[must_use]
    pub fn sections(&self) -> Sections<'a> {
        let Header { entries, names, .. } = self.header;
        Sections { file: self.file, entries, names }
    }

    /// The bytes of section `index`, in constant time. [`Kind::Weight`] has the index of its section.
    ///
    /// They start at a multiple of 64 bytes from the start of the file. An index that is out of range, which no
    /// checked Program holds, gives no bytes.
    #[must_use]
    pub fn section(&self, index: usize) -> &'a [u8] {
        self.header.entry(index).and_then(|entry| entry.bytes(self.file)).unwrap_or(&[])
    }

    /// The first section of a kind.
    #[must_use]
    pub fn find(&self, kind: SectionKind) -> Option<&'a [u8]> {
        self.sections().find(|section| section.kind == kind).map(|section| section.bytes)
    }

    /// What was measured about exits, if anything was.
    ///
    /// # Errors
    ///
    /// A calibration section that is malformed.
    pub fn calibration(&self) -> Result<Option<Calibration<'a>>, BundleError> {
        self.find(SectionKind::Calibration).map(Calibration::parse).transpose()
    }

    /// The digest that section `index` should have.
    pub(crate) fn expected_hash(&self, index: usize) -> Result<Hash, BundleError> {
        let sections = self.header.lists.sections;
        let entry = self.header.entry(index);
        let missing = BundleError::SectionIndex { index: index as u64, sections };
        entry.map(|entry| entry.hash).ok_or(missing)
    }

    /// Decodes the Program into the caller's storage, and checks it ([`check::program`]) and that it agrees with the
    /// metadata.
    ///
    /// # Errors
    ///
    /// [`BundleError::Storage`] if the storage is smaller than [`Bundle::counts`]; otherwise why the Program is not
    /// sound.
    pub fn read_program<'s>(
        &self,
        tensors: &'s mut [Tensor],
        ops: &'s mut [Op],
        segments: &'s mut [Segment],
        exits: &'s mut [Exit],
    ) -> Result<Program<'s>, BundleError> {
        let counts = self.counts();
        let tensors = prefix(tensors, "tensors", counts.tensors)?;
        let ops = prefix(ops, "operators", counts.ops)?;
        let segments = prefix(segments, "segments", counts.segments)?;
        let exits = prefix(exits, "exits", counts.exits)?;
        fill(self.header.tensors, "tensor", tensors)?;
        fill(self.header.ops, "operator", ops)?;
        fill(self.header.segments, "segment", segments)?;
        fill(self.header.exits, "exit", exits)?;
        let program = Program { tensors, ops, segments, exits, logits: self.header.lists.logits };
        check_program(&program, self.meta())?;
        Ok(program)
    }

    /// As [`Bundle::read_program`], into new storage.
    ///
    /// # Errors
    ///
    /// Why the Program is not sound.
    #[cfg(feature = "alloc")]
    pub fn program_buf(&self) -> Result<ProgramBuf, BundleError> {
        let counts = self.counts();
        let mut tensors = alloc::vec![Tensor::EMPTY; counts.tensors];
        let mut ops = alloc::vec![Op::EMPTY; counts.ops];
        let mut segments = alloc::vec![Segment::EMPTY; counts.segments];
        let mut exits = alloc::vec![Exit::EMPTY; counts.exits];
        let logits = self.read_program(&mut tensors, &mut ops, &mut segments, &mut exits)?.logits;
        Ok(ProgramBuf { tensors, ops, segments, exits, logits })
    }

    /// Sections follow each other without gap or overlap, up to the end of the file.
    fn check_sections(&self, prelude: Prelude, header_bytes: usize) -> Result<(), BundleError> {
        let mut end = (header_bytes as u64).saturating_add(crate::PRELUDE_BYTES as u64);
        let mut names = self.header.names;
        let mut seen = 0;
        for section in 0..self.header.lists.sections {
            let entry = self.header.entry(section.into());
            let entry = entry.ok_or(BundleError::Malformed { what: "section", index: section })?;
            let expected = align(end);
            if entry.offset != expected {
                let found = entry.offset;
                return Err(BundleError::SectionOffset { section, found, expected });
            }
            self.check_zero(end, expected)?;
            end = expected.saturating_add(entry.len);
            let name: &str = take(&mut names, "section name", section)?;
            if entry.kind == SectionKind::Weight && name.is_empty() {
                return Err(BundleError::WeightUnnamed { section });
            }
            if seen & entry.kind.once_bit() != 0 {
                return Err(BundleError::SectionRepeated { section, kind: entry.kind });
            }
            seen |= entry.kind.once_bit();
        }
        if align(end) != prelude.file_bytes {
            let (found, expected) = (prelude.file_bytes, align(end));
            return Err(BundleError::SectionsEnd { found, expected });
        }
        self.check_zero(end, prelude.file_bytes)
    }

    /// At most 63 bytes from `start` to `end`, where they are in the file, are zero.
    fn check_zero(&self, start: u64, end: u64) -> Result<(), BundleError> {
        for offset in start..end {
            let byte = usize::try_from(offset).ok().and_then(|at| self.file.get(at));
            if byte.is_some_and(|&byte| byte != 0) {
                return Err(BundleError::Padding { offset });
            }
        }
        Ok(())
    }

    /// Every weight of the tensor table has a section of its size.
    fn check_tensors(&self) -> Result<(), BundleError> {
        let sections = self.header.lists.sections;
        let mut rest = self.header.tensors;
        for tensor in 0..self.header.lists.tensors {
            let entry: Tensor = take(&mut rest, "tensor", tensor)?;
            let Kind::Weight { section, .. } = entry.kind else { continue };
            let expected = entry.stored_bytes().ok_or(BundleError::NoStoredForm { tensor })?;
            let stored = self.header.entry(section.into());
            let stored = stored.ok_or(BundleError::NoSuchSection { tensor, section, sections })?;
            if stored.kind != SectionKind::Weight {
                return Err(BundleError::NotAWeight { tensor, section, kind: stored.kind });
            }
            if stored.len != expected {
                let found = stored.len;
                return Err(BundleError::SectionLength { tensor, section, found, expected });
            }
        }
        Ok(())
    }
}

/// The Program is sound, and the metadata says the same about it.
pub(crate) fn check_program(program: &Program<'_>, meta: &Meta<'_>) -> Result<(), BundleError> {
    check::program(program)?;
    let agrees = |field, meta, program| match meta == program {
        true => Ok(()),
        false => Err(BundleError::MetaDisagrees { field, meta, program }),
    };
    let width = |id| check::width(program, id);
    for segment in program.segments {
        agrees("d_model", meta.d_model, width(segment.residual))?;
    }
    agrees("vocab_size", meta.vocab_size, width(program.logits))?;
    let layers = program.segments.last().map_or(0, |segment| segment.layers);
    agrees("n_layers", meta.n_layers, layers.into())?;

    let caches = program.tensors.iter().filter(|tensor| matches!(tensor.rows, Rows::Cache { .. }));
    for cache in caches {
        agrees("kv", bits(meta.kv), bits(cache.dtype))?;
    }
    let positional = program.ops.iter().any(|op| matches!(op, Op::RopeAngles { .. }))
        || program.tensors.iter().any(|tensor| matches!(tensor.rows, Rows::Cache { .. }));
    // Positions become f32, which holds every whole number up to this one.
    if positional && meta.context_max > check::MAX_POSITIONS {
        let (found, most) = (meta.context_max, check::MAX_POSITIONS);
        return Err(BundleError::MetaRange { field: "context_max", found, least: 1, most });
    }
    Ok(())
}

/// Bits of a cached number, of the two dtypes that a cache may have.
fn bits(dtype: DType) -> u32 {
    if dtype == DType::F16 { 16 } else { 32 }
}

/// The first `expected` places of the caller's storage.
fn prefix<'s, T>(
    storage: &'s mut [T],
    what: &'static str,
    expected: usize,
) -> Result<&'s mut [T], BundleError> {
    let found = storage.len() as u64;
    let expected_u64 = expected as u64;
    storage.get_mut(..expected).ok_or(BundleError::Storage { what, found, expected: expected_u64 })
}

/// Decodes one value for each place of `list`.
fn fill<'a, T: serde::Deserialize<'a>>(
    mut bytes: &'a [u8],
    what: &'static str,
    list: &mut [T],
) -> Result<(), BundleError> {
    for (index, place) in (0_u16..).zip(list) {
        *place = take(&mut bytes, what, index)?;
    }
    Ok(())
}
