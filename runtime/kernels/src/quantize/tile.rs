//! Blocks that another program has quantized, into panels.
//!
//! A block by itself is an f16 scale and then its integers: for q8 32 of them, i8; for q4 16 bytes, the first half of the
//! weights in the low nibbles, the second in the high ones, each 8 too large. That is how GGUF's `Q8_0` and `Q4_0` lie, and
//! all that differs from a panel is the order: no weight is rounded again.

use super::PackError;
use super::pack::empty_panel;
use crate::f16::f16_to_f32;
use crate::format::{BLOCK, Format, PANEL, scale_bytes};

/// Bytes of a block's scale.
const SCALE: usize = 2;

/// Bytes of one block that lies by itself; `None` for formats that have no blocks.
#[must_use]
pub const fn block_bytes(format: Format) -> Option<usize> {
    match format {
        Format::F32 | Format::F16 => None,
        Format::Q8 => Some(SCALE + BLOCK),
        Format::Q4 => Some(SCALE + BLOCK / 2),
    }
}

/// Arranges up to 16 rows of blocks as one panel of a [`Matrix`](crate::Matrix). Every weight keeps its value.
///
/// # Shapes
///
/// - `rows`: `[1..=16, d_in / 32]` blocks of [`block_bytes`], row-major; missing rows are stored as zeros
/// - `out`: `[format.panel_bytes(d_in)]` bytes, overwritten
///
/// # Errors
///
/// If a scale is not finite.
///
/// # Panics
///
/// Panics if the format has no blocks, `rows` are not whole rows of whole blocks, more than 16, or `out` has another
/// length.
pub fn tile_panel(
    format: Format,
    rows: &[u8],
    d_in: usize,
    out: &mut [u8],
) -> Result<(), PackError> {
    let Some(block_bytes) = block_bytes(format) else {
        panic!("{} has no blocks", format.name());
    };
    let blocks = d_in / BLOCK;
    let row_bytes = blocks * block_bytes;
    assert!(d_in.is_multiple_of(BLOCK), "{d_in} inputs are not whole blocks");
    assert_eq!(Some(out.len()), format.panel_bytes(d_in), "bytes of a panel");
    if d_in == 0 {
        return Ok(());
    }
    assert!(
        rows.len().is_multiple_of(row_bytes) && rows.len() <= PANEL * row_bytes,
        "{} bytes in rows of {row_bytes}",
        rows.len()
    );
    empty_panel(format, d_in, out);
    let (scales, quants) = out.split_at_mut(scale_bytes(blocks));
    let panel_block = quants.len() / blocks;
    for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (index, block) in row.chunks_exact(block_bytes).enumerate() {
            let (scale, integers) = block.split_at(SCALE);
            if !f16_to_f32(u16::from_le_bytes([scale[0], scale[1]])).is_finite() {
                return Err(PackError::NotFinite { row: lane, column: index * BLOCK });
            }
            scales[(index * PANEL + lane) * SCALE..][..SCALE].copy_from_slice(scale);
            // Four neighbouring bytes of a row stay together: integers of q8, pairs of nibbles of q4.
            let out = &mut quants[index * panel_block..][..panel_block];
            for (group, bytes) in integers.chunks_exact(4).enumerate() {
                out[(group * PANEL + lane) * 4..][..4].copy_from_slice(bytes);
            }
        }
    }
    Ok(())
}
