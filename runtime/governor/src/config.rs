//! What a user asks of a governor.

use crate::error::GovernorError;
use crate::units::{Microjoules, Microseconds};

/// Longest window.
pub const MAX_WINDOW: usize = 1024;

/// What may have to give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Tokens that are those of full depth.
    Agreement,
    /// The deadline of each token.
    Latency,
    /// The mean energy of a token.
    Energy,
}

/// What exits are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exits {
    /// A token that leaves early is the answer.
    Final,
    /// A token that leaves early is a draft, and verified at full depth.
    Drafts {
        /// Most drafts before they are verified.
        most: u8,
    },
}

impl Exits {
    pub(crate) fn most_drafts(self) -> u8 {
        match self {
            Self::Final => 0,
            Self::Drafts { most } => most,
        }
    }
}

/// What a user asks of a governor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GovernorConfig {
    /// Mean energy of a token over any window; `None`: no budget.
    pub energy_per_token: Option<Microjoules>,
    /// Deadline of each token; `None`: none.
    pub latency_per_token: Option<Microseconds>,
    /// Tokens of the window.
    pub window: usize,
    /// What gives way when not all can be kept, the first first.
    pub sacrifice: [Goal; 3],
    /// Least share of tokens that agree with full depth.
    pub min_agreement: f32,
    /// What exits are for.
    pub exits: Exits,
    /// Rows that may wait to be caught up; 0: skipped layers are not caught up at all.
    pub rows_that_may_wait: u16,
    /// What a broken meter does.
    pub on_meter_fault: OnMeterFault,
    /// A charge, of 1, below which another budget holds.
    pub below_battery: Option<(f32, Microjoules)>,
}

/// What a broken meter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMeterFault {
    /// Nothing but that energy is modelled until it is back.
    Continue,
    /// No token is started until it is back.
    Stop,
}

impl Default for GovernorConfig {
    fn default() -> Self {
        Self {
            energy_per_token: None,
            latency_per_token: None,
            window: 64,
            sacrifice: [Goal::Agreement, Goal::Latency, Goal::Energy],
            min_agreement: 0.98,
            exits: Exits::Final,
            rows_that_may_wait: 0,
            on_meter_fault: OnMeterFault::Continue,
            below_battery: None,
        }
    }
}

impl GovernorConfig {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first that makes no sense.
    pub fn validate(&self) -> Result<(), GovernorError> {
        if !(8..=MAX_WINDOW).contains(&self.window) {
            return Err(GovernorError::Window { found: self.window });
        }
        if !(0.0..=1.0).contains(&self.min_agreement) {
            return Err(GovernorError::Floor);
        }
        let is_budget = |energy: Microjoules| (1..=1_000_000_000).contains(&energy.0);
        let battery =
            self.below_battery.is_none_or(|(level, energy)| level.is_finite() && is_budget(energy));
        if !self.energy_per_token.is_none_or(is_budget) || !battery {
            return Err(GovernorError::Budget);
        }
        if !self.latency_per_token.is_none_or(|time| (1..=3_600_000_000).contains(&time.0)) {
            return Err(GovernorError::Deadline);
        }
        let each = [Goal::Agreement, Goal::Latency, Goal::Energy];
        if !each.iter().all(|goal| self.sacrifice.contains(goal)) {
            return Err(GovernorError::Sacrifice);
        }
        Ok(())
    }

    /// Whether `goal` gives way before `other`.
    #[must_use]
    pub fn gives_way_before(&self, goal: Goal, other: Goal) -> bool {
        let place = |goal| self.sacrifice.iter().position(|each| *each == goal);
        place(goal) < place(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let good = GovernorConfig::default();
        assert_eq!(good.validate(), Ok(()), "the defaults");
        let cases = [
            (GovernorConfig { window: 7, ..good }, GovernorError::Window { found: 7 }),
            (
                GovernorConfig { window: MAX_WINDOW + 1, ..good },
                GovernorError::Window { found: MAX_WINDOW + 1 },
            ),
            (GovernorConfig { min_agreement: f32::NAN, ..good }, GovernorError::Floor),
            (GovernorConfig { min_agreement: -0.1, ..good }, GovernorError::Floor),
            (
                GovernorConfig { energy_per_token: Some(Microjoules(0)), ..good },
                GovernorError::Budget,
            ),
            (
                GovernorConfig { below_battery: Some((0.2, Microjoules(0))), ..good },
                GovernorError::Budget,
            ),
            (
                GovernorConfig { latency_per_token: Some(Microseconds(0)), ..good },
                GovernorError::Deadline,
            ),
            (GovernorConfig { sacrifice: [Goal::Energy; 3], ..good }, GovernorError::Sacrifice),
        ];
        for (config, error) in cases {
            assert_eq!(config.validate(), Err(error), "{config:?}");
        }
    }

    #[test]
    fn the_first_gives_way_first() {
        let config = GovernorConfig::default();
        assert!(config.gives_way_before(Goal::Agreement, Goal::Energy), "first and last");
        assert!(!config.gives_way_before(Goal::Energy, Goal::Latency), "last and second");
    }
}
