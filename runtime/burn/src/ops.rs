//! The operators, as functions on Burn tensors, under the names that they have in the Program.
//!
//! Activations are `[rows, width]`, one row per token. A state goes in and comes out: Burn's tensors are values, and
//! only the deployed Program updates states in place. Every function panics on shapes that do not fit, with the
//! operand's name, on every device and so also during capture.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use dynamax_burn::ops;
//!
//! let device = Device::flex();
//! let x = Tensor::<2>::ones([1, 4], &device);
//! let y = ops::add(x.clone(), x);
//! assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [2.0; 4], "one and one");
//! ```

mod attention;
mod mamba;
mod norm;
mod rows;

pub use attention::{AttentionShape, KvCache, attention, rope, rope_angles};
pub use mamba::{Activation, DualShape, causal_conv, selective_scan, state_space_dual};
pub use norm::{gated_rms_norm, rms_norm};
pub use rows::{add, embed, linear, select, silu, swiglu};
