//! The planner that searches: for the workstation, where a bundle is built.
//!
//! It meets a given capacity, or looks for the smallest. Models ask for little of it (their steps are chains of
//! layers, which the greedy planner does well); the tight instances that compilers for accelerators meet take up to
//! some hundred thousand steps.

mod bounds;
mod effort;
mod memo;
mod order;
mod problem;
mod restarts;
mod timeline;
mod tree;

use alloc::vec;
use alloc::vec::Vec;

pub use effort::Effort;

use crate::buffer::round_up;
use crate::{Buffer, place_greedy};
use problem::Problem;
use restarts::search_capacity;
use tree::{Outcome, Tree};

/// The tree is as deep as there are buffers, and a level takes up to a kilobyte of stack.
const MOST_BUFFERS: usize = 1000;

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Solution {
    /// Offset of each buffer in bytes, multiples of the alignment.
    pub offsets: Vec<u64>,
    /// Bytes of the arena: the largest offset plus size, sizes rounded up to the alignment.
    pub arena_bytes: u64,
    /// Whether no smaller arena exists (for sizes rounded up to the alignment).
    pub optimal: bool,
}

/// Searches a plan of at most `capacity` bytes, or with `None` the smallest.
///
/// Every offset is a multiple of `align` (0 counts as 1), and every size counts as the next multiple of it. With a
/// capacity the search ends at the first plan that fits, otherwise when the arena is proved to be the smallest, or
/// when the effort is used up. The result is always a plan, the best that was found; whether it fits is for the
/// caller to compare. It is never larger than that of [`place_greedy`].
///
/// Lists of more than 1000 buffers that are ever live are not searched: for these the result is that of
/// [`place_greedy`], as it is when the sizes do not fit into 62 bits together.
#[must_use]
pub fn search(buffers: &[Buffer], align: u64, capacity: Option<u64>, effort: Effort) -> Solution {
    let mut offsets = vec![0; buffers.len()];
    let arena_bytes = place_greedy(buffers, align, &mut offsets);
    let optimal = arena_bytes == crate::buffer::aligned_lower_bound(buffers, align);
    let greedy = Solution { offsets, arena_bytes, optimal };
    let is_enough = optimal || capacity.is_some_and(|capacity| arena_bytes <= capacity);
    if is_enough || arena_bytes == u64::MAX {
        return greedy;
    }
    let live: Vec<usize> =
        (0..buffers.len()).filter(|&index| buffers[index].is_ever_live()).collect();
    let total = live
        .iter()
        .try_fold(0_u64, |sum, &index| sum.checked_add(round_up(buffers[index].size, align)));
    if live.len() > MOST_BUFFERS || total.is_none_or(|total| total > u64::MAX >> 2) {
        return greedy;
    }
    improve(buffers, &live, align.max(1), capacity, &effort, greedy)
}

/// Looks for something better than `best`, in units of `align` bytes.
fn improve(
    buffers: &[Buffer],
    live: &[usize],
    align: u64,
    capacity: Option<u64>,
    effort: &Effort,
    mut best: Solution,
) -> Solution {
    let of_interest: Vec<Buffer> = live.iter().map(|&index| buffers[index]).collect();
    let sizes = of_interest.iter().map(|buffer| round_up(buffer.size, align) / align).collect();
    let problem = Problem::new(&of_interest, sizes);
    let mut tree = Tree::new(&problem);
    let mut steps = effort.steps;
    // More than the bound of what is live only if a buffer that is never live is larger.
    let least = crate::buffer::aligned_lower_bound(buffers, align) / align;
    let mut window = Window::new(least, best.arena_bytes / align);
    let target = capacity.map(|bytes| bytes / align);
    while let Some(units) = window.next(target) {
        // What is given leaves room for more attempts; a single target gets it all.
        let share = if target.is_some() { steps } else { (steps / 2).max(steps.min(1000)) };
        let mut left = share;
        let outcome = search_capacity(&problem, &mut tree, units, &mut left, effort);
        steps -= share - left;
        if outcome == Outcome::Placed {
            let ends = (0..problem.len()).map(|item| tree.state.lowest[item] + problem.sizes[item]);
            let reached = ends.max().unwrap_or(0).max(least);
            for (item, &index) in live.iter().enumerate() {
                best.offsets[index] = tree.state.lowest[item] * align;
            }
            best.arena_bytes = reached * align;
            window.reached = reached;
        } else if outcome == Outcome::Impossible {
            window.proved = units + 1;
            window.given_up = window.given_up.max(units + 1);
        } else {
            window.given_up = units + 1;
        }
        if target.is_some() || steps == 0 || effort.is_late() {
            break;
        }
    }
    best.optimal = window.reached == window.proved;
    best
}

/// The arenas that are still of interest: `proved ≤ smallest possible ≤ reached`.
struct Window {
    /// No arena is smaller.
    proved: u64,
    /// Below this one the search gave up.
    given_up: u64,
    /// Size of the best plan.
    reached: u64,
}

impl Window {
    fn new(proved: u64, reached: u64) -> Self {
        Self { proved, given_up: proved, reached }
    }

    /// What to try next: first the bound itself, which is often reached; then the middle of what is left.
    fn next(&self, target: Option<u64>) -> Option<u64> {
        if self.given_up >= self.reached {
            return None;
        }
        if target.is_some() {
            return target;
        }
        let is_bound_open = self.given_up == self.proved;
        Some(if is_bound_open {
            self.proved
        } else {
            self.given_up + (self.reached - self.given_up) / 2
        })
    }
}
