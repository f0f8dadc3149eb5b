//! How a number lies in a key/value cache: f32, or f16 read by what conversion the machine has.
//!
//! Reading is exact, whatever the way: same bits.

use super::Lanes;
use crate::view::LANES;

/// A way to keep numbers in a cache. A value of it is the proof that the machine has the way.
pub(crate) trait Cached: Copy {
    /// A stored number; the default is zero.
    type Number: Copy + Default;

    /// Reads sixteen numbers, exactly.
    fn load(self, from: &[Self::Number; LANES]) -> Lanes;

    /// Reads all of `from`, at most sixteen numbers, then +0.
    #[inline(always)]
    fn load_part(self, from: &[Self::Number]) -> Lanes {
        match from.as_array() {
            Some(block) => self.load(block),
            None => {
                let mut block = [Self::Number::default(); LANES];
                block[..from.len()].copy_from_slice(from);
                self.load(&block)
            }
        }
    }
}

/// f32, as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Single;

impl Cached for Single {
    type Number = f32;

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Lanes {
        Lanes(*from)
    }
}

/// f16, converted by integer operations and one exact product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortableHalf;

impl Cached for PortableHalf {
    type Number = u16;

    #[inline(always)]
    fn load(self, from: &[u16; LANES]) -> Lanes {
        let mut out = [0.0; LANES];
        for j in 0..LANES {
            out[j] = widen(from[j]);
        }
        Lanes(out)
    }
}

/// The f32 equal to an f16.
///
/// The 15 bits of exponent and mantissa, moved to their place in an f32, are the number divided by 2¹¹²; this holds for
/// subnormals too. Infinities and NaN (exponent 31) get their exponent set.
#[inline(always)]
fn widen(x: u16) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits(0x7780_0000);
    let magnitude = u32::from(x & 0x7fff) << 13;
    let special = if magnitude >= 0x0f80_0000 { 0x7f80_0000 } else { 0 };
    let sign = u32::from(x & 0x8000) << 16;
    f32::from_bits((f32::from_bits(magnitude) * TWO_TO_112).to_bits() | special | sign)
}

/// Asserts that `half` reads all f16 as the `half` crate does.
#[cfg(test)]
pub(crate) fn assert_reads_every_half(half: impl Cached<Number = u16>) {
    for first in (0..=u16::MAX).step_by(LANES) {
        let halves: [u16; LANES] = core::array::from_fn(|j| first | u16::try_from(j).unwrap());
        let got = half.load(&halves);
        for (x, y) in halves.iter().zip(got.0) {
            let want = half::f16::from_bits(*x).to_f32();
            let same = y.to_bits() == want.to_bits() || (y.is_nan() && want.is_nan());
            assert!(same, "{x:#06x}: {y} for {want}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_operations_read_every_half_exactly() {
        assert_reads_every_half(PortableHalf);
    }

    #[test]
    fn numbers_behind_the_end_are_zero() {
        let lanes = Single.load_part(&[1.0; 2]);
        assert_eq!(lanes, Lanes::load_part(&[1.0; 2]), "two numbers, then zeros");
    }
}
