//! Sixteen numbers in four registers.

use core::arch::aarch64::*;

use super::Neon;
use crate::lanes::Lanes;
use crate::lanes::wide::{Mask, Sums, Wide};

type Sixteen = [float32x4_t; 4];

impl Wide for Neon {
    type Sixteen = Sixteen;

    #[inline(always)]
    fn load(self, from: &Lanes) -> Sixteen {
        let from: &[[f32; 4]; 4] = bytemuck::cast_ref(&from.0);
        // SAFETY: `self` proves NEON.
        let mut out = [unsafe { vdupq_n_f32(0.0) }; 4];
        for i in 0..4 {
            // SAFETY: `self` proves NEON; 16 bytes can be read.
            out[i] = unsafe { vld1q_f32(from[i].as_ptr()) };
        }
        out
    }

    #[inline(always)]
    fn store(self, x: Sixteen, to: &mut Lanes) {
        let to: &mut [[f32; 4]; 4] = bytemuck::cast_mut(&mut to.0);
        for i in 0..4 {
            // SAFETY: `self` proves NEON; 16 bytes can be written.
            unsafe { vst1q_f32(to[i].as_mut_ptr(), x[i]) };
        }
    }

    #[inline(always)]
    fn add(self, a: Sixteen, b: Sixteen) -> Sixteen {
        let mut out = a;
        for i in 0..4 {
            // SAFETY: `self` proves NEON.
            out[i] = unsafe { vaddq_f32(a[i], b[i]) };
        }
        out
    }

    #[inline(always)]
    fn multiply(self, a: Sixteen, b: Sixteen) -> Sixteen {
        let mut out = a;
        for i in 0..4 {
            // SAFETY: `self` proves NEON.
            out[i] = unsafe { vmulq_f32(a[i], b[i]) };
        }
        out
    }

    #[inline(always)]
    fn divide(self, a: Sixteen, b: Sixteen) -> Sixteen {
        let mut out = a;
        for i in 0..4 {
            // SAFETY: `self` proves NEON.
            out[i] = unsafe { vdivq_f32(a[i], b[i]) };
        }
        out
    }

    #[inline(always)]
    fn multiply_add(self, a: Sixteen, b: Sixteen, c: Sixteen) -> Sixteen {
        let mut out = c;
        for i in 0..4 {
            // SAFETY: `self` proves NEON.
            out[i] = unsafe { vfmaq_f32(c[i], a[i], b[i]) };
        }
        out
    }

    #[inline(always)]
    fn scale_add(self, by: f32, x: Sixteen, c: Sixteen) -> Sixteen {
        let mut out = c;
        for i in 0..4 {
            // SAFETY: `self` proves NEON.
            out[i] = unsafe { vfmaq_n_f32(c[i], x[i], by) };
        }
        out
    }

    #[inline(always)]
    fn choose(self, mask: &Mask, a: Sixteen, b: Sixteen) -> Sixteen {
        let mask: &[[u32; 4]; 4] = bytemuck::cast_ref(mask);
        let mut out = b;
        for i in 0..4 {
            // SAFETY: `self` proves NEON; 16 bytes can be read.
            let mask = unsafe { vld1q_u32(mask[i].as_ptr()) };
            // SAFETY: `self` proves NEON.
            out[i] = unsafe { vbslq_f32(mask, a[i], b[i]) };
        }
        out
    }
}

impl Sums for Neon {
    const HELD: usize = 4;

    #[inline(always)]
    fn fold(self, x: Sixteen) -> [f32; 8] {
        let mut out = [[0.0; 4]; 2];
        for i in 0..2 {
            // SAFETY: `self` proves NEON; 16 bytes can be written.
            unsafe { vst1q_f32(out[i].as_mut_ptr(), vaddq_f32(x[i], x[i + 2])) };
        }
        bytemuck::cast(out)
    }

    #[inline(always)]
    fn sum_eights(self, eights: &[[f32; 8]; 8]) -> [f32; 8] {
        let mut out = [[0.0; 4]; 2];
        for (eights, out) in eights.as_chunks().0.iter().zip(&mut out) {
            // SAFETY: `self` proves NEON.
            *out = unsafe { sum_four(eights) };
        }
        bytemuck::cast(out)
    }
}

/// Sums the lanes of four.
#[inline]
#[target_feature(enable = "neon")]
fn sum_four(eights: &[[f32; 8]; 4]) -> [f32; 4] {
    let mut fours = [vdupq_n_f32(0.0); 4];
    for (four, eight) in fours.iter_mut().zip(eights) {
        let halves: &[[f32; 4]; 2] = bytemuck::cast_ref(eight);
        // SAFETY: 16 bytes can be read.
        let low = unsafe { vld1q_f32(halves[0].as_ptr()) };
        // SAFETY: as above.
        let high = unsafe { vld1q_f32(halves[1].as_ptr()) };
        *four = vaddq_f32(low, high);
    }
    let [a, b] = [two(fours[0], fours[1]), two(fours[2], fours[3])];
    let mut out = [0.0; 4];
    // SAFETY: 16 bytes can be written.
    unsafe { vst1q_f32(out.as_mut_ptr(), vpaddq_f32(a, b)) };
    out
}

/// Lanes 0 and 1 take up 2 and 3, of two.
#[inline]
#[target_feature(enable = "neon")]
fn two(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    let [a, b] = [vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)];
    let [low, high] = [vzip1q_f64(a, b), vzip2q_f64(a, b)];
    vaddq_f32(vreinterpretq_f32_f64(low), vreinterpretq_f32_f64(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::wide::{assert_is_as_lanes, assert_sums_are_as_lanes};

    #[test]
    fn registers_do_as_lanes_do() {
        assert_is_as_lanes(Neon::new().unwrap());
        assert_sums_are_as_lanes(Neon::new().unwrap());
    }
}
