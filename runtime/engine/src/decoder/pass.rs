//! One pass of rows through the stages: what every worker walks through in the same order.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use dynamax_bundle::{Exit, Op, StateMode, TensorId};
use dynamax_kernels::Isa;
use dynamax_kernels::math::exp;

use super::progress::{Progress, segments};
use crate::arena::Arena;
use crate::crew::Worker;
use crate::device::Device;
use crate::executor::{Log, Step};
use crate::exits::{Decide, ExitSettings, Probed};
use crate::model::Model;

/// The probability that a token is settled, from a probe's logits of going on and of leaving.
pub(super) fn settled(logits: &[f32]) -> f32 {
    1.0 / (1.0 + exp(logits[0] - logits[1]))
}

/// What all workers of a pass share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass<'a> {
    pub(super) model: Model<'a>,
    pub(super) arena: Arena<'a>,
    pub(super) isa: Isa,
    pub(super) tokens: &'a [u32],
    pub(super) progress: Progress,
    pub(super) exits: Option<ExitSettings>,
    /// Where the round began whose rows are drafts.
    pub(super) round: Option<u32>,
    /// States that have two places are in the second one.
    pub(super) swapped: bool,
    pub(super) device: Option<&'a dyn Device>,
}

/// What was decided about a token: written by the first worker.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// It leaves at the exit that was asked last.
    leaves: AtomicBool,
    /// The stage that it left behind.
    left: AtomicUsize,
    /// Exits that were asked, a bit for each segment that one stands behind.
    asked: AtomicU32,
}

impl Verdict {
    /// The stage that the token left behind.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Exits that were asked, a bit for each segment that one stands behind.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl<'a> Pass<'a> {
    /// Runs all stages over the new tokens and all rows that wait, then the head for some of the rows of the last stage.
    pub(super) fn whole(&self, head: Range<usize>, worker: Worker<'_>) {
        for k in 0..=self.exit_count() {
            self.stage(k, worker);
            self.listen(k, worker);
        }
        self.head(head, worker);
    }

    /// Runs stage `k`, then its exit's probe and head for all rows.
    pub(super) fn survey(&self, k: usize, worker: Worker<'_>) {
        self.stage(k, worker);
        self.probe(k, 0..self.rows(k), worker);
        self.exit_head(k, 0..self.rows(k), worker);
    }

    /// Runs the last stage, then the head for all rows.
    pub(super) fn finish(&self, worker: Worker<'_>) {
        let last = self.exit_count();
        self.stage(last, worker);
        self.head(0..self.rows(last), worker);
    }

    /// Runs one token through stages until `decide` lets it leave, and stores the stage in `left`.
    ///
    /// A token that leaves while there is no more room to wait takes all rows to the end: its own answer stays that of
    /// the exit. In a round of drafts it is not asked, and its answer is that of the last layer.
    pub(super) fn token(&self, decide: &impl Decide, verdict: &Verdict, worker: Worker<'_>) {
        let last = self.exit_count();
        let mut leaves = None;
        for k in 0..=last {
            self.stage(k, worker);
            if k == last || leaves.is_some() || (self.round.is_some() && self.is_full()) {
                self.listen(k, worker);
            } else if self.leaves(k, decide, verdict, worker) {
                leaves = Some(k);
                if !self.is_full() {
                    break;
                }
            }
        }
        if worker.is_first() {
            verdict.left.store(leaves.unwrap_or(last), Ordering::Relaxed);
        }
        let Some(k) = leaves else { return self.head(self.revealed(), worker) };
        self.treat_skipped(k, worker);
        if self.is_full() && self.reveals() {
            self.head(self.revealed(), worker);
        }
        // Last: what an exit says is overwritten by whatever runs next.
        self.exit_head(k, self.newest(k), worker);
    }

    /// True where one more waiting row would be too many.
    pub(super) fn is_full(&self) -> bool {
        self.exits.is_some_and(|exits| {
            exits.state == StateMode::Deferred && self.progress.all_waiting() >= exits.pending_max
        })
    }

    /// Rows of the last stage whose logits are computed: the newest, and those that waited where they are compared.
    pub(super) fn revealed(&self) -> Range<usize> {
        let rows = self.rows(self.exit_count());
        let all = self.reveals() || self.round.is_some();
        let most = if all { self.model.settings().head_rows as usize } else { 1 };
        rows - rows.min(most)..rows
    }

    /// True where rows that waited are compared with what they had said.
    pub(super) fn reveals(&self) -> bool {
        self.exits.is_some_and(|exits| exits.reveals)
    }

    /// Exits that are in use.
    fn exit_count(&self) -> usize {
        self.model.program().exits.len()
    }

    /// Rows that enter stage `k`.
    fn rows(&self, k: usize) -> usize {
        self.progress.rows_into(k, self.tokens.len() as u32) as usize
    }

    /// A step over the rows of stage `k`, whose results go behind the rows that wait at its end.
    fn step(&self, k: usize) -> Step<'a> {
        let skips = self.exits.is_some_and(|exits| exits.state == StateMode::Skip);
        let cache_position = self.progress.passed(k);
        Step {
            model: self.model,
            arena: self.arena,
            isa: self.isa,
            tokens: self.tokens,
            rows: self.rows(k),
            position: if skips { self.progress.position() } else { cache_position },
            cache_position,
            selected: 0..0,
            shifted: self
                .exit(k)
                .map(|exit| (self.residual(exit), self.progress.waiting(k) as usize)),
            stream: None,
            log: self.round.map(|start| Log {
                rows: (self.progress.passed(k) - start) as usize,
                settles: false,
            }),
            swapped: self.swapped,
            device: self.device,
        }
    }

    /// Moves states over the first rows of a round, which were right: those of scans not where they went ahead.
    pub(super) fn settle(&self, right: usize, went_ahead: bool, worker: Worker<'_>) {
        let log = Some(Log { rows: right, settles: true });
        Step { rows: 0, log, ..self.step(0) }.settle(went_ahead, worker);
    }

    fn exit(&self, k: usize) -> Option<&'a Exit> {
        self.model.program().exits.get(k)
    }

    fn residual(&self, exit: &Exit) -> TensorId {
        self.model.program().segments[usize::from(exit.segment)].residual
    }

    fn stage(&self, k: usize, worker: Worker<'_>) {
        let rows = self.rows(k);
        if rows == 0 {
            return;
        }
        let step = self.step(k);
        for segment in segments(self.model.program(), k) {
            step.run(self.model.program().segments[segment].ops(), worker);
        }
    }

    /// Lets a probe with a state hear the rows that arrive at exit `k`.
    fn listen(&self, k: usize, worker: Worker<'_>) {
        let hears = self.exits.is_some() && self.rows(k) > 0;
        let Some(exit) = self.exit(k).filter(|exit| hears && self.has_state(exit)) else { return };
        let step = self.step(k);
        let rows = step.rows;
        Step { selected: rows - 1..rows, ..step }.run(exit.probe(), worker);
    }

    fn has_state(&self, exit: &Exit) -> bool {
        let ops = &self.model.program().ops[exit.probe()];
        ops.iter().any(|op| op.operands().states.iter().any(Option::is_some))
    }

    /// Says if the token leaves at exit `k`: without a look at its score where that is foregone.
    fn leaves(
        &self,
        k: usize,
        decide: &impl Decide,
        verdict: &Verdict,
        worker: Worker<'_>,
    ) -> bool {
        match decide.foregone(k) {
            Some(leaves) => {
                self.listen(k, worker);
                leaves
            }
            None => self.asks(k, decide, verdict, worker),
        }
    }

    /// Runs the probe of exit `k` on the newest row, and asks if its token leaves. The first worker asks, all follow.
    fn asks(&self, k: usize, decide: &impl Decide, verdict: &Verdict, worker: Worker<'_>) -> bool {
        let Some(exit) = self.exit(k) else { return false };
        self.probe(k, self.newest(k), worker);
        if worker.is_first() {
            let bit = 1_u32.checked_shl(exit.segment.into()).unwrap_or(0);
            verdict.asked.fetch_or(bit, Ordering::Relaxed);
            verdict.leaves.store(decide.leaves(self.probed(k, exit)), Ordering::Relaxed);
        }
        // The barrier orders the store before the loads, and the loads before the next store.
        worker.wait();
        let leaves = verdict.leaves.load(Ordering::Relaxed);
        worker.wait();
        leaves
    }

    /// What the probe of exit `k` said of the newest row.
    fn probed(&self, k: usize, exit: &Exit) -> Probed {
        let position = self.progress.position() + self.tokens.len() as u32 - 1;
        if let Some(device) = self.device {
            let mut logits = [0.0; 2];
            device.read(exit.score, 0, &mut logits);
            return Probed { exit: k, score: settled(&logits), position };
        }
        let grid = self.model.grid(exit.score);
        // SAFETY: written before the last barrier, and nobody writes before the next one, which waits for this worker.
        #[expect(unsafe_code, reason = "reads what another worker wrote")]
        let score = settled(unsafe { self.arena.slice(grid.offset, grid.width) });
        Probed { exit: k, score, position }
    }

    /// Runs the probe of exit `k` over the rows that arrived, and selects some.
    pub(super) fn probe(&self, k: usize, selected: Range<usize>, worker: Worker<'_>) {
        if let Some(exit) = self.exit(k) {
            Step { selected, ..self.step(k) }.run(exit.probe(), worker);
        }
    }

    /// The newest row of those that arrived at exit `k`.
    fn newest(&self, k: usize) -> Range<usize> {
        let rows = self.rows(k);
        rows - 1..rows
    }

    /// Runs the head of exit `k` for some of the rows that arrived.
    pub(super) fn exit_head(&self, k: usize, selected: Range<usize>, worker: Worker<'_>) {
        if let Some(exit) = self.exit(k) {
            Step { selected, ..self.step(k) }.run(exit.head(), worker);
        }
    }

    /// Runs the head for some rows of the last stage.
    pub(super) fn head(&self, selected: Range<usize>, worker: Worker<'_>) {
        if !selected.is_empty() {
            let step = self.step(self.exit_count());
            Step { selected, ..step }.run(self.model.program().head(), worker);
        }
    }

    /// What the stages behind exit `k` do with a token that left there.
    fn treat_skipped(&self, k: usize, worker: Worker<'_>) {
        let (Some(exits), Some(exit)) = (self.exits, self.exit(k)) else { return };
        let program = self.model.program();
        let deeper = usize::from(exit.segment) + 1..program.segments.len();
        let step = Step { stream: Some(self.residual(exit)), ..self.step(k) };
        match exits.state {
            StateMode::Skip | StateMode::Deferred => {}
            StateMode::Propagate => {
                for segment in deeper {
                    step.propagate(program.segments[segment].ops(), worker);
                }
            }
            StateMode::Copy => {
                let is_attention =
                    |step: &usize| matches!(program.ops[*step], Op::Attention { .. });
                let ran = usize::from(program.segments[deeper.start - 1].end_op);
                let mut skipped = ran..program.head().start;
                if let Some(from) = (0..ran).rev().find(is_attention) {
                    while let Some(to) = skipped.find(is_attention) {
                        step.copy_caches(from, to, worker);
                    }
                }
                worker.wait();
            }
        }
    }
}
