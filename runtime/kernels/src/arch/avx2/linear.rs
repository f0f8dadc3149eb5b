//! Linear kernels: two registers of 32 bytes are a group of 4 inputs for the 16 rows of a panel.
//!
//! `vpmaddubsw` multiplies unsigned with signed bytes and adds neighbours in 16 bits. Nothing overflows there:
//! - q4 has weights 0..=15 (the offset 8 is taken back by starting at `−8 · Σx`), and 8 groups of two products are at most
//!   16 · 15 · 127 = 30480, so a whole block is summed in 16 bits;
//! - q8 moves the sign of the weight to the input, and two products are at most 2 · 128 · 127 = 32512. The input must not be
//!   −128, whose sign cannot change; quantized rows never hold it.

use core::arch::x86_64::*;
use core::ops::Range;

use super::Avx2;
use crate::arch::ahead::Ahead;
use crate::arch::{at, cut};
use crate::format::PANEL;
use crate::linear::{Blocks, Kernels, QuantizedBlock, Sums, Tile, float};
use crate::matrix::{Q4Panel, Q8Panel};

impl Kernels for Avx2 {
    const ROWS: usize = 4;
    const Q4_ROWS: usize = 3;

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
fn q8<const P: usize, const R: usize>(
    tile: Tile<Q8Panel<'_>, P>,
    x: Blocks<'_, R>,
    acc: &mut [[Sums; R]; P],
) {
    let (panels, x) = (tile.panels.map(|panel| panel.cut(x[0].len())), cut(x));
    let mut ahead = Ahead::new(P, x[0].len(), 512, tile.panel_bytes);
    let mut sums = load_sums(acc);
    for halves in passes(R) {
        for block in 0..x[0].len() {
            let x = at(&x, block);
            if halves.start == 0 {
                ahead.step(block);
            }
            for p in 0..P {
                let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
                if halves.start == 0 {
                    ahead.ask(scales, quants);
                }
                for half in halves.clone() {
                    add_block(&mut sums[p], half, q8_dots(quants, half, x), widen(scales, half), x);
                }
            }
        }
    }
    store_sums(sums, acc);
}

/// Integer sums of half a panel's block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q8_dots<const R: usize>(
    quants: &[[i8; 64]; 8],
    half: usize,
    x: [&QuantizedBlock; R],
) -> [__m256i; R] {
    let ones = _mm256_set1_epi16(1);
    let mut dots = [_mm256_setzero_si256(); R];
    for group in 0..8 {
        let weights = load(bytemuck::cast_ref(&quants[group]), half);
        let magnitudes = _mm256_abs_epi8(weights);
        for r in 0..R {
            let word = _mm256_set1_epi32(x[r].words[group]);
            let signed = _mm256_sign_epi8(word, weights);
            let pairs = _mm256_maddubs_epi16(magnitudes, signed);
            dots[r] = _mm256_add_epi32(dots[r], _mm256_madd_epi16(pairs, ones));
        }
    }
    dots
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q4<const P: usize, const R: usize>(
    tile: Tile<Q4Panel<'_>, P>,
    x: Blocks<'_, R>,
    acc: &mut [[Sums; R]; P],
) {
    let (panels, x) = (tile.panels.map(|panel| panel.cut(x[0].len())), cut(x));
    let mut ahead = Ahead::new(P, x[0].len(), 256, tile.panel_bytes);
    let mut sums = load_sums(acc);
    for halves in passes(R) {
        for block in 0..x[0].len() {
            let x = at(&x, block);
            if halves.start == 0 {
                ahead.step(block);
            }
            for p in 0..P {
                let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
                if halves.start == 0 {
                    ahead.ask(scales, quants);
                }
                for half in halves.clone() {
                    add_block(&mut sums[p], half, q4_dots(quants, half, x), widen(scales, half), x);
                }
            }
        }
    }
    store_sums(sums, acc);
}

/// Integer sums of half a panel's block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q4_dots<const R: usize>(
    quants: &[[u8; 64]; 4],
    half: usize,
    x: [&QuantizedBlock; R],
) -> [__m256i; R] {
    let (ones, low) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
    let mut pairs = [_mm256_setzero_si256(); R];
    for group in 0..4 {
        let nibbles = load(&quants[group], half);
        let first = _mm256_and_si256(nibbles, low);
        let second = _mm256_and_si256(_mm256_srli_epi16::<4>(nibbles), low);
        for r in 0..R {
            let words = &x[r].words;
            let word = _mm256_set1_epi32(words[group]);
            pairs[r] = _mm256_add_epi16(pairs[r], _mm256_maddubs_epi16(first, word));
            let word = _mm256_set1_epi32(words[group + 4]);
            pairs[r] = _mm256_add_epi16(pairs[r], _mm256_maddubs_epi16(second, word));
        }
    }
    let mut dots = [_mm256_setzero_si256(); R];
    for r in 0..R {
        let offset = _mm256_slli_epi32::<3>(_mm256_set1_epi32(x[r].minus_sum));
        dots[r] = _mm256_add_epi32(offset, _mm256_madd_epi16(pairs[r], ones));
    }
    dots
}

/// Halves of a panel that are gone through together. Few rows read a panel once, as it comes from memory. More would need more registers
/// than there are: sums of both halves, and what the compiler keeps of one half's inputs for the other.
#[inline(always)]
fn passes(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let together = if rows > 2 { 1 } else { 2 };
    (0..2).step_by(together).map(move |half| half..half + together)
}

/// `sums += dots · (w_scale · x_scale)`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_block<const R: usize>(
    sums: &mut [Halves; R],
    half: usize,
    dots: [__m256i; R],
    scales: __m256,
    x: [&QuantizedBlock; R],
) {
    for r in 0..R {
        let scale = _mm256_mul_ps(scales, _mm256_set1_ps(x[r].scale));
        sums[r][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r]), scale, sums[r][half]);
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

#[inline]
#[target_feature(enable = "avx")]
fn load_sums<const P: usize, const R: usize>(acc: &[[Sums; R]; P]) -> [[Halves; R]; P] {
    let mut sums = [[[_mm256_setzero_ps(); 2]; R]; P];
    for p in 0..P {
        for r in 0..R {
            for (half, from) in acc[p][r].as_chunks::<8>().0.iter().enumerate() {
                // SAFETY: 32 bytes can be read, and no alignment is asked for.
                sums[p][r][half] = unsafe { _mm256_loadu_ps(from.as_ptr()) };
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx")]
fn store_sums<const P: usize, const R: usize>(sums: [[Halves; R]; P], acc: &mut [[Sums; R]; P]) {
    for p in 0..P {
        for r in 0..R {
            acc[p][r] = store(sums[p][r]);
        }
    }
}
