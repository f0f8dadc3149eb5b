//! The mixer: projections, a short convolution, the recurrence, a gated norm.

use burn::module::{Module, Param};
use burn::tensor::activation::softplus;
use burn::tensor::{Device, Distribution, Tensor};
use dynamax_burn::ops::{self, DualShape};

use super::dual::{Dual, state_space_dual};
use crate::backbone::time_step::time_step_bias;
use crate::config::Mamba2Config;
use crate::layers::{CausalConv, GatedRmsNorm, Init, Linear, lazy, random};
use crate::step::States;

/// Mamba-2's mixer (Dao & Gu 2024, section 7). Hugging Face's `in_proj` is cut into the three matrices that the
/// deployed operators read.
#[derive(Module, Debug)]
pub struct Mamba2Mixer {
    /// To the gate, `[d_inner, d_model]`.
    pub in_proj_z: Linear,
    /// To `x`, then `b` and `c` of every group, `[d_inner + 2 · n_groups · d_state, d_model]`.
    pub in_proj_xbc: Linear,
    /// To time steps, `[n_heads, d_model]`.
    pub in_proj_dt: Linear,
    /// Over the channels of `in_proj_xbc`.
    pub conv1d: CausalConv,
    /// Added to time steps before their softplus, `[n_heads]`.
    pub dt_bias: Param<Tensor<1>>,
    /// `log(-a)`, `[n_heads]`.
    pub a_log: Param<Tensor<1>>,
    /// Lets `x` pass the recurrence by, `[n_heads]`.
    pub d: Param<Tensor<1>>,
    /// Before the projection out, `[d_inner]`, per group.
    pub norm: GatedRmsNorm,
    /// `[d_model, d_inner]`.
    pub out_proj: Linear,
    /// Heads.
    pub n_heads: usize,
    /// Groups of heads that share `b` and `c`.
    pub n_groups: usize,
    /// Numbers of state per channel.
    pub d_state: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Tokens in a block of the whole-sequence pass.
    pub chunk_size: usize,
    /// Smallest time step.
    pub dt_min: f32,
    /// Largest time step; may be infinite.
    pub dt_max: f32,
}

impl Mamba2Mixer {
    /// Makes a mixer.
    #[must_use]
    pub fn new(config: &Mamba2Config, device: &Device) -> Self {
        let (d_model, d_inner, n_heads) = (config.d_model, config.d_inner(), config.n_heads);
        let linear = |d_in: usize, d_out, depth: usize| {
            let init = Init::Uniform { bound: 1.0 / (d_in as f64 * depth as f64).sqrt() };
            Linear::new(d_in, d_out, init, device).with_bias(config.has_bias)
        };
        Self {
            in_proj_z: linear(d_model, d_inner, 1),
            in_proj_xbc: linear(d_model, config.conv_channels(), 1),
            in_proj_dt: linear(d_model, n_heads, 1),
            conv1d: CausalConv::new(
                config.conv_channels(),
                config.d_conv,
                config.has_conv_bias,
                device,
            ),
            dt_bias: time_step_bias(n_heads, config.time_step, device),
            a_log: lazy([n_heads], device, move |device| {
                random([n_heads], Distribution::Uniform(1.0, 16.0), device).log()
            }),
            d: Init::Constant(1.0).param([n_heads], device),
            norm: GatedRmsNorm::new(d_inner, d_inner / config.n_groups, config.norm_eps, device),
            out_proj: linear(d_inner, d_model, config.n_layers),
            n_heads,
            n_groups: config.n_groups,
            d_state: config.d_state,
            head_dim: config.head_dim,
            chunk_size: config.chunk_size,
            dt_min: config.dt_limit.0,
            dt_max: config.dt_limit.1,
        }
    }

    /// Mixes each sequence.
    ///
    /// # Shapes
    ///
    /// - `x`, and returned: `[batch, seq, d_model]`
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, _] = x.dims();
        let (d_inner, d_bc) = (self.n_heads * self.head_dim, self.n_groups * self.d_state);
        let z = self.in_proj_z.forward(x.clone());
        let xbc = self.conv1d.forward(self.in_proj_xbc.forward(x.clone()));
        let dt = self.time_steps(self.in_proj_dt.forward(x));
        let heads =
            xbc.clone().narrow(2, 0, d_inner).reshape([batch, seq, self.n_heads, self.head_dim]);
        let groups = |start| {
            xbc.clone().narrow(2, start, d_bc).reshape([batch, seq, self.n_groups, self.d_state])
        };
        let y = state_space_dual(Dual {
            x: heads.clone(),
            dt,
            a: -self.a_log.val().exp(),
            b: groups(d_inner),
            c: groups(d_inner + d_bc),
            chunk_size: self.chunk_size,
        });
        let y = y + heads * self.d.val().reshape([1, 1, self.n_heads, 1]);
        self.out_proj.forward(self.norm.forward(y.reshape([batch, seq, d_inner]), z))
    }

    /// Adds the states of the convolution and of the recurrence.
    pub(super) fn add_states(&self, states: &mut States, device: &Device) {
        self.conv1d.add_states(states, device);
        states.add([self.n_heads * self.d_state, self.head_dim], device);
    }

    /// Mixes `[rows, d_model]` as deployed, after the rows in its states.
    pub(super) fn step(&self, x: Tensor<2>, states: &mut States) -> Tensor<2> {
        let z = self.in_proj_z.step(x.clone());
        let xbc = self.conv1d.step(self.in_proj_xbc.step(x.clone()), states);
        let dt = self.in_proj_dt.step(x);
        let &Self { n_heads, n_groups, d_state, dt_min, dt_max, .. } = self;
        let shape = DualShape { n_heads, n_groups, d_state, dt_min, dt_max };
        let (dt_bias, a_log, d) = (self.dt_bias.val(), self.a_log.val(), self.d.val());
        let y =
            states.update(|state| ops::state_space_dual(xbc, dt, dt_bias, a_log, d, state, shape));
        self.out_proj.step(self.norm.step(y, z))
    }

    /// `clamp(softplus(dt + dt_bias), dt_min, dt_max)`, `[batch, seq, n_heads]`.
    fn time_steps(&self, dt: Tensor<3>) -> Tensor<3> {
        let dt = softplus(dt + self.dt_bias.val().unsqueeze(), 1.0);
        let dt = if self.dt_min > 0.0 { dt.clamp_min(self.dt_min) } else { dt };
        if self.dt_max.is_finite() { dt.clamp_max(self.dt_max) } else { dt }
    }
}
