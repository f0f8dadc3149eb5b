//! Linear kernels: a register of 64 bytes is a group of 4 inputs for all 16 rows of a panel.
//!
//! `vpdpbusd` multiplies unsigned with signed bytes. The weights become unsigned by an offset (q4 is stored with one, q8 gets
//! it by flipping a bit), which is taken back beforehand: the sum starts at `−offset · Σx`, and Σx comes with the row.

use core::arch::x86_64::*;

use super::Avx512Vnni;
use crate::arch::ahead::Ahead;
use crate::arch::{at, cut};
use crate::format::PANEL;
use crate::linear::{Blocks, Kernels, QuantizedBlock, Sums, Tile, float};
use crate::matrix::{Q4Panel, Q8Panel};

impl Kernels for Avx512Vnni {
    const ROWS: usize = 8;

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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn f32<const R: usize>(panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
    float::panel(panel, x, |weights| *weights)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn f16<const R: usize>(panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
    float::panel(panel, x, |weights| {
        let mut acc = [[[0.0; PANEL]]];
        store_sums([[widen(weights)]], &mut acc);
        acc[0][0]
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn q8<const P: usize, const R: usize>(
    tile: Tile<Q8Panel<'_>, P>,
    x: Blocks<'_, R>,
    acc: &mut [[Sums; R]; P],
) {
    let (panels, x) = (tile.panels.map(|panel| panel.cut(x[0].len())), cut(x));
    let mut ahead = Ahead::new(P, x[0].len(), 512, tile.panel_bytes);
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = load_sums(acc);
    for block in 0..x[0].len() {
        ahead.step(block);
        let x = at(&x, block);
        for p in 0..P {
            let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
            ahead.ask(scales, quants);
            let mut dots = offsets::<7, R>(x);
            for group in 0..8 {
                let weights = _mm512_xor_si512(load(bytemuck::cast_ref(&quants[group])), flip);
                for r in 0..R {
                    let word = _mm512_set1_epi32(x[r].words[group]);
                    dots[r] = _mm512_dpbusd_epi32(dots[r], weights, word);
                }
            }
            add_block(&mut sums[p], dots, widen(scales), x);
        }
    }
    store_sums(sums, acc);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn q4<const P: usize, const R: usize>(
    tile: Tile<Q4Panel<'_>, P>,
    x: Blocks<'_, R>,
    acc: &mut [[Sums; R]; P],
) {
    let (panels, x) = (tile.panels.map(|panel| panel.cut(x[0].len())), cut(x));
    let mut ahead = Ahead::new(P, x[0].len(), 256, tile.panel_bytes);
    let low = _mm512_set1_epi8(15);
    let mut sums = load_sums(acc);
    for block in 0..x[0].len() {
        ahead.step(block);
        let x = at(&x, block);
        for p in 0..P {
            let (scales, quants) = (&panels[p].scales[block], &panels[p].quants[block]);
            ahead.ask(scales, quants);
            let mut dots = offsets::<3, R>(x);
            for group in 0..4 {
                let pairs = load(&quants[group]);
                let weights = _mm512_and_si512(pairs, low);
                for r in 0..R {
                    let word = _mm512_set1_epi32(x[r].words[group]);
                    dots[r] = _mm512_dpbusd_epi32(dots[r], weights, word);
                }
                let weights = _mm512_and_si512(_mm512_srli_epi16::<4>(pairs), low);
                for r in 0..R {
                    let word = _mm512_set1_epi32(x[r].words[group + 4]);
                    dots[r] = _mm512_dpbusd_epi32(dots[r], weights, word);
                }
            }
            add_block(&mut sums[p], dots, widen(scales), x);
        }
    }
    store_sums(sums, acc);
}

/// Where the sums of a block start: `−2ˢ · Σx`.
#[inline]
#[target_feature(enable = "avx512f")]
fn offsets<const S: u32, const R: usize>(x: [&QuantizedBlock; R]) -> [__m512i; R] {
    let mut dots = [_mm512_setzero_si512(); R];
    for r in 0..R {
        dots[r] = _mm512_slli_epi32::<S>(_mm512_set1_epi32(x[r].minus_sum));
    }
    dots
}

/// `sums += dots · (w_scale · x_scale)`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_block<const R: usize>(
    sums: &mut [__m512; R],
    dots: [__m512i; R],
    scales: __m512,
    x: [&QuantizedBlock; R],
) {
    for r in 0..R {
        let scale = _mm512_mul_ps(scales, _mm512_set1_ps(x[r].scale));
        sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r]), scale, sums[r]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes can be read, and no alignment is asked for.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen(bits: &[u16; PANEL]) -> __m512 {
    // SAFETY: 32 bytes can be read, and no alignment is asked for.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bits.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_sums<const P: usize, const R: usize>(acc: &[[Sums; R]; P]) -> [[__m512; R]; P] {
    let mut sums = [[_mm512_setzero_ps(); R]; P];
    for p in 0..P {
        for r in 0..R {
            // SAFETY: 64 bytes can be read, and no alignment is asked for.
            sums[p][r] = unsafe { _mm512_loadu_ps(acc[p][r].as_ptr()) };
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_sums<const P: usize, const R: usize>(sums: [[__m512; R]; P], acc: &mut [[Sums; R]; P]) {
    for p in 0..P {
        for r in 0..R {
            // SAFETY: 64 bytes can be written, and no alignment is asked for.
            unsafe { _mm512_storeu_ps(acc[p][r].as_mut_ptr(), sums[p][r]) };
        }
    }
}
