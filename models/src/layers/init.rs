//! How a parameter starts when a model is trained from nothing.

use std::cell::RefCell;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Distribution, Shape, Tensor, TensorData};

use crate::random::SplitMix;

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
            Self::Normal { std } => random(shape, Distribution::Normal(0.0, std), device),
            Self::Uniform { bound } => random(shape, Distribution::Uniform(-bound, bound), device),
        })
    }
}

thread_local! {
    /// Where [`random`] draws from within [`seeded`].
    static SEEDED: RefCell<Option<SplitMix>> = const { RefCell::new(None) };
}

/// Runs `draw`, in which parameters that are used for the first time come from a generator of their own.
///
/// Burn's generator is one of the whole process, and parameters are lazy: what they become would depend on what other
/// threads draw in between. This one is of this thread and of this call.
pub(crate) fn seeded<R>(seed: u64, draw: impl FnOnce() -> R) -> R {
    SEEDED.set(Some(SplitMix::new(seed)));
    let drawn = draw();
    SEEDED.set(None);
    drawn
}

/// Random numbers, on any device; within [`seeded`], a function of its seed and of what was drawn in it before.
pub(crate) fn random<const D: usize>(
    shape: [usize; D],
    from: Distribution,
    device: &Device,
) -> Tensor<D> {
    let drawn = SEEDED.with_borrow_mut(|seeded| {
        let generator = seeded.as_mut()?;
        let count = shape.iter().product();
        let mut draw = |number: &dyn Fn(&mut SplitMix) -> f64| {
            (0..count).map(|_| number(generator) as f32).collect::<Vec<_>>()
        };
        match from {
            Distribution::Normal(mean, std) => Some(draw(&|random| mean + std * random.normal())),
            Distribution::Uniform(low, high) => {
                Some(draw(&|random| low + (high - low) * random.unit()))
            }
            _ => None,
        }
    });
    match drawn {
        Some(numbers) => Tensor::from_data(TensorData::new(numbers, shape), device),
        // Not drawn here on the capture device above all, where a parameter has a shape and no numbers.
        None => Tensor::random(shape, from, device),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64) -> Vec<f32> {
        let param = Init::Normal { std: 1.0 }.param([2, 8], &Device::flex());
        seeded(seed, || param.val()).into_data().iter().collect()
    }

    #[test]
    fn seeded_numbers_do_not_depend_on_what_others_draw() {
        let alone = numbers(5);
        let noise = std::thread::spawn(|| {
            let device = Device::flex();
            for _ in 0..1000 {
                let _ = Tensor::<1>::random([4], Distribution::Default, &device);
            }
        });
        for _ in 0..100 {
            assert_eq!(numbers(5), alone, "the same beside another thread");
        }
        noise.join().unwrap();
        assert_ne!(numbers(6), alone, "another seed");
    }
}
