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
}

impl Governor {
    pub(super) fn costs(&self, bucket: usize) -> Costs {
        let head = self.correction.of(MAX_SEGMENTS, self.model.head());
        let mut costs = Costs {
            to_exit: [Cost::default(); MAX_SEGMENTS],
            segment_us: [0.0; MAX_SEGMENTS],
            head_us: head.us,
            steady_uj: [0.0; MAX_SEGMENTS],
        };
        let (mut sum, mut steady) = (head, head.uj);
        for (segment, cost) in self.model.segments().iter().enumerate() {
            let alone = self.correction.of(segment, cost.first_row[bucket].plus(cost.probe));
            let along = self.segment_row(segment).times(f32::from(self.waiting.before(segment)));
            sum = sum.plus(alone).plus(along);
            steady += alone.uj;
            costs.segment_us[segment] = alone.us + along.us;
            costs.to_exit[segment] = sum;
            costs.steady_uj[segment] = steady + self.own_row_uj(segment);
        }
        costs
    }

    /// Energy expected at the chosen position, if no token goes deeper than `deepest`.
    pub(super) fn expected_uj(&self, costs: &Costs, deepest: usize) -> f32 {
        let position = (self.position - self.bias).clamp(0.0, self.calibration.last());
        let below = (position as usize).min(self.calibration.levels().len().saturating_sub(2));
        let at = |index: usize| self.level_uj(costs, deepest, index);
        let next = (below + 1).min(self.calibration.levels().len() - 1);
        let share = position - below as f32;
        at(below) * (1.0 - share) + at(next) * share
    }

    pub(super) fn level_uj(&self, costs: &Costs, deepest: usize, level: usize) -> f32 {
        let exits = &self.calibration.levels()[level].exits;
        (0..self.model.count()).map(|exit| exits[exit] * costs.steady_uj[exit.min(deepest)]).sum()
    }

    /// The position at which a token is expected to cost `energy_uj`.
    pub(super) fn position_of(&self, costs: &Costs, deepest: usize, energy_uj: f32) -> f32 {
        self.position_in(&self.levels_uj(costs, deepest), energy_uj)
    }

    /// What a token is expected to cost at each level; never more than at the level before.
    pub(super) fn levels_uj(&self, costs: &Costs, deepest: usize) -> [f32; MAX_LEVELS] {
        let mut levels = [0.0; MAX_LEVELS];
        let mut before = f32::INFINITY;
        for (index, level) in levels.iter_mut().enumerate().take(self.calibration.levels().len()) {
            before = self.level_uj(costs, deepest, index).min(before);
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
        for (segment, cost) in self.model.segments().iter().enumerate().take(exit + 1) {
            let rows = if sample.catch_up_rows > 0 { self.waiting.before(segment) } else { 0 };
            let along = cost.more_row.times(f32::from(rows));
            let asked = f32::from(u8::from((sample.asked >> segment) & 1 == 1));
            let probe = cost.probe.times(asked);
            parts[segment] = cost.first_row[self.last.bucket].plus(probe).plus(along);
        }
        parts[MAX_SEGMENTS] = self.model.head();
        parts
    }

    /// A round: each draft and one token more go as far as the exit, then all go on together.
    fn add_round(&self, exit: usize, sample: &Sample, parts: &mut [Cost; PARTS]) {
        let drafts = sample.revealed.map_or(0.0, |rows| f32::from(rows.of));
        for (segment, cost) in self.model.segments().iter().enumerate() {
            let first = cost.first_row[self.last.bucket].plus(cost.probe);
            parts[segment] = match segment <= exit {
                true => first.times(drafts + 1.0),
                false => first.plus(cost.more_row.times(drafts)),
            };
        }
        parts[MAX_SEGMENTS] = self.model.head().times(2.0 * drafts + 1.0);
    }

    /// A further row through a segment.
    pub(super) fn segment_row(&self, segment: usize) -> Cost {
        self.correction.of(segment, self.model.segments()[segment].more_row)
    }

    /// Energy that the rows that wait will cost.
    pub(super) fn owed_uj(&self) -> f32 {
        self.waiting.owed(&self.model, |part, cost| self.correction.of(part, cost)).uj
    }

    /// Of it, what a token that leaves behind `exit` takes care of.
    pub(super) fn owed_before_uj(&self, exit: usize) -> f32 {
        (1..=exit)
            .map(|segment| f32::from(self.waiting.before(segment)) * self.segment_row(segment).uj)
            .sum()
    }

    /// Energy that a row will cost after leaving behind `exit`.
    pub(super) fn own_row_uj(&self, exit: usize) -> f32 {
        if self.config.rows_that_may_wait == 0 {
            return 0.0;
        }
        (exit + 1..self.model.count()).map(|segment| self.segment_row(segment).uj).sum()
    }
}
