//! Causal attention over a ring of keys and values.
//!
//! Positions are taken in blocks of 32 that start at absolute multiples of 32, oldest first, with the running maximum
//! and sum of Milakov & Gimelshein 2018. The blocks do not move with the chunk, so a token's result is the same whether it
//! came alone or in a prompt.

mod append;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod few;
mod head;
mod tile;

use core::array;
use core::ops::Range;

#[cfg(target_arch = "aarch64")]
use crate::arch::neon::Neon;
use crate::isa::{Isa, Kind};
use crate::lanes::cached::{Cached, PortableHalf, Single};
use crate::view::{ColumnsMut, LANES, Rows};
use head::Head;
use tile::{Room, Tile};

/// Operands of [`Isa::attention`], for all heads.
///
/// # Shapes
///
/// - `q`: `[rows, n_heads · head_dim]`
/// - `k`, `v`: `[rows, n_kv_heads · head_dim]`
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Queries.
    pub q: Rows<'a>,
    /// Keys, to append.
    pub k: Rows<'a>,
    /// Values, to append.
    pub v: Rows<'a>,
    /// Absolute position of row 0.
    pub position: u32,
    /// Sliding window in tokens, the token itself included; 0: none.
    pub window: u32,
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Usually `1 / √head_dim`.
    pub scale: f32,
}

/// A cache, `[kv_heads, capacity, head_dim]` without padding.
#[derive(Debug)]
pub enum CacheMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// 16-bit floats, as bits.
    F16(&'a mut [u16]),
}

impl CacheMut<'_> {
    /// The same for a while.
    fn borrow(&mut self) -> CacheMut<'_> {
        match self {
            Self::F32(cache) => CacheMut::F32(cache),
            Self::F16(cache) => CacheMut::F16(cache),
        }
    }
}

/// Positions that a cache must hold: the whole context, or what the window of any row of a chunk still reaches.
#[must_use]
pub fn cache_capacity(context: u32, window: u32, max_rows: u32) -> u32 {
    if window == 0 {
        context
    } else {
        context.min(window.saturating_add(max_rows.saturating_sub(1)))
    }
}

/// The same, to read.
#[derive(Clone, Copy, Debug)]
pub enum Cache<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 16-bit floats, as bits.
    F16(&'a [u16]),
}

impl<'a> From<CacheMut<'a>> for Cache<'a> {
    fn from(cache: CacheMut<'a>) -> Self {
        match cache {
            CacheMut::F32(cache) => Self::F32(cache),
            CacheMut::F16(cache) => Self::F16(cache),
        }
    }
}

impl Isa {
    /// Appends the keys and values of some heads to their caches, then attends.
    ///
    /// ```text
    /// slot(p) = p mod capacity
    /// out = softmax(scale · q · Kᵀ) · V      over the positions max(0, p - window + 1) ..= p
    /// ```
    ///
    /// # Shapes
    ///
    /// - `k_cache`, `v_cache`: `[kv_heads, capacity, head_dim]`, updated: these key/value heads only
    /// - `out`: `[rows, kv_heads · (n_heads / n_kv_heads) · head_dim]` f32, overwritten: the query heads of these
    ///   key/value heads only
    ///
    /// # Panics
    ///
    /// Panics if shapes disagree, if one cache is f32 and the other f16, or if the capacity is less than what is attended
    /// to (see [`cache_capacity`]).
    pub fn attention(
        self,
        op: &Attention<'_>,
        kv_heads: Range<usize>,
        capacity: usize,
        mut k_cache: CacheMut<'_>,
        mut v_cache: CacheMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        let head_dim = op.check(capacity);
        let heads = || kv_heads.clone();
        self.append(op.k, head_dim, op.position, heads(), capacity, k_cache.borrow());
        self.append(op.v, head_dim, op.position, heads(), capacity, v_cache.borrow());
        self.attend(op, 0..op.q.len(), kv_heads, capacity, [k_cache.into(), v_cache.into()], out);
    }

    /// Attends for some rows, when the keys and values of all have been [appended](Self::append).
    ///
    /// # Shapes
    ///
    /// - `caches`: keys and values, `[kv_heads, capacity, head_dim]`: these key/value heads only
    /// - `out`: `[rows, kv_heads · (n_heads / n_kv_heads) · head_dim]` f32, overwritten: these rows, and the query heads of
    ///   these key/value heads only
    ///
    /// # Panics
    ///
    /// As [`Self::attention`], and if there are no such rows.
    pub fn attend(
        self,
        op: &Attention<'_>,
        rows: Range<usize>,
        kv_heads: Range<usize>,
        capacity: usize,
        caches: [Cache<'_>; 2],
        out: &mut ColumnsMut<'_>,
    ) {
        let work = Work::new(op, rows, kv_heads, capacity, out);
        match caches {
            [Cache::F32(keys), Cache::F32(values)] => work.run(self, Single, keys, values, out),
            [Cache::F16(keys), Cache::F16(values)] => {
                #[cfg(target_arch = "x86_64")]
                if let Some(half) = crate::lanes::f16c::F16c::of(self) {
                    work.run(self, half, keys, values, out);
                    return;
                }
                #[cfg(target_arch = "aarch64")]
                if let Some(half) = crate::lanes::neon_half::NeonHalf::of(self) {
                    work.run(self, half, keys, values, out);
                    return;
                }
                work.run(self, PortableHalf, keys, values, out);
            }
            _ => panic!("keys and values must be of one dtype"),
        }
    }
}

impl Attention<'_> {
    /// Query heads of a key/value head.
    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Panics if shapes disagree; returns the width of a head.
    fn check(&self, capacity: usize) -> usize {
        let &Self { q, k, v, position, window, n_heads, n_kv_heads, .. } = self;
        assert!(
            n_kv_heads > 0 && n_heads.is_multiple_of(n_kv_heads),
            "key/value heads must divide the heads"
        );
        let (rows, head_dim) = (q.len(), k.width() / n_kv_heads);
        assert_eq!(k.width(), n_kv_heads * head_dim, "width of the keys");
        assert_eq!(q.width(), n_heads * head_dim, "width of the queries");
        assert_eq!((k.len(), v.len(), v.width()), (rows, rows, k.width()), "keys and values");
        let before = if window == 0 { position } else { position.min(window - 1) };
        assert!(
            before as usize + rows <= capacity,
            "the cache is too small for what is attended to"
        );
        head_dim
    }
}

/// Checked operands.
struct Work<'a> {
    op: &'a Attention<'a>,
    rows: Range<usize>,
    kv_heads: Range<usize>,
    capacity: usize,
    head_dim: usize,
    /// Query heads of a key/value head.
    group: usize,
}

impl<'a> Work<'a> {
    fn new(
        op: &'a Attention<'a>,
        rows: Range<usize>,
        kv_heads: Range<usize>,
        capacity: usize,
        out: &ColumnsMut<'_>,
    ) -> Self {
        let (head_dim, group) = (op.check(capacity), op.group());
        assert!(
            kv_heads.start <= kv_heads.end && kv_heads.end <= op.n_kv_heads,
            "heads out of range"
        );
        assert!(rows.start <= rows.end && rows.end <= op.q.len(), "rows out of range");
        let width = kv_heads.len() * group * head_dim;
        assert_eq!((out.len(), out.width()), (rows.len(), width), "out");
        Self { op, rows, kv_heads, capacity, head_dim, group }
    }

    /// Whether a few queries are taken together.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn takes_few(&self, isa: Isa) -> bool {
        few::takes(isa, self.head_dim)
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn takes_few(&self, _isa: Isa) -> bool {
        false
    }

    /// Attends head by head: by tiles, or row by row.
    fn run<C: Cached>(
        &self,
        isa: Isa,
        cached: C,
        keys: &[C::Number],
        values: &[C::Number],
        out: &mut ColumnsMut<'_>,
    ) {
        let block = self.capacity * self.head_dim;
        assert_eq!(keys.len(), self.kv_heads.len() * block, "cache of keys");
        assert_eq!(values.len(), self.kv_heads.len() * block, "cache of values");
        if block == 0 {
            return;
        }
        let width = self.group * self.head_dim;
        let head = |keys, values| {
            let &Self { op, head_dim, .. } = self;
            Head { cached, keys, values, head_dim, scale: op.scale }
        };
        let columns = |index: usize| index * width..(index + 1) * width;
        let blocks = keys.chunks_exact(block).zip(values.chunks_exact(block));
        let heads = self.kv_heads.clone().enumerate().zip(blocks);
        let tiled = self.tiled_rows(isa);
        if tiled > 0 {
            let mut room = Room::new();
            for ((index, kv_head), (keys, values)) in heads.clone() {
                let head = head(keys, values);
                self.tiles(isa, &head, tiled, (kv_head, columns(index)), out, &mut room);
            }
        }
        for ((index, kv_head), (keys, values)) in heads {
            for row in self.rows.clone().skip(tiled) {
                let queries = &self.op.q.row(row)[kv_head * width..][..width];
                let out = &mut out.row_mut(row - self.rows.start)[columns(index)];
                self.attend_row(isa, &head(keys, values), queries, self.positions(row), out);
            }
        }
    }

    /// Attends for the queries of a row, `[group, head_dim]`.
    fn attend_row<C: Cached>(
        &self,
        isa: Isa,
        head: &Head<'_, C>,
        queries: &[f32],
        positions: Range<usize>,
        out: &mut [f32],
    ) {
        let few = self.takes_few(isa);
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(wide) if few => wide.run(
                #[inline(always)]
                || head.attend_few(wide, queries, positions, out),
            ),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni(wide) if few => wide.run(
                #[inline(always)]
                || head.attend_few(wide, queries, positions, out),
            ),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) | Kind::NeonDotprod(_) | Kind::NeonI8mm(_) if few => {
                let neon = Neon::new().expect("all of them have NEON");
                head.attend_few(neon, queries, positions, out);
            }
            _ => isa.run(
                #[inline(always)]
                || head.attend_all(queries, positions, out),
            ),
        }
    }

    /// Rows, from the first, whose queries are taken sixteen at a time; those behind would leave most of a tile empty. The
    /// reference takes all of them one by one.
    fn tiled_rows(&self, isa: Isa) -> usize {
        let (rows, queries) = (self.rows.len(), self.rows.len() * self.group);
        if isa == Isa::reference() || rows < 2 || self.head_dim > tile::MOST_HEAD_DIM {
            return 0;
        }
        let least = match queries {
            _ if self.takes_few(isa) => LANES,
            0..LANES => tile::LEAST.0,
            _ => tile::LEAST.1,
        };
        match queries % LANES {
            0 => rows,
            spare if spare >= least => rows,
            spare => (queries - spare) / self.group,
        }
    }

    /// Attends for the first rows of a key/value head, sixteen queries at a time.
    fn tiles<C: Cached>(
        &self,
        isa: Isa,
        head: &Head<'_, C>,
        rows: usize,
        (kv_head, columns): (usize, Range<usize>),
        out: &mut ColumnsMut<'_>,
        room: &mut Room,
    ) {
        let (group, head_dim) = (self.group, self.head_dim);
        let count = rows * group;
        let place = |query: usize| (query / group, query % group * head_dim);
        let together = tile::tiles_at_once(isa) * LANES;
        for first in (0..count).step_by(together) {
            let tile = |first: usize| {
                // Behind the last query, it is taken again.
                let place = |lane: usize| place(count.min(first + lane + 1) - 1);
                let row = |lane: usize| self.rows.start + place(lane).0;
                let queries = |lane: usize| {
                    let at = kv_head * group * head_dim + place(lane).1;
                    &self.op.q.row(row(lane))[at..][..head_dim]
                };
                Tile {
                    queries: array::from_fn(queries),
                    starts: array::from_fn(|lane| self.positions(row(lane)).start as u32),
                    ends: array::from_fn(|lane| self.positions(row(lane)).end as u32),
                }
            };
            let queries = together.min(count - first);
            let tiles = [tile(first), tile(first + LANES)];
            head.attend_tiles(isa, &tiles[..queries.div_ceil(LANES)], room);
            for query in 0..queries {
                let (row, at) = place(first + query);
                let out = &mut out.row_mut(row)[columns.clone()][at..][..head_dim];
                room.answer(query / LANES, query % LANES, out);
            }
        }
    }

    /// What a row attends to.
    fn positions(&self, row: usize) -> Range<usize> {
        let end = self.op.position as usize + row + 1;
        match self.op.window {
            0 => 0..end,
            window => end.saturating_sub(window as usize)..end,
        }
    }
}
