//! What a model holds when a GPU runs it, known before there is one.
//!
//! Where CPU and GPU share their memory, as on a Jetson, both parts come out of it. Weights are in it once: what was read of the
//! file to copy them is given back.

use core::fmt;

use dynamax_bundle::{DType, Kind, Op, Rows, TensorId};
use dynamax_engine::{Model, sample};

/// Bytes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Weights that kernels read, as they are stored.
    pub weights_bytes: u64,
    /// States.
    pub state_bytes: u64,
    /// The arena of the plan, with the log of drafts.
    pub arena_bytes: u64,
    /// What kernels are told, what is uploaded with tokens, and what is read back.
    pub traffic_bytes: u64,
    /// Tables that rows are looked up in: they stay mapped on this side, and only rows that were asked for are read.
    pub tables_bytes: u64,
    /// Logits that were read back, and the sampler's memory.
    pub host_bytes: u64,
}

impl Held {
    /// What a model holds, if no matrix has to be cut: each cut adds 256 bytes.
    #[must_use]
    pub fn of(model: &Model<'_>) -> Self {
        let program = model.program();
        let ids = || (0..program.tensors.len()).map(|index| TensorId(index as u16));
        let stored = |id: TensorId| model.weight(id).len() as u64;
        let weights = ids().filter(|id| is_weight(model, *id) && is_read(model, *id));
        let tables = ids().filter(|id| program.ops.iter().any(|op| table(op) == Some(*id)));
        let vocab_bytes = u64::from(model.vocab_size()) * 4;
        let dispatches = program.ops.iter().map(|op| dispatches(model, op)).sum::<u64>() + 1;
        let uploads = buffer(upload_words(model) as u64 * 4);
        // What was said, and two that are bound where there is nothing to bind.
        let small = 3 * buffer(0);
        Self {
            weights_bytes: weights.map(|id| buffer(stored(id))).sum(),
            state_bytes: ids().filter_map(|id| state_bytes(model, id)).map(buffer).sum(),
            arena_bytes: buffer(arena_bytes(model)),
            traffic_bytes: dispatches * UNIFORM_ALIGN + RUN_BYTES + uploads + vocab_bytes + small,
            tables_bytes: tables.map(stored).sum(),
            host_bytes: vocab_bytes + sample::storage_bytes(model.vocab_size()),
        }
    }

    /// On the GPU.
    #[must_use]
    pub fn gpu_bytes(&self) -> u64 {
        self.weights_bytes + self.state_bytes + self.arena_bytes + self.traffic_bytes
    }

    /// On this side.
    #[must_use]
    pub fn cpu_bytes(&self) -> u64 {
        self.tables_bytes + self.host_bytes
    }

    /// Both: what it takes of a memory that they share.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.gpu_bytes() + self.cpu_bytes()
    }

    /// Checks the total against a limit.
    ///
    /// # Errors
    ///
    /// More than is allowed.
    pub fn fit(&self, limit: u64) -> Result<(), TooMuch> {
        let need = self.total_bytes();
        if need > limit { Err(TooMuch { need, have: limit }) } else { Ok(()) }
    }
}

/// A plan that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch {
    /// Bytes that everything takes.
    pub need: u64,
    /// Bytes that are allowed.
    pub have: u64,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { need, have } = *self;
        write!(
            f,
            "backend wgpu: the plan needs {need} bytes, on the GPU and beside it, and {have} are allowed: {} are missing; plan for \
             less context, allow more memory, or use the cpu",
            need - have
        )
    }
}

impl core::error::Error for TooMuch {}

/// Uniforms start at multiples of this: what every adapter accepts.
pub(crate) const UNIFORM_ALIGN: u64 = 256;

/// Runs that one submit may have.
pub(crate) const RUNS: usize = 512;

/// Bytes of the buffer that runs lie in.
pub(crate) const RUN_BYTES: u64 = RUNS as u64 * UNIFORM_ALIGN;

/// Bytes of a buffer that holds so many: none is empty.
pub(crate) fn buffer(bytes: u64) -> u64 {
    bytes.max(16).next_multiple_of(4)
}

/// Bytes of the arena, with the log of drafts behind it.
pub(crate) fn arena_bytes(model: &Model<'_>) -> u64 {
    model.sizes().arena_bytes + model.sizes().log_bytes
}

/// Bytes of a state, as the plan has it.
pub(crate) fn state_bytes(model: &Model<'_>, id: TensorId) -> Option<u64> {
    let tensor = model.program().tensor(id);
    if tensor.kind != Kind::State {
        return None;
    }
    let is_half = tensor.dtype == DType::F16 && matches!(tensor.rows, Rows::Cache { .. });
    let numbers = model.rows_of(id) as u64 * model.plan_of(id).stride as u64;
    Some(numbers * if is_half { 2 } else { 4 })
}

/// Numbers that are uploaded with a chunk.
pub(crate) fn upload_words(model: &Model<'_>) -> usize {
    let width = |id: TensorId| model.program().tensor(id).width as usize;
    let of_row = |op: &Op| match *op {
        Op::Embed { table, .. } => width(table),
        Op::RopeAngles { inv_freq, .. } => 2 * width(inv_freq),
        _ => 0,
    };
    let rows = model.settings().max_rows as usize;
    rows * model.program().ops.iter().map(of_row).sum::<usize>()
}

/// True for a weight that a kernel reads. Tables that rows are looked up in stay where they are mapped.
pub(crate) fn is_read(model: &Model<'_>, id: TensorId) -> bool {
    model
        .program()
        .ops
        .iter()
        .any(|op| table(op).is_none() && op.operands().inputs.contains(&Some(id)))
}

fn is_weight(model: &Model<'_>, id: TensorId) -> bool {
    matches!(model.program().tensor(id).kind, Kind::Weight { .. })
}

/// What an operator looks rows up in.
fn table(op: &Op) -> Option<TensorId> {
    match *op {
        Op::Embed { table, .. } => Some(table),
        Op::RopeAngles { inv_freq, .. } => Some(inv_freq),
        _ => None,
    }
}

/// Kernels that an operator is.
fn dispatches(model: &Model<'_>, op: &Op) -> u64 {
    match *op {
        Op::Linear { weight, .. } => {
            let is_quantized =
                matches!(model.program().tensor(weight).dtype, DType::Q4 | DType::Q8);
            1 + u64::from(is_quantized)
        }
        Op::Attention { .. } => 2,
        _ => 1,
    }
}
