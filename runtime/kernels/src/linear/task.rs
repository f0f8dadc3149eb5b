//! The order in which panels, blocks and rows meet.
//!
//! A few rows take each panel from its start to its end, so that weights are read in the order they lie in; and up to four
//! panels at once, because memory answers several streams faster than one. More rows go through a *slab* of some panels
//! and blocks before they go on to the next: its weights stay in the second cache, and the inputs of a group of rows in
//! the first, while they meet. Between slabs the sums wait in the output, where f32 keeps every bit.

use core::array;
use core::ops::Range;

use super::{Blocks, Input, Kernels, Sums, Tile};
use crate::format::{BLOCK, Format, PANEL};
use crate::matrix::{Matrix, Panel, Q4Panel, Q8Panel};
use crate::quantize::QuantizedRows;
use crate::view::{ColumnsMut, Rows};

/// Blocks of a slab: 20 KiB of input of 8 rows.
const SLAB_BLOCKS: usize = 64;

/// Panels of a slab: 147 KiB of q4.
const SLAB_PANELS: usize = 8;

/// What to multiply.
pub(super) struct Task<'a> {
    pub(super) weight: Matrix<'a>,
    pub(super) x: Input<'a>,
    /// Of the first panel and what follows.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) panels: Range<usize>,
}

impl Task<'_> {
    pub(super) fn run<K: Kernels>(&self, kernels: K, out: &mut ColumnsMut<'_>) {
        match self.x {
            Input::F32(x) => self.float(kernels, x, out),
            Input::Quantized(x) => self.quantized(kernels, x, out),
        }
    }

    fn quantized<K: Kernels>(&self, kernels: K, x: QuantizedRows<'_>, out: &mut ColumnsMut<'_>) {
        let blocks = self.weight.d_in().div_ceil(BLOCK);
        let most_rows = if self.weight.format() == Format::Q4 { K::Q4_ROWS } else { K::ROWS };
        let few = x.len() <= most_rows;
        let (most_blocks, most_panels) =
            if few { (blocks, self.panels.len()) } else { (SLAB_BLOCKS, SLAB_PANELS) };
        let mut first = 0;
        // At least once, as without inputs the output is the bias.
        loop {
            let blocks = first..blocks.min(first + most_blocks);
            for panels in pieces(self.panels.clone(), most_panels) {
                for_each_group(x.len(), most_rows, |row, rows| {
                    let slab = Slab { x, row, panels: panels.clone(), blocks: blocks.clone() };
                    match rows {
                        1 => self.slab::<K, 1>(kernels, slab, out),
                        2 => self.slab::<K, 2>(kernels, slab, out),
                        3 => self.slab::<K, 3>(kernels, slab, out),
                        4 => self.slab::<K, 4>(kernels, slab, out),
                        5 => self.slab::<K, 5>(kernels, slab, out),
                        6 => self.slab::<K, 6>(kernels, slab, out),
                        7 => self.slab::<K, 7>(kernels, slab, out),
                        _ => self.slab::<K, 8>(kernels, slab, out),
                    }
                });
            }
            first = blocks.end;
            if first * BLOCK >= self.weight.d_in() {
                return;
            }
        }
    }

    /// Multiplies a slab with `R` rows, as many panels at once as the registers hold.
    fn slab<K: Kernels, const R: usize>(
        &self,
        kernels: K,
        mut slab: Slab<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        let most = self.panels_at_once(R, slab.blocks.len());
        let mut x: Blocks<'_, R> = [&[]; R];
        for r in 0..R {
            x[r] = &slab.x.row(slab.row + r)[slab.blocks.clone()];
        }
        while !slab.panels.is_empty() {
            slab.panels.start += match slab.panels.len().min(most) {
                4.. => self.tile::<K, 4, R>(kernels, &slab, x, out),
                2.. => self.tile::<K, 2, R>(kernels, &slab, x, out),
                _ => self.tile::<K, 1, R>(kernels, &slab, x, out),
            };
        }
    }

    /// Panels of a tile, found by trying. Four of q8 are too many streams: from memory, two read a third faster; and small
    /// panels are best taken one by one, by two rows but for the smallest, which are in a cache.
    fn panels_at_once(&self, rows: usize, blocks: usize) -> usize {
        match (rows, self.weight.format()) {
            (1, Format::Q4) => 4,
            (1, _) if blocks < 32 => 1,
            (2, Format::Q8) if (16..32).contains(&blocks) => 1,
            (1 | 2, _) => 2,
            _ => 1,
        }
    }

    /// Multiplies the first `P` panels of a slab with `R` rows, and returns `P`.
    fn tile<K: Kernels, const P: usize, const R: usize>(
        &self,
        kernels: K,
        slab: &Slab<'_>,
        x: Blocks<'_, R>,
        out: &mut ColumnsMut<'_>,
    ) -> usize {
        let first = slab.panels.start - self.panels.start;
        let mut acc = [[[0.0; PANEL]; R]; P];
        if slab.blocks.start > 0 {
            for p in 0..P {
                for r in 0..R {
                    acc[p][r] = read(columns(out.row_mut(slab.row + r), first + p));
                }
            }
        }
        let panel_bytes = self.weight.panel_bytes();
        if self.weight.format() == Format::Q8 {
            let mut panels = [Q8Panel::EMPTY; P];
            for p in 0..P {
                panels[p] = self.weight.q8_panel(slab.panels.start + p).blocks(slab.blocks.clone());
            }
            kernels.q8::<P, R>(Tile { panels, panel_bytes }, x, &mut acc);
        } else {
            let mut panels = [Q4Panel::EMPTY; P];
            for p in 0..P {
                panels[p] = self.weight.q4_panel(slab.panels.start + p).blocks(slab.blocks.clone());
            }
            kernels.q4::<P, R>(Tile { panels, panel_bytes }, x, &mut acc);
        }
        let is_last = slab.blocks.end * BLOCK >= self.weight.d_in();
        let bias = self.bias.filter(|_| is_last);
        for p in 0..P {
            for r in 0..R {
                write(&acc[p][r], bias, first + p, out.row_mut(slab.row + r));
            }
        }
        P
    }

    fn float<K: Kernels>(&self, kernels: K, x: Rows<'_>, out: &mut ColumnsMut<'_>) {
        for (index, panel) in self.panels.clone().enumerate() {
            let panel = self.weight.panel(panel);
            for_each_group(x.len(), K::FLOAT_ROWS, |row, rows| match rows {
                1 => self.rows(multiply::<K, 1>(kernels, panel, x, row), row, index, out),
                2 => self.rows(multiply::<K, 2>(kernels, panel, x, row), row, index, out),
                3 => self.rows(multiply::<K, 3>(kernels, panel, x, row), row, index, out),
                _ => self.rows(multiply::<K, 4>(kernels, panel, x, row), row, index, out),
            });
        }
    }

    /// Writes the sums of `R` rows.
    fn rows<const R: usize>(
        &self,
        acc: [Sums; R],
        row: usize,
        panel: usize,
        out: &mut ColumnsMut<'_>,
    ) {
        for r in 0..R {
            write(&acc[r], self.bias, panel, out.row_mut(row + r));
        }
    }
}

/// Multiplies a panel of floats with `R` rows.
fn multiply<K: Kernels, const R: usize>(
    kernels: K,
    panel: Panel<'_>,
    x: Rows<'_>,
    row: usize,
) -> [Sums; R] {
    let x = array::from_fn(|r| x.row(row + r));
    match panel {
        Panel::F32(panel) => kernels.f32::<R>(panel, x),
        Panel::F16(panel) => kernels.f16::<R>(panel, x),
        Panel::Q8(_) | Panel::Q4(_) => unreachable!("checked at the entry"),
    }
}

/// What a group of rows meets before the next group does.
#[derive(Clone)]
struct Slab<'a> {
    x: QuantizedRows<'a>,
    /// The first row of the group.
    row: usize,
    panels: Range<usize>,
    blocks: Range<usize>,
}

/// Cuts a range into pieces of at most `most`.
fn pieces(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(most.max(1)).map(move |start| start..end.min(start + most))
}

/// Calls `body` with the first row and the size of each group of at most `most` rows: as few groups as can be, of nearly
/// the same size.
#[inline(always)]
fn for_each_group(rows: usize, most: usize, mut body: impl FnMut(usize, usize)) {
    let mut row = 0;
    let mut groups = rows.div_ceil(most);
    while row < rows {
        let size = (rows - row).div_ceil(groups);
        body(row, size);
        row += size;
        groups -= 1;
    }
}

/// The columns of a panel, counted from the first: fewer at the end of a matrix.
#[inline(always)]
fn columns(out: &mut [f32], panel: usize) -> &mut [f32] {
    let end = out.len().min((panel + 1) * PANEL);
    &mut out[panel * PANEL..end]
}

/// What was written to some columns.
#[inline(always)]
fn read(from: &[f32]) -> Sums {
    // Twice the same, here and below: of a known length, it is a few instructions and no call.
    from.first_chunk().copied().unwrap_or_else(|| {
        let mut sums = [0.0; PANEL];
        sums[..from.len()].copy_from_slice(from);
        sums
    })
}

/// Writes sums to the columns of a panel, and their bias with them.
#[inline(always)]
fn write(acc: &Sums, bias: Option<&[f32]>, panel: usize, out: &mut [f32]) {
    let out = columns(out, panel);
    match out.first_chunk_mut() {
        Some(out) => *out = *acc,
        None => out.copy_from_slice(&acc[..out.len()]),
    }
    if let Some(bias) = bias {
        out.iter_mut().zip(&bias[panel * PANEL..]).for_each(|(out, bias)| *out += bias);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn groups_cover_all_rows_in_order_and_are_even() {
        for rows in 0..70 {
            for most in 1..9 {
                let mut sizes = Vec::new();
                for_each_group(rows, most, |row, size| {
                    assert_eq!(row, sizes.iter().sum::<usize>(), "{rows} rows by {most}");
                    sizes.push(size);
                });
                assert_eq!(sizes.iter().sum::<usize>(), rows, "{rows} rows by {most}");
                assert_eq!(sizes.len(), rows.div_ceil(most), "as few as can be");
                let (least, largest) = (sizes.iter().min(), sizes.iter().max());
                assert!(largest.zip(least).is_none_or(|(a, b)| a - b <= 1), "{sizes:?} are even");
                assert!(sizes.iter().all(|&size| size <= most), "{sizes:?} of at most {most}");
            }
        }
    }
}
