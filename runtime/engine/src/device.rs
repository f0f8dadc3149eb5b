//! Another place where operators run: a device with states and activations of its own, behind the same decoder.
//!
//! Where a token goes, what waits, what is caught up and what is compared is decided by the [`Decoder`](crate::Decoder)
//! alone, whoever runs the operators. So every executor has the same exits, and a device has only operators to write:
//!
//! ```text
//! Decoder ─▶ Step ─┬─▶ kernels over the planned block     (crew: alone, or a team)
//!                  └─▶ Device::run(job, operators)        (crew: a device)
//! ```
//!
//! What it refuses to do: know any device.

use core::fmt::Debug;
use core::ops::Range;

use dynamax_bundle::{Kind, Op, Rows, TensorId};

pub use crate::executor::Log;
use crate::model::Model;

/// What runs operators somewhere else.
///
/// Calls come one at a time, and each sees what all calls before it wrote. A device may only note what it is asked to run:
/// it must be done when something is read.
pub trait Device: Debug + Send + Sync {
    /// Name, for reports: `flex`, `ndarray`, `wgpu`.
    fn name(&self) -> &'static str;

    /// Threads of this machine that work.
    fn threads(&self) -> usize;

    /// Bytes that everything takes here and on the device, if that is not what [`Sizes::total_bytes`](crate::Sizes) says.
    fn planned_bytes(&self) -> Option<u64> {
        None
    }

    /// Starts a new sequence: all states are zero.
    fn reset(&self);

    /// Runs some operators over the rows of a job.
    fn run(&self, job: &Job<'_>, ops: Range<usize>);

    /// Runs of some operators those that lead to a state ([`Model::leads_to_state`]), and reads [`Job::stream`] in place of
    /// the whole residual stream. Attention whose output leads to no state appends its keys and values, and no more.
    fn propagate(&self, job: &Job<'_>, ops: Range<usize>);

    /// Copies what the attention operator `from` has newest in its caches to the same place of those of operator `to`.
    fn copy_caches(&self, job: &Job<'_>, from: usize, to: usize);

    /// True where recurrences can go over drafts: the device keeps what they read of each row of a round, see [`Job::log`].
    fn keeps_log(&self) -> bool {
        false
    }

    /// Moves all recurrences over the drafts that were logged, which were right. Their answers are known.
    fn settle(&self, job: &Job<'_>) {
        unreachable!("{} keeps no log for {} rows", self.name(), job.rows);
    }

    /// Reads a row of an activation that outlives its step: what exits and the head said.
    fn read(&self, tensor: TensorId, row: usize, out: &mut [f32]);

    /// The first of the largest numbers in such a row, `width` of them.
    fn argmax(&self, tensor: TensorId, row: usize, width: usize) -> u32;

    /// Returns when all that was run is done: for what is timed.
    fn wait(&self) {}
}

/// Rows that go through some operators.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Whose operators.
    pub model: Model<'a>,
    /// Ids of the rows' tokens; not read where nothing is embedded.
    pub tokens: &'a [u32],
    /// Rows that run.
    pub rows: usize,
    /// Absolute position of row 0.
    pub position: u32,
    /// Place of row 0 in the caches: its position, unless tokens before it were skipped.
    pub cache_position: u32,
    /// The rows that [`Op::Select`] picks.
    pub selected: Range<usize>,
    /// A residual whose rows start further down, behind those that wait there.
    pub shifted: Option<(TensorId, usize)>,
    /// Read in place of the whole residual stream, where a state is propagated.
    pub stream: Option<TensorId>,
    /// Rows are drafts: what recurrences read ([`Model::is_logged`]) is kept behind that of so many rows of the round.
    pub log: Option<Log>,
}

/// Where the rows of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// First byte: of the states, or of the arena.
    pub offset: usize,
    /// Numbers in a row.
    pub width: usize,
    /// Numbers from one row to the next.
    pub stride: usize,
}

impl Job<'_> {
    /// An operator.
    #[must_use]
    pub fn op(&self, step: usize) -> &Op {
        &self.model.program().ops[step]
    }

    /// Rows of an activation in this job.
    #[must_use]
    pub fn rows(&self, id: TensorId) -> usize {
        match self.model.program().tensor(id).rows {
            Rows::Many => self.rows,
            Rows::Fixed(_) | Rows::Cache { .. } => self.selected.len(),
        }
    }

    /// The activation that is meant by `id`, and its first row: those that wait come before.
    #[must_use]
    pub fn place(&self, id: TensorId) -> (TensorId, usize) {
        let id = self.stream.filter(|_| self.model.is_stream(id)).unwrap_or(id);
        match (self.log, self.shifted) {
            (Some(log), _) if self.model.is_logged(id) => (id, log.rows),
            (_, Some((shifted, row))) if shifted == id => (id, row),
            _ => (id, 0),
        }
    }

    /// True for an attention operator whose output leads to a state.
    #[must_use]
    pub fn attends(&self, step: usize) -> bool {
        self.model.is_wanted(self.op(step).operands().output)
    }
}

impl<'m> Model<'m> {
    /// True for an activation that is read after the step that wrote it, or in another: rows that wait, and logits.
    #[must_use]
    pub fn outlives_its_step(&self, id: TensorId) -> bool {
        let program = self.program();
        let is_residual = program.segments.iter().any(|segment| segment.residual == id);
        let is_said = program.exits.iter().any(|exit| [exit.score, exit.logits].contains(&id));
        program.tensor(id).kind == Kind::Activation
            && (is_residual || is_said || program.logits == id)
    }

    /// The bytes of a weight, where they are mapped.
    #[must_use]
    pub fn weight(&self, id: TensorId) -> &'m [u8] {
        self.stored(id)
    }

    /// Where the plan has a state or an activation, for a device that keeps to the plan.
    #[must_use]
    pub fn plan_of(&self, id: TensorId) -> Planned {
        let (grid, before) = (self.grid(id), self.arena_start());
        let is_state = self.program().tensor(id).kind == Kind::State;
        let offset = if is_state { grid.offset } else { grid.offset - before };
        Planned { offset, width: grid.width, stride: grid.stride }
    }

    /// Where in the arena the plan has the quantized input of the linear operators from `step` on that read the same.
    #[must_use]
    pub fn scratch_of(&self, step: usize) -> usize {
        self.scratch(step) - self.arena_start()
    }

    /// Bytes of the block before the arena.
    fn arena_start(&self) -> usize {
        (self.sizes().memory_bytes() - self.sizes().arena_bytes) as usize
    }

    /// Where in the log the plan has an activation while rows are drafts.
    #[must_use]
    pub fn log_of(&self, id: TensorId) -> Option<usize> {
        self.log(id).map(|offset| offset - self.sizes().state_bytes as usize)
    }

    /// True for an activation that a recurrence reads, where tokens can be drafted.
    #[must_use]
    pub fn is_logged(&self, id: TensorId) -> bool {
        self.log(id).is_some()
    }

    /// True for a tensor that is the residual stream: what [`Job::stream`] stands for.
    #[must_use]
    pub fn carries(&self, id: TensorId) -> bool {
        self.is_stream(id)
    }

    /// Rows that were planned for a state or an activation.
    #[must_use]
    pub fn rows_of(&self, id: TensorId) -> usize {
        self.planned_rows(id)
    }
}
