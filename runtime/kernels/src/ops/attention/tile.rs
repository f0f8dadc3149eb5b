//! Sixteen queries of one key/value head at once, a lane for each: the rows of a prompt.
//!
//! They attend to nearly the same positions, so each key and value is converted once for all, and is then read number by
//! number. No sum crosses lanes, and a lane does what a query alone does, in the same order. Where a block ends behind some
//! of the queries or begins before them, their lanes are masked.

use super::head::{BLOCK, Head, larger};
use core::ops::Range;

#[cfg(target_arch = "aarch64")]
use crate::arch::neon::Neon;
use crate::isa::{Isa, Kind};
use crate::lanes::Lanes;
use crate::lanes::cached::Cached;
use crate::lanes::wide::{Mask, Wide};
use crate::math::exp;
use crate::view::LANES;

/// Lanes of the widest head that fits.
const MOST: usize = 8;

/// The widest head that fits.
pub(super) const MOST_HEAD_DIM: usize = MOST * LANES;

/// Fewer queries than this are faster one by one: in the first tile, and in the last of several. Where [`few`](super::few) are
/// taken together, only full tiles are as fast.
pub(super) const LEAST: (usize, usize) = (13, 8);

/// Some numbers of all queries, sixteen times the lanes of a head.
type Numbers = [[Lanes; LANES]; MOST];

/// Room for a pair of tiles: 72 KiB.
pub(super) struct Room {
    keys: [[Lanes; MOST]; BLOCK],
    values: [[Lanes; MOST]; BLOCK],
    tiles: [Own; 2],
}

/// What each tile has for itself.
struct Own {
    queries: Numbers,
    out: Numbers,
    /// Scores, then weights.
    weights: [Lanes; BLOCK],
    masks: [Mask; BLOCK],
    running: Running,
}

impl Room {
    #[expect(clippy::large_stack_arrays, reason = "lives for one call, on threads with far more")]
    pub(super) fn new() -> Self {
        Self {
            keys: [[Lanes::ZERO; MOST]; BLOCK],
            values: [[Lanes::ZERO; MOST]; BLOCK],
            tiles: [const { Own::NEW }; 2],
        }
    }

    /// Reads the answer of a query of a tile.
    pub(super) fn answer(&self, tile: usize, lane: usize, out: &mut [f32]) {
        for (out, numbers) in out.iter_mut().zip(self.tiles[tile].out.as_flattened()) {
            *out = numbers.0[lane];
        }
    }
}

impl Own {
    const NEW: Self = Self {
        queries: [[Lanes::ZERO; LANES]; MOST],
        out: [[Lanes::ZERO; LANES]; MOST],
        weights: [Lanes::ZERO; BLOCK],
        masks: [[0; LANES]; BLOCK],
        running: Running::NEW,
    };

    /// Starts with the queries of a tile, `lanes` lanes each.
    #[inline(always)]
    fn start(&mut self, tile: &Tile<'_>, lanes: usize) {
        turn(&tile.queries, &mut self.queries[..lanes]);
        self.out[..lanes].fill([Lanes::ZERO; LANES]);
        self.running = Running::NEW;
    }

    /// Divides by the sums of the weights.
    #[inline(always)]
    fn end<I: Wide>(&mut self, isa: I, lanes: usize) {
        let sum = isa.load(&self.running.sum);
        for out in self.out[..lanes].as_flattened_mut() {
            isa.store(isa.divide(isa.load(out), sum), out);
        }
    }
}

/// Queries, `[head_dim]` each, and what they attend to. Lanes that are not needed repeat another.
pub(super) struct Tile<'a> {
    pub(super) queries: [&'a [f32]; LANES],
    /// First positions.
    pub(super) starts: [u32; LANES],
    /// Last positions, and one more.
    pub(super) ends: [u32; LANES],
}

/// Running maximum and sum of each query's softmax.
struct Running {
    max: Lanes,
    sum: Lanes,
}

impl Running {
    const NEW: Self = Self { max: Lanes([f32::NEG_INFINITY; LANES]), sum: Lanes::ZERO };
}

impl<C: Cached> Head<'_, C> {
    /// Attends for all queries of one or two tiles, whose answers come to `room`; with as many sums at a time as registers
    /// hold.
    ///
    /// # Panics
    ///
    /// Panics for the reference, which takes queries one by one.
    pub(super) fn attend_tiles(&self, isa: Isa, tiles: &[Tile<'_>], room: &mut Room) {
        match (isa.0, tiles) {
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2(isa), [tile]) => isa.run(
                #[inline(always)]
                || self.attend_wide::<_, 1, 2, 4>(isa, [tile], room),
            ),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512Vnni(isa), [tile]) => isa.run(
                #[inline(always)]
                || self.attend_wide::<_, 1, 4, 16>(isa, [tile], room),
            ),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512Vnni(isa), [first, second]) => isa.run(
                #[inline(always)]
                || self.attend_wide::<_, 2, 4, 8>(isa, [first, second], room),
            ),
            #[cfg(target_arch = "aarch64")]
            (Kind::Neon(_) | Kind::NeonDotprod(_) | Kind::NeonI8mm(_), [tile]) => {
                let neon = Neon::new().expect("all of them have NEON");
                self.attend_wide::<_, 1, 2, 4>(neon, [tile], room);
            }
            _ => unreachable!("no more than tiles_at_once, and none for the reference"),
        }
    }

    /// `T` tiles, `K` keys and `W` columns of values at a time.
    #[inline(always)]
    fn attend_wide<I: Wide, const T: usize, const K: usize, const W: usize>(
        &self,
        isa: I,
        tiles: [&Tile<'_>; T],
        room: &mut Room,
    ) {
        let lanes = self.head_dim.div_ceil(LANES);
        let Room { keys, values, tiles: own } = room;
        let own: &mut [Own; T] = own.first_chunk_mut().expect("no more than there is room for");
        let (mut first, mut end) = (usize::MAX, 0);
        for t in 0..T {
            own[t].start(tiles[t], lanes);
            first = first.min(tiles[t].first());
            end = end.max(tiles[t].end());
        }
        for start in (first / BLOCK * BLOCK..end).step_by(BLOCK) {
            let positions = start.max(first)..end.min(start + BLOCK);
            let at = positions.start - start..positions.end - start;
            self.widen(self.keys, positions.clone(), &mut keys[at.clone()]);
            self.widen(self.values, positions, &mut values[at.clone()]);
            self.all_scores::<I, T, K>(isa, own, keys, lanes);
            let mut corrections = [Lanes::ZERO; T];
            let mut is_masked = false;
            for t in 0..T {
                is_masked |= !tiles[t].sees_all(start);
            }
            for t in 0..T {
                let Own { weights, masks, running, .. } = &mut own[t];
                corrections[t] = if is_masked {
                    tiles[t].mask(start, masks);
                    soften_masked(weights, masks, running)
                } else {
                    soften(weights, running)
                };
            }
            if is_masked {
                mix::<I, T, W, true>(isa, own, values, at, corrections, lanes);
            } else {
                mix::<I, T, W, false>(isa, own, values, at, corrections, lanes);
            }
        }
        for own in own {
            own.end(isa, lanes);
        }
    }

    /// Reads keys or values; behind each is +0.
    #[inline(always)]
    fn widen(&self, cache: &[C::Number], positions: Range<usize>, to: &mut [[Lanes; MOST]]) {
        for (row, to) in self.rows(cache, positions).zip(to) {
            let (whole, tail) = row.as_chunks();
            for (from, to) in whole.iter().zip(&mut *to) {
                *to = self.cached.load(from);
            }
            if !tail.is_empty() {
                to[whole.len()] = self.cached.load_part(tail);
            }
        }
    }

    /// `scale · q · k` for a block of keys.
    #[inline(always)]
    fn all_scores<I: Wide, const T: usize, const K: usize>(
        &self,
        isa: I,
        own: &mut [Own; T],
        keys: &[[Lanes; MOST]; BLOCK],
        lanes: usize,
    ) {
        for (index, keys) in keys.as_chunks::<K>().0.iter().enumerate() {
            let mut queries: [&[[Lanes; LANES]]; T] = [&[]; T];
            for t in 0..T {
                queries[t] = &own[t].queries[..lanes];
            }
            let products = products::<I, T, K>(isa, queries, keys);
            for t in 0..T {
                for k in 0..K {
                    let mut score = Lanes::ZERO;
                    isa.store(products[t][k], &mut score);
                    own[t].weights[index * K + k] = score.scale(self.scale);
                }
            }
        }
    }
}

impl Tile<'_> {
    fn first(&self) -> usize {
        self.starts.iter().fold(u32::MAX, |a, &b| a.min(b)) as usize
    }

    fn end(&self) -> usize {
        self.ends.iter().fold(0, |a, &b| a.max(b)) as usize
    }

    /// Whether all queries attend to all positions of the block that begins at `start`.
    #[inline(always)]
    fn sees_all(&self, start: usize) -> bool {
        let (start, end) = (start as u32, (start + BLOCK) as u32);
        let mut sees = true;
        for lane in 0..LANES {
            sees &= (self.starts[lane] <= start) & (end <= self.ends[lane]);
        }
        sees
    }

    /// Which queries attend to the positions of the block that begins at `start`.
    #[inline(always)]
    fn mask(&self, start: usize, masks: &mut [Mask; BLOCK]) {
        for (position, mask) in (start as u32..).zip(masks) {
            for lane in 0..LANES {
                let is_seen = (self.starts[lane] <= position) & (position < self.ends[lane]);
                mask[lane] = u32::from(is_seen).wrapping_neg();
            }
        }
    }
}

/// Brings number `i` of all queries side by side; behind a query's end is +0.
#[inline(always)]
fn turn(queries: &[&[f32]; LANES], out: &mut [[Lanes; LANES]]) {
    for (block, out) in out.iter_mut().enumerate() {
        for (lane, query) in queries.iter().enumerate() {
            let query = &query[block * LANES..];
            let numbers = Lanes::load_part(&query[..query.len().min(LANES)]);
            for i in 0..LANES {
                out[i].0[lane] = numbers.0[i];
            }
        }
    }
}

/// `q · k` for some keys: what [`Lanes::sum`] adds up is side by side here, and is added in its order.
#[inline(always)]
fn products<I: Wide, const T: usize, const K: usize>(
    isa: I,
    queries: [&[[Lanes; LANES]]; T],
    keys: &[[Lanes; MOST]; K],
) -> [[I::Sixteen; K]; T] {
    let mut whole: [&[Lanes]; K] = [&[]; K];
    for k in 0..K {
        whole[k] = &keys[k][..queries[0].len()];
    }
    let even = add(isa, four(isa, queries, whole, 0), four(isa, queries, whole, 2));
    let odd = add(isa, four(isa, queries, whole, 1), four(isa, queries, whole, 3));
    add(isa, even, odd)
}

/// The sums of the numbers `i`, `i + 4`, `i + 8` and `i + 12` of all lanes, added.
#[inline(always)]
fn four<I: Wide, const T: usize, const K: usize>(
    isa: I,
    queries: [&[[Lanes; LANES]]; T],
    keys: [&[Lanes]; K],
    i: usize,
) -> [[I::Sixteen; K]; T] {
    add(isa, pair(isa, queries, keys, i), pair(isa, queries, keys, i + 4))
}

/// The sums of the numbers `i` and of the numbers `i + 8` of all lanes, added.
#[inline(always)]
fn pair<I: Wide, const T: usize, const K: usize>(
    isa: I,
    queries: [&[[Lanes; LANES]]; T],
    keys: [&[Lanes]; K],
    i: usize,
) -> [[I::Sixteen; K]; T] {
    let mut low = [[isa.load(&Lanes::ZERO); K]; T];
    let mut high = low;
    for block in 0..keys[0].len() {
        for t in 0..T {
            let query = &queries[t][block];
            let (query_low, query_high) = (isa.load(&query[i]), isa.load(&query[i + 8]));
            for k in 0..K {
                let key = &keys[k][block].0;
                low[t][k] = isa.scale_add(key[i], query_low, low[t][k]);
                high[t][k] = isa.scale_add(key[i + 8], query_high, high[t][k]);
            }
        }
    }
    add(isa, low, high)
}

#[inline(always)]
fn add<I: Wide, const T: usize, const K: usize>(
    isa: I,
    a: [[I::Sixteen; K]; T],
    b: [[I::Sixteen; K]; T],
) -> [[I::Sixteen; K]; T] {
    let mut out = a;
    for t in 0..T {
        for k in 0..K {
            out[t][k] = isa.add(a[t][k], b[t][k]);
        }
    }
    out
}

/// Turns the scores of a block into weights, and returns what earlier sums are to be multiplied by.
#[inline(always)]
fn soften(scores: &mut [Lanes; BLOCK], running: &mut Running) -> Lanes {
    let max = largest(scores, running.max);
    let mut correction = Lanes::ZERO;
    for lane in 0..LANES {
        correction.0[lane] = exp(running.max.0[lane] - max.0[lane]);
    }
    let mut sum = Lanes::ZERO;
    for score in scores {
        for lane in 0..LANES {
            score.0[lane] = exp(score.0[lane] - max.0[lane]);
        }
        for lane in 0..LANES {
            sum.0[lane] += score.0[lane];
        }
    }
    *running = Running { max, sum: running.sum.fma(correction, sum) };
    correction
}

/// The same where some queries do not attend to some positions: their weights are 0, and the sums of a query that attends
/// to none stay what they were.
#[inline(always)]
fn soften_masked(
    scores: &mut [Lanes; BLOCK],
    masks: &[Mask; BLOCK],
    running: &mut Running,
) -> Lanes {
    let mut any = [0; LANES];
    for (score, mask) in scores.iter_mut().zip(masks) {
        *score = choose(mask, *score, Lanes([f32::NEG_INFINITY; LANES]));
        for lane in 0..LANES {
            any[lane] |= mask[lane];
        }
    }
    let before = running.sum;
    let correction = soften(scores, running);
    for (weight, mask) in scores.iter_mut().zip(masks) {
        *weight = choose(mask, *weight, Lanes::ZERO);
    }
    running.sum = choose(&any, running.sum, before);
    choose(&any, correction, Lanes([1.0; LANES]))
}

#[inline(always)]
fn largest(scores: &[Lanes; BLOCK], start: Lanes) -> Lanes {
    // Four chains, which do not wait for each other.
    let mut chains = [start; 4];
    for scores in scores.as_chunks::<4>().0 {
        for (chain, score) in chains.iter_mut().zip(scores) {
            *chain = larger_lanes(*chain, *score);
        }
    }
    let [a, b, c, d] = chains;
    larger_lanes(larger_lanes(a, b), larger_lanes(c, d))
}

#[inline(always)]
fn larger_lanes(a: Lanes, b: Lanes) -> Lanes {
    let mut out = a;
    for lane in 0..LANES {
        out.0[lane] = larger(a.0[lane], b.0[lane]);
    }
    out
}

/// `a` where the mask has bits, `b` elsewhere.
#[inline(always)]
fn choose(mask: &Mask, a: Lanes, b: Lanes) -> Lanes {
    let mut out = [0.0; LANES];
    for lane in 0..LANES {
        let (a, b) = (a.0[lane].to_bits(), b.0[lane].to_bits());
        out[lane] = f32::from_bits((a & mask[lane]) | (b & !mask[lane]));
    }
    Lanes(out)
}

/// `out ← out · correction + Σⱼ weightⱼ · vⱼ` for the values `at` of a block, in order of `j`, fused. Positions that a query
/// does not attend to are left out, as even a weight of 0 would turn a sum of −0, or a value that is infinite.
#[inline(always)]
fn mix<I: Wide, const T: usize, const W: usize, const MASKED: bool>(
    isa: I,
    own: &mut [Own; T],
    values: &[[Lanes; MOST]; BLOCK],
    at: Range<usize>,
    corrections: [Lanes; T],
    lanes: usize,
) {
    for block in 0..lanes {
        for part in (0..LANES).step_by(W) {
            let mut sums = [[isa.load(&Lanes::ZERO); W]; T];
            for t in 0..T {
                let correction = isa.load(&corrections[t]);
                for w in 0..W {
                    let before = isa.load(&own[t].out[block][part + w]);
                    sums[t][w] = isa.multiply(before, correction);
                }
            }
            for j in at.clone() {
                let value: &[f32] = &values[j][block].0[part..part + W];
                for t in 0..T {
                    let weight = isa.load(&own[t].weights[j]);
                    for w in 0..W {
                        let sum = isa.scale_add(value[w], weight, sums[t][w]);
                        sums[t][w] = if MASKED {
                            isa.choose(&own[t].masks[j], sum, sums[t][w])
                        } else {
                            sum
                        };
                    }
                }
            }
            for t in 0..T {
                for w in 0..W {
                    isa.store(sums[t][w], &mut own[t].out[block][part + w]);
                }
            }
        }
    }
}

/// Tiles that are taken together.
pub(super) fn tiles_at_once(isa: Isa) -> usize {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni(_) => 2,
        _ => 1,
    }
}
