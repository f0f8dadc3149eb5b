//! The energy of the last tokens, and what it leaves to the next.
//!
//! The mean over *any* window is to stay below the budget, so the next `k` tokens may spend what the last `W − k` left:
//!
//! ```text
//! R(k) = W·B − Σ energy of the last W − k tokens
//! ```
//!
//! Debts are repaid before they leave the window, and savings last as long as they are in it. `R(1)` is a hard limit for the next
//! token; `R(k)/k` for a few longer looks ahead is what it should aim at, because it sees savings leave before they do.

use crate::config::MAX_WINDOW;

/// How far is looked ahead, in sixteenths of the window.
const LOOKS: [usize; 5] = [1, 2, 4, 8, 12];

/// How far a window may be over its budget.
const TOLERANCE: f32 = 0.005;

/// The last tokens' energy, in microjoules.
#[derive(Clone, Debug)]
pub struct EnergyWindow {
    ring: [u32; MAX_WINDOW],
    length: usize,
    at: usize,
    budget_uj: u32,
    /// Sums of the last `W − k` tokens: for `k` = 1, then for each look.
    sums: [i64; LOOKS.len() + 1],
}

impl EnergyWindow {
    /// A window as if every token before had spent the budget: no savings, no debts.
    #[must_use]
    pub fn new(length: usize, budget_uj: u32) -> Self {
        let mut window = Self {
            ring: [0; MAX_WINDOW],
            length: length.clamp(8, MAX_WINDOW),
            at: 0,
            budget_uj,
            sums: [0; LOOKS.len() + 1],
        };
        window.restart(budget_uj);
        window
    }

    /// Starts over with another budget: what was spent under the old one is forgotten.
    pub fn restart(&mut self, budget_uj: u32) {
        self.budget_uj = budget_uj;
        self.ring[..self.length].fill(budget_uj);
        for index in 0..self.sums.len() {
            self.sums[index] = (self.length - self.ahead(index)) as i64 * i64::from(budget_uj);
        }
    }

    /// The budget of a token.
    #[must_use]
    pub fn budget_uj(&self) -> u32 {
        self.budget_uj
    }

    /// Adds a token's energy.
    pub fn push(&mut self, energy_uj: u32) {
        for index in 0..self.sums.len() {
            // The oldest of the last W − k leaves them.
            let leaves = (self.at + self.ahead(index)) % self.length;
            self.sums[index] += i64::from(energy_uj) - i64::from(self.ring[leaves]);
        }
        self.ring[self.at] = energy_uj;
        self.at = (self.at + 1) % self.length;
    }

    /// The mean over the window.
    #[must_use]
    pub fn mean_uj(&self) -> f32 {
        // The last W − 1, and the one before them, which the next token will push out.
        (self.sums[0] + i64::from(self.ring[self.at])) as f32 / self.length as f32
    }

    /// Whether it is over its budget by more than it may be.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.mean_uj() > self.budget_uj as f32 * (1.0 + TOLERANCE)
    }

    /// Most that the next token may spend, if the window may be half a percent over its budget: without that, a token that costs
    /// a little more than the budget could never be chosen.
    #[must_use]
    pub fn allowance_uj(&self) -> f32 {
        (self.total() - self.sums[0]) as f32 + TOLERANCE * self.total() as f32
    }

    /// How many tokens ahead is looked, and what each of them may spend.
    pub fn shares_uj(&self) -> impl Iterator<Item = (f32, f32)> {
        (1..self.sums.len()).map(|index| {
            let ahead = self.ahead(index) as f32;
            (ahead, (self.total() - self.sums[index]) as f32 / ahead)
        })
    }

    fn total(&self) -> i64 {
        self.length as i64 * i64::from(self.budget_uj)
    }

    /// `k` of a sum.
    fn ahead(&self, index: usize) -> usize {
        match index {
            0 => 1,
            _ => (self.length * LOOKS[index - 1] / 16).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn sums_are_those_of_the_last_tokens() {
        let mut window = EnergyWindow::new(32, 100);
        let mut spent: Vec<u32> = std::vec![100; 32];
        for token in 0..200_u32 {
            let energy = 50 + token * 37 % 101;
            window.push(energy);
            spent.push(energy);
            for index in 0..window.sums.len() {
                let last = 32 - window.ahead(index);
                let sum: u32 = spent[spent.len() - last..].iter().sum();
                assert_eq!(window.sums[index], i64::from(sum), "token {token}, sum {index}");
            }
            let mean = spent[spent.len() - 32..].iter().sum::<u32>() as f32 / 32.0;
            assert!((window.mean_uj() - mean).abs() < 1e-3, "token {token}");
        }
    }

    #[test]
    fn a_steady_window_allows_the_budget() {
        let window = EnergyWindow::new(64, 1000);
        // And half a percent of 64 000.
        assert!((window.allowance_uj() - 1320.0).abs() < 1e-2, "next");
        assert!(window.shares_uj().all(|(_, uj)| (uj - 1000.0).abs() < 1e-3), "each");
    }

    #[test]
    fn savings_may_be_spent_and_debts_must_be_repaid() {
        let mut window = EnergyWindow::new(64, 1000);
        window.push(400);
        assert!((window.allowance_uj() - 1920.0).abs() < 1e-2, "600 saved");
        window.push(1900);
        // 300 over, due when the next of the tokens leaves.
        assert!((window.allowance_uj() - 1020.0).abs() < 1e-2, "300 owed");
        let least = window.shares_uj().map(|(_, uj)| uj).fold(f32::INFINITY, f32::min);
        assert!(least < 1000.0, "{least}");
    }

    #[test]
    fn no_window_is_over_its_budget_if_each_token_keeps_the_allowance() {
        let mut window = EnergyWindow::new(16, 1000);
        let mut spent: Vec<f32> = Vec::new();
        let mut state = 7_u32;
        for _ in 0..5000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Between 300 and 2000, as far as is allowed; 300 always is.
            let wish = 300.0 + (state >> 16) as f32 * (1700.0 / 65_536.0);
            let energy = wish.min(window.allowance_uj());
            assert!(energy >= 300.0 - 1.0, "the cheapest token is always allowed: {energy}");
            window.push(energy as u32);
            spent.push(energy);
            let mean: f32 = spent.iter().rev().take(16).sum::<f32>() / 16.0;
            assert!(spent.len() < 16 || mean <= 1006.0, "{mean}");
        }
    }

    #[test]
    fn another_budget_starts_over() {
        let mut window = EnergyWindow::new(64, 1000);
        window.push(5000);
        window.restart(400);
        assert!((window.allowance_uj() - 528.0).abs() < 1e-2, "no debt of before");
        assert!((window.mean_uj() - 400.0).abs() < 1e-3, "{}", window.mean_uj());
    }
}
