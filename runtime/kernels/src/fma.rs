//! Fused multiply-add and square root: f32 operations that are exact by IEEE 754 but that `core` does not offer.

#[cfg(all(not(feature = "std"), target_arch = "aarch64"))]
use crate::arch::neon;

/// `a·b + c`, rounded once.
#[cfg(feature = "std")]
#[inline(always)]
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

/// Square root, rounded to nearest.
#[cfg(feature = "std")]
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    x.sqrt()
}

/// `a·b + c`, rounded once.
#[cfg(all(not(feature = "std"), target_arch = "aarch64"))]
#[inline(always)]
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    neon::fma(a, b, c)
}

/// Square root, rounded to nearest.
#[cfg(all(not(feature = "std"), target_arch = "aarch64"))]
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    neon::sqrt(x)
}

/// `a·b + c`, rounded once.
#[cfg(all(not(feature = "std"), not(target_arch = "aarch64")))]
#[inline(always)]
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    libm::fmaf(a, b, c)
}

/// Square root, rounded to nearest.
#[cfg(all(not(feature = "std"), not(target_arch = "aarch64")))]
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    libm::sqrtf(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiply_add_rounds_once() {
        // (1 + 2⁻¹²)² = 1 + 2⁻¹¹ + 2⁻²⁴: rounded twice, the last term is lost.
        let a = 1.0 + f32::from_bits(0x3980_0000);
        let b = -(1.0 + f32::from_bits(0x3a00_0000));
        assert_eq!(fma(a, a, b).to_bits(), f32::from_bits(0x3380_0000).to_bits(), "2⁻²⁴ is left");
    }

    #[test]
    fn square_root_is_rounded_to_nearest() {
        assert_eq!(sqrt(2.0).to_bits(), core::f32::consts::SQRT_2.to_bits(), "√2");
    }
}
