//! From samples of power to joules between two moments.
//!
//! ```text
//! power ▲      ╱●╲       energy = Σ ½·(p[i] + p[i+1])·(t[i+1] − t[i])
//!       │  ●──╱   ╲──●
//!       └──┬───┬───┬──┬──▶ time
//! ```
//!
//! A meter may disappear, fall silent, freeze or talk nonsense. Each is a [`MeterFault`]; energy of such a time is not made up, it
//! is missing, and whoever asks for it is told so.

use core::fmt;

use crate::units::{Microjoules, Microseconds, Milliwatts};

/// What is wrong with a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeterFault {
    /// It does not answer: the file or the chip is gone.
    Gone,
    /// Its answer is no number, or out of its range.
    Nonsense,
    /// It answers the same for so long that it cannot be measuring.
    Frozen,
    /// Samples are further apart than the energy between them could be told.
    Silent,
    /// The battery is not discharging: the board draws from elsewhere.
    OnMains,
}

impl MeterFault {
    /// A stable number for logs of devices without text.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Gone => 601,
            Self::Nonsense => 602,
            Self::Frozen => 603,
            Self::Silent => 604,
            Self::OnMains => 605,
        }
    }
}

impl MeterFault {
    /// The fault of this number; one that is not known is [`Self::Silent`], because it is no measurement.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        match code {
            0 => None,
            601 => Some(Self::Gone),
            602 => Some(Self::Nonsense),
            603 => Some(Self::Frozen),
            605 => Some(Self::OnMains),
            _ => Some(Self::Silent),
        }
    }
}

impl fmt::Display for MeterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => {
                "the power meter does not answer: check the wire, the driver, and who may read it"
            }
            Self::Nonsense => {
                "the power meter answers what cannot be: check the rail and the shunt"
            }
            Self::Frozen => "the power meter repeats itself: it is no longer measuring",
            Self::Silent => {
                "samples of power are too far apart: the sampling thread does not get to run"
            }
            Self::OnMains => {
                "the battery is not discharging: it says nothing of what the board draws"
            }
        })
    }
}

impl core::error::Error for MeterFault {}

/// Fewer equal samples than this may be chance, however slowly they come.
const FEWEST_EQUAL: u32 = 64;

/// No processor draws this: a counter that says so was set back.
const MOST_COUNTED: Milliwatts = Milliwatts(10_000_000);

/// What a meter can plausibly answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plausible {
    /// Most power that the board can draw.
    pub most: Milliwatts,
    /// How long a meter may repeat itself before it counts as frozen.
    pub frozen_after: Microseconds,
    /// Longest time between two samples.
    pub gap: Microseconds,
}

impl Plausible {
    /// For samples about this far apart: 150 W, ten seconds of the same answer, a gap of a quarter second or 25 samples.
    #[must_use]
    pub fn every(interval: Microseconds) -> Self {
        let interval = interval.0.max(1);
        Self {
            most: Milliwatts(150_000),
            frozen_after: Microseconds((u64::from(FEWEST_EQUAL) * interval).max(10_000_000)),
            gap: Microseconds((25 * interval).max(250_000)),
        }
    }
}

/// Adds samples up.
#[derive(Clone, Copy, Debug)]
pub struct Integrator {
    plausible: Plausible,
    last: Option<(Microseconds, Milliwatts)>,
    nanojoules: u128,
    /// Equal samples in a row, and when the first of them came.
    equal: u32,
    equal_since: Microseconds,
    fault: Option<MeterFault>,
    last_fault: Option<MeterFault>,
    /// Faults so far: two moments with the same number have no fault between them.
    faults: u32,
}

/// Where a meter stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The moment.
    pub at: Microseconds,
    /// Energy since the start.
    pub energy: Microjoules,
    /// Power at the last sample.
    pub power: Milliwatts,
    /// Faults since the start.
    pub faults: u32,
    /// The fault that holds.
    pub fault: Option<MeterFault>,
    /// The last fault there was.
    pub last_fault: Option<MeterFault>,
}

impl Reading {
    /// Energy since an earlier reading.
    ///
    /// # Errors
    ///
    /// The fault that came between, and makes the energy unknown.
    pub fn since(&self, earlier: &Self) -> Result<Microjoules, MeterFault> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.faults != earlier.faults => {
                Err(self.last_fault.unwrap_or(MeterFault::Silent))
            }
            None if earlier.fault.is_some() => Err(MeterFault::Silent),
            None => Ok(self.energy.less(earlier.energy)),
        }
    }
}

impl Reading {
    /// Energy since an earlier reading, in two parts: what the board would have drawn doing nothing, and what came on top.
    ///
    /// # Errors
    ///
    /// As [`Self::since`].
    pub fn split_since(
        &self,
        earlier: &Self,
        idle: Milliwatts,
    ) -> Result<(Microjoules, Microjoules), MeterFault> {
        let all = self.since(earlier)?;
        let floor = idle.over_round(self.at.since(earlier.at)).min(all);
        Ok((floor, all.less(floor)))
    }

    /// The same meter a little later: since the last sample, power is taken to have stayed, for no longer than `gap`.
    #[must_use]
    pub fn at(self, now: Microseconds, gap: Microseconds) -> Self {
        let since = now.since(self.at);
        if self.fault.is_some() || since > gap {
            return Self { at: now, fault: self.fault.or(Some(MeterFault::Silent)), ..self };
        }
        Self { at: now, energy: self.energy.plus(self.power.over_round(since)), ..self }
    }
}

impl Integrator {
    /// Starts at nothing.
    #[must_use]
    pub fn new(plausible: Plausible) -> Self {
        Self {
            plausible,
            last: None,
            nanojoules: 0,
            equal: 0,
            equal_since: Microseconds(0),
            fault: None,
            last_fault: None,
            faults: 0,
        }
    }

    /// Adds a sample, or that there was none.
    pub fn add(&mut self, at: Microseconds, sample: Result<Milliwatts, MeterFault>) {
        let power = match sample {
            Ok(power) if power > self.plausible.most => return self.fail(MeterFault::Nonsense),
            Ok(power) => power,
            Err(fault) => return self.fail(fault),
        };
        if let Some((before, earlier)) = self.last {
            if at <= before {
                return;
            }
            if self.is_frozen(at, power == earlier) {
                self.last = Some((at, power));
                return;
            }
            let elapsed = at.since(before);
            if elapsed > self.plausible.gap {
                self.fail(MeterFault::Silent);
            } else {
                self.nanojoules += u128::from(earlier.0 + power.0) * u128::from(elapsed.0) / 2;
            }
        } else {
            self.equal_since = at;
        }
        self.fault = None;
        self.last = Some((at, power));
    }

    /// Adds a counter's step: energy that a meter counted itself. A counter that stands still repeats itself.
    pub fn add_energy(&mut self, at: Microseconds, energy: Microjoules) {
        let mut power = Milliwatts(0);
        if let Some((before, _)) = self.last {
            let elapsed = at.since(before).0.max(1);
            let milliwatts = u128::from(energy.0) * 1000 / u128::from(elapsed);
            power = Milliwatts(u32::try_from(milliwatts).unwrap_or(u32::MAX));
            if power > MOST_COUNTED {
                return self.fail(MeterFault::Nonsense);
            }
            if self.is_frozen(at, energy.0 == 0) {
                self.last = Some((at, power));
                return;
            }
            self.nanojoules += u128::from(energy.0) * 1000;
        } else {
            self.equal_since = at;
        }
        self.fault = None;
        self.last = Some((at, power));
    }

    /// Counts samples that are as the one before, and notices when they have been for too long.
    fn is_frozen(&mut self, at: Microseconds, is_equal: bool) -> bool {
        if !is_equal {
            (self.equal, self.equal_since) = (0, at);
            return false;
        }
        self.equal = self.equal.saturating_add(1);
        let repeated_for = at.since(self.equal_since);
        let is_frozen = self.equal >= FEWEST_EQUAL && repeated_for >= self.plausible.frozen_after;
        if is_frozen && self.fault != Some(MeterFault::Frozen) {
            let equal = self.equal;
            self.fail(MeterFault::Frozen);
            // The next equal sample is one more of the same.
            self.equal = equal;
        }
        is_frozen
    }

    /// Where it stood at the last sample.
    #[must_use]
    pub fn last(&self) -> Reading {
        let (at, power) = self.last.unwrap_or_default();
        let energy = Microjoules(u64::try_from(self.nanojoules / 1000).unwrap_or(u64::MAX));
        let silent = self.last.is_none().then_some(MeterFault::Silent);
        let fault = self.fault.or(silent);
        Reading { at, energy, power, faults: self.faults, fault, last_fault: self.last_fault }
    }

    /// Where it stands now.
    #[must_use]
    pub fn read(&self, now: Microseconds) -> Reading {
        self.last().at(now, self.plausible.gap)
    }

    fn fail(&mut self, fault: MeterFault) {
        self.faults = self.faults.wrapping_add(1);
        (self.fault, self.last_fault) = (Some(fault), Some(fault));
        self.last = None;
        self.equal = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1000;

    fn integrator() -> Integrator {
        Integrator::new(Plausible::every(Microseconds(10 * MS)))
    }

    #[test]
    fn energy_is_the_area_under_the_samples() {
        let mut sum = integrator();
        sum.add(Microseconds(0), Ok(Milliwatts(1000)));
        sum.add(Microseconds(10 * MS), Ok(Milliwatts(3000)));
        sum.add(Microseconds(20 * MS), Ok(Milliwatts(3000)));
        // 2 W for 10 ms, 3 W for 10 ms, and 3 W for the 5 ms since.
        let reading = sum.read(Microseconds(25 * MS));
        assert_eq!(reading.energy, Microjoules(20_000 + 30_000 + 15_000), "{reading:?}");
        let before = sum.read(Microseconds(20 * MS));
        assert_eq!(reading.since(&before), Ok(Microjoules(15_000)), "between two readings");
        let split = reading.split_since(&before, Milliwatts(1000));
        assert_eq!(split, Ok((Microjoules(5000), Microjoules(10_000))), "1 W of it is idle");
        let split = reading.split_since(&before, Milliwatts(9000));
        assert_eq!(split, Ok((Microjoules(15_000), Microjoules(0))), "idle is at most all of it");
    }

    #[test]
    fn faults_make_energy_unknown_and_not_wrong() {
        let cases = [
            (Err(MeterFault::Gone), MeterFault::Gone),
            (Ok(Milliwatts(200_000)), MeterFault::Nonsense),
        ];
        for (sample, fault) in cases {
            let mut sum = integrator();
            sum.add(Microseconds(0), Ok(Milliwatts(1000)));
            let before = sum.read(Microseconds(0));
            sum.add(Microseconds(10 * MS), sample);
            assert_eq!(
                sum.read(Microseconds(10 * MS)).since(&before),
                Err(fault),
                "while it holds"
            );
            sum.add(Microseconds(20 * MS), Ok(Milliwatts(1001)));
            let back = sum.read(Microseconds(20 * MS));
            assert_eq!(back.fault, None, "it is back");
            assert_eq!(back.since(&before), Err(fault), "but what it missed is unknown");
            sum.add(Microseconds(30 * MS), Ok(Milliwatts(1000)));
            let energy = sum.read(Microseconds(30 * MS)).since(&back);
            assert_eq!(energy, Ok(Microjoules(10_005)), "and it goes on");
        }
    }

    #[test]
    fn a_meter_that_repeats_itself_is_frozen_until_it_moves() {
        let mut sum = integrator();
        let frozen_after = sum.plausible.frozen_after.0 / (10 * MS);
        for sample in 0..=frozen_after {
            assert_eq!(sum.fault, None, "sample {sample}");
            sum.add(Microseconds(sample * 10 * MS), Ok(Milliwatts(5000)));
        }
        for sample in frozen_after + 1..2 * frozen_after {
            assert_eq!(sum.fault, Some(MeterFault::Frozen), "sample {sample}");
            sum.add(Microseconds(sample * 10 * MS), Ok(Milliwatts(5000)));
        }
        assert_eq!(sum.faults, 1, "one fault, however long");
        sum.add(Microseconds(2 * frozen_after * 10 * MS), Ok(Milliwatts(5040)));
        assert_eq!(sum.fault, None, "it moves");
    }

    #[test]
    fn a_silent_meter_is_noticed_by_who_asks() {
        let mut sum = integrator();
        assert_eq!(sum.read(Microseconds(0)).fault, Some(MeterFault::Silent), "no sample yet");
        sum.add(Microseconds(0), Ok(Milliwatts(1000)));
        assert_eq!(sum.read(Microseconds(100 * MS)).fault, None, "late");
        assert_eq!(sum.read(Microseconds(300 * MS)).fault, Some(MeterFault::Silent), "too late");
    }

    #[test]
    fn every_fault_is_found_by_its_number() {
        use MeterFault::{Frozen, Gone, Nonsense, OnMains, Silent};
        for fault in [Gone, Nonsense, Frozen, Silent, OnMains] {
            assert_eq!(MeterFault::from_code(fault.code()), Some(fault), "{fault}");
        }
        assert_eq!(
            (MeterFault::from_code(0), MeterFault::from_code(7)),
            (None, Some(Silent)),
            "none, unknown"
        );
    }

    #[test]
    fn counters_are_added_as_they_are() {
        let mut sum = integrator();
        sum.add_energy(Microseconds(0), Microjoules(0));
        sum.add_energy(Microseconds(10 * MS), Microjoules(50_000));
        let reading = sum.read(Microseconds(10 * MS));
        assert_eq!(
            (reading.energy, reading.power),
            (Microjoules(50_000), Milliwatts(5000)),
            "5 W for 10 ms"
        );
    }

    #[test]
    fn a_counter_that_was_set_back_talks_nonsense() {
        let mut sum = integrator();
        sum.add_energy(Microseconds(0), Microjoules(0));
        let before = sum.last();
        // 200 kJ in 10 ms: it began anew, and was taken to have wrapped around.
        sum.add_energy(Microseconds(10 * MS), Microjoules(200_000_000_000));
        assert_eq!(sum.last().since(&before), Err(MeterFault::Nonsense), "20 MW");
        sum.add_energy(Microseconds(20 * MS), Microjoules(50_000));
        let back = sum.last();
        assert_eq!((back.fault, back.energy), (None, Microjoules(0)), "it counts from here");
    }
}
