//! Linear kernels: four registers of 16 bytes are a group of 4 inputs for the 16 rows of a panel.
//!
//! `sdot` adds the products of 4 neighbouring bytes to a sum of 32 bits, for four rows at once, with the 4 inputs picked from
//! a register of 16. So 32 inputs are two registers, and nothing is ever spread or folded. q4 has weights 0..=15; its sum
//! starts at `−8 · Σx`, which takes the offset back.

use core::arch::aarch64::*;
use core::arch::asm;

use super::NeonDotprod;
use crate::arch::ahead::Ahead;
use crate::arch::neon::linear as neon;
use crate::arch::{at, cut};
use crate::format::PANEL;
use crate::linear::{Blocks, Kernels, QuantizedBlock, Sums, Tile};
use crate::matrix::{Q4Panel, Q8Panel};

impl Kernels for NeonDotprod {
    const ROWS: usize = 4;

    fn f32<const R: usize>(self, panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { neon::f32(panel, x) }
    }

    fn f16<const R: usize>(self, panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { neon::f16(panel, x) }
    }

    fn q8<const P: usize, const R: usize>(
        self,
        tile: Tile<Q8Panel<'_>, P>,
        x: Blocks<'_, R>,
        acc: &mut [[Sums; R]; P],
    ) {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { q8(tile, x, acc) }
    }

    fn q4<const P: usize, const R: usize>(
        self,
        tile: Tile<Q4Panel<'_>, P>,
        x: Blocks<'_, R>,
        acc: &mut [[Sums; R]; P],
    ) {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { q4(tile, x, acc) }
    }
}

#[target_feature(enable = "neon,dotprod")]
pub(in crate::arch) fn q8<const P: usize, const R: usize>(
    tile: Tile<Q8Panel<'_>, P>,
    x: Blocks<'_, R>,
    acc: &mut [[Sums; R]; P],
) {
    let (panels, x) = (tile.panels.map(|panel| panel.cut(x[0].len())), cut(x));
    let mut ahead = Ahead::new(P, x[0].len(), 512, tile.panel_bytes);
    let mut sums = neon::load_sums(acc);
    for block in 0..x[0].len() {
        ahead.step(block);
        let x = at(&x, block);
        let inputs = halves(x);
        for p in 0..P {
            let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
            ahead.ask(scales, quants);
            for quarter in 0..4 {
                let weights =
                    |group: usize| neon::load(bytemuck::cast_ref(&quants[group]), quarter);
                let mut dots = [vdupq_n_s32(0); R];
                for half in 0..2 {
                    group::<0, R>(&mut dots, weights(4 * half), inputs[half]);
                    group::<1, R>(&mut dots, weights(4 * half + 1), inputs[half]);
                    group::<2, R>(&mut dots, weights(4 * half + 2), inputs[half]);
                    group::<3, R>(&mut dots, weights(4 * half + 3), inputs[half]);
                }
                neon::add_block(&mut sums[p], quarter, dots, neon::widen(scales, quarter), x);
            }
        }
    }
    neon::store_sums(sums, acc);
}

#[target_feature(enable = "neon,dotprod")]
pub(in crate::arch) fn q4<const P: usize, const R: usize>(
    tile: Tile<Q4Panel<'_>, P>,
    x: Blocks<'_, R>,
    acc: &mut [[Sums; R]; P],
) {
    let (panels, x) = (tile.panels.map(|panel| panel.cut(x[0].len())), cut(x));
    let mut ahead = Ahead::new(P, x[0].len(), 256, tile.panel_bytes);
    let mut sums = neon::load_sums(acc);
    for block in 0..x[0].len() {
        ahead.step(block);
        let x = at(&x, block);
        let (inputs, offsets) = (halves(x), neon::offsets(x));
        for p in 0..P {
            let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
            ahead.ask(scales, quants);
            for quarter in 0..4 {
                let mut dots = offsets;
                pairs::<0, R>(&mut dots, neon::load(&quants[0], quarter), &inputs);
                pairs::<1, R>(&mut dots, neon::load(&quants[1], quarter), &inputs);
                pairs::<2, R>(&mut dots, neon::load(&quants[2], quarter), &inputs);
                pairs::<3, R>(&mut dots, neon::load(&quants[3], quarter), &inputs);
                neon::add_block(&mut sums[p], quarter, dots, neon::widen(scales, quarter), x);
            }
        }
    }
    neon::store_sums(sums, acc);
}

/// Adds group `G` of one half of the inputs.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn group<const G: usize, const R: usize>(
    dots: &mut [int32x4_t; R],
    weights: int8x16_t,
    inputs: [int8x16_t; R],
) {
    for r in 0..R {
        dots[r] = sdot::<G>(dots[r], weights, inputs[r]);
    }
}

/// Adds group `G` of both halves of the inputs, whose weights share bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn pairs<const G: usize, const R: usize>(
    dots: &mut [int32x4_t; R],
    pairs: int8x16_t,
    inputs: &[[int8x16_t; R]; 2],
) {
    let (low, high) = neon::nibbles(pairs);
    group::<G, R>(dots, low, inputs[0]);
    group::<G, R>(dots, high, inputs[1]);
}

/// The 32 inputs of a block, by halves.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::arch) fn halves<const R: usize>(x: [&QuantizedBlock; R]) -> [[int8x16_t; R]; 2] {
    let mut halves = [[vdupq_n_s8(0); R]; 2];
    for half in 0..2 {
        for r in 0..R {
            let words = &x[r].words.as_chunks::<4>().0[half];
            // SAFETY: 16 bytes can be read, and no alignment is asked for.
            halves[half][r] = unsafe { vld1q_s8(words.as_ptr().cast()) };
        }
    }
    halves
}

/// `acc[i] + Σ a[4i + j] · b[4G + j]` over j in 0..4.
///
/// As assembly, because the intrinsic is not stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const G: usize>(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes these registers alone.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.4b[{group}]",
            acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b, group = const G,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}
