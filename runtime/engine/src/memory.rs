//! Lays out the memory of a Program: states for the whole run, activations and scratch for a step.
//!
//! ```text
//! bundle (mapped)      one block of memory
//! ┌─────────┐          ┌─────────────────┬────────┬──────────────────────────────┬──────────┐
//! │ weights │          │ states: caches, │ log of │ arena: activations, scratch, │ sampling │
//! └─────────┘          │ conv, SSM       │ drafts │ reused as their lives end    │          │
//!                      └─────────────────┴────────┴──────────────────────────────┴──────────┘
//! ```
//!
//! Lifetimes come from the Program's schedule alone, so the plan is the same on every machine.

use dynamax_bundle::{DType, Exit, Kind, Op, Program, Rows, Segment, Tensor, TensorId};
use dynamax_kernels::format::Format;
use dynamax_kernels::ops::cache_capacity;
use dynamax_kernels::quantize::QuantizedRows;
use dynamax_kernels::view::stride;
use dynamax_plan::Buffer;

use crate::arena::Line;
use crate::error::LoadError;
use crate::sample;
use crate::schedule::{self, Item, Schedule, Work};

mod log;
mod mark;

pub(crate) use log::can_draft;
use mark::Mark;

/// Every buffer starts at a multiple of this many bytes.
const ALIGN: u64 = Line::BYTES as u64;

/// What a user may choose about memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Tokens that a sequence may hold, prompt and answer together.
    pub context: u32,
    /// Rows computed together at most: the chunk of a prompt, or rows that waited at an exit.
    pub max_rows: u32,
    /// Rows whose logits are computed together at most.
    pub head_rows: u32,
    /// Drafts that may wait to be verified: what recurrences read of them is logged. 0: none.
    pub drafts: u32,
    /// Bytes of the states of scans, all together, up to which each has a second place, where drafts go ahead of it. Larger ones are gone over
    /// again.
    pub most_ahead: u64,
}

/// States that lie in caches: going over one takes longer than reading it.
const MOST_AHEAD: u64 = 4 << 20;

impl Settings {
    /// Plans for logits of one row at a time.
    #[must_use]
    pub const fn new(context: u32, max_rows: u32) -> Self {
        Self { context, max_rows, head_rows: 1, drafts: 0, most_ahead: MOST_AHEAD }
    }

    /// The same with so many drafts, or as many as a chunk holds, and their logits.
    #[must_use]
    pub fn with_drafts(self, drafts: u32) -> Self {
        let drafts = drafts.min(self.max_rows.saturating_sub(1));
        Self { drafts, head_rows: self.head_rows.max(drafts + 1), ..self }
    }

    /// The same for another context; rows are fewer where it is shorter.
    #[must_use]
    pub fn with_context(self, context: u32) -> Self {
        let max_rows = self.max_rows.min(context.max(1));
        let most_drafts = max_rows - 1;
        let (head_rows, drafts) = (self.head_rows.min(max_rows), self.drafts.min(most_drafts));
        Self { context, max_rows, head_rows, drafts, ..self }
    }
}

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Mapped from the bundle.
    pub weights_bytes: u64,
    /// Caches and recurrent states.
    pub state_bytes: u64,
    /// What recurrences read of drafts, and small states that go ahead with them.
    pub log_bytes: u64,
    /// Of these: small states that go ahead with drafts.
    pub ahead_bytes: u64,
    /// Activations and scratch, as placed.
    pub arena_bytes: u64,
    /// Of the arena: residual rows that wait at exits.
    pub pending_bytes: u64,
    /// The most that is live at any one time: no placement can be smaller than this.
    pub lower_bound_bytes: u64,
    /// Candidates of the sampler.
    pub sampling_bytes: u64,
}

impl Sizes {
    /// Bytes of the block that a decoder works in.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.state_bytes + self.log_bytes + self.arena_bytes
    }

    /// All bytes: the number to compare with a board's memory.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.weights_bytes + self.memory_bytes() + self.sampling_bytes
    }
}

/// Where a tensor, or the scratch of an operator, is.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'b> {
    pub(crate) weight: &'b [u8],
    pub(crate) offset: u64,
    pub(crate) rows: u32,
    pub(crate) stride: u32,
    /// Of an operator: the phase in which it writes.
    pub(crate) phase: u32,
    /// Of an operator: the phase in which it reads its activations.
    pub(crate) read_phase: u32,
    /// Of an activation that a recurrence reads: where its rows are while they are drafts.
    pub(crate) log: Option<u64>,
    /// Of the state of a scan: its second place, where drafts go ahead.
    pub(crate) ahead: Option<u64>,
    /// Of an operator: it leads to a state. Of a tensor: it is the residual stream.
    pub(crate) mark: Mark,
}

impl Slot<'_> {
    /// Nothing, nowhere.
    pub const EMPTY: Self = Self {
        weight: &[],
        offset: 0,
        rows: 0,
        stride: 0,
        phase: 0,
        read_phase: 0,
        log: None,
        ahead: None,
        mark: Mark::NONE,
    };

    fn set_phases(&mut self, phase: u32, read_phase: u32) {
        (self.phase, self.read_phase) = (phase, read_phase);
    }
}

/// Lists that a plan is written to, each with an entry for every tensor and then for every operator (its scratch).
#[derive(Debug)]
pub struct Storage<'s, 'b> {
    /// Where everything is.
    pub slots: &'s mut [Slot<'b>],
    /// Buffers of the arena, in order of the operators.
    pub buffers: &'s mut [Buffer],
    /// Index into `slots` of each buffer's owner.
    pub owners: &'s mut [u32],
    /// Offset of each buffer in the arena.
    pub offsets: &'s mut [u64],
}

impl Storage<'_, '_> {
    fn check(&self, need: usize) -> Result<(), LoadError> {
        let have =
            self.slots.len().min(self.buffers.len()).min(self.owners.len()).min(self.offsets.len());
        if have < need { Err(LoadError::Storage { need, have }) } else { Ok(()) }
    }
}

/// Entries that [`Storage`] needs for a Program.
#[must_use]
pub fn storage_len(program: &Program<'_>) -> usize {
    program.tensors.len() + program.ops.len()
}

/// How to place buffers: returns the bytes of the arena.
pub type Place = fn(&[Buffer], u64, &mut [u64]) -> u64;

/// Plans `program`: fills `storage`, and returns the sizes and the number of buffers.
///
/// # Errors
///
/// Settings out of range, sizes beyond this machine, lists that are too short.
pub fn plan(
    program: &Program<'_>,
    context_max: u32,
    settings: Settings,
    place: Place,
    storage: &mut Storage<'_, '_>,
) -> Result<(Sizes, usize), LoadError> {
    validate(context_max, settings)?;
    storage.check(storage_len(program))?;
    let mut sizes = Sizes::default();
    for (index, tensor) in program.tensors.iter().enumerate() {
        let extent = extent(tensor, settings)?;
        let slot = &mut storage.slots[index];
        *slot = Slot { rows: extent.rows, stride: extent.stride, ..Slot::EMPTY };
        match tensor.kind {
            Kind::Weight { .. } => {}
            Kind::State => {
                slot.offset = sizes.state_bytes;
                sizes.state_bytes += extent.bytes;
            }
            Kind::Activation => {}
        }
    }
    if settings.drafts > 0 {
        let (start, slots) = (sizes.state_bytes, &mut *storage.slots);
        let rows = log::place(program, settings, start, slots)?;
        sizes.ahead_bytes = log::place_ahead(program, settings, start + rows, slots)?;
        sizes.log_bytes = rows + sizes.ahead_bytes;
    }
    let count = list_buffers(program, settings, storage)?;
    for exit in program.exits {
        let waiting = program.segments[usize::from(exit.segment)].residual;
        sizes.pending_bytes += extent(program.tensor(waiting), settings)?.bytes;
    }
    mark::state_path(program, storage.slots);
    let (buffers, offsets) = (&storage.buffers[..count], &mut storage.offsets[..count]);
    sizes.lower_bound_bytes = dynamax_plan::lower_bound(buffers);
    sizes.arena_bytes = place(buffers, ALIGN, offsets).next_multiple_of(ALIGN);
    dynamax_plan::verify(buffers, offsets, sizes.arena_bytes).map_err(LoadError::Plan)?;
    for (owner, offset) in storage.owners[..count].iter().zip(offsets) {
        storage.slots[*owner as usize].offset = sizes.state_bytes + sizes.log_bytes + *offset;
    }
    let vocab_size = program.tensor(program.logits).width;
    sizes.sampling_bytes = sample::storage_bytes(vocab_size);
    usize::try_from(sizes.total_bytes()).map_err(|_| LoadError::TooLarge)?;
    Ok((sizes, count))
}

fn validate(context_max: u32, settings: Settings) -> Result<(), LoadError> {
    let Settings { context, max_rows, head_rows, drafts, .. } = settings;
    if context == 0 || context > context_max {
        return Err(LoadError::Context { found: context, max: context_max });
    }
    if max_rows == 0 || max_rows > context {
        return Err(LoadError::Rows { found: max_rows, max: context });
    }
    if head_rows == 0 || head_rows > max_rows {
        return Err(LoadError::Rows { found: head_rows, max: max_rows });
    }
    // All drafts and the token before them are verified in one chunk.
    if drafts >= head_rows {
        return Err(LoadError::Drafts { found: drafts, most: head_rows - 1 });
    }
    Ok(())
}

/// The shape of a tensor under some settings.
struct Extent {
    rows: u32,
    stride: u32,
    bytes: u64,
}

fn extent(tensor: &Tensor, settings: Settings) -> Result<Extent, LoadError> {
    let rows = match tensor.rows {
        // Of a head: a row for each that was selected.
        Rows::Fixed(_) if tensor.kind == Kind::Activation => settings.head_rows,
        Rows::Fixed(rows) => rows,
        Rows::Many => settings.max_rows,
        Rows::Cache { window } => cache_capacity(settings.context, window, settings.max_rows),
    };
    let padded =
        !matches!(tensor.kind, Kind::Weight { .. }) && !matches!(tensor.rows, Rows::Cache { .. });
    let stride = if padded { stride(tensor.width as usize) as u32 } else { tensor.width };
    let number_bytes = if tensor.dtype == DType::F16 { 2 } else { 4 };
    let bytes =
        u64::from(rows).checked_mul(u64::from(stride)).and_then(|n| n.checked_mul(number_bytes));
    let bytes =
        bytes.filter(|bytes| *bytes < 1 << 48).ok_or(LoadError::TooLarge)?.next_multiple_of(ALIGN);
    Ok(Extent { rows, stride, bytes })
}

/// Lists the buffers of the arena with their lifetimes in phases: activations, and the quantized inputs of linear
/// operators.
fn list_buffers(
    program: &Program<'_>,
    settings: Settings,
    storage: &mut Storage<'_, '_>,
) -> Result<usize, LoadError> {
    let tensors = program.tensors.len();
    let end = number_phases(program, &mut storage.slots[tensors..]);
    let mut count = 0;
    for (step, op) in program.ops.iter().enumerate() {
        let phases = &storage.slots[tensors..];
        let out = op.operands().output;
        let size = extent(program.tensor(out), settings)?.bytes;
        let Lifetime { lower, upper } = lifetime(program, phases, out, step, end);
        storage.buffers[count] = Buffer { lower, upper, size };
        storage.owners[count] = out.0.into();
        count += 1;
        let Slot { phase, read_phase, .. } = phases[step];
        if let Op::Linear { x, .. } = *op
            && read_phase != phase
            && is_first_of_run(phases, step)
        {
            let x = program.tensor(x);
            let size = u64::from(extent(x, settings)?.rows)
                * QuantizedRows::row_bytes(x.width as usize) as u64;
            storage.buffers[count] = Buffer { lower: read_phase, upper: phase + 1, size };
            storage.owners[count] = (tensors + step) as u32;
            count += 1;
        }
    }
    Ok(count)
}

/// Writes the phases of every operator into its slot, and returns the number of phases.
fn number_phases(program: &Program<'_>, slots: &mut [Slot<'_>]) -> u32 {
    let mut start = 0;
    for range in schedule::ranges(program) {
        let mut last = start;
        for Item { work, phase, .. } in Schedule::new(program, range) {
            last = start + phase;
            match work {
                Work::Rows(step) | Work::Columns(step) => slots[step].set_phases(last, last),
                Work::Linears { first, end, quantized, .. } => {
                    for slot in &mut slots[first..end] {
                        slot.set_phases(last, last - u32::from(quantized));
                    }
                }
                Work::Quantize { .. } => {}
            }
        }
        start = last + 1;
    }
    start
}

/// Phases from the first in which a tensor holds something to one past the last.
struct Lifetime {
    lower: u32,
    upper: u32,
}

/// The lifetime of `tensor`, which operator `step` writes.
///
/// - Rows wait at an exit from one step to the next, so their residual always lives.
/// - Logits are read after the step, and so is the last residual, of which other rows may be selected.
/// - What an exit says is read before anything else runs.
fn lifetime(
    program: &Program<'_>,
    phases: &[Slot<'_>],
    tensor: TensorId,
    step: usize,
    end: u32,
) -> Lifetime {
    let lower = phases[step].phase;
    let residual = |segment: &Segment| segment.residual == tensor;
    let waits = |exit: &Exit| residual(&program.segments[usize::from(exit.segment)]);
    if program.exits.iter().any(waits) {
        return Lifetime { lower: 0, upper: end };
    }
    if tensor == program.logits || program.segments.last().is_some_and(residual) {
        return Lifetime { lower, upper: end };
    }
    let says = |exit: &&Exit| tensor == exit.score || tensor == exit.logits;
    let upper = match program.exits.iter().find(says) {
        Some(exit) => phases[exit.head().end - 1].phase,
        None => last_read(program, phases, tensor, step),
    };
    Lifetime { lower, upper: upper + 1 }
}

/// The phase in which `tensor`, written by operator `step`, is read last.
fn last_read(program: &Program<'_>, phases: &[Slot<'_>], tensor: TensorId, step: usize) -> u32 {
    let reads = |op: &Op| op.operands().inputs.contains(&Some(tensor));
    let readers = program.ops.iter().zip(phases).filter(|(op, _)| reads(op));
    readers.map(|(_, slot)| slot.read_phase).fold(phases[step].phase, u32::max)
}

/// True for the operator whose slot holds the scratch of its run: the first in its phase.
fn is_first_of_run(phases: &[Slot<'_>], step: usize) -> bool {
    step == 0 || phases[step - 1].phase != phases[step].phase
}

/// The kernels' name for a stored type.
#[must_use]
pub fn format(dtype: DType) -> Format {
    match dtype {
        DType::F32 => Format::F32,
        DType::F16 => Format::F16,
        DType::Q8 => Format::Q8,
        DType::Q4 => Format::Q4,
    }
}
