//! How much of a step at full depth a shorter one is.

use core::ops::Range;

use dynamax_bundle::{MAX_EXITS, Op};

use crate::model::Model;

/// Shares of the weights' bytes that a token reads, by the exit where it leaves; behind the last, all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares([f32; MAX_EXITS + 1]);

impl Shares {
    pub(super) fn of(model: &Model<'_>) -> Self {
        let program = model.program();
        let bytes = |ops: Range<usize>| {
            ops.map(|op| match program.ops[op] {
                Op::Linear { weight, .. } => model.matrix(weight).bytes(),
                _ => 0,
            })
            .sum::<usize>() as f32
        };
        let up_to = |last: usize| -> f32 {
            program.segments.iter().take(last + 1).map(|segment| bytes(segment.ops())).sum()
        };
        let all = up_to(program.segments.len()) + bytes(program.head());
        let mut shares = [1.0; MAX_EXITS + 1];
        for (share, exit) in shares.iter_mut().zip(program.exits.iter()) {
            let own = bytes(exit.probe()) + bytes(exit.head());
            *share = (up_to(usize::from(exit.segment)) + own) / all.max(1.0);
        }
        Self(shares)
    }

    /// The share of a token that leaves at this exit.
    pub(super) fn at(&self, exit: usize) -> f32 {
        self.0[exit.min(MAX_EXITS)]
    }
}
