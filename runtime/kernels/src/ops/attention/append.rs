//! Appending to a cache.

use core::ops::Range;

use crate::isa::Isa;
use crate::lanes::cached::{Cached, PortableHalf, Single};
use crate::view::Rows;

use super::CacheMut;

impl Isa {
    /// Appends the rows of some heads to a cache without attending: for a token whose answer is known already.
    ///
    /// # Shapes
    ///
    /// - `rows`: `[rows, n_kv_heads · head_dim]`, of all heads
    /// - `cache`: `[kv_heads, capacity, head_dim]`, updated: these key/value heads only
    ///
    /// # Panics
    ///
    /// Panics if the cache is shorter than its shape.
    pub fn append(
        self,
        rows: Rows<'_>,
        head_dim: usize,
        position: u32,
        kv_heads: Range<usize>,
        capacity: usize,
        cache: CacheMut<'_>,
    ) {
        match cache {
            CacheMut::F32(cache) => {
                append(Single, rows, head_dim, position, kv_heads, capacity, cache);
            }
            CacheMut::F16(cache) => {
                append(PortableHalf, rows, head_dim, position, kv_heads, capacity, cache);
            }
        }
    }
}

fn append<C: Cached>(
    cached: C,
    rows: Rows<'_>,
    head_dim: usize,
    position: u32,
    kv_heads: Range<usize>,
    capacity: usize,
    cache: &mut [C::Number],
) {
    for (head, cache) in kv_heads.zip(cache.chunks_exact_mut(capacity * head_dim)) {
        for row in 0..rows.len() {
            let slot = (position as usize + row) % capacity;
            let from = &rows.row(row)[head * head_dim..][..head_dim];
            for (to, &x) in cache[slot * head_dim..].iter_mut().zip(from) {
                *to = cached.narrow(x);
            }
        }
    }
}
