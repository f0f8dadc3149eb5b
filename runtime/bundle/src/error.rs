//! Why a bundle was refused.

use core::fmt;

use crate::check::ProgramError;
use crate::program::DType;
use crate::section::SectionKind;

/// Why a bundle was refused. Each says what was found, what was expected, and what to do.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the sentences below say what each field is")]
pub enum BundleError {
    /// Too short for the prelude.
    TooShort { found: u64 },
    /// Another kind of file.
    Magic,
    /// Another version of the format.
    Version { found: u32 },
    /// Bytes that must be zero are not.
    Reserved,
    /// Cut off, or with something behind the end that is not as long as a signature.
    FileLength { found: u64, expected: u64 },
    /// A header longer than the file.
    HeaderLength { found: u32, most: u64 },
    /// Prelude or header were changed.
    HeaderHash,
    /// A value of the header cannot be decoded.
    Malformed { what: &'static str, index: u16 },
    /// The header is longer than its lists.
    HeaderExcess { left: u64 },
    /// A section does not start where the one before it ended.
    SectionOffset { section: u16, found: u64, expected: u64 },
    /// The file does not end where the last section ends.
    SectionsEnd { found: u64, expected: u64 },
    /// Bytes between sections are not zero.
    Padding { offset: u64 },
    /// Two sections of a kind of which there may be one.
    SectionRepeated { section: u16, kind: SectionKind },
    /// A weight without a name.
    WeightUnnamed { section: u16 },
    /// A tensor names a section that is not there.
    NoSuchSection { tensor: u16, section: u16, sections: u16 },
    /// A tensor names a section that holds something else.
    NotAWeight { tensor: u16, section: u16, kind: SectionKind },
    /// A weight of a dtype or shape that cannot be stored.
    NoStoredForm { tensor: u16 },
    /// A section has not the size of its tensor.
    SectionLength { tensor: u16, section: u16, found: u64, expected: u64 },
    /// A number of the metadata is out of range.
    MetaRange { field: &'static str, found: u32, least: u32, most: u32 },
    /// A text of the metadata is empty.
    MetaEmpty { field: &'static str },
    /// Caches of a dtype that attention cannot read.
    MetaCache { found: DType },
    /// Metadata and Program say different things.
    MetaDisagrees { field: &'static str, meta: u32, program: u32 },
    /// The caller's storage is too small for the Program.
    Storage { what: &'static str, found: u64, expected: u64 },
    /// The Program is not sound.
    Program(ProgramError),
    /// The caller asks for a section that is not there.
    SectionIndex { index: u64, sections: u16 },
    /// A section's bytes were changed.
    SectionHash { section: u16 },
    /// More than the format can count.
    TooMany { what: &'static str, found: u64, most: u64 },
    /// Two weights of one name.
    NameRepeated { section: u16 },
    /// What follows the last section is as long as a signature, and is none.
    SignatureMagic,
}

impl BundleError {
    /// A number that never changes its meaning, for where there is no room for sentences. Those of
    /// [`ProgramError::code`] are found here at 100 and above.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::TooShort { .. } => 1,
            Self::Magic => 2,
            Self::Version { .. } => 3,
            Self::Reserved => 4,
            Self::FileLength { .. } => 5,
            Self::HeaderLength { .. } => 6,
            Self::HeaderHash => 7,
            Self::Malformed { .. } => 8,
            Self::HeaderExcess { .. } => 9,
            Self::SectionOffset { .. } => 10,
            Self::SectionsEnd { .. } => 11,
            Self::Padding { .. } => 12,
            Self::SectionRepeated { .. } => 13,
            Self::WeightUnnamed { .. } => 14,
            Self::NoSuchSection { .. } => 15,
            Self::NotAWeight { .. } => 16,
            Self::NoStoredForm { .. } => 17,
            Self::SectionLength { .. } => 18,
            Self::MetaRange { .. } => 19,
            Self::MetaEmpty { .. } => 20,
            Self::MetaCache { .. } => 21,
            Self::MetaDisagrees { .. } => 22,
            Self::Storage { .. } => 23,
            Self::SectionIndex { .. } => 24,
            Self::SectionHash { .. } => 25,
            Self::TooMany { .. } => 26,
            Self::NameRepeated { .. } => 27,
            Self::SignatureMagic => 28,
            Self::Program(error) => error.code(),
        }
    }
}

/// What to do about a file that is not as it was written.
const DAMAGED: &str = "the file is damaged: copy it again";
/// What to do about a file that was written so.
const REBUILD: &str = "build the bundle again";

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort { found } => {
                write!(f, "the file has {found} bytes, less than the 64 of a prelude; {DAMAGED}")
            }
            Self::Magic => f.write_str("the file is not a bundle; give the path of a .dmx file"),
            Self::Version { found } => {
                write!(
                    f,
                    "the bundle has format version {found}, expected {}; ",
                    crate::FORMAT_VERSION
                )?;
                f.write_str("build it again with tools of the version of this program")
            }
            Self::Reserved => write!(f, "bytes 24 to 32 are not zero; {DAMAGED}"),
            Self::FileLength { found, expected } => {
                write!(f, "the file has {found} bytes, its prelude says {expected}; {DAMAGED}")
            }
            Self::HeaderLength { found, most } => {
                write!(f, "the header is said to have {found} bytes, {most} are there; {DAMAGED}")
            }
            Self::HeaderHash => write!(f, "the header does not match its hash; {DAMAGED}"),
            Self::Malformed { what, index } => {
                write!(f, "{what} {index} of the header cannot be decoded; {REBUILD}")
            }
            Self::HeaderExcess { left } => {
                write!(f, "{left} bytes follow the last value of the header; {REBUILD}")
            }
            Self::SectionHash { section } => {
                write!(f, "section {section} does not match its hash; {DAMAGED}")
            }
            Self::Padding { offset } => {
                write!(f, "byte {offset}, between two sections, is not zero; {DAMAGED}")
            }
            Self::SignatureMagic => {
                write!(f, "what follows the last section is not a signature; {DAMAGED}")
            }
            Self::Program(error) => write!(f, "the program is not sound: {error}; {REBUILD}"),
            Self::Storage { what, found, expected } => write!(
                f,
                "there is room for {found} {what}, the program has {expected}; enlarge the storage"
            ),
            Self::SectionIndex { index, sections } => write!(
                f,
                "there is no section {index}, the bundle has {sections}; ask for one it has"
            ),
            _ => self.fmt_content(f),
        }
    }
}

impl BundleError {
    /// The errors of what a bundle says, as against how it is wrapped.
    fn fmt_content(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SectionOffset { section, found, expected } => {
                write!(f, "section {section} starts at byte {found}, expected {expected}")
            }
            Self::SectionsEnd { found, expected } => {
                write!(f, "the file has {found} bytes, its sections end at {expected}")
            }
            Self::SectionRepeated { section, kind } => {
                write!(f, "section {section} is a second {kind}, at most one is expected")
            }
            Self::WeightUnnamed { section } => {
                write!(f, "section {section} is a weight without a name")
            }
            Self::NoSuchSection { tensor, section, sections } => {
                write!(f, "tensor {tensor} lies in section {section}, there are {sections}")
            }
            Self::NotAWeight { tensor, section, kind } => {
                write!(f, "tensor {tensor} lies in section {section}, a {kind}, expected a weight")
            }
            Self::NoStoredForm { tensor } => write!(
                f,
                "tensor {tensor} is a weight without a stored form, expected fixed rows, and f32 where plain"
            ),
            Self::SectionLength { tensor, section, found, expected } => write!(
                f,
                "section {section} has {found} bytes, its tensor {tensor} takes {expected}"
            ),
            Self::MetaRange { field, found, least, most } => {
                write!(f, "metadata `{field}` is {found}, expected {least} to {most}")
            }
            Self::MetaEmpty { field } => write!(f, "metadata `{field}` is empty"),
            Self::MetaCache { found } => {
                write!(f, "metadata `kv` is {}, expected f32 or f16", found.name())
            }
            Self::MetaDisagrees { field, meta, program } => {
                write!(f, "metadata `{field}` is {meta}, the program says {program}")
            }
            Self::TooMany { what, found, most } => {
                write!(f, "there are {found} {what}, the format holds {most}")
            }
            Self::NameRepeated { section } => {
                write!(f, "section {section} has the name of a weight before it")
            }
            // The rest has its sentence in `Display`.
            _ => return Ok(()),
        }?;
        write!(f, "; {REBUILD}")
    }
}

impl core::error::Error for BundleError {}

impl From<ProgramError> for BundleError {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}
