//! How weights are stored.
//!
//! A matrix `[d_out, d_in]` is cut into **panels** of 16 output rows, and a panel into **blocks** of 32 inputs; both are
//! padded with zeros. Within a panel, what a SIMD register holds at once lies together: 16 rows side by side, and for
//! integers 4 neighbouring inputs of each. So one layout serves a register of 64 bytes, two of 32 or four of 16, a lane
//! owns a row, and the file is the memory image.
//!
//! | format | panel |
//! |---|---|
//! | f32 | `[d_in][16]` f32 |
//! | f16 | `[d_in][16]` f16 |
//! | q8 | scales `[blocks][16]` f16, padded to 64 bytes; then `[blocks][8 groups][16][4 inputs]` i8 |
//! | q4 | scales as q8; then `[blocks][4][16][4 inputs]` bytes: low nibble = group g, high nibble = group g + 4 |
//!
//! A q8 weight is `scale · i8`, a q4 weight `scale · (nibble − 8)`, with one scale for each row of a block.

/// Output rows in a panel.
pub const PANEL: usize = 16;

/// Inputs in a block.
pub const BLOCK: usize = 32;

/// Panels start at multiples of this many bytes.
pub const ALIGN: usize = 64;

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// Integers of 8 bits, with one f16 scale for 32 inputs.
    Q8,
    /// Integers of 4 bits, with one f16 scale for 32 inputs.
    Q4,
}

impl Format {
    /// Name: `f32`, `f16`, `q8` or `q4`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// True if a linear kernel takes its input as int8 blocks.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4)
    }

    /// Bytes of a panel, or `None` if they cannot be counted.
    #[must_use]
    pub const fn panel_bytes(self, d_in: usize) -> Option<usize> {
        let Some(padded) = d_in.checked_next_multiple_of(BLOCK) else { return None };
        let per_block = match self {
            Self::F32 => BLOCK * PANEL * 4,
            Self::F16 => BLOCK * PANEL * 2,
            Self::Q8 => BLOCK * PANEL,
            Self::Q4 => BLOCK * PANEL / 2,
        };
        let Some(weights) = (padded / BLOCK).checked_mul(per_block) else { return None };
        if self.is_quantized() {
            weights.checked_add(scale_bytes(padded / BLOCK))
        } else {
            Some(weights)
        }
    }

    /// Bytes of a matrix, or `None` if they cannot be counted.
    #[must_use]
    pub const fn matrix_bytes(self, d_out: usize, d_in: usize) -> Option<usize> {
        match self.panel_bytes(d_in) {
            Some(panel) => panel.checked_mul(d_out.div_ceil(PANEL)),
            None => None,
        }
    }

    /// Bits that a weight takes, scales included, padding not.
    #[must_use]
    pub const fn bits_per_weight(self) -> f64 {
        match self {
            Self::F32 => 32.0,
            Self::F16 => 16.0,
            Self::Q8 => 8.5,
            Self::Q4 => 4.5,
        }
    }
}

/// Bytes of the scales of a quantized panel.
pub(crate) const fn scale_bytes(blocks: usize) -> usize {
    (blocks * PANEL * 2).next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Format; 4] = [Format::F32, Format::F16, Format::Q8, Format::Q4];

    #[test]
    fn panels_have_the_size_of_their_layout() {
        // 33 inputs are 2 blocks.
        assert_eq!(Format::F32.panel_bytes(33), Some(64 * 16 * 4), "f32");
        assert_eq!(Format::F16.panel_bytes(33), Some(64 * 16 * 2), "f16");
        assert_eq!(Format::Q8.panel_bytes(33), Some(64 + 2 * 512), "q8");
        assert_eq!(Format::Q4.panel_bytes(33), Some(64 + 2 * 256), "q4");
        // One block: 32 bytes of scales are padded to 64.
        assert_eq!(Format::Q4.panel_bytes(1), Some(64 + 256), "padded scales");
        assert_eq!(Format::Q4.panel_bytes(0), Some(0), "nothing");
    }

    #[test]
    fn matrices_are_whole_panels() {
        for format in ALL {
            let panel = format.panel_bytes(40).unwrap();
            assert_eq!(panel % ALIGN, 0, "{format:?} panels stay aligned");
            assert_eq!(format.matrix_bytes(17, 40), Some(2 * panel), "{format:?}");
            assert_eq!(format.matrix_bytes(0, 40), Some(0), "{format:?} without rows");
        }
    }

    #[test]
    fn sizes_that_cannot_be_counted_are_none() {
        for format in ALL {
            assert_eq!(format.panel_bytes(usize::MAX), None, "{format:?} padding");
            assert_eq!(format.panel_bytes(usize::MAX - 63), None, "{format:?} panel");
            assert_eq!(format.matrix_bytes(usize::MAX, 1 << 20), None, "{format:?} matrix");
        }
    }

    #[test]
    fn bits_per_weight_are_those_of_a_large_matrix() {
        for format in ALL {
            let bytes = format.matrix_bytes(4096, 4096).unwrap();
            #[expect(clippy::float_cmp, reason = "both are exact")]
            {
                assert_eq!(
                    (bytes * 8) as f64 / (4096.0 * 4096.0),
                    format.bits_per_weight(),
                    "{format:?}"
                );
            }
        }
    }
}
