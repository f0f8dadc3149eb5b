//! The layers that the backbones share: each a Burn module over `PyTorch`'s layout of its weights.
//!
//! They are our own, not `burn::nn`'s, so that a weight lies in the module as it lies in a checkpoint and as the
//! deployed operators read it: a matrix is `[d_out, d_in]`. Parameters are lazy: a module that is about to be loaded
//! never fills its memory with random numbers first.

mod causal_conv;
mod embedding;
mod gated_rms_norm;
mod init;
mod linear;
mod rms_norm;

pub use causal_conv::CausalConv;
pub use embedding::Embedding;
pub use gated_rms_norm::GatedRmsNorm;
pub use init::Init;
pub use linear::Linear;
pub use rms_norm::RmsNorm;

pub(crate) use init::{lazy, random, seeded};
pub(crate) use rms_norm::normalize;
