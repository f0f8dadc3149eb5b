//! Causal attention over a ring of keys and values.
//!
//! Positions are taken in blocks of 32 that start at absolute multiples of 32, oldest first, with the running maximum
//! and sum of Milakov & Gimelshein 2018. The blocks do not move with the chunk, so a token's result is the same whether it
//! came alone or in a prompt.

mod append;
mod head;

use core::ops::Range;

use crate::isa::Isa;
use crate::lanes::cached::{Cached, PortableHalf, Single};
#[cfg(target_arch = "x86_64")]
use crate::view::LANES;
use crate::view::{ColumnsMut, Rows};
#[cfg(target_arch = "x86_64")]
pub(crate) use head::BLOCK;
pub(crate) use head::Head;

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

/// Positions that a cache must hold: the whole context, or what the window of any row of a chunk still reaches.
#[must_use]
pub fn cache_capacity(context: u32, window: u32, max_rows: u32) -> u32 {
    if window == 0 {
        context
    } else {
        context.min(window.saturating_add(max_rows.saturating_sub(1)))
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
        k_cache: CacheMut<'_>,
        v_cache: CacheMut<'_>,
        out: &mut ColumnsMut<'_>,
    ) {
        let work = Work::new(op, kv_heads, capacity, out);
        match (k_cache, v_cache) {
            (CacheMut::F32(keys), CacheMut::F32(values)) => {
                #[cfg(target_arch = "x86_64")]
                if let Some(isa) = work.avx512(self) {
                    work.run(Single, keys, values, out, |head, query, positions, out| {
                        isa.attend(head.into(), query, positions, out);
                    });
                    return;
                }
                work.run_plain(self, Single, keys, values, out);
            }
            (CacheMut::F16(keys), CacheMut::F16(values)) => {
                #[cfg(target_arch = "x86_64")]
                if let Some(half) = crate::lanes::f16c::F16c::of(self) {
                    if let Some(isa) = work.avx512(self) {
                        work.run(half, keys, values, out, |head, query, positions, out| {
                            isa.attend(head.into(), query, positions, out);
                        });
                        return;
                    }
                    work.run_plain(self, half, keys, values, out);
                    return;
                }
                #[cfg(target_arch = "aarch64")]
                if let Some(half) = crate::lanes::neon_half::NeonHalf::of(self) {
                    work.run_plain(self, half, keys, values, out);
                    return;
                }
                work.run_plain(self, PortableHalf, keys, values, out);
            }
            _ => panic!("keys and values must be of one dtype"),
        }
    }
}

/// Checked operands.
struct Work<'a> {
    op: &'a Attention<'a>,
    kv_heads: Range<usize>,
    capacity: usize,
    head_dim: usize,
    /// Query heads of a key/value head.
    group: usize,
}

impl<'a> Work<'a> {
    fn new(
        op: &'a Attention<'a>,
        kv_heads: Range<usize>,
        capacity: usize,
        out: &ColumnsMut<'_>,
    ) -> Self {
        let &Attention { q, k, v, position, window, n_heads, n_kv_heads, .. } = op;
        assert!(
            n_kv_heads > 0 && n_heads.is_multiple_of(n_kv_heads),
            "key/value heads must divide the heads"
        );
        assert!(kv_heads.start <= kv_heads.end && kv_heads.end <= n_kv_heads, "heads out of range");
        let (rows, group) = (q.len(), n_heads / n_kv_heads);
        let head_dim = k.width() / n_kv_heads;
        assert_eq!(k.width(), n_kv_heads * head_dim, "width of the keys");
        assert_eq!(q.width(), n_heads * head_dim, "width of the queries");
        assert_eq!((k.len(), v.len(), v.width()), (rows, rows, k.width()), "keys and values");
        assert_eq!((out.len(), out.width()), (rows, kv_heads.len() * group * head_dim), "out");
        let before = if window == 0 { position } else { position.min(window - 1) };
        assert!(
            before as usize + rows <= capacity,
            "the cache is too small for what is attended to"
        );
        Self { op, kv_heads, capacity, head_dim, group }
    }

    /// The kernel of AVX-512, if the machine and the width of a head allow it.
    #[cfg(target_arch = "x86_64")]
    fn avx512(&self, isa: Isa) -> Option<crate::arch::avx512_vnni::Avx512Vnni> {
        match isa.0 {
            crate::isa::Kind::Avx512Vnni(isa) if self.head_dim.is_multiple_of(LANES) => Some(isa),
            _ => None,
        }
    }

    fn run_plain<C: Cached>(
        &self,
        isa: Isa,
        cached: C,
        keys: &mut [C::Number],
        values: &mut [C::Number],
        out: &mut ColumnsMut<'_>,
    ) {
        self.run(cached, keys, values, out, |head, queries, positions, out| {
            isa.run(
                #[inline(always)]
                || head.attend_all(queries, positions, out),
            );
        });
    }

    /// Appends, and calls `attend` with the queries of each row and key/value head.
    fn run<C: Cached>(
        &self,
        cached: C,
        keys: &mut [C::Number],
        values: &mut [C::Number],
        out: &mut ColumnsMut<'_>,
        attend: impl Fn(&Head<'_, C>, &[f32], Range<usize>, &mut [f32]),
    ) {
        let block = self.capacity * self.head_dim;
        assert_eq!(keys.len(), self.kv_heads.len() * block, "cache of keys");
        assert_eq!(values.len(), self.kv_heads.len() * block, "cache of values");
        if block == 0 {
            return;
        }
        let width = self.group * self.head_dim;
        let blocks = keys.chunks_exact_mut(block).zip(values.chunks_exact_mut(block));
        for ((index, kv_head), (keys, values)) in self.kv_heads.clone().enumerate().zip(blocks) {
            self.append(cached, kv_head, self.op.k, keys);
            self.append(cached, kv_head, self.op.v, values);
            let head = Head { cached, keys, values, head_dim: self.head_dim, scale: self.op.scale };
            for row in 0..self.op.q.len() {
                let queries = &self.op.q.row(row)[kv_head * width..][..width];
                let out = &mut out.row_mut(row)[index * width..][..width];
                attend(&head, queries, self.positions(row), out);
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
