//! The query heads of one key/value head, at one position.

use core::ops::Range;

use crate::fma::fma;
use crate::lanes::Lanes;
use crate::lanes::cached::Cached;
use crate::math::exp;
use crate::view::LANES;

/// Positions between two corrections of the running maximum.
pub(super) const BLOCK: usize = 32;

/// Keys and values of one head: `[capacity, head_dim]`, position `p` at `p mod capacity`.
pub(super) struct Head<'a, C: Cached> {
    pub(super) cached: C,
    pub(super) keys: &'a [C::Number],
    pub(super) values: &'a [C::Number],
    pub(super) head_dim: usize,
    pub(super) scale: f32,
}

/// Running maximum and sum of the softmax.
#[derive(Clone, Copy)]
pub(super) struct Running {
    max: f32,
    pub(super) sum: f32,
}

impl Running {
    pub(super) const NEW: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };
}

impl<C: Cached> Head<'_, C> {
    /// Attends for all queries, `[group, head_dim]`; some at a time share the reading of keys and values.
    #[inline(always)]
    pub(super) fn attend_all(&self, queries: &[f32], positions: Range<usize>, out: &mut [f32]) {
        let most = 4 * self.head_dim;
        for (queries, out) in queries.chunks(most).zip(out.chunks_mut(most)) {
            match queries.len() / self.head_dim {
                4 => self.attend::<4>(queries, positions.clone(), out),
                3 => self.attend::<3>(queries, positions.clone(), out),
                2 => self.attend::<2>(queries, positions.clone(), out),
                _ => self.attend::<1>(queries, positions.clone(), out),
            }
        }
    }

    #[inline(always)]
    fn attend<const Q: usize>(&self, queries: &[f32], positions: Range<usize>, out: &mut [f32]) {
        let mut running = [Running::NEW; Q];
        out.fill(0.0);
        let mut start = positions.start;
        while start < positions.end {
            let end = positions.end.min((start / BLOCK + 1) * BLOCK);
            let mut weights = self.scores::<Q>(queries, start..end);
            let corrections = soften(&mut weights, &mut running);
            self.mix::<Q>(&weights, corrections, start..end, out);
            start = end;
        }
        for (out, running) in out.chunks_exact_mut(self.head_dim).zip(&running) {
            for out in out {
                *out /= running.sum;
            }
        }
    }

    /// `scale · q · kⱼ` for the positions of a block; -∞ behind them.
    #[inline(always)]
    fn scores<const Q: usize>(
        &self,
        queries: &[f32],
        positions: Range<usize>,
    ) -> [[f32; BLOCK]; Q] {
        let mut scores = [[f32::NEG_INFINITY; BLOCK]; Q];
        for (j, key) in self.rows(self.keys, positions).enumerate() {
            let products = self.products::<Q>(queries, key);
            for query in 0..Q {
                scores[query][j] = self.scale * products[query];
            }
        }
        scores
    }

    /// `q · k` for some queries, each in the canonical order.
    #[inline(always)]
    fn products<const Q: usize>(&self, queries: &[f32], key: &[C::Number]) -> [f32; Q] {
        let (key_blocks, key_tail) = key.as_chunks();
        let mut query_blocks: [&[_]; Q] = [&[]; Q];
        for query in 0..Q {
            let blocks = queries[query * self.head_dim..][..self.head_dim].as_chunks().0;
            query_blocks[query] = &blocks[..key_blocks.len()];
        }
        let mut acc = [Lanes::ZERO; Q];
        for (block, key) in key_blocks.iter().enumerate() {
            let key = self.cached.load(key);
            for query in 0..Q {
                acc[query] = Lanes(query_blocks[query][block]).fma(key, acc[query]);
            }
        }
        if !key_tail.is_empty() {
            let key = self.cached.load_part(key_tail);
            for query in 0..Q {
                let end = (query + 1) * self.head_dim;
                let tail = Lanes::load_part(&queries[end - key_tail.len()..end]);
                acc[query] = tail.fma(key, acc[query]);
            }
        }
        let mut sums = [0.0; Q];
        for query in 0..Q {
            sums[query] = acc[query].sum();
        }
        sums
    }

    /// `out ← out · correction + Σⱼ weightⱼ · vⱼ`, in order of `j`, fused.
    #[inline(always)]
    fn mix<const Q: usize>(
        &self,
        weights: &[[f32; BLOCK]; Q],
        corrections: [f32; Q],
        positions: Range<usize>,
        out: &mut [f32],
    ) {
        let head_dim = self.head_dim;
        let mut at = 0;
        while at + LANES <= head_dim {
            self.mix_lanes(weights, corrections, positions.clone(), at, LANES, out);
            at += LANES;
        }
        if at < head_dim {
            self.mix_lanes(weights, corrections, positions, at, head_dim - at, out);
        }
    }

    /// The columns `at..at + width`. The sums stay in registers for the whole block.
    #[inline(always)]
    fn mix_lanes<const Q: usize>(
        &self,
        weights: &[[f32; BLOCK]; Q],
        corrections: [f32; Q],
        positions: Range<usize>,
        at: usize,
        width: usize,
        out: &mut [f32],
    ) {
        let mut acc = [Lanes::ZERO; Q];
        for query in 0..Q {
            let from = query * self.head_dim + at;
            acc[query] = Lanes::load_part(&out[from..][..width]).scale(corrections[query]);
        }
        for (j, value) in self.rows(self.values, positions).enumerate() {
            let value = self.cached.load_part(&value[at..][..width]);
            for query in 0..Q {
                acc[query] = value.scale_add(weights[query][j], acc[query]);
            }
        }
        for query in 0..Q {
            let from = query * self.head_dim + at;
            acc[query].store_part(&mut out[from..][..width]);
        }
    }

    /// The rows of a cache at some positions, which wrap around its end at most once.
    #[inline(always)]
    pub(super) fn rows<'a>(
        &self,
        cache: &'a [C::Number],
        positions: Range<usize>,
    ) -> impl Iterator<Item = &'a [C::Number]> {
        let head_dim = self.head_dim;
        let capacity = cache.len() / head_dim;
        let first = positions.start % capacity;
        let before_end = positions.len().min(capacity - first);
        let (start, wrapped) =
            (&cache[first * head_dim..], &cache[..(positions.len() - before_end) * head_dim]);
        start[..before_end * head_dim].chunks_exact(head_dim).chain(wrapped.chunks_exact(head_dim))
    }
}

/// Turns the scores of a block into weights, and returns what earlier sums are to be multiplied by.
#[inline(always)]
pub(super) fn soften<const Q: usize>(
    scores: &mut [[f32; BLOCK]; Q],
    running: &mut [Running; Q],
) -> [f32; Q] {
    let mut corrections = [0.0; Q];
    for q in 0..Q {
        let max = largest(&scores[q], running[q].max);
        // The first block has no earlier sums: `exp(-∞)` is 0.
        corrections[q] = exp(running[q].max - max);
        running[q].max = max;
        for scores in scores[q].as_chunks_mut::<LANES>().0 {
            for j in 0..LANES {
                scores[j] = exp(scores[j] - max);
            }
        }
    }
    let sums = sums_in_order(scores);
    for q in 0..Q {
        running[q].sum = fma(running[q].sum, corrections[q], sums[q]);
    }
    corrections
}

/// Sums weights in order of positions, the queries side by side, as each addition waits for the one before. Behind the last
/// position weights are +0, which changes no bit of a sum.
#[inline(always)]
fn sums_in_order<const Q: usize>(weights: &[[f32; BLOCK]; Q]) -> [f32; Q] {
    let mut sums = [0.0; Q];
    for j in 0..BLOCK {
        for q in 0..Q {
            sums[q] += weights[q][j];
        }
    }
    sums
}

/// The largest of some numbers; by lanes, which finds the same and needs no chain of 32 comparisons.
#[inline(always)]
fn largest(scores: &[f32; BLOCK], start: f32) -> f32 {
    let mut sixteen = [start; LANES];
    for scores in scores.as_chunks::<LANES>().0 {
        for j in 0..LANES {
            sixteen[j] = larger(sixteen[j], scores[j]);
        }
    }
    let [a, b] = halve::<4, 2>(halve::<8, 4>(halve::<LANES, 8>(sixteen)));
    larger(a, b)
}

/// The larger of each number of the first half and its place in the second.
#[inline(always)]
fn halve<const N: usize, const HALF: usize>(numbers: [f32; N]) -> [f32; HALF] {
    let mut out = [0.0; HALF];
    for j in 0..HALF {
        out[j] = larger(numbers[j], numbers[j + HALF]);
    }
    out
}

#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}
