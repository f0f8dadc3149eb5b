//! Thresholds of early exits with a guarantee: how often a token that left early may differ from full depth.
//!
//! Learn then test (Angelopoulos et al. 2021): a grid of thresholds is fixed before the data is seen, from the most
//! cautious to the least. Each is tested in that order against "its risk is above the limit", with the p-value of
//! Hoeffding and Bentkus (Bates et al. 2021), at the full level `1 - confidence`; the first that fails ends the
//! sequence, and the last that passed is certified. No correction for the number of thresholds is needed, because a
//! false certificate must begin with the first threshold whose risk is too high, and that is one test.
//!
//! ```text
//! threshold  1.00  0.95  0.90  0.85  0.80 …
//! p-value    .000  .003  .021  .090
//!                          ▲     └ stop: above .05
//!                          └ certified
//! ```
//!
//! What is counted matters more than how. Tokens of one text depend on each other, so that a thousand tokens are worth
//! fewer than a thousand observations. [`Unit::Sequence`] averages the losses within a sequence and counts sequences: it
//! is sound if sequences are exchangeable with what the device will see, and it is what a certificate should use.
//! [`Unit::Token`] counts every token as if it were independent: right for one token drawn from each text, and a first
//! look otherwise.
//!
//! Nothing here asks how a threshold is used. One that decays with the position, or one per exit, is certified as well,
//! as long as a single number orders the candidates: [`Path`] is such an order over several exits.

mod bound;
mod replay;

#[cfg(test)]
mod simulation;

use dynamax_bundle::{Hash, Hasher, Unit};

pub use bound::{hoeffding_bentkus, least_n};
pub use replay::{Path, Probe, Replay, Taken};

/// The method that [`certify`] implements, as certificates name it.
pub const METHOD: &str = "learn-then-test, fixed sequence, hoeffding-bentkus";

/// What is to be certified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Most disagreement with full depth, as a rate within `(0, 1)`.
    pub risk: f64,
    /// Probability, within `(0, 1)`, that the certificate is right; over draws of the calibration data.
    pub confidence: f64,
}

impl Target {
    fn check(self) -> Result<(), CalibrateError> {
        let inside = |value: f64| value > 0.0 && value < 1.0;
        let Self { risk, confidence } = self;
        for (field, found) in [("risk", risk), ("confidence", confidence)] {
            if !inside(found) {
                return Err(CalibrateError::OutOfRange { field, found });
            }
        }
        Ok(())
    }
}

/// What one threshold did on the calibration data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The threshold, or any number that orders candidates: larger is more cautious.
    pub threshold: f64,
    /// Units observed.
    pub n: u64,
    /// Sum of their losses, each within `[0, 1]`.
    pub losses: f64,
}

impl Trial {
    /// Counts tokens.
    #[must_use]
    pub fn of_tokens(threshold: f64, n: u64, disagreements: u64) -> Self {
        Self { threshold, n, losses: disagreements as f64 }
    }

    /// Counts sequences, of which each has a share of disagreeing tokens.
    #[must_use]
    pub fn of_sequences(threshold: f64, shares: &[f64]) -> Self {
        Self { threshold, n: shares.len() as u64, losses: shares.iter().sum() }
    }

    /// Mean loss.
    #[must_use]
    pub fn observed(&self) -> f64 {
        self.losses / self.n.max(1) as f64
    }

    fn check(&self) -> Result<(), CalibrateError> {
        let most = self.n as f64;
        if (0.0..=most).contains(&self.losses) && self.threshold.is_finite() {
            return Ok(());
        }
        Err(CalibrateError::Trial { threshold: self.threshold, n: self.n, losses: self.losses })
    }
}

/// The threshold that was certified, with the numbers behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certified {
    /// Which of the trials.
    pub index: usize,
    /// That trial.
    pub trial: Trial,
    /// Its p-value: at most `1 - confidence`.
    pub p_value: f64,
}

/// Finds the least cautious threshold that is certified. Trials come from the most cautious to the least.
///
/// # Errors
///
/// A target or a trial that makes no sense, too few observations for the target even without a loss, or a first
/// threshold that already fails.
pub fn certify(trials: &[Trial], target: Target, unit: Unit) -> Result<Certified, CalibrateError> {
    target.check()?;
    let first = trials.first().ok_or(CalibrateError::NoTrials)?;
    trials.iter().try_for_each(Trial::check)?;
    if let Some(pair) = trials.windows(2).find(|pair| pair[1].threshold >= pair[0].threshold) {
        let [before, after] = [pair[0].threshold, pair[1].threshold];
        return Err(CalibrateError::Order { before, after });
    }
    let (Target { risk, confidence }, level) = (target, 1.0 - target.confidence);
    let need = least_n(risk, confidence);
    if let Some(short) = trials.iter().find(|trial| trial.n < need) {
        return Err(CalibrateError::TooFew { unit, have: short.n, need, risk, confidence });
    }
    let p_value = |trial: &Trial| hoeffding_bentkus(trial.n, trial.losses, risk);
    let passed = trials.iter().take_while(|trial| p_value(trial) <= level).count();
    let Some(index) = passed.checked_sub(1) else {
        let (threshold, observed, n) = (first.threshold, first.observed(), first.n);
        return Err(CalibrateError::NoneHolds { threshold, observed, n, unit, risk, confidence });
    };
    Ok(Certified { index, trial: trials[index], p_value: p_value(&trials[index]) })
}

/// Identifies calibration data: BLAKE3 over each sequence's length as `u64` and its tokens as `u32`, little-endian.
pub fn data_hash<'s>(sequences: impl IntoIterator<Item = &'s [u32]>) -> Hash {
    let mut hasher = Hasher::new();
    for sequence in sequences {
        hasher.update(&(sequence.len() as u64).to_le_bytes());
        for token in sequence {
            hasher.update(&token.to_le_bytes());
        }
    }
    hasher.finish()
}

/// Why nothing is certified.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// No threshold was tried.
    #[error("no thresholds were tried: give at least one")]
    NoTrials,
    /// A rate that is none.
    #[error("the {field} is {found}: give a number between 0 and 1, both excluded")]
    OutOfRange {
        /// `risk` or `confidence`.
        field: &'static str,
        /// What was asked.
        found: f64,
    },
    /// Numbers that no data can give.
    #[error(
        "the trial at threshold {threshold} has losses of {losses} over {n} observations: expected losses between 0 and \
         1 each"
    )]
    Trial {
        /// Its threshold.
        threshold: f64,
        /// Its observations.
        n: u64,
        /// Its losses.
        losses: f64,
    },
    /// Not from cautious to bold.
    #[error(
        "threshold {after} comes behind {before}: give thresholds in descending order, each once"
    )]
    Order {
        /// The earlier one.
        before: f64,
        /// The later one, which is not below it.
        after: f64,
    },
    /// Even perfect data would not do.
    #[error(
        "a risk of {risk} with confidence {confidence} needs at least {need} {}, even if none disagrees, and there are \
         {have}: give more text, or ask for a larger risk or less confidence",
        unit.plural()
    )]
    TooFew {
        /// What is counted.
        unit: Unit,
        /// How many there are.
        have: u64,
        /// How many it takes.
        need: u64,
        /// The asked risk.
        risk: f64,
        /// The asked confidence.
        confidence: f64,
    },
    /// The most cautious threshold already fails.
    #[error(
        "no threshold holds a risk of {risk} with confidence {confidence}: the most cautious, {threshold}, disagreed at a \
         rate of {observed:.4} over {n} {}; start more cautiously, give more text, train the exits longer, or ask for a \
         larger risk",
        unit.plural()
    )]
    NoneHolds {
        /// The most cautious threshold.
        threshold: f64,
        /// Its disagreement.
        observed: f64,
        /// Units observed.
        n: u64,
        /// What is counted.
        unit: Unit,
        /// The asked risk.
        risk: f64,
        /// The asked confidence.
        confidence: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target { risk: 0.1, confidence: 0.95 };

    fn tokens(counts: &[u64]) -> Vec<Trial> {
        let trial = |(index, losses): (usize, &u64)| {
            Trial::of_tokens(1.0 - 0.1 * index as f64, 100, *losses)
        };
        counts.iter().enumerate().map(trial).collect()
    }

    #[test]
    fn the_last_threshold_before_the_first_failure_is_certified() {
        // Of 100 tokens at risk 0.1: three losses give p = 0.0213 and pass, four give p = 0.0645 and fail (mpmath, 40 digits).
        // The fifth would pass, and is not looked at.
        let certified = certify(&tokens(&[0, 2, 3, 4, 0]), TARGET, Unit::Token).unwrap();
        assert_eq!(certified.index, 2, "three losses");
        assert!((certified.trial.observed() - 0.03).abs() < 1e-12, "{certified:?}");
        assert!(certified.p_value <= 0.05, "{certified:?}");
    }

    #[test]
    fn too_few_observations_say_how_many_it_takes() {
        // 0.9^28 = 0.0523, 0.9^29 = 0.0471.
        let trials = [Trial::of_tokens(1.0, 28, 0)];
        let error = certify(&trials, TARGET, Unit::Token).unwrap_err();
        let (unit, risk, confidence) = (Unit::Token, 0.1, 0.95);
        assert_eq!(error, CalibrateError::TooFew { unit, have: 28, need: 29, risk, confidence });
        assert!(certify(&[Trial::of_tokens(1.0, 29, 0)], TARGET, Unit::Token).is_ok(), "29 do");
    }

    #[test]
    fn a_first_threshold_that_fails_certifies_nothing() {
        let error = certify(&tokens(&[30, 0]), TARGET, Unit::Token).unwrap_err();
        assert!(matches!(error, CalibrateError::NoneHolds { .. }), "{error}");
        assert!(error.to_string().contains("0.3000 over 100 tokens"), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |trials: &[Trial], target| certify(trials, target, Unit::Token).unwrap_err();
        assert_eq!(refused(&[], TARGET), CalibrateError::NoTrials, "nothing tried");
        let certain = Target { confidence: 1.0, ..TARGET };
        assert!(matches!(
            refused(&tokens(&[0]), certain),
            CalibrateError::OutOfRange { field: "confidence", .. }
        ));
        let mut ascending = tokens(&[0, 0]);
        ascending.reverse();
        assert!(matches!(refused(&ascending, TARGET), CalibrateError::Order { .. }));
        let nothing_seen = [Trial::of_tokens(1.0, 0, 0)];
        assert!(matches!(refused(&nothing_seen, TARGET), CalibrateError::TooFew { have: 0, .. }));
        let more_losses_than_tokens = [Trial::of_tokens(1.0, 100, 101)];
        assert!(matches!(refused(&more_losses_than_tokens, TARGET), CalibrateError::Trial { .. }));
    }

    #[test]
    fn a_hash_knows_where_sequences_end() {
        let [one, two] = [data_hash([&[1, 2][..], &[3]]), data_hash([&[1][..], &[2, 3]])];
        assert_ne!(one, two, "the same tokens, cut elsewhere");
        let bytes = [&1_u64.to_le_bytes()[..], &7_u32.to_le_bytes()].concat();
        assert_eq!(data_hash([&[7][..]]), Hash::of(&bytes), "length, then token");
    }
}
