//! Decisions where exits are drafts: every token is verified at full depth, so that agreement is never in question.

use super::Governor;
use super::costs::Costs;
use crate::cost::{Cost, MAX_SEGMENTS};
use crate::decision::Decision;
use crate::draft::RoundCost;
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
        if self.budget_uj().is_some_and(|budget| self.window.mean_uj() > budget * 1.005) {
            limits.gives_way.add(Events::ENERGY_GIVES_WAY);
        }
        self.last = super::Allowed {
            bucket,
            deepest: end,
            in_time: end,
            expected_uj: costs.steady_uj[end],
        };
        self.change_mode(&limits, costs);
        let draft_length = self.draft_length(costs, deadline_us);
        Decision {
            stop: self.mode == Mode::Stopped,
            threshold: self.calibration.threshold(self.drafting_position()),
            last_segment: end as u8,
            deadline_us,
            latest_start_us: [u32::MAX; MAX_SEGMENTS],
            catch_up_now: false,
            draft_length,
            mode: self.mode,
            events: core::mem::take(&mut self.events),
        }
    }

    /// Where exits are right three times in four: worth a draft.
    fn drafting_position(&self) -> f32 {
        let levels = 1..self.calibration.levels().len();
        let is_good = |level: &usize| self.chance(*level as f32) <= 0.25;
        levels.rev().find(is_good).unwrap_or(0) as f32
    }

    fn draft_length(&mut self, costs: &Costs, deadline_us: Option<u32>) -> u8 {
        let is_for_energy = self.budget_uj().is_some();
        let unit = |cost: Cost| if is_for_energy { cost.uj } else { cost.us };
        let round = self.round(costs, unit);
        let mut length = if self.model.count() > 1 { self.drafting.length(&round) } else { 0 };
        if length == 0 {
            self.events.add(Events::DRAFTING_OFF);
        }
        // The round's first token is ready when the round is.
        if let Some(deadline) = deadline_us {
            let round = self.round(costs, |cost| cost.us);
            let allowed = deadline as f32 / self.slowest.bound();
            let takes = |drafts: u8| {
                (f32::from(drafts) + 1.0) * round.draft
                    + round.rest
                    + f32::from(drafts) * round.more
            };
            while length > 0 && takes(length) > allowed {
                length -= 1;
            }
        }
        length
    }

    /// What a round consists of, in a unit of cost. Drafts leave where the calibration says that they do.
    fn round(&self, costs: &Costs, unit: impl Fn(Cost) -> f32) -> RoundCost {
        let end = self.model.count() - 1;
        let position = self.drafting_position();
        let early = self.calibration.early(position).max(1e-3);
        let mut round = RoundCost {
            draft: 0.0,
            rest: 0.0,
            more: unit(self.correction.of(MAX_SEGMENTS, self.model.head())),
        };
        for exit in 0..end {
            let share = self.calibration.exit_share(position, exit) / early;
            round.draft += share * unit(costs.to_exit[exit]);
            let rows = (exit + 1..=end).map(|segment| unit(self.segment_row(segment)));
            round.more += share * rows.sum::<f32>();
        }
        round.rest = unit(costs.to_exit[end]) - round.draft;
        round
    }
}
