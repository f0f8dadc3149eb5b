//! What a governor is busy with, and what makes it change: a table, which `docs/governor.md` draws.

/// What a governor is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every budget allows full depth.
    Ample,
    /// Exits are chosen so that a budget is kept.
    Keeping,
    /// The window is over its budget, or so close that the next token is held back.
    Repaying,
    /// The goals contradict each other: one of them gives way.
    Yielding,
    /// The meter is broken: energy is modelled.
    Blind,
    /// The meter is broken, and no token may be started without one.
    Stopped,
}

/// What a token, or the meter, shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Full depth costs less than is allowed.
    Slack,
    /// It costs more.
    Binding,
    /// The window has no energy left for it.
    Debt,
    /// Goals contradict each other.
    Conflict,
    /// The meter is broken, and decoding goes on.
    Lost,
    /// The meter is broken, and decoding stops.
    Halt,
    /// The meter answers again.
    Back,
}

/// From, because of, to. What is not here changes nothing.
#[rustfmt::skip] // A table is read by its columns.
pub const TRANSITIONS: &[(Mode, Cause, Mode)] = &[
    (Mode::Ample,    Cause::Binding,  Mode::Keeping),
    (Mode::Ample,    Cause::Debt,     Mode::Repaying),
    (Mode::Ample,    Cause::Conflict, Mode::Yielding),
    (Mode::Ample,    Cause::Lost,     Mode::Blind),
    (Mode::Ample,    Cause::Halt,     Mode::Stopped),
    (Mode::Keeping,  Cause::Slack,    Mode::Ample),
    (Mode::Keeping,  Cause::Debt,     Mode::Repaying),
    (Mode::Keeping,  Cause::Conflict, Mode::Yielding),
    (Mode::Keeping,  Cause::Lost,     Mode::Blind),
    (Mode::Keeping,  Cause::Halt,     Mode::Stopped),
    (Mode::Repaying, Cause::Slack,    Mode::Ample),
    (Mode::Repaying, Cause::Binding,  Mode::Keeping),
    (Mode::Repaying, Cause::Conflict, Mode::Yielding),
    (Mode::Repaying, Cause::Lost,     Mode::Blind),
    (Mode::Repaying, Cause::Halt,     Mode::Stopped),
    (Mode::Yielding, Cause::Slack,    Mode::Ample),
    (Mode::Yielding, Cause::Binding,  Mode::Keeping),
    (Mode::Yielding, Cause::Debt,     Mode::Repaying),
    (Mode::Yielding, Cause::Lost,     Mode::Blind),
    (Mode::Yielding, Cause::Halt,     Mode::Stopped),
    (Mode::Blind,    Cause::Back,     Mode::Keeping),
    (Mode::Stopped,  Cause::Back,     Mode::Keeping),
];

impl Mode {
    /// The mode that follows.
    #[must_use]
    pub fn next(self, cause: Cause) -> Self {
        let row = TRANSITIONS.iter().find(|(from, because, _)| *from == self && *because == cause);
        row.map_or(self, |(_, _, to)| *to)
    }

    /// Whether the meter is broken.
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(self, Self::Blind | Self::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::ToOwned;
    use std::collections::BTreeSet;
    use std::format;
    use std::string::String;

    use super::*;

    #[test]
    fn the_diagram_in_the_documentation_is_the_table() {
        let page = include_str!("../../../docs/governor.md");
        let drawn: BTreeSet<String> = page
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("-->") && !line.starts_with("[*]"))
            .map(ToOwned::to_owned)
            .collect();
        let coded: BTreeSet<String> = TRANSITIONS
            .iter()
            .map(|(from, cause, to)| format!("{from:?} --> {to:?}: {cause:?}"))
            .collect();
        assert_eq!(drawn, coded, "docs/governor.md and mode.rs");
    }

    #[test]
    fn a_fault_is_left_as_soon_as_the_meter_is_back() {
        for mode in [Mode::Blind, Mode::Stopped] {
            assert!(!mode.next(Cause::Back).is_fault(), "{mode:?}");
        }
    }

    #[test]
    fn a_broken_meter_is_noticed_in_every_mode() {
        for (from, _, _) in TRANSITIONS {
            assert!(
                from.next(Cause::Lost).is_fault() && from.next(Cause::Halt).is_fault(),
                "{from:?}"
            );
        }
    }
}
