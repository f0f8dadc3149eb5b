//! The signature behind the last section: who vouches for a bundle, and which version of it this is.
//!
//! ```text
//!  0  8  magic
//!  8  8  counter: goes up with every release, so that a device can refuse to go back
//! 16 16  key id: the first half of the BLAKE3-256 of the public key
//! 32 64  ed25519 signature of the 80 bytes below
//! ```
//!
//! Signed are a name for the purpose (16 bytes), the trailer's first 32 bytes, and the hash in the prelude, which
//! stands for the whole file. So signing changes no byte in front of the trailer, and any other byte in it makes the
//! signature wrong.

#[cfg(feature = "signature")]
mod keys;
#[cfg(feature = "signature")]
mod trust;

use core::fmt;

#[cfg(feature = "signature")]
pub use keys::{PublicKey, SecretKey};
#[cfg(feature = "signature")]
pub use trust::{TrustError, check_trust};

use crate::error::BundleError;
#[cfg(feature = "signature")]
use crate::hash::Hash;

/// Length of the trailer.
pub const SIGNATURE_BYTES: usize = 96;
/// What the trailer starts with.
pub const SIGNATURE_MAGIC: [u8; 8] = *b"DMX-SIG\x01";
/// Bytes of the trailer that are signed.
const SIGNED_FIELDS_BYTES: usize = 32;
/// What is signed is this kind of thing, and no other that the same key may sign.
#[cfg(feature = "signature")]
const PURPOSE: [u8; 16] = *b"dynamax bundle 1";

/// Which key: shown as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A signature as it is stored. Holding one proves nothing: see [`PublicKey::verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The version of the bundle.
    pub counter: u64,
    /// The key that is said to have signed.
    pub key: KeyId,
    /// ed25519.
    pub bytes: [u8; 64],
}

impl Signature {
    /// Reads the trailer.
    pub(crate) fn parse(trailer: &[u8; SIGNATURE_BYTES]) -> Result<Self, BundleError> {
        let mut rest = trailer.as_slice();
        if take::<8>(&mut rest) != SIGNATURE_MAGIC {
            return Err(BundleError::SignatureMagic);
        }
        Ok(Self {
            counter: u64::from_le_bytes(take(&mut rest)),
            key: KeyId(take(&mut rest)),
            bytes: take(&mut rest),
        })
    }

    /// The trailer.
    #[must_use]
    pub fn emit(&self) -> [u8; SIGNATURE_BYTES] {
        let mut trailer = [0; SIGNATURE_BYTES];
        let fields = signed_fields(self.counter, self.key);
        let parts = fields.into_iter().chain(self.bytes);
        trailer.iter_mut().zip(parts).for_each(|(to, byte)| *to = byte);
        trailer
    }

    /// What is signed.
    #[cfg(feature = "signature")]
    fn message(counter: u64, key: KeyId, root: Hash) -> [u8; 80] {
        let mut message = [0; 80];
        let parts = PURPOSE.into_iter().chain(signed_fields(counter, key)).chain(root.0);
        message.iter_mut().zip(parts).for_each(|(to, byte)| *to = byte);
        message
    }
}

/// The bytes of the trailer in front of the signature.
fn signed_fields(counter: u64, key: KeyId) -> [u8; SIGNED_FIELDS_BYTES] {
    let mut fields = [0; SIGNED_FIELDS_BYTES];
    let parts = SIGNATURE_MAGIC.into_iter().chain(counter.to_le_bytes()).chain(key.0);
    fields.iter_mut().zip(parts).for_each(|(to, byte)| *to = byte);
    fields
}

/// Takes `N` bytes off the front; zeros where there are none, which the fixed length of the trailer rules out.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (front, rest) = bytes.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
    *bytes = rest;
    *front
}
