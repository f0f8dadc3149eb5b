//! Mamba-2's recurrence: one decay for each head.
//!
//! The state is the second largest thing that a decode step reads (after the weights) and the largest that it writes:
//! 4 MiB in each layer of a 7B model. So it is walked once, in the order it lies in, and the sums stay in registers.

use core::ops::Range;

use crate::isa::Isa;
use crate::lanes::Lanes;
use crate::math::{exp, softplus};
use crate::ops::Span;
use crate::ops::span::Tile;
use crate::view::{ColumnsMut, LANES, Rows};

/// Operands of [`Isa::state_space_dual`], for all heads.
///
/// # Shapes
///
/// - `xbc`: `[rows, n_heads · head_dim + 2 · n_groups · d_state]`
/// - `dt`: `[rows, n_heads]`
/// - `dt_bias`, `a`, `d`: `[n_heads]`
#[derive(Clone, Copy, Debug)]
pub struct StateSpaceDual<'a> {
    /// `x`, then `b`, then `c`.
    pub xbc: Rows<'a>,
    /// Steps, before bias and softplus.
    pub dt: Rows<'a>,
    /// Added to `dt`.
    pub dt_bias: &'a [f32],
    /// Decays, negative.
    pub a: &'a [f32],
    /// Shares of the input in the output.
    pub d: &'a [f32],
    /// Sizes.
    pub shape: SsdShape,
}

/// Sizes of a [`StateSpaceDual`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SsdShape {
    /// Heads.
    pub n_heads: usize,
    /// Groups of neighbouring heads that share `b` and `c`; divides `n_heads`.
    pub n_groups: usize,
    /// Numbers of state per channel.
    pub d_state: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Least step.
    pub dt_min: f32,
    /// Greatest step; may be infinite.
    pub dt_max: f32,
}

impl Isa {
    /// Advances the state of some heads token by token (Dao & Gu 2024, section 3).
    ///
    /// ```text
    /// Δ = clamp(softplus(dt + dt_bias), dt_min, dt_max)
    /// h[n] ← fma(exp(Δ · a), h[n], (Δ · x) · b[n])         y = Σₙ h[n] · c[n]      n from 0, fused
    /// out  = fma(d, x, y)
    /// ```
    ///
    /// # Shapes
    ///
    /// - `state`: `[heads · d_state, head_dim]` f32, updated: these heads only
    /// - `out`: `[rows, heads · head_dim]` f32, overwritten: these heads only
    ///
    /// # Panics
    ///
    /// Panics if shapes disagree.
    pub fn state_space_dual(
        self,
        op: &StateSpaceDual<'_>,
        heads: Range<usize>,
        state: &mut ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        self.state_space_dual_span(op, Span::all(op.xbc.len()), heads, state, out);
    }

    /// [`Self::state_space_dual`] where some rows were answered before, or are not kept: `out` has the answered rows only.
    ///
    /// # Panics
    ///
    /// Panics if shapes disagree, or if rows are not kept and `d_state` is more than [`crate::ops::MOST_D_STATE`].
    pub fn state_space_dual_span(
        self,
        op: &StateSpaceDual<'_>,
        span: Span,
        heads: Range<usize>,
        state: &mut ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        check(op, span, &heads, state, out);
        let SsdShape { d_state, head_dim, .. } = op.shape;
        self.run(
            #[inline(always)]
            || {
                for (index, head) in heads.clone().enumerate() {
                    for chunk in chunks(0..span.kept) {
                        let steps = Steps::new(op, head, chunk.clone());
                        for row in chunk {
                            let columns = index * head_dim..(index + 1) * head_dim;
                            let out = answer(out, span, row, columns);
                            Token::new(op, head, row, &steps).advance(state, index * d_state, out);
                        }
                    }
                }
            },
        );
        if span.kept < op.xbc.len() {
            self.dual_drafts(op, span, heads, state, out);
        }
    }

    /// Goes over rows of which `state` keeps the first `kept`. The others go `ahead` of it: from where it is then, or if nothing `begins`, on from
    /// where rows before them went `ahead`.
    ///
    /// # Panics
    ///
    /// Panics if shapes disagree.
    pub fn state_space_dual_ahead(
        self,
        op: &StateSpaceDual<'_>,
        (kept, begins): (usize, bool),
        heads: Range<usize>,
        state: &mut ColumnsMut<'_>,
        ahead: &mut ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        let rows = op.xbc.len();
        check(op, Span { replayed: 0, kept }, &heads, state, out);
        check(op, Span::all(rows), &heads, ahead, out);
        let SsdShape { d_state, head_dim, .. } = op.shape;
        self.run(
            #[inline(always)]
            || {
                for (index, head) in heads.enumerate() {
                    let (first, columns) =
                        (index * d_state, index * head_dim..(index + 1) * head_dim);
                    for chunk in chunks(0..rows) {
                        let steps = Steps::new(op, head, chunk.clone());
                        for row in chunk {
                            let token = Token::new(op, head, row, &steps);
                            let out = &mut out.row_mut(row)[columns.clone()];
                            if row < kept {
                                token.advance(state, first, Some(out));
                            } else if row == kept && begins {
                                token.go_ahead(state, ahead, first, out);
                            } else {
                                token.advance(ahead, first, Some(out));
                            }
                        }
                    }
                }
            },
        );
    }

    /// Goes over the rows that are not kept.
    #[inline(never)]
    fn dual_drafts(
        self,
        op: &StateSpaceDual<'_>,
        span: Span,
        heads: Range<usize>,
        state: &ColumnsMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        let SsdShape { d_state, head_dim, .. } = op.shape;
        let (mut tile, width) = (Tile::new(), Tile::width(d_state));
        self.run(
            #[inline(always)]
            || {
                for (index, head) in heads.enumerate() {
                    for first in (0..head_dim).step_by(width) {
                        let channels = first..(first + width).min(head_dim);
                        let rows = index * d_state..(index + 1) * d_state;
                        let mut copy = tile.copy(state, rows, channels.clone());
                        for chunk in chunks(span.kept..op.xbc.len()) {
                            let steps = Steps::new(op, head, chunk.clone());
                            for row in chunk {
                                let token = Token::new(op, head, row, &steps);
                                let at = index * head_dim;
                                let columns = at + channels.start..at + channels.end;
                                let out = answer(out, span, row, columns);
                                token.channels(channels.clone()).advance(&mut copy, 0, out);
                            }
                        }
                    }
                }
            },
        );
    }
}

/// Where the answer to a row goes; nowhere for one that was answered before.
#[inline(always)]
fn answer<'o>(
    out: &'o mut ColumnsMut<'_>,
    span: Span,
    row: usize,
    columns: Range<usize>,
) -> Option<&'o mut [f32]> {
    let row = row.checked_sub(span.replayed)?;
    Some(&mut out.row_mut(row)[columns])
}

fn check(
    op: &StateSpaceDual<'_>,
    span: Span,
    heads: &Range<usize>,
    state: &ColumnsMut<'_>,
    out: &ColumnsMut<'_>,
) {
    let SsdShape { n_heads, n_groups, d_state, head_dim, .. } = op.shape;
    assert!(n_groups > 0 && n_heads.is_multiple_of(n_groups), "groups must divide the heads");
    assert!(heads.start <= heads.end && heads.end <= n_heads, "heads out of range");
    let rows = op.xbc.len();
    assert_eq!(op.xbc.width(), n_heads * head_dim + 2 * n_groups * d_state, "xbc");
    assert_eq!((op.dt.len(), op.dt.width()), (rows, n_heads), "dt");
    assert_eq!([op.dt_bias.len(), op.a.len(), op.d.len()], [n_heads; 3], "dt_bias, a, d");
    assert_eq!((state.len(), state.width()), (heads.len() * d_state, head_dim), "state");
    let answers = (span.answered(rows), heads.len() * head_dim);
    assert_eq!((out.len(), out.width()), answers, "out");
}

/// Rows whose steps are computed together, a lane each.
#[inline(always)]
fn chunks(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = rows.end;
    rows.step_by(LANES).map(move |first| first..(first + LANES).min(end))
}

/// Steps and decays of some rows for one head.
struct Steps {
    first: usize,
    delta: [f32; LANES],
    decay: [f32; LANES],
}

impl Steps {
    #[inline(always)]
    fn new(op: &StateSpaceDual<'_>, head: usize, rows: Range<usize>) -> Self {
        let SsdShape { dt_min, dt_max, .. } = op.shape;
        let (mut delta, mut decay) = ([0.0; LANES], [0.0; LANES]);
        for (dt, row) in delta.iter_mut().zip(rows.clone()) {
            *dt = op.dt.row(row)[head] + op.dt_bias[head];
        }
        for (delta, decay) in delta.iter_mut().zip(&mut decay) {
            let step = softplus(*delta);
            let step = if step < dt_min { dt_min } else { step };
            *delta = if step > dt_max { dt_max } else { step };
            *decay = exp(*delta * op.a[head]);
        }
        Self { first: rows.start, delta, decay }
    }
}

/// One token as one head sees it.
struct Token<'a> {
    x: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
    delta: f32,
    decay: f32,
    d: f32,
}

impl<'a> Token<'a> {
    #[inline(always)]
    fn new(op: &StateSpaceDual<'a>, head: usize, row: usize, steps: &Steps) -> Self {
        let SsdShape { n_heads, n_groups, d_state, head_dim, .. } = op.shape;
        let (x, bc) = op.xbc.row(row).split_at(n_heads * head_dim);
        let (b, c) = bc.split_at(n_groups * d_state);
        let group = head / (n_heads / n_groups);
        Self {
            x: &x[head * head_dim..][..head_dim],
            b: &b[group * d_state..][..d_state],
            c: &c[group * d_state..][..d_state],
            delta: steps.delta[row - steps.first],
            decay: steps.decay[row - steps.first],
            d: op.d[head],
        }
    }

    /// The same, for some channels of the head.
    #[inline(always)]
    fn channels(self, channels: Range<usize>) -> Self {
        Self { x: &self.x[channels], ..self }
    }

    /// Advances the rows of `state` from `first` on, and answers where there is room for it.
    #[inline(always)]
    fn advance(&self, state: &mut ColumnsMut<'_>, first: usize, out: Option<&mut [f32]>) {
        match out {
            Some(out) => self.advance_all::<true>(None, state, first, out),
            None => self.advance_all::<false>(None, state, first, &mut []),
        }
    }

    /// Writes to `ahead` what would follow `state`, from row `first` on, and answers.
    #[inline(always)]
    fn go_ahead(
        &self,
        state: &ColumnsMut<'_>,
        ahead: &mut ColumnsMut<'_>,
        first: usize,
        out: &mut [f32],
    ) {
        self.advance_all::<true>(Some(state), ahead, first, out);
    }

    /// Advances all channels of `state`, as if it were like `from` before.
    #[inline(always)]
    fn advance_all<const ANSWERS: bool>(
        &self,
        from: Option<&ColumnsMut<'_>>,
        state: &mut ColumnsMut<'_>,
        first: usize,
        out: &mut [f32],
    ) {
        let state = &mut state.reborrow();
        let (mut at, end) = (0, self.x.len());
        while at + 4 * LANES <= end {
            self.advance_lanes::<4, ANSWERS>(from, state, first, at, out);
            at += 4 * LANES;
        }
        while at + LANES <= end {
            self.advance_lanes::<1, ANSWERS>(from, state, first, at, out);
            at += LANES;
        }
        if at < end {
            self.advance_part::<ANSWERS>(from, state, first, at, out);
        }
    }

    /// Advances the channels `at..at + 16·P`.
    #[inline(always)]
    fn advance_lanes<const P: usize, const ANSWERS: bool>(
        &self,
        from: Option<&ColumnsMut<'_>>,
        state: &mut ColumnsMut<'_>,
        first: usize,
        at: usize,
        out: &mut [f32],
    ) {
        let mut dx = [Lanes::ZERO; P];
        for p in 0..P {
            dx[p] = Lanes::load(&self.x[at + p * LANES..]).scale(self.delta);
        }
        let mut acc = [Lanes::ZERO; P];
        for (n, (&b, &c)) in self.b.iter().zip(self.c).enumerate() {
            let from = from.map(|from| &from.row(first + n)[at..][..P * LANES]);
            let h = &mut state.row_mut(first + n)[at..][..P * LANES];
            for p in 0..P {
                let lane = p * LANES..(p + 1) * LANES;
                let old = Lanes::load(&from.unwrap_or(h)[lane.clone()]);
                let new = old.scale_add(self.decay, dx[p].scale(b));
                new.store(&mut h[lane]);
                if ANSWERS {
                    acc[p] = new.scale_add(c, acc[p]);
                }
            }
        }
        if ANSWERS {
            for p in 0..P {
                let lane = at + p * LANES..at + (p + 1) * LANES;
                let x = Lanes::load(&self.x[lane.clone()]);
                x.scale_add(self.d, acc[p]).store(&mut out[lane]);
            }
        }
    }

    /// Advances the last channels, from `at` on, fewer than 16.
    #[inline(always)]
    fn advance_part<const ANSWERS: bool>(
        &self,
        from: Option<&ColumnsMut<'_>>,
        state: &mut ColumnsMut<'_>,
        first: usize,
        at: usize,
        out: &mut [f32],
    ) {
        let x = Lanes::load_part(&self.x[at..]);
        let dx = x.scale(self.delta);
        let mut acc = Lanes::ZERO;
        for (n, (&b, &c)) in self.b.iter().zip(self.c).enumerate() {
            let from = from.map(|from| &from.row(first + n)[at..]);
            let h = &mut state.row_mut(first + n)[at..];
            let new = Lanes::load_part(from.unwrap_or(h)).scale_add(self.decay, dx.scale(b));
            new.store_part(h);
            acc = new.scale_add(c, acc);
        }
        if ANSWERS {
            x.scale_add(self.d, acc).store_part(&mut out[at..]);
        }
    }
}
