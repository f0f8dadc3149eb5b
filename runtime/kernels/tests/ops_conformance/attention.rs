use dynamax_kernels::Isa;
use dynamax_kernels::ops::{Attention, CacheMut, cache_capacity};
use half::f16;
use proptest::prelude::*;

use super::support::{Case, Cuts, Matrix, Random, check};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Attend {
    /// Tokens, from position 0 on.
    pub(crate) rows: usize,
    pub(crate) n_kv_heads: usize,
    /// Query heads of a key/value head.
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
    pub(crate) window: u32,
    pub(crate) half: bool,
    pub(crate) seed: u64,
}

impl Attend {
    /// Queries, keys, values.
    fn operands(&self) -> [Matrix; 3] {
        let mut random = Random::new(self.seed);
        let width = self.n_kv_heads * self.head_dim;
        [width * self.group, width, width].map(|width| random.matrix(self.rows, width, 2.0))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

impl Case for Attend {
    const TOLERANCE: f64 = 3e-6;

    /// The ring is as small as the chunks allow, so that it wraps around in other places for other cuts.
    fn run(&self, isa: Isa, cuts: Cuts) -> Vec<f32> {
        let [q, k, v] = self.operands();
        let &Self { n_kv_heads, group, head_dim, window, .. } = self;
        let chunk = cuts.rows.min(self.rows);
        let capacity = cache_capacity(self.rows as u32, window, chunk as u32) as usize;
        let block = capacity * head_dim;
        let mut singles =
            [const { Vec::new() }; 2].map(|_: Vec<f32>| vec![f32::NAN; n_kv_heads * block]);
        let mut halves = [0x7e00_u16; 2].map(|nan| vec![nan; n_kv_heads * block]);

        let mut out = Matrix::nan(self.rows, n_kv_heads * group * head_dim);
        for rows in cuts.chunks(self.rows) {
            let op = Attention {
                q: q.view(rows.clone()),
                k: k.view(rows.clone()),
                v: v.view(rows.clone()),
                position: rows.start as u32,
                window,
                n_heads: n_kv_heads * group,
                n_kv_heads,
                scale: self.scale(),
            };
            for heads in cuts.split(n_kv_heads) {
                let cache = heads.start * block..heads.end * block;
                let (keys, values) = if self.half {
                    let [keys, values] =
                        halves.each_mut().map(|x| CacheMut::F16(&mut x[cache.clone()]));
                    (keys, values)
                } else {
                    let [keys, values] =
                        singles.each_mut().map(|x| CacheMut::F32(&mut x[cache.clone()]));
                    (keys, values)
                };
                let width = group * head_dim;
                let mut out = out.part_mut(rows.clone(), heads.start * width..heads.end * width);
                isa.attention(&op, heads, capacity, keys, values, &mut out);
            }
        }
        out.numbers().collect()
    }

    fn textbook(&self) -> Vec<f64> {
        let [q, k, v] = self.operands();
        let kept = |m: &Matrix, t: usize, i: usize| {
            let x = m.row(t)[i];
            f64::from(if self.half { f16::from_f32(x).to_f32() } else { x })
        };
        let head_dim = self.head_dim;
        let mut out = Vec::new();
        for t in 0..self.rows {
            let first =
                if self.window == 0 { 0 } else { (t + 1).saturating_sub(self.window as usize) };
            for head in 0..self.n_kv_heads * self.group {
                let (q_at, kv_at) = (head * head_dim, head / self.group * head_dim);
                let weight = |p: usize| {
                    let product: f64 =
                        (0..head_dim).map(|i| q.at(t, q_at + i) * kept(&k, p, kv_at + i)).sum();
                    (f64::from(self.scale()) * product).exp()
                };
                let weights: Vec<f64> = (first..=t).map(weight).collect();
                let sum: f64 = weights.iter().sum();
                out.extend((0..head_dim).map(|i| {
                    let mixed =
                        weights.iter().zip(first..).map(|(w, p)| w * kept(&v, p, kv_at + i));
                    mixed.sum::<f64>() / sum
                }));
            }
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn attentions_agree(
        (rows, window) in (1..90_usize, prop_oneof![Just(0_u32), 1..50_u32]),
        (n_kv_heads, group, head_dim) in (1..4_usize, 1..7_usize, 1..40_usize),
        (half, seed) in any::<(bool, u64)>(),
    ) {
        check(&Attend { rows, n_kv_heads, group, head_dim, window, half, seed });
    }

    /// Such heads have kernels of their own.
    #[test]
    fn attentions_of_heads_of_whole_lanes_agree(
        (rows, window) in (1..90_usize, prop_oneof![Just(0_u32), 1..50_u32]),
        (n_kv_heads, group) in (1..3_usize, 1..8_usize),
        lanes in prop_oneof![Just(2_usize), Just(4), Just(8), 1..9_usize],
        (half, seed) in any::<(bool, u64)>(),
    ) {
        check(&Attend { rows, n_kv_heads, group, head_dim: 16 * lanes, window, half, seed });
    }
}

#[test]
fn cache_holds_the_window_of_every_row_of_a_chunk() {
    assert_eq!(cache_capacity(4096, 0, 32), 4096, "no window: the context");
    assert_eq!(cache_capacity(4096, 1024, 32), 1055, "the window of the oldest row, and 31 more");
    assert_eq!(cache_capacity(512, 1024, 32), 512, "never more than the context");
}

#[test]
#[should_panic(expected = "the cache is too small")]
fn a_ring_that_would_overwrite_what_is_needed_is_refused() {
    let x = Random::new(1).matrix(3, 4, 1.0);
    let rows = x.view(0..3);
    let op = Attention {
        q: rows,
        k: rows,
        v: rows,
        position: 9,
        window: 4,
        n_heads: 1,
        n_kv_heads: 1,
        scale: 1.0,
    };
    let (mut keys, mut values) = ([0.0; 20], [0.0; 20]);
    let mut out = Matrix::nan(3, 4);
    let caches = (CacheMut::F32(&mut keys), CacheMut::F32(&mut values));
    // 3 rows reach back 3 positions: 6 slots are needed.
    Isa::reference().attention(&op, 0..1, 5, caches.0, caches.1, &mut out.part_mut(0..3, 0..4));
}
