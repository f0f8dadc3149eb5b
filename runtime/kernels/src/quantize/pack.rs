//! Weights into panels.

use core::fmt;

use half::f16;

use super::search::{Block, search_q4, search_q8};
use crate::Isa;
use crate::f16::f16_to_f32;
use crate::format::{BLOCK, Format, PANEL, scale_bytes};

/// What packing lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PackReport {
    /// `Σ (w − stored w)²`.
    pub squared_error: f64,
    /// `Σ w²`.
    pub energy: f64,
}

impl PackReport {
    /// Signal-to-noise ratio in decibels: `10 · log₁₀(energy / squared_error)`, infinite if nothing was lost.
    #[must_use]
    pub fn snr_db(&self) -> f64 {
        if self.squared_error == 0.0 {
            f64::INFINITY
        } else {
            10.0 * libm::log10(self.energy / self.squared_error)
        }
    }

    /// What packing two parts lost.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            squared_error: self.squared_error + other.squared_error,
            energy: self.energy + other.energy,
        }
    }

    fn add(&mut self, w: f32, stored: f32) {
        let (w, error) = (f64::from(w), f64::from(w) - f64::from(stored));
        self.energy += w * w;
        self.squared_error += error * error;
    }
}

/// Why weights cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// A weight is infinite or not a number.
    NotFinite {
        /// Row within the panel.
        row: usize,
        /// Input.
        column: usize,
    },
    /// A weight is beyond f16 (65504), which all formats but f32 hold scales or weights in.
    TooLarge {
        /// Row within the panel.
        row: usize,
        /// Input.
        column: usize,
    },
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { row, column } => {
                write!(f, "the weight at row {row}, column {column} is not finite")
            }
            Self::TooLarge { row, column } => {
                write!(f, "the weight at row {row}, column {column} is beyond f16")
            }
        }
    }
}

impl core::error::Error for PackError {}

/// Stores up to 16 rows as one panel of a [`Matrix`](crate::Matrix).
///
/// q8 and q4 choose the scale of each block by least squares, never worse than by the largest weight alone.
///
/// # Shapes
///
/// - `rows`: `[1..=16, d_in]` f32, row-major; missing rows are stored as zeros
/// - `out`: `[format.panel_bytes(d_in)]` bytes, overwritten
///
/// # Errors
///
/// If a weight is not finite, or too large for the format.
///
/// # Panics
///
/// Panics if `rows` are not whole rows, more than 16, or `out` has another length.
pub fn pack_panel(
    format: Format,
    rows: &[f32],
    d_in: usize,
    out: &mut [u8],
) -> Result<PackReport, PackError> {
    assert!(
        rows.len().is_multiple_of(d_in) && rows.len() <= PANEL * d_in,
        "{} weights in rows of {d_in}",
        rows.len()
    );
    assert_eq!(Some(out.len()), format.panel_bytes(d_in), "bytes of a panel");
    if d_in == 0 {
        return Ok(PackReport::default());
    }
    check(format, rows, d_in)?;
    empty_panel(format, d_in, out);
    Ok(match format {
        Format::F32 => pack_floats::<4>(rows, d_in, out, |w| (w.to_le_bytes(), w)),
        Format::F16 => pack_floats::<2>(rows, d_in, out, |w| {
            let stored = f16::from_f32(w).to_bits();
            (stored.to_le_bytes(), f16_to_f32(stored))
        }),
        Format::Q8 => pack_blocks(rows, d_in, out, search_q8, write_q8),
        Format::Q4 => pack_blocks(rows, d_in, out, search_q4, write_q4),
    })
}

/// Fills a panel with zeros.
pub(super) fn empty_panel(format: Format, d_in: usize, out: &mut [u8]) {
    out.fill(0);
    if format == Format::Q4 {
        out[scale_bytes(d_in.div_ceil(BLOCK))..].fill(0x88);
    }
}

fn check(format: Format, rows: &[f32], d_in: usize) -> Result<(), PackError> {
    let largest = if format == Format::F32 { f32::MAX } else { f16::MAX.to_f32() };
    let Some(index) = rows.iter().position(|w| w.is_nan() || w.abs() > largest) else {
        return Ok(());
    };
    let (row, column) = (index / d_in, index % d_in);
    Err(if rows[index].is_finite() {
        PackError::TooLarge { row, column }
    } else {
        PackError::NotFinite { row, column }
    })
}

fn pack_floats<const BYTES: usize>(
    rows: &[f32],
    d_in: usize,
    out: &mut [u8],
    store: impl Fn(f32) -> ([u8; BYTES], f32),
) -> PackReport {
    let mut report = PackReport::default();
    for (lane, row) in rows.chunks_exact(d_in).enumerate() {
        for (i, w) in row.iter().enumerate() {
            let (bytes, stored) = store(*w);
            out[(i * PANEL + lane) * BYTES..][..BYTES].copy_from_slice(&bytes);
            report.add(*w, stored);
        }
    }
    report
}

fn pack_blocks(
    rows: &[f32],
    d_in: usize,
    out: &mut [u8],
    search: impl Fn(&[f32; BLOCK]) -> Block + Copy,
    write: impl Fn(&mut [u8], usize, &[i8; BLOCK]),
) -> PackReport {
    let isa = Isa::detect();
    let blocks = d_in.div_ceil(BLOCK);
    let (scales, quants) = out.split_at_mut(scale_bytes(blocks));
    let block_bytes = quants.len() / blocks;
    let mut report = PackReport::default();
    for (lane, row) in rows.chunks_exact(d_in).enumerate() {
        for (index, part) in row.chunks(BLOCK).enumerate() {
            let mut w = [0.0; BLOCK];
            w[..part.len()].copy_from_slice(part);
            let block = isa.run(
                #[inline(always)]
                || search(&w),
            );
            scales[(index * PANEL + lane) * 2..][..2].copy_from_slice(&block.scale.to_le_bytes());
            write(&mut quants[index * block_bytes..][..block_bytes], lane, &block.quants);
            let scale = f16_to_f32(block.scale);
            part.iter()
                .zip(block.quants)
                .for_each(|(w, quant)| report.add(*w, scale * f32::from(quant)));
        }
    }
    report
}

/// Writes one row of a q8 block: `[8 groups][16][4]`.
fn write_q8(out: &mut [u8], lane: usize, quants: &[i8; BLOCK]) {
    for (i, quant) in quants.iter().enumerate() {
        out[i / 4 * 64 + lane * 4 + i % 4] = quant.cast_unsigned();
    }
}

/// Writes one row of a q4 block: `[4][16][4]`, the second half of the inputs in the high nibbles.
fn write_q4(out: &mut [u8], lane: usize, quants: &[i8; BLOCK]) {
    let nibble = |quant: i8| (quant + 8).cast_unsigned();
    for i in 0..BLOCK / 2 {
        out[i / 4 * 64 + lane * 4 + i % 4] = nibble(quants[i]) | nibble(quants[i + BLOCK / 2]) << 4;
    }
}
