//! What a user should hear of.

/// What happened, any of it together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u16);

impl Events {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Agreement is below its floor, for another goal.
    pub const AGREEMENT_GIVES_WAY: Self = Self(1);
    /// The deadline is not kept, for another goal.
    pub const LATENCY_GIVES_WAY: Self = Self(1 << 1);
    /// The energy budget is not kept, for another goal.
    pub const ENERGY_GIVES_WAY: Self = Self(1 << 2);
    /// Even the cheapest exit costs more than the budget.
    pub const ENERGY_OUT_OF_REACH: Self = Self(1 << 3);
    /// Even the first exit takes longer than the deadline.
    pub const LATENCY_OUT_OF_REACH: Self = Self(1 << 4);
    /// Catch-ups show, beyond doubt, that exits disagree more often than the calibration says.
    pub const CALIBRATION_REFUTED: Self = Self(1 << 5);
    /// The board became slower.
    pub const THROTTLED: Self = Self(1 << 6);
    /// The board is as fast as it was.
    pub const RECOVERED: Self = Self(1 << 7);
    /// The meter no longer answers.
    pub const METER_LOST: Self = Self(1 << 8);
    /// The meter answers again.
    pub const METER_BACK: Self = Self(1 << 9);
    /// The battery is low: the stricter budget holds.
    pub const BATTERY_LOW: Self = Self(1 << 10);
    /// The battery is charged again.
    pub const BATTERY_BACK: Self = Self(1 << 11);
    /// Rows that waited are caught up now.
    pub const CATCH_UP: Self = Self(1 << 12);
    /// Drafts of exits cost more than they gain: exits make none. What was said before may be drafted all the same.
    pub const DRAFTING_OFF: Self = Self(1 << 13);

    /// The board changed its power mode.
    pub const POWER_MODE: Self = Self(1 << 14);

    /// Names, for logs.
    const NAMES: [&'static str; 15] = [
        "agreement gives way",
        "latency gives way",
        "energy gives way",
        "energy out of reach",
        "latency out of reach",
        "calibration refuted",
        "throttled",
        "recovered",
        "meter lost",
        "meter back",
        "battery low",
        "battery back",
        "catch-up",
        "drafting off",
        "power mode changed",
    ];

    /// Adds others.
    pub fn add(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Whether all of `others` are among them.
    #[must_use]
    pub fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Those that are not among `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = Self::NAMES.iter().enumerate();
        named.filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn events_are_named() {
        let mut events = Events::METER_LOST;
        events.add(Events::DRAFTING_OFF);
        assert_eq!(events.names().collect::<Vec<_>>(), ["meter lost", "drafting off"], "both");
        assert!(
            events.contains(Events::METER_LOST) && !events.contains(Events::THROTTLED),
            "one of them"
        );
        assert_eq!(events.without(Events::METER_LOST), Events::DRAFTING_OFF, "the other");
        assert!(Events::NONE.is_empty(), "none");
    }
}
