//! Attention of up to four queries over the keys and values that they share.
//!
//! - Scores: some keys times some queries are sixteen sums of sixteen lanes, all in registers, and are then folded into one
//!   register by a tree of 15 additions. The tree adds the lanes of each sum as [`Lanes::sum`](crate::lanes::Lanes::sum) does.
//! - Values: 64 columns at a time, whose sums stay in registers for a whole block of positions.
//!
//! For heads of whole lanes; others take the plain body. Bits are the same.

use core::arch::x86_64::*;
use core::ops::Range;

use super::Avx512Vnni;
use crate::arch::ahead::prefetch;
use crate::fma::fma;
use crate::lanes::cached::Cached;
use crate::math::exp;
use crate::ops::attention::{BLOCK, Head, sums_in_order};
use crate::view::LANES;

/// A number as it lies in a cache.
pub(crate) trait Number: Copy {
    /// Reads sixteen.
    ///
    /// # Safety
    ///
    /// The machine must have AVX-512 F.
    unsafe fn load(from: &[Self; LANES]) -> __m512;
}

impl Number for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: &[Self; LANES]) -> __m512 {
        // SAFETY: 64 bytes can be read, and no alignment is asked for.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
}

impl Number for u16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: &[Self; LANES]) -> __m512 {
        // SAFETY: 32 bytes can be read, and no alignment is asked for.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }
}

/// Keys and values of one head.
#[derive(Clone, Copy)]
pub(crate) struct Cache<'a, N> {
    keys: &'a [N],
    values: &'a [N],
    head_dim: usize,
    scale: f32,
}

impl<'a, C: Cached> From<&Head<'a, C>> for Cache<'a, C::Number> {
    fn from(head: &Head<'a, C>) -> Self {
        let &Head { keys, values, head_dim, scale, .. } = head;
        Self { keys, values, head_dim, scale }
    }
}

impl Avx512Vnni {
    /// Attends for all queries, `[group, head_dim]`.
    pub(crate) fn attend<N: Number>(
        self,
        cache: Cache<'_, N>,
        queries: &[f32],
        positions: Range<usize>,
        out: &mut [f32],
    ) {
        let most = 4 * cache.head_dim;
        for (queries, out) in queries.chunks(most).zip(out.chunks_mut(most)) {
            let positions = positions.clone();
            match queries.len() / cache.head_dim {
                // SAFETY: `self` proves that this machine has the instructions.
                4 => unsafe { attend::<N, 4, 4>(cache, queries, positions, out) },
                // SAFETY: as above.
                3 => unsafe { attend::<N, 3, 4>(cache, queries, positions, out) },
                // SAFETY: as above.
                2 => unsafe { attend::<N, 2, 8>(cache, queries, positions, out) },
                // SAFETY: as above.
                _ => unsafe { attend::<N, 1, 16>(cache, queries, positions, out) },
            }
        }
    }
}

/// Scores of some queries over a block, then weights.
type Scores<const Q: usize> = [[f32; BLOCK]; Q];

/// `Q` queries; `K` keys at a time, so that `Q · K` is at most 16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn attend<N: Number, const Q: usize, const K: usize>(
    cache: Cache<'_, N>,
    queries: &[f32],
    positions: Range<usize>,
    out: &mut [f32],
) {
    let (mut max, mut sum) = ([f32::NEG_INFINITY; Q], [0.0; Q]);
    out.fill(0.0);
    let capacity = cache.keys.len() / cache.head_dim;
    let mut start = positions.start;
    while start < positions.end {
        let end = positions.end.min((start / BLOCK + 1) * BLOCK);
        let (slot, count) = (start % capacity, end - start);
        let before_end = count.min(capacity - slot);
        // The block wraps around the end of the ring at most once.
        let runs = [(0, slot..slot + before_end), (before_end, 0..count - before_end)];
        let mut scores = [[f32::NEG_INFINITY; BLOCK]; Q];
        for (first, slots) in runs.clone() {
            products::<N, Q, K>(cache, queries, slots, first, &mut scores);
        }
        let corrections = soften(&mut scores, &mut max, &mut sum);
        mix::<N, Q>(cache, &scores, corrections, &runs, out);
        start = end;
    }
    for (out, sum) in out.chunks_exact_mut(cache.head_dim).zip(sum) {
        out.iter_mut().for_each(|out| *out /= sum);
    }
}

/// `scale · q · kⱼ` for keys in neighbouring slots, the first of which is number `first` of its block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn products<N: Number, const Q: usize, const K: usize>(
    cache: Cache<'_, N>,
    queries: &[f32],
    slots: Range<usize>,
    first: usize,
    scores: &mut Scores<Q>,
) {
    let lanes = cache.head_dim / LANES;
    let (queries, keys) = (queries.as_chunks().0, cache.keys.as_chunks().0);
    let mut slot = slots.start;
    while slot < slots.end {
        // Behind the last key, it is taken again.
        let mut key = [0; K];
        for (k, key) in key.iter_mut().enumerate() {
            *key = (slot + k).min(slots.end - 1) * lanes;
            // Values come next, and by columns, a way that no hardware foresees.
            prefetch(&cache.values[*key * LANES..][..cache.head_dim]);
        }
        let mut acc = [_mm512_setzero_ps(); 16];
        for lane in 0..lanes {
            let mut query = [_mm512_setzero_ps(); Q];
            for q in 0..Q {
                // SAFETY: AVX-512 F is enabled here.
                query[q] = unsafe { f32::load(&queries[q * lanes + lane]) };
            }
            for k in 0..K {
                // SAFETY: as above.
                let key = unsafe { N::load(&keys[key[k] + lane]) };
                for q in 0..Q {
                    acc[q * K + k] = _mm512_fmadd_ps(query[q], key, acc[q * K + k]);
                }
            }
        }
        let sums = _mm512_mul_ps(_mm512_set1_ps(cache.scale), fold(&acc));
        let mut out = [0.0; 16];
        // SAFETY: 64 bytes can be written, and no alignment is asked for.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
        let count = K.min(slots.end - slot);
        let place = first + slot - slots.start;
        for q in 0..Q {
            let (from, to) = (&out[q * K..][..K], &mut scores[q][place..place + count]);
            // Twice the same: of a known length, it is one instruction and no call.
            match to.first_chunk_mut::<K>() {
                Some(to) => to.copy_from_slice(from),
                None => to.copy_from_slice(&from[..count]),
            }
        }
        slot += K;
    }
}

/// Lane `i` becomes the sum of the lanes of `from[i]`: lane `j` takes up `j + 8`, then `j + 4`, `j + 2`, `j + 1`.
#[inline]
#[target_feature(enable = "avx512f")]
fn fold(from: &[__m512; 16]) -> __m512 {
    // Quarters of lanes: 0, 1 of one and 0, 1 of the other, plus their quarters 2, 3.
    let mut eights = [_mm512_setzero_ps(); 8];
    for i in 0..8 {
        let (a, b) = (from[i], from[i + 8]);
        let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
        let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
        eights[i] = _mm512_add_ps(low, high);
    }
    // Now quarters of `eights[i]` are `i` and `i + 8`, each twice.
    let mut fours = [_mm512_setzero_ps(); 4];
    for i in 0..4 {
        let (a, b) = (eights[i], eights[i + 4]);
        let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
        let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
        fours[i] = _mm512_add_ps(low, high);
    }
    // Quarters of `fours[i]` are `i`, `i + 8`, `i + 4`, `i + 12`.
    let mut twos = [_mm512_setzero_ps(); 2];
    for i in 0..2 {
        let (a, b) = (fours[i], fours[i + 2]);
        let low = _mm512_shuffle_ps::<0b01_00_01_00>(a, b);
        let high = _mm512_shuffle_ps::<0b11_10_11_10>(a, b);
        twos[i] = _mm512_add_ps(low, high);
    }
    let (a, b) = (twos[0], twos[1]);
    let low = _mm512_shuffle_ps::<0b10_00_10_00>(a, b);
    let high = _mm512_shuffle_ps::<0b11_01_11_01>(a, b);
    let sums = _mm512_add_ps(low, high);
    // Lanes of a quarter `i` are `i`, `i + 2`, `i + 1`, `i + 3`, and its quarters start at 0, 8, 4, 12.
    let order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
    _mm512_permutexvar_ps(order, sums)
}

/// Turns the scores of a block into weights, and returns what earlier sums are to be multiplied by.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn soften<const Q: usize>(
    scores: &mut Scores<Q>,
    max: &mut [f32; Q],
    sum: &mut [f32; Q],
) -> [f32; Q] {
    let mut corrections = [0.0; Q];
    for q in 0..Q {
        let (halves, _) = scores[q].as_chunks_mut::<LANES>();
        let mut largest = _mm512_set1_ps(max[q]);
        for half in &*halves {
            // SAFETY: AVX-512 F is enabled here.
            largest = _mm512_max_ps(largest, unsafe { f32::load(half) });
        }
        let largest = _mm512_reduce_max_ps(largest);
        // The first block has no earlier sums: `exp(-∞)` is 0.
        corrections[q] = exp(max[q] - largest);
        max[q] = largest;
        for half in halves {
            for j in 0..LANES {
                half[j] = exp(half[j] - largest);
            }
        }
    }
    let sums = sums_in_order(scores);
    for q in 0..Q {
        sum[q] = fma(sum[q], corrections[q], sums[q]);
    }
    corrections
}

/// `out ← out · correction + Σⱼ weightⱼ · vⱼ`, in order of `j`, fused.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn mix<N: Number, const Q: usize>(
    cache: Cache<'_, N>,
    weights: &Scores<Q>,
    corrections: [f32; Q],
    runs: &[(usize, Range<usize>); 2],
    out: &mut [f32],
) {
    let lanes = cache.head_dim / LANES;
    let mut lane = 0;
    while lane + 4 <= lanes {
        columns::<N, Q, 4>(cache, weights, corrections, runs, lane, out);
        lane += 4;
    }
    while lane + 2 <= lanes {
        columns::<N, Q, 2>(cache, weights, corrections, runs, lane, out);
        lane += 2;
    }
    if lane < lanes {
        columns::<N, Q, 1>(cache, weights, corrections, runs, lane, out);
    }
}

/// The columns of `W` lanes, from `lane` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn columns<N: Number, const Q: usize, const W: usize>(
    cache: Cache<'_, N>,
    weights: &Scores<Q>,
    corrections: [f32; Q],
    runs: &[(usize, Range<usize>); 2],
    lane: usize,
    out: &mut [f32],
) {
    let lanes = cache.head_dim / LANES;
    let (values, out) = (cache.values.as_chunks().0, out.as_chunks_mut().0);
    let mut acc = [[_mm512_setzero_ps(); W]; Q];
    for q in 0..Q {
        for w in 0..W {
            // SAFETY: AVX-512 F is enabled here.
            let before = unsafe { f32::load(&out[q * lanes + lane + w]) };
            acc[q][w] = _mm512_mul_ps(before, _mm512_set1_ps(corrections[q]));
        }
    }
    for (first, slots) in runs {
        for (j, slot) in (*first..BLOCK).zip(slots.clone()) {
            let row = &values[slot * lanes + lane..][..W];
            let mut value = [_mm512_setzero_ps(); W];
            for w in 0..W {
                // SAFETY: as above.
                value[w] = unsafe { N::load(&row[w]) };
            }
            for q in 0..Q {
                let weight = _mm512_set1_ps(weights[q][j]);
                for w in 0..W {
                    acc[q][w] = _mm512_fmadd_ps(weight, value[w], acc[q][w]);
                }
            }
        }
    }
    for q in 0..Q {
        for w in 0..W {
            let out: &mut [f32; LANES] = &mut out[q * lanes + lane + w];
            // SAFETY: 64 bytes can be written, and no alignment is asked for.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc[q][w]) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Lanes;

    #[test]
    fn folding_sums_lanes_in_the_canonical_order() {
        if Avx512Vnni::new().is_none() {
            return;
        }
        let number = |i: usize| ((i * 7919) % 1009) as f32 * 1.0e-3 + (i % 13) as f32 * 1.0e3;
        let from: [Lanes; 16] =
            core::array::from_fn(|i| Lanes(core::array::from_fn(|j| number(16 * i + j))));
        let mut got = [0.0; 16];
        #[target_feature(enable = "avx512f")]
        fn folded(from: &[Lanes; 16], got: &mut [f32; 16]) {
            let mut lanes = [_mm512_setzero_ps(); 16];
            for i in 0..16 {
                // SAFETY: AVX-512 F is enabled here.
                lanes[i] = unsafe { f32::load(&from[i].0) };
            }
            let sums = fold(&lanes);
            // SAFETY: 64 bytes can be written, and no alignment is asked for.
            unsafe { _mm512_storeu_ps(got.as_mut_ptr(), sums) };
        }
        // SAFETY: the machine has AVX-512, as found above.
        unsafe { folded(&from, &mut got) };
        assert_eq!(got.map(f32::to_bits), from.map(|lanes| lanes.sum().to_bits()), "sums");
    }
}
