//! Sixteen numbers in four registers.

use core::arch::aarch64::*;

use super::Neon;
use crate::lanes::Lanes;
use crate::lanes::wide::{Mask, Wide};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::wide::assert_is_as_lanes;

    #[test]
    fn registers_do_as_lanes_do() {
        assert_is_as_lanes(Neon::new().unwrap());
    }
}
