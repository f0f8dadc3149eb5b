//! The error of the polynomials over a dense sweep, against f64.

use dynamax_kernels::math::{
    EXP_MAX_ULP, EXP_OVERFLOW, EXP_UNDERFLOW, SIGMOID_MAX_ULP, SILU_MAX_ULP, SOFTPLUS_MAX_ULP, exp,
    sigmoid, silu, softplus,
};

/// Distance between the f32 numbers around `x`.
fn ulp(x: f64) -> f64 {
    let exponent = x.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32;
    f64::powi(2.0, exponent - 23)
}

/// Asserts the bound for numbers of both signs within the range: 2000 for each power of two.
fn assert_bound(
    name: &str,
    range: std::ops::RangeInclusive<f32>,
    max_ulp: f64,
    got: fn(f32) -> f32,
    want: fn(f64) -> f64,
) {
    let (mut worst, mut at) = (0.0, 0.0);
    for magnitude in (0..=100.0_f32.to_bits()).step_by(4001) {
        for x in [f32::from_bits(magnitude), -f32::from_bits(magnitude)] {
            if range.contains(&x) {
                let want = want(f64::from(x));
                let error = (f64::from(got(x)) - want).abs() / ulp(want);
                (worst, at) = if error > worst { (error, x) } else { (worst, at) };
            }
        }
    }
    println!("{name}: {worst:.3} ULP at {at:e}");
    assert!(worst <= max_ulp, "{name}: {worst} ULP at {at:e}, not {max_ulp}");
    assert!(worst >= max_ulp / 2.0, "{name}: {worst} ULP: the bound of {max_ulp} is loose");
}

#[test]
fn exp_is_within_its_bound() {
    assert_bound("exp", EXP_UNDERFLOW..=EXP_OVERFLOW, EXP_MAX_ULP, exp, f64::exp);
}

#[test]
fn sigmoid_is_within_its_bound() {
    let want = |x: f64| 1.0 / (1.0 + (-x).exp());
    assert_bound("sigmoid", EXP_UNDERFLOW..=100.0, SIGMOID_MAX_ULP, sigmoid, want);
}

#[test]
fn silu_is_within_its_bound() {
    let want = |x: f64| x / (1.0 + (-x).exp());
    assert_bound("silu", EXP_UNDERFLOW..=100.0, SILU_MAX_ULP, silu, want);
}

#[test]
fn softplus_is_within_its_bound() {
    let want = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    assert_bound("softplus", EXP_UNDERFLOW..=100.0, SOFTPLUS_MAX_ULP, softplus, want);
}

#[test]
fn far_below_the_bounds_nothing_is_left() {
    for x in [-88.0, -1e3, -1e30, f32::MIN] {
        assert_eq!(exp(x).to_bits(), 0, "exp({x})");
        assert_eq!(softplus(x).to_bits(), 0, "softplus({x})");
    }
    assert!(silu(-1e3).abs() < 1e-35, "silu(-1000)");
    assert!(sigmoid(-1e3) < 1e-35, "sigmoid(-1000)");
    assert_eq!(softplus(1e30).to_bits(), 1e30_f32.to_bits(), "softplus far above");
}
