//! An executor of the Program on a GPU, over Vulkan: WGSL kernels on planned buffers, behind the engine's decoder.
//!
//! ```text
//! Decoder ─▶ WgpuDevice ─▶ a list of dispatches, noted ─▶ one submit, when something is read
//! ```
//!
//! - Weights stay as the bundle stores them, and are dequantized in registers. Products of integers are exact, as they are
//!   everywhere; sums of f32 are rounded in another order, or not fused, so that logits differ in their last digits.
//! - One buffer has the plan's arena, one each weight and each state. Nothing is allocated after a model is loaded.
//! - With exits off a token is one submit and four bytes read back: the id of the largest logit.
//!
//! It refuses to decide anything: exits, waiting rows and sampling are the decoder's.
//!
//! Without feature `vulkan` this crate only knows what a model would hold on a GPU.

#[cfg(feature = "vulkan")]
mod buffers;
#[cfg(feature = "vulkan")]
mod device;
#[cfg(feature = "vulkan")]
mod gpu;
#[cfg(feature = "vulkan")]
mod kernel;
#[cfg(feature = "vulkan")]
mod lower;
mod plan;
#[cfg(feature = "vulkan")]
mod tape;
#[cfg(feature = "vulkan")]
mod upload;
#[cfg(feature = "vulkan")]
mod weights;

#[cfg(feature = "vulkan")]
pub use device::{Counts, WgpuDevice};
#[cfg(feature = "vulkan")]
pub use gpu::Unavailable;
pub use plan::{Held, TooMuch};
