//! `x · weightᵀ + bias`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use dynamax_burn::ops;

use super::Init;

/// A linear map of the last axis: `y = x · weightᵀ + bias`.
///
/// # Shapes
///
/// - `weight`: `[d_out, d_in]`, as `PyTorch` stores it
/// - `bias`: `[d_out]`, if there is one
#[derive(Module, Debug)]
pub struct Linear {
    /// `[d_out, d_in]`.
    pub weight: Param<Tensor<2>>,
    /// `[d_out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Makes a map from `d_in` to `d_out` numbers without a bias, drawn from `init`.
    #[must_use]
    pub fn new(d_in: usize, d_out: usize, init: Init, device: &Device) -> Self {
        Self { weight: init.param([d_out, d_in], device), bias: None }
    }

    /// Adds a bias of zeros if `has_bias`.
    #[must_use]
    pub fn with_bias(mut self, has_bias: bool) -> Self {
        let d_out = self.weight.lazy_shape()[0];
        let device = self.weight.lazy_device();
        self.bias = has_bias.then(|| Init::Constant(0.0).param([d_out], &device));
        self
    }

    /// Applies the map to every row of `x`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, seq, d_in]`
    /// - returned: `[batch, seq, d_out]`
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `x` is not `d_in`.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, width] = x.dims();
        let weight = self.weight.val();
        let [d_out, d_in] = weight.dims();
        assert_eq!(width, d_in, "linear: x is [batch, seq, d_in]");
        // One product for the whole batch, not one per sequence.
        let y = x.reshape([batch * seq, d_in]).matmul(weight.transpose());
        let y = match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        };
        y.reshape([batch, seq, d_out])
    }

    /// Applies the map as deployed: `[rows, d_in]` to `[rows, d_out]`.
    #[must_use]
    pub fn step(&self, x: Tensor<2>) -> Tensor<2> {
        ops::linear(x, self.weight.val(), self.bias.as_ref().map(Param::val))
    }
}
