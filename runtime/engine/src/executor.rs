//! The step: every operator of a Program, on the rows of a chunk, by the workers of a crew.
//!
//! Each worker walks through the whole [`Schedule`] and does its share of each operator. No sum is ever split between
//! workers, so the bits do not depend on their number.
#![expect(unsafe_code, reason = "takes views of the shared arena")]

use core::ops::Range;

use dynamax_bundle::{Activation, Kind, Op, Rows as RowCount, TensorId};
use dynamax_kernels::format::PANEL;
use dynamax_kernels::linear::Input;
use dynamax_kernels::ops::{CausalConv, ConvActivation, SelectiveScan, SsdShape, StateSpaceDual};
use dynamax_kernels::quantize::QuantizedRows;
use dynamax_kernels::view::{LANES, Rows};
use dynamax_kernels::{Isa, Matrix};

use crate::arena::{Arena, Grid};
use crate::crew::Worker;
use crate::device::{Device, Job};
use crate::model::Model;
use crate::schedule::{Item, Schedule, Work};

mod attention;
mod drafts;
mod skipped;

pub use drafts::Log;

/// Bytes of weights from which on workers take panels as they go: reading them takes far longer than agreeing on who does.
const TAKEN_BYTES: usize = 256 << 10;

/// Panels that are taken at least: one row multiplies four at once.
const LEAST_PANELS: usize = 4;

/// One step over some rows: what all workers share.
#[derive(Clone, Debug)]
pub(crate) struct Step<'m> {
    pub(crate) model: Model<'m>,
    pub(crate) arena: Arena<'m>,
    pub(crate) isa: Isa,
    /// Ids of the rows' tokens; not read where nothing is embedded.
    pub(crate) tokens: &'m [u32],
    /// Rows that run.
    pub(crate) rows: usize,
    /// Absolute position of row 0.
    pub(crate) position: u32,
    /// Place of row 0 in the caches: its position, unless tokens before it were skipped.
    pub(crate) cache_position: u32,
    /// The rows that [`Op::Select`] picks.
    pub(crate) selected: Range<usize>,
    /// A residual whose rows start further down, behind those that wait there.
    pub(crate) shifted: Option<(TensorId, usize)>,
    /// Read in place of the whole residual stream, where a state is propagated.
    pub(crate) stream: Option<TensorId>,
    /// Rows may be drafts, and are logged.
    pub(crate) log: Option<Log>,
    /// States that have two places are in the second one.
    pub(crate) swapped: bool,
    /// Runs the operators in place of the crew.
    pub(crate) device: Option<&'m dyn Device>,
}

impl Step<'_> {
    /// Runs some operators; returns when all workers have done their shares of all of them.
    pub(crate) fn run(&self, ops: Range<usize>, worker: Worker<'_>) {
        if let Some(device) = self.device {
            return device.run(&self.job(), ops);
        }
        for Item { work, barrier, .. } in Schedule::new(self.model.program(), ops) {
            if barrier {
                worker.wait();
            }
            worker.work(work.ops(), || match work {
                Work::Rows(step) => self.by_rows(&self.model.program().ops[step], worker),
                Work::Columns(step) => self.by_columns(&self.model.program().ops[step], worker),
                Work::Quantize { first, x, .. } => self.quantize(first, x, worker),
                Work::Linears { first, end, x, quantized } => {
                    let input = self.linear_input(first, x, quantized);
                    self.take_panels(first..end, input, worker);
                }
            });
        }
        worker.wait();
    }

    /// The step, for a device.
    fn job(&self) -> Job<'_> {
        let &Self { model, tokens, rows, position, cache_position, shifted, stream, log, .. } =
            self;
        let selected = self.selected.clone();
        Job { model, tokens, rows, position, cache_position, selected, shifted, stream, log }
    }

    /// Rows of a tensor in this step.
    fn rows(&self, id: TensorId) -> usize {
        let tensor = self.model.program().tensor(id);
        match tensor.rows {
            RowCount::Many => self.rows,
            RowCount::Fixed(_) if tensor.kind == Kind::Activation => self.selected.len(),
            RowCount::Fixed(_) | RowCount::Cache { .. } => self.model.planned_rows(id),
        }
    }

    /// Where the rows of a tensor are in this step.
    fn grid(&self, id: TensorId) -> Grid {
        let id = self.stream.filter(|_| self.model.is_stream(id)).unwrap_or(id);
        let mut grid = self.model.grid(id);
        if self.swapped
            && let Some(offset) = self.model.ahead(id)
        {
            grid.offset = offset;
        }
        if let Some(log) = self.log
            && let Some(offset) = self.model.log(id)
        {
            grid.offset = offset + log.rows * grid.stride * size_of::<f32>();
        }
        if let Some((shifted, row)) = self.shifted
            && shifted == id
        {
            grid.offset += row * grid.stride * size_of::<f32>();
        }
        grid
    }

    /// All rows of an activation that an operator reads.
    fn read(&self, id: TensorId) -> Rows<'_> {
        // SAFETY: `id` is an input of the current operator, which nobody writes until the next barrier.
        unsafe { self.arena.rows(self.grid(id), self.rows(id)) }
    }

    /// One row of an activation that this worker writes.
    #[expect(clippy::mut_from_ref, reason = "the arena is shared out")]
    fn write_row(&self, id: TensorId, row: usize) -> &mut [f32] {
        let grid = self.grid(id);
        let offset = grid.offset + row * grid.stride * size_of::<f32>();
        // SAFETY: `id` is the output of the current operator, and `row` is in this worker's share.
        unsafe { self.arena.slice_mut(offset, grid.width) }
    }

    /// Some columns of all rows of an output or a state, which this worker writes.
    fn write_columns(
        &self,
        id: TensorId,
        columns: Range<usize>,
    ) -> dynamax_kernels::view::ColumnsMut<'_> {
        // SAFETY: `id` is the output or a state of the current operator, and the columns are in this worker's share.
        unsafe { self.arena.columns_mut(self.grid(id), 0..self.rows(id), columns) }
    }

    /// Quantizes this worker's rows of `x` into the scratch of operator `first`.
    fn quantize(&self, first: usize, x: TensorId, worker: Worker<'_>) {
        let (scratch, row_bytes) =
            (self.model.scratch(first), QuantizedRows::row_bytes(self.grid(x).width));
        for row in worker.share(self.rows(x)) {
            // SAFETY: the scratch belongs to this run, and `row` is in this worker's share.
            let out = unsafe { self.arena.slice_mut::<u8>(scratch + row * row_bytes, row_bytes) };
            self.isa.quantize_row(self.read_row(x, row), out);
        }
    }

    /// What linear operators from `first` on read: what [`Self::quantize`] of all workers wrote, or `x` itself.
    fn linear_input(&self, first: usize, x: TensorId, quantized: bool) -> Input<'_> {
        if !quantized {
            return Input::F32(self.read(x));
        }
        let (rows, width) = (self.rows(x), self.grid(x).width);
        let len = rows * QuantizedRows::row_bytes(width);
        // SAFETY: written before the barrier, and read only until the next one.
        let bytes = unsafe { self.arena.slice::<u8>(self.model.scratch(first), len) };
        Input::Quantized(QuantizedRows::new(bytes, rows, width))
    }

    /// Runs some linear operators as if they were one matrix, whose panels workers take until none is left; of a small one each
    /// has an equal share.
    fn take_panels(&self, ops: Range<usize>, input: Input<'_>, worker: Worker<'_>) {
        let matrices = ops.clone().map(|step| self.linear(step).0);
        let bytes: usize = matrices.clone().map(|matrix| matrix.bytes()).sum();
        if worker.is_alone() || bytes < TAKEN_BYTES {
            return self.share_panels(ops, input, worker);
        }
        let total = matrices.map(|matrix| matrix.panels()).sum();
        while let Some(piece) = worker.take(total, LEAST_PANELS) {
            self.panels(ops.clone(), piece, input);
        }
    }

    /// Gives this worker an equal share of the panels of some linear operators.
    fn share_panels(&self, ops: Range<usize>, input: Input<'_>, worker: Worker<'_>) {
        let total = ops.clone().map(|step| self.linear(step).0.panels()).sum();
        self.panels(ops, worker.share(total), input);
    }

    /// Multiplies some panels of linear operators, counted as if they were one matrix.
    fn panels(&self, ops: Range<usize>, piece: Range<usize>, input: Input<'_>) {
        let mut first = 0;
        for step in ops {
            let (matrix, bias, out) = self.linear(step);
            let end = first + matrix.panels();
            let panels = piece.start.clamp(first, end) - first..piece.end.clamp(first, end) - first;
            first = end;
            if panels.is_empty() {
                continue;
            }
            let columns = panels.start * PANEL..(panels.end * PANEL).min(matrix.d_out());
            let bias = bias.map(|bias| self.model.numbers(bias));
            self.isa.linear(matrix, input, bias, panels, &mut self.write_columns(out, columns));
        }
    }

    /// The weight, bias and output of a linear operator.
    fn linear(&self, step: usize) -> (Matrix<'_>, Option<TensorId>, TensorId) {
        match self.model.program().ops[step] {
            Op::Linear { weight, bias, out, .. } => (self.model.matrix(weight), bias, out),
            _ => unreachable!("a run holds linear operators only"),
        }
    }

    /// An operator whose rows do not depend on each other.
    fn by_rows(&self, op: &Op, worker: Worker<'_>) {
        let isa = self.isa;
        for row in worker.share(self.rows(op.operands().output)) {
            let read = |id| self.read_row(id, row);
            match *op {
                Op::Embed { table, out } => {
                    let token = self.tokens[row] as usize;
                    self.model.matrix(table).row_into(token, self.write_row(out, row));
                }
                Op::RmsNorm { x, weight, out, group, eps } => {
                    let weight = self.model.numbers(weight);
                    isa.rms_norm(read(x), weight, group as usize, eps, self.write_row(out, row));
                }
                Op::GatedRmsNorm { x, gate, weight, out, group, eps } => {
                    let weight = self.model.numbers(weight);
                    let out = self.write_row(out, row);
                    isa.gated_rms_norm(read(x), read(gate), weight, group as usize, eps, out);
                }
                Op::Add { a, b, out } => isa.add(read(a), read(b), self.write_row(out, row)),
                Op::SwiGlu { gate, up, out } => {
                    isa.swiglu(read(gate), read(up), self.write_row(out, row));
                }
                Op::Silu { x, out } => isa.silu(read(x), self.write_row(out, row)),
                Op::RopeAngles { inv_freq, out } => {
                    let position = self.position + row as u32;
                    isa.rope_angles(
                        self.model.numbers(inv_freq),
                        position,
                        self.write_row(out, row),
                    );
                }
                Op::Rope { x, angles, out, .. } => {
                    isa.rope(read(x), read(angles), self.write_row(out, row));
                }
                Op::Select { .. }
                | Op::Linear { .. }
                | Op::Attention { .. }
                | Op::CausalConv { .. }
                | Op::SelectiveScan { .. }
                | Op::StateSpaceDual { .. } => unreachable!("shared by columns"),
            }
        }
    }

    /// One row of an activation that this worker wrote, or that was written before a barrier.
    fn read_row(&self, id: TensorId, row: usize) -> &[f32] {
        let grid = self.grid(id);
        let offset = grid.offset + row * grid.stride * size_of::<f32>();
        // SAFETY: an input of the current operator; nobody else writes this row until the next barrier.
        unsafe { self.arena.slice(offset, grid.width) }
    }

    /// An operator that mixes rows, shared by heads or channels.
    fn by_columns(&self, op: &Op, worker: Worker<'_>) {
        match *op {
            Op::Select { x, out } => {
                for row in worker.share(self.selected.len()) {
                    let from = self.read_row(x, self.selected.start + row);
                    self.write_row(out, row).copy_from_slice(from);
                }
            }
            Op::Attention { .. } => self.attention(op, worker),
            Op::CausalConv { .. } => self.causal_conv(op, worker),
            Op::SelectiveScan { .. } => self.selective_scan(op, worker),
            Op::StateSpaceDual { .. } => self.state_space_dual(op, worker),
            _ => unreachable!("shared by rows"),
        }
    }

    fn causal_conv(&self, op: &Op, worker: Worker<'_>) {
        let Op::CausalConv { x, weight, bias, state, out, activation } = *op else { return };
        let channels = self.channels(out, worker);
        if channels.is_empty() {
            return;
        }
        let conv = CausalConv {
            x: self.history(x, self.drafts()).columns(channels.clone()),
            weight: self.plain(weight).columns(channels.clone()),
            bias: bias.map(|bias| &self.model.numbers(bias)[channels.clone()]),
            activation: match activation {
                Activation::Identity => ConvActivation::Identity,
                Activation::Silu => ConvActivation::Silu,
            },
        };
        let mut state = self.write_columns(state, channels.clone());
        let mut out = self.write_columns(out, channels);
        self.isa.causal_conv_span(&conv, self.span(), &mut state, &mut out);
    }

    fn selective_scan(&self, op: &Op, worker: Worker<'_>) {
        let Op::SelectiveScan { x, dt, bc, a, d, state, out } = *op else { return };
        let channels = self.channels(out, worker);
        if channels.is_empty() {
            return;
        }
        let before = self.replayed(state);
        let scan = SelectiveScan {
            x: self.history(x, before).columns(channels.clone()),
            dt: self.history(dt, before).columns(channels.clone()),
            bc: self.history(bc, before),
            a: self.plain(a).columns(channels.clone()),
            d: &self.model.numbers(d)[channels.clone()],
        };
        let mut out = self.write_columns(out, channels.clone());
        let ahead = self.ahead(state).map(|(log, at)| (log.goes_ahead(self.rows), at));
        let rows = 0..self.model.planned_rows(state);
        let mut state = self.write_columns(state, channels.clone());
        if let Some((how, at)) = ahead {
            // SAFETY: a state of the current operator, and the channels are in this worker's share.
            let mut ahead = unsafe { self.arena.columns_mut(at, rows, channels) };
            return self.isa.selective_scan_ahead(&scan, how, &mut state, &mut ahead, &mut out);
        }
        self.isa.selective_scan_span(&scan, self.span(), &mut state, &mut out);
    }

    fn state_space_dual(&self, op: &Op, worker: Worker<'_>) {
        let Op::StateSpaceDual {
            xbc,
            dt,
            dt_bias,
            a,
            d,
            state,
            out,
            n_heads,
            n_groups,
            d_state,
            dt_min,
            dt_max,
        } = *op
        else {
            return;
        };
        let (n_heads, n_groups, d_state) = (n_heads as usize, n_groups as usize, d_state as usize);
        let heads = worker.share(n_heads);
        if heads.is_empty() {
            return;
        }
        let head_dim = self.grid(out).width / n_heads;
        let before = self.replayed(state);
        let scan = StateSpaceDual {
            xbc: self.history(xbc, before),
            dt: self.history(dt, before),
            dt_bias: self.model.numbers(dt_bias),
            a: self.model.numbers(a),
            d: self.model.numbers(d),
            shape: SsdShape { n_heads, n_groups, d_state, head_dim, dt_min, dt_max },
        };
        let rows = heads.start * d_state..heads.end * d_state;
        let ahead = self.ahead(state).map(|(log, at)| (log.goes_ahead(self.rows), at));
        // SAFETY: a state of the current operator, and the heads are in this worker's share.
        let view = |at| unsafe { self.arena.columns_mut(at, rows.clone(), 0..head_dim) };
        let mut state = view(self.grid(state));
        let mut out = self.write_columns(out, heads.start * head_dim..heads.end * head_dim);
        if let Some((how, at)) = ahead {
            let mut ahead = view(at);
            return self
                .isa
                .state_space_dual_ahead(&scan, how, heads, &mut state, &mut ahead, &mut out);
        }
        self.isa.state_space_dual_span(&scan, self.span(), heads, &mut state, &mut out);
    }

    /// This worker's channels of an output: whole lanes, so that no two workers share a cache line.
    fn channels(&self, out: TensorId, worker: Worker<'_>) -> Range<usize> {
        let width = self.grid(out).width;
        let share = worker.share(width.div_ceil(LANES));
        (share.start * LANES).min(width)..(share.end * LANES).min(width)
    }

    /// A plain weight as rows.
    fn plain(&self, id: TensorId) -> Rows<'_> {
        let width = self.grid(id).width;
        Rows::new(self.model.numbers(id), self.model.planned_rows(id), width, width)
    }
}
