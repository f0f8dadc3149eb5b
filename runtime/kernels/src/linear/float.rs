//! Panels of f16 and f32: one body, compiled under each instruction set.
//!
//! The sum of a block starts anew, so the sums of neighbouring blocks do not wait for each other, and errors grow with
//! the square root of the number of blocks.

use crate::format::{BLOCK, PANEL};
use crate::lanes::Lanes;
use crate::linear::Sums;

/// One panel times `R` rows, with weights made f32 by `widen`.
#[inline(always)]
pub(crate) fn panel<T, const R: usize>(
    panel: &[[T; PANEL]],
    x: [&[f32]; R],
    widen: impl Fn(&[T; PANEL]) -> [f32; PANEL],
) -> [Sums; R] {
    let d_in = x[0].len();
    let (panel, tail) = panel[..d_in].as_chunks::<BLOCK>();
    let blocks: [_; R] =
        core::array::from_fn(|r| &x[r][..d_in].as_chunks::<BLOCK>().0[..panel.len()]);
    let mut acc = [Lanes::ZERO; R];
    for (b, weights) in panel.iter().enumerate() {
        block::<T, R>(weights, core::array::from_fn(|r| blocks[r][b].as_slice()), &widen, &mut acc);
    }
    if !tail.is_empty() {
        block::<T, R>(
            tail,
            core::array::from_fn(|r| &x[r][panel.len() * BLOCK..d_in]),
            &widen,
            &mut acc,
        );
    }
    acc.map(|acc| acc.0)
}

#[inline(always)]
fn block<T, const R: usize>(
    weights: &[[T; PANEL]],
    x: [&[f32]; R],
    widen: &impl Fn(&[T; PANEL]) -> [f32; PANEL],
    acc: &mut [Lanes; R],
) {
    let mut part = [Lanes::ZERO; R];
    for (i, weights) in weights.iter().enumerate() {
        let weights = Lanes(widen(weights));
        for r in 0..R {
            part[r] = weights.scale_add(x[r][i], part[r]);
        }
    }
    for r in 0..R {
        acc[r] = part[r].scale_add(1.0, acc[r]);
    }
}
