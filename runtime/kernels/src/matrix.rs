//! Weights, used where they lie.

use core::fmt;
use core::ops::Range;

use crate::f16::f16_to_f32;
use crate::format::{ALIGN, BLOCK, Format, PANEL, scale_bytes};

/// A weight `[d_out, d_in]` in one of the [`Format`]s.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    format: Format,
    d_out: usize,
    d_in: usize,
    panel_bytes: usize,
    bytes: &'a [u8],
}

/// Why bytes are not a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MatrixError {
    /// The length is not that of the shape; `need` is `usize::MAX` for a shape beyond all memory.
    Length {
        /// Bytes of the shape.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// The bytes do not start at a multiple of [`ALIGN`].
    Misaligned,
}

impl fmt::Display for MatrixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { need, have } => write!(f, "a matrix of {need} bytes is given {have}"),
            Self::Misaligned => write!(f, "a matrix does not start at a multiple of {ALIGN} bytes"),
        }
    }
}

impl core::error::Error for MatrixError {}

impl<'a> Matrix<'a> {
    /// Views `bytes` as a matrix.
    ///
    /// # Errors
    ///
    /// If `bytes` have the wrong length or alignment.
    pub fn new(
        format: Format,
        d_out: usize,
        d_in: usize,
        bytes: &'a [u8],
    ) -> Result<Self, MatrixError> {
        let have = bytes.len();
        match (format.panel_bytes(d_in), format.matrix_bytes(d_out, d_in)) {
            (Some(panel_bytes), Some(need)) if need == have => {
                if bytes.as_ptr().align_offset(ALIGN) != 0 && have != 0 {
                    return Err(MatrixError::Misaligned);
                }
                Ok(Self { format, d_out, d_in, panel_bytes, bytes })
            }
            (_, need) => Err(MatrixError::Length { need: need.unwrap_or(usize::MAX), have }),
        }
    }

    /// How it is stored.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Output rows.
    #[must_use]
    pub fn d_out(&self) -> usize {
        self.d_out
    }

    /// Inputs of a row.
    #[must_use]
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Number of panels of [`PANEL`] output rows, the last one padded.
    #[must_use]
    pub fn panels(&self) -> usize {
        self.d_out.div_ceil(PANEL)
    }

    /// Writes row `row` as f32: exact, as an integer of 8 bits times a scale of 11 fits into 24.
    ///
    /// # Shapes
    ///
    /// - `out`: `[d_in]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if there is no such row, or `out` has another length.
    pub fn row_into(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.d_out, "row {row} of {}", self.d_out);
        assert_eq!(out.len(), self.d_in, "out");
        let lane = row % PANEL;
        match self.panel(row / PANEL) {
            Panel::F32(panel) => out.iter_mut().zip(panel).for_each(|(out, w)| *out = w[lane]),
            Panel::F16(panel) => {
                out.iter_mut().zip(panel).for_each(|(out, w)| *out = f16_to_f32(w[lane]));
            }
            Panel::Q8(panel) => {
                for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                    let scale = f16_to_f32(panel.scales[block][lane]);
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = scale * f32::from(panel.quants[block][i / 4][lane * 4 + i % 4]);
                    }
                }
            }
            Panel::Q4(panel) => {
                for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                    let scale = f16_to_f32(panel.scales[block][lane]);
                    for (i, out) in out.iter_mut().enumerate() {
                        let pair = panel.quants[block][i / 4 % 4][lane * 4 + i % 4];
                        let nibble = if i < BLOCK / 2 { pair & 15 } else { pair >> 4 };
                        *out = scale * (f32::from(nibble) - 8.0);
                    }
                }
            }
        }
    }

    /// Bytes of all panels.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes
    }

    /// Bytes from one panel to the next.
    #[inline(always)]
    pub(crate) fn panel_bytes(&self) -> usize {
        self.panel_bytes
    }

    /// Views one panel.
    #[inline]
    pub(crate) fn panel(&self, index: usize) -> Panel<'a> {
        match self.format {
            Format::F32 => Panel::F32(bytemuck::cast_slice(self.panel_at(index))),
            Format::F16 => Panel::F16(bytemuck::cast_slice(self.panel_at(index))),
            Format::Q8 => Panel::Q8(self.q8_panel(index)),
            Format::Q4 => Panel::Q4(self.q4_panel(index)),
        }
    }

    /// Views one panel of a q8 matrix.
    #[inline(always)]
    pub(crate) fn q8_panel(&self, index: usize) -> Q8Panel<'a> {
        let (scales, quants) = self.scales_and_quants(index);
        Q8Panel { scales, quants: bytemuck::cast_slice(quants) }
    }

    /// Views one panel of a q4 matrix.
    #[inline(always)]
    pub(crate) fn q4_panel(&self, index: usize) -> Q4Panel<'a> {
        let (scales, quants) = self.scales_and_quants(index);
        Q4Panel { scales, quants: bytemuck::cast_slice(quants) }
    }

    #[inline(always)]
    fn scales_and_quants(&self, index: usize) -> (&'a [[u16; PANEL]], &'a [u8]) {
        let blocks = self.d_in.div_ceil(BLOCK);
        let (scales, quants) = self.panel_at(index).split_at(scale_bytes(blocks));
        (bytemuck::cast_slice(&scales[..blocks * PANEL * 2]), quants)
    }

    #[inline(always)]
    fn panel_at(&self, index: usize) -> &'a [u8] {
        &self.bytes[index * self.panel_bytes..][..self.panel_bytes]
    }
}

impl fmt::Debug for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({} [{}, {}])", self.format.name(), self.d_out, self.d_in)
    }
}

/// A panel, by what lies in it.
#[derive(Clone, Copy)]
pub(crate) enum Panel<'a> {
    /// `[d_in][16]`.
    F32(&'a [[f32; PANEL]]),
    /// `[d_in][16]`, f16.
    F16(&'a [[u16; PANEL]]),
    Q8(Q8Panel<'a>),
    Q4(Q4Panel<'a>),
}

#[derive(Clone, Copy)]
pub(crate) struct Q8Panel<'a> {
    /// Per block and row, f16.
    pub(crate) scales: &'a [[u16; PANEL]],
    /// Per block and group of 4 inputs: `[16][4]`.
    pub(crate) quants: &'a [[[i8; 64]; 8]],
}

impl Q8Panel<'_> {
    pub(crate) const EMPTY: Self = Self { scales: &[], quants: &[] };

    /// Exactly `blocks` blocks, so that one check serves all indices.
    #[inline(always)]
    pub(crate) fn cut(self, blocks: usize) -> Self {
        self.blocks(0..blocks)
    }

    /// Some of its blocks.
    #[inline(always)]
    pub(crate) fn blocks(self, blocks: Range<usize>) -> Self {
        Self { scales: &self.scales[blocks.clone()], quants: &self.quants[blocks] }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Q4Panel<'a> {
    /// Per block and row, f16.
    pub(crate) scales: &'a [[u16; PANEL]],
    /// Per block and pair of groups g, g + 4: `[16][4]` pairs of nibbles.
    pub(crate) quants: &'a [[[u8; 64]; 4]],
}

impl Q4Panel<'_> {
    pub(crate) const EMPTY: Self = Self { scales: &[], quants: &[] };

    /// Exactly `blocks` blocks, so that one check serves all indices.
    #[inline(always)]
    pub(crate) fn cut(self, blocks: usize) -> Self {
        self.blocks(0..blocks)
    }

    /// Some of its blocks.
    #[inline(always)]
    pub(crate) fn blocks(self, blocks: Range<usize>) -> Self {
        Self { scales: &self.scales[blocks.clone()], quants: &self.quants[blocks] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Aligned([u8; 1024]);

    #[test]
    fn bytes_of_another_length_are_refused() {
        let bytes = Aligned([0; 1024]);
        let error = Matrix::new(Format::Q4, 1, 1, &bytes.0[..319]).unwrap_err();
        assert_eq!(error, MatrixError::Length { need: 320, have: 319 }, "one byte short");
        let error = Matrix::new(Format::Q4, 1, usize::MAX, &bytes.0).unwrap_err();
        assert_eq!(error, MatrixError::Length { need: usize::MAX, have: 1024 }, "beyond memory");
    }

    #[test]
    fn misaligned_bytes_are_refused() {
        let bytes = Aligned([0; 1024]);
        let error = Matrix::new(Format::Q4, 1, 1, &bytes.0[2..322]).unwrap_err();
        assert_eq!(error, MatrixError::Misaligned, "two bytes off");
    }

    #[test]
    fn rows_of_q4_find_their_scale_and_nibbles() {
        let mut bytes = Aligned([0x88; 1024]);
        // Row 3 of the only panel: scale 0.5, weight 5 is low nibble 1, weight 21 the high nibble 15 of the same byte.
        bytes.0[6..8].copy_from_slice(&0x3800_u16.to_le_bytes());
        bytes.0[64 + 64 + 3 * 4 + 1] = 0xf1;
        let matrix = Matrix::new(Format::Q4, 4, 30, &bytes.0[..320]).unwrap();
        let mut row = [9.0; 30];
        matrix.row_into(3, &mut row);
        let mut want = [0.0; 30];
        (want[5], want[21]) = (0.5 * (1.0 - 8.0), 0.5 * (15.0 - 8.0));
        assert_eq!(row.map(f32::to_bits), want.map(f32::to_bits), "two weights");
    }

    #[test]
    fn rows_of_q8_find_their_scale_and_integers() {
        let mut bytes = Aligned([0; 1024]);
        // Row 15: scale 2, weight 31 is −128.
        bytes.0[30..32].copy_from_slice(&0x4000_u16.to_le_bytes());
        bytes.0[64 + 7 * 64 + 15 * 4 + 3] = 0x80;
        let matrix = Matrix::new(Format::Q8, 16, 32, &bytes.0[..576]).unwrap();
        let mut row = [9.0; 32];
        matrix.row_into(15, &mut row);
        let mut want = [0.0; 32];
        want[31] = -256.0;
        assert_eq!(row.map(f32::to_bits), want.map(f32::to_bits), "one weight");
    }
}
