//! Which of several buffers that could go to the same offset is tried first.
//!
//! No fixed order is good for every instance, and one bad choice near the root can cost any number of steps. So the
//! search is restarted often, in a few orders by turns, and each learns: a buffer that takes part in a dead end grows
//! heavier, and comes earlier next time (after the weighted degree of Boussemart et al. 2004).

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::problem::Problem;

/// Dead ends that double the key of a buffer.
const DEAD_ENDS_TO_DOUBLE: u64 = 1000;

/// What a buffer is measured by.
#[derive(Clone, Copy, Debug)]
enum Measure {
    /// Lives in many sections.
    Length,
    /// Lives when memory is scarce.
    Pressure,
    /// Takes up much memory for long.
    Area,
}

/// An order of the buffers, and what it has learnt.
#[derive(Debug)]
pub(super) struct Order {
    measure: Measure,
    /// How many times a dead end counts.
    eagerness: u64,
    /// Dead ends each buffer took part in.
    pub(super) dead_ends: Vec<u64>,
}

impl Order {
    /// The orders the search takes by turns.
    pub(super) fn portfolio(n_buffers: usize) -> Vec<Self> {
        let tracks = [
            (Measure::Length, 1),
            (Measure::Pressure, 1),
            (Measure::Length, 4),
            (Measure::Area, 1),
        ];
        let order =
            |(measure, eagerness)| Self { measure, eagerness, dead_ends: vec![0; n_buffers] };
        tracks.into_iter().map(order).collect()
    }

    /// The place of each buffer in the order; 0 is first.
    pub(super) fn ranks(&self, problem: &Problem) -> Vec<usize> {
        let mut sorted: Vec<usize> = (0..problem.len()).collect();
        sorted.sort_by_cached_key(|&buffer| Reverse(self.key(problem, buffer)));
        let mut ranks = vec![0; sorted.len()];
        for (rank, &buffer) in sorted.iter().enumerate() {
            ranks[buffer] = rank;
        }
        ranks
    }

    fn key(&self, problem: &Problem, buffer: usize) -> (u128, u128) {
        let dead_ends = self.dead_ends[buffer].saturating_mul(self.eagerness);
        let weight = u128::from(dead_ends.saturating_add(DEAD_ENDS_TO_DOUBLE));
        let size = u128::from(problem.sizes[buffer]);
        let length = problem.ranges[buffer].len() as u128;
        let first = match self.measure {
            Measure::Length => length,
            Measure::Pressure => u128::from(problem.pressure(buffer)),
            Measure::Area => size.saturating_mul(length),
        };
        (first.saturating_mul(weight), size.saturating_mul(weight))
    }
}
