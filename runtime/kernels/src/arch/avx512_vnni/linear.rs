//! Linear kernels: a register of 64 bytes is a group of 4 inputs for all 16 rows of a panel.
//!
//! `vpdpbusd` multiplies unsigned with signed bytes. The weights become unsigned by an offset (q4 is stored with one, q8 gets
//! it by flipping a bit), which is taken back beforehand: the sum starts at `−offset · Σx`, and Σx comes with the row.

use core::arch::x86_64::*;

use super::Avx512Vnni;
use crate::format::PANEL;
use crate::linear::{Blocks, Kernels, Sums, float};
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

    fn q8<const R: usize>(self, panel: Q8Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { q8(panel, x) }
    }

    fn q4<const R: usize>(self, panel: Q4Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
        // SAFETY: `self` proves that this machine has the instructions.
        unsafe { q4(panel, x) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn f32<const R: usize>(panel: &[[f32; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
    float::panel(panel, x, |weights| *weights)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn f16<const R: usize>(panel: &[[u16; PANEL]], x: [&[f32]; R]) -> [Sums; R] {
    float::panel(panel, x, |weights| store(widen(weights)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn q8<const R: usize>(panel: Q8Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
    let x = x.map(|x| x.cut(panel.scales.len()));
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut acc = [_mm512_setzero_ps(); R];
    for (block, (scales, quants)) in panel.scales.iter().zip(panel.quants).enumerate() {
        let mut dots: [_; R] = core::array::from_fn(|r| _mm512_set1_epi32(-128 * x[r].sums[block]));
        let mut more = [_mm512_setzero_si512(); R];
        for group in 0..4 {
            let first = _mm512_xor_si512(load(bytemuck::cast_ref(&quants[group])), flip);
            let second = _mm512_xor_si512(load(bytemuck::cast_ref(&quants[group + 4])), flip);
            for r in 0..R {
                let words = &x[r].words[block];
                dots[r] = _mm512_dpbusd_epi32(dots[r], first, _mm512_set1_epi32(words[group]));
                more[r] = _mm512_dpbusd_epi32(more[r], second, _mm512_set1_epi32(words[group + 4]));
            }
        }
        let scales = widen(scales);
        for r in 0..R {
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(x[r].scales[block]));
            let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(dots[r], more[r]));
            acc[r] = _mm512_fmadd_ps(dot, scale, acc[r]);
        }
    }
    acc.map(|acc| store(acc))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn q4<const R: usize>(panel: Q4Panel<'_>, x: [Blocks<'_>; R]) -> [Sums; R] {
    let x = x.map(|x| x.cut(panel.scales.len()));
    let low = _mm512_set1_epi8(15);
    let mut acc = [_mm512_setzero_ps(); R];
    for (block, (scales, quants)) in panel.scales.iter().zip(panel.quants).enumerate() {
        let mut dots: [_; R] = core::array::from_fn(|r| _mm512_set1_epi32(-8 * x[r].sums[block]));
        let mut more = [_mm512_setzero_si512(); R];
        for group in 0..4 {
            let pairs = load(&quants[group]);
            let first = _mm512_and_si512(pairs, low);
            let second = _mm512_and_si512(_mm512_srli_epi16::<4>(pairs), low);
            for r in 0..R {
                let words = &x[r].words[block];
                dots[r] = _mm512_dpbusd_epi32(dots[r], first, _mm512_set1_epi32(words[group]));
                more[r] = _mm512_dpbusd_epi32(more[r], second, _mm512_set1_epi32(words[group + 4]));
            }
        }
        let scales = widen(scales);
        for r in 0..R {
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(x[r].scales[block]));
            let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(dots[r], more[r]));
            acc[r] = _mm512_fmadd_ps(dot, scale, acc[r]);
        }
    }
    acc.map(|acc| store(acc))
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
fn store(lanes: __m512) -> Sums {
    let mut out = [0.0; PANEL];
    // SAFETY: 64 bytes can be written, and no alignment is asked for.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), lanes) };
    out
}
