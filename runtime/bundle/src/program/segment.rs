//! The pieces that a Program is cut into.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::TensorId;

/// A run of operators up to a possible exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Index of its first operator.
    pub first_op: u16,
    /// One past its last operator.
    pub end_op: u16,
    /// The residual stream at its end, `[rows, d_model]`: what an exit looks at.
    pub residual: TensorId,
    /// Layers of the backbone up to its end.
    pub layers: u16,
}

impl Segment {
    /// Fills storage before a Program is decoded into it.
    pub const EMPTY: Self = Self { first_op: 0, end_op: 0, residual: TensorId(0), layers: 0 };

    /// The operators of this segment.
    #[must_use]
    pub fn ops(self) -> Range<usize> {
        usize::from(self.first_op)..usize::from(self.end_op)
    }
}

impl Default for Segment {
    fn default() -> Self {
        Self::EMPTY
    }
}
