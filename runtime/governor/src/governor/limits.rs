//! What the next token is limited by, and which goal gives way where they contradict each other.

use super::Governor;
use super::costs::Costs;
use crate::config::Goal;
use crate::decision::Decision;
use crate::event::Events;
use crate::mode::Cause;

/// What a token aims at while the window has savings, over the budget: some of them leave the window before they are needed.
const CARRY: f32 = 1.05;

/// Share of the window's energy that waiting rows may be worth.
const WAITING_SHARE: f32 = 0.03;

/// Tokens over which half of what this part of the text needs beyond its habit is thought to last: a hard part that has begun may
/// end before the look does. In tokens, because texts do not know the window.
const LASTS: f32 = 160.0;

/// Tokens that a conflict must be over before the mode says so.
const CONFLICT_HOLDS: u8 = 8;

/// What the next token is limited by, and which goals give way.
pub(super) struct Limits {
    pub(super) deepest: usize,
    pub(super) deadline_us: Option<u32>,
    pub(super) gives_way: Events,
    pub(super) holds_energy: bool,
    pub(super) held_back: bool,
}

impl Governor {
    /// Full depth; the deadline is told and not looked at yet.
    pub(super) fn unlimited(&self) -> Limits {
        let deadline = self.config.latency_per_token;
        Limits {
            deepest: self.model.count() - 1,
            deadline_us: deadline.map(|time| u32::try_from(time.0).unwrap_or(u32::MAX)),
            gives_way: Events::NONE,
            holds_energy: false,
            held_back: false,
        }
    }

    /// The deepest segment that is in time.
    pub(super) fn limit_time(&mut self, costs: &Costs) -> Limits {
        let mut limits = self.unlimited();
        let end = limits.deepest;
        let Some(deadline) = limits.deadline_us else { return limits };
        let in_time =
            |segment: &usize| costs.to_exit[*segment].us * self.slowest.bound() <= deadline as f32;
        match (0..=end).rev().find(in_time) {
            Some(deepest) => limits.deepest = deepest,
            None => {
                limits.deepest = 0;
                limits.gives_way.add(Events::LATENCY_OUT_OF_REACH);
            }
        }
        limits
    }

    /// The position that energy asks for.
    pub(super) fn asked(&self, costs: &Costs, limits: &mut Limits) -> f32 {
        let Some(budget) = self.budget_uj() else { return 0.0 };
        limits.holds_energy = true;
        if costs.steady_uj[0] > budget {
            limits.gives_way.add(Events::ENERGY_OUT_OF_REACH);
        }
        // Where the text in the mean costs the budget: what is easy saves, and what is hard spends the savings.
        let levels = self.levels_uj(costs, limits.deepest);
        let steady = self.position_in(&levels, budget * CARRY) + self.habit;
        // Where what is left is not enough for that, by what this part of the text costs.
        let need = |(ahead, share): (f32, f32)| {
            let lasting = self.habit + (self.bias - self.habit) / (1.0 + ahead / LASTS);
            self.position_in(&levels, share) + lasting
        };
        let urgent = self.window.shares_uj().map(need).fold(f32::NEG_INFINITY, f32::max);
        steady.max(urgent).clamp(0.0, self.calibration.last())
    }

    /// The most lenient position that keeps the floor.
    pub(super) fn allowed(&self) -> f32 {
        let (seen, expected) = self.early;
        // A text on which fewer tokens leave early than expected has fewer that can disagree.
        let mix = if expected > 0.01 { (seen / expected).clamp(0.5, 1.5) } else { 1.0 };
        let factor = self.evidence.factor() * mix;
        let apart = self.forced * self.evidence.factor() + self.shortfall.margin();
        let floor = (self.config.min_agreement + apart).min(1.0);
        self.calibration.most_lenient(floor, factor)
    }

    /// The position to move to, and what gives way for it.
    pub(super) fn resolve(&self, asked: f32, allowed: f32, limits: &mut Limits) -> f32 {
        let config = &self.config;
        let mut target = asked;
        if asked > allowed + 1e-3 {
            if config.gives_way_before(Goal::Energy, Goal::Agreement) {
                limits.gives_way.add(Events::ENERGY_GIVES_WAY);
                limits.holds_energy = false;
                target = allowed;
            } else {
                limits.gives_way.add(Events::AGREEMENT_GIVES_WAY);
            }
        } else if config.gives_way_before(Goal::Energy, Goal::Agreement) {
            // Forced exits hurt more than lenient ones. Only where the floor has room for them are they used.
            limits.holds_energy &= asked + 0.5 < allowed;
        }
        let end = self.model.count() - 1;
        if limits.deepest < end {
            let wrong = (1.0 - self.calibration.agreement_capped(target, limits.deepest))
                * self.evidence.factor();
            if wrong > 1.0 - config.min_agreement {
                if config.gives_way_before(Goal::Latency, Goal::Agreement) {
                    limits.gives_way.add(Events::LATENCY_GIVES_WAY);
                    (limits.deepest, limits.deadline_us) = (end, None);
                } else {
                    limits.gives_way.add(Events::AGREEMENT_GIVES_WAY);
                }
            }
        }
        target
    }

    /// The deepest segment that the window can pay for.
    pub(super) fn limit_energy(&self, costs: &Costs, limits: &mut Limits) {
        if !limits.holds_energy {
            return;
        }
        let allowance = self.window.allowance_uj();
        // What the token takes along was put aside when it left.
        let pays = |segment: &usize| {
            costs.to_exit[*segment].uj - costs.owed_uj[*segment] + costs.own_row_uj[*segment]
                <= allowance
        };
        let deepest = (0..=limits.deepest).rev().find(pays).unwrap_or(0);
        limits.held_back = deepest < limits.deepest;
        limits.deepest = deepest;
    }

    /// Whether the rows that wait must be caught up with this token.
    pub(super) fn must_catch_up(&mut self, costs: &Costs, limits: &mut Limits) -> bool {
        let (rows, most) = (self.waiting.total(), self.config.rows_that_may_wait);
        if rows == 0 || most == 0 {
            return false;
        }
        let end = self.model.count() - 1;
        let now_us = costs.to_exit[end].us * self.slowest.bound();
        let row_us: f32 = (1..=end).map(|part| self.segment_row(part).us).sum();
        let deadline = limits.deadline_us.map_or(f32::INFINITY, |us| us as f32);
        let is_last_chance =
            now_us <= deadline && now_us + row_us * self.slowest.bound() > deadline;
        let window_uj = self.budget_uj().map_or(f32::INFINITY, |uj| uj * self.config.window as f32);
        let is_dear =
            limits.holds_energy && self.owed_uj() > WAITING_SHARE * window_uj && now_us <= deadline;
        if rows >= most && now_us > deadline {
            limits.gives_way.add(Events::LATENCY_GIVES_WAY);
        }
        let must = rows >= most || is_last_chance || is_dear;
        if must {
            self.events.add(Events::CATCH_UP);
        }
        must
    }

    /// Sets the latest moment at which each segment can be started.
    pub(super) fn set_latest_starts(
        &self,
        costs: &Costs,
        deadline_us: u32,
        decision: &mut Decision,
    ) {
        // A single segment varies more than a whole token does.
        let bound = 1.0 + 1.5 * (self.slowest.bound() - 1.0);
        for segment in 0..self.model.count() {
            let needs = (costs.segment_us[segment] + costs.head_us) * bound;
            decision.latest_start_us[segment] = (deadline_us as f32 - needs).max(0.0) as u32;
        }
    }

    pub(super) fn change_mode(&mut self, limits: &Limits, costs: &Costs) {
        self.conflict_left = match limits.gives_way.is_empty() {
            false => CONFLICT_HOLDS,
            true => self.conflict_left.saturating_sub(1),
        };
        let end = self.model.count() - 1;
        let is_over = self.budget_uj().is_some() && self.window.is_over();
        let is_binding = self.position > 0.0
            || limits.deepest < end
            || self.budget_uj().is_some_and(|budget| costs.steady_uj[end] > budget);
        let cause = if self.conflict_left > 0 {
            Cause::Conflict
        } else if limits.held_back || (limits.holds_energy && is_over) {
            Cause::Debt
        } else if is_binding {
            Cause::Binding
        } else {
            Cause::Slack
        };
        self.mode = self.mode.next(cause);
        self.events.add(limits.gives_way);
    }
}
