//! The kernels that define the answer.

use super::{Blocks, Kernels, QuantizedBlock, Sums, Tile, float};
use crate::f16::f16_to_f32;
use crate::fma::fma;
use crate::format::PANEL;
use crate::matrix::{Q4Panel, Q8Panel};

#[derive(Clone, Copy)]
pub(super) struct Reference;

impl Kernels for Reference {
    const ROWS: usize = 1;

    fn f32<const R: usize>(self, panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
        float::panel(
            panel,
            x,
            #[inline(always)]
            |weights| *weights,
        )
    }

    fn f16<const R: usize>(self, panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
        float::panel(
            panel,
            x,
            #[inline(always)]
            |weights| weights.map(f16_to_f32),
        )
    }

    fn q8<const P: usize, const R: usize>(
        self,
        tile: Tile<Q8Panel<'_>, P>,
        x: Blocks<'_, R>,
        acc: &mut [[Sums; R]; P],
    ) {
        for p in 0..P {
            let Q8Panel { scales, quants } = tile.panels[p];
            for r in 0..R {
                blocks(scales, x[r], &mut acc[p][r], |block, group, at| {
                    let weight: i8 = quants[block][group][at];
                    i32::from(weight)
                });
            }
        }
    }

    fn q4<const P: usize, const R: usize>(
        self,
        tile: Tile<Q4Panel<'_>, P>,
        x: Blocks<'_, R>,
        acc: &mut [[Sums; R]; P],
    ) {
        for p in 0..P {
            let Q4Panel { scales, quants } = tile.panels[p];
            for r in 0..R {
                blocks(scales, x[r], &mut acc[p][r], |block, group, at| {
                    let pair: u8 = quants[block][group % 4][at];
                    i32::from(if group < 4 { pair & 15 } else { pair >> 4 }) - 8
                });
            }
        }
    }
}

/// One panel times one row; `weight` is that of a block, a group, and a place among its `[16][4]`.
#[inline(always)]
fn blocks(
    scales: &[[u16; PANEL]],
    x: &[QuantizedBlock],
    acc: &mut Sums,
    weight: impl Fn(usize, usize, usize) -> i32,
) {
    for (block, (scales, x)) in scales.iter().zip(x).enumerate() {
        let mut dots = [0; PANEL];
        for (group, x) in x.quants().as_chunks::<4>().0.iter().enumerate() {
            for (lane, dot) in dots.iter_mut().enumerate() {
                *dot += (0..4)
                    .map(|i| weight(block, group, lane * 4 + i) * i32::from(x[i]))
                    .sum::<i32>();
            }
        }
        for lane in 0..PANEL {
            let scale = f16_to_f32(scales[lane]) * x.scale;
            acc[lane] = fma(dots[lane] as f32, scale, acc[lane]);
        }
    }
}
