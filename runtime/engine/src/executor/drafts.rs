//! Recurrences over rows that may be drafts.

use dynamax_bundle::{Op, TensorId};
use dynamax_kernels::ops::Span;
use dynamax_kernels::view::Rows;

use super::Step;
use crate::crew::Worker;

/// What was logged in a round of drafts before a step.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// Rows: the token that is certain, and drafts.
    pub rows: usize,
    /// The drafts among them were right: states go over them for good.
    pub settles: bool,
}

impl Step<'_> {
    /// Moves all states over the drafts that were logged, which were right.
    pub(crate) fn settle(&self, worker: Worker<'_>) {
        if let Some(device) = self.device {
            return device.settle(&self.job());
        }
        for op in self.model.program().ops {
            let is_recurrence = matches!(
                op,
                Op::CausalConv { .. } | Op::SelectiveScan { .. } | Op::StateSpaceDual { .. }
            );
            // Each reads the log and its own state: nobody waits for anybody.
            if is_recurrence {
                self.by_columns(op, worker);
            }
        }
        worker.wait();
    }

    /// Rows that a recurrence goes over: drafts that it has answered before, then those of this step.
    pub(super) fn history(&self, id: TensorId) -> Rows<'_> {
        let Some(log) = self.log else { return self.read(id) };
        let mut grid = self.grid(id);
        let before = log.drafts();
        grid.offset -= before * grid.stride * size_of::<f32>();
        // SAFETY: inputs of the current operator, which nobody writes until the next barrier; rows of the log.
        #[expect(unsafe_code, reason = "takes a view of the log")]
        unsafe {
            self.arena.rows(grid, before + self.rows)
        }
    }

    /// What a recurrence answers and keeps of these rows. The first row of a round is no draft: states keep it at once.
    pub(super) fn span(&self) -> Span {
        self.log.map_or(Span::all(self.rows), Log::span)
    }
}

impl Log {
    /// Drafts that a state has not gone over.
    #[must_use]
    pub fn drafts(self) -> usize {
        self.rows.saturating_sub(1)
    }

    /// What a recurrence answers and keeps of the drafts and the rows behind them.
    #[must_use]
    pub fn span(self) -> Span {
        match self {
            Self { rows: 0, .. } => Span { replayed: 0, kept: 1 },
            Self { settles, .. } => {
                Span { replayed: self.drafts(), kept: if settles { self.drafts() } else { 0 } }
            }
        }
    }
}
