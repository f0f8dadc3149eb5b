//! The search of one capacity: a tree of partial plans, built from the bottom of the arena upwards.
//!
//! In a plan that gravity has settled, each buffer lies on the floor or on another one. So it is enough to place
//! buffers by rising offset, each as low as what is placed allows ([`State::lowest`]); at one offset, by rank. Taking
//! a buffer before others of lower offset puts these off: they may be placed only after something was put under them,
//! for otherwise their turn was before.
//!
//! What keeps the tree small:
//! - if a buffer that was put off would fit entirely below the next offset, nothing can lift it any more;
//! - of two neighbours in a stack that live in the same sections, the lower has the lower rank (they can be swapped);
//! - the bound of [`super::bounds`], in every section;
//! - buffers that are left fall into parts that no longer meet; each is solved by itself;
//! - dead ends are remembered ([`super::memo`]);
//! - a jump back: if the buffers that make a dead end were not touched by the last choice, another one will not help
//!   ([`Proof::Guided`]).
//!
//! Ideas from Moffitt 2023, "`MiniMalloc`" (settled plans by rising offset, floors of sections, dominance); the bound by
//! scheduling, the parts, the memory of dead ends, the jumps and the learning order are additions.

use alloc::vec;
use alloc::vec::Vec;

use super::bounds::{Bounds, Set, Verdict};
use super::memo::Memo;
use super::problem::Problem;
use super::timeline;

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything has an offset.
    Placed,
    /// There is no plan of this capacity.
    Impossible,
    /// The effort was used up.
    OutOfSteps,
}

/// What [`Outcome::Impossible`] is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Jumps back over choices that look innocent: much faster, but a plan may be missed.
    Guided,
    /// Misses none.
    Complete,
}

/// A partial plan.
#[derive(Debug)]
pub(super) struct State {
    /// Offset of a placed buffer; of another, the lowest that the placed ones leave.
    pub(super) lowest: Vec<u64>,
    /// Whether the offset is final.
    pub(super) is_placed: Vec<bool>,
    /// Whether the buffer must be lifted before it may be placed.
    pub(super) is_put_off: Vec<bool>,
}

/// One search: a capacity, and how long and how thoroughly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) capacity: u64,
    pub(super) steps: u64,
    pub(super) proof: Proof,
}

/// The searcher of one problem, with its memory.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    problem: &'a Problem,
    task: Task,
    ranks: Vec<usize>,
    pub(super) state: State,
    /// Dead ends each buffer took part in, added to over all searches.
    pub(super) dead_ends: Vec<u64>,
    pub(super) steps_left: u64,
    placed: Vec<usize>,
    /// What to undo: buffer, lowest offset, whether it was put off.
    trail: Vec<(usize, u64, bool)>,
    /// Why the last dead end is one.
    reason: Set,
    bounds: Bounds,
    memo: Memo,
}

impl<'a> Tree<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let n = problem.len();
        let state =
            State { lowest: vec![0; n], is_placed: vec![false; n], is_put_off: vec![false; n] };
        Self {
            problem,
            task: Task { capacity: 0, steps: 0, proof: Proof::Guided },
            ranks: Vec::new(),
            state,
            dead_ends: vec![0; n],
            steps_left: 0,
            placed: Vec::new(),
            trail: Vec::new(),
            reason: Set::new(n),
            bounds: Bounds::new(problem),
            memo: Memo::new(),
        }
    }

    /// Searches offsets for `items`, a part of the problem, sorted by start; they are left in `state.lowest`.
    pub(super) fn run(&mut self, items: &[usize], ranks: &[usize], task: Task) -> Outcome {
        self.task = task;
        self.ranks = ranks.to_vec();
        self.steps_left = task.steps;
        self.memo.clear();
        self.trail.clear();
        self.placed.clear();
        for &item in items {
            self.state.lowest[item] = 0;
            self.state.is_placed[item] = false;
            self.state.is_put_off[item] = false;
        }
        self.solve(items)
    }

    fn solve(&mut self, items: &[usize]) -> Outcome {
        if self.steps_left == 0 {
            return Outcome::OutOfSteps;
        }
        self.steps_left -= 1;
        let state = &self.state;
        let key = self
            .memo
            .key(items.iter().map(|&item| (item, state.lowest[item], state.is_put_off[item])));
        if self.memo.contains(key) {
            // Why is not remembered, so everything is to blame.
            self.reason.clear();
            items.iter().for_each(|&item| self.reason.insert(item));
            return Outcome::Impossible;
        }
        let capacity = self.task.capacity;
        let verdict =
            self.bounds.check(self.problem, &self.state, items, capacity, &mut self.reason);
        if verdict == Verdict::Overfull {
            // Only these teach: counting `Stuck`, too, made the learning orders several times slower.
            for &item in items.iter().filter(|&&item| self.reason.contains(item)) {
                self.dead_ends[item] += 1;
            }
        }
        if verdict != Verdict::Open {
            self.memo.insert(key);
            return Outcome::Impossible;
        }
        let outcome = self.branch(items);
        if outcome == Outcome::Impossible {
            self.memo.insert(key);
        }
        outcome
    }

    /// Tries each buffer that could be the next.
    fn branch(&mut self, items: &[usize]) -> Outcome {
        let state = &self.state;
        let top = |item: usize| state.lowest[item] + self.problem.sizes[item];
        // The buffer put off that ends lowest: whatever lifts it must start before.
        let put_off = items.iter().copied().filter(|&item| state.is_put_off[item]);
        let mut limit = put_off.map(|item| (top(item), item)).min();
        let mut next: Vec<usize> =
            items.iter().copied().filter(|&item| !state.is_put_off[item]).collect();
        next.sort_unstable_by_key(|&item| (state.lowest[item], self.ranks[item]));

        let mut blamed = Set::new(self.problem.len());
        let mut tried = 0;
        let mut outcome = Outcome::Impossible;
        let mut jumps = false;
        for &item in &next {
            if limit.is_some_and(|(top, _)| self.state.lowest[item] >= top) {
                break;
            }
            if self.is_in_stack_order(item) {
                outcome = self.place(items, item);
                if outcome != Outcome::Impossible {
                    break;
                }
                jumps = self.task.proof == Proof::Guided && !self.is_to_blame(item, &next[..tried]);
                if jumps {
                    break;
                }
                blamed.extend(&self.reason);
                blamed.insert(item);
            }
            self.state.is_put_off[item] = true;
            tried += 1;
            let end = (self.state.lowest[item] + self.problem.sizes[item], item);
            limit = Some(limit.map_or(end, |limit| limit.min(end)));
        }
        if outcome != Outcome::Placed {
            next[..tried].iter().for_each(|&item| self.state.is_put_off[item] = false);
        }
        if outcome == Outcome::Impossible && !jumps {
            if let Some((_, item)) = limit {
                blamed.insert_with_neighbours(self.problem, &self.state, item);
            }
            core::mem::swap(&mut self.reason, &mut blamed);
        }
        outcome
    }

    /// Whether the dead end that was just met has to do with placing `item`, or with putting off `put_off`.
    fn is_to_blame(&self, item: usize, put_off: &[usize]) -> bool {
        let top = self.state.lowest[item] + self.problem.sizes[item];
        let is_lifted =
            |other: usize| !self.state.is_placed[other] && self.state.lowest[other] < top;
        let mut lifted = self.problem.neighbours[item].iter().filter(|&&other| is_lifted(other));
        self.reason.contains(item)
            || put_off.iter().any(|&other| self.reason.contains(other))
            || lifted.any(|&other| self.reason.contains(other))
    }

    /// Whether `item` may come next among the buffers of the same lifetime.
    fn is_in_stack_order(&self, item: usize) -> bool {
        let (sizes, ranks) = (&self.problem.sizes, &self.ranks);
        self.problem.siblings[item].iter().all(|&other| {
            if self.state.is_placed[other] {
                let is_right_below =
                    self.state.lowest[other] + sizes[other] == self.state.lowest[item];
                !(is_right_below && ranks[other] > ranks[item])
            } else {
                // Equal in everything: by rank.
                !(sizes[other] == sizes[item] && ranks[other] < ranks[item])
            }
        })
    }

    /// Places `item`, then the rest, part by part. Undoes everything unless the rest is placed too.
    fn place(&mut self, items: &[usize], item: usize) -> Outcome {
        let (trail_len, placed_len) = (self.trail.len(), self.placed.len());
        self.state.is_placed[item] = true;
        self.placed.push(item);
        let mut outcome = self.lift_neighbours(item);
        if outcome == Outcome::Placed {
            let rest: Vec<usize> = items.iter().copied().filter(|&other| other != item).collect();
            let mut parts = timeline::components(&rest, &self.problem.ranges);
            // The small parts fail sooner.
            parts.sort_by_key(ExactSizeIterator::len);
            for part in parts {
                outcome = self.solve(&rest[part]);
                if outcome != Outcome::Placed {
                    break;
                }
            }
        }
        if outcome != Outcome::Placed {
            self.undo(trail_len, placed_len);
        }
        outcome
    }

    /// Nothing that meets `item` can lie below its end any more.
    fn lift_neighbours(&mut self, item: usize) -> Outcome {
        let top = self.state.lowest[item] + self.problem.sizes[item];
        for &other in &self.problem.neighbours[item] {
            if self.state.is_placed[other] || self.state.lowest[other] >= top {
                continue;
            }
            self.trail.push((other, self.state.lowest[other], self.state.is_put_off[other]));
            self.state.lowest[other] = top;
            self.state.is_put_off[other] = false;
            if top + self.problem.sizes[other] > self.task.capacity {
                self.reason.clear();
                self.reason.insert(item);
                self.reason.insert(other);
                return Outcome::Impossible;
            }
        }
        Outcome::Placed
    }

    fn undo(&mut self, trail_len: usize, placed_len: usize) {
        for item in self.placed.drain(placed_len..) {
            self.state.is_placed[item] = false;
        }
        for (item, lowest, is_put_off) in self.trail.drain(trail_len..).rev() {
            self.state.lowest[item] = lowest;
            self.state.is_put_off[item] = is_put_off;
        }
    }
}
