//! NEON: every aarch64.

pub(super) mod linear;
mod wide;

/// Proof that this machine has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn new() -> Option<Self> {
        cfg!(target_feature = "neon").then_some(Self(()))
    }
}

/// `a·b + c`, rounded once: `core` has no f32 fused multiply-add, but this intrinsic is one and vectorises.
#[cfg(not(feature = "std"))]
#[inline(always)]
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    use core::arch::aarch64::{vdup_n_f32, vfmas_lane_f32};
    #[inline]
    #[target_feature(enable = "neon")]
    fn body(a: f32, b: f32, c: f32) -> f32 {
        vfmas_lane_f32::<0>(c, a, vdup_n_f32(b))
    }
    const { assert!(cfg!(target_feature = "neon"), "this crate needs floating point in registers") };
    // SAFETY: NEON is enabled for the whole build, as asserted above.
    unsafe { body(a, b, c) }
}

/// Square root, rounded to nearest.
#[cfg(not(feature = "std"))]
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    use core::arch::aarch64::{vdup_n_f32, vget_lane_f32, vsqrt_f32};
    #[inline]
    #[target_feature(enable = "neon")]
    fn body(x: f32) -> f32 {
        vget_lane_f32::<0>(vsqrt_f32(vdup_n_f32(x)))
    }
    const { assert!(cfg!(target_feature = "neon"), "this crate needs floating point in registers") };
    // SAFETY: NEON is enabled for the whole build, as asserted above.
    unsafe { body(x) }
}
