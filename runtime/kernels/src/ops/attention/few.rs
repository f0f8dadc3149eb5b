//! Up to four queries at a time, with sums in registers: a token that comes alone, and the few rows of a round of drafts.
//!
//! - Scores: what is left of a product of two numbers of sixteen lanes waits in memory until there are eight of them, whose
//!   lanes are then summed together. One by one, a sum would wait for itself four times.
//! - Values: as many columns at a time as leave each multiplier something to do while it waits for the last product, whose
//!   sums stay in registers for a whole block of positions.
//!
//! For heads of 2, 4, 5, 6 or 8 lanes; others take the plain body. Bits are the same.

use core::ops::Range;

use super::head::{BLOCK, Head, Running, soften};
use crate::arch::ahead::prefetch;
use crate::isa::{Isa, Kind};
use crate::lanes::Lanes;
use crate::lanes::cached::Cached;
use crate::lanes::wide::Sums;
use crate::view::LANES;

/// Whether an instruction set takes queries of this width here.
pub(super) fn takes(isa: Isa, head_dim: usize) -> bool {
    let has_sums = match isa.0 {
        Kind::Reference => false,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2(_) | Kind::Avx512Vnni(_) => true,
        #[cfg(target_arch = "aarch64")]
        Kind::Neon(_) | Kind::NeonDotprod(_) | Kind::NeonI8mm(_) => true,
    };
    has_sums && matches!(head_dim, 32 | 64 | 80 | 96 | 128)
}

/// Slots of the ring that hold the positions of a block; two runs of them, as a block wraps around at most once. The
/// number of the first position in its block, and the slots.
type Runs = [(usize, Range<usize>); 2];

/// A query, and what it attends to, of `L` lanes.
type Row<const L: usize> = [[f32; LANES]; L];

impl<C: Cached> Head<'_, C> {
    /// Attends for all queries, `[group, head_dim]`; some at a time share the reading of keys and values.
    #[inline(always)]
    pub(super) fn attend_few<I: Sums>(
        &self,
        isa: I,
        queries: &[f32],
        positions: Range<usize>,
        out: &mut [f32],
    ) {
        match self.head_dim / LANES {
            2 => self.attend_lanes::<I, 2>(isa, queries, positions, out),
            4 => self.attend_lanes::<I, 4>(isa, queries, positions, out),
            5 => self.attend_lanes::<I, 5>(isa, queries, positions, out),
            6 => self.attend_lanes::<I, 6>(isa, queries, positions, out),
            8 => self.attend_lanes::<I, 8>(isa, queries, positions, out),
            _ => unreachable!("other widths take the plain body"),
        }
    }

    #[inline(always)]
    fn attend_lanes<I: Sums, const L: usize>(
        &self,
        isa: I,
        queries: &[f32],
        positions: Range<usize>,
        out: &mut [f32],
    ) {
        let queries: &[Row<L>] = queries.as_chunks().0.as_chunks().0;
        let out: &mut [Row<L>] = out.as_chunks_mut().0.as_chunks_mut().0;
        for (queries, out) in queries.chunks(4).zip(out.chunks_mut(4)) {
            let positions = positions.clone();
            match queries.len() {
                4 => self.few::<I, 4, L>(isa, first(queries), positions, first_mut(out)),
                3 => self.few::<I, 3, L>(isa, first(queries), positions, first_mut(out)),
                2 => self.few::<I, 2, L>(isa, first(queries), positions, first_mut(out)),
                _ => self.few::<I, 1, L>(isa, first(queries), positions, first_mut(out)),
            }
        }
    }

    /// `Q` queries of `L` lanes.
    #[inline(always)]
    fn few<I: Sums, const Q: usize, const L: usize>(
        &self,
        isa: I,
        queries: &[Row<L>; Q],
        positions: Range<usize>,
        out: &mut [Row<L>; Q],
    ) {
        let mut running = [Running::NEW; Q];
        let mut eights = [[[0.0; 8]; BLOCK]; Q];
        *out = [[[0.0; LANES]; L]; Q];
        let mut start = positions.start;
        while start < positions.end {
            let end = positions.end.min((start / BLOCK + 1) * BLOCK);
            let runs = self.runs(start..end);
            for (first, slots) in runs.clone() {
                self.fold_products(isa, queries, (first, slots), &mut eights);
            }
            let mut weights = [[0.0; BLOCK]; Q];
            for q in 0..Q {
                scores(isa, &eights[q], self.scale, end - start, &mut weights[q]);
            }
            let corrections = soften(&mut weights, &mut running);
            self.mix_few(isa, &weights, corrections, &runs, out);
            start = end;
        }
        for q in 0..Q {
            for out in out[q].as_flattened_mut() {
                *out /= running[q].sum;
            }
        }
    }

    fn runs(&self, positions: Range<usize>) -> Runs {
        let capacity = self.keys.len() / self.head_dim;
        let (slot, count) = (positions.start % capacity, positions.len());
        let before_end = count.min(capacity - slot);
        [(0, slot..slot + before_end), (before_end, 0..count - before_end)]
    }

    /// Some slots of a cache.
    #[inline(always)]
    fn slots<'a, const L: usize>(
        &self,
        cache: &'a [C::Number],
        slots: Range<usize>,
    ) -> &'a [[[C::Number; LANES]; L]] {
        &cache.as_chunks().0.as_chunks().0[slots]
    }

    /// `q · kⱼ`, of which eight lanes are left.
    #[inline(always)]
    fn fold_products<I: Sums, const Q: usize, const L: usize>(
        &self,
        isa: I,
        queries: &[Row<L>; Q],
        (first, slots): (usize, Range<usize>),
        eights: &mut [[[f32; 8]; BLOCK]; Q],
    ) {
        let values = self.slots::<L>(self.values, slots.clone());
        let keys = self.slots::<L>(self.keys, slots);
        for (j, (key, value)) in (first..BLOCK).zip(keys.iter().zip(values)) {
            // Values come next, and by columns: a way that no hardware foresees, where they are longer than a line of the cache.
            if size_of_val(value) > 64 {
                prefetch(value);
            }
            let mut acc = [isa.load(&Lanes::ZERO); Q];
            for lane in 0..L {
                let key = isa.load(&self.cached.load(&key[lane]));
                for q in 0..Q {
                    let query = isa.load(&Lanes(queries[q][lane]));
                    acc[q] = isa.multiply_add(query, key, acc[q]);
                }
            }
            for q in 0..Q {
                eights[q][j] = isa.fold(acc[q]);
            }
        }
    }

    /// `out ← out · correction + Σⱼ weightⱼ · vⱼ`, in order of `j`, fused; as many lanes of columns at a time as registers
    /// hold sums.
    #[inline(always)]
    fn mix_few<I: Sums, const Q: usize, const L: usize>(
        &self,
        isa: I,
        weights: &[[f32; BLOCK]; Q],
        corrections: [f32; Q],
        runs: &Runs,
        out: &mut [Row<L>; Q],
    ) {
        let at_once = match I::HELD / Q {
            4.. if L.is_multiple_of(4) => 4,
            2.. if L.is_multiple_of(2) => 2,
            _ => 1,
        };
        for lane in (0..L).step_by(at_once) {
            match at_once {
                4 => self.columns::<I, Q, 4, L>(isa, weights, corrections, runs, lane, out),
                2 => self.columns::<I, Q, 2, L>(isa, weights, corrections, runs, lane, out),
                _ => self.columns::<I, Q, 1, L>(isa, weights, corrections, runs, lane, out),
            }
        }
    }

    /// The columns of `W` lanes, from `lane` on.
    #[inline(always)]
    fn columns<I: Sums, const Q: usize, const W: usize, const L: usize>(
        &self,
        isa: I,
        weights: &[[f32; BLOCK]; Q],
        corrections: [f32; Q],
        runs: &Runs,
        lane: usize,
        out: &mut [Row<L>; Q],
    ) {
        let mut acc = [[isa.load(&Lanes::ZERO); W]; Q];
        for q in 0..Q {
            for w in 0..W {
                acc[q][w] = isa.load(&Lanes(out[q][lane + w]).scale(corrections[q]));
            }
        }
        for (first, slots) in runs.clone() {
            for (j, value) in (first..BLOCK).zip(self.slots::<L>(self.values, slots)) {
                for w in 0..W {
                    let value = isa.load(&self.cached.load(&value[lane + w]));
                    for q in 0..Q {
                        acc[q][w] = isa.scale_add(weights[q][j], value, acc[q][w]);
                    }
                }
            }
        }
        for q in 0..Q {
            for w in 0..W {
                let mut sums = Lanes::ZERO;
                isa.store(acc[q][w], &mut sums);
                out[q][lane + w] = sums.0;
            }
        }
    }
}

fn first<T, const N: usize>(of: &[T]) -> &[T; N] {
    of.first_chunk().expect("as many as counted")
}

fn first_mut<T, const N: usize>(of: &mut [T]) -> &mut [T; N] {
    of.first_chunk_mut().expect("as many as counted")
}

/// Sums what is left of `count` products, `scale` times; -∞ behind them.
#[inline(always)]
fn scores<I: Sums>(
    isa: I,
    eights: &[[f32; 8]; BLOCK],
    scale: f32,
    count: usize,
    out: &mut [f32; BLOCK],
) {
    for (eights, out) in eights.as_chunks().0.iter().zip(out.as_chunks_mut::<8>().0) {
        *out = isa.sum_eights(eights).map(|sum| scale * sum);
    }
    out[count..].fill(f32::NEG_INFINITY);
}
