//! The order of work in a step, and where all workers must meet.
//!
//! How an operator is shared among workers decides where barriers are needed:
//!
//! - by **rows** (norms, element-wise operators, quantization of a linear operator's input): what follows on the same
//!   rows is done by the same worker, so that no barrier is needed in between; with one row, the first worker does it;
//! - by **columns** (panels of a weight, heads, channels): it reads whole rows and its readers need whole rows, so
//!   barriers stand before and after.
//!
//! Work between two barriers is a *phase*. Workers may be anywhere within a phase, so a buffer that is used in a phase
//! belongs to its owner for all of it: the planner counts lifetimes in phases.

use core::ops::Range;

use dynamax_bundle::{DType, Op, Program, TensorId};

/// A piece of work that all workers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// An operator shared by rows.
    Rows(usize),
    /// Quantization, by rows, of `x`, which the linear operators `first..end` read.
    Quantize { first: usize, end: usize, x: TensorId },
    /// Linear operators `first..end`, shared by panels as if they were one matrix.
    Linears { first: usize, end: usize, x: TensorId, quantized: bool },
    /// Another operator shared by columns.
    Columns(usize),
}

impl Work {
    /// The operators that it is; none, in front of the first that reads it, for a quantization.
    pub(crate) fn ops(self) -> Range<usize> {
        match self {
            Self::Rows(step) | Self::Columns(step) => step..step + 1,
            Self::Quantize { first, .. } => first..first,
            Self::Linears { first, end, .. } => first..end,
        }
    }
}

/// A piece of work with its place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) work: Work,
    /// All workers must meet before it.
    pub(crate) barrier: bool,
    /// Number of barriers before it, from the start of the range.
    pub(crate) phase: u32,
}

/// Walks through the work of some operators.
#[derive(Clone, Debug)]
pub(crate) struct Schedule<'p> {
    program: &'p Program<'p>,
    next: usize,
    end: usize,
    phase: u32,
    /// A run whose input has been quantized and whose products come next.
    run: Option<Work>,
    /// The work before was shared by columns; none before the first.
    after_columns: Option<bool>,
}

impl<'p> Schedule<'p> {
    /// The work of operators `ops`, with all workers together at its start.
    pub(crate) fn new(program: &'p Program<'p>, ops: Range<usize>) -> Self {
        Self { program, next: ops.start, end: ops.end, phase: 0, run: None, after_columns: None }
    }

    fn take(&mut self) -> Option<Work> {
        if let Some(run) = self.run.take() {
            return Some(run);
        }
        if self.next >= self.end {
            return None;
        }
        let first = self.next;
        let Some((x, quantized)) = linear_input(self.program, first) else {
            self.next += 1;
            let by_columns = is_by_columns(&self.program.ops[first]);
            return Some(if by_columns { Work::Columns(first) } else { Work::Rows(first) });
        };
        let same = |step: &usize| linear_input(self.program, *step) != Some((x, quantized));
        let end = (first + 1..self.end).find(same).unwrap_or(self.end);
        self.next = end;
        let linears = Work::Linears { first, end, x, quantized };
        if !quantized {
            return Some(linears);
        }
        self.run = Some(linears);
        Some(Work::Quantize { first, end, x })
    }
}

impl Iterator for Schedule<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let work = self.take()?;
        let by_columns = matches!(work, Work::Columns(_) | Work::Linears { .. });
        let barrier = self.after_columns.is_some_and(|before| before || by_columns);
        self.phase += u32::from(barrier);
        self.after_columns = Some(by_columns);
        Some(Item { work, barrier, phase: self.phase })
    }
}

/// What operator `step` reads, and if as int8 blocks, if it is a linear one.
fn linear_input(program: &Program<'_>, step: usize) -> Option<(TensorId, bool)> {
    let Op::Linear { x, weight, .. } = program.ops[step] else { return None };
    Some((x, matches!(program.tensor(weight).dtype, DType::Q4 | DType::Q8)))
}

fn is_by_columns(op: &Op) -> bool {
    match op {
        Op::Embed { .. }
        | Op::RmsNorm { .. }
        | Op::Add { .. }
        | Op::SwiGlu { .. }
        | Op::Silu { .. }
        | Op::RopeAngles { .. }
        | Op::Rope { .. }
        | Op::GatedRmsNorm { .. } => false,
        Op::Linear { .. }
        | Op::Attention { .. }
        | Op::CausalConv { .. }
        | Op::SelectiveScan { .. }
        | Op::StateSpaceDual { .. }
        | Op::Select { .. } => true,
    }
}

/// The ranges of operators that are run in one go: each segment, the head, then each exit's probe and head.
pub(crate) fn ranges<'p>(program: &Program<'p>) -> impl Iterator<Item = Range<usize>> + use<'p> {
    let segments = program.segments.iter().map(|segment| segment.ops());
    let exits = program.exits.iter().flat_map(|exit| [exit.probe(), exit.head()]);
    segments.chain([program.head()]).chain(exits)
}
