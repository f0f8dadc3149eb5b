//! Appending to a cache.

use crate::lanes::cached::Cached;
use crate::view::Rows;

use super::Work;

impl Work<'_> {
    /// Writes the rows of one head to their slots.
    pub(super) fn append<C: Cached>(
        &self,
        cached: C,
        kv_head: usize,
        rows: Rows<'_>,
        cache: &mut [C::Number],
    ) {
        let head_dim = self.head_dim;
        for row in 0..rows.len() {
            let slot = (self.op.position as usize + row) % self.capacity;
            let from = &rows.row(row)[kv_head * head_dim..][..head_dim];
            for (to, &x) in cache[slot * head_dim..].iter_mut().zip(from) {
                *to = cached.narrow(x);
            }
        }
    }
}
