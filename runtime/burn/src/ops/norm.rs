//! Root-mean-square normalisation (Zhang & Sennrich 2019, equation 4).

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::Operators;

/// Normalises: `out = x / sqrt(mean(x²) + eps) ⊙ weight`, over groups of `group` neighbours.
///
/// # Shapes
///
/// - `x`, result: `[rows, width]`
/// - `weight`: `[width]`, or `[group]`, which repeats (query/key norm per head)
///
/// # Panics
///
/// Panics if `group` does not divide the width, or `weight` has another length.
#[must_use]
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, group: usize, eps: f32) -> Tensor<2> {
    let ([_, width], [len]) = (x.dims(), weight.dims());
    assert!(group > 0 && width.is_multiple_of(group), "rms_norm: group divides the width");
    assert!(len == width || len == group, "rms_norm: weight is [width] or [group]");
    Tensor::from_dispatch(<Dispatch as Operators>::rms_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        group,
        eps,
    ))
}

/// Gates, then normalises: `out = rms_norm(x ⊙ silu(gate))` (Mamba-2's norm before the output projection).
///
/// # Shapes
///
/// - `x`, `gate`, result: `[rows, width]`
/// - `weight`: `[width]`
///
/// # Panics
///
/// Panics if `group` does not divide the width, or the shapes do not fit.
#[must_use]
pub fn gated_rms_norm(
    x: Tensor<2>,
    gate: Tensor<2>,
    weight: Tensor<1>,
    group: usize,
    eps: f32,
) -> Tensor<2> {
    let [_, width] = x.dims();
    assert!(group > 0 && width.is_multiple_of(group), "gated_rms_norm: group divides the width");
    assert_eq!(gate.dims(), x.dims(), "gated_rms_norm: x and gate are [rows, width]");
    assert_eq!(weight.dims(), [width], "gated_rms_norm: weight is [width]");
    Tensor::from_dispatch(<Dispatch as Operators>::gated_rms_norm(
        x.into_dispatch(),
        gate.into_dispatch(),
        weight.into_dispatch(),
        group,
        eps,
    ))
}
