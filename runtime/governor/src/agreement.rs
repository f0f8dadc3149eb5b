//! What catch-ups reveal: whether exits disagree with full depth more often than the calibration says.
//!
//! Suppose disagreements come `factor` times as often as expected. The governor uses an estimate of the factor, and bounds on
//! it that hold at every moment at once, by betting (Waudby-Smith and Ramdas 2024, section 4): for each factor `c` of a grid a
//! gambler bets against "the factor is at most `c`" and another against "at least `c`".
//!
//! ```text
//! wealth ← wealth · (1 + λ·(x − c·d))        x: 1 if the row disagreed, d: chance of that by the calibration
//! ```
//!
//! If the claim holds, no strategy makes the wealth grow in the mean, so it ever reaches 1/α with a chance of at most α
//! (Ville 1939). The lower bound is the largest refuted "at most", the upper the smallest refuted "at least".

/// Factors that are bet on.
const GRID: [f32; 9] = [0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0];

/// Wealth at which a claim is refuted: a chance of one in 40 for each side to err ever.
const REFUTED: f32 = 40.0;

/// Disagreements that the calibration is worth, when it meets what is revealed.
const PRIOR: f32 = 6.0;

/// How much of the evidence is kept for each row that is revealed: texts change.
const KEPT: f32 = 1.0 - 1.0 / 4096.0;

/// Rows that agreed or not, against what was expected of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Expected disagreements among rows that wait to be revealed, and those rows.
    waiting: (f32, f32),
    expected: f32,
    seen: f32,
    at_most: [f32; GRID.len()],
    at_least: [f32; GRID.len()],
    bounds: (f32, f32),
}

impl Evidence {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            waiting: (0.0, 0.0),
            expected: 0.0,
            seen: 0.0,
            at_most: [1.0; GRID.len()],
            at_least: [1.0; GRID.len()],
            bounds: (0.0, f32::INFINITY),
        }
    }

    /// A token left early, with this chance to disagree by the calibration.
    pub fn expect(&mut self, chance: f32) {
        self.waiting.0 += chance.clamp(0.0, 1.0);
        self.waiting.1 += 1.0;
    }

    /// Rows that waited will not be revealed: the sequence ended.
    pub fn forget_waiting(&mut self) {
        self.waiting = (0.0, 0.0);
    }

    /// `agreed` of `of` rows were those of full depth.
    pub fn reveal(&mut self, agreed: u32, of: u32) {
        let (sum, rows) = self.waiting;
        if of == 0 || rows <= 0.0 {
            return;
        }
        let chance = (sum / rows).clamp(1e-4, 1.0);
        self.waiting = (sum - chance * of as f32, rows - of as f32);
        if self.waiting.1 <= 0.5 {
            self.forget_waiting();
        }
        for row in 0..of {
            self.learn(row >= agreed, chance);
        }
    }

    /// How often disagreements come, as a multiple of what the calibration says.
    #[must_use]
    pub fn factor(&self) -> f32 {
        let estimate = (PRIOR + self.seen) / (PRIOR + self.expected);
        estimate.clamp(self.bounds.0, self.bounds.1).clamp(GRID[0], GRID[GRID.len() - 1])
    }

    /// Bounds of that multiple. They hold at all times together, with a chance of 19 in 20, while texts do not change.
    #[must_use]
    pub fn bounds(&self) -> (f32, f32) {
        self.bounds
    }

    fn learn(&mut self, disagreed: bool, chance: f32) {
        let x = f32::from(u8::from(disagreed));
        self.expected = self.expected * KEPT + chance;
        self.seen = self.seen * KEPT + x;
        let estimate = (PRIOR + self.seen) / (PRIOR + self.expected);
        for (index, factor) in GRID.iter().enumerate() {
            let mean = factor * chance;
            // Half of Kelly's bet on the estimate, and never more than a third of what could be lost.
            let edge = (estimate * chance - mean) / (mean + 1e-6);
            let up = (0.5 * edge).clamp(0.0, 0.33 / mean);
            let down = (-0.5 * edge).clamp(0.0, 0.5);
            self.at_most[index] = (self.at_most[index] * (1.0 + up * (x - mean))).clamp(1e-6, 1e6);
            self.at_least[index] =
                (self.at_least[index] * (1.0 - down * (x - mean))).clamp(1e-6, 1e6);
            if self.at_most[index] >= REFUTED {
                self.raise(*factor);
            }
            if self.at_least[index] >= REFUTED {
                self.lower(*factor);
            }
        }
    }

    /// "At most `factor`" is refuted. A bound that contradicts an older one replaces it: texts have changed.
    fn raise(&mut self, factor: f32) {
        self.bounds.0 = self.bounds.0.max(factor);
        if self.bounds.1 <= self.bounds.0 {
            self.bounds.1 = f32::INFINITY;
            self.at_least = [1.0; GRID.len()];
        }
    }

    fn lower(&mut self, factor: f32) {
        self.bounds.1 = self.bounds.1.min(factor);
        if self.bounds.0 >= self.bounds.1 {
            self.bounds.0 = 0.0;
            self.at_most = [1.0; GRID.len()];
        }
    }
}

impl Default for Evidence {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reveals `rows` rows, one by one, that disagree with a chance of `factor` times `chance`.
    fn after(rows: u32, chance: f32, factor: f32, seed: u64) -> Evidence {
        let mut evidence = Evidence::new();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..rows {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let agreed = (state >> 40) as f32 / (1 << 24) as f32 >= chance * factor;
            evidence.expect(chance);
            evidence.reveal(u32::from(agreed), 1);
        }
        evidence
    }

    #[test]
    fn the_calibration_is_believed_until_rows_are_revealed() {
        let evidence = Evidence::new();
        assert!((evidence.factor() - 1.0).abs() < 1e-6, "as calibrated");
        assert_eq!(evidence.bounds(), (0.0, f32::INFINITY), "nothing is known");
    }

    #[test]
    fn a_text_that_is_three_times_harder_is_found_out() {
        let evidence = after(3000, 0.03, 3.0, 1);
        assert!((2.2..3.8).contains(&evidence.factor()), "{}", evidence.factor());
        assert!(evidence.bounds().0 >= 1.4, "{:?}", evidence.bounds());
    }

    #[test]
    fn a_text_as_calibrated_is_seldom_accused() {
        // Each side errs at most once in 40 sequences, at any moment of them.
        let accused =
            (0..200).filter(|seed| after(2000, 0.03, 1.0, *seed).bounds().0 >= 1.0).count();
        assert!(accused <= 5 + 6, "{accused} of 200");
        let excused =
            (0..200).filter(|seed| after(2000, 0.03, 1.0, *seed).bounds().1 <= 1.0).count();
        assert!(excused <= 5 + 6, "{excused} of 200");
    }

    #[test]
    fn rows_of_ended_sequences_are_not_revealed() {
        let mut evidence = Evidence::new();
        evidence.expect(0.5);
        evidence.forget_waiting();
        evidence.reveal(0, 1);
        assert_eq!(evidence, Evidence::new(), "nothing was learned");
    }
}
