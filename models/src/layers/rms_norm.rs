//! Normalisation by the root of the mean square (Zhang & Sennrich 2019).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use dynamax_burn::ops;

use super::Init;

/// `y = x / sqrt(mean(x²) + eps) ⊙ weight`, over the last axis.
///
/// # Shapes
///
/// - `weight`: `[width]`
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// Makes a norm whose weights are one.
    #[must_use]
    pub fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self { weight: Init::Constant(1.0).param([width], device), eps }
    }

    /// Normalises the last axis.
    ///
    /// # Shapes
    ///
    /// - `x`, and returned: `[.., width]`
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        normalize(x, self.eps) * self.weight.val().unsqueeze()
    }

    /// Normalises every run of `width` numbers of a row as deployed: a whole row, or each head of it.
    #[must_use]
    pub fn step(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.val();
        let [width] = weight.dims();
        ops::rms_norm(x, weight, width, self.eps as f32)
    }
}

/// `x / sqrt(mean(x²) + eps)`, over the last axis.
pub(crate) fn normalize<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let root = (x.clone().square().mean_dim(D - 1) + eps).sqrt();
    x / root
}
