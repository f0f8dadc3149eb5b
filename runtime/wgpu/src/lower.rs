//! From an operator of the Program to dispatches: which kernel, over which words, with which sizes.

use bytemuck::{Pod, Zeroable};
use dynamax_bundle::{Activation, DType, Op, Rows, TensorId};
use dynamax_engine::{Model, memory};
use dynamax_kernels::format::BLOCK;
use dynamax_kernels::{Format, QuantizedRows};

use crate::kernel::Kernel;
use crate::tape::NONE;
use crate::weights::Piece;

/// What a kernel is told once; `Op` in the shaders.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Constants {
    x: [u32; 2],
    y: [u32; 2],
    z: [u32; 2],
    out: [u32; 2],
    n: [u32; 4],
    m: [u32; 4],
    f: [f32; 4],
    flags: u32,
    unused: [u32; 3],
    logs: [u32; 4],
}

impl Constants {
    /// First word that is read, and words from row to row.
    pub(crate) fn reads(&self) -> [u32; 2] {
        self.x
    }

    /// First word that is written, and words from row to row.
    pub(crate) fn writes(&self) -> [u32; 2] {
        self.out
    }
}

/// A flag of [`Constants`]: rows are those that were selected.
const SELECTED: u32 = 8;

/// How many work groups there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// So many, for each row.
    EachRow(u32),
    /// So many, for all rows, which a thread walks through.
    AllRows(u32),
    /// So many, for each tile of rows.
    Tiles(u32),
}

/// What is computed on this side and uploaded: rows of a table, or angles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uploaded {
    Nothing,
    Rows { table: TensorId },
    Angles { inv_freq: TensorId },
}

/// A dispatch before its buffers are bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    pub(crate) kernel: Kernel,
    pub(crate) constants: Constants,
    /// A weight, and which piece of it.
    pub(crate) weights: [Option<(TensorId, usize)>; 3],
    pub(crate) states: [Option<TensorId>; 2],
    pub(crate) groups: Groups,
    /// The activation whose rows are computed.
    pub(crate) out: TensorId,
    pub(crate) uploaded: Uploaded,
}

impl Draft {
    /// The search for the largest number of a row.
    pub(crate) fn argmax(out: TensorId) -> Self {
        Self {
            kernel: Kernel::Argmax,
            constants: Constants::default(),
            weights: [None; 3],
            states: [None; 2],
            groups: Groups::AllRows(1),
            out,
            uploaded: Uploaded::Nothing,
        }
    }
}

/// Threads in a work group, where each has a number.
const GROUP: u32 = 64;

/// Blocks that a work group quantizes.
const BLOCKS: u32 = 32;

/// Lowers the operators of one model.
pub(crate) struct Lowering<'m> {
    pub(crate) model: Model<'m>,
    pub(crate) weights: &'m [Vec<Piece>],
}

impl Lowering<'_> {
    /// The dispatches of operator `step`, in order.
    pub(crate) fn lower(&self, step: usize) -> Vec<Draft> {
        let op = &self.model.program().ops[step];
        match *op {
            Op::Linear { .. } => self.linear(step),
            Op::Attention { .. } => self.attention(op),
            Op::CausalConv { .. } => vec![self.conv(op)],
            Op::SelectiveScan { .. } | Op::StateSpaceDual { .. } => vec![self.scan(op)],
            _ => vec![self.rowwise(op)],
        }
    }

    /// First word of an activation, and words from row to row.
    fn place(&self, id: TensorId) -> [u32; 2] {
        let place = self.model.plan_of(id);
        [(place.offset / 4) as u32, place.stride as u32]
    }

    /// First word of an activation in the log, which lies behind the arena.
    fn log(&self, id: TensorId) -> u32 {
        let arena = self.model.sizes().arena_bytes as usize;
        self.model.log_of(id).map_or(NONE, |offset| ((arena + offset) / 4) as u32)
    }

    fn width(&self, id: TensorId) -> u32 {
        self.model.program().tensor(id).width
    }

    fn is_half(&self, id: TensorId) -> u32 {
        u32::from(self.model.program().tensor(id).dtype == DType::F16)
    }

    /// A dispatch that reads some activations, in the order x, y, z, and has a thread for each of `threads` numbers of a row.
    fn draft(&self, kernel: Kernel, reads: &[TensorId], out: TensorId, threads: u32) -> Draft {
        let logs = [NONE, NONE, NONE, self.log(out)];
        let mut constants = Constants { out: self.place(out), logs, ..Constants::default() };
        for (index, &id) in reads.iter().enumerate() {
            let place = self.place(id);
            match index {
                0 => constants.x = place,
                1 => constants.y = place,
                _ => constants.z = place,
            }
            constants.flags |= u32::from(self.model.carries(id)) << index;
            constants.logs[index] = self.log(id);
        }
        if matches!(self.model.program().tensor(out).rows, Rows::Fixed(_)) {
            constants.flags |= SELECTED;
        }
        Draft {
            kernel,
            constants,
            weights: [None; 3],
            states: [None; 2],
            groups: Groups::EachRow(threads.div_ceil(GROUP)),
            out,
            uploaded: Uploaded::Nothing,
        }
    }

    fn rowwise(&self, op: &Op) -> Draft {
        let out = op.operands().output;
        let width = self.width(out);
        let draft = |kernel, reads: &[TensorId], n| {
            let mut draft = self.draft(kernel, reads, out, width);
            draft.constants.n = n;
            draft
        };
        match *op {
            Op::Embed { table, .. } => {
                let uploaded = Uploaded::Rows { table };
                Draft { uploaded, ..draft(Kernel::Upload, &[], [width, 0, 0, 0]) }
            }
            Op::RopeAngles { inv_freq, .. } => {
                let uploaded = Uploaded::Angles { inv_freq };
                Draft { uploaded, ..draft(Kernel::Upload, &[], [width, 0, 0, 0]) }
            }
            Op::RmsNorm { x, weight, group, eps, .. } => {
                let n = [group, self.width(weight), 0, 0];
                norm(draft(Kernel::Norm, &[x], n), width, weight, eps)
            }
            Op::GatedRmsNorm { x, gate, weight, group, eps, .. } => {
                let n = [group, self.width(weight), 1, 0];
                norm(draft(Kernel::Norm, &[x, gate], n), width, weight, eps)
            }
            Op::Add { a, b, .. } => draft(Kernel::Map, &[a, b], [width, 0, 0, 0]),
            Op::SwiGlu { gate, up, .. } => draft(Kernel::Map, &[gate, up], [width, 1, 0, 0]),
            Op::Silu { x, .. } => draft(Kernel::Map, &[x, x], [width, 2, 0, 0]),
            Op::Rope { x, angles, head_dim, .. } => {
                let groups = Groups::EachRow((width / 2).div_ceil(GROUP));
                Draft { groups, ..draft(Kernel::Rope, &[x, angles], [width, head_dim, 0, 0]) }
            }
            Op::Select { x, .. } => draft(Kernel::Pick, &[x], [width, 0, 0, 0]),
            _ => unreachable!("has a state, or a packed weight"),
        }
    }

    /// Quantization of the input, where it is the first of a run, then a product with each piece of the weight.
    fn linear(&self, step: usize) -> Vec<Draft> {
        let Op::Linear { x, weight, bias, out } = self.model.program().ops[step] else {
            unreachable!("another operator")
        };
        let tensor = self.model.program().tensor(weight);
        let (format, d_in) = (memory::format(tensor.dtype), tensor.width);
        let kernel = match format {
            Format::Q4 => Kernel::LinearQ4,
            Format::Q8 => Kernel::LinearQ8,
            Format::F16 | Format::F32 => Kernel::LinearFloat,
        };
        let mut drafts = Vec::new();
        let mut reads = self.place(x);
        if format.is_quantized() {
            let row_words = QuantizedRows::row_bytes(d_in as usize) / 4;
            reads = [(self.model.scratch_of(self.run_of(step)) / 4) as u32, row_words as u32];
            let mut quantize = self.draft(Kernel::Quantize, &[x], x, 0);
            quantize.groups = Groups::EachRow(d_in.div_ceil(BLOCK as u32).div_ceil(BLOCKS));
            (quantize.constants.out, quantize.constants.n[0]) = (reads, d_in);
            quantize.constants.logs[3] = NONE;
            drafts.push(quantize);
        }
        let panel_bytes = format.panel_bytes(d_in as usize);
        let panel_words = panel_bytes.map_or(0, |bytes| bytes / 4) as u32;
        let scale_words = (d_in.div_ceil(BLOCK as u32) * 32).next_multiple_of(64) / 4;
        for (index, piece) in self.weights[weight.index()].iter().enumerate() {
            let mut draft = self.draft(kernel, &[x], out, 0);
            let constants = &mut draft.constants;
            if format.is_quantized() {
                (constants.x, constants.flags) = (reads, constants.flags & SELECTED);
                constants.logs[0] = NONE;
            }
            constants.n = [d_in, self.width(out), panel_words, piece.first_panel as u32];
            constants.m =
                [u32::from(bias.is_some()), 0, scale_words, u32::from(format == Format::F16)];
            draft.weights = [Some((weight, index)), bias.map(|bias| (bias, 0)), None];
            draft.groups = Groups::Tiles(piece.panels as u32);
            drafts.push(draft);
        }
        drafts
    }

    /// The first of the linear operators before `step` that read the same, one after the other: the plan has room for their
    /// quantized input there.
    fn run_of(&self, step: usize) -> usize {
        let program = self.model.program();
        let reads = |step: usize| match program.ops[step] {
            Op::Linear { x, weight, .. } => {
                let format = memory::format(program.tensor(weight).dtype);
                format.is_quantized().then_some(x)
            }
            _ => None,
        };
        let starts = |step: usize| {
            program.segments.iter().any(|segment| segment.ops().start == step)
                || program.head().start == step
                || program
                    .exits
                    .iter()
                    .any(|exit| [exit.probe().start, exit.head().start].contains(&step))
        };
        let mut first = step;
        while first > 0 && !starts(first) && reads(first - 1) == reads(step) {
            first -= 1;
        }
        first
    }

    /// Appends keys and values, attends.
    fn attention(&self, op: &Op) -> Vec<Draft> {
        let Op::Attention { q, k, v, k_cache, v_cache, out, n_heads, n_kv_heads, scale } = *op
        else {
            unreachable!("another operator")
        };
        let window = match self.model.program().tensor(k_cache).rows {
            Rows::Cache { window } => window,
            Rows::Fixed(_) | Rows::Many => 0,
        };
        let head_dim = self.width(k) / n_kv_heads;
        let (capacity, group) = (self.model.rows_of(k_cache) as u32, n_heads / n_kv_heads);
        let mut append = self.draft(Kernel::Append, &[k, v], k, self.width(k) / 2);
        append.constants.n = [head_dim, capacity, n_kv_heads, self.is_half(k_cache)];
        append.states = [Some(k_cache), Some(v_cache)];
        let mut attend = self.draft(Kernel::Attend, &[q], out, 0);
        attend.constants.n = [head_dim, capacity, group, self.is_half(k_cache)];
        (attend.constants.m[0], attend.constants.f[0]) = (window, scale);
        attend.states = [Some(k_cache), Some(v_cache)];
        attend.groups = Groups::EachRow(n_heads);
        vec![append, attend]
    }

    fn conv(&self, op: &Op) -> Draft {
        let Op::CausalConv { x, weight, bias, state, out, activation } = *op else {
            unreachable!("another operator")
        };
        let (channels, taps) = (self.width(out), self.model.rows_of(weight) as u32);
        let mut draft = self.draft(Kernel::Conv, &[x], out, 0);
        let silu = u32::from(activation == Activation::Silu);
        draft.constants.n = [channels, taps, silu, self.place(state)[1]];
        draft.constants.m[0] = u32::from(bias.is_some());
        draft.weights = [Some((weight, 0)), bias.map(|bias| (bias, 0)), None];
        draft.states[0] = Some(state);
        draft.groups = Groups::AllRows(channels.div_ceil(GROUP));
        draft
    }

    /// A recurrence over the whole state.
    fn scan(&self, op: &Op) -> Draft {
        let out = op.operands().output;
        let groups = Groups::AllRows(self.width(out).div_ceil(GROUP));
        let mut draft = match *op {
            Op::SelectiveScan { x, dt, bc, a, d, state, .. } => {
                let mut draft = self.draft(Kernel::Scan, &[x, dt, bc], out, 0);
                let d_state = self.model.rows_of(state) as u32;
                draft.constants.n = [self.width(out), d_state, self.place(state)[1], 0];
                draft.weights = [Some((a, 0)), Some((d, 0)), None];
                draft.states[0] = Some(state);
                draft
            }
            Op::StateSpaceDual {
                xbc,
                dt,
                dt_bias,
                a,
                d,
                state,
                n_heads,
                n_groups,
                d_state,
                dt_min,
                dt_max,
                ..
            } => {
                let mut draft = self.draft(Kernel::Dual, &[xbc, dt], out, 0);
                draft.constants.n = [n_heads, n_groups, d_state, self.width(out) / n_heads];
                draft.constants.m[0] = self.place(state)[1];
                // A shader need not know infinities.
                draft.constants.f = [dt_min, dt_max.min(f32::MAX), 0.0, 0.0];
                draft.weights = [dt_bias, a, d].map(|id| Some((id, 0)));
                draft.states[0] = Some(state);
                draft
            }
            _ => unreachable!("another operator"),
        };
        draft.groups = groups;
        draft
    }
}

/// A work group for each group of a row.
fn norm(draft: Draft, width: u32, weight: TensorId, eps: f32) -> Draft {
    let mut draft = draft;
    draft.constants.f[0] = eps;
    draft.weights[0] = Some((weight, 0));
    draft.groups = Groups::EachRow(width / draft.constants.n[0]);
    draft
}
