//! Workers that run one step together: how they share work, and how they wait for each other.
//!
//! Every worker walks through the same list of operators and does its share of each. A barrier separates an operator
//! from what depends on other workers' shares. One worker alone needs neither threads nor an operating system.

mod observer;
mod queue;
pub(crate) mod signal;

use core::ops::Range;

pub use observer::Observer;
use queue::Queue;
use signal::{STEP_SPINS, Signal};

/// Where all workers of a crew meet.
///
/// One number: how often they have met, and below, how many have come to the next meeting. So a meeting moves one cache
/// line between two workers, where two numbers on lines of their own took a tenth of a small model's time.
#[derive(Debug, Default)]
pub struct Barrier {
    meetings: Signal,
    /// What is handed out until the next meeting.
    queue: Queue,
}

/// One meeting. More workers than that do not come.
const MEETING: usize = 1 << 16;

impl Barrier {
    /// Waits until `count` workers are here.
    fn wait(&self, count: usize) {
        let before = self.meetings.count();
        let meeting = before - before % MEETING;
        if before - meeting + 1 == count {
            self.queue.clear();
            self.meetings.announce(meeting.wrapping_add(MEETING));
        } else {
            self.meetings.wait(STEP_SPINS, |number| number - number % MEETING != meeting);
        }
    }
}

/// One worker of a crew.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'c> {
    index: usize,
    count: usize,
    barrier: Option<&'c Barrier>,
    observer: Option<&'c dyn Observer>,
}

impl<'c> Worker<'c> {
    /// The only worker.
    pub const ALONE: Self = Self { index: 0, count: 1, barrier: None, observer: None };

    /// Worker `index` of `count` that meet at `barrier`.
    ///
    /// # Panics
    ///
    /// Panics if there is no such worker.
    #[must_use]
    pub fn new(index: usize, count: usize, barrier: &'c Barrier) -> Self {
        assert!(index < count && count < MEETING, "worker {index} of {count}");
        Self { index, count, barrier: Some(barrier), observer: None }
    }

    /// The same worker, seen by an observer.
    #[must_use]
    pub fn seen_by(self, observer: Option<&'c dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    /// Does this worker's share of some operators, and tells the observer.
    pub(crate) fn work(&self, ops: Range<usize>, share: impl FnOnce()) {
        if let Some(observer) = self.observer {
            observer.starts(self.index, ops);
        }
        share();
        if let Some(observer) = self.observer {
            observer.ends(self.index);
        }
    }

    /// True for the first worker of the crew.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.index == 0
    }

    /// True if nobody else works.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.count == 1
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

    /// The next piece of `total` units of equal work, a multiple of `least` except at the end; none when all are taken, or for a worker
    /// without others. Who is faster takes more. One piece of work between two meetings can be handed out so.
    pub(crate) fn take(&self, total: usize, least: usize) -> Option<Range<usize>> {
        self.barrier.and_then(|barrier| barrier.queue.take(total, least, self.count))
    }

    /// Whether a piece of unequal work is this worker's: the one whose middle comes so far into the `total` cost of all.
    #[must_use]
    pub fn takes(&self, middle: usize, total: usize) -> bool {
        middle * self.count / total == self.index
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
