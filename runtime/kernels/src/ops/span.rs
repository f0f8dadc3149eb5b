//! Rows of a recurrence that may turn out wrong: what is answered, and what its state keeps.
//!
//! A draft must leave no trace before it is known to be right, and a state that went over it cannot go back. So the state
//! stays where it was, what the drafts brought with them is kept in a log, and each call goes over that log again, on a
//! copy of a few columns that stays in the nearest cache.

use core::ops::Range;

use crate::view::{ColumnsMut, LANES};

/// Which rows of a recurrence are answered, and how many of them its state keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows, from the first, that have been answered before: they only lead to the state.
    pub replayed: usize,
    /// Rows, from the first, that the state keeps. Those behind leave no trace.
    pub kept: usize,
}

impl Span {
    /// All of some rows are answered and kept.
    #[must_use]
    pub const fn all(rows: usize) -> Self {
        Self { replayed: 0, kept: rows }
    }

    /// Rows that are answered, of so many.
    ///
    /// # Panics
    ///
    /// Panics if there are fewer rows than the span says.
    #[must_use]
    pub fn answered(self, rows: usize) -> usize {
        assert!(self.replayed <= rows && self.kept <= rows, "a span within the rows");
        rows - self.replayed
    }
}

/// Numbers of a state that are copied together: half of a nearest cache.
const TILE: usize = 4096;

/// Largest `d_state` of a recurrence that can go over drafts.
pub const MOST_D_STATE: usize = TILE / LANES;

/// A copy of some columns of a state.
#[repr(align(64))]
pub(super) struct Tile([f32; TILE]);

impl Tile {
    /// Room for a copy.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self([0.0; TILE])
    }

    /// Columns of a state with `d_state` rows that fit: whole lanes, at most four of them.
    ///
    /// # Panics
    ///
    /// Panics if `d_state` is more than [`MOST_D_STATE`].
    #[inline(always)]
    pub(super) fn width(d_state: usize) -> usize {
        assert!(d_state <= MOST_D_STATE, "d_state of {d_state} with drafts");
        (TILE / d_state.max(1) / LANES * LANES).min(4 * LANES)
    }

    /// Copies some columns of some rows.
    #[inline(always)]
    pub(super) fn copy(
        &mut self,
        state: &ColumnsMut<'_>,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> ColumnsMut<'_> {
        let (len, width) = (rows.len(), columns.len());
        for (row, to) in rows.zip(self.0.chunks_exact_mut(width)) {
            to.copy_from_slice(&state.row(row)[columns.clone()]);
        }
        ColumnsMut::new(&mut self.0, len, width, width)
    }
}
