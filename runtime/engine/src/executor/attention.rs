//! Attention: who does which heads and rows.
//!
//! One row is shared by key/value heads. Of more rows, all keys and values are appended first; then workers share heads and
//! rows, by what they cost, as two workers would not share three heads evenly.

use core::ops::Range;

use dynamax_bundle::{DType, Op, Rows as RowCount, TensorId};
use dynamax_kernels::ops::{Attention, Cache, CacheMut};

use super::Step;
use crate::crew::Worker;

/// Rows that one worker takes together: whole tiles of queries, whatever the group of a head.
const ROWS: usize = 16;

/// Keys and values of an attention operator.
struct Caches {
    keys: TensorId,
    values: TensorId,
    capacity: usize,
}

impl Step<'_> {
    pub(super) fn attention(&self, op: &Op, worker: Worker<'_>) {
        let Op::Attention { q, k, v, k_cache, v_cache, out, n_heads, n_kv_heads, scale } = *op
        else {
            return;
        };
        let window = match self.model.program().tensor(k_cache).rows {
            RowCount::Cache { window } => window,
            RowCount::Fixed(_) | RowCount::Many => 0,
        };
        let attention = Attention {
            q: self.read(q),
            k: self.read(k),
            v: self.read(v),
            position: self.cache_position,
            window,
            n_heads: n_heads as usize,
            n_kv_heads: n_kv_heads as usize,
            scale,
        };
        let capacity = self.model.planned_rows(k_cache);
        let caches = Caches { keys: k_cache, values: v_cache, capacity };
        if attention.q.len() == 1 || worker.is_alone() {
            self.attend_by_heads(&attention, &caches, out, worker);
        } else {
            self.append(k, k_cache, n_kv_heads, worker);
            self.append(v, v_cache, n_kv_heads, worker);
            worker.wait();
            self.attend_by_rows(&attention, &caches, out, worker);
        }
    }

    /// Appends and attends for this worker's share of the heads.
    fn attend_by_heads(
        &self,
        op: &Attention<'_>,
        caches: &Caches,
        out: TensorId,
        worker: Worker<'_>,
    ) {
        let heads = worker.share(op.n_kv_heads);
        if heads.is_empty() {
            return;
        }
        let width = op.q.width() / op.n_kv_heads;
        let mut out = self.write_columns(out, heads.start * width..heads.end * width);
        let keys = self.cache(caches.keys, heads.clone(), op.n_kv_heads);
        let values = self.cache(caches.values, heads.clone(), op.n_kv_heads);
        self.isa.attention(op, heads, caches.capacity, keys, values, &mut out);
    }

    /// Attends for this worker's share of the heads and rows; all workers have appended.
    fn attend_by_rows(
        &self,
        op: &Attention<'_>,
        caches: &Caches,
        out: TensorId,
        worker: Worker<'_>,
    ) {
        let width = op.q.width() / op.n_kv_heads;
        share_rows(op, worker, |head, rows| {
            let columns = head * width..(head + 1) * width;
            // SAFETY: the output of the current operator; these rows and columns are in this worker's share.
            let mut out = unsafe { self.arena.columns_mut(self.grid(out), rows.clone(), columns) };
            let heads = head..head + 1;
            let both = [caches.keys, caches.values]
                .map(|cache| self.read_cache(cache, heads.clone(), op.n_kv_heads));
            self.isa.attend(op, rows, heads, caches.capacity, both, &mut out);
        });
    }

    /// The part of a cache that belongs to some key/value heads, to write.
    pub(super) fn cache(
        &self,
        id: TensorId,
        heads: Range<usize>,
        n_kv_heads: usize,
    ) -> CacheMut<'_> {
        let (offset, len, is_half) = self.place(id, heads, n_kv_heads);
        if is_half {
            // SAFETY: a state of the current operator, and the heads are in this worker's share.
            CacheMut::F16(unsafe { self.arena.slice_mut(offset, len) })
        } else {
            // SAFETY: as above.
            CacheMut::F32(unsafe { self.arena.slice_mut(offset, len) })
        }
    }

    /// The same part, to read.
    fn read_cache(&self, id: TensorId, heads: Range<usize>, n_kv_heads: usize) -> Cache<'_> {
        let (offset, len, is_half) = self.place(id, heads, n_kv_heads);
        if is_half {
            // SAFETY: a state of the current operator, which was written before a barrier.
            Cache::F16(unsafe { self.arena.slice(offset, len) })
        } else {
            // SAFETY: as above.
            Cache::F32(unsafe { self.arena.slice(offset, len) })
        }
    }

    /// Where some heads of a cache lie: offset in bytes, numbers, and whether they are f16.
    fn place(&self, id: TensorId, heads: Range<usize>, n_kv_heads: usize) -> (usize, usize, bool) {
        let grid = self.grid(id);
        let per_head = self.model.planned_rows(id) * grid.width / n_kv_heads;
        let is_half = self.model.program().tensor(id).dtype == DType::F16;
        let size = if is_half { size_of::<u16>() } else { size_of::<f32>() };
        (grid.offset + heads.start * per_head * size, heads.len() * per_head, is_half)
    }
}

/// Calls `attend` with each head and its rows that are this worker's: in order, of nearly the same cost for all workers.
fn share_rows(op: &Attention<'_>, worker: Worker<'_>, mut attend: impl FnMut(usize, Range<usize>)) {
    let rows = op.q.len();
    let pieces = || (0..rows).step_by(ROWS).map(|start| start..rows.min(start + ROWS));
    // Positions that the last row of a piece attends to.
    let cost = |piece: &Range<usize>| {
        let positions = op.position as usize + piece.end;
        let window = if op.window == 0 { usize::MAX } else { op.window as usize };
        piece.len() * positions.min(window)
    };
    let total = op.n_kv_heads * pieces().map(|piece| cost(&piece)).sum::<usize>();
    let mut before = 0;
    for head in 0..op.n_kv_heads {
        let mut mine = 0..0;
        for piece in pieces() {
            let cost = cost(&piece);
            if worker.takes(2 * before + cost, 2 * total) {
                let start = if mine.is_empty() { piece.start } else { mine.start };
                mine = start..piece.end;
            }
            before += cost;
        }
        if !mine.is_empty() {
            attend(head, mine);
        }
    }
}

#[cfg(test)]
mod tests {
    use dynamax_kernels::view::Rows;

    use super::*;
    use crate::crew::Barrier;

    /// What each of `workers` computes: row by row, how often for each head, and the positions of all its rows.
    fn shared(op: &Attention<'_>, workers: usize) -> ([[usize; 64]; 8], [usize; 8]) {
        let (barrier, mut times, mut costs) = (Barrier::default(), [[0; 64]; 8], [0; 8]);
        for index in 0..workers {
            share_rows(op, Worker::new(index, workers, &barrier), |head, rows| {
                for row in rows {
                    times[head][row] += 1;
                    costs[index] += op.position as usize + row + 1;
                }
            });
        }
        (times, costs)
    }

    #[test]
    fn heads_and_rows_are_shared_once_and_evenly() {
        for (n_kv_heads, len, position) in [(3, 32, 480), (1, 64, 0), (8, 2, 7), (5, 50, 100)] {
            let x = Rows::new(&[0.0; 8 * 64], len, n_kv_heads, n_kv_heads);
            let (window, n_heads, scale) = (0, n_kv_heads, 1.0);
            let op = Attention { q: x, k: x, v: x, position, window, n_heads, n_kv_heads, scale };
            for workers in 1..4 {
                let (times, costs) = shared(&op, workers);
                for head in 0..8 {
                    for row in 0..64 {
                        let want = usize::from(head < n_kv_heads && row < len);
                        assert_eq!(times[head][row], want, "row {row} of head {head}");
                    }
                }
                if (n_kv_heads, workers) == (3, 2) {
                    let (a, b) = (costs[0], costs[1]);
                    assert!(a.abs_diff(b) * 20 < a + b, "three heads on two workers: {costs:?}");
                }
            }
        }
    }
}
