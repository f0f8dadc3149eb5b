//! The log of drafts: what recurrences read of rows that may turn out wrong.
//!
//! A state does not go over a draft before it is verified, so each step goes over the drafts before it once more. While
//! tokens are drafted, the activations that recurrences read are therefore kept, each row behind the last, in place of
//! their buffers in the arena: nothing is copied.
//!
//! Small states have a second place. What follows drafts is written there, and when all of them were right the two places change their
//! names: nothing is gone over twice, unless some draft was wrong.

use dynamax_bundle::{Kind, Op, Program, Rows, TensorId};
use dynamax_kernels::ops::MOST_D_STATE;

use super::{Settings, Slot, extent};
use crate::error::LoadError;

/// The activations that a recurrence reads; none for any other operator.
fn logged(op: &Op) -> [Option<TensorId>; 3] {
    match *op {
        Op::CausalConv { x, .. } => [Some(x), None, None],
        Op::SelectiveScan { x, dt, bc, .. } => [Some(x), Some(dt), Some(bc)],
        Op::StateSpaceDual { xbc, dt, .. } => [Some(xbc), Some(dt), None],
        _ => [None; 3],
    }
}

/// Gives every activation that a recurrence reads its place in the log, which begins at a byte offset; returns its bytes.
pub(super) fn place(
    program: &Program<'_>,
    settings: Settings,
    start: u64,
    slots: &mut [Slot<'_>],
) -> Result<u64, LoadError> {
    let mut bytes = 0;
    // The token before the drafts is logged too: what goes over them reads on from it.
    let rows = Settings { max_rows: settings.drafts + 1, ..settings };
    for id in program.ops.iter().flat_map(logged).flatten() {
        let slot = &mut slots[id.index()];
        if slot.log.is_none() {
            slot.log = Some(start + bytes);
            bytes += extent(program.tensor(id), rows)?.bytes;
        }
    }
    Ok(bytes)
}

/// Gives the state of every scan a second place, where drafts go ahead of it, if all of them are small; returns their bytes.
pub(super) fn place_ahead(
    program: &Program<'_>,
    settings: Settings,
    start: u64,
    slots: &mut [Slot<'_>],
) -> Result<u64, LoadError> {
    let mut bytes = 0;
    for id in program.ops.iter().filter_map(scanned) {
        bytes += extent(program.tensor(id), settings)?.bytes;
    }
    if bytes > settings.most_ahead {
        return Ok(0);
    }
    let mut next = start;
    for id in program.ops.iter().filter_map(scanned) {
        slots[id.index()].ahead = Some(next);
        next += extent(program.tensor(id), settings)?.bytes;
    }
    Ok(bytes)
}

/// The state of a scan.
fn scanned(op: &Op) -> Option<TensorId> {
    match *op {
        Op::SelectiveScan { state, .. } | Op::StateSpaceDual { state, .. } => Some(state),
        _ => None,
    }
}

/// True if a Program can go over drafts: what it logs is made anew for each row, and its states fit the kernels.
pub(crate) fn can_draft(program: &Program<'_>) -> bool {
    let waits = |id: TensorId| {
        let residual =
            |exit: &dynamax_bundle::Exit| program.segments[usize::from(exit.segment)].residual;
        program.exits.iter().any(|exit| residual(exit) == id)
    };
    let is_row = |id: TensorId| {
        let tensor = program.tensor(id);
        tensor.kind == Kind::Activation && tensor.rows == Rows::Many && !waits(id)
    };
    let d_state = |op: &Op| match *op {
        Op::StateSpaceDual { d_state, .. } => d_state as usize,
        Op::SelectiveScan { state, .. } => match program.tensor(state).rows {
            Rows::Fixed(rows) => rows as usize,
            Rows::Many | Rows::Cache { .. } => 0,
        },
        _ => 0,
    };
    program
        .ops
        .iter()
        .all(|op| logged(op).into_iter().flatten().all(is_row) && d_state(op) <= MOST_D_STATE)
}
