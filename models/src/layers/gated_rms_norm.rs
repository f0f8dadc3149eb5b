//! Mamba-2's norm between the recurrence and the projection out.

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use dynamax_burn::ops;

use super::{Init, normalize};

/// `y = rms_norm(x ⊙ silu(gate))`, each group of `group` neighbours by itself.
///
/// Source: Dao & Gu 2024, section 7.1; the gate comes before the norm, and a group is `d_inner / n_groups` wide, so
/// that a group needs no number of another.
///
/// # Shapes
///
/// - `weight`: `[width]`
#[derive(Module, Debug)]
pub struct GatedRmsNorm {
    /// `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Numbers normalised together; divides the width.
    pub group: usize,
    /// Added to the mean square.
    pub eps: f64,
}

impl GatedRmsNorm {
    /// Makes a norm whose weights are one.
    ///
    /// # Panics
    ///
    /// Panics if `group` does not divide `width`.
    #[must_use]
    pub fn new(width: usize, group: usize, eps: f64, device: &Device) -> Self {
        assert!(
            group > 0 && width.is_multiple_of(group),
            "gated rms norm: group divides the width"
        );
        Self { weight: Init::Constant(1.0).param([width], device), group, eps }
    }

    /// Gates, then normalises the last axis.
    ///
    /// # Shapes
    ///
    /// - `x`, `gate`, and returned: `[batch, seq, width]`
    #[must_use]
    pub fn forward(&self, x: Tensor<3>, gate: Tensor<3>) -> Tensor<3> {
        let [batch, seq, width] = x.dims();
        let gated = (x * silu(gate)).reshape([batch, seq, width / self.group, self.group]);
        normalize(gated, self.eps).reshape([batch, seq, width]) * self.weight.val().unsqueeze()
    }

    /// Gates, then normalises as deployed; all `[rows, width]`.
    #[must_use]
    pub fn step(&self, x: Tensor<2>, gate: Tensor<2>) -> Tensor<2> {
        ops::gated_rms_norm(x, gate, self.weight.val(), self.group, self.eps as f32)
    }
}
