//! Appending to a cache.

use core::ops::Range;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use crate::isa::Isa;
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
                append(
                    rows,
                    head_dim,
                    position,
                    (kv_heads, capacity),
                    cache,
                    <[f32]>::copy_from_slice,
                );
            }
            CacheMut::F16(cache) => {
                let narrow = |to: &mut [u16], from: &[f32]| {
                    to.reinterpret_cast_mut::<half::f16>().convert_from_f32_slice(from);
                };
                append(rows, head_dim, position, (kv_heads, capacity), cache, narrow);
            }
        }
    }
}

/// Appends with what `narrow` makes of the numbers: themselves, or rounded to nearest, ties to even.
fn append<N>(
    rows: Rows<'_>,
    head_dim: usize,
    position: u32,
    (kv_heads, capacity): (Range<usize>, usize),
    cache: &mut [N],
    narrow: impl Fn(&mut [N], &[f32]),
) {
    for (head, cache) in kv_heads.zip(cache.chunks_exact_mut(capacity * head_dim)) {
        for row in 0..rows.len() {
            let slot = (position as usize + row) % capacity;
            let from = &rows.row(row)[head * head_dim..][..head_dim];
            narrow(&mut cache[slot * head_dim..][..head_dim], from);
        }
    }
}
