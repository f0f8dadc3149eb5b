//! Checks that a Program is sound. **This is what lets a step be infallible**: the planner and the engine take a
//! checked Program and look at none of this again.
//!
//! What a checked Program is known to be:
//!
//! - **Entries.** Every tensor has at least one row and column and at most [`MAX_ELEMENTS`] numbers in all, so sizes
//!   in bytes fit far inside `u64`. Weights have fixed rows and a stored form; states have fixed rows, or a row for
//!   each cached position; activations are f32, with a row for each token or one row. A cache is f32 or f16, any other
//!   state f32.
//! - **Operators.** Every id is in range and of the kind its place asks for; shapes are those in the documentation of
//!   [`Op`](crate::Op); plain operands are f32; groups and heads divide; constants are finite.
//! - **Order.** Every activation is written by exactly one operator, before it is read, and never by one that reads
//!   it. Every state is updated by exactly one operator. Between segments, heads and probes only residuals pass: a
//!   segment reads the one before it, a head or a probe the one that it stands behind.
//! - **Segments.** There is at least one; they follow each other from operator 0, none empty; each writes its
//!   residual; all residuals have one width, and a row for each token. Up to the head, every activation has a row
//!   for each token.
//! - **Head.** It starts with the only `Select`, of the last residual; its activations have one row, so it reads
//!   nothing else of the step and touches no state; its last operator writes the logits. Every embedding table has a row
//!   for each logit, so that what was sampled can be embedded.
//! - **Exits.** They stand behind the head, in the order of their segments, and none at the last. A probe selects once,
//!   knows neither tokens nor positions, and ends with two logits; an exit's head is a head on its residual.

mod error;
mod exits;
mod flow;
mod lookup;
mod shapes;
mod tensors;

pub use error::{OpAt, ProgramError};

use crate::program::{Program, TensorId};

/// Most numbers in a row, and most rows of what is not cached.
pub const MAX_WIDTH: u32 = 1 << 24;
/// Most numbers in a weight or a fixed state: 256 GiB of f32.
pub const MAX_ELEMENTS: u64 = 1 << 36;
/// Most places where a token may leave: devices keep counters for each.
pub const MAX_EXITS: usize = 16;
/// Most positions where positions become f32: it holds every whole number up to this one.
pub const MAX_POSITIONS: u32 = 1 << 24;

/// Checks everything named above.
///
/// Takes time proportional to the Program, and 16 KiB of stack.
///
/// # Errors
///
/// The first thing that is wrong: entries, then operators in order, then the order itself.
pub fn program(program: &Program<'_>) -> Result<(), ProgramError> {
    tensors::check(program)?;
    flow::check_segments(program)?;
    exits::check_exits(program)?;
    for (op, at) in program.ops.iter().zip(0_u16..) {
        shapes::check(program, OpAt { index: at, name: op.name() }, op)?;
    }
    flow::check_residuals(program)?;
    flow::check_head(program)?;
    flow::check_order(program)?;
    exits::check_outputs(program)
}

/// Width of a tensor; 0 if there is none, which a checked Program rules out.
pub(crate) fn width(program: &Program<'_>, id: TensorId) -> u32 {
    program.tensors.get(id.index()).map_or(0, |tensor| tensor.width)
}
