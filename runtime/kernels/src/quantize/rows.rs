//! Activations as int8 blocks, the input of q8 and q4 [linear](crate::Isa::linear) kernels.

use bytemuck::{Pod, Zeroable};

use crate::Isa;
use crate::format::{ALIGN, BLOCK};
use crate::lanes::Lanes;
use crate::view::LANES;

/// Blocks whose largest magnitude is below this are zero: 2⁻¹⁰⁰, so that `127 / magnitude` is finite.
const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);

/// A block of a row: `x[i] ≈ scale · quants[i]`.
///
/// What a kernel needs of a block lies together, so that a row is one pointer and one stream.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct QuantizedBlock {
    /// Eight groups of 4 integers.
    pub(crate) words: [i32; BLOCK / 4],
    /// What the integers are multiplied by.
    pub scale: f32,
    /// Minus the sum of the integers: what takes back the offset of unsigned weights, once multiplied by it.
    pub minus_sum: i32,
}

const _: () = assert!(size_of::<QuantizedBlock>() == 40, "no padding");

// SAFETY: zero is a value of each field.
#[expect(unsafe_code, reason = "rows lie in bytes that a planner laid out")]
unsafe impl Zeroable for QuantizedBlock {}

// SAFETY: every field is plain numbers, and there is no padding, as asserted above.
#[expect(unsafe_code, reason = "rows lie in bytes that a planner laid out")]
unsafe impl Pod for QuantizedBlock {}

impl QuantizedBlock {
    /// The integers, −127..=127; zero behind the end of the row.
    #[must_use]
    pub fn quants(&self) -> &[i8; BLOCK] {
        bytemuck::cast_ref(&self.words)
    }
}

/// Rows of int8 blocks, as [`Isa::quantize_row`] writes them: each padded to 64 bytes.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRows<'a> {
    bytes: &'a [u8],
    rows: usize,
    d_in: usize,
}

impl<'a> QuantizedRows<'a> {
    /// Bytes of one row of `d_in` numbers: a multiple of 64.
    #[must_use]
    pub const fn row_bytes(d_in: usize) -> usize {
        (d_in.div_ceil(BLOCK) * size_of::<QuantizedBlock>()).next_multiple_of(ALIGN)
    }

    /// Views rows that [`Isa::quantize_row`] has written one after the other.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` are not `rows` times [`row_bytes`](Self::row_bytes), or not aligned to 4 bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8], rows: usize, d_in: usize) -> Self {
        assert_eq!(bytes.len(), rows * Self::row_bytes(d_in), "bytes of quantized rows");
        assert!(
            bytes.as_ptr().cast::<f32>().is_aligned() || bytes.is_empty(),
            "quantized rows are misaligned"
        );
        Self { bytes, rows, d_in }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.d_in
    }

    /// The blocks of one row.
    ///
    /// # Panics
    ///
    /// Panics if there is no such row.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> &'a [QuantizedBlock] {
        assert!(index < self.rows, "row out of range");
        let row_bytes = Self::row_bytes(self.d_in);
        let bytes = &self.bytes[index * row_bytes..][..row_bytes];
        bytemuck::cast_slice(&bytes[..self.d_in.div_ceil(BLOCK) * size_of::<QuantizedBlock>()])
    }
}

impl Isa {
    /// Writes a row as int8 blocks.
    ///
    /// ```text
    /// scale = max|x| / 127           quant = round_even(x · (127 / max|x|))
    /// ```
    ///
    /// per block of 32 numbers; both are 0 if `max|x|` is below 2⁻¹⁰⁰.
    ///
    /// # Shapes
    ///
    /// - `x`: `[d_in]` f32, finite
    /// - `out`: `[QuantizedRows::row_bytes(d_in)]` bytes, aligned to 4, overwritten
    ///
    /// # Panics
    ///
    /// Panics if `out` has another length or is misaligned.
    pub fn quantize_row(self, x: &[f32], out: &mut [u8]) {
        assert_eq!(out.len(), QuantizedRows::row_bytes(x.len()), "bytes of a quantized row");
        let blocks = x.len().div_ceil(BLOCK);
        let out = bytemuck::cast_slice_mut(&mut out[..blocks * size_of::<QuantizedBlock>()]);
        self.run(
            #[inline(always)]
            || quantize_blocks(x, out),
        );
    }
}

#[inline(always)]
fn quantize_blocks(x: &[f32], out: &mut [QuantizedBlock]) {
    let (whole, tail) = x.as_chunks::<BLOCK>();
    for (x, out) in whole.iter().zip(&mut *out) {
        *out = quantize_block(x);
    }
    if !tail.is_empty() {
        let mut x = [0.0; BLOCK];
        x[..tail.len()].copy_from_slice(tail);
        out[whole.len()] = quantize_block(&x);
    }
}

#[inline(always)]
fn quantize_block(x: &[f32; BLOCK]) -> QuantizedBlock {
    let [low, high] = halves(x);
    let largest = largest_magnitude([low, high]);
    if largest < SMALLEST {
        return QuantizedBlock { words: [0; BLOCK / 4], scale: 0.0, minus_sum: 0 };
    }
    let inverse = 127.0 / largest;
    let quants = narrow([low.scale(inverse), high.scale(inverse)]);
    let mut sums = [0; LANES];
    for lane in 0..LANES {
        sums[lane] = i32::from(quants[lane]) + i32::from(quants[lane + LANES]);
    }
    QuantizedBlock {
        words: bytemuck::cast(quants),
        scale: largest / 127.0,
        minus_sum: -sums.into_iter().sum::<i32>(),
    }
}

/// A block as lanes.
#[inline(always)]
pub(super) fn halves(x: &[f32; BLOCK]) -> [Lanes; 2] {
    [Lanes::load(&x[..LANES]), Lanes::load(&x[LANES..])]
}

/// `max|x|`, by integers: they are ordered as the magnitudes are, and the compiler may take them in any order.
#[inline(always)]
pub(super) fn largest_magnitude(halves: [Lanes; 2]) -> f32 {
    let mut largest = 0;
    for half in halves {
        for lane in 0..LANES {
            largest = largest.max(half.0[lane].abs().to_bits());
        }
    }
    f32::from_bits(largest)
}

/// 1.5·2²³: added to |x| < 2²², it leaves an integer in the low bits, rounded as IEEE rounds: halves to even.
pub(super) const ROUND: f32 = 12_582_912.0;

/// The nearest integers, for −128..=127.
#[inline(always)]
pub(super) fn narrow(halves: [Lanes; 2]) -> [i8; BLOCK] {
    let mut out = [0; BLOCK];
    for (out, half) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(halves) {
        for lane in 0..LANES {
            // The low byte of the sum, whose other bytes are those of `ROUND`.
            out[lane] = (half.0[lane] + ROUND).to_bits() as i8;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn quantize(isa: Isa, x: &[f32]) -> (Vec<i8>, Vec<f32>, Vec<i32>) {
        let mut words = vec![0xcccc_cccc_u32; QuantizedRows::row_bytes(x.len()) / 4];
        isa.quantize_row(x, bytemuck::cast_slice_mut(&mut words));
        let rows = QuantizedRows::new(bytemuck::cast_slice(&words), 1, x.len());
        let row = rows.row(0);
        (
            row.iter().flat_map(|block| *block.quants()).collect(),
            row.iter().map(|block| block.scale).collect(),
            row.iter().map(|block| -block.minus_sum).collect(),
        )
    }

    #[test]
    fn the_largest_magnitude_becomes_127_and_halves_round_to_even() {
        // max = 254: x / 2 is 127, −127, 0.5, 1.5, −2.5.
        let (quants, scales, sums) = quantize(Isa::reference(), &[254.0, -254.0, 1.0, 3.0, -5.0]);
        assert_eq!(quants[..6], [127, -127, 0, 2, -2, 0], "integers, then padding");
        assert_eq!(quants.len(), 32, "a whole block");
        assert_eq!(scales, [2.0], "scale");
        assert_eq!(sums, [0], "sum");
    }

    #[test]
    fn blocks_have_their_own_scales_and_sums() {
        let mut x = [0.0; 40];
        (x[0], x[39]) = (1.0, -127.0);
        let (quants, scales, sums) = quantize(Isa::reference(), &x);
        assert_eq!((quants[0], quants[39]), (127, -127), "integers");
        assert_eq!(scales, [1.0 / 127.0, 1.0], "scales");
        assert_eq!(sums, [127, -127], "sums");
    }

    #[test]
    fn blocks_below_the_smallest_magnitude_are_zero() {
        let below = f32::from_bits(SMALLEST.to_bits() - 1);
        assert_eq!(quantize(Isa::reference(), &[below]).1, [0.0], "below");
        let (quants, scales, _) = quantize(Isa::reference(), &[SMALLEST]);
        assert_eq!((quants[0], scales[0]), (127, SMALLEST / 127.0), "at");
        assert_eq!(quantize(Isa::reference(), &[f32::MAX]).0[0], 127, "the largest number");
    }

    #[test]
    fn every_isa_quantizes_to_the_same_bits() {
        let x: Vec<f32> = (0..1000)
            .map(|i: u32| ((i.wrapping_mul(2_654_435_761) >> 8) as f32 - 8e6) * 1e-5)
            .collect();
        for isa in Isa::available() {
            for len in [0, 1, 31, 32, 33, 64, 1000] {
                assert_eq!(
                    quantize(isa, &x[..len]),
                    quantize(Isa::reference(), &x[..len]),
                    "{isa:?}, {len}"
                );
            }
        }
    }
}
