//! Sixteen numbers in two registers.

use core::arch::x86_64::*;

use super::Avx2;
use crate::lanes::Lanes;
use crate::lanes::wide::{Mask, Sums, Wide};

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
    fn multiply_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        #[inline]
        #[target_feature(enable = "avx,fma")]
        fn body(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
        }
        // SAFETY: `self` proves AVX and FMA.
        unsafe { body(a, b, c) }
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

impl Sums for Avx2 {
    const HELD: usize = 4;

    #[inline(always)]
    fn fold(self, x: [__m256; 2]) -> [f32; 8] {
        #[inline]
        #[target_feature(enable = "avx")]
        fn body(x: [__m256; 2]) -> [f32; 8] {
            store(_mm256_add_ps(x[0], x[1]))
        }
        // SAFETY: `self` proves AVX.
        unsafe { body(x) }
    }

    #[inline(always)]
    fn sum_eights(self, eights: &[[f32; 8]; 8]) -> [f32; 8] {
        // SAFETY: `self` proves AVX.
        unsafe { sum_eights(eights) }
    }
}

/// Halves of a register belong to two of the eight, `i` and `i + 4`, so that the last sums are in order.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn sum_eights(eights: &[[f32; 8]; 8]) -> [f32; 8] {
    let mut fours = [_mm256_setzero_ps(); 4];
    for i in 0..4 {
        let (a, b) = (load(&eights[i]), load(&eights[i + 4]));
        let low = _mm256_permute2f128_ps::<0x20>(a, b);
        let high = _mm256_permute2f128_ps::<0x31>(a, b);
        fours[i] = _mm256_add_ps(low, high);
    }
    let mut twos = [_mm256_setzero_ps(); 2];
    for i in 0..2 {
        let (a, b) = (fours[2 * i], fours[2 * i + 1]);
        let low = _mm256_shuffle_ps::<0b01_00_01_00>(a, b);
        let high = _mm256_shuffle_ps::<0b11_10_11_10>(a, b);
        twos[i] = _mm256_add_ps(low, high);
    }
    let [a, b] = twos;
    let even = _mm256_shuffle_ps::<0b10_00_10_00>(a, b);
    let odd = _mm256_shuffle_ps::<0b11_01_11_01>(a, b);
    store(_mm256_add_ps(even, odd))
}

#[inline]
#[target_feature(enable = "avx")]
fn load(from: &[f32; 8]) -> __m256 {
    // SAFETY: 32 bytes can be read, and no alignment is asked for.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx")]
fn store(x: __m256) -> [f32; 8] {
    let mut out = [0.0; 8];
    // SAFETY: 32 bytes can be written, and no alignment is asked for.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), x) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::wide::{assert_is_as_lanes, assert_sums_are_as_lanes};

    #[test]
    fn registers_do_as_lanes_do() {
        if let Some(isa) = Avx2::new() {
            assert_is_as_lanes(isa);
            assert_sums_are_as_lanes(isa);
        }
    }
}
