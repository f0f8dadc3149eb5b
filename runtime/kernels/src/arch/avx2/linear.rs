//! Linear kernels: two registers of 32 bytes are a group of 4 inputs for the 16 rows of a panel.
//!
//! `vpmaddubsw` multiplies unsigned with signed bytes and adds neighbours in 16 bits. Nothing overflows there:
//! - q4 has weights 0..=15 (the offset 8 is taken back by starting at `−8 · Σx`), and 8 groups of two products are at most
//!   16 · 15 · 127 = 30480, so a whole block is summed in 16 bits;
//! - q8 moves the sign of the weight to the input, and two products are at most 2 · 128 · 127 = 32512. The input must not be
//!   −128, whose sign cannot change; quantized rows never hold it.

use core::arch::x86_64::*;

use super::Avx2;
use crate::format::PANEL;
use crate::linear::{Blocks, Kernels, Sums, float};
use crate::matrix::{Q4Panel, Q8Panel};

impl Kernels for Avx2 {
    const ROWS: usize = 4;

    fn f32<const R: usize>(self, panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { f32(panel, x) }
    }

    fn f16<const R: usize>(self, panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { f16(panel, x) }
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

/// Sums of one row, by halves of a panel.
type Halves = [__m256; 2];

#[target_feature(enable = "avx2,fma,f16c")]
fn f32<const R: usize>(panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
    float::panel(panel, x, |weights| *weights)
}

#[target_feature(enable = "avx2,fma,f16c")]
fn f16<const R: usize>(panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
    float::panel(panel, x, |weights| store([widen(weights, 0), widen(weights, 1)]))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q8<const R: usize>(panel: Q8Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
    let x = x.map(|x| x.cut(panel.scales.len()));
    let ones = _mm256_set1_epi16(1);
    let mut acc = [[_mm256_setzero_ps(); 2]; R];
    for (block, (scales, quants)) in panel.scales.iter().zip(panel.quants).enumerate() {
        for half in 0..2 {
            let mut dots = [_mm256_setzero_si256(); R];
            for group in 0..8 {
                let weights = load(bytemuck::cast_ref(&quants[group]), half);
                let magnitudes = _mm256_abs_epi8(weights);
                for r in 0..R {
                    let word = _mm256_set1_epi32(x[r].words[block][group]);
                    let pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(word, weights));
                    dots[r] = _mm256_add_epi32(dots[r], _mm256_madd_epi16(pairs, ones));
                }
            }
            add_block(&mut acc, half, dots, widen(scales, half), x, block);
        }
    }
    acc.map(|acc| store(acc))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q4<const R: usize>(panel: Q4Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
    let x = x.map(|x| x.cut(panel.scales.len()));
    let (ones, low) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
    let mut acc = [[_mm256_setzero_ps(); 2]; R];
    for (block, (scales, quants)) in panel.scales.iter().zip(panel.quants).enumerate() {
        for half in 0..2 {
            let mut pairs = [_mm256_setzero_si256(); R];
            for group in 0..4 {
                let nibbles = load(&quants[group], half);
                let first = _mm256_and_si256(nibbles, low);
                let second = _mm256_and_si256(_mm256_srli_epi16::<4>(nibbles), low);
                for r in 0..R {
                    let words = &x[r].words[block];
                    let products = _mm256_maddubs_epi16(first, _mm256_set1_epi32(words[group]));
                    pairs[r] = _mm256_add_epi16(pairs[r], products);
                    let products =
                        _mm256_maddubs_epi16(second, _mm256_set1_epi32(words[group + 4]));
                    pairs[r] = _mm256_add_epi16(pairs[r], products);
                }
            }
            let dots = core::array::from_fn(|r| {
                let offset = _mm256_set1_epi32(-8 * x[r].sums[block]);
                _mm256_add_epi32(offset, _mm256_madd_epi16(pairs[r], ones))
            });
            add_block(&mut acc, half, dots, widen(scales, half), x, block);
        }
    }
    acc.map(|acc| store(acc))
}

/// `acc += dots · (w_scale · x_scale)`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_block<const R: usize>(
    acc: &mut [Halves; R],
    half: usize,
    dots: [__m256i; R],
    scales: __m256,
    x: [Blocks<'_>; R],
    block: usize,
) {
    for r in 0..R {
        let scale = _mm256_mul_ps(scales, _mm256_set1_ps(x[r].scales[block]));
        acc[r][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r]), scale, acc[r][half]);
    }
}

/// Half of a group.
#[inline]
#[target_feature(enable = "avx")]
fn load(group: &[u8; 64], half: usize) -> __m256i {
    let half = &group.as_chunks::<32>().0[half];
    // SAFETY: 32 bytes can be read, and no alignment is asked for.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

/// Half of a row of f16.
#[inline]
#[target_feature(enable = "avx,f16c")]
fn widen(bits: &[u16; PANEL], half: usize) -> __m256 {
    let half = &bits.as_chunks::<8>().0[half];
    // SAFETY: 16 bytes can be read, and no alignment is asked for.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(half.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx")]
fn store(halves: Halves) -> Sums {
    let mut out = [0.0; PANEL];
    for (out, half) in out.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
        // SAFETY: 32 bytes can be written, and no alignment is asked for.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), half) };
    }
    out
}
