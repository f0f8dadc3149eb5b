//! Instances with nothing to spare, and instances shaped like models.
#![cfg(feature = "alloc")]

use dynamax_plan::{Buffer, Effort, PlanError, lower_bound, place_greedy, search, verify};

/// `SplitMix64` (Steele, Lea & Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A rectangle of `steps` × `capacity`, cut by guillotine into `n` buffers and shuffled: a plan of `capacity` bytes
/// exists, and every byte of it is used in every step.
fn guillotine(seed: u64, n: usize, steps: u32, capacity: u64) -> Vec<Buffer> {
    let mut random = Random(seed);
    let mut pieces = vec![Buffer { lower: 0, upper: steps, size: capacity }];
    while pieces.len() < n {
        // The largest of a few, so that no piece is cut to crumbs.
        let area = |b: &Buffer| u64::from(b.steps()) * b.size;
        let tries: Vec<usize> =
            (0..4).map(|_| random.below(pieces.len() as u64) as usize).collect();
        let index = tries.into_iter().max_by_key(|&index| area(&pieces[index])).unwrap_or(0);
        let piece = pieces[index];
        if random.below(2) == 0 && piece.steps() >= 2 {
            let cut = piece.lower + 1 + random.below(u64::from(piece.steps()) - 1) as u32;
            pieces[index].upper = cut;
            pieces.push(Buffer { lower: cut, ..piece });
        } else if piece.size >= 2 {
            let cut = 1 + random.below(piece.size - 1);
            pieces[index].size = cut;
            pieces.push(Buffer { size: piece.size - cut, ..piece });
        }
    }
    for last in (1..pieces.len()).rev() {
        pieces.swap(last, random.below(last as u64 + 1) as usize);
    }
    pieces
}

/// What the step of a language model gives: a residual stream, and in each layer a norm, projections, a mixer, and a
/// feed-forward block.
fn layers(n_layers: u32, d: u64, kv: u64, ffn: u64) -> Vec<Buffer> {
    let mut list = vec![Buffer { lower: 0, upper: n_layers * 11 + 1, size: 512 }];
    for layer in 0..n_layers {
        let t = layer * 11 + 1;
        let mut add = |from: u32, to: u32, size: u64| {
            list.push(Buffer { lower: t + from, upper: t + to + 1, size });
        };
        add(0, 6, d); // residual, read by the norm and by the first addition
        add(0, 3, d); // norm
        add(1, 4, d); // q
        add(2, 4, kv); // k
        add(3, 4, kv); // v
        add(4, 5, d); // mixer
        add(5, 6, d); // output projection
        add(6, 11, d); // second residual
        add(7, 9, d); // norm
        add(8, 10, ffn); // gate
        add(9, 10, ffn); // up
        add(10, 10, ffn); // product
        add(10, 11, d); // down projection
    }
    list
}

#[test]
fn search_solves_instances_with_nothing_to_spare() {
    for seed in 0..12 {
        let n = 40 + 10 * seed as usize;
        let list = guillotine(seed, n, 60, 1 << 20);
        let solution = search(&list, 1, Some(1 << 20), Effort::steps(2_000_000));
        assert_eq!(verify(&list, &solution.offsets, 1 << 20), Ok(()), "seed {seed}, {n} buffers");
        assert!(solution.optimal, "seed {seed}: the arena is the lower bound");
    }
}

#[test]
fn same_effort_gives_the_same_plan() {
    let list = guillotine(3, 80, 40, 4096);
    let plan = || search(&list, 16, None, Effort::steps(5000));
    assert_eq!(plan(), plan(), "no clock, no chance");
}

#[test]
fn models_are_planned_within_one_per_cent_by_greedy_and_exactly_by_search() {
    for (n_layers, d, kv, ffn) in
        [(1, 64, 64, 172), (16, 2048, 512, 8192), (32, 4096, 1024, 14336), (24, 768, 768, 2048)]
    {
        for rows in [1, 64] {
            let bytes = |width: u64| (rows * width * 4).next_multiple_of(64);
            let list = layers(n_layers, bytes(d), bytes(kv), bytes(ffn));
            let bound = lower_bound(&list);
            let mut offsets = vec![0; list.len()];
            let arena_bytes = place_greedy(&list, 64, &mut offsets);
            assert_eq!(verify(&list, &offsets, arena_bytes), Ok(()), "{n_layers} layers");
            assert!(
                arena_bytes <= bound + bound / 100,
                "{n_layers} layers: {arena_bytes} against {bound}"
            );
            let solution = search(&list, 64, None, Effort::default());
            assert_eq!(
                verify(&list, &solution.offsets, solution.arena_bytes),
                Ok(()),
                "{n_layers} layers"
            );
            assert!(
                solution.optimal,
                "{n_layers} layers: {} against {bound}",
                solution.arena_bytes
            );
        }
    }
}

#[test]
fn verifier_names_both_buffers_and_what_they_share() {
    let list = [Buffer { lower: 0, upper: 4, size: 10 }, Buffer { lower: 3, upper: 5, size: 10 }];
    let overlap = PlanError::Overlap { first: 0, second: 1, step: 3, byte: 9 };
    assert_eq!(verify(&list, &[0, 9], 19), Err(overlap), "one byte in one step");
    assert_eq!(overlap.to_string(), "buffers 0 and 1 share byte 9 in step 3", "text");
    assert_eq!(verify(&list, &[0, 10], 20), Ok(()), "touching in space");
    let outside = PlanError::OutsideArena { buffer: 1, need: 20, have: 19 };
    assert_eq!(verify(&list, &[0, 10], 19), Err(outside), "one byte short");
    assert_eq!(verify(&list, &[0], 20), Err(PlanError::OffsetCount { need: 2, have: 1 }), "count");
    let wraps = PlanError::OutsideArena { buffer: 0, need: u64::MAX, have: u64::MAX };
    assert_eq!(verify(&list, &[u64::MAX, 0], u64::MAX), Err(wraps), "no wrapping");
    let apart = [list[0], Buffer { lower: 4, ..list[1] }];
    assert_eq!(verify(&apart, &[0, 0], 10), Ok(()), "touching in time");
}

#[test]
fn what_is_never_live_shares_its_room() {
    let list = [
        Buffer { lower: 3, upper: 3, size: 100 },
        Buffer { lower: 5, upper: 2, size: 100 },
        Buffer { lower: 0, upper: 9, size: 0 },
    ];
    assert_eq!(lower_bound(&list), 100, "bound");
    let solution = search(&list, 4, None, Effort::default());
    assert_eq!(verify(&list, &solution.offsets, 100), Ok(()), "plan");
}
