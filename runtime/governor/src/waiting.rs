//! Rows that left early and wait to be caught up, by the segment behind which they wait.

use crate::cost::{Cost, CostModel, MAX_SEGMENTS};

/// Numbers of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting([u16; MAX_SEGMENTS]);

impl Waiting {
    /// All of them.
    #[must_use]
    pub(crate) fn total(&self) -> u16 {
        self.0.iter().fold(0, |sum, rows| sum.saturating_add(*rows))
    }

    /// Rows that a token takes along into `segment`.
    #[must_use]
    pub(crate) fn before(&self, segment: usize) -> u16 {
        self.0.iter().take(segment).fold(0, |sum, rows| sum.saturating_add(*rows))
    }

    /// The same for each segment in turn.
    pub(crate) fn before_each(&self) -> impl Iterator<Item = f32> {
        self.0.iter().scan(0_u16, |sum, rows| {
            let before = *sum;
            *sum = sum.saturating_add(*rows);
            Some(f32::from(before))
        })
    }

    /// A token left behind `exit` of `segments`, and took the rows before along.
    pub(crate) fn take_along(&mut self, exit: usize) {
        let moved = self.before(exit);
        self.0[..exit].fill(0);
        self.0[exit] = self.0[exit].saturating_add(moved);
    }

    /// A token's row waits behind `exit`.
    pub(crate) fn add(&mut self, exit: usize) {
        self.0[exit] = self.0[exit].saturating_add(1);
    }

    /// Rows behind the last segment have arrived.
    pub(crate) fn arrive(&mut self, last: usize) {
        self.0[last] = 0;
    }

    /// What catching all of them up costs, among others.
    #[must_use]
    pub(crate) fn owed(&self, model: &CostModel, of: impl Fn(usize, Cost) -> Cost) -> Cost {
        let mut sum = Cost::default();
        for ((segment, cost), rows) in model.segments().iter().enumerate().zip(self.before_each()) {
            sum = sum.plus(of(segment, cost.more(rows)));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_move_with_the_token_that_takes_them_along() {
        let mut waiting = Waiting::default();
        waiting.add(0);
        waiting.add(0);
        waiting.add(2);
        assert_eq!(
            (waiting.before(1), waiting.before(2), waiting.before(3)),
            (2, 2, 3),
            "rows to take along"
        );
        assert!(waiting.before_each().take(4).eq([0.0, 2.0, 2.0, 3.0]), "segment by segment");
        waiting.take_along(1);
        waiting.add(1);
        assert_eq!(
            (waiting.before(1), waiting.before(2), waiting.before(3)),
            (0, 3, 4),
            "two and its own"
        );
        waiting.take_along(3);
        waiting.arrive(3);
        assert_eq!(waiting.total(), 0, "all arrived");
    }
}
