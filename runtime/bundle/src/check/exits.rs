//! Exits: where they stand, and what they end with.

use super::{ProgramError, width};
use crate::program::{Exit, Program, TensorId};

/// Exits follow each other from the end of the head to the last operator, each at a later segment than the one before,
/// and none at the last.
pub(super) fn check_exits(program: &Program<'_>) -> Result<(), ProgramError> {
    let mut least_segment = 0;
    let Some(first) = program.exits.first() else { return Ok(()) };
    let least = program.segments.last().map_or(0, |segment| segment.end_op).saturating_add(1);
    if first.first_op < least {
        let (what, found, expected) = ("starts", first.first_op, least);
        return Err(ProgramError::ExitOps { exit: 0, what, found, expected });
    }
    let mut start = first.first_op;
    for (at, exit) in (0_u16..).zip(program.exits) {
        let ops = |what, found, expected| ProgramError::ExitOps { exit: at, what, found, expected };
        if exit.first_op != start {
            return Err(ops("starts", exit.first_op, start));
        }
        if exit.probe_end <= exit.first_op {
            return Err(ops("ends its probe", exit.probe_end, exit.first_op.saturating_add(1)));
        }
        if exit.end_op <= exit.probe_end {
            return Err(ops("ends", exit.end_op, exit.probe_end.saturating_add(1)));
        }
        start = exit.end_op;
        let most = (program.segments.len() as u64).saturating_sub(2);
        let found = exit.segment;
        if found < least_segment || u64::from(found) > most {
            return Err(ProgramError::ExitSegment { exit: at, found, least: least_segment, most });
        }
        least_segment = found.saturating_add(1);
    }
    let end = u16::try_from(program.ops.len()).unwrap_or(u16::MAX);
    let last = u16::try_from(program.exits.len()).unwrap_or(u16::MAX).saturating_sub(1);
    match start == end {
        true => Ok(()),
        false => {
            let what = "ends";
            Err(ProgramError::ExitOps { exit: last, what, found: start, expected: end })
        }
    }
}

/// Each probe ends with two logits, each exit's head with a logit for each id.
///
/// Runs after the order: every id is in range, and every activation is written once.
pub(super) fn check_outputs(program: &Program<'_>) -> Result<(), ProgramError> {
    let vocab_size = width(program, program.logits);
    for (at, exit) in (0_u16..).zip(program.exits) {
        let Exit { probe_end, end_op, score, logits, .. } = *exit;
        for (end, id, expected) in [(probe_end, score, 2), (end_op, logits, vocab_size)] {
            let written = written_before(program, end);
            if written != Some(id) || width(program, id) != expected {
                return Err(ProgramError::ExitOutput { exit: at, tensor: id.0, expected });
            }
        }
    }
    Ok(())
}

/// What the operator before `end` writes.
fn written_before(program: &Program<'_>, end: u16) -> Option<TensorId> {
    let op = program.ops.get(usize::from(end).checked_sub(1)?)?;
    Some(op.operands().output)
}
