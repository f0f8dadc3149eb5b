//! `exp` and what is made of it, as polynomials that give the same bits on every machine.
//!
//! No branches and no tables, so that a loop over these functions becomes vector instructions. Every function has a
//! bound on its error against the exact value, in units in the last place of that value (ULP): a test holds it over a
//! dense sweep. Arguments are finite.

mod exp;
mod log1p;

pub use exp::{EXP_MAX_ULP, EXP_OVERFLOW, EXP_UNDERFLOW, exp};
use log1p::log1p;

/// Bound on the error of [`sigmoid`], in ULP of the exact value, for `x ≥ EXP_UNDERFLOW`.
pub const SIGMOID_MAX_ULP: f64 = 2.5;

/// Bound on the error of [`silu`], in ULP of the exact value, for `x ≥ EXP_UNDERFLOW`.
pub const SILU_MAX_ULP: f64 = 2.5;

/// Bound on the error of [`softplus`], in ULP of the exact value, for `x ≥ EXP_UNDERFLOW`.
pub const SOFTPLUS_MAX_ULP: f64 = 2.5;

/// `1 / (1 + e⁻ˣ)`.
///
/// The error is at most [`SIGMOID_MAX_ULP`] where `x ≥ EXP_UNDERFLOW`; below it both are less than 1.2·10⁻³⁸.
#[must_use]
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x / (1 + e⁻ˣ)`.
///
/// The error is at most [`SILU_MAX_ULP`] where `x ≥ EXP_UNDERFLOW`; below it both are within `x · 1.2·10⁻³⁸`,
/// which vanishes beside any other number.
#[must_use]
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `ln(1 + eˣ)`, as `max(x, 0) + log1p(exp(-|x|))`, which cannot overflow.
///
/// The error is at most [`SOFTPLUS_MAX_ULP`] where `x ≥ EXP_UNDERFLOW`; below it the value is 0.
#[must_use]
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let positive = if x > 0.0 { x } else { 0.0 };
    positive + log1p(exp(-x.abs()))
}
