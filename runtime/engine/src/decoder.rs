//! Feeds tokens through a model: prompts in chunks, then one by one.

use core::ops::Range;

use dynamax_kernels::Isa;

use crate::arena::{Arena, Line, bytes_mut};
use crate::crew::Worker;
use crate::error::StepError;
use crate::executor::Step;
use crate::model::Model;
use crate::team::Team;

/// How a step is run: alone, or by a team of threads.
#[derive(Clone, Copy, Debug)]
pub enum Crew<'t> {
    /// On the caller's thread.
    Alone,
    /// On all threads of a team.
    Team(&'t Team),
}

impl Crew<'_> {
    /// Threads that work.
    #[must_use]
    pub fn threads(&self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Team(team) => team.threads(),
        }
    }

    fn run(&self, work: impl Fn(Worker<'_>) + Sync) {
        match self {
            Self::Alone => work(Worker::ALONE),
            Self::Team(team) => team.run(work),
        }
    }
}

/// A sequence in progress: a model, the block of memory with its state, and a position.
///
/// Every call either does all it was asked, or refuses and leaves the state as it was.
#[derive(Debug)]
pub struct Decoder<'m> {
    model: Model<'m>,
    memory: &'m mut [Line],
    isa: Isa,
    crew: Crew<'m>,
    position: u32,
}

impl<'m> Decoder<'m> {
    /// Takes a block of at least [`Model::memory_lines`], and zeroes it: every page of it is there from now on.
    ///
    /// # Panics
    ///
    /// Panics if `memory` is shorter than the plan.
    #[must_use]
    pub fn new(model: Model<'m>, memory: &'m mut [Line], isa: Isa, crew: Crew<'m>) -> Self {
        assert!(memory.len() >= model.memory_lines(), "the block is as long as the plan");
        let decoder = Self { model, memory, isa, crew, position: 0 };
        bytes_mut(decoder.memory).fill(0);
        decoder
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model<'m> {
        &self.model
    }

    /// Instruction set of the kernels.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads that work.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.crew.threads()
    }

    /// Tokens fed so far.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.position
    }

    /// Starts a new sequence.
    pub fn reset(&mut self) {
        let state_bytes = self.model.sizes().state_bytes as usize;
        bytes_mut(self.memory)[..state_bytes].fill(0);
        self.position = 0;
    }

    /// Feeds `tokens`, and returns the logits behind the last one, `[vocab_size]`.
    ///
    /// # Errors
    ///
    /// No tokens, a token that the vocabulary lacks, more tokens than the planned context holds.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], StepError> {
        self.admit(tokens)?;
        let chunks = tokens.chunks(self.model.settings().max_rows as usize);
        let last = chunks.len() - 1;
        for (index, chunk) in chunks.enumerate() {
            let head = if index == last { chunk.len() - 1..chunk.len() } else { 0..0 };
            self.run_chunk(chunk, head, |_, _| ());
        }
        Ok(self.logits())
    }

    /// Feeds `tokens`, and shows the logits behind each of them, with its index, to `visit`.
    ///
    /// # Errors
    ///
    /// As [`Self::feed`].
    pub fn feed_each(
        &mut self,
        tokens: &[u32],
        mut visit: impl FnMut(usize, &[f32]),
    ) -> Result<(), StepError> {
        self.admit(tokens)?;
        let max_rows = self.model.settings().max_rows as usize;
        for (index, chunk) in tokens.chunks(max_rows).enumerate() {
            self.run_chunk(chunk, 0..chunk.len(), |row, logits| {
                visit(index * max_rows + row, logits);
            });
        }
        Ok(())
    }

    /// The logits of the last row whose head was run, `[vocab_size]`.
    #[must_use]
    pub fn logits(&mut self) -> &[f32] {
        let grid = self.model.grid(self.model.program().logits);
        let bytes = &bytes_mut(self.memory)[grid.offset..][..grid.width * size_of::<f32>()];
        bytemuck::cast_slice(bytes)
    }

    /// Checks tokens before anything is changed.
    fn admit(&self, tokens: &[u32]) -> Result<(), StepError> {
        let vocab_size = self.model.vocab_size();
        if tokens.is_empty() {
            return Err(StepError::Empty);
        }
        if let Some(found) = tokens.iter().copied().find(|token| *token >= vocab_size) {
            return Err(StepError::Token { found, vocab_size });
        }
        let (need, context) =
            (u64::from(self.position) + tokens.len() as u64, self.model.settings().context);
        if need > u64::from(context) {
            Err(StepError::ContextFull { need, context })
        } else {
            Ok(())
        }
    }

    /// Runs all segments over a chunk, then the head for some of its rows.
    fn run_chunk(
        &mut self,
        tokens: &[u32],
        head: Range<usize>,
        mut visit: impl FnMut(usize, &[f32]),
    ) {
        let mut first_row = true;
        for row in if head.is_empty() { 0..1 } else { head.clone() } {
            let (runs_segments, runs_head) = (first_row, !head.is_empty());
            first_row = false;
            let (position, isa, model) = (self.position, self.isa, self.model);
            let arena = Arena::new(self.memory);
            let step = Step { model, arena, isa, tokens, position, selected: row };
            self.crew.run(|worker| {
                if runs_segments {
                    for segment in model.program().segments {
                        step.run(segment.ops(), worker);
                    }
                }
                if runs_head {
                    step.run(model.program().head(), worker);
                }
            });
            if runs_head {
                visit(row, self.logits());
            }
        }
        self.position += tokens.len() as u32;
    }
}
