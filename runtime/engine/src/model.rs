//! A Program with every tensor resolved to its place: what a decoder runs.

use dynamax_bundle::{DType, Kind, Layout, Program, TensorId};
use dynamax_kernels::matrix::Matrix;

use crate::arena::{Grid, Line};
use crate::error::LoadError;
use crate::memory::{self, Place, Settings, Sizes, Slot, Storage};

/// A Program, its weights and its plan. Cheap to copy; shared by all workers.
#[derive(Clone, Copy, Debug)]
pub struct Model<'m> {
    program: Program<'m>,
    slots: &'m [Slot<'m>],
    sizes: Sizes,
    settings: Settings,
}

impl<'m> Model<'m> {
    /// Plans a checked `program` and resolves its weights, which `section` finds in the bundle.
    ///
    /// Returns the model and the number of buffers in the arena. Nothing is allocated: the result borrows `storage`.
    ///
    /// # Errors
    ///
    /// Settings out of range, a weight of the wrong size, lists that are too short.
    pub fn resolve(
        program: Program<'m>,
        section: impl Fn(u16) -> &'m [u8],
        context_max: u32,
        settings: Settings,
        place: Place,
        storage: Storage<'m, 'm>,
    ) -> Result<(Self, usize), LoadError> {
        let mut storage = storage;
        let (mut sizes, count) =
            memory::plan(&program, context_max, settings, place, &mut storage)?;
        sizes.weights_bytes = resolve_weights(&program, section, storage.slots)?;
        Ok((Self { program, slots: storage.slots, sizes, settings }, count))
    }

    /// The Program.
    #[must_use]
    pub fn program(&self) -> &Program<'m> {
        &self.program
    }

    /// Bytes by purpose.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// What was planned for.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Ids in the vocabulary.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.program.tensor(self.program.logits).width
    }

    /// [`Line`]s that a decoder's memory needs.
    #[must_use]
    pub fn memory_lines(&self) -> usize {
        (self.sizes.memory_bytes() / Line::BYTES as u64) as usize
    }

    fn slot(&self, id: TensorId) -> &'m Slot<'m> {
        &self.slots[id.index()]
    }

    /// Where the rows of a state or an activation are.
    pub(crate) fn grid(&self, id: TensorId) -> Grid {
        let slot = self.slot(id);
        let width = self.program.tensor(id).width as usize;
        Grid { offset: slot.offset as usize, width, stride: slot.stride as usize }
    }

    /// Where the rows of an activation are while they are drafts, if a recurrence reads it.
    pub(crate) fn log(&self, id: TensorId) -> Option<usize> {
        self.slot(id).log.map(|offset| offset as usize)
    }

    /// The second place of the state of a scan, where drafts go ahead of it.
    pub(crate) fn ahead(&self, id: TensorId) -> Option<usize> {
        self.slot(id).ahead.map(|offset| offset as usize)
    }

    /// True if a scan's state has a second place: then all have.
    pub(crate) fn goes_ahead(&self) -> bool {
        self.sizes.ahead_bytes > 0
    }

    /// True if tokens can be drafted under this plan.
    pub(crate) fn can_draft(&self) -> bool {
        self.settings.drafts > 0 && memory::can_draft(&self.program)
    }

    /// True for a tensor that is the residual stream.
    pub(crate) fn is_stream(&self, id: TensorId) -> bool {
        self.slot(id).mark.is_stream()
    }

    /// True for an activation that leads to a state.
    pub(crate) fn is_wanted(&self, id: TensorId) -> bool {
        self.slot(id).mark.is_wanted()
    }

    /// True for an operator of a segment that leads to a state or updates one: what a token that left still runs where its
    /// state is propagated.
    ///
    /// # Panics
    ///
    /// Panics if there is no such operator.
    #[must_use]
    pub fn leads_to_state(&self, step: usize) -> bool {
        self.slots[self.program.tensors.len() + step].mark.leads_to_state()
    }

    /// Rows that were planned.
    pub(crate) fn planned_rows(&self, id: TensorId) -> usize {
        self.slot(id).rows as usize
    }

    /// Byte offset of the scratch of an operator.
    pub(crate) fn scratch(&self, step: usize) -> usize {
        self.slots[self.program.tensors.len() + step].offset as usize
    }

    /// A tiled weight.
    pub(crate) fn matrix(&self, id: TensorId) -> Matrix<'m> {
        let (slot, tensor) = (self.slot(id), self.program.tensor(id));
        let format = memory::format(tensor.dtype);
        match Matrix::new(format, slot.rows as usize, tensor.width as usize, slot.weight) {
            Ok(matrix) => matrix,
            Err(error) => unreachable!("sizes were checked when the model was resolved: {error}"),
        }
    }

    /// The bytes of a weight.
    pub(crate) fn stored(&self, id: TensorId) -> &'m [u8] {
        self.slot(id).weight
    }

    /// A plain f32 weight, row after row.
    pub(crate) fn numbers(&self, id: TensorId) -> &'m [f32] {
        bytemuck::cast_slice(self.slot(id).weight)
    }
}

/// Gives every weight its bytes, and returns their sum.
fn resolve_weights<'m>(
    program: &Program<'_>,
    section: impl Fn(u16) -> &'m [u8],
    slots: &mut [Slot<'m>],
) -> Result<u64, LoadError> {
    let mut total = 0;
    for (index, (tensor, slot)) in program.tensors.iter().zip(slots).enumerate() {
        let Kind::Weight { section: number, layout } = tensor.kind else { continue };
        let bytes = section(number);
        let expected = tensor.stored_bytes().ok_or(LoadError::TooLarge)?;
        let aligned = bytes.as_ptr().addr().is_multiple_of(Line::BYTES);
        let plain = layout == Layout::Tiled || tensor.dtype == DType::F32;
        if bytes.len() as u64 != expected || !aligned || !plain {
            let tensor = TensorId(index as u16);
            return Err(LoadError::Weight { tensor, found: bytes.len() as u64, expected });
        }
        slot.weight = bytes;
        total += bytes.len() as u64;
    }
    Ok(total)
}

#[cfg(feature = "alloc")]
pub use owned::{Loaded, PlannedBuffer};

#[cfg(feature = "alloc")]
mod owned {
    use alloc::vec;
    use alloc::vec::Vec;

    use dynamax_bundle::{Program, ProgramBuf};
    use dynamax_plan::{Buffer, Effort};

    use super::Model;
    use crate::error::LoadError;
    use crate::memory::{self, Settings, Sizes, Slot, Storage};

    /// A model that owns its lists; the weights stay where they are mapped.
    #[derive(Debug)]
    pub struct Loaded<'b> {
        program: ProgramBuf,
        slots: Vec<Slot<'b>>,
        buffers: Vec<PlannedBuffer>,
        sizes: Sizes,
        settings: Settings,
    }

    /// One buffer of the arena.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PlannedBuffer {
        /// Lifetime and size.
        pub buffer: Buffer,
        /// Where it starts in the arena.
        pub offset: u64,
        /// What it holds.
        pub owner: Owner,
    }

    /// What a buffer of the arena holds.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Owner {
        /// An activation: index in the tensor table.
        Activation(usize),
        /// The quantized input of linear operators: index of the first of them.
        Quantized(usize),
    }

    impl<'b> Loaded<'b> {
        /// Plans a checked `program` and resolves its weights.
        ///
        /// # Errors
        ///
        /// Settings out of range, a weight of the wrong size.
        pub fn new(
            program: ProgramBuf,
            section: impl Fn(u16) -> &'b [u8],
            context_max: u32,
            settings: Settings,
        ) -> Result<Self, LoadError> {
            let mut lists = Lists::new(&program.as_program());
            let view = program.as_program();
            let (mut sizes, count) =
                memory::plan(&view, context_max, settings, place_well, &mut lists.as_storage())?;
            sizes.weights_bytes = super::resolve_weights(&view, section, &mut lists.slots)?;
            let tensors = program.tensors.len();
            let owner = |slot: u32| match (slot as usize).checked_sub(tensors) {
                Some(step) => Owner::Quantized(step),
                None => Owner::Activation(slot as usize),
            };
            let buffers = (0..count).map(|index| PlannedBuffer {
                buffer: lists.buffers[index],
                offset: lists.offsets[index],
                owner: owner(lists.owners[index]),
            });
            let buffers = buffers.collect();
            Ok(Self { program, slots: lists.slots, buffers, sizes, settings })
        }

        /// The model, borrowed.
        #[must_use]
        pub fn model(&self) -> Model<'_> {
            let program = self.program.as_program();
            Model { program, slots: &self.slots, sizes: self.sizes, settings: self.settings }
        }

        /// The plan of the arena.
        #[must_use]
        pub fn buffers(&self) -> &[PlannedBuffer] {
            &self.buffers
        }
    }

    /// The lists that a plan is written to.
    struct Lists<'b> {
        slots: Vec<Slot<'b>>,
        buffers: Vec<Buffer>,
        owners: Vec<u32>,
        offsets: Vec<u64>,
    }

    impl<'b> Lists<'b> {
        fn new(program: &Program<'_>) -> Self {
            let len = memory::storage_len(program);
            let nothing = Buffer { lower: 0, upper: 0, size: 0 };
            Self {
                slots: vec![Slot::EMPTY; len],
                buffers: vec![nothing; len],
                owners: vec![0; len],
                offsets: vec![0; len],
            }
        }

        fn as_storage(&mut self) -> Storage<'_, 'b> {
            Storage {
                slots: &mut self.slots,
                buffers: &mut self.buffers,
                owners: &mut self.owners,
                offsets: &mut self.offsets,
            }
        }
    }

    /// Checks `settings` against a limit in bytes.
    ///
    /// # Errors
    ///
    /// [`LoadError::Memory`] with the missing bytes and the settings that would fit, or as [`Loaded::new`].
    pub fn fit(
        program: &ProgramBuf,
        weights_bytes: u64,
        context_max: u32,
        settings: Settings,
        limit: u64,
    ) -> Result<u64, LoadError> {
        let view = program.as_program();
        let mut lists = Lists::new(&view);
        let mut need = |settings| {
            let (sizes, _) = memory::plan(
                &view,
                context_max,
                settings,
                dynamax_plan::place_greedy,
                &mut lists.as_storage(),
            )?;
            Ok::<u64, LoadError>(sizes.total_bytes() + weights_bytes)
        };
        let need_now = need(settings)?;
        if need_now <= limit {
            return Ok(need_now);
        }
        let all_rows = settings.with_context(settings.max_rows);
        let rows_that_fit = if need(all_rows)? <= limit { settings.max_rows } else { 1 };
        // The longest context that fits, by halving: memory grows with the context.
        let (mut fits, mut too_long) = (0, settings.context);
        while too_long - fits > 1 {
            let context = fits + (too_long - fits) / 2;
            let rows = Settings { max_rows: rows_that_fit, ..settings };
            if need(rows.with_context(context))? <= limit {
                fits = context;
            } else {
                too_long = context;
            }
        }
        Err(LoadError::Memory {
            need: need_now,
            have: limit,
            context_that_fits: fits,
            rows_that_fit: rows_that_fit.min(fits.max(1)),
        })
    }

    /// Places greedily, and searches where that leaves more than a hundredth above the lower bound.
    fn place_well(buffers: &[Buffer], align: u64, offsets: &mut [u64]) -> u64 {
        let bound = dynamax_plan::lower_bound(buffers);
        let greedy = dynamax_plan::place_greedy(buffers, align, offsets);
        if greedy <= bound + bound / 100 {
            return greedy;
        }
        let solution = dynamax_plan::search(buffers, align, None, Effort::steps(200_000));
        if solution.arena_bytes >= greedy {
            return greedy;
        }
        offsets.copy_from_slice(&solution.offsets);
        solution.arena_bytes
    }
}
#[cfg(feature = "alloc")]
pub use owned::{Owner, fit};
