//! From f32 to integers with scales: activations while running, weights beforehand.

mod pack;
mod rows;
mod search;

pub use pack::{PackError, PackReport, pack_panel};
pub use rows::{QuantizedBlock, QuantizedRows};
