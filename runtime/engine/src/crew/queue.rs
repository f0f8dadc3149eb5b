//! Work that is handed out piece by piece, so that a slower worker takes less of it.
//!
//! Cores are not equally fast: boards have large and small ones, and on a busy machine one is slowed by a neighbour. With
//! equal shares all would wait for the slowest. Pieces begin large, as long runs read memory best, and shrink towards the
//! end, where what is left decides how long the last worker takes (guided self-scheduling, Polychronopoulos and Kuck 1987).

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// How many units have been handed out, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Queue(AtomicUsize);

impl Queue {
    /// Takes the next piece of `total` units for one of `workers`: of what is left, half of an equal share, and `least` units at
    /// least; none when all are taken.
    pub(super) fn take(&self, total: usize, least: usize, workers: usize) -> Option<Range<usize>> {
        let end = |start: usize| {
            let piece = ((total - start) / (2 * workers)).next_multiple_of(least).max(least);
            total.min(start + piece)
        };
        let next = |start: usize| (start < total).then(|| end(start));
        // What was written before reaches other workers by the barrier; here only the number counts.
        let start = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(start..end(start))
    }

    /// Makes ready for other work, while nobody takes any. A queue that was not used is only read, so that its cache line
    /// stays where it is.
    pub(super) fn clear(&self) {
        if self.0.load(Ordering::Relaxed) > 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn pieces_cover_all_units_once_and_shrink() {
        for workers in 1..7 {
            for total in 0..300 {
                let (queue, mut sizes) = (Queue::default(), Vec::new());
                while let Some(piece) = queue.take(total, 4, workers) {
                    assert_eq!(piece.start, sizes.iter().sum::<usize>(), "in order");
                    sizes.push(piece.len());
                }
                assert_eq!(sizes.iter().sum::<usize>(), total, "{workers} workers");
                assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
                let rest = sizes.split_last().map_or(&[][..], |(_, rest)| rest);
                assert!(rest.iter().all(|size| size % 4 == 0), "{sizes:?} are of four");
            }
        }
    }

    #[test]
    fn a_cleared_queue_begins_anew() {
        let queue = Queue::default();
        assert_eq!(queue.take(100, 4, 2), Some(0..28), "a quarter, in fours");
        assert_eq!(queue.take(100, 4, 2), Some(28..48), "a quarter of the rest");
        queue.clear();
        assert_eq!(queue.take(100, 4, 2), Some(0..28), "from the start");
    }
}
