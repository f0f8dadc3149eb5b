//! Disagreements beyond the floor. Until catch-ups have told how much more often exits disagree on a text than calibrated, some slip
//! through; later tokens make up for them.

/// Tokens over which they are made up for.
const REPAID_OVER: f32 = 160.0;

/// What tokens owe to the floor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Shortfall {
    /// Disagreements beyond those that the floor allows.
    owed: f32,
    /// Tokens since rows were last revealed.
    tokens: f32,
}

impl Shortfall {
    /// A token was made.
    pub(crate) fn add_token(&mut self) {
        self.tokens += 1.0;
    }

    /// Rows were revealed, of which so many disagree; the floor allows `allowed` of each token.
    pub(crate) fn reveal(&mut self, disagree: u32, allowed: f32) {
        self.owed = (self.owed + disagree as f32 - allowed * self.tokens).max(0.0);
        self.tokens = 0.0;
    }

    /// By how much agreement must be above the floor for now.
    pub(crate) fn margin(&self) -> f32 {
        self.owed / REPAID_OVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_floor_allows_is_not_owed() {
        let mut shortfall = Shortfall::default();
        for _ in 0..100 {
            (0..20).for_each(|_| shortfall.add_token());
            shortfall.reveal(1, 0.05);
        }
        assert!(shortfall.margin() < 1e-4, "{shortfall:?}");
    }

    #[test]
    fn what_is_owed_is_made_up_for() {
        let mut shortfall = Shortfall::default();
        shortfall.reveal(8, 0.05);
        assert!((shortfall.margin() - 8.0 / REPAID_OVER).abs() < 1e-6, "{shortfall:?}");
        (0..160).for_each(|_| shortfall.add_token());
        shortfall.reveal(0, 0.05);
        assert!(shortfall.margin() < 1e-6, "{shortfall:?}");
    }
}
