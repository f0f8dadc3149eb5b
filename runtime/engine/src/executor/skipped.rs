//! What skipped layers do with a token that left before them, where its state is neither exact nor left alone.

use core::ops::Range;

use dynamax_bundle::{Op, TensorId};

use super::Step;
use crate::crew::Worker;
use crate::schedule::{Item, Schedule, Work};

impl Step<'_> {
    /// Runs what leads to the states of some operators, and nothing else, with one row for the whole residual stream
    /// (Schuster et al. 2022, section 3.2, for keys and values).
    ///
    /// Barriers are those of the whole schedule: what is left out must not let a worker run ahead into memory that
    /// another still reads.
    pub(crate) fn propagate(&self, ops: Range<usize>, worker: Worker<'_>) {
        if let Some(device) = self.device {
            return device.propagate(&self.job(), ops);
        }
        for Item { work, barrier, .. } in Schedule::new(self.model.program(), ops) {
            if barrier {
                worker.wait();
            }
            match work {
                Work::Rows(step) if self.leads(step) => {
                    self.by_rows(&self.model.program().ops[step], worker);
                }
                Work::Columns(step) if self.leads(step) => self.update(step, worker),
                Work::Quantize { first, end, x } if (first..end).any(|step| self.leads(step)) => {
                    self.quantize(first, x, worker);
                }
                Work::Linears { first, end, x, quantized } => {
                    let input = self.linear_input(first, x, quantized);
                    for step in (first..end).filter(|step| self.leads(*step)) {
                        self.share_panels(step..step + 1, input, worker);
                    }
                }
                _ => {}
            }
        }
        worker.wait();
    }

    fn leads(&self, step: usize) -> bool {
        self.model.leads_to_state(step)
    }

    /// An operator that updates a state: attention appends without attending, unless a state reads what it says.
    fn update(&self, step: usize, worker: Worker<'_>) {
        let op = &self.model.program().ops[step];
        match *op {
            Op::Attention { k, v, k_cache, v_cache, out, n_kv_heads, .. }
                if !self.model.is_wanted(out) =>
            {
                self.append(k, k_cache, n_kv_heads, worker);
                self.append(v, v_cache, n_kv_heads, worker);
            }
            _ => self.by_columns(op, worker),
        }
    }

    pub(super) fn append(
        &self,
        rows: TensorId,
        cache: TensorId,
        n_kv_heads: u32,
        worker: Worker<'_>,
    ) {
        let n_kv_heads = n_kv_heads as usize;
        let heads = worker.share(n_kv_heads);
        if heads.is_empty() {
            return;
        }
        let (rows, capacity) = (self.read(rows), self.model.planned_rows(cache));
        let head_dim = rows.width() / n_kv_heads;
        let cache = self.cache(cache, heads.clone(), n_kv_heads);
        self.isa.append(rows, head_dim, self.cache_position, heads, capacity, cache);
    }

    /// Copies the newest keys and values of one attention operator to the same place of another's caches
    /// (arXiv 2504.20922). Both have caches of one shape but for their length.
    pub(crate) fn copy_caches(&self, from: usize, to: usize, worker: Worker<'_>) {
        if let Some(device) = self.device {
            return device.copy_caches(&self.job(), from, to);
        }
        let ops = self.model.program().ops;
        let (
            Op::Attention { k_cache: from_k, v_cache: from_v, n_kv_heads, .. },
            Op::Attention { k_cache: to_k, v_cache: to_v, .. },
        ) = (ops[from], ops[to])
        else {
            return;
        };
        let heads = worker.share(n_kv_heads as usize);
        for head in heads {
            for (from, to) in [(from_k, to_k), (from_v, to_v)] {
                self.copy_slot(from, to, head, n_kv_heads as usize);
            }
        }
    }

    fn copy_slot(&self, from: TensorId, to: TensorId, head: usize, n_kv_heads: usize) {
        use dynamax_kernels::ops::CacheMut;
        let head_dim = self.model.grid(from).width / n_kv_heads;
        let slot = |cache| {
            let slot = self.cache_position as usize % self.model.planned_rows(cache);
            slot * head_dim..(slot + 1) * head_dim
        };
        let (from_slot, to_slot) = (slot(from), slot(to));
        let source = self.cache(from, head..head + 1, n_kv_heads);
        match (source, self.cache(to, head..head + 1, n_kv_heads)) {
            (CacheMut::F32(source), CacheMut::F32(target)) => {
                target[to_slot].copy_from_slice(&source[from_slot]);
            }
            (CacheMut::F16(source), CacheMut::F16(target)) => {
                target[to_slot].copy_from_slice(&source[from_slot]);
            }
            _ => unreachable!("all caches of a bundle have one dtype"),
        }
    }
}
