//! What makes the residual stream of an early layer more like that of the last.

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use dynamax_burn::ops;

use crate::layers::{Init, Linear, RmsNorm};

/// A light feed-forward block on the residual stream, without a state:
///
/// ```text
/// y = x + down(silu(gate(n)) ⊙ up(n))        n = norm(x)
/// ```
///
/// After Balcony (arXiv 2503.05005), with a feed-forward block in place of a whole layer. `down` starts at zero, so
/// that an adapter begins as if it were not there.
#[derive(Module, Debug)]
pub struct Adapter {
    /// `[d_model]`.
    pub norm: RmsNorm,
    /// `[width, d_model]`.
    pub gate_proj: Linear,
    /// `[width, d_model]`.
    pub up_proj: Linear,
    /// `[d_model, width]`.
    pub down_proj: Linear,
}

impl Adapter {
    /// Makes an adapter that does nothing yet.
    #[must_use]
    pub fn new(d_model: usize, width: usize, eps: f64, device: &Device) -> Self {
        let init = Init::Uniform { bound: (d_model as f64).sqrt().recip() };
        Self {
            norm: RmsNorm::new(d_model, eps, device),
            gate_proj: Linear::new(d_model, width, init, device),
            up_proj: Linear::new(d_model, width, init, device),
            down_proj: Linear::new(width, d_model, Init::Constant(0.0), device),
        }
    }

    /// Maps `[batch, seq, d_model]` to the same shape.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let normed = self.norm.forward(x.clone());
        let gate = silu(self.gate_proj.forward(normed.clone()));
        x + self.down_proj.forward(gate * self.up_proj.forward(normed))
    }

    /// Maps `[rows, d_model]` to the same shape, as deployed.
    #[must_use]
    pub fn step(&self, x: Tensor<2>) -> Tensor<2> {
        let normed = self.norm.step(x.clone());
        let gate = self.gate_proj.step(normed.clone());
        x + self.down_proj.step(ops::swiglu(gate, self.up_proj.step(normed)))
    }
}
