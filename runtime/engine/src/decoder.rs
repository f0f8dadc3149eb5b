//! Feeds tokens through a model: prompts in chunks, then one by one, each as deep as it needs.

use core::ops::Range;

use dynamax_bundle::TensorId;
use dynamax_kernels::Isa;

use crate::arena::{Arena, Line, bytes_mut};
use crate::crew::Worker;
use crate::error::{ExitError, StepError};
use crate::exits::{ByScore, Decide, ExitSettings, Outcome, PENDING_MAX, Probed, Said};
use crate::model::Model;

mod crew;
mod pass;
mod progress;
mod round;
mod said;
mod share;

pub use crew::Crew;
use pass::{Pass, Verdict, settled};
use progress::Progress;
use round::Round;
use said::Heard;
use share::Shares;

/// Weights, in bytes, that one thread reads in a few milliseconds.
const SMALL_WEIGHTS: u64 = 32 << 20;

/// A sequence in progress: a model, the block of memory with its state, and how far it is.
///
/// Every call either does all it was asked, or refuses and leaves the state as it was.
#[derive(Debug)]
pub struct Decoder<'m> {
    model: Model<'m>,
    memory: &'m mut [Line],
    isa: Isa,
    crew: Crew<'m>,
    exits: Option<ExitSettings>,
    progress: Progress,
    /// How long tokens should take that leave early.
    shares: Shares,
    /// Rows that are drafts, or were.
    round: Option<Round>,
    /// States that have two places are in the second one.
    swapped: bool,
    /// Where the newest logits are: the tensor, and its row.
    said: (TensorId, usize),
    /// What of them has been looked at already.
    heard: Heard,
    /// What tokens that wait have said, by their position.
    waiting: [u32; PENDING_MAX as usize + 1],
}

impl<'m> Decoder<'m> {
    /// Takes a block of at least [`Crew::memory_lines`], and zeroes it: every page of it is there from now on.
    ///
    /// # Panics
    ///
    /// Panics if `memory` is shorter than the plan.
    #[must_use]
    pub fn new(model: Model<'m>, memory: &'m mut [Line], isa: Isa, crew: Crew<'m>) -> Self {
        assert!(memory.len() >= crew.memory_lines(&model), "the block is as long as the plan");
        bytes_mut(memory).fill(0);
        if let Some(device) = crew.device() {
            device.reset();
        }
        Self {
            shares: Shares::of(&model),
            model,
            memory,
            isa,
            crew,
            exits: None,
            progress: Progress::default(),
            round: None,
            swapped: false,
            said: (model.program().logits, 0),
            heard: Heard::default(),
            waiting: [0; PENDING_MAX as usize + 1],
        }
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

    /// Tokens fed so far; of drafts that were verified, those that were right.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.round.map_or(self.progress.position(), |round| round.position())
    }

    /// Rows that wait at exits.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.progress.all_waiting()
    }

    /// Starts a new sequence. Exits stay in use as they are.
    pub fn reset(&mut self) {
        match self.crew.device() {
            Some(device) => device.reset(),
            None => {
                let state_bytes = self.model.sizes().state_bytes as usize;
                bytes_mut(self.memory)[..state_bytes].fill(0);
            }
        }
        self.progress = Progress::default();
        self.round = None;
        self.swapped = false;
        self.say(self.model.program().logits, 0);
    }

    /// Starts a new sequence whose tokens may leave early, or with `None` one whose tokens do not.
    ///
    /// # Errors
    ///
    /// A Program without exits, or one that cannot do what is asked.
    pub fn use_exits(&mut self, exits: Option<ExitSettings>) -> Result<(), ExitError> {
        // Keys and values are found by position, and so forgotten everywhere; recurrences need a log.
        let cannot_forget = self.crew.device().is_some_and(|device| !device.keeps_log())
            && self.model.sizes().log_bytes > 0;
        if cannot_forget && exits.is_some_and(|exits| exits.drafts) {
            return Err(ExitError::Device);
        }
        self.exits = exits.map(|exits| exits.resolve(&self.model)).transpose()?;
        self.reset();
        Ok(())
    }

    /// Feeds `tokens` through all layers, and returns the logits behind the last one, `[vocab_size]`.
    ///
    /// # Errors
    ///
    /// No tokens, a token that the vocabulary lacks, more tokens than the planned context holds.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<&[f32], StepError> {
        self.take(tokens)?;
        Ok(self.logits())
    }

    /// Feeds `tokens` through all layers; [`Self::logits`] are those behind the last one, where somebody looks.
    ///
    /// # Errors
    ///
    /// As [`Self::feed`].
    pub fn take(&mut self, tokens: &[u32]) -> Result<(), StepError> {
        self.admit(tokens)?;
        let chunks = tokens.chunks(self.max_chunk());
        let last = chunks.len() - 1;
        for (index, chunk) in chunks.enumerate() {
            let newest = if index == last { chunk.len() - 1..chunk.len() } else { 0..0 };
            self.run_chunk(chunk, newest, None);
        }
        Ok(())
    }

    /// Feeds `tokens` through all layers, and shows the logits behind each of them, with its index, to `visit`.
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
        let max_rows = self.max_chunk();
        for (index, chunk) in tokens.chunks(max_rows).enumerate() {
            let mut visit = |row, logits: &[f32]| visit(index * max_rows + row, logits);
            self.run_chunk(chunk, 0..chunk.len(), Some(&mut visit));
        }
        Ok(())
    }

    /// Feeds one token, which leaves at the first exit where `decide` says so; [`Self::logits`] are what it says there.
    ///
    /// Without exits in use it goes through all layers. `decide` is asked once at each exit, by the caller's thread.
    ///
    /// # Errors
    ///
    /// As [`Self::feed`].
    pub fn step(
        &mut self,
        token: u32,
        decide: impl Fn(Probed) -> bool + Sync,
    ) -> Result<Outcome, StepError> {
        self.step_by(token, &ByScore(decide))
    }

    /// The same, where the decision may be foregone: an exit whose score cannot matter is not asked for it.
    ///
    /// # Errors
    ///
    /// As [`Self::feed`].
    pub fn step_by(&mut self, token: u32, decide: &impl Decide) -> Result<Outcome, StepError> {
        let tokens = [token];
        let Some(exits) = self.exits else {
            self.take(&tokens)?;
            let last = self.last_segment();
            return Ok(Outcome { segment: last, reach: last, ..Outcome::default() });
        };
        self.admit(&tokens)?;
        if exits.drafts {
            self.settle();
            let start = self.progress.position();
            self.round.get_or_insert(Round::new(start)).push(token);
        }
        let verdict = Verdict::default();
        let (crew, is_small, shares) = (self.crew, self.is_small(), self.shares);
        let pass = self.pass(&tokens);
        let last = pass.model.program().exits.len();
        let work = |worker: Worker<'_>| pass.token(decide, &verdict, worker);
        crew.token(is_small, work, || {
            let depth = if pass.is_full() { last } else { verdict.left() };
            (pass.progress.rows_into(depth, 1) == 1).then(|| shares.at(depth))
        });
        let (is_full, reveals, revealed) = (pass.is_full(), pass.reveals(), pass.revealed());
        let left = verdict.left();
        let catches_up = left == last || is_full;
        let position = self.progress.position();
        let last_segment = self.last_segment();
        let asked = verdict.asked();
        let mut outcome =
            Outcome { segment: last_segment, reach: last_segment, asked, ..Outcome::default() };
        self.say(self.model.program().logits, revealed.len() - 1);
        if let Some(exit) = self.model.program().exits.get(left) {
            self.say(exit.logits, 0);
            outcome.segment = exit.segment;
            outcome.reach = if catches_up { last_segment } else { exit.segment };
        }
        if reveals && left < last {
            let said = self.best();
            self.waiting[slot(position)] = said;
        }
        if catches_up {
            outcome.caught_up = self.progress.rows_into(last, 1) - u32::from(left == last);
            if reveals {
                let rows = if left == last { revealed.start..revealed.end - 1 } else { revealed };
                self.reveal(position, rows, &mut outcome);
            }
            self.progress.advance_all(1, last + 1);
            self.end_drafts();
        } else {
            self.progress.advance(1, left, exits.state);
        }
        Ok(outcome)
    }

    /// Feeds a token and drafts behind it, which somebody guessed, through all layers in one pass: a round whose rows
    /// are all verified at once. Afterwards [`Self::logits`] are those behind the token, and [`Self::accept`] tells of the drafts.
    ///
    /// # Errors
    ///
    /// As [`Self::feed`]. Drafts must be in use ([`ExitSettings::drafts`]), and no more of them than were planned.
    pub fn verify(&mut self, token: u32, drafts: &[u32]) -> Result<Outcome, StepError> {
        let most = self.exits.filter(|exits| exits.drafts).map_or(0, |exits| exits.pending_max);
        let found = drafts.len() as u32;
        if found > most {
            return Err(StepError::Drafts { found, most });
        }
        let mut rows = [token; PENDING_MAX as usize + 1];
        let rows = &mut rows[..=drafts.len()];
        rows[1..].copy_from_slice(drafts);
        self.admit(rows)?;
        self.catch_up();
        self.settle();
        let mut round = Round::new(self.progress.position());
        rows.iter().for_each(|row| round.push(*row));
        self.round = Some(round);
        let (crew, is_small) = (self.crew, self.is_small());
        let pass = self.pass(rows);
        let work = |worker: Worker<'_>| pass.whole(0..rows.len(), worker);
        match rows.len() {
            1 => crew.token(is_small, work, || Some(1.0)),
            _ => crew.rows(work),
        }
        let last = self.last_segment();
        self.progress.advance_all(rows.len() as u32, self.model.program().exits.len() + 1);
        self.end_drafts();
        Ok(Outcome { segment: last, reach: last, drafts: found, ..Outcome::default() })
    }

    /// True where meetings of a team could take longer than the work.
    fn is_small(&self) -> bool {
        self.model.sizes().weights_bytes < SMALL_WEIGHTS
    }

    /// Takes all rows that wait through the layers that they have not seen. Drafts among them are verified so.
    pub fn catch_up(&mut self) {
        if self.progress.all_waiting() == 0 {
            return;
        }
        let crew = self.crew;
        let pass = self.pass(&[]);
        let head = if pass.round.is_some() { pass.revealed() } else { 0..0 };
        crew.run(|worker| pass.whole(head.clone(), worker));
        let stages = self.model.program().exits.len() + 1;
        self.progress.advance_all(0, stages);
        self.end_drafts();
    }

    /// The last layer has been asked about all rows of a round, if there is one: the first comes first.
    fn end_drafts(&mut self) {
        if let Some(round) = &mut self.round {
            round.verify();
            self.say(self.model.program().logits, 0);
        }
    }

    /// Feeds `tokens` through all layers, and shows what every exit and the head say behind each of them.
    ///
    /// Chunks are as long as the rows whose logits were planned together. `said` has room for all exits and rows of a
    /// chunk; `visit` gets the index of a token, what the exits say about it, and the logits of the head.
    ///
    /// # Errors
    ///
    /// As [`Self::feed`].
    ///
    /// # Panics
    ///
    /// Panics if `said` is too short.
    pub fn survey(
        &mut self,
        tokens: &[u32],
        said: &mut [Said],
        mut visit: impl FnMut(usize, &[Said], &[f32]),
    ) -> Result<(), StepError> {
        self.admit(tokens)?;
        let (exits, most) = (self.model.program().exits, self.model.settings().head_rows as usize);
        let crew = self.crew;
        for (index, chunk) in tokens.chunks(most).enumerate() {
            self.catch_up();
            self.settle();
            let rows = chunk.len();
            let said = &mut said[..rows * exits.len()];
            for (k, exit) in exits.iter().enumerate() {
                let pass = self.pass(chunk);
                crew.run(|worker| pass.survey(k, worker));
                for row in 0..rows {
                    let score = settled(self.read_row(exit.score, row));
                    let token = self.argmax(exit.logits, row);
                    said[row * exits.len() + k] = Said { score, token };
                }
            }
            let pass = self.pass(chunk);
            crew.run(|worker| pass.finish(worker));
            for row in 0..rows {
                let of_row = &said[row * exits.len()..][..exits.len()];
                visit(index * most + row, of_row, self.read_row(self.model.program().logits, row));
            }
            self.say(self.model.program().logits, rows - 1);
            self.progress.advance_all(rows as u32, exits.len() + 1);
        }
        Ok(())
    }

    fn last_segment(&self) -> u16 {
        self.model.program().segments.len() as u16 - 1
    }

    fn max_chunk(&self) -> usize {
        self.model.settings().max_rows as usize
    }

    /// Compares rows of the last stage, the newest of which is at `position`, with what they had said.
    fn reveal(&mut self, position: u32, rows: Range<usize>, outcome: &mut Outcome) {
        let all = self.progress.rows_into(self.model.program().exits.len(), 1);
        let logits = self.model.program().logits;
        let first_selected = all as usize - self.revealed_rows(all);
        for row in rows {
            let settled = self.argmax(logits, row - first_selected);
            let at = position + 1 + row as u32 - all;
            outcome.revealed += 1;
            outcome.agreed += u32::from(self.waiting[slot(at)] == settled);
        }
    }

    fn revealed_rows(&self, all: u32) -> usize {
        all.min(self.model.settings().head_rows) as usize
    }

    /// A pass of `tokens` over the block as it is now.
    fn pass<'s>(&'s mut self, tokens: &'s [u32]) -> Pass<'s> {
        let (model, isa, progress, exits) = (self.model, self.isa, self.progress, self.exits);
        let round = self.round.map(|round| round.start);
        let swapped = self.swapped;
        let (arena, device) = (Arena::new(self.memory), self.crew.device());
        Pass { model, arena, isa, tokens, progress, exits, round, swapped, device }
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
            (u64::from(self.position()) + tokens.len() as u64, self.model.settings().context);
        if need > u64::from(context) {
            Err(StepError::ContextFull { need, context })
        } else {
            Ok(())
        }
    }

    /// Runs all segments over a chunk, then the head for some of its rows.
    fn run_chunk(&mut self, tokens: &[u32], head: Range<usize>, mut visit: Option<Visit<'_>>) {
        self.catch_up();
        self.settle();
        let (crew, is_small) = (self.crew, self.is_small());
        let most = self.model.settings().head_rows as usize;
        let pass = self.pass(tokens);
        let first = head.start..head.end.min(head.start + most);
        match tokens.len() {
            1 => crew.token(is_small, |worker| pass.whole(first.clone(), worker), || Some(1.0)),
            _ => crew.run(|worker| pass.whole(first.clone(), worker)),
        }
        let logits = self.model.program().logits;
        let mut selected = first;
        while !selected.is_empty() {
            if let Some(visit) = &mut visit {
                for row in selected.clone() {
                    visit(row, self.read_row(logits, row - selected.start));
                }
            }
            self.say(logits, selected.len() - 1);
            selected = selected.end..head.end.min(selected.end + most);
            if !selected.is_empty() {
                let pass = self.pass(tokens);
                crew.run(|worker| pass.head(selected.clone(), worker));
            }
        }
        let stages = self.model.program().exits.len() + 1;
        self.progress.advance_all(tokens.len() as u32, stages);
    }
}

/// Is shown a row and its logits.
type Visit<'v> = &'v mut dyn FnMut(usize, &[f32]);

/// Where what a waiting token has said is kept: no more than this many wait.
fn slot(position: u32) -> usize {
    position as usize % (PENDING_MAX as usize + 1)
}
