//! The operators of the Program as functions on Burn tensors.
//!
//! A backbone has two methods side by side: `forward`, plain differentiable Burn for training, and `step`, the decode
//! step written with [`ops`]. What a `step` does depends on the device of its tensors alone:
//!
//! | device | an operator |
//! |---|---|
//! | [`Flex`](burn::backend::Flex), `NdArray` | runs the kernel that the deployed Program runs: the reference |
//! | [`Capture`](burn_capture::CaptureBackend) | is recorded, and lowered to an operator of the Program |
//!
//! So there is one description of a model, and no compiler to write for a new one. The operators refuse to be
//! differentiated: that is what `forward` is for.
//!
//! [`BurnDevice`] is the other user of the operators: it runs the Program of a bundle on a Burn device, behind the engine's
//! decoder.

mod capture;
mod device;
mod host;
#[cfg_attr(
    feature = "ndarray",
    expect(deprecated, reason = "the dispatch over backends names NdArray")
)]
mod operators;

pub mod ops;
#[cfg_attr(
    feature = "ndarray",
    expect(deprecated, reason = "the dispatch over backends names NdArray")
)]
pub mod stored;

pub use device::{Backend, BurnDevice, Unavailable};
pub use operators::Operators;
