//! Whether a device may run a bundle.

use core::fmt;

use super::{KeyId, PublicKey, Signature};
use crate::view::Bundle;

/// Why a device must not run a bundle that is whole. One that is not whole is a [`crate::BundleError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustError {
    /// Nobody vouches for it.
    Unsigned,
    /// Signed with a key that is not among the trusted ones.
    UnknownKey {
        /// The key that is said to have signed.
        key: KeyId,
    },
    /// The signature is not one of this key for this bundle.
    Wrong {
        /// The key that is said to have signed.
        key: KeyId,
    },
    /// An older version than this device has run.
    Older {
        /// Its counter.
        found: u64,
        /// The least that is accepted.
        least: u64,
    },
}

impl TrustError {
    /// A number that never changes its meaning, beside those of [`crate::BundleError::code`].
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Unsigned => 51,
            Self::UnknownKey { .. } => 52,
            Self::Wrong { .. } => 53,
            Self::Older { .. } => 54,
        }
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str(
                "the bundle is not signed, and only signed ones are trusted; sign it with `dynamax sign`",
            ),
            Self::UnknownKey { key } => write!(
                f,
                "the bundle is signed with key {key}, which is not trusted; sign it with a trusted key, or trust this one"
            ),
            Self::Wrong { key } => write!(
                f,
                "the bundle's signature is not one of key {key} for this bundle; it is forged or damaged: copy or sign \
                 it again"
            ),
            Self::Older { found, least } => write!(
                f,
                "the bundle is version {found}, and version {least} has run here; sign a newer one with --counter {least} \
                 or more"
            ),
        }
    }
}

impl core::error::Error for TrustError {}

/// Checks that one of `keys` signed `bundle`, and that it is no older than `least`.
///
/// Reads nothing but what [`Bundle::parse`] has read: whether sections hold what was signed, [`Bundle::verify`] says.
///
/// # Errors
///
/// Why the bundle must not be run.
pub fn check_trust(
    bundle: &Bundle<'_>,
    keys: &[PublicKey],
    least: u64,
) -> Result<Signature, TrustError> {
    let signature = *bundle.signature().ok_or(TrustError::Unsigned)?;
    let Signature { key, counter: found, .. } = signature;
    let trusted = keys.iter().find(|trusted| trusted.id() == key);
    let trusted = trusted.ok_or(TrustError::UnknownKey { key })?;
    if !trusted.verify(bundle.hash(), &signature) {
        return Err(TrustError::Wrong { key });
    }
    if found < least { Err(TrustError::Older { found, least }) } else { Ok(signature) }
}
