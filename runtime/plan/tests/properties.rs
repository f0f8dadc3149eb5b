//! What every plan must be, for any buffers.
#![cfg(feature = "alloc")]

use dynamax_plan::{
    Buffer, Effort, PlanError, Solution, lower_bound, place_greedy, search, verify,
};
use proptest::prelude::*;

/// Stated in the documentation of `place_greedy`, and measured on random lists: no proof.
const GREEDY_FACTOR: u64 = 2;

fn buffers(most: usize, steps: u32, size: u64) -> impl Strategy<Value = Vec<Buffer>> {
    let buffer = (0..steps, 0..steps / 2, 0..size).prop_map(|(lower, length, size)| Buffer {
        lower,
        upper: lower + length,
        size,
    });
    proptest::collection::vec(buffer, 0..most)
}

fn greedy(buffers: &[Buffer], align: u64) -> (Vec<u64>, u64) {
    let mut offsets = vec![7; buffers.len()];
    let arena_bytes = place_greedy(buffers, align, &mut offsets);
    (offsets, arena_bytes)
}

/// The smallest arena, by trying every order of placing each buffer as low as it goes: one of them settles any plan.
fn smallest_arena(buffers: &[Buffer]) -> u64 {
    fn place(buffers: &[Buffer], placed: &mut Vec<(usize, u64)>, top: u64, best: &mut u64) {
        if top >= *best {
            return;
        }
        if placed.len() == buffers.len() {
            *best = top;
            return;
        }
        for index in 0..buffers.len() {
            if placed.iter().any(|&(other, _)| other == index) {
                continue;
            }
            let below = placed.iter().filter(|&&(other, _)| buffers[other].meets(&buffers[index]));
            let offset =
                below.map(|&(other, offset)| offset + buffers[other].size).max().unwrap_or(0);
            placed.push((index, offset));
            place(buffers, placed, top.max(offset + buffers[index].size), best);
            placed.pop();
        }
    }
    let mut best = u64::MAX;
    place(buffers, &mut Vec::new(), 0, &mut best);
    best
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn greedy_plans_hold_and_stay_within_the_factor(list in buffers(60, 40, 5000), align in 1_u64..100) {
        let (offsets, arena_bytes) = greedy(&list, align);
        prop_assert_eq!(verify(&list, &offsets, arena_bytes), Ok(()));
        prop_assert!(offsets.iter().all(|offset| offset.is_multiple_of(align)), "aligned");
        prop_assert!(arena_bytes >= lower_bound(&list), "bound");
        let rounded: Vec<Buffer> =
            list.iter().map(|b| Buffer { size: b.size.next_multiple_of(align), ..*b }).collect();
        prop_assert!(arena_bytes <= GREEDY_FACTOR * lower_bound(&rounded), "factor");
    }

    #[test]
    fn searched_plans_hold_and_are_never_worse_than_greedy(list in buffers(40, 30, 50), align in 1_u64..9) {
        let solution = search(&list, align, None, Effort::steps(3000));
        prop_assert_eq!(verify(&list, &solution.offsets, solution.arena_bytes), Ok(()));
        prop_assert!(solution.offsets.iter().all(|offset| offset.is_multiple_of(align)), "aligned");
        prop_assert!(solution.arena_bytes >= lower_bound(&list), "bound");
        prop_assert!(solution.arena_bytes <= greedy(&list, align).1, "greedy");
    }

    #[test]
    fn search_finds_the_smallest_arena_of_few_buffers(list in buffers(8, 12, 9)) {
        let Solution { arena_bytes, optimal, .. } = search(&list, 1, None, Effort::steps(100_000));
        prop_assert_eq!(arena_bytes, smallest_arena(&list));
        prop_assert!(optimal, "proved");
    }

    #[test]
    fn nothing_overflows(list in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u64>()), 0..12),
                         align in any::<u64>()) {
        let list: Vec<Buffer> =
            list.into_iter().map(|(lower, upper, size)| Buffer { lower, upper, size }).collect();
        let (offsets, arena_bytes) = greedy(&list, align);
        if arena_bytes < u64::MAX {
            prop_assert_eq!(verify(&list, &offsets, arena_bytes), Ok(()));
        }
        let solution = search(&list, align, None, Effort::steps(100));
        let text = dynamax_plan::text_picture(&list, &solution.offsets, solution.arena_bytes, 80);
        prop_assert!(text.lines().all(|line| line.chars().count() <= 80 || line.contains("buffers in")), "width");
        let svg = dynamax_plan::svg_picture(&list, &solution.offsets, solution.arena_bytes);
        prop_assert!(svg.ends_with("</svg>\n"), "complete");
    }

    #[test]
    fn verifier_finds_any_single_byte_taken_away(list in buffers(20, 20, 100)) {
        let (offsets, arena_bytes) = greedy(&list, 1);
        if arena_bytes > 0 {
            let outside = verify(&list, &offsets, arena_bytes - 1);
            let is_outside = matches!(outside, Err(PlanError::OutsideArena { need, .. }) if need == arena_bytes);
            prop_assert!(is_outside, "{:?}", outside);
        }
    }
}
