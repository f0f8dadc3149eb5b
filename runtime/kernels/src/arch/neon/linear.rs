//! Linear kernels: four registers of 16 bytes are a group of 4 inputs for the 16 rows of a panel.
//!
//! `smull` and `smlal` multiply bytes into sums of 16 bits, one for each product of 8 neighbours. Nothing overflows there:
//! - q4 has weights 0..=15 (the offset 8 is taken back afterwards, `−8 · Σx`), and 8 groups are at most 8 · 15 · 128 = 15360,
//!   so a whole block is summed in 16 bits;
//! - q8 sums two groups, at most 2 · 128 · 127 = 32512 as quantized rows never hold −128, and then goes on in 32 bits.

use core::arch::aarch64::*;

use super::Neon;
use crate::arch::ahead::Ahead;
use crate::arch::{at, cut};
use crate::format::PANEL;
use crate::linear::{Blocks, Kernels, QuantizedBlock, Sums, Tile, float};
use crate::matrix::{Q4Panel, Q8Panel};

impl Kernels for Neon {
    const ROWS: usize = 2;

    fn f32<const R: usize>(self, panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { f32(panel, x) }
    }

    fn f16<const R: usize>(self, panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { f16(panel, x) }
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

/// Sums of one row, by quarters of a panel.
pub(in crate::arch) type Quarters = [float32x4_t; 4];

#[target_feature(enable = "neon")]
pub(in crate::arch) fn f32<const R: usize>(panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
    float::panel(panel, x, |weights| *weights)
}

#[target_feature(enable = "neon")]
pub(in crate::arch) fn f16<const R: usize>(panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
    float::panel(panel, x, |weights| store(core::array::from_fn(|quarter| widen(weights, quarter))))
}

#[target_feature(enable = "neon")]
fn q8<const P: usize, const R: usize>(
    tile: Tile<Q8Panel<'_>, P>,
    x: Blocks<'_, R>,
    acc: &mut [[Sums; R]; P],
) {
    let (panels, x) = (tile.panels.map(|panel| panel.cut(x[0].len())), cut(x));
    let mut ahead = Ahead::new(P, x[0].len(), 512, tile.panel_bytes);
    let mut sums = load_sums(acc);
    for block in 0..x[0].len() {
        ahead.step(block);
        let x = at(&x, block);
        for p in 0..P {
            let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
            ahead.ask(scales, quants);
            for quarter in 0..4 {
                // Two registers of two rows, with two sums for each.
                let mut dots = [[vdupq_n_s32(0); 2]; R];
                for group in 0..4 {
                    let first = load(bytemuck::cast_ref(&quants[group]), quarter);
                    let second = load(bytemuck::cast_ref(&quants[group + 4]), quarter);
                    for r in 0..R {
                        let words = &x[r].words;
                        let (a, b) = (repeat(words[group]), repeat(words[group + 4]));
                        let low = vmull_s8(vget_low_s8(first), vget_low_s8(a));
                        let low = vmlal_s8(low, vget_low_s8(second), vget_low_s8(b));
                        dots[r][0] = vpadalq_s16(dots[r][0], low);
                        let high = vmull_high_s8(first, a);
                        let high = vmlal_high_s8(high, second, b);
                        dots[r][1] = vpadalq_s16(dots[r][1], high);
                    }
                }
                let dots = dots.map(|dots| vpaddq_s32(dots[0], dots[1]));
                add_block(&mut sums[p], quarter, dots, widen(scales, quarter), x);
            }
        }
    }
    store_sums(sums, acc);
}

#[target_feature(enable = "neon")]
fn q4<const P: usize, const R: usize>(
    tile: Tile<Q4Panel<'_>, P>,
    x: Blocks<'_, R>,
    acc: &mut [[Sums; R]; P],
) {
    let (panels, x) = (tile.panels.map(|panel| panel.cut(x[0].len())), cut(x));
    let mut ahead = Ahead::new(P, x[0].len(), 256, tile.panel_bytes);
    let mut sums = load_sums(acc);
    for block in 0..x[0].len() {
        ahead.step(block);
        let x = at(&x, block);
        let offsets = offsets(x);
        for p in 0..P {
            let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
            ahead.ask(scales, quants);
            for quarter in 0..4 {
                // Two registers of two rows, with four sums for each.
                let mut pairs = [[vdupq_n_s16(0); 2]; R];
                for group in 0..4 {
                    let (first, second) = nibbles(load(&quants[group], quarter));
                    for r in 0..R {
                        let words = &x[r].words;
                        let (a, b) = (repeat(words[group]), repeat(words[group + 4]));
                        pairs[r][0] = vmlal_s8(pairs[r][0], vget_low_s8(first), vget_low_s8(a));
                        pairs[r][1] = vmlal_high_s8(pairs[r][1], first, a);
                        pairs[r][0] = vmlal_s8(pairs[r][0], vget_low_s8(second), vget_low_s8(b));
                        pairs[r][1] = vmlal_high_s8(pairs[r][1], second, b);
                    }
                }
                let mut dots = offsets;
                for r in 0..R {
                    let dot = vpaddq_s32(vpaddlq_s16(pairs[r][0]), vpaddlq_s16(pairs[r][1]));
                    dots[r] = vaddq_s32(dot, offsets[r]);
                }
                add_block(&mut sums[p], quarter, dots, widen(scales, quarter), x);
            }
        }
    }
    store_sums(sums, acc);
}

/// Where the sums of a q4 block start: `−8 · Σx`.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::arch) fn offsets<const R: usize>(x: [&QuantizedBlock; R]) -> [int32x4_t; R] {
    let mut dots = [vdupq_n_s32(0); R];
    for r in 0..R {
        dots[r] = vdupq_n_s32(8 * x[r].minus_sum);
    }
    dots
}

/// `sums += dots · (w_scale · x_scale)`.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::arch) fn add_block<const R: usize>(
    sums: &mut [Quarters; R],
    quarter: usize,
    dots: [int32x4_t; R],
    scales: float32x4_t,
    x: [&QuantizedBlock; R],
) {
    for r in 0..R {
        let scale = vmulq_n_f32(scales, x[r].scale);
        sums[r][quarter] = vfmaq_f32(sums[r][quarter], vcvtq_f32_s32(dots[r]), scale);
    }
}

/// Low and high halves of bytes, 0..=15.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::arch) fn nibbles(pairs: int8x16_t) -> (int8x16_t, int8x16_t) {
    let pairs = vreinterpretq_u8_s8(pairs);
    let (low, high) = (vandq_u8(pairs, vdupq_n_u8(15)), vshrq_n_u8::<4>(pairs));
    (vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high))
}

/// Four inputs, for four rows.
#[inline]
#[target_feature(enable = "neon")]
fn repeat(word: i32) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_n_s32(word))
}

/// Quarter of a group.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::arch) fn load(group: &[u8; 64], quarter: usize) -> int8x16_t {
    let quarter = &group.as_chunks::<16>().0[quarter];
    // SAFETY: 16 bytes can be read, and no alignment is asked for.
    unsafe { vld1q_s8(quarter.as_ptr().cast()) }
}

/// Quarter of a row of f16.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::arch) fn widen(bits: &[u16; PANEL], quarter: usize) -> float32x4_t {
    let quarter = &bits.as_chunks::<4>().0[quarter];
    // SAFETY: 8 bytes can be read, and the alignment is that of f16.
    vcvt_f32_f16(vreinterpret_f16_u16(unsafe { vld1_u16(quarter.as_ptr()) }))
}

#[inline]
#[target_feature(enable = "neon")]
fn store(quarters: Quarters) -> Sums {
    let mut out = [0.0; PANEL];
    for (out, quarter) in out.as_chunks_mut::<4>().0.iter_mut().zip(quarters) {
        // SAFETY: 16 bytes can be written, and the alignment is that of f32.
        unsafe { vst1q_f32(out.as_mut_ptr(), quarter) };
    }
    out
}

#[inline]
#[target_feature(enable = "neon")]
pub(in crate::arch) fn load_sums<const P: usize, const R: usize>(
    acc: &[[Sums; R]; P],
) -> [[Quarters; R]; P] {
    let mut sums = [[[vdupq_n_f32(0.0); 4]; R]; P];
    for p in 0..P {
        for r in 0..R {
            for (quarter, from) in acc[p][r].as_chunks::<4>().0.iter().enumerate() {
                // SAFETY: 16 bytes can be read, and the alignment is that of f32.
                sums[p][r][quarter] = unsafe { vld1q_f32(from.as_ptr()) };
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "neon")]
pub(in crate::arch) fn store_sums<const P: usize, const R: usize>(
    sums: [[Quarters; R]; P],
    acc: &mut [[Sums; R]; P],
) {
    for p in 0..P {
        for r in 0..R {
            acc[p][r] = store(sums[p][r]);
        }
    }
}
