//! Remembers dead ends.
//!
//! What can still happen to a set of unplaced buffers depends on the lowest offset of each and on whether it was put
//! off, on nothing else: two ways to the same state, say two stacks swapped, end alike. A state is known by a 64-bit
//! hash of these; two states that share one by chance cost the search a plan it might have found, never a wrong plan.

use alloc::vec;
use alloc::vec::Vec;

const SLOTS: usize = 1 << 16;

/// A table of the hashes of states that lead nowhere; the newest entry of a slot stays.
#[derive(Debug)]
pub(super) struct Memo {
    slots: Vec<u64>,
    salt: u64,
}

impl Memo {
    pub(super) fn new() -> Self {
        Self { slots: vec![0; SLOTS], salt: 0 }
    }

    /// Forgets everything: what was impossible in one order, or at one capacity, need not be in another.
    pub(super) fn clear(&mut self) {
        self.salt = mix(self.salt.wrapping_add(0x9e37_79b9_7f4a_7c15));
    }

    /// The hash of the states of some buffers, in any order: (buffer, lowest offset, whether it was put off).
    pub(super) fn key(&self, states: impl Iterator<Item = (usize, u64, bool)>) -> u64 {
        let sum = states.fold(self.salt, |sum, (buffer, offset, is_put_off)| {
            let who = (buffer as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let state = offset.wrapping_mul(2).wrapping_add(u64::from(is_put_off));
            sum.wrapping_add(mix(who ^ state))
        });
        // Never 0, which is what an empty slot holds.
        mix(sum) | 1
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.slots[slot(key)] == key
    }

    pub(super) fn insert(&mut self, key: u64) {
        self.slots[slot(key)] = key;
    }
}

fn slot(key: u64) -> usize {
    // The lowest bit is always set.
    (key >> 1) as usize % SLOTS
}

/// The finalizer of `SplitMix64` (Steele, Lea & Flood 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
