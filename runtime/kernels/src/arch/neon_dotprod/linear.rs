//! Linear kernels: four registers of 16 bytes are a group of 4 inputs for the 16 rows of a panel.
//!
//! `sdot` adds the products of 4 neighbouring bytes to a sum of 32 bits, for four rows at once, with the 4 inputs picked from
//! a register of 16. So 32 inputs are two registers, and nothing is ever spread or folded. q4 has weights 0..=15; its sum
//! starts at `−8 · Σx`, which takes the offset back.

use core::arch::aarch64::*;
use core::arch::asm;

use super::NeonDotprod;
use crate::arch::neon::linear as neon;
use crate::format::PANEL;
use crate::linear::{Blocks, Kernels, Sums};
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

    fn q8<const R: usize>(self, panel: Q8Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { q8(panel, x) }
    }

    fn q4<const R: usize>(self, panel: Q4Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { q4(panel, x) }
    }
}

/// Integer sums of `R` rows, by quarters of a panel.
type Dots<const R: usize> = [[int32x4_t; 4]; R];

#[target_feature(enable = "neon,dotprod")]
fn q8<const R: usize>(panel: Q8Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
    let x = x.map(|x| x.cut(panel.scales.len()));
    let mut acc = [[vdupq_n_f32(0.0); 4]; R];
    for (block, (scales, quants)) in panel.scales.iter().zip(panel.quants).enumerate() {
        let inputs: [_; R] = core::array::from_fn(|r| halves(&x[r].words[block]));
        let mut dots = [[vdupq_n_s32(0); 4]; R];
        for half in 0..2 {
            group::<0, R>(&mut dots, &quants[4 * half], half, &inputs);
            group::<1, R>(&mut dots, &quants[4 * half + 1], half, &inputs);
            group::<2, R>(&mut dots, &quants[4 * half + 2], half, &inputs);
            group::<3, R>(&mut dots, &quants[4 * half + 3], half, &inputs);
        }
        add_block(&mut acc, &dots, scales, x, block);
    }
    acc.map(|acc| neon::store(acc))
}

#[target_feature(enable = "neon,dotprod")]
fn q4<const R: usize>(panel: Q4Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
    let x = x.map(|x| x.cut(panel.scales.len()));
    let mut acc = [[vdupq_n_f32(0.0); 4]; R];
    for (block, (scales, quants)) in panel.scales.iter().zip(panel.quants).enumerate() {
        let inputs: [_; R] = core::array::from_fn(|r| halves(&x[r].words[block]));
        let mut dots = core::array::from_fn(|r| [vdupq_n_s32(-8 * x[r].sums[block]); 4]);
        groups::<0, R>(&mut dots, &quants[0], &inputs);
        groups::<1, R>(&mut dots, &quants[1], &inputs);
        groups::<2, R>(&mut dots, &quants[2], &inputs);
        groups::<3, R>(&mut dots, &quants[3], &inputs);
        add_block(&mut acc, &dots, scales, x, block);
    }
    acc.map(|acc| neon::store(acc))
}

/// Adds group `G` of one half of the inputs.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn group<const G: usize, const R: usize>(
    dots: &mut Dots<R>,
    weights: &[i8; 64],
    half: usize,
    inputs: &[[int8x16_t; 2]; R],
) {
    for quarter in 0..4 {
        let weights = neon::load(bytemuck::cast_ref(weights), quarter);
        for r in 0..R {
            dots[r][quarter] = sdot::<G>(dots[r][quarter], weights, inputs[r][half]);
        }
    }
}

/// Adds group `G` of both halves of the inputs, which share bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn groups<const G: usize, const R: usize>(
    dots: &mut Dots<R>,
    pairs: &[u8; 64],
    inputs: &[[int8x16_t; 2]; R],
) {
    for quarter in 0..4 {
        let (low, high) = neon::nibbles(neon::load(pairs, quarter));
        for r in 0..R {
            dots[r][quarter] = sdot::<G>(dots[r][quarter], low, inputs[r][0]);
            dots[r][quarter] = sdot::<G>(dots[r][quarter], high, inputs[r][1]);
        }
    }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_block<const R: usize>(
    acc: &mut [neon::Quarters; R],
    dots: &Dots<R>,
    scales: &[u16; PANEL],
    x: [Blocks<'_>; R],
    block: usize,
) {
    for quarter in 0..4 {
        let dots = core::array::from_fn(|r| dots[r][quarter]);
        neon::add_block(acc, quarter, dots, neon::widen(scales, quarter), x, block);
    }
}

/// The 32 inputs of a block.
#[inline]
#[target_feature(enable = "neon")]
fn halves(words: &[i32; 8]) -> [int8x16_t; 2] {
    let bytes: &[u8; 32] = bytemuck::cast_ref(words);
    let halves = bytes.as_chunks::<16>().0;
    // SAFETY: 16 bytes can be read, and no alignment is asked for.
    core::array::from_fn(|half| unsafe { vld1q_s8(halves[half].as_ptr().cast()) })
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
