//! Decisions where exits are drafts: every token is verified at full depth, so that agreement is never in question.

use super::costs::Costs;
use super::{Allowed, Governor};
use crate::calibration::NEVER;
use crate::cost::{Cost, MAX_SEGMENTS};
use crate::decision::{Decision, Sample};
use crate::draft::{Origin, RoundCost, RoundSeen};
use crate::event::Events;
use crate::mode::Mode;

impl Governor {
    /// Decides about a round of drafts. Depth is not limited: a deadline or a budget below full depth gives way, and that is
    /// said.
    pub(super) fn decide_drafts(&mut self, bucket: usize, costs: &Costs) -> Decision {
        let mut limits = self.unlimited();
        let (end, deadline_us) = (limits.deepest, limits.deadline_us);
        let full_us = costs.to_exit[end].us * self.slowest.bound();
        if deadline_us.is_some_and(|deadline| full_us > deadline as f32) {
            limits.gives_way.add(Events::LATENCY_GIVES_WAY);
        }
        if self.budget_uj().is_some() && self.window.is_over() {
            limits.gives_way.add(Events::ENERGY_GIVES_WAY);
        }
        self.last = Allowed {
            bucket,
            deepest: end,
            in_time: end,
            expected_uj: costs.steady_uj[end],
            ..Allowed::default()
        };
        self.change_mode(&limits, costs);
        let mut threshold = NEVER;
        // At full depth nothing leaves, and a round has no cost: strict comes first.
        let round = self.round(costs, self.calibration.last());
        if self.drafting.is_drafting() && self.model.count() > 1 {
            // Scores are chances.
            threshold = self.drafting.least_chance(&round);
            self.last.drafts = self.draft_length(costs, &round, deadline_us);
        }
        self.last.lookups = self.most_lookups(costs, deadline_us);
        self.last.round = round;
        if self.drafting.is_off() {
            self.events.add(Events::DRAFTING_OFF);
        }
        Decision {
            stop: self.mode == Mode::Stopped,
            threshold,
            last_segment: end as u8,
            deadline_us,
            latest_start_us: [u32::MAX; MAX_SEGMENTS],
            catch_up_now: false,
            draft_length: self.last.drafts,
            mode: self.mode,
            events: core::mem::take(&mut self.events),
        }
    }

    /// Learns what became of the token, or the round of drafts, that the last decision was about.
    pub(super) fn learn_drafts(&mut self, sample: &Sample, energy_uj: f32) {
        let from = match sample.matched {
            0 if self.last.drafts == 0 => Origin::Nobody,
            0 => Origin::Exits,
            matched => Origin::Lookup { matched: matched.into() },
        };
        let drafts = sample.revealed.map_or(0, |rows| u32::from(rows.of));
        let agreed = sample.revealed.map_or(0, |rows| u32::from(rows.agreed));
        let is_for_energy = self.budget_uj().is_some();
        self.drafting.learn(&RoundSeen {
            from,
            drafts,
            agreed,
            tokens: sample.tokens.into(),
            cost: if is_for_energy { energy_uj } else { sample.elapsed_us as f32 },
        });
    }

    /// The number of guesses to verify instead of what was decided, where the last tokens have been said before: so many of
    /// them match. 0: go on as decided.
    #[must_use]
    pub fn lookup_length(&self, matched: usize) -> u8 {
        let Allowed { lookups, drafts, round, .. } = &self.last;
        self.drafting.lookup_length(matched, *lookups, *drafts, round)
    }

    /// What followed a match of this length before follows it again, or does not: for guesses that were not made.
    pub fn judge_lookup(&mut self, matched: usize, is_right: bool) {
        self.drafting.judge(matched, is_right);
    }

    /// Most guesses that are verified in time.
    fn most_lookups(&self, costs: &Costs, deadline_us: Option<u32>) -> u8 {
        let most = self.config.exits.most_drafts();
        let Some(deadline) = deadline_us else { return most };
        let left =
            deadline as f32 / self.slowest.bound() - costs.to_exit[self.model.count() - 1].us;
        let row = self.row_of(|cost| cost.us).max(f32::MIN_POSITIVE);
        ((left / row) as u8).min(most)
    }

    fn draft_length(&mut self, costs: &Costs, round: &RoundCost, deadline_us: Option<u32>) -> u8 {
        let mut length = self.drafting.length(round);
        // The round's first token is ready when the round is.
        if let Some(deadline) = deadline_us {
            let allowed = deadline as f32 / self.slowest.bound();
            let time = self.round_of(costs, self.calibration.last(), |cost| cost.us);
            let takes = |drafts: u8| {
                (f32::from(drafts) + 1.0) * time.draft + time.rest + f32::from(drafts) * time.more
            };
            while length > 0 && takes(length) > allowed {
                length -= 1;
            }
        }
        length
    }

    /// What a round consists of, in energy where there is a budget for it, or else in time.
    fn round(&self, costs: &Costs, position: f32) -> RoundCost {
        let is_for_energy = self.budget_uj().is_some();
        self.round_of(costs, position, |cost| if is_for_energy { cost.uj } else { cost.us })
    }

    /// What a round consists of, in a unit of cost. Drafts leave where the calibration says that they do, or at the first exit
    /// where nothing is known.
    fn round_of(&self, costs: &Costs, position: f32, unit: impl Fn(Cost) -> f32) -> RoundCost {
        let end = self.model.count() - 1;
        let known = self.calibration.early(position);
        let early = if known > 1e-3 { known } else { 1.0 };
        let mut round = RoundCost {
            draft: 0.0,
            rest: 0.0,
            more: unit(self.head_row()),
            row: self.row_of(&unit),
        };
        for exit in 0..end {
            let is_first = f32::from(u8::from(exit == 0));
            let known = self.calibration.exit_share(position, exit) / early;
            let share = if early < 1.0 || known > 0.0 { known } else { is_first };
            round.draft += share * unit(costs.to_exit[exit]);
            let rows = (exit + 1..=end).map(|segment| unit(self.segment_row(segment)));
            round.more += share * rows.sum::<f32>();
        }
        round.rest = unit(costs.to_exit[end]) - round.draft;
        round
    }

    fn head_row(&self) -> Cost {
        self.correction.of(MAX_SEGMENTS, self.model.head_row())
    }

    /// A further row through all layers, with a head.
    fn row_of(&self, unit: impl Fn(Cost) -> f32) -> f32 {
        let rows = (0..self.model.count()).map(|segment| unit(self.segment_row(segment)));
        rows.sum::<f32>() + unit(self.head_row())
    }
}
