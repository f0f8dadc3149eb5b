//! f16 read by `vcvtph2ps`.

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};

use super::Lanes;
use super::cached::Cached;
use crate::isa::{Isa, Kind};
use crate::view::LANES;

/// Proof that this machine has F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F16c(());

impl F16c {
    /// The conversion of this instruction set, if it is not the reference.
    pub(crate) fn of(isa: Isa) -> Option<Self> {
        // Both tokens prove F16C.
        matches!(isa.0, Kind::Avx2(_) | Kind::Avx512Vnni(_)).then_some(Self(()))
    }
}

impl Cached for F16c {
    type Number = u16;

    #[inline(always)]
    fn load(self, from: &[u16; LANES]) -> Lanes {
        let mut out = Lanes::ZERO;
        let (low, high) = out.0.split_at_mut(8);
        // SAFETY: `self` proves F16C and with it AVX; each side is 8 numbers.
        unsafe { widen(from.as_ptr(), low.as_mut_ptr()) };
        // SAFETY: as above; the other 8 numbers.
        unsafe { widen(from[8..].as_ptr(), high.as_mut_ptr()) };
        out
    }
}

/// Converts 8 numbers.
///
/// # Safety
///
/// `from` must be valid for reading and `to` for writing 8 numbers.
#[inline]
#[target_feature(enable = "avx,f16c")]
unsafe fn widen(from: *const u16, to: *mut f32) {
    // SAFETY: the caller vouches for 16 bytes.
    let halves = unsafe { _mm_loadu_si128(from.cast::<__m128i>()) };
    let singles = _mm256_cvtph_ps(halves);
    // SAFETY: the caller vouches for 32 bytes.
    unsafe { _mm256_storeu_ps(to, singles) };
}

#[cfg(test)]
mod tests {
    use super::super::cached::assert_reads_every_half;
    use super::*;

    #[test]
    fn f16c_reads_every_half_exactly() {
        if let Some(half) = Isa::available().find_map(F16c::of) {
            assert_reads_every_half(half);
        }
    }
}
