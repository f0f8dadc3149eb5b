//! Workers that run one step together: how they share work, and how they wait for each other.
//!
//! Every worker walks through the same list of operators and does its share of each. A barrier separates an operator
//! from what depends on other workers' shares. One worker alone needs neither threads nor an operating system.

pub(crate) mod signal;

use core::ops::Range;

use signal::{STEP_SPINS, Signal};

/// Where all workers of a crew meet: one number counts those who came, another the meetings.
#[derive(Debug, Default)]
pub struct Barrier {
    arrived: Signal,
    meetings: Signal,
}

impl Barrier {
    /// Waits until `count` workers are here.
    fn wait(&self, count: usize) {
        let meeting = self.meetings.number();
        if self.arrived.raise() + 1 == count {
            self.arrived.set(0);
            self.meetings.raise();
        } else {
            self.meetings.wait(STEP_SPINS, |number| number != meeting);
        }
    }
}

/// One worker of a crew.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'c> {
    index: usize,
    count: usize,
    barrier: Option<&'c Barrier>,
}

impl<'c> Worker<'c> {
    /// The only worker.
    pub const ALONE: Self = Self { index: 0, count: 1, barrier: None };

    /// Worker `index` of `count` that meet at `barrier`.
    ///
    /// # Panics
    ///
    /// Panics if there is no such worker.
    #[must_use]
    pub fn new(index: usize, count: usize, barrier: &'c Barrier) -> Self {
        assert!(index < count, "worker {index} of {count}");
        Self { index, count, barrier: Some(barrier) }
    }

    /// True for the first worker of the crew.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Waits until every worker of the crew is here.
    pub fn wait(&self) {
        if let Some(barrier) = self.barrier {
            barrier.wait(self.count);
        }
    }

    /// This worker's share of `total` pieces of equal work: shares are disjoint, in order, cover all, and differ by one
    /// piece at most. The first worker has the largest.
    #[must_use]
    pub fn share(&self, total: usize) -> Range<usize> {
        let start = |index: usize| (total * index).div_ceil(self.count);
        start(self.index)..start(self.index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_all_pieces_once_and_are_even() {
        let barrier = Barrier::default();
        for count in 1..7 {
            for total in 0..40 {
                let mut next = 0;
                for index in 0..count {
                    let share = Worker::new(index, count, &barrier).share(total);
                    assert_eq!(share.start, next, "{index} of {count} takes {share:?} of {total}");
                    let even = share.len() == total / count || share.len() == total.div_ceil(count);
                    assert!(even, "{index} of {count} takes {share:?} of {total}");
                    next = share.end;
                }
                assert_eq!(next, total, "{count} workers");
            }
        }
    }

    #[test]
    fn one_row_goes_to_the_first_worker() {
        let barrier = Barrier::default();
        assert_eq!(Worker::new(0, 4, &barrier).share(1), 0..1, "the first works");
        assert!(Worker::new(1, 4, &barrier).share(1).is_empty(), "the others wait");
    }
}
