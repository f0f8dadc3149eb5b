//! What the next token is expected to cost, corrected, by the segment behind which it leaves.

use super::Governor;
use crate::calibration::MAX_LEVELS;
use crate::config::Exits;
use crate::correction::PARTS;
use crate::cost::{Cost, MAX_SEGMENTS};
use crate::decision::Sample;

/// Corrected costs of the next token, by the segment behind which it leaves.
pub(super) struct Costs {
    pub(super) to_exit: [Cost; MAX_SEGMENTS],
    /// Time of a segment with the rows that go along.
    pub(super) segment_us: [f32; MAX_SEGMENTS],
    pub(super) head_us: f32,
    /// Energy in the long run: nothing waits, but the token's own row will be caught up.
    pub(super) steady_uj: [f32; MAX_SEGMENTS],
    /// Energy that the token's row will cost after leaving there.
    pub(super) own_row_uj: [f32; MAX_SEGMENTS],
    /// Energy of the rows that wait, as far as the token takes care of it.
    pub(super) owed_uj: [f32; MAX_SEGMENTS],
}

impl Governor {
    pub(super) fn costs(&self, bucket: usize) -> Costs {
        let head = self.correction.of(MAX_SEGMENTS, self.model.head());
        let mut costs = Costs {
            to_exit: [Cost::default(); MAX_SEGMENTS],
            segment_us: [0.0; MAX_SEGMENTS],
            head_us: head.us,
            steady_uj: [0.0; MAX_SEGMENTS],
            own_row_uj: self.own_rows_uj(),
            owed_uj: [0.0; MAX_SEGMENTS],
        };
        let (mut sum, mut steady, mut owed) = (head, head.uj, 0.0);
        let segments = self.model.segments().iter().zip(self.waiting.before_each());
        for (segment, (cost, rows)) in segments.enumerate() {
            let alone = self.correction.of(segment, cost.first_row[bucket].plus(cost.probe));
            let along = self.correction.of(segment, cost.more(rows));
            sum = sum.plus(alone).plus(along);
            steady += alone.uj;
            owed += along.uj;
            costs.segment_us[segment] = alone.us + along.us;
            costs.to_exit[segment] = sum;
            costs.steady_uj[segment] = steady + costs.own_row_uj[segment];
            costs.owed_uj[segment] = owed;
        }
        costs
    }

    /// Energy expected at the chosen position, if no token goes deeper than `deepest`.
    pub(super) fn expected_uj(&self, costs: &Costs, deepest: usize) -> f32 {
        let position = (self.position - self.bias).clamp(0.0, self.calibration.last());
        let below = (position as usize).min(self.calibration.levels().len().saturating_sub(2));
        let capped = self.capped_uj(costs, deepest);
        let at = |index: usize| dot(&self.calibration.levels()[index].exits, &capped);
        let next = (below + 1).min(self.calibration.levels().len() - 1);
        let share = position - below as f32;
        at(below) * (1.0 - share) + at(next) * share
    }

    /// Energy in the long run of a token that would leave behind each segment, if none goes deeper than `deepest`.
    fn capped_uj(&self, costs: &Costs, deepest: usize) -> [f32; MAX_SEGMENTS] {
        let mut capped = costs.steady_uj;
        capped[deepest..self.model.count()].fill(costs.steady_uj[deepest]);
        capped
    }

    /// The position at which a token is expected to cost `energy_uj`.
    pub(super) fn position_of(&self, costs: &Costs, deepest: usize, energy_uj: f32) -> f32 {
        self.position_in(&self.levels_uj(costs, deepest), energy_uj)
    }

    /// What a token is expected to cost at each level; never more than at the level before.
    pub(super) fn levels_uj(&self, costs: &Costs, deepest: usize) -> [f32; MAX_LEVELS] {
        let capped = self.capped_uj(costs, deepest);
        let (mut levels, mut before) = ([0.0; MAX_LEVELS], f32::INFINITY);
        for (level, known) in levels.iter_mut().zip(self.calibration.levels()) {
            before = dot(&known.exits, &capped).min(before);
            *level = before;
        }
        levels
    }

    /// The position at which a token is expected to cost `energy_uj`, among levels that cost this much.
    pub(super) fn position_in(&self, levels: &[f32; MAX_LEVELS], energy_uj: f32) -> f32 {
        let count = self.calibration.levels().len();
        match levels[..count].iter().position(|level| *level <= energy_uj) {
            None => self.calibration.last(),
            Some(0) => 0.0,
            Some(below) => {
                let (dear, cheap) = (levels[below - 1], levels[below]);
                below as f32 - (energy_uj - cheap) / (dear - cheap).max(f32::MIN_POSITIVE)
            }
        }
    }

    /// What the model expects each part of a token, or of a round of drafts, to cost, uncorrected.
    pub(super) fn parts(&self, exit: usize, sample: &Sample) -> [Cost; PARTS] {
        let mut parts = [Cost::default(); PARTS];
        if self.config.exits != Exits::Final {
            self.add_round(exit, sample, &mut parts);
            return parts;
        }
        let segments = self.model.segments().iter().zip(self.waiting.before_each());
        for (segment, (cost, rows)) in segments.enumerate().take(exit + 1) {
            let along = cost.more(if sample.catch_up_rows > 0 { rows } else { 0.0 });
            let asked = f32::from(u8::from((sample.asked >> segment) & 1 == 1));
            let probe = cost.probe.times(asked);
            parts[segment] = cost.first_row[self.last.bucket].plus(probe).plus(along);
        }
        parts[MAX_SEGMENTS] = self.model.head();
        parts
    }

    /// A round: each draft and one token more go as far as the exit, then all go on together. What had been said before goes
    /// together all the way.
    fn add_round(&self, exit: usize, sample: &Sample, parts: &mut [Cost; PARTS]) {
        let drafts = sample.revealed.map_or(0.0, |rows| f32::from(rows.of));
        if sample.matched > 0 {
            for (part, cost) in parts.iter_mut().zip(self.model.segments()) {
                *part = cost.first_row[self.last.bucket].plus(cost.more(drafts));
            }
            parts[MAX_SEGMENTS] = self.model.head().plus(self.model.more_heads(drafts));
            return;
        }
        for (segment, cost) in self.model.segments().iter().enumerate() {
            let first = cost.first_row[self.last.bucket].plus(cost.probe);
            parts[segment] = match segment <= exit {
                true => first.times(drafts + 1.0),
                false => first.plus(cost.more(drafts)),
            };
        }
        let own = self.model.head().times(drafts + 1.0);
        parts[MAX_SEGMENTS] = own.plus(self.model.more_heads(drafts));
    }

    /// A further row through a segment, one of a few.
    pub(super) fn segment_row(&self, segment: usize) -> Cost {
        self.correction.of(segment, self.model.segments()[segment].row())
    }

    /// Energy that the rows that wait will cost.
    pub(super) fn owed_uj(&self) -> f32 {
        self.waiting.owed(&self.model, |part, cost| self.correction.of(part, cost)).uj
    }

    /// Energy that a row will cost after leaving behind each segment.
    fn own_rows_uj(&self) -> [f32; MAX_SEGMENTS] {
        let (mut rows, mut sum) = ([0.0; MAX_SEGMENTS], 0.0);
        if self.config.rows_that_may_wait > 0 {
            for segment in (0..self.model.count()).rev() {
                rows[segment] = sum;
                sum += self.segment_row(segment).uj;
            }
        }
        rows
    }
}

/// The sum of products, in four sums that do not wait for each other: it is most of what a decision computes.
fn dot(shares: &[f32; MAX_SEGMENTS], costs: &[f32; MAX_SEGMENTS]) -> f32 {
    let mut sums = [0.0; 4];
    for (shares, costs) in shares.as_chunks::<4>().0.iter().zip(costs.as_chunks::<4>().0) {
        for lane in 0..4 {
            sums[lane] += shares[lane] * costs[lane];
        }
    }
    sums.iter().sum()
}
