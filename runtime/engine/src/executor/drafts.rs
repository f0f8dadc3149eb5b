//! Recurrences over rows that may be drafts.

use dynamax_bundle::{Op, TensorId};
use dynamax_kernels::ops::Span;
use dynamax_kernels::view::Rows;

use super::Step;
use crate::arena::Grid;
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
    /// Moves states over the drafts that were logged, which were right: those of scans not where they went ahead.
    pub(crate) fn settle(&self, went_ahead: bool, worker: Worker<'_>) {
        if let Some(device) = self.device {
            return device.settle(&self.job());
        }
        for op in self.model.program().ops {
            let settles = match op {
                Op::CausalConv { .. } => true,
                Op::SelectiveScan { .. } | Op::StateSpaceDual { .. } => !went_ahead,
                _ => false,
            };
            // Each reads the log and its own state: nobody waits for anybody.
            if settles {
                self.by_columns(op, worker);
            }
        }
        worker.wait();
    }

    /// Drafts before this step.
    pub(super) fn drafts(&self) -> usize {
        self.log.map_or(0, Log::drafts)
    }

    /// Drafts before this step that a scan goes over again.
    pub(super) fn replayed(&self, state: TensorId) -> usize {
        if self.ahead(state).is_some() { 0 } else { self.drafts() }
    }

    /// Where the state of a scan goes ahead with drafts, if it does.
    pub(super) fn ahead(&self, state: TensorId) -> Option<(Log, Grid)> {
        let log = self.log.filter(|log| !log.settles)?;
        let (here, there) = (self.model.grid(state), self.model.ahead(state)?);
        Some((log, if self.swapped { here } else { Grid { offset: there, ..here } }))
    }

    /// Rows that a recurrence goes over: so many drafts before this step, then those of this step.
    pub(super) fn history(&self, id: TensorId, before: usize) -> Rows<'_> {
        if self.log.is_none() {
            return self.read(id);
        }
        let mut grid = self.grid(id);
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

    /// Rows of a step that the state of a scan keeps, and if those behind are the first that go ahead of it.
    pub(super) fn goes_ahead(self, rows: usize) -> (usize, bool) {
        (usize::from(self.rows == 0).min(rows), self.drafts() == 0)
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
