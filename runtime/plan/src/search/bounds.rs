//! Proves that a state leads nowhere, and says which buffers prove it.
//!
//! For one section, placing what is left is scheduling on one machine: a buffer is a job of length `size` that must
//! not start before its lowest offset, and the capacity is the deadline of all. Taking the jobs by lowest offset
//! gives the earliest possible end; if it lies behind the capacity in any section, nothing can be done.

use alloc::vec::Vec;

use super::problem::Problem;
use super::tree::State;

/// A set of buffers.
#[derive(Clone, Debug)]
pub(super) struct Set(Vec<u64>);

impl Set {
    pub(super) fn new(n_buffers: usize) -> Self {
        Self(alloc::vec![0; n_buffers.div_ceil(64)])
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub(super) fn insert(&mut self, buffer: usize) {
        self.0[buffer / 64] |= 1 << (buffer % 64);
    }

    pub(super) fn contains(&self, buffer: usize) -> bool {
        self.0[buffer / 64] >> (buffer % 64) & 1 == 1
    }

    pub(super) fn extend(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Adds `buffer` and all that could still come to lie under it.
    pub(super) fn insert_with_neighbours(
        &mut self,
        problem: &Problem,
        state: &State,
        buffer: usize,
    ) {
        self.insert(buffer);
        for &other in &problem.neighbours[buffer] {
            if !state.is_placed[other] {
                self.insert(other);
            }
        }
    }
}

/// What the bounds say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: there may be a plan.
    Open,
    /// A buffer that was put off cannot be lifted any more.
    Stuck,
    /// A section needs more than the capacity.
    Overfull,
}

/// Scratch of the bounds.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Lower bound of the offset of each unplaced buffer.
    lowest: Vec<u64>,
    /// Earliest end of each section.
    ends: Vec<u64>,
}

impl Bounds {
    pub(super) fn new(problem: &Problem) -> Self {
        Self {
            lowest: alloc::vec![0; problem.len()],
            ends: alloc::vec![0; problem.live_units.len()],
        }
    }

    /// Whether `items` may still fit under `capacity`. If not, `reason` is the buffers that cannot.
    pub(super) fn check(
        &mut self,
        problem: &Problem,
        state: &State,
        items: &[usize],
        capacity: u64,
        reason: &mut Set,
    ) -> Verdict {
        reason.clear();
        for &item in items {
            self.lowest[item] = state.lowest[item];
            if state.is_put_off[item] {
                let Some(lowest) = lowest_when_put_off(problem, state, item, capacity) else {
                    reason.insert_with_neighbours(problem, state, item);
                    return Verdict::Stuck;
                };
                self.lowest[item] = lowest;
            }
        }
        let mut order: Vec<usize> = items.to_vec();
        order.sort_unstable_by_key(|&item| self.lowest[item]);
        for &item in items {
            self.ends[problem.ranges[item].clone()].fill(0);
        }
        for &item in &order {
            let sections = problem.ranges[item].clone();
            for (section, end) in sections.clone().zip(&mut self.ends[sections]) {
                *end = self.lowest[item].max(*end) + problem.sizes[item];
                if *end > capacity {
                    self.blame(problem, state, &order, section, capacity, reason);
                    return Verdict::Overfull;
                }
            }
        }
        Verdict::Open
    }

    /// The buffers of `section` after the last gap: nothing else decides where they end.
    fn blame(
        &self,
        problem: &Problem,
        state: &State,
        order: &[usize],
        section: usize,
        capacity: u64,
        reason: &mut Set,
    ) {
        let mut end = 0;
        for &item in order.iter().filter(|&&item| problem.ranges[item].contains(&section)) {
            if self.lowest[item] > end {
                reason.clear();
                end = self.lowest[item];
            }
            end += problem.sizes[item];
            if state.is_put_off[item] {
                reason.insert_with_neighbours(problem, state, item);
            } else {
                reason.insert(item);
            }
            if end > capacity {
                return;
            }
        }
    }
}

/// A buffer that was put off lies on top of one that is not placed yet. `None`: there is none left that could lift it,
/// or none that would leave room.
fn lowest_when_put_off(
    problem: &Problem,
    state: &State,
    item: usize,
    capacity: u64,
) -> Option<u64> {
    let size = problem.sizes[item];
    let top = state.lowest[item] + size;
    let unplaced = problem.neighbours[item].iter().filter(|&&other| !state.is_placed[other]);
    let can_be_lifted = unplaced.clone().any(|&other| state.lowest[other] < top);
    let lowest = unplaced.map(|&other| state.lowest[other] + problem.sizes[other]).min()?;
    (can_be_lifted && lowest + size <= capacity).then_some(lowest.max(state.lowest[item]))
}
