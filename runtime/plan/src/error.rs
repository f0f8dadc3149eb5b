//! What [`verify`](crate::verify()) can find wrong with a plan.

use core::fmt;

/// Why a plan is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// There is not one offset for each buffer.
    OffsetCount {
        /// Number of buffers.
        need: usize,
        /// Number of offsets.
        have: usize,
    },
    /// A buffer ends behind the arena.
    OutsideArena {
        /// Index of the buffer.
        buffer: usize,
        /// Offset plus size, saturated at `u64::MAX`.
        need: u64,
        /// Size of the arena in bytes.
        have: u64,
    },
    /// Two buffers that are live in one step share bytes.
    Overlap {
        /// Index of the buffer with the lower index.
        first: usize,
        /// Index of the other.
        second: usize,
        /// First step in which both are live.
        step: u32,
        /// First byte that they share.
        byte: u64,
    },
}

impl PlanError {
    /// A number for firmware that reports no text; it never changes meaning.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::OffsetCount { .. } => 1,
            Self::OutsideArena { .. } => 2,
            Self::Overlap { .. } => 3,
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffsetCount { need, have } => {
                write!(f, "{need} buffers need as many offsets, have {have}")
            }
            Self::OutsideArena { buffer, need, have } => {
                write!(f, "buffer {buffer} needs an arena of {need} bytes, have {have}")
            }
            Self::Overlap { first, second, step, byte } => {
                write!(f, "buffers {first} and {second} share byte {byte} in step {step}")
            }
        }
    }
}

impl core::error::Error for PlanError {}
