//! Energy, power and time as types: the smallest thing that prevents a unit error.
//!
//! Conversions name their rounding. Sums saturate: a meter that runs for ever must not wrap.

use core::fmt;

/// Energy. A token of a 7B model takes about a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Microjoules(pub u64);

/// Power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Milliwatts(pub u32);

/// Time, or a moment since some start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Microseconds(pub u64);

impl Microjoules {
    /// This many joules, to the nearest microjoule; `None` for what is negative, infinite or no number.
    #[must_use]
    pub fn from_joules_round(joules: f64) -> Option<Self> {
        whole_round(joules * 1e6).map(Self)
    }

    /// Millijoules, exact to a part in 2⁵³.
    #[must_use]
    pub fn as_mj(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// The sum, at most the largest there is.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left after taking `other` away, at least nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Milliwatts {
    /// This many watts, to the nearest milliwatt; `None` for what is negative, too large or no number.
    #[must_use]
    pub fn from_watts_round(watts: f64) -> Option<Self> {
        whole_round(watts * 1e3).and_then(|mw| u32::try_from(mw).ok()).map(Self)
    }

    /// The energy that flows in `time` at this power, to the nearest microjoule.
    ///
    /// `mW · µs = nJ`
    #[must_use]
    pub fn over_round(self, time: Microseconds) -> Microjoules {
        let nanojoules = u128::from(self.0) * u128::from(time.0);
        Microjoules(u64::try_from((nanojoules + 500) / 1000).unwrap_or(u64::MAX))
    }
}

impl Microseconds {
    /// This many milliseconds, rounded up: a deadline is not cut short.
    #[must_use]
    pub fn from_ms_ceil(ms: f64) -> Option<Self> {
        let us = whole_round(ms * 1e3)?;
        Some(Self(if (us as f64) < ms * 1e3 { us + 1 } else { us }))
    }

    /// Time since `earlier`; nothing if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// The nearest whole number, if it is one that a meter could mean.
fn whole_round(value: f64) -> Option<u64> {
    (value.is_finite() && (0.0..1e18).contains(&value)).then_some((value + 0.5) as u64)
}

impl fmt::Display for Microjoules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{} uJ", self.0),
            1_000..10_000 => write!(f, "{:.2} mJ", self.0 as f64 / 1e3),
            10_000..100_000 => write!(f, "{:.1} mJ", self.0 as f64 / 1e3),
            100_000..10_000_000 => write!(f, "{:.0} mJ", self.0 as f64 / 1e3),
            _ => write!(f, "{:.1} J", self.0 as f64 / 1e6),
        }
    }
}

impl fmt::Display for Milliwatts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{} mW", self.0),
            _ => write!(f, "{:.2} W", f64::from(self.0) / 1e3),
        }
    }
}

impl fmt::Display for Microseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{} us", self.0),
            1_000..10_000 => write!(f, "{:.2} ms", self.0 as f64 / 1e3),
            10_000..10_000_000 => write!(f, "{:.1} ms", self.0 as f64 / 1e3),
            _ => write!(f, "{:.1} s", self.0 as f64 / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn power_over_time_is_energy_to_the_nearest_microjoule() {
        // 5.74 W over 8.734 ms is 50.13316 mJ.
        assert_eq!(Milliwatts(5740).over_round(Microseconds(8734)), Microjoules(50_133), "nearest");
        assert_eq!(Milliwatts(1).over_round(Microseconds(499)), Microjoules(0), "down");
        assert_eq!(Milliwatts(1).over_round(Microseconds(500)), Microjoules(1), "half goes up");
        let forever = Milliwatts(u32::MAX).over_round(Microseconds(u64::MAX));
        assert_eq!(forever, Microjoules(u64::MAX), "saturates");
    }

    #[test]
    fn a_deadline_is_not_cut_short() {
        assert_eq!(Microseconds::from_ms_ceil(120.0), Some(Microseconds(120_000)), "whole");
        assert_eq!(Microseconds::from_ms_ceil(0.0004), Some(Microseconds(1)), "up");
        assert_eq!(Microseconds::from_ms_ceil(0.0006), Some(Microseconds(1)), "up, too");
    }

    #[test]
    fn nonsense_is_no_quantity() {
        for value in [-1.0, f64::NAN, f64::INFINITY, 1e30] {
            assert_eq!(Microjoules::from_joules_round(value), None, "{value} J");
            assert_eq!(Milliwatts::from_watts_round(value), None, "{value} W");
            assert_eq!(Microseconds::from_ms_ceil(value), None, "{value} ms");
        }
        assert_eq!(Milliwatts::from_watts_round(5e6), None, "more than a u32 of milliwatts");
    }

    #[test]
    fn quantities_are_shown_with_their_unit() {
        assert_eq!(Microjoules(900_000).to_string(), "900 mJ", "energy");
        assert_eq!(Microjoules(1_450).to_string(), "1.45 mJ", "little energy");
        assert_eq!(Milliwatts(15_000).to_string(), "15.00 W", "power");
        assert_eq!(Microseconds(120_000).to_string(), "120.0 ms", "time");
    }
}
