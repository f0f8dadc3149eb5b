//! How many bytes a weight takes in a bundle: the file is the memory image, so this is also its size in memory.
//!
//! A tiled matrix `[d_out, d_in]` is cut into panels of [`PANEL_ROWS`] output rows over all inputs. Both sides are
//! padded with zeros, to whole panels and to whole blocks of [`BLOCK_INPUTS`] inputs. One panel:
//!
//! ```text
//! f32  [blocks · 32][16] f32
//! f16  [blocks · 32][16] f16
//! q8   [blocks][16] f16 scales, padding to 64 bytes, [blocks][8][16][4] i8
//! q4   [blocks][16] f16 scales, padding to 64 bytes, [blocks][4][16][4] pairs of 4 bits
//! ```

use crate::program::{DType, Kind, Layout, Rows, Tensor};

/// Sections, panels and quants start at multiples of this.
pub const ALIGN_BYTES: u64 = 64;
/// Output rows in a panel: one SIMD lane each.
pub const PANEL_ROWS: u32 = 16;
/// Inputs that share a scale.
pub const BLOCK_INPUTS: u32 = 32;

/// Bytes of one panel of a tiled matrix with `d_in` inputs; a multiple of [`ALIGN_BYTES`].
#[must_use]
pub const fn panel_bytes(dtype: DType, d_in: u32) -> u64 {
    let blocks = d_in.div_ceil(BLOCK_INPUTS) as u64;
    let (scales, quants) = match dtype {
        DType::F32 => (0, 32 * 16 * 4),
        DType::F16 => (0, 32 * 16 * 2),
        DType::Q8 => (16 * 2, 32 * 16),
        DType::Q4 => (16 * 2, 32 * 16 / 2),
    };
    // At most 2²⁷ blocks of 2 KiB: saturation is never reached.
    align(blocks.saturating_mul(scales)).saturating_add(blocks.saturating_mul(quants))
}

/// The next multiple of [`ALIGN_BYTES`]; `u64::MAX`, which is none, where that does not exist.
pub(crate) const fn align(bytes: u64) -> u64 {
    match bytes.checked_next_multiple_of(ALIGN_BYTES) {
        Some(aligned) => aligned,
        None => u64::MAX,
    }
}

impl Tensor {
    /// Bytes of its section.
    ///
    /// `None` for what has no stored form: a state or an activation, a plain tensor that is not f32, a number of rows
    /// that depends on the plan, or a product above `u64::MAX`.
    #[must_use]
    pub const fn stored_bytes(&self) -> Option<u64> {
        let (Kind::Weight { layout, .. }, Rows::Fixed(rows)) = (self.kind, self.rows) else {
            return None;
        };
        match (layout, self.dtype) {
            (Layout::Plain, DType::F32) => {
                let numbers = (rows as u64).saturating_mul(self.width as u64);
                numbers.checked_mul(4)
            }
            (Layout::Plain, _) => None,
            (Layout::Tiled, dtype) => {
                (rows.div_ceil(PANEL_ROWS) as u64).checked_mul(panel_bytes(dtype, self.width))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(dtype: DType, layout: Layout, rows: u32, width: u32) -> Tensor {
        Tensor { dtype, rows: Rows::Fixed(rows), width, kind: Kind::Weight { section: 0, layout } }
    }

    #[test]
    fn a_plain_tensor_has_no_padding() {
        let tensor = weight(DType::F32, Layout::Plain, 3, 5);
        assert_eq!(tensor.stored_bytes(), Some(60), "3 · 5 · 4");
        let halves = weight(DType::F16, Layout::Plain, 3, 5);
        assert_eq!(halves.stored_bytes(), None, "operators read plain tensors as f32");
    }

    #[test]
    fn a_tiled_matrix_is_padded_to_panels_and_blocks() {
        let bytes = |dtype, rows, width| weight(dtype, Layout::Tiled, rows, width).stored_bytes();
        // One block: 16 scales of 2 bytes take 32, padded to 64.
        assert_eq!(bytes(DType::Q4, 1, 1), Some(64 + 256), "q4, one block");
        assert_eq!(bytes(DType::Q8, 16, 32), Some(64 + 512), "q8, one block");
        // Two panels of three blocks: 96 bytes of scales, padded to 128.
        assert_eq!(bytes(DType::Q4, 17, 65), Some(2 * (128 + 3 * 256)), "q4, 2 panels of 3 blocks");
        assert_eq!(bytes(DType::F16, 16, 33), Some(2 * 1024), "f16, two blocks");
        assert_eq!(bytes(DType::F32, 16, 32), Some(2048), "f32, one block");
    }

    #[test]
    fn a_size_that_does_not_fit_is_none() {
        let tensor = weight(DType::F32, Layout::Tiled, u32::MAX, u32::MAX);
        assert_eq!(tensor.stored_bytes(), None, "2²⁸ panels of 2³⁸ bytes");
        let plain = weight(DType::F32, Layout::Plain, u32::MAX, u32::MAX);
        assert_eq!(plain.stored_bytes(), None, "2⁶⁶ bytes");
    }

    #[test]
    fn states_and_activations_are_not_stored() {
        for kind in [Kind::State, Kind::Activation] {
            let tensor = Tensor { dtype: DType::F32, rows: Rows::Fixed(1), width: 4, kind };
            assert_eq!(tensor.stored_bytes(), None, "{kind:?}");
        }
    }
}
