//! The order of things: segments, the head, exits, and what is written before it is read.

use core::ops::Range;

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

/// Each segment writes its residual, and all are of one width.
pub(super) fn check_residuals(program: &Program<'_>) -> Result<(), ProgramError> {
    let expected = program.segments.last().map_or(0, |last| width(program, last.residual));
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
    Ok(())
}

/// The head selects the last residual, and ends with the logits.
///
/// Runs after the operands: every id is in range and of its kind.
pub(super) fn check_head(program: &Program<'_>) -> Result<(), ProgramError> {
    let head = program.ops.get(program.head()).unwrap_or_default();
    let (Some(first), Some(end), Some(last)) = (head.first(), head.last(), program.segments.last())
    else {
        return Err(ProgramError::Missing { what: "head" });
    };
    let Op::Select { x, .. } = first else {
        let index = u16::try_from(program.head().start).unwrap_or(u16::MAX);
        return Err(ProgramError::HeadStart { op: OpAt { index, name: first.name() } });
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

/// Activations are written once, before they are read, and read where they are still there; states are updated once;
/// rows are as many as the place asks for.
///
/// Runs after the operands: every id is in range and of its kind.
pub(super) fn check_order(program: &Program<'_>) -> Result<(), ProgramError> {
    let mut touched = Touched::new();
    for part in parts(program) {
        check_part(program, part, &mut touched)?;
    }
    let mut entries = (0_u16..).zip(program.tensors);
    let untouched = entries.find(|(tensor, entry)| {
        !matches!(entry.kind, Kind::Weight { .. }) && !touched.has(TensorId(*tensor))
    });
    untouched.map_or(Ok(()), |(tensor, _)| Err(ProgramError::Untouched { tensor }))
}

/// Operators that run in one go, and the residual that they may read.
#[derive(Clone)]
struct Part {
    what: What,
    ops: Range<usize>,
    residual: Option<TensorId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Segment,
    Probe,
    /// Of the model, or of an exit.
    Head,
}

/// The parts of a Program whose segments and exits follow each other.
fn parts<'p>(program: &Program<'p>) -> impl Iterator<Item = Part> + use<'p> {
    let Program { segments, exits, .. } = *program;
    let residual = |segment: usize| segments.get(segment).map(|segment| segment.residual);
    let before = core::iter::once(None).chain(segments.iter().map(|s| Some(s.residual)));
    let segment = segments.iter().zip(before).map(|(segment, residual)| Part {
        what: What::Segment,
        ops: segment.ops(),
        residual,
    });
    let last = residual(segments.len().saturating_sub(1));
    let head = Part { what: What::Head, ops: program.head(), residual: last };
    let exits = exits.iter().flat_map(move |exit| {
        let residual = residual(exit.segment.into());
        let probe = Part { what: What::Probe, ops: exit.probe(), residual };
        [probe, Part { what: What::Head, ops: exit.head(), residual }]
    });
    segment.chain([head]).chain(exits)
}

fn check_part(
    program: &Program<'_>,
    part: Part,
    touched: &mut Touched,
) -> Result<(), ProgramError> {
    let mut local = Touched::new();
    // Rows are selected at a head's start, and somewhere in a probe.
    let mut selected = false;
    let ops = program.ops.get(part.ops.clone()).unwrap_or_default();
    for (op, index) in ops.iter().zip(part.ops.clone()) {
        let at = OpAt { index: u16::try_from(index).unwrap_or(u16::MAX), name: op.name() };
        let first = index == part.ops.start;
        check_place(op, at, part.what, first, selected)?;
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
                if !local.has(input) && part.residual != Some(input) {
                    return Err(ProgramError::Crosses { op: at, tensor: input.0 });
                }
                check_rows(program, at, input, !selected)?;
            }
        }
        if touched.put(output) {
            return Err(ProgramError::WrittenTwice { op: at, tensor: output.0 });
        }
        local.put(output);
        selected |= matches!(op, Op::Select { .. });
        check_rows(program, at, output, !selected)?;
        for state in operands.states.into_iter().flatten() {
            if touched.put(state) {
                return Err(ProgramError::UpdatedTwice { op: at, tensor: state.0 });
            }
        }
    }
    Ok(())
}

/// A select starts a head, or stands once in a probe; what depends on tokens or states stands before it.
fn check_place(
    op: &Op,
    at: OpAt,
    what: What,
    first: bool,
    selected: bool,
) -> Result<(), ProgramError> {
    let misplaced = |expected| Err(ProgramError::Misplaced { op: at, expected });
    let selects = matches!(op, Op::Select { .. });
    if what == What::Head && first && !selects {
        return Err(ProgramError::HeadStart { op: at });
    }
    if selects && (what == What::Segment || selected) {
        return misplaced("elsewhere than at a head's start or once in a probe");
    }
    let tokens = matches!(op, Op::Embed { .. } | Op::RopeAngles { .. });
    let states = op.operands().states.iter().any(Option::is_some);
    if (tokens || states) && selected {
        return misplaced("in the head, where there is neither a token nor a state");
    }
    let positions = tokens || matches!(op, Op::Attention { .. });
    if positions && what == What::Probe {
        return misplaced("in a probe, which knows neither tokens nor positions");
    }
    Ok(())
}

/// An activation has a row for each token until rows are selected, and one row behind.
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
