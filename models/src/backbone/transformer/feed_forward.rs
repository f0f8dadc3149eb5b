//! The network that mixes channels.

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use dynamax_burn::ops;

use super::residual_init;
use crate::config::TransformerConfig;
use crate::layers::{Init, Linear};

/// `down(silu(gate(x)) ⊙ up(x))` (Shazeer 2020, "GLU variants improve transformer").
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `[d_ff, d_model]`.
    pub gate_proj: Linear,
    /// `[d_ff, d_model]`.
    pub up_proj: Linear,
    /// `[d_model, d_ff]`.
    pub down_proj: Linear,
}

impl FeedForward {
    /// Makes a network.
    #[must_use]
    pub fn new(config: &TransformerConfig, device: &Device) -> Self {
        let (d_model, d_ff) = (config.d_model, config.d_ff);
        let init = Init::Normal { std: config.init_std };
        let linear = |d_in, d_out, init| {
            Linear::new(d_in, d_out, init, device).with_bias(config.has_mlp_bias)
        };
        Self {
            gate_proj: linear(d_model, d_ff, init),
            up_proj: linear(d_model, d_ff, init),
            down_proj: linear(d_ff, d_model, residual_init(config)),
        }
    }

    /// Maps `[batch, seq, d_model]` to the same shape.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = silu(self.gate_proj.forward(x.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(x))
    }

    /// Maps `[rows, d_model]` to the same shape, as deployed.
    #[must_use]
    pub fn step(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = self.gate_proj.step(x.clone());
        self.down_proj.step(ops::swiglu(gate, self.up_proj.step(x)))
    }
}
