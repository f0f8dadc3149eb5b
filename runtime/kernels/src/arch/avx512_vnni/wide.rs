//! Sixteen numbers in one register.

use core::arch::x86_64::*;

use super::Avx512Vnni;
use crate::arch::avx2::sum_eights;
use crate::lanes::Lanes;
use crate::lanes::wide::{Mask, Sums, Wide};

impl Wide for Avx512Vnni {
    type Sixteen = __m512;

    #[inline(always)]
    fn load(self, from: &Lanes) -> __m512 {
        // SAFETY: `self` proves AVX-512 F; 64 bytes can be read.
        unsafe { _mm512_loadu_ps(from.0.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, x: __m512, to: &mut Lanes) {
        // SAFETY: `self` proves AVX-512 F; 64 bytes can be written.
        unsafe { _mm512_storeu_ps(to.0.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn multiply(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn divide(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn multiply_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn scale_add(self, by: f32, x: __m512, c: __m512) -> __m512 {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn body(by: f32, x: __m512, c: __m512) -> __m512 {
            _mm512_fmadd_ps(_mm512_set1_ps(by), x, c)
        }
        // SAFETY: `self` proves AVX-512 F.
        unsafe { body(by, x, c) }
    }

    #[inline(always)]
    fn choose(self, mask: &Mask, a: __m512, b: __m512) -> __m512 {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn body(mask: &Mask, a: __m512, b: __m512) -> __m512 {
            // SAFETY: 64 bytes can be read, and no alignment is asked for.
            let mask = unsafe { _mm512_loadu_si512(mask.as_ptr().cast()) };
            _mm512_mask_blend_ps(_mm512_test_epi32_mask(mask, mask), b, a)
        }
        // SAFETY: `self` proves AVX-512 F.
        unsafe { body(mask, a, b) }
    }
}

impl Sums for Avx512Vnni {
    const HELD: usize = 16;

    #[inline(always)]
    fn fold(self, x: __m512) -> [f32; 8] {
        #[inline]
        #[target_feature(enable = "avx512f,avx512dq")]
        fn body(x: __m512) -> [f32; 8] {
            let sums = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            let mut out = [0.0; 8];
            // SAFETY: 32 bytes can be written, and no alignment is asked for.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums) };
            out
        }
        // SAFETY: `self` proves AVX-512 F and DQ.
        unsafe { body(x) }
    }

    #[inline(always)]
    fn sum_eights(self, eights: &[[f32; 8]; 8]) -> [f32; 8] {
        // SAFETY: `self` proves AVX.
        unsafe { sum_eights(eights) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::wide::{assert_is_as_lanes, assert_sums_are_as_lanes};

    #[test]
    fn registers_do_as_lanes_do() {
        if let Some(isa) = Avx512Vnni::new() {
            assert_is_as_lanes(isa);
            assert_sums_are_as_lanes(isa);
        }
    }
}
