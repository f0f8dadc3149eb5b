//! BLAKE3-256, wrapped so that who writes a bundle need not depend on the hash crate.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A BLAKE3-256 digest. Shown as 64 hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hash(pub [u8; Self::BYTES]);

impl Hash {
    /// Length of a digest.
    pub const BYTES: usize = 32;

    /// The digest that these 64 hex digits show; `None` if they are none.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let mut hash = Self::default();
        if pairs.len() != Self::BYTES || !rest.is_empty() {
            return None;
        }
        for (byte, &[high, low]) in hash.0.iter_mut().zip(pairs) {
            *byte = u8::try_from((digit(high)? << 4) | digit(low)?).ok()?;
        }
        Some(hash)
    }

    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Hashes what comes in pieces: a section on its way to the disk.
#[derive(Clone, Debug, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Starts an empty hash.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything so far.
    #[must_use]
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_in_pieces_equals_the_hash_of_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"dyna");
        hasher.update(b"max");
        assert_eq!(hasher.finish(), Hash::of(b"dynamax"), "two pieces");
    }

    #[test]
    fn hex_digits_are_read_back() {
        let hash = Hash::of(b"dynamax");
        assert_eq!(Hash::from_hex(&std::format!("{hash}")), Some(hash), "as shown");
        assert_eq!(Hash::from_hex(&"0".repeat(63)), None, "one digit short");
        assert_eq!(Hash::from_hex(&"g".repeat(64)), None, "no digits");
    }

    #[test]
    fn the_empty_hash_is_the_one_blake3_publishes() {
        let empty = Hasher::new().finish();
        let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(std::format!("{empty}"), expected, "from the BLAKE3 test vectors");
    }
}
