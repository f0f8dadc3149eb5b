//! Sixteen numbers in two registers.

use core::arch::x86_64::*;

use super::Avx2;
use crate::lanes::Lanes;
use crate::lanes::wide::{Mask, Wide};

impl Wide for Avx2 {
    type Sixteen = [__m256; 2];

    #[inline(always)]
    fn load(self, from: &Lanes) -> [__m256; 2] {
        #[inline]
        #[target_feature(enable = "avx")]
        fn body(from: &[[f32; 8]; 2]) -> [__m256; 2] {
            // SAFETY: 32 bytes can be read, and no alignment is asked for.
            let low = unsafe { _mm256_loadu_ps(from[0].as_ptr()) };
            // SAFETY: as above.
            let high = unsafe { _mm256_loadu_ps(from[1].as_ptr()) };
            [low, high]
        }
        // SAFETY: `self` proves AVX.
        unsafe { body(bytemuck::cast_ref(&from.0)) }
    }

    #[inline(always)]
    fn store(self, x: [__m256; 2], to: &mut Lanes) {
        #[inline]
        #[target_feature(enable = "avx")]
        fn body(x: [__m256; 2], to: &mut [[f32; 8]; 2]) {
            // SAFETY: 32 bytes can be written, and no alignment is asked for.
            unsafe { _mm256_storeu_ps(to[0].as_mut_ptr(), x[0]) };
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(to[1].as_mut_ptr(), x[1]) };
        }
        // SAFETY: `self` proves AVX.
        unsafe { body(x, bytemuck::cast_mut(&mut to.0)) }
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        #[inline]
        #[target_feature(enable = "avx")]
        fn body(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]
        }
        // SAFETY: `self` proves AVX.
        unsafe { body(a, b) }
    }

    #[inline(always)]
    fn multiply(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        #[inline]
        #[target_feature(enable = "avx")]
        fn body(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
        }
        // SAFETY: `self` proves AVX.
        unsafe { body(a, b) }
    }

    #[inline(always)]
    fn divide(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        #[inline]
        #[target_feature(enable = "avx")]
        fn body(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])]
        }
        // SAFETY: `self` proves AVX.
        unsafe { body(a, b) }
    }

    #[inline(always)]
    fn scale_add(self, by: f32, x: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        #[inline]
        #[target_feature(enable = "avx,fma")]
        fn body(by: f32, x: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            let by = _mm256_set1_ps(by);
            [_mm256_fmadd_ps(by, x[0], c[0]), _mm256_fmadd_ps(by, x[1], c[1])]
        }
        // SAFETY: `self` proves AVX and FMA.
        unsafe { body(by, x, c) }
    }

    #[inline(always)]
    fn choose(self, mask: &Mask, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        #[inline]
        #[target_feature(enable = "avx")]
        fn body(mask: &[[f32; 8]; 2], a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: 32 bytes can be read, and no alignment is asked for.
            let low = unsafe { _mm256_loadu_ps(mask[0].as_ptr()) };
            // SAFETY: as above.
            let high = unsafe { _mm256_loadu_ps(mask[1].as_ptr()) };
            [_mm256_blendv_ps(b[0], a[0], low), _mm256_blendv_ps(b[1], a[1], high)]
        }
        // SAFETY: `self` proves AVX.
        unsafe { body(bytemuck::cast_ref(mask), a, b) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::wide::assert_is_as_lanes;

    #[test]
    fn registers_do_as_lanes_do() {
        if let Some(isa) = Avx2::new() {
            assert_is_as_lanes(isa);
        }
    }
}
