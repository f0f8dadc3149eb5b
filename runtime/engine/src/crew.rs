//! Workers that run one step together: how they share work, and how they wait for each other.
//!
//! Every worker walks through the same list of operators and does its share of each. A barrier separates an operator
//! from what depends on other workers' shares. One worker alone needs neither threads nor an operating system.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Rounds of spinning before a waiting worker offers its core to others.
const SPINS: u32 = 1 << 12;

/// A barrier that spins: waits are far shorter than a system call.
#[derive(Debug, Default)]
pub struct Barrier {
    arrived: AtomicUsize,
    generation: AtomicUsize,
}

impl Barrier {
    /// Waits until `count` workers are here.
    fn wait(&self, count: usize) {
        let generation = self.generation.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.store(0, Ordering::Relaxed);
            self.generation.store(generation.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while self.generation.load(Ordering::Acquire) == generation {
            spins += 1;
            relax(spins);
        }
    }
}

/// Passes a moment of waiting: politely at first, then by giving the core away where a system can.
pub(crate) fn relax(spins: u32) {
    #[cfg(feature = "std")]
    if spins >= SPINS {
        return std::thread::yield_now();
    }
    let _ = spins >= SPINS;
    core::hint::spin_loop();
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

    /// This worker's share of `total` pieces of equal work: shares are disjoint, in order, and cover all.
    #[must_use]
    pub fn share(&self, total: usize) -> Range<usize> {
        let each = total.div_ceil(self.count);
        let start = total.min(self.index * each);
        start..total.min(start + each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_all_pieces_once() {
        let barrier = Barrier::default();
        for count in 1..7 {
            for total in 0..40 {
                let mut next = 0;
                for index in 0..count {
                    let share = Worker::new(index, count, &barrier).share(total);
                    assert!(
                        share.start == next || share.is_empty(),
                        "{index} of {count} takes {share:?} of {total}"
                    );
                    next = next.max(share.end);
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
