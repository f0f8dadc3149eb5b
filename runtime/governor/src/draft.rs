//! How many tokens to draft before they are verified, and whether to draft at all.
//!
//! With a chance `α` that a draft is right, `k` drafts and their verification yield `(1 − α^(k+1)) / (1 − α)` tokens (Leviathan
//! et al. 2023, equation 1). They cost `k + 1` passes through the segments up to the exit, one pass through the rest with
//! `k + 1` rows, and `k` heads more than a single token has. A bad exit makes this a loss, so below a gain of a tenth nothing
//! is drafted; from time to time it is tried again, because texts change.

/// Least gain for which drafting is worth its trouble.
const LEAST_GAIN: f32 = 1.1;

/// Tokens without drafts before drafting is tried again.
const PAUSE: u16 = 256;

/// Rounds of a trial.
const TRIAL: u16 = 16;

/// How much of a round's acceptance is taken over.
const RATE: f32 = 1.0 / 32.0;

/// What a round consists of, in any one unit of cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundCost {
    /// A token through the segments up to the draft's exit, with the head.
    pub draft: f32,
    /// One row through the rest.
    pub rest: f32,
    /// Each further row through the rest, with a head.
    pub more: f32,
}

/// What is known of drafts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drafting {
    acceptance: f32,
    most: u8,
    pause: u16,
    trial: u16,
}

impl Drafting {
    /// Begins with a trial.
    #[must_use]
    pub fn new(most: u8, acceptance: f32) -> Self {
        Self { acceptance: acceptance.clamp(0.0, 0.99), most, pause: 0, trial: TRIAL }
    }

    /// Learns from a round: how many of its drafts were right.
    pub fn learn(&mut self, agreed: u32, of: u32) {
        if of == 0 {
            self.pause = self.pause.saturating_sub(1);
            if self.pause == 0 && self.trial == 0 {
                self.trial = TRIAL;
            }
            return;
        }
        // The first wrong draft ends a round: that many successes, and at most one failure.
        let tried = (agreed + 1).min(of);
        let share = agreed as f32 / tried as f32;
        let weight = (RATE * tried as f32).min(0.5);
        self.acceptance = (self.acceptance + weight * (share - self.acceptance)).clamp(0.0, 0.99);
        self.trial = self.trial.saturating_sub(1);
    }

    /// The number of drafts that gains most; 0 where none gains enough.
    pub fn length(&mut self, cost: &RoundCost) -> u8 {
        if self.pause > 0 {
            return 0;
        }
        let gain_of = |k: &u8| self.gain(*k, cost);
        let best = (1..=self.most).max_by(|a, b| gain_of(a).total_cmp(&gain_of(b)));
        match best {
            Some(best) if self.gain(best, cost) >= LEAST_GAIN => best,
            Some(_) if self.trial > 0 => 1,
            _ => {
                self.pause = PAUSE;
                0
            }
        }
    }

    /// Chance that a draft is right.
    #[must_use]
    pub fn acceptance(&self) -> f32 {
        self.acceptance
    }

    /// Tokens for the cost of one at full depth.
    #[must_use]
    pub fn gain(&self, drafts: u8, cost: &RoundCost) -> f32 {
        let (mut tokens, mut chance) = (1.0, 1.0);
        for _ in 0..drafts {
            chance *= self.acceptance;
            tokens += chance;
        }
        let k = f32::from(drafts);
        let round = (k + 1.0) * cost.draft + cost.rest + k * cost.more;
        tokens * (cost.draft + cost.rest) / round.max(f32::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exit at a quarter of the depth; a further row costs a tenth of the first.
    const COST: RoundCost = RoundCost { draft: 0.25, rest: 0.75, more: 0.075 };

    #[test]
    fn the_gain_is_that_of_the_formula() {
        // α = 0.8, k = 4: (1 − 0.8⁵)/0.2 = 3.3616 tokens for 5·0.25 + 0.75 + 0.3 = 2.3.
        let drafting = Drafting::new(8, 0.8);
        assert!(
            (drafting.gain(4, &COST) - 3.3616 / 2.3).abs() < 1e-3,
            "{}",
            drafting.gain(4, &COST)
        );
        assert!((drafting.gain(0, &COST) - 1.0).abs() < 1e-6, "no drafts, no gain");
    }

    #[test]
    fn good_drafts_are_long_and_bad_ones_are_switched_off() {
        assert!(Drafting::new(8, 0.95).length(&COST) >= 5, "nearly always right");
        assert!((1..=3).contains(&Drafting::new(8, 0.6).length(&COST)), "often wrong");
        let mut bad = Drafting::new(8, 0.1);
        for _ in 0..TRIAL {
            assert_eq!(bad.length(&COST), 1, "a trial first");
            bad.learn(0, 1);
        }
        assert_eq!(bad.length(&COST), 0, "then off");
    }

    #[test]
    fn drafting_is_tried_again_after_a_pause() {
        let mut drafting = Drafting::new(4, 0.0);
        for _ in 0..TRIAL {
            drafting.learn(0, 1);
        }
        assert_eq!(drafting.length(&COST), 0, "off");
        let mut tokens = 0;
        while drafting.length(&COST) == 0 {
            drafting.learn(0, 0);
            tokens += 1;
            assert!(tokens <= PAUSE, "never tried again");
        }
        for _ in 0..60 {
            drafting.learn(1, 1);
        }
        assert!(drafting.length(&COST) >= 1, "and found good: {}", drafting.acceptance());
        assert!(drafting.gain(1, &COST) > LEAST_GAIN, "{}", drafting.gain(1, &COST));
    }
}
