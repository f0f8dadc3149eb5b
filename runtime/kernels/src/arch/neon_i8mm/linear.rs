//! Linear kernels: `smmla` multiplies two output rows with two rows of 8 inputs, and adds to four sums.
//!
//! That is twice what `sdot` does, once the operands lie right. Weights have 4 inputs of four output rows in a register; two
//! neighbouring groups, zipped, are 8 inputs of two output rows, twice. Inputs have 16 of a row in a register; those of two
//! rows, zipped, are 8 of each, twice. A single row gains nothing from that and takes `sdot`.

use core::arch::aarch64::*;
use core::arch::asm;

use super::NeonI8mm;
use crate::arch::ahead::Ahead;
use crate::arch::neon::linear as neon;
use crate::arch::neon_dotprod::linear as dotprod;
use crate::arch::{at, cut};
use crate::format::PANEL;
use crate::linear::{Blocks, Kernels, QuantizedBlock, Sums, Tile};
use crate::matrix::{Q4Panel, Q8Panel};

/// Pairs of rows: more than [`NeonI8mm::ROWS`] do not come.
const PAIRS: usize = 4;

impl Kernels for NeonI8mm {
    const ROWS: usize = 2 * PAIRS;

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
        if R == 1 {
            // SAFETY: `self` proves that this machine has the instructions.
            unsafe { dotprod::q8(tile, x, acc) }
        } else {
            // SAFETY: as above.
            unsafe { q8(tile, x, acc) }
        }
    }

    fn q4<const P: usize, const R: usize>(
        self,
        tile: Tile<Q4Panel<'_>, P>,
        x: Blocks<'_, R>,
        acc: &mut [[Sums; R]; P],
    ) {
        if R == 1 {
            // SAFETY: `self` proves that this machine has the instructions.
            unsafe { dotprod::q4(tile, x, acc) }
        } else {
            // SAFETY: as above.
            unsafe { q4(tile, x, acc) }
        }
    }
}

/// Inputs of a pair of rows: 8 of each in a register.
type Inputs = [[int8x16_t; 4]; PAIRS];

/// Sums of a pair of rows and a quarter of a panel: two output rows in a register, `[o₀r₀, o₀r₁, o₁r₀, o₁r₁]`.
type Dots = [[int32x4_t; 2]; PAIRS];

#[target_feature(enable = "neon,dotprod,i8mm")]
fn q8<const P: usize, const R: usize>(
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
        let inputs = inputs(x);
        for p in 0..P {
            let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
            ahead.ask(scales, quants);
            for quarter in 0..4 {
                let load = |group: usize| neon::load(bytemuck::cast_ref(&quants[group]), quarter);
                let mut dots = [[vdupq_n_s32(0); 2]; PAIRS];
                for at in 0..4 {
                    groups::<R>(&mut dots, load(2 * at), load(2 * at + 1), &inputs, at);
                }
                let dots = rows::<R>(&dots);
                neon::add_block(&mut sums[p], quarter, dots, neon::widen(scales, quarter), x);
            }
        }
    }
    neon::store_sums(sums, acc);
}

#[target_feature(enable = "neon,dotprod,i8mm")]
fn q4<const P: usize, const R: usize>(
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
        let (inputs, offsets) = (inputs(x), offsets(x));
        for p in 0..P {
            let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
            ahead.ask(scales, quants);
            for quarter in 0..4 {
                let mut dots = offsets;
                for at in 0..2 {
                    let (low, high) = neon::nibbles(neon::load(&quants[2 * at], quarter));
                    let (next_low, next_high) =
                        neon::nibbles(neon::load(&quants[2 * at + 1], quarter));
                    groups::<R>(&mut dots, low, next_low, &inputs, at);
                    groups::<R>(&mut dots, high, next_high, &inputs, at + 2);
                }
                let dots = rows::<R>(&dots);
                neon::add_block(&mut sums[p], quarter, dots, neon::widen(scales, quarter), x);
            }
        }
    }
    neon::store_sums(sums, acc);
}

/// Adds two neighbouring groups, the `at`-th 8 inputs.
#[inline]
#[target_feature(enable = "neon,dotprod,i8mm")]
fn groups<const R: usize>(
    dots: &mut Dots,
    first: int8x16_t,
    second: int8x16_t,
    inputs: &Inputs,
    at: usize,
) {
    let (first, second) = (vreinterpretq_s32_s8(first), vreinterpretq_s32_s8(second));
    let low = vreinterpretq_s8_s32(vzip1q_s32(first, second));
    let high = vreinterpretq_s8_s32(vzip2q_s32(first, second));
    for pair in 0..R.div_ceil(2) {
        dots[pair][0] = smmla(dots[pair][0], low, inputs[pair][at]);
        dots[pair][1] = smmla(dots[pair][1], high, inputs[pair][at]);
    }
}

/// The inputs of a block, by pairs of rows; an odd last row is its own partner.
#[inline]
#[target_feature(enable = "neon")]
fn inputs<const R: usize>(x: [&QuantizedBlock; R]) -> Inputs {
    let halves = dotprod::halves(x);
    let mut inputs = [[vdupq_n_s8(0); 4]; PAIRS];
    for pair in 0..R.div_ceil(2) {
        for half in 0..2 {
            let first = vreinterpretq_s64_s8(halves[half][2 * pair]);
            let second = vreinterpretq_s64_s8(halves[half][(2 * pair + 1).min(R - 1)]);
            inputs[pair][2 * half] = vreinterpretq_s8_s64(vzip1q_s64(first, second));
            inputs[pair][2 * half + 1] = vreinterpretq_s8_s64(vzip2q_s64(first, second));
        }
    }
    inputs
}

/// Where the sums of a q4 block start: `−8 · Σx`.
#[inline]
#[target_feature(enable = "neon")]
fn offsets<const R: usize>(x: [&QuantizedBlock; R]) -> Dots {
    let offsets = neon::offsets(x);
    let mut dots = [[vdupq_n_s32(0); 2]; PAIRS];
    for pair in 0..R.div_ceil(2) {
        dots[pair] = [vzip1q_s32(offsets[2 * pair], offsets[(2 * pair + 1).min(R - 1)]); 2];
    }
    dots
}

/// Sums of each row from those of pairs.
#[inline]
#[target_feature(enable = "neon")]
fn rows<const R: usize>(dots: &Dots) -> [int32x4_t; R] {
    let mut rows = [vdupq_n_s32(0); R];
    for r in 0..R {
        let [low, high] = dots[r / 2];
        rows[r] = if r % 2 == 0 { vuzp1q_s32(low, high) } else { vuzp2q_s32(low, high) };
    }
    rows
}

/// `acc[2i + j] + Σ a[8i + k] · b[8j + k]` over k in 0..8, for i and j in 0..2.
///
/// As assembly, because the intrinsic is not stable.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes these registers alone.
    unsafe {
        asm!(
            "smmla {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}
