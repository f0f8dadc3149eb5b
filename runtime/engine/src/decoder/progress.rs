//! How far each stage is: the bookkeeping of deferred depth.
//!
//! Exits cut the segments into *stages*: stage `k` leads to exit `k`, the last one to the head. Every stage takes the
//! tokens in order. What has passed stage `k` and not stage `k + 1` waits at exit `k`.

use core::ops::Range;

use dynamax_bundle::check::MAX_EXITS;
use dynamax_bundle::{Program, StateMode};

/// The segments of stage `k`.
pub(super) fn segments(program: &Program<'_>, k: usize) -> Range<usize> {
    let end = |k: usize| program.exits.get(k).map(|exit| usize::from(exit.segment) + 1);
    let start = k.checked_sub(1).and_then(end).unwrap_or(0);
    start..end(k).unwrap_or(program.segments.len())
}

/// Tokens at each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Places that are filled in the states of each stage.
    passed: [u32; MAX_EXITS + 1],
    /// Rows that wait at each exit.
    pending: [u32; MAX_EXITS],
}

impl Progress {
    /// Tokens fed.
    pub(super) fn position(&self) -> u32 {
        self.passed[0]
    }

    /// Places filled in the states of stage `k`.
    pub(super) fn passed(&self, k: usize) -> u32 {
        self.passed[k]
    }

    /// Rows that wait at exit `k`; none at the head.
    pub(super) fn waiting(&self, k: usize) -> u32 {
        self.pending.get(k).copied().unwrap_or(0)
    }

    /// Rows that wait anywhere.
    pub(super) fn all_waiting(&self) -> u32 {
        self.pending.iter().sum()
    }

    /// Rows that enter stage `k` when `new` tokens take along what waits before it.
    pub(super) fn rows_into(&self, k: usize, new: u32) -> u32 {
        new + self.pending[..k].iter().sum::<u32>()
    }

    /// `new` tokens went through stages `0..=last`, and took along what waited before the last of them.
    pub(super) fn advance(&mut self, new: u32, last: usize, state: StateMode) {
        for k in 0..=last {
            self.passed[k] += self.rows_into(k, new);
        }
        match state {
            StateMode::Deferred => {
                let arrived = self.rows_into(last, new);
                self.pending[..last].fill(0);
                if let Some(waiting) = self.pending.get_mut(last) {
                    *waiting += arrived;
                }
            }
            // Their layers have heard of the token, in some way.
            StateMode::Copy | StateMode::Propagate => {
                let passed = self.passed[0];
                self.passed[last + 1..].fill(passed);
            }
            StateMode::Skip => {}
        }
    }

    /// Goes back to where `position` tokens had gone through all of `stages`.
    pub(super) fn rewind(&mut self, position: u32, stages: usize) {
        self.passed[..stages].fill(position);
        self.pending.fill(0);
    }

    /// `new` tokens went through all of `stages`, and took along all that waited.
    pub(super) fn advance_all(&mut self, new: u32, stages: usize) {
        for k in 0..stages {
            self.passed[k] += self.rows_into(k, new);
        }
        self.pending.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_wait_in_order_and_are_taken_along() {
        let mut progress = Progress::default();
        progress.advance_all(4, 3);
        progress.advance(1, 0, StateMode::Deferred);
        progress.advance(1, 0, StateMode::Deferred);
        assert_eq!((progress.waiting(0), progress.waiting(1)), (2, 0), "two left at the first");
        // The third goes one stage further, and takes both along.
        assert_eq!(progress.rows_into(1, 1), 3, "with the two");
        progress.advance(1, 1, StateMode::Deferred);
        assert_eq!((progress.waiting(0), progress.waiting(1)), (0, 3), "all three wait there");
        progress.advance(1, 0, StateMode::Deferred);
        assert_eq!(progress.rows_into(2, 1), 5, "all that wait, and the new one");
        progress.advance_all(1, 3);
        assert_eq!(progress.passed[..3], [9, 9, 9], "exact state everywhere");
        assert_eq!(progress.all_waiting(), 0, "nobody waits");
    }

    #[test]
    fn skipped_stages_do_not_hear_of_a_token() {
        let mut progress = Progress::default();
        progress.advance(1, 0, StateMode::Skip);
        progress.advance_all(1, 2);
        assert_eq!(progress.passed[..2], [2, 1], "one token less");
        progress.advance(1, 0, StateMode::Copy);
        assert_eq!(progress.passed[..2], [3, 3], "copied to the place of its position");
    }
}
