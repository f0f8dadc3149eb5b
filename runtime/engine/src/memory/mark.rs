//! Which operators lead to a state: what a token that left early must still run where its state is propagated.
//!
//! Within a segment the residual stream is what additions carry on. An operator leads to a state if a state reads its
//! output, directly or through others, without going through the stream: of an attention layer the norm and the
//! projections to keys and values, of a Mamba layer those to `x`, `b` and `dt`, and the convolution.

use dynamax_bundle::{Kind, Op, Program, TensorId};

use super::Slot;

/// Marks of an operator or a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(u8);

impl Mark {
    /// Nothing.
    pub(crate) const NONE: Self = Self(0);
    /// Of a tensor: the residual stream.
    const STREAM: u8 = 1;
    /// Of a tensor: read on the way to a state.
    const WANTED: u8 = 2;
    /// Of an operator: leads to a state or updates one.
    const LEADS: u8 = 4;

    /// True for a tensor that is the residual stream.
    pub(crate) fn is_stream(self) -> bool {
        self.0 & Self::STREAM != 0
    }

    /// True for an operator that leads to a state or updates one.
    pub(crate) fn leads_to_state(self) -> bool {
        self.0 & Self::LEADS != 0
    }

    /// True for an operator whose output leads to a state.
    pub(crate) fn is_wanted(self) -> bool {
        self.0 & Self::WANTED != 0
    }
}

/// Marks all operators and activations of the segments. `slots` has an entry for every tensor, then for every
/// operator.
pub(super) fn state_path(program: &Program<'_>, slots: &mut [Slot<'_>]) {
    let (tensors, ops) = slots.split_at_mut(program.tensors.len());
    let segments = program.segments.iter().map(|segment| segment.ops());
    for step in segments.clone().flatten() {
        let op = &program.ops[step];
        let carries = match *op {
            Op::Embed { .. } => true,
            Op::Add { a, b, .. } => [a, b].iter().any(|id| tensors[id.index()].mark.is_stream()),
            _ => false,
        };
        if carries {
            tensors[op.operands().output.index()].mark.0 |= Mark::STREAM;
        }
    }
    for step in segments.flatten().rev() {
        let op = &program.ops[step];
        let out = tensors[op.operands().output.index()].mark;
        let updates = op.operands().states.iter().any(Option::is_some);
        if out.is_stream() || !(out.is_wanted() || updates) {
            continue;
        }
        ops[step].mark.0 |= Mark::LEADS;
        for input in op.operands().inputs.into_iter().flatten() {
            let is_activation = program.tensor(input).kind == Kind::Activation;
            let mark = &mut tensors[input.index()].mark;
            if is_activation && !mark.is_stream() && (out.is_wanted() || feeds_state(op, input)) {
                mark.0 |= Mark::WANTED;
            }
        }
    }
}

/// Queries read a cache and do not feed it; every other operand of an operator with a state does.
fn feeds_state(op: &Op, input: TensorId) -> bool {
    !matches!(*op, Op::Attention { q, k, v, .. } if input == q && input != k && input != v)
}
