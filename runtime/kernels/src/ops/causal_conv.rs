//! Depthwise causal convolution along the sequence.

use core::ops::Range;

use crate::fma::fma;
use crate::isa::Isa;
use crate::math::silu;
use crate::ops::Span;
use crate::view::{ColumnsMut, Rows};

/// What [`Isa::causal_conv`] does with the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvActivation {
    /// `y = x`.
    Identity,
    /// `y = x · sigmoid(x)`.
    Silu,
}

/// Operands of [`Isa::causal_conv`], all narrowed to the same channels.
///
/// # Shapes
///
/// - `x`: `[rows, channels]`
/// - `weight`: `[d_conv, channels]`; the last row meets the newest token
/// - `bias`: `[channels]`
#[derive(Clone, Copy, Debug)]
pub struct CausalConv<'a> {
    /// Inputs.
    pub x: Rows<'a>,
    /// Taps.
    pub weight: Rows<'a>,
    /// Where the sums start; without it, at +0.
    pub bias: Option<&'a [f32]>,
    /// Applied to the sums.
    pub activation: ConvActivation,
}

/// Channels that are convolved together: their sums stay in registers or the nearest cache.
const BLOCK: usize = 64;

impl Isa {
    /// Convolves each channel with its taps, oldest input first, and keeps the last inputs.
    ///
    /// ```text
    /// out[t] = activation(bias + Σₖ weight[k] · x[t - (d_conv - 1) + k])    each step of the sum fused
    /// ```
    ///
    /// # Shapes
    ///
    /// - `state`: `[d_conv - 1, channels]` f32, updated: the last inputs, oldest first
    /// - `out`: `[rows, channels]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if shapes disagree.
    pub fn causal_conv(
        self,
        op: &CausalConv<'_>,
        state: &mut ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        self.causal_conv_span(op, Span::all(op.x.len()), state, out);
    }

    /// [`Self::causal_conv`] where some rows were answered before, or are not kept: `out` has the answered rows only.
    ///
    /// # Panics
    ///
    /// Panics if shapes disagree.
    pub fn causal_conv_span(
        self,
        op: &CausalConv<'_>,
        span: Span,
        state: &mut ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        let channels = op.x.width();
        assert_eq!(op.weight.width(), channels, "channels of the weight");
        assert_eq!(op.bias.map_or(channels, <[f32]>::len), channels, "channels of the bias");
        assert_eq!(state.len() + 1, op.weight.len(), "d_conv");
        assert_eq!(state.width(), channels, "channels of the state");
        assert_eq!(out.len(), span.answered(op.x.len()), "rows");
        assert_eq!(out.width(), channels, "channels of the output");
        self.run(
            #[inline(always)]
            || {
                // Twice the same, because the compiler makes more of a constant width.
                let whole = channels - channels % BLOCK;
                for first in (0..whole).step_by(BLOCK) {
                    convolve_block(op, span, state, out, first..first + BLOCK);
                }
                if whole < channels {
                    convolve_block(op, span, state, out, whole..channels);
                }
            },
        );
    }
}

#[inline(always)]
fn convolve_block(
    op: &CausalConv<'_>,
    span: Span,
    state: &mut ColumnsMut<'_>,
    out: &mut ColumnsMut<'_>,
    block: Range<usize>,
) {
    for row in span.replayed..op.x.len() {
        let out = &mut out.row_mut(row - span.replayed)[block.clone()];
        convolve(op, state, row, block.clone(), out);
    }
    keep_last(op.x, span.kept, state, block);
}

#[inline(always)]
fn convolve(
    op: &CausalConv<'_>,
    state: &ColumnsMut<'_>,
    row: usize,
    block: Range<usize>,
    out: &mut [f32],
) {
    let mut sums = [0.0; BLOCK];
    let sums = &mut sums[..block.len()];
    if let Some(bias) = op.bias {
        sums.copy_from_slice(&bias[block.clone()]);
    }
    for k in 0..op.weight.len() {
        let x = &input(op.x, state, row + k)[block.clone()];
        let weight = &op.weight.row(k)[block.clone()];
        for ((sum, &weight), &x) in sums.iter_mut().zip(weight).zip(x) {
            *sum = fma(weight, x, *sum);
        }
    }
    match op.activation {
        ConvActivation::Identity => out.copy_from_slice(sums),
        ConvActivation::Silu => {
            for (out, &sum) in out.iter_mut().zip(&*sums) {
                *out = silu(sum);
            }
        }
    }
}

/// Row `index` of the sequence that starts with the state and goes on with `x`.
#[inline(always)]
fn input<'a>(x: Rows<'a>, state: &'a ColumnsMut<'_>, index: usize) -> &'a [f32] {
    match index.checked_sub(state.len()) {
        None => state.row(index),
        Some(row) => x.row(row),
    }
}

/// Moves the state on by `kept` rows of that sequence. Going up, a row is read before it is overwritten.
#[inline(always)]
fn keep_last(x: Rows<'_>, kept: usize, state: &mut ColumnsMut<'_>, block: Range<usize>) {
    if kept == 0 {
        return;
    }
    let mut moved = [0.0; BLOCK];
    let moved = &mut moved[..block.len()];
    for index in 0..state.len() {
        moved.copy_from_slice(&input(x, state, kept + index)[block.clone()]);
        state.row_mut(index)[block.clone()].copy_from_slice(moved);
    }
}
