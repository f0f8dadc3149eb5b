//! `eˣ = 2ⁿ · eʳ`, with `n` the whole number next to `x · log₂e` and `|r| ≤ ln 2 / 2`.

use core::f32::consts::LOG2_E;

use crate::fma::fma;

/// Bound on the error of [`exp`], in ULP of the exact value, between [`EXP_UNDERFLOW`] and [`EXP_OVERFLOW`].
pub const EXP_MAX_ULP: f64 = 1.0;

/// Below this, [`exp`] is 0. The exact value is less than 1.2·10⁻³⁸, about where f32 loses precision.
pub const EXP_UNDERFLOW: f32 = -87.33;

/// Above this, [`exp`] is what it is here: 3.4·10³⁸, about the largest f32.
pub const EXP_OVERFLOW: f32 = 88.72;

/// 1.5 · 2²³: an f32 of this size has no fraction, so adding it rounds to a whole number, ties to even.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts. The product of `n` and the first is rounded only with the difference, which is exact.
const LN2_HIGH: f32 = f32::from_bits(0x3f31_7218);
const LN2_LOW: f32 = f32::from_bits(0xb102_e308);

/// `(eʳ - 1 - r - r²/2) / r³` for `|r| ≤ ln 2 / 2`: least maximal relative error of the whole, 3.7·10⁻⁹.
const CUBE: f32 = f32::from_bits(0x3e2a_aa51);
const FOURTH: f32 = f32::from_bits(0x3d2a_ab44);
const FIFTH: f32 = f32::from_bits(0x3c09_1814);
const SIXTH: f32 = f32::from_bits(0x3ab5_b7b9);

/// `eˣ`: 0 below [`EXP_UNDERFLOW`], held at its value there above [`EXP_OVERFLOW`].
///
/// The error is at most [`EXP_MAX_ULP`].
#[must_use]
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let held = if x > EXP_OVERFLOW { EXP_OVERFLOW } else { x };
    let rounded = fma(held, LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, held));

    let p = fma(r, SIXTH, FIFTH);
    let p = fma(r, p, FOURTH);
    let p = fma(r, p, CUBE);
    let p = fma(r, p, 0.5);
    let p = fma(r, p, 1.0);
    let p = fma(r, p, 1.0);

    // The low bits of `rounded` are `n`: add it to the exponent of `p`, which is in [0.7, 1.42]. The bounds on `x` keep
    // the sum a normal number.
    let scaled = f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < EXP_UNDERFLOW { 0.0 } else { scaled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_zero() {
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits(), "e⁰");
        assert_eq!(exp(-0.0).to_bits(), 1.0_f32.to_bits(), "e⁻⁰");
    }

    #[test]
    fn ends_are_held() {
        assert!(exp(EXP_UNDERFLOW) >= f32::MIN_POSITIVE, "still normal");
        assert_eq!(exp(EXP_UNDERFLOW.next_down()).to_bits(), 0, "below");
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0, "far below");
        assert!(exp(EXP_OVERFLOW).is_finite(), "still finite");
        assert_eq!(exp(f32::INFINITY).to_bits(), exp(EXP_OVERFLOW).to_bits(), "far above");
    }
}
