//! What a configuration will come to on a board, before the first token: for `--check`, and for whoever writes a `device.toml`.

use core::fmt;

use super::Governor;
use crate::config::{Exits, Goal};
use crate::cost::context_bucket;
use crate::units::{Microjoules, Microseconds};

/// What a configuration will come to, in the mean, as far as costs and calibration tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// Whether it can be kept.
    pub verdict: Verdict,
    /// Tokens of context that it is about.
    pub context: u32,
    /// A token at full depth.
    pub full: (Microseconds, Microjoules),
    /// A token that leaves at the first exit.
    pub least: (Microseconds, Microjoules),
    /// The deepest segment that is in time, of how many.
    pub deepest: (usize, usize),
    /// The threshold; more than 1: no exits.
    pub threshold: f32,
    /// Mean share of the segments that run.
    pub depth: f32,
    /// Mean energy of a token.
    pub energy: Microjoules,
    /// Share of tokens that agree with full depth, and the floor.
    pub agreement: (f32, f32),
    /// The least budget with which agreement stays above the floor.
    pub least_for_floor: Microjoules,
    /// The budget and the deadline.
    pub asked: (Option<Microjoules>, Option<Microseconds>),
    /// Whether rows that wait can be caught up within the deadline; `None`: none wait.
    pub catches_up: Option<bool>,
}

/// Whether a configuration can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At full depth.
    FullDepth,
    /// With early exits.
    EarlyExits,
    /// Not all of it: this gives way, as the user ranks it.
    GivesWay(Goal),
    /// Even the first exit takes more than this allows.
    OutOfReach(Goal),
}

impl Verdict {
    /// Whether everything that is asked for can be had.
    #[must_use]
    pub fn is_kept(self) -> bool {
        matches!(self, Self::FullDepth | Self::EarlyExits)
    }
}

impl Governor {
    /// What the configuration will come to at this context.
    #[must_use]
    pub fn outlook(&self, context: u32) -> Outlook {
        let bucket = context_bucket(context);
        let (costs, end) = (self.costs(bucket), self.model.count() - 1);
        let deadline = self.config.latency_per_token;
        let in_time = |segment: &usize| {
            deadline.is_none_or(|time| {
                costs.to_exit[*segment].us * self.slowest.bound() <= time.0 as f32
            })
        };
        let deepest = (0..=end).rev().find(in_time);
        let allowed =
            self.calibration.most_lenient(self.config.min_agreement, self.evidence.factor());
        let is_final = self.config.exits == Exits::Final;
        let asked = self
            .budget_uj()
            .filter(|_| is_final)
            .map_or(0.0, |budget| self.position_of(&costs, deepest.unwrap_or(0), budget));
        let verdict = self.verdict((asked, allowed), deepest, costs.steady_uj[0]);
        let keeps_agreement = verdict == Verdict::GivesWay(Goal::Energy);
        let position = if keeps_agreement && is_final { allowed } else { asked };
        let last =
            if verdict == Verdict::GivesWay(Goal::Latency) { end } else { deepest.unwrap_or(0) };
        let exits = |segment: usize| self.calibration.exit_share(position, segment);
        let depth: f32 =
            (0..=end).map(|segment| exits(segment) * (segment.min(last) + 1) as f32).sum();
        let energy: f32 =
            (0..=end).map(|segment| exits(segment) * costs.steady_uj[segment.min(last)]).sum();
        let at_floor: f32 = (0..=end)
            .map(|segment| self.calibration.exit_share(allowed, segment) * costs.steady_uj[segment])
            .sum();
        let cost = |segment: usize| {
            let cost = costs.to_exit[segment];
            (Microseconds(cost.us as u64), Microjoules(costs.steady_uj[segment] as u64))
        };
        Outlook {
            verdict,
            context,
            full: cost(end),
            least: cost(0),
            deepest: (deepest.unwrap_or(0), end + 1),
            threshold: self.calibration.threshold(position),
            depth: depth / (end + 1) as f32,
            energy: Microjoules(energy as u64),
            agreement: if is_final {
                (self.calibration.agreement_capped(position, last), self.config.min_agreement)
            } else {
                (1.0, 1.0)
            },
            least_for_floor: if is_final { Microjoules(at_floor as u64) } else { cost(end).1 },
            asked: (self.budget_uj().map(|budget| Microjoules(budget as u64)), deadline),
            catches_up: (self.config.rows_that_may_wait > 0).then_some(deepest == Some(end)),
        }
    }

    /// The verdict for what energy asks for and agreement allows.
    fn verdict(
        &self,
        (asked, allowed): (f32, f32),
        deepest: Option<usize>,
        least_uj: f32,
    ) -> Verdict {
        if self.config.exits != Exits::Final {
            return self.verdict_of_drafts(deepest);
        }
        let Some(deepest) = deepest else { return Verdict::OutOfReach(Goal::Latency) };
        if self.budget_uj().is_some_and(|budget| least_uj > budget) {
            return Verdict::OutOfReach(Goal::Energy);
        }
        let loser = |other| {
            let yields = self.config.gives_way_before(Goal::Agreement, other);
            Verdict::GivesWay(if yields { Goal::Agreement } else { other })
        };
        if asked > allowed + 1e-3 {
            return loser(Goal::Energy);
        }
        let is_capped = deepest + 1 < self.model.count();
        if is_capped
            && self.calibration.agreement_capped(asked, deepest) < self.config.min_agreement
        {
            return loser(Goal::Latency);
        }
        if is_capped || asked > 0.0 { Verdict::EarlyExits } else { Verdict::FullDepth }
    }
}

impl Governor {
    /// Drafts are verified at full depth, whatever that takes; what they gain is not known before.
    fn verdict_of_drafts(&self, deepest: Option<usize>) -> Verdict {
        let end = self.model.count() - 1;
        let full_uj = self.costs(self.last.bucket).steady_uj[end];
        if deepest != Some(end) {
            Verdict::GivesWay(Goal::Latency)
        } else if self.budget_uj().is_some_and(|budget| full_uj > budget) {
            Verdict::GivesWay(Goal::Energy)
        } else {
            Verdict::FullDepth
        }
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (full, least, (agreement, floor)) = (self.full, self.least, self.agreement);
        writeln!(
            f,
            "At a context of {} tokens, a token takes {} and {} at full depth, {} and {} at the first exit.",
            self.context, full.0, full.1, least.0, least.1
        )?;
        if let Some(deadline) = self.asked.1 {
            let (deepest, count) = self.deepest;
            writeln!(f, "The deadline of {deadline} allows {} of {count} segments.", deepest + 1)?;
        }
        if self.catches_up == Some(false) {
            writeln!(
                f,
                "Rows that left early can never be caught up in time: set state = \"copy\" or \"propagate\", or a deadline of \
                 more than {}.",
                full.0
            )?;
        }
        match self.verdict {
            Verdict::FullDepth => write!(f, "Every token runs at full depth: nothing is given up."),
            Verdict::EarlyExits => write!(
                f,
                "With a threshold of {:.3}, tokens run {:.0} % of the depth for {} in the mean; {:.1} % agree with full \
                 depth (at least {:.1} % are asked for).",
                self.threshold,
                self.depth * 100.0,
                self.energy,
                agreement * 100.0,
                floor * 100.0
            ),
            Verdict::GivesWay(goal) => self.say_what_gives_way(goal, f),
            Verdict::OutOfReach(Goal::Latency) => write!(
                f,
                "The deadline cannot be kept: even the first exit takes {}; the least deadline is that, and a little.",
                least.0
            ),
            Verdict::OutOfReach(_) => write!(
                f,
                "The energy budget cannot be kept: even the first exit takes {}. With agreement of at least {:.1} %, the \
                 least budget is {}.",
                least.1,
                floor * 100.0,
                self.least_for_floor
            ),
        }
    }
}

impl Outlook {
    fn say_what_gives_way(&self, goal: Goal, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (agreement, floor) = self.agreement;
        match goal {
            Goal::Agreement => write!(
                f,
                "Agreement gives way: {:.1} % of the tokens agree with full depth, not {:.1} %. A budget of {} and a \
                 deadline that allows full depth would keep it.",
                agreement * 100.0,
                floor * 100.0,
                self.least_for_floor
            ),
            Goal::Energy => write!(
                f,
                "Energy gives way: {:.1} % agreement takes {} in the mean, which is the least budget that keeps it.",
                floor * 100.0,
                self.least_for_floor
            ),
            Goal::Latency => write!(
                f,
                "The deadline gives way: {:.1} % agreement needs deeper segments than it allows; full depth takes {}.",
                floor * 100.0,
                self.full.0
            ),
        }
    }
}
