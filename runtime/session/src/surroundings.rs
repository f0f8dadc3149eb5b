//! What changes around a model while it speaks: the board's power mode, and its battery.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dynamax_config::Board;
use dynamax_governor::meter::{Battery, power_mode};

use crate::budget::Budget;

/// Time between two looks: files are read, which a token should not wait for often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks around, seldom, and tells the governor what has changed.
#[derive(Debug)]
pub struct Surroundings {
    root: PathBuf,
    board: Board,
    battery: Option<Battery>,
    mode: Option<u32>,
    looked: Option<Instant>,
}

impl Surroundings {
    /// Looks at a board whose files are below `root`, which is `/` but for tests. Its battery is looked at only where a budget
    /// depends on it.
    #[must_use]
    pub fn new(root: &Path, board: Board, watches_battery: bool) -> Self {
        let battery = watches_battery.then(|| Battery::open(root).ok()).flatten();
        Self { root: root.into(), board, battery, mode: power_mode(root), looked: None }
    }

    /// The power mode that was seen last, on a board that has any.
    #[must_use]
    pub fn power_mode(&self) -> Option<u32> {
        self.mode
    }

    /// Looks around, if the last look was a while ago.
    pub(crate) fn look(&mut self, budget: Option<&mut Budget>) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let before = std::mem::replace(&mut self.mode, power_mode(&self.root));
        let Some(budget) = budget else { return };
        let change = before.zip(self.mode).filter(|(from, to)| from != to);
        if let Some((time, energy)) = change.and_then(|(from, to)| self.board.mode_change(from, to))
        {
            budget.power_mode_changed(time, energy);
        }
        if let Some(level) = self.battery.as_ref().and_then(Battery::level) {
            budget.battery_is(level);
        }
    }
}
