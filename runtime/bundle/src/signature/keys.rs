//! ed25519 keys.

use core::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use super::{KeyId, Signature};
use crate::hash::Hash;

/// A key that checks signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key of these bytes; none if they are no point of the curve, or one that vouches for anything.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// What signatures call it.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let Hash(hash) = Hash::of(self.0.as_bytes());
        let mut id = [0; 16];
        id.iter_mut().zip(hash).for_each(|(to, byte)| *to = byte);
        KeyId(id)
    }

    /// True if this key made `signature` for the bundle whose prelude has the hash `root`.
    #[must_use]
    pub fn verify(&self, root: Hash, signature: &Signature) -> bool {
        let message = Signature::message(signature.counter, signature.key, root);
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        signature.key == self.id() && self.0.verify_strict(&message, &bytes).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// A key that signs. It is cleared from memory when it is dropped, and never shown.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of these bytes, which must come from a source of randomness that nobody can guess.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs version `counter` of the bundle whose prelude has the hash `root`.
    #[must_use]
    pub fn sign(&self, root: Hash, counter: u64) -> Signature {
        let key = self.public().id();
        let bytes = self.0.sign(&Signature::message(counter, key, root)).to_bytes();
        Signature { counter, key, bytes }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().id())
    }
}
