//! Mamba's recurrence: one decay for each channel and number of state.

use core::ops::Range;

use crate::fma::fma;
use crate::isa::Isa;
use crate::math::{exp, softplus};
use crate::ops::Span;
use crate::ops::span::Tile;
use crate::view::{ColumnsMut, Rows};

/// Operands of [`Isa::selective_scan`], narrowed to the same channels but for `bc`.
///
/// # Shapes
///
/// - `x`, `dt`: `[rows, channels]`
/// - `bc`: `[rows, 2 · d_state]`
/// - `a`: `[d_state, channels]`
/// - `d`: `[channels]`
#[derive(Clone, Copy, Debug)]
pub struct SelectiveScan<'a> {
    /// Inputs.
    pub x: Rows<'a>,
    /// Steps, before the softplus.
    pub dt: Rows<'a>,
    /// `b`, then `c`.
    pub bc: Rows<'a>,
    /// Decays, negative; transposed, so that a lane is a channel.
    pub a: Rows<'a>,
    /// Shares of the input in the output.
    pub d: &'a [f32],
}

/// Channels that are scanned together.
const BLOCK: usize = 64;

impl Isa {
    /// Advances the state token by token (Gu & Dao 2023, equation 2, discretised as in section 3.2).
    ///
    /// ```text
    /// Δ = softplus(dt)
    /// h[n] ← fma(exp(Δ · a[n]), h[n], (Δ · x) · b[n])      y = Σₙ h[n] · c[n]      n from 0, fused
    /// out  = fma(d, x, y)
    /// ```
    ///
    /// # Shapes
    ///
    /// - `state`: `[d_state, channels]` f32, updated
    /// - `out`: `[rows, channels]` f32, overwritten
    ///
    /// # Panics
    ///
    /// Panics if shapes disagree.
    pub fn selective_scan(
        self,
        op: &SelectiveScan<'_>,
        state: &mut ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        self.selective_scan_span(op, Span::all(op.x.len()), state, out);
    }

    /// [`Self::selective_scan`] where some rows were answered before, or are not kept: `out` has the answered rows only.
    ///
    /// # Panics
    ///
    /// Panics if shapes disagree, or if rows are not kept and `d_state` is more than [`crate::ops::MOST_D_STATE`].
    pub fn selective_scan_span(
        self,
        op: &SelectiveScan<'_>,
        span: Span,
        state: &mut ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        check(op, span, state, out);
        let channels = op.x.width();
        self.run(
            #[inline(always)]
            || {
                // Twice the same, because the compiler makes more of a constant width.
                let whole = channels - channels % BLOCK;
                for first in (0..whole).step_by(BLOCK) {
                    scan_rows(op, span, 0..span.kept, state, out, first..first + BLOCK);
                }
                if whole < channels {
                    scan_rows(op, span, 0..span.kept, state, out, whole..channels);
                }
            },
        );
        if span.kept < op.x.len() {
            self.scan_drafts(op, span, state, out);
        }
    }

    /// Goes over rows of which `state` keeps the first `kept`. The others go `ahead` of it: from where it is then, or if nothing `begins`, on from
    /// where rows before them went `ahead`.
    ///
    /// # Panics
    ///
    /// Panics if shapes disagree.
    pub fn selective_scan_ahead(
        self,
        op: &SelectiveScan<'_>,
        (kept, begins): (usize, bool),
        state: &mut ColumnsMut<'_>,
        ahead: &mut ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        let (rows, channels) = (op.x.len(), op.x.width());
        check(op, Span { replayed: 0, kept }, state, out);
        check(op, Span::all(rows), ahead, out);
        self.run(
            #[inline(always)]
            || {
                // Twice the same, as above.
                let whole = channels - channels % BLOCK;
                for first in (0..whole).step_by(BLOCK) {
                    scan_ahead(op, (kept, begins), state, ahead, out, first..first + BLOCK);
                }
                if whole < channels {
                    scan_ahead(op, (kept, begins), state, ahead, out, whole..channels);
                }
            },
        );
    }

    /// Goes over the rows that are not kept.
    #[inline(never)]
    fn scan_drafts(
        self,
        op: &SelectiveScan<'_>,
        span: Span,
        state: &ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        let (rows, channels, d_state) = (op.x.len(), op.x.width(), state.len());
        let (mut tile, width) = (Tile::new(), Tile::width(d_state));
        self.run(
            #[inline(always)]
            || {
                for first in (0..channels).step_by(width) {
                    let block = first..(first + width).min(channels);
                    let mut copy = tile.copy(state, 0..d_state, block.clone());
                    scan_rows(op, span, span.kept..rows, &mut copy, out, block);
                }
            },
        );
    }
}

fn check(op: &SelectiveScan<'_>, span: Span, state: &ColumnsMut<'_>, out: &ColumnsMut<'_>) {
    let (rows, channels, d_state) = (op.x.len(), op.x.width(), state.len());
    assert_eq!((op.dt.len(), op.dt.width()), (rows, channels), "dt");
    assert_eq!((op.bc.len(), op.bc.width()), (rows, 2 * d_state), "bc");
    assert_eq!((op.a.len(), op.a.width()), (d_state, channels), "a");
    assert_eq!(op.d.len(), channels, "d");
    assert_eq!(state.width(), channels, "channels of the state");
    assert_eq!((out.len(), out.width()), (span.answered(rows), channels), "out");
}

/// Goes over all rows: the first `kept` move `state`, and the others what is `ahead` of it.
#[inline(always)]
fn scan_ahead(
    op: &SelectiveScan<'_>,
    (kept, begins): (usize, bool),
    state: &mut ColumnsMut<'_>,
    ahead: &mut ColumnsMut<'_>,
    out: &mut ColumnsMut<'_>,
    block: Range<usize>,
) {
    let (span, rows) = (Span::all(op.x.len()), op.x.len());
    scan_rows(op, span, 0..kept, state, out, block.clone());
    if begins {
        for n in 0..state.len() {
            ahead.row_mut(n)[block.clone()].copy_from_slice(&state.row(n)[block.clone()]);
        }
    }
    scan_rows(op, span, kept..rows, ahead, out, block);
}

/// Goes over some rows. `state` has all channels, or those of `block` alone.
#[inline(always)]
fn scan_rows(
    op: &SelectiveScan<'_>,
    span: Span,
    rows: Range<usize>,
    state: &mut ColumnsMut<'_>,
    out: &mut ColumnsMut<'_>,
    block: Range<usize>,
) {
    let whole = state.width() == op.x.width();
    let columns = if whole { block.clone() } else { 0..block.len() };
    for row in rows {
        match row.checked_sub(span.replayed) {
            None => scan(op, state, row, block.clone(), columns.clone(), None),
            Some(answer) => {
                let out = &mut out.row_mut(answer)[block.clone()];
                scan(op, state, row, block.clone(), columns.clone(), Some(out));
            }
        }
    }
}

#[inline(always)]
fn scan(
    op: &SelectiveScan<'_>,
    state: &mut ColumnsMut<'_>,
    row: usize,
    block: Range<usize>,
    columns: Range<usize>,
    out: Option<&mut [f32]>,
) {
    let width = block.len();
    let (x, dt) = (&op.x.row(row)[block.clone()], &op.dt.row(row)[block.clone()]);
    let (b, c) = op.bc.row(row).split_at(state.len());

    let (mut delta, mut dx, mut acc) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
    let (delta, dx, acc) = (&mut delta[..width], &mut dx[..width], &mut acc[..width]);
    for i in 0..width {
        delta[i] = softplus(dt[i]);
        dx[i] = delta[i] * x[i];
    }
    for n in 0..state.len() {
        let (b, c) = (b[n], c[n]);
        let a = &op.a.row(n)[block.clone()];
        let h = &mut state.row_mut(n)[columns.clone()];
        for i in 0..width {
            h[i] = fma(exp(delta[i] * a[i]), h[i], dx[i] * b);
            acc[i] = fma(h[i], c, acc[i]);
        }
    }
    let Some(out) = out else { return };
    let d = &op.d[block];
    for i in 0..width {
        out[i] = fma(d[i], x[i], acc[i]);
    }
}
