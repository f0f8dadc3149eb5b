//! The operators of a Program that are not [linear](crate::Isa::linear): methods of [`Isa`](crate::Isa), one file each.
//!
//! Bodies are plain Rust, compiled once for each instruction set: the same bits by construction. A row's result does not
//! depend on the rows, heads or columns that are computed in the same call, so callers may split them as they like.

mod argmax;
pub(crate) mod attention;
mod causal_conv;
mod elementwise;
mod norm;
mod rope;
mod selective_scan;
mod span;
mod state_space_dual;

pub use attention::{Attention, Cache, CacheMut, cache_capacity};
pub use causal_conv::{CausalConv, ConvActivation};
pub use selective_scan::SelectiveScan;
pub use span::{MOST_D_STATE, Span};
pub use state_space_dual::{SsdShape, StateSpaceDual};
