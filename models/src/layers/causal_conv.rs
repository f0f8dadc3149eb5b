//! The short convolution in front of both recurrences.

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use dynamax_burn::ops;

use super::Init;
use crate::step::States;

/// A depthwise convolution along the sequence that sees no later token, then `silu`:
///
/// ```text
/// y[t] = silu(bias + Σₖ weight[k] ⊙ x[t - (d_conv - 1) + k])        x[t] = 0 for t < 0
/// ```
///
/// # Shapes
///
/// - `weight`: `[d_conv, channels]`, transposed from `PyTorch`'s `[channels, 1, d_conv]` so that a lane is a channel; the
///   last row meets the newest token
/// - `bias`: `[channels]`, if there is one
#[derive(Module, Debug)]
pub struct CausalConv {
    /// `[d_conv, channels]`.
    pub weight: Param<Tensor<2>>,
    /// `[channels]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl CausalConv {
    /// Makes a convolution drawn as `PyTorch` draws one, with a bias of zeros if `has_bias`.
    #[must_use]
    pub fn new(channels: usize, d_conv: usize, has_bias: bool, device: &Device) -> Self {
        let init = Init::Uniform { bound: 1.0 / (d_conv as f64).sqrt() };
        Self {
            weight: init.param([d_conv, channels], device),
            bias: has_bias.then(|| Init::Constant(0.0).param([channels], device)),
        }
    }

    /// Applies the convolution to each sequence.
    ///
    /// # Shapes
    ///
    /// - `x`, and returned: `[batch, seq, channels]`
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, channels] = x.dims();
        let weight = self.weight.val();
        let d_conv = weight.dims()[0];
        let before = Tensor::zeros([batch, d_conv - 1, channels], &x.device());
        let padded = Tensor::cat(vec![before, x], 1);
        // A few products of whole sequences: d_conv is small, and this differentiates to the same few.
        let tap = |k: usize| {
            padded.clone().narrow(1, k, seq) * weight.clone().narrow(0, k, 1).unsqueeze()
        };
        let sum = (1..d_conv).fold(tap(0), |sum, k| sum + tap(k));
        match &self.bias {
            Some(bias) => silu(sum + bias.val().unsqueeze()),
            None => silu(sum),
        }
    }

    /// Adds the state of the last inputs.
    pub fn add_states(&self, states: &mut States, device: &Device) {
        let [d_conv, channels] = self.weight.lazy_shape().dims();
        states.add([d_conv - 1, channels], device);
    }

    /// Applies the convolution as deployed, after the inputs in its state; `x`, and returned: `[rows, channels]`.
    #[must_use]
    pub fn step(&self, x: Tensor<2>, states: &mut States) -> Tensor<2> {
        let (weight, bias) = (self.weight.val(), self.bias.as_ref().map(Param::val));
        states.update(|state| ops::causal_conv(x, weight, bias, state, ops::Activation::Silu))
    }
}
