//! f16 read by `fcvtl`.

use core::arch::aarch64::{float16x4_t, vcvt_f32_f16, vld1_u16, vreinterpret_f16_u16, vst1q_f32};

use super::Lanes;
use super::cached::Cached;
use crate::isa::{Isa, Kind};
use crate::view::LANES;

/// Proof that this machine has NEON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonHalf(());

impl NeonHalf {
    /// The conversion of this instruction set, if it is not the reference.
    pub(crate) fn of(isa: Isa) -> Option<Self> {
        matches!(isa.0, Kind::Neon(_) | Kind::NeonDotprod(_) | Kind::NeonI8mm(_))
            .then_some(Self(()))
    }
}

impl Cached for NeonHalf {
    type Number = u16;

    #[inline(always)]
    fn load(self, from: &[u16; LANES]) -> Lanes {
        let mut out = Lanes::ZERO;
        let (from, _) = from.as_chunks::<4>();
        let (to, _) = out.0.as_chunks_mut::<4>();
        for (from, to) in from.iter().zip(to) {
            // SAFETY: `self` proves NEON.
            unsafe { widen(from, to) };
        }
        out
    }
}

/// Converts 4 numbers.
#[inline]
#[target_feature(enable = "neon")]
fn widen(from: &[u16; 4], to: &mut [f32; 4]) {
    // SAFETY: 4 numbers are read.
    let halves: float16x4_t = vreinterpret_f16_u16(unsafe { vld1_u16(from.as_ptr()) });
    let singles = vcvt_f32_f16(halves);
    // SAFETY: 4 numbers are written.
    unsafe { vst1q_f32(to.as_mut_ptr(), singles) };
}

#[cfg(test)]
mod tests {
    use super::super::cached::assert_reads_every_half;
    use super::*;

    #[test]
    fn neon_reads_every_half_exactly() {
        let half = Isa::available().find_map(NeonHalf::of).unwrap();
        assert_reads_every_half(half);
    }
}
