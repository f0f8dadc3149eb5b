//! The order of things: segments, the head, and what is written before it is read.

use super::{OpAt, ProgramError, width};
use crate::program::{Kind, Op, Program, Rows, TensorId};

/// Segments follow each other from operator 0, and leave operators for a head.
pub(super) fn check_segments(program: &Program<'_>) -> Result<(), ProgramError> {
    let (mut start, mut layers) = (0, 0);
    for (at, segment) in (0_u16..).zip(program.segments) {
        if segment.first_op != start {
            let found = segment.first_op;
            return Err(ProgramError::SegmentStart { segment: at, found, expected: start });
        }
        let (found, least) = (segment.end_op, u64::from(start).saturating_add(1));
        // At least one operator is left for the head.
        let most = (program.ops.len() as u64).saturating_sub(1);
        if !(least..=most).contains(&found.into()) {
            return Err(ProgramError::SegmentEnd { segment: at, found, least, most });
        }
        if segment.layers < layers {
            let found = segment.layers;
            return Err(ProgramError::SegmentLayers { segment: at, found, least: layers });
        }
        (start, layers) = (segment.end_op, segment.layers);
    }
    match program.segments.is_empty() {
        true => Err(ProgramError::Missing { what: "segment" }),
        false => Ok(()),
    }
}

/// Each segment writes its residual; the head selects the last of them, and ends with the logits.
///
/// Runs after [`check_order`]: every id is in range, and every activation is written once.
pub(super) fn check_residuals(program: &Program<'_>) -> Result<(), ProgramError> {
    let Some(last) = program.segments.last() else {
        return Err(ProgramError::Missing { what: "segment" });
    };
    let expected = width(program, last.residual);
    for (at, segment) in (0_u16..).zip(program.segments) {
        let tensor = segment.residual.0;
        let ops = program.ops.get(segment.ops()).unwrap_or_default();
        if !ops.iter().any(|op| op.operands().output == segment.residual) {
            return Err(ProgramError::Residual { segment: at, tensor });
        }
        let found = width(program, segment.residual);
        if found != expected {
            return Err(ProgramError::ResidualWidth { segment: at, tensor, found, expected });
        }
    }
    let head = program.ops.get(program.head()).unwrap_or_default();
    let (Some(Op::Select { x, .. }), Some(end)) = (head.first(), head.last()) else {
        return Err(ProgramError::Missing { what: "head" });
    };
    if *x != last.residual {
        return Err(ProgramError::HeadInput { tensor: x.0, expected: last.residual.0 });
    }
    let written = end.operands().output;
    if written != program.logits {
        return Err(ProgramError::Logits { tensor: written.0, expected: program.logits.0 });
    }
    check_vocabulary(program)
}

/// What was sampled can be embedded.
fn check_vocabulary(program: &Program<'_>) -> Result<(), ProgramError> {
    let expected = width(program, program.logits);
    for (op, at) in program.ops.iter().zip(0_u16..) {
        let Op::Embed { table, .. } = op else { continue };
        let rows = program.tensors.get(table.index()).map(|tensor| tensor.rows);
        let found = if let Some(Rows::Fixed(rows)) = rows { rows } else { 0 };
        if found != expected {
            let op = OpAt { index: at, name: op.name() };
            return Err(ProgramError::Vocabulary { op, found, expected });
        }
    }
    Ok(())
}

/// Activations are written once, before they are read; states are updated once; rows are as many as the place asks
/// for.
///
/// Runs after the operands: every id is in range and of its kind.
pub(super) fn check_order(program: &Program<'_>) -> Result<(), ProgramError> {
    let mut touched = Touched::new();
    let head = program.head().start;
    for (index, (op, at)) in program.ops.iter().zip(0_u16..).enumerate() {
        let at = OpAt { index: at, name: op.name() };
        check_place(op, at, index, head)?;
        let operands = op.operands();
        let output = operands.output;
        for input in operands.inputs.into_iter().flatten() {
            if input == output {
                return Err(ProgramError::OutputIsInput { op: at, tensor: input.0 });
            }
            if is(program, input, Kind::Activation) {
                if !touched.has(input) {
                    return Err(ProgramError::ReadBeforeWrite { op: at, tensor: input.0 });
                }
                // A select is what leads from many rows to one.
                check_rows(program, at, input, index <= head)?;
            }
        }
        if touched.put(output) {
            return Err(ProgramError::WrittenTwice { op: at, tensor: output.0 });
        }
        check_rows(program, at, output, index < head)?;
        for state in operands.states.into_iter().flatten() {
            if touched.put(state) {
                return Err(ProgramError::UpdatedTwice { op: at, tensor: state.0 });
            }
        }
    }
    let mut entries = (0_u16..).zip(program.tensors);
    let untouched = entries.find(|(tensor, entry)| {
        !matches!(entry.kind, Kind::Weight { .. }) && !touched.has(TensorId(*tensor))
    });
    untouched.map_or(Ok(()), |(tensor, _)| Err(ProgramError::Untouched { tensor }))
}

/// A select starts the head and stands nowhere else; what depends on tokens or states stands before it.
fn check_place(op: &Op, at: OpAt, index: usize, head: usize) -> Result<(), ProgramError> {
    let selects = matches!(op, Op::Select { .. });
    if index == head && !selects {
        return Err(ProgramError::HeadStart { op: at });
    }
    if index != head && selects {
        return Err(ProgramError::Misplaced {
            op: at,
            expected: "elsewhere than at the head's start",
        });
    }
    let tokens = matches!(op, Op::Embed { .. } | Op::RopeAngles { .. });
    let states = op.operands().states.iter().any(Option::is_some);
    if index > head && (tokens || states) {
        let expected = "in the head, where there is neither a token nor a state";
        return Err(ProgramError::Misplaced { op: at, expected });
    }
    Ok(())
}

/// An activation has a row for each token up to the head, and one row behind.
fn check_rows(
    program: &Program<'_>,
    op: OpAt,
    id: TensorId,
    many: bool,
) -> Result<(), ProgramError> {
    let rows = program.tensors.get(id.index()).map(|tensor| tensor.rows);
    let (fits, expected) = match many {
        true => (rows == Some(Rows::Many), "a row for each token"),
        false => (rows == Some(Rows::Fixed(1)), "one row"),
    };
    match fits {
        true => Ok(()),
        false => Err(ProgramError::WrongRows { op, tensor: id.0, expected }),
    }
}

fn is(program: &Program<'_>, id: TensorId, kind: Kind) -> bool {
    program.tensors.get(id.index()).is_some_and(|tensor| tensor.kind == kind)
}

/// One bit for each tensor that there can be: written, if it is an activation; updated, if it is a state.
struct Touched([u64; 1 << 10]);

impl Touched {
    fn new() -> Self {
        Self([0; 1 << 10])
    }

    fn has(&self, id: TensorId) -> bool {
        self.0.get(id.index() / 64).is_some_and(|bits| bits & Self::bit(id) != 0)
    }

    /// Sets the bit, and tells what it was.
    fn put(&mut self, id: TensorId) -> bool {
        let had = self.has(id);
        if let Some(bits) = self.0.get_mut(id.index() / 64) {
            *bits |= Self::bit(id);
        }
        had
    }

    fn bit(id: TensorId) -> u64 {
        1_u64.wrapping_shl(u32::from(id.0) % 64)
    }
}
