//! Sixteen numbers side by side, and the one order in which numbers are summed.
//!
//! Plain Rust over an array: each operation is a loop without branches, which the compiler turns into the vector
//! instructions of the [`Isa`](crate::Isa) that the body is compiled for. The loops say what each number becomes, so the
//! width of the registers cannot change a bit.

pub(crate) mod cached;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "F16C intrinsics")]
pub(crate) mod f16c;
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "NEON intrinsics")]
pub(crate) mod neon_half;
pub(crate) mod wide;

use crate::fma::fma;
use crate::view::LANES;

/// Sixteen numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

impl Lanes {
    /// Sixteen times +0.
    pub(crate) const ZERO: Self = Self([0.0; LANES]);

    /// The first sixteen numbers of `from`.
    #[inline(always)]
    pub(crate) fn load(from: &[f32]) -> Self {
        let mut lanes = [0.0; LANES];
        lanes.copy_from_slice(&from[..LANES]);
        Self(lanes)
    }

    /// All of `from`, at most sixteen numbers, then +0.
    #[inline(always)]
    pub(crate) fn load_part(from: &[f32]) -> Self {
        let mut lanes = [0.0; LANES];
        lanes[..from.len()].copy_from_slice(from);
        Self(lanes)
    }

    /// Writes the first sixteen numbers of `to`.
    #[inline(always)]
    pub(crate) fn store(self, to: &mut [f32]) {
        to[..LANES].copy_from_slice(&self.0);
    }

    /// Writes all of `to`, at most sixteen numbers.
    #[inline(always)]
    pub(crate) fn store_part(self, to: &mut [f32]) {
        to.copy_from_slice(&self.0[..to.len()]);
    }

    /// `self · by`.
    #[inline(always)]
    pub(crate) fn scale(self, by: f32) -> Self {
        let mut out = self.0;
        for lane in &mut out {
            *lane *= by;
        }
        Self(out)
    }

    /// `self · b + c`, rounded once.
    #[inline(always)]
    pub(crate) fn fma(self, b: Self, c: Self) -> Self {
        let mut out = [0.0; LANES];
        for j in 0..LANES {
            out[j] = fma(self.0[j], b.0[j], c.0[j]);
        }
        Self(out)
    }

    /// `by · self + c`, rounded once.
    #[inline(always)]
    pub(crate) fn scale_add(self, by: f32, c: Self) -> Self {
        let mut out = [0.0; LANES];
        for j in 0..LANES {
            out[j] = fma(by, self.0[j], c.0[j]);
        }
        Self(out)
    }

    /// The sum of the lanes, as a tree: lane `j` takes up `j + 8`, then `j + 4`, `j + 2`, `j + 1`.
    #[inline(always)]
    pub(crate) fn sum(self) -> f32 {
        let x = self.0;
        let mut eight = [0.0; 8];
        for j in 0..8 {
            eight[j] = x[j] + x[j + 8];
        }
        let mut four = [0.0; 4];
        for j in 0..4 {
            four[j] = eight[j] + eight[j + 4];
        }
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

/// `Σ x²` in the canonical order: lane `j` sums the elements `i ≡ j (mod 16)` from +0 by fused multiply-adds, then the
/// lanes are [summed](Lanes::sum). Lanes without a last element take up +0.
#[inline(always)]
pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
    let (blocks, tail) = x.as_chunks::<LANES>();
    let mut acc = Lanes::ZERO;
    for block in blocks {
        acc = Lanes(*block).fma(Lanes(*block), acc);
    }
    if !tail.is_empty() {
        let block = Lanes::load_part(tail);
        acc = block.fma(block, acc);
    }
    acc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_summed_as_a_tree() {
        // 2²⁴ + 1 is not an f32: lost where the tree adds 1 to 2²⁴, kept where it first adds 1 + 1 (lanes 1 and 9).
        let mut x = [0.0; LANES];
        x[0] = 16_777_216.0;
        x[1] = 1.0;
        x[9] = 1.0;
        assert_eq!(Lanes(x).sum().to_bits(), 16_777_218.0_f32.to_bits(), "1 + 1 first");
        x[9] = 0.0;
        x[8] = 1.0;
        assert_eq!(Lanes(x).sum().to_bits(), 16_777_216.0_f32.to_bits(), "each 1 is lost");
    }

    #[test]
    fn a_short_tail_adds_nothing_to_the_other_lanes() {
        // 1² + … + 19² = 2470, exact.
        let x: [f32; 19] = core::array::from_fn(|i| u8::try_from(i + 1).map_or(0.0, f32::from));
        assert_eq!(sum_of_squares(&x).to_bits(), 2470.0_f32.to_bits(), "sum of squares");
        assert_eq!(sum_of_squares(&[]).to_bits(), 0, "nothing");
    }

    #[test]
    fn a_part_is_loaded_and_stored_alone() {
        let lanes = Lanes::load_part(&[1.0, 2.0]);
        let mut out = [9.0_f32; 3];
        lanes.store_part(&mut out);
        let bits = [1.0_f32, 2.0, 0.0].map(f32::to_bits);
        assert_eq!(out.map(f32::to_bits), bits, "two numbers, then zero");
    }
}
