//! The mixer: projections, a short convolution, the selective scan.

use burn::module::{Module, Param};
use burn::tensor::activation::{silu, softplus};
use burn::tensor::{Device, Tensor};
use dynamax_burn::ops;

use super::scan::{Scan, selective_scan};
use crate::backbone::time_step::time_step_bias;
use crate::config::MambaConfig;
use crate::layers::{CausalConv, Init, Linear, lazy};
use crate::step::States;

/// Mamba's mixer (Gu & Dao 2023, section 3.4). Hugging Face's `in_proj` and `x_proj` are each cut into the two matrices
/// that the deployed operators read.
#[derive(Module, Debug)]
pub struct MambaMixer {
    /// To the recurrence, `[d_inner, d_model]`.
    pub in_proj_x: Linear,
    /// To the gate, `[d_inner, d_model]`.
    pub in_proj_z: Linear,
    /// Over the channels of the recurrence.
    pub conv1d: CausalConv,
    /// To what time steps are made of, `[dt_rank, d_inner]`.
    pub x_proj_dt: Linear,
    /// To `b`, then `c`, `[2 · d_state, d_inner]`.
    pub x_proj_bc: Linear,
    /// To time steps, `[d_inner, dt_rank]`, with a bias.
    pub dt_proj: Linear,
    /// `log(-a)`, `[d_state, d_inner]`, transposed from Hugging Face so that a lane is a channel.
    pub a_log: Param<Tensor<2>>,
    /// Lets `x` pass the recurrence by, `[d_inner]`.
    pub d: Param<Tensor<1>>,
    /// `[d_model, d_inner]`.
    pub out_proj: Linear,
}

impl MambaMixer {
    /// Makes a mixer.
    #[must_use]
    pub fn new(config: &MambaConfig, device: &Device) -> Self {
        let (d_model, d_inner, d_state, dt_rank) =
            (config.d_model, config.d_inner, config.d_state, config.dt_rank);
        let linear = |d_in: usize, d_out, depth: usize| {
            let init = Init::Uniform { bound: 1.0 / (d_in as f64 * depth as f64).sqrt() };
            Linear::new(d_in, d_out, init, device)
        };
        let mut dt_proj = linear(dt_rank, d_inner, 1);
        dt_proj.bias = Some(time_step_bias(d_inner, config.time_step, device));
        Self {
            in_proj_x: linear(d_model, d_inner, 1).with_bias(config.has_bias),
            in_proj_z: linear(d_model, d_inner, 1).with_bias(config.has_bias),
            conv1d: CausalConv::new(d_inner, config.d_conv, config.has_conv_bias, device),
            x_proj_dt: linear(d_inner, dt_rank, 1),
            x_proj_bc: linear(d_inner, 2 * d_state, 1),
            dt_proj,
            // S4D-Real: a = -1, -2, .. (section 3.6).
            a_log: lazy([d_state, d_inner], device, move |device| {
                let numbers = Tensor::arange(1..d_state as i64 + 1, device).float();
                numbers.log().reshape([d_state, 1]).repeat_dim(1, d_inner)
            }),
            d: Init::Constant(1.0).param([d_inner], device),
            out_proj: linear(d_inner, d_model, config.n_layers).with_bias(config.has_bias),
        }
    }

    /// Mixes each sequence.
    ///
    /// # Shapes
    ///
    /// - `x`, and returned: `[batch, seq, d_model]`
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let z = self.in_proj_z.forward(x.clone());
        let x = self.conv1d.forward(self.in_proj_x.forward(x));
        let dt = softplus(self.dt_proj.forward(self.x_proj_dt.forward(x.clone())), 1.0);
        let bc = self.x_proj_bc.forward(x.clone());
        let d_state = bc.dims()[2] / 2;
        let y = selective_scan(Scan {
            x: x.clone(),
            dt,
            a: -self.a_log.val().exp(),
            b: bc.clone().narrow(2, 0, d_state),
            c: bc.narrow(2, d_state, d_state),
        });
        let y = y + x * self.d.val().unsqueeze();
        self.out_proj.forward(y * silu(z))
    }

    /// Adds the states of the convolution and of the scan.
    pub fn add_states(&self, states: &mut States, device: &Device) {
        self.conv1d.add_states(states, device);
        states.add(self.a_log.lazy_shape().dims(), device);
    }

    /// Mixes `[rows, d_model]` as deployed, after the rows in its states.
    #[must_use]
    pub fn step(&self, x: Tensor<2>, states: &mut States) -> Tensor<2> {
        let z = self.in_proj_z.step(x.clone());
        let x = self.conv1d.step(self.in_proj_x.step(x), states);
        let dt = self.dt_proj.step(self.x_proj_dt.step(x.clone()));
        let bc = self.x_proj_bc.step(x.clone());
        let (a_log, d) = (self.a_log.val(), self.d.val());
        let y = states.update(|state| ops::selective_scan(x, dt, bc, a_log, d, state));
        self.out_proj.step(ops::swiglu(z, y))
    }
}
