//! From f32 to integers with scales: activations while running, weights beforehand.

mod pack;
mod rows;
mod search;
mod tile;

pub use pack::{PackError, PackReport, pack_panel};
pub use rows::{QuantizedBlock, QuantizedRows};
pub use tile::{block_bytes, tile_panel};
