//! Weight formats and kernels.
//!
//! Every kernel gives the same bits on every instruction set: the reference in plain Rust defines the answer, and an
//! [`Isa`] only says how fast it comes. Weights are tiled so that a SIMD lane owns an output row; integer dot products
//! are exact; float sums run in one stated order, with a fused multiply-add exactly where the formula says so.
//!
//! - [`Matrix`]: weights in one of four [`Format`]s, used where they lie, and [`pack_panel`], which makes them.
//! - [`Isa::linear`]: matrix times rows, for [`Rows`](view::Rows) of f32 or [`QuantizedRows`] of int8.

#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod arch;
mod f16;
mod fma;
pub mod format;
mod isa;
mod lanes;
pub mod linear;
pub mod math;
pub mod matrix;
pub mod ops;
pub mod quantize;
mod stream;
pub mod view;

pub use format::Format;
pub use isa::Isa;
pub use linear::Input;
pub use matrix::{Matrix, MatrixError};
pub use quantize::{PackError, PackReport, QuantizedBlock, QuantizedRows, pack_panel};
