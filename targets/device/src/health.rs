//! Whether the power meter can be believed, for the log and for `/metrics`.

use dynamax_governor::MeterFault;

/// Tokens in a row that must say otherwise before it is said: a single one may fall between two samples. As many as the governor
/// waits for.
const STREAK: u8 = 4;

/// What tokens have told of the meter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health {
    is_broken: bool,
    streak: u8,
    /// Times that it broke.
    pub(crate) faults: u64,
}

impl Health {
    /// A token's energy was measured, or this was wrong. Returns what is worth a line in the log.
    pub(crate) fn saw(&mut self, fault: Option<MeterFault>) -> Option<String> {
        self.streak = if fault.is_some() == self.is_broken { 0 } else { self.streak + 1 };
        if self.streak < STREAK {
            return None;
        }
        (self.is_broken, self.streak) = (fault.is_some(), 0);
        self.faults += u64::from(self.is_broken);
        Some(match fault {
            Some(fault) => {
                format!("{fault}; budgets are kept by the model until it is back")
            }
            None => "the power meter is back".to_owned(),
        })
    }

    /// Whether the meter works.
    pub(crate) fn is_whole(self) -> bool {
        !self.is_broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_meter_is_told_of_once_and_so_is_its_return() {
        let (mut health, mut log) = (Health::default(), Vec::new());
        let gone = Some(MeterFault::Gone);
        // A single silence is none; four are.
        let seen = [[None, gone, None, None], [gone; 4], [gone, gone, None, gone], [None; 4]];
        for fault in seen.into_iter().flatten() {
            log.extend(health.saw(fault).map(|_| health.is_whole()));
        }
        assert_eq!(log, [false, true], "broken, then whole");
        assert_eq!(health.faults, 1, "once");
    }
}
