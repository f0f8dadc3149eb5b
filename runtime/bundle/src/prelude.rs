//! The first 64 bytes, the only ones at a fixed place.
//!
//! ```text
//!  0  8  magic
//!  8  4  format version
//! 12  4  header bytes
//! 16  8  file bytes, without a signature
//! 24  8  zero
//! 32 32  BLAKE3-256 of bytes 0..32, then of the header
//! ```
//!
//! The hash is the root of trust: the header holds the hash of every section, so it stands for the whole file, and
//! is what a signature signs.

use crate::error::BundleError;
use crate::hash::{Hash, Hasher};
use crate::signature::SIGNATURE_BYTES;
#[cfg(feature = "alloc")]
use crate::stored::align;

/// What every bundle starts with: a byte that is no text, the name, and line ends that a transfer as text would
/// change.
pub const MAGIC: [u8; 8] = *b"\x89DMX\r\n\x1a\n";
/// The only version that this crate reads and writes.
pub const FORMAT_VERSION: u32 = 2;
/// Length of the prelude; the header follows.
pub const PRELUDE_BYTES: usize = 64;

/// The prelude's numbers. Magic, version and hash are checked on the way in, written on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prelude {
    pub(crate) header_bytes: u32,
    pub(crate) file_bytes: u64,
}

/// Prelude, header, trailer.
type Parsed<'a> = (Prelude, &'a [u8], Option<&'a [u8; SIGNATURE_BYTES]>);

impl Prelude {
    /// Reads the prelude, checks the lengths against the file and the hash against the header, and returns the
    /// header and the trailer, if there is one.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, BundleError> {
        let Some((fields, after)) = bytes.split_first_chunk::<PRELUDE_BYTES>() else {
            // What is not a bundle at all is more useful to hear than that it is short.
            return Err(match bytes.starts_with(&MAGIC) || MAGIC.starts_with(bytes) {
                true => BundleError::TooShort { found: bytes.len() as u64 },
                false => BundleError::Magic,
            });
        };
        let mut rest = fields.as_slice();
        if take::<8>(&mut rest) != MAGIC {
            return Err(BundleError::Magic);
        }
        let version = u32::from_le_bytes(take(&mut rest));
        if version != FORMAT_VERSION {
            return Err(BundleError::Version { found: version });
        }
        let header_bytes = u32::from_le_bytes(take(&mut rest));
        let file_bytes = u64::from_le_bytes(take(&mut rest));
        if take::<8>(&mut rest) != [0; 8] {
            return Err(BundleError::Reserved);
        }
        let (found, expected) = (bytes.len() as u64, file_bytes);
        let length = BundleError::FileLength { found, expected };
        let behind = usize::try_from(file_bytes).ok().and_then(|len| bytes.get(len..));
        let behind = behind.ok_or(length)?;
        let trailer = match behind {
            [] => None,
            _ => Some(<&[u8; SIGNATURE_BYTES]>::try_from(behind).map_err(|_| length)?),
        };
        let most = file_bytes.saturating_sub(PRELUDE_BYTES as u64);
        let header = usize::try_from(header_bytes)
            .ok()
            .filter(|_| u64::from(header_bytes) <= most)
            .and_then(|len| after.get(..len))
            .ok_or(BundleError::HeaderLength { found: header_bytes, most })?;
        let prelude = Self { header_bytes, file_bytes };
        if prelude.hash(header) != Hash(take(&mut rest)) {
            return Err(BundleError::HeaderHash);
        }
        Ok((prelude, header, trailer))
    }

    /// Bytes 0 to 32.
    fn fields(self) -> [u8; 32] {
        let mut fields = [0; 32];
        let parts = MAGIC
            .into_iter()
            .chain(FORMAT_VERSION.to_le_bytes())
            .chain(self.header_bytes.to_le_bytes())
            .chain(self.file_bytes.to_le_bytes());
        fields.iter_mut().zip(parts).for_each(|(field, byte)| *field = byte);
        fields
    }

    /// The hash that stands for the whole file.
    pub(crate) fn hash(self, header: &[u8]) -> Hash {
        let mut hasher = Hasher::new();
        hasher.update(&self.fields());
        hasher.update(header);
        hasher.finish()
    }

    /// The 64 bytes in front of `header`.
    #[cfg(feature = "alloc")]
    pub(crate) fn emit(self, header: &[u8]) -> [u8; PRELUDE_BYTES] {
        let mut bytes = [0; PRELUDE_BYTES];
        let parts = self.fields().into_iter().chain(self.hash(header).0);
        bytes.iter_mut().zip(parts).for_each(|(field, byte)| *field = byte);
        bytes
    }

    /// Where the first section starts.
    #[cfg(feature = "alloc")]
    pub(crate) fn first_offset(self) -> u64 {
        align(u64::from(self.header_bytes).saturating_add(PRELUDE_BYTES as u64))
    }
}

/// Takes `N` bytes off the front; zeros where there are none, which the fixed length of the prelude rules out.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (front, rest) = bytes.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
    *bytes = rest;
    *front
}
