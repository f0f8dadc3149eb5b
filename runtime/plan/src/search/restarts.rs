//! Searches one capacity, again and again, each time with an order that has learnt from the last.

use super::effort::Effort;
use super::order::Order;
use super::problem::Problem;
use super::tree::{Outcome, Proof, Task, Tree};

/// Steps of the first searches, one for each order. Luck decides; a short search that learns beats a long one.
const FIRST_STEPS: u64 = 1000;
/// No single search is longer, so that the clock is looked at.
const LONGEST_STEPS: u64 = 50_000;
/// A complete search is worth more steps, for it may end with a proof.
const COMPLETE_STEPS: u64 = 1_000_000;

/// Searches a plan of at most `capacity` units in at most `steps` steps, which are counted down. On
/// [`Outcome::Placed`] the offsets are in `tree.state.lowest`.
pub(super) fn search_capacity(
    problem: &Problem,
    tree: &mut Tree<'_>,
    capacity: u64,
    steps: &mut u64,
    effort: &Effort,
) -> Outcome {
    if capacity < problem.lower_bound() {
        return Outcome::Impossible;
    }
    for part in &problem.parts {
        let outcome = search_part(problem, tree, part, capacity, steps, effort);
        if outcome != Outcome::Placed {
            return outcome;
        }
    }
    Outcome::Placed
}

fn search_part(
    problem: &Problem,
    tree: &mut Tree<'_>,
    part: &[usize],
    capacity: u64,
    steps: &mut u64,
    effort: &Effort,
) -> Outcome {
    let mut orders = Order::portfolio(problem.len());
    let mut proof = Proof::Guided;
    let mut most = FIRST_STEPS;
    while *steps > 0 {
        for order in &mut orders {
            if effort.is_late() {
                return Outcome::OutOfSteps;
            }
            let ranks = order.ranks(problem);
            core::mem::swap(&mut tree.dead_ends, &mut order.dead_ends);
            let most = if proof == Proof::Complete { COMPLETE_STEPS } else { most };
            let task = Task { capacity, steps: most.min(*steps), proof };
            let outcome = tree.run(part, &ranks, task);
            core::mem::swap(&mut tree.dead_ends, &mut order.dead_ends);
            *steps -= task.steps - tree.steps_left;
            match (outcome, proof) {
                (Outcome::Placed, _) | (Outcome::Impossible, Proof::Complete) => return outcome,
                // The guided search may have missed a plan; it was over quickly, so a complete one may be, too.
                (Outcome::Impossible, Proof::Guided) => proof = Proof::Complete,
                (Outcome::OutOfSteps, _) => proof = Proof::Guided,
            }
        }
        most = LONGEST_STEPS.min(most + most / 16);
    }
    Outcome::OutOfSteps
}
