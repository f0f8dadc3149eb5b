//! Corrects the cost model by what is measured, token by token.
//!
//! ```text
//! predicted = common · Σ shape[i]·part[i]
//!
//! common   ← common · (1 + rate·(measured/predicted − 1))                        fast: clocks, temperature, power mode
//! shape[i] ← shape[i] + slow·(measured/common − Σ shape·part)·part[i] / Σ part²   slow: a model's wrong proportions
//! ```
//!
//! The second line is the normalised least-mean-squares step (Nagumo and Noda 1967). Both are bounded, and a single token
//! moves them little: a stall is not a new clock.

use crate::cost::{Cost, MAX_SEGMENTS};

/// Segments and the head.
pub const PARTS: usize = MAX_SEGMENTS + 1;

/// Bounds of the common factor: further off, the profile is of another board.
const COMMON: (f32, f32) = (1.0 / 16.0, 16.0);

/// Bounds of each part's own factor.
const SHAPE: (f32, f32) = (0.25, 4.0);

/// Rate of the parts' own factors.
const SLOW: f32 = 0.02;

/// How fast a part that is not seen becomes like the others again.
const FORGET: f32 = 1.0 / 2048.0;

/// A token as far off as this counts as no further off.
const OUTLIER: (f32, f32) = (0.5, 2.0);

/// Factors for one of time and energy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    common: f32,
    shape: [f32; PARTS],
    /// What a token's parts weigh in the mean: by them the shapes' mean is kept at 1, so that only one of the two may drift.
    weight: [f32; PARTS],
    rate: f32,
}

impl Factors {
    /// No correction; `rate` is how much of a token's surprise the common factor takes over.
    #[must_use]
    pub fn new(rate: f32) -> Self {
        Self { common: 1.0, shape: [1.0; PARTS], weight: [0.0; PARTS], rate }
    }

    /// The factor of a part.
    #[must_use]
    pub fn of(&self, part: usize) -> f32 {
        self.common * self.shape[part]
    }

    /// The factor that all parts share.
    #[must_use]
    pub fn common(&self) -> f32 {
        self.common
    }

    /// Changes the common factor at once, because the board says that its clocks did.
    pub fn jump(&mut self, ratio: f32) {
        if ratio.is_finite() && ratio > 0.0 {
            self.common = (self.common * ratio).clamp(COMMON.0, COMMON.1);
        }
    }

    /// Learns from a token whose parts the model expected to be `parts`; returns measured over predicted.
    pub fn learn(&mut self, parts: &[f32; PARTS], measured: f32) -> f32 {
        let shaped: f32 = parts.iter().zip(&self.shape).map(|(part, shape)| part * shape).sum();
        let squares: f32 = parts.iter().map(|part| part * part).sum();
        let predicted = self.common * shaped;
        if !(predicted > 0.0 && squares > 0.0 && measured.is_finite() && measured >= 0.0) {
            return 1.0;
        }
        let ratio = measured / predicted;
        let surprise = ratio.clamp(OUTLIER.0, OUTLIER.1);
        let error = shaped * (surprise - 1.0);
        self.common *= 1.0 + self.rate * (surprise - 1.0);
        let (mut sum, mut mean) = (0.0, 0.0);
        for ((shape, weight), part) in self.shape.iter_mut().zip(&mut self.weight).zip(parts) {
            // What was learned of a part that is no longer seen is forgotten: held against it, it would never be seen again.
            let change = if *part > 0.0 {
                SLOW * error * part / squares * *shape
            } else {
                (1.0 - *shape) * FORGET
            };
            *shape = (*shape + change).clamp(SHAPE.0, SHAPE.1);
            *weight += (part - *weight) / 64.0;
            sum += *weight;
            mean += *weight * *shape;
        }
        mean /= sum;
        self.shape.iter_mut().for_each(|shape| *shape /= mean);
        self.common = (self.common * mean).clamp(COMMON.0, COMMON.1);
        ratio
    }
}

/// Corrections of time and energy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    /// Of time.
    pub time: Factors,
    /// Of energy.
    pub energy: Factors,
}

impl Correction {
    /// None yet. Clocks are read exactly, meters are late and coarse: energy is believed more slowly.
    #[must_use]
    pub fn new() -> Self {
        Self { time: Factors::new(1.0 / 8.0), energy: Factors::new(1.0 / 16.0) }
    }

    /// A part's cost, corrected.
    #[must_use]
    pub fn of(&self, part: usize, cost: Cost) -> Cost {
        Cost { us: cost.us * self.time.of(part), uj: cost.uj * self.energy.of(part) }
    }
}

impl Default for Correction {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps a bound on measured over predicted time that few tokens exceed.
///
/// The bound is the third largest maximum of eight blocks of 64 tokens, and a little: neither a stall nor a change of clocks,
/// which may fall into two blocks, moves it, and after 512 tokens nothing is remembered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slowest {
    maxima: [f32; 8],
    tokens: u16,
}

/// Tokens of a block.
const BLOCK: u16 = 64;

/// What is added to the bound.
const MARGIN: f32 = 0.01;

impl Slowest {
    /// A cautious start.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { maxima: [1.04; 8], tokens: 0 }
    }

    /// The bound.
    #[must_use]
    pub(crate) fn bound(&self) -> f32 {
        let mut largest = [0.0; 3];
        for mut maximum in self.maxima {
            for place in &mut largest {
                if maximum > *place {
                    core::mem::swap(&mut maximum, place);
                }
            }
        }
        (largest[2] + MARGIN).clamp(1.01, 1.5)
    }

    /// Learns from a token.
    pub(crate) fn learn(&mut self, ratio: f32) {
        let block = usize::from(self.tokens / BLOCK);
        if self.tokens.is_multiple_of(BLOCK) {
            self.maxima[block] = 1.0;
        }
        self.maxima[block] = self.maxima[block].max(ratio);
        self.tokens = (self.tokens + 1) % (8 * BLOCK);
    }
}

impl Default for Slowest {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(of: &[f32]) -> [f32; PARTS] {
        let mut parts = [0.0; PARTS];
        parts[..of.len()].copy_from_slice(of);
        parts
    }

    #[test]
    fn a_slower_clock_is_learned_in_a_few_tokens() {
        let mut factors = Factors::new(1.0 / 8.0);
        let cost = parts(&[10.0, 20.0]);
        for _ in 0..40 {
            factors.learn(&cost, 45.0);
        }
        let predicted = 10.0 * factors.of(0) + 20.0 * factors.of(1);
        assert!((predicted - 45.0).abs() < 0.5, "{predicted}");
    }

    #[test]
    fn wrong_proportions_are_learned_from_tokens_of_different_depth() {
        // The model thinks that both parts cost 10; they cost 5 and 20.
        let mut factors = Factors::new(1.0 / 8.0);
        for token in 0..4000 {
            if token % 2 == 0 {
                factors.learn(&parts(&[10.0]), 5.0);
            } else {
                factors.learn(&parts(&[10.0, 10.0]), 25.0);
            }
        }
        let (first, second) = (10.0 * factors.of(0), 10.0 * factors.of(1));
        assert!((first - 5.0).abs() < 1.5 && (second - 20.0).abs() < 3.0, "{first} {second}");
    }

    #[test]
    fn a_part_that_is_no_longer_seen_is_not_thought_dear_for_ever() {
        let mut factors = Factors::new(1.0 / 8.0);
        for _ in 0..500 {
            factors.learn(&parts(&[10.0]), 10.0);
            factors.learn(&parts(&[10.0, 10.0]), 40.0);
        }
        let dear = factors.of(1) / factors.of(0);
        for _ in 0..10_000 {
            factors.learn(&parts(&[10.0]), 10.0);
        }
        let later = factors.of(1) / factors.of(0);
        assert!(dear > 1.8 && later < 1.1, "{dear}, then {later}");
    }

    #[test]
    fn nonsense_teaches_nothing_and_a_stall_little() {
        let mut factors = Factors::new(1.0 / 8.0);
        let cost = parts(&[10.0]);
        for measured in [f32::NAN, f32::INFINITY, -1.0] {
            factors.learn(&cost, measured);
            assert!((factors.of(0) - 1.0).abs() < 1e-6, "{measured}");
        }
        factors.learn(&parts(&[0.0]), 5.0);
        assert!((factors.of(0) - 1.0).abs() < 1e-6, "a token that should cost nothing");
        factors.learn(&cost, 1e9);
        assert!(factors.of(0) < 1.2, "{}", factors.of(0));
    }

    #[test]
    fn factors_are_bounded() {
        let mut factors = Factors::new(1.0 / 8.0);
        for _ in 0..10_000 {
            factors.learn(&parts(&[10.0]), 1e9);
        }
        assert!(factors.of(0) <= COMMON.1 * SHAPE.1, "{}", factors.of(0));
        factors.jump(f32::NAN);
        assert!(factors.of(0).is_finite(), "a jump to nowhere");
    }

    #[test]
    fn few_tokens_are_slower_than_the_bound() {
        let mut slowest = Slowest::new();
        let (mut state, mut over, mut widest) = (1_u32, 0, 0.0_f32);
        for token in 0..40_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Between 0.9 and 1.1, each as likely; one in a thousand stalls.
            let stall = if token % 1000 == 0 { 1.3 } else { 1.0 };
            let ratio = (0.9 + (state >> 16) as f32 * (0.2 / 65_536.0)) * stall;
            over += u32::from(token > 600 && stall < 1.1 && ratio > slowest.bound());
            slowest.learn(ratio);
            widest = widest.max(slowest.bound());
        }
        assert!(over < 40 && widest < 1.13, "{over} of 40000, bound up to {widest}");
    }
}
