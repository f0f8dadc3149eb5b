//! Small models, one of which has every operator, for tests that span the runtime's crates.
//!
//! It needs neither Burn nor files, so that it also runs where only the runtime does: in emulation, on a board.

mod budget;
mod conformance;
mod hybrid;
mod random;
mod ways;

pub use conformance::each_operator;
pub use hybrid::{Architecture, Hybrid, VOCAB_SIZE, WINDOW, flat, hybrid, pure};
pub use random::Random;
pub use ways::{Asked, Trace, Way};

/// FNV-1a over the bits of numbers: one number that changes if any bit does.
#[must_use]
pub fn hash_bits(numbers: impl IntoIterator<Item = f32>) -> u64 {
    numbers.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, number| {
        number
            .to_bits()
            .to_le_bytes()
            .iter()
            .fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    })
}
