//! Where the biases of time steps start, in both Mambas.

use burn::module::Param;
use burn::tensor::{Device, Distribution, Tensor};

use crate::config::TimeStep;
use crate::layers::{lazy, random};

/// Biases, `[width]`, whose softplus is log-uniform between `min` and `max` and not below `floor`.
///
/// The inverse of the softplus is `t + log(1 - exp(-t))` (Gu & Dao 2023, section 3.6 and its code).
pub(super) fn time_step_bias(width: usize, steps: TimeStep, device: &Device) -> Param<Tensor<1>> {
    lazy([width], device, move |device| {
        let range = Distribution::Uniform(steps.min.ln(), steps.max.ln());
        let t: Tensor<1> = random([width], range, device).exp().clamp_min(steps.floor);
        t.clone() + (-t).exp().neg().log1p()
    })
}
