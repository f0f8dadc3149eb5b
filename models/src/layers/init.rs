//! How a parameter starts when a model is trained from nothing.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Distribution, Shape, Tensor};

/// The distribution that a parameter is drawn from, at its first use.
///
/// ```
/// use burn::tensor::Device;
/// use dynamax_models::layers::Init;
///
/// let weight = Init::Constant(1.0).param([2, 3], &Device::flex());
/// assert_eq!(weight.val().sum().into_scalar::<f32>(), 6.0, "six ones");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every number is this one.
    Constant(f64),
    /// Normal around zero.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform between `-bound` and `bound`.
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
}

impl Init {
    /// Makes a parameter of `shape`, which is drawn at its first use.
    #[must_use]
    pub fn param<const D: usize>(self, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
        lazy(shape, device, move |device| match self {
            Self::Constant(value) => Tensor::full(shape, value, device),
            Self::Normal { std } => Tensor::random(shape, Distribution::Normal(0.0, std), device),
            Self::Uniform { bound } => {
                Tensor::random(shape, Distribution::Uniform(-bound, bound), device)
            }
        })
    }
}

/// A parameter that `fill` makes at its first use, or that is loaded before.
pub(crate) fn lazy<const D: usize>(
    shape: [usize; D],
    device: &Device,
    fill: impl FnOnce(&Device) -> Tensor<D> + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    let value = move |device: &Device, is_trained| {
        let value = fill(device);
        if is_trained { value.require_grad() } else { value }
    };
    Param::uninitialized(ParamId::new(), value, device.clone(), true, Shape::from(shape))
}
