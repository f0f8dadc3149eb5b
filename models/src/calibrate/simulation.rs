//! Does a certificate hold as often as it says? Draws calibration data from a source whose risks are known.

use super::{Certified, Target, Trial, Unit, certify};

const TARGET: Target = Target { risk: 0.05, confidence: 0.9 };
const DRAWS: u64 = 1000;
const SEQUENCES: usize = 60;
const LENGTH: usize = 20;

/// A linear congruential generator (Knuth's MMIX); its high bits are good enough for a coin.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How the tokens of a sequence hang together.
#[derive(Clone, Copy)]
enum Tokens {
    /// Each is drawn alone.
    Independent,
    /// All of a sequence share one draw.
    Together,
}

/// The true risk of the candidate at `index`: it rises slowly through the target.
fn true_risk(index: usize) -> f64 {
    0.0025 * (index + 1) as f64
}

const CANDIDATES: usize = 40;

/// One calibration set: losses of every candidate over the same tokens, so that neighbours nearly agree, as thresholds
/// do.
fn draw(random: &mut Random, tokens: Tokens, unit: Unit) -> Vec<Trial> {
    let mut shares = vec![vec![0.0; SEQUENCES]; CANDIDATES];
    for sequence in 0..SEQUENCES {
        let mut luck = random.unit();
        for token in 0..LENGTH {
            if matches!(tokens, Tokens::Independent) && token > 0 {
                luck = random.unit();
            }
            let first_wrong = (0..CANDIDATES).find(|index| luck < true_risk(*index));
            for share in &mut shares[first_wrong.unwrap_or(CANDIDATES)..] {
                share[sequence] += 1.0 / LENGTH as f64;
            }
        }
    }
    let trial = |(index, shares): (usize, &Vec<f64>)| {
        let (threshold, losses) = (1.0 - index as f64 / 100.0, shares.iter().sum::<f64>());
        match unit {
            Unit::Sequence => Trial::of_sequences(threshold, shares),
            Unit::Token => Trial::of_tokens(
                threshold,
                (SEQUENCES * LENGTH) as u64,
                (losses * LENGTH as f64).round() as u64,
            ),
        }
    };
    shares.iter().enumerate().map(trial).collect()
}

/// How many of all draws choose a candidate whose true risk is too high.
fn violations(tokens: Tokens, unit: Unit, choose: impl Fn(&[Trial]) -> Option<usize>) -> u64 {
    let violates = |seed: &u64| {
        let trials = draw(&mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)), tokens, unit);
        choose(&trials).is_some_and(|index| true_risk(index) > TARGET.risk + 1e-12)
    };
    (0..DRAWS).filter(violates).count() as u64
}

fn certified(unit: Unit) -> impl Fn(&[Trial]) -> Option<usize> {
    move |trials| certify(trials, TARGET, unit).ok().map(|Certified { index, .. }| index)
}

/// The least cautious candidate that did well on the data, taken at its word.
fn best_looking(trials: &[Trial]) -> Option<usize> {
    trials.iter().rposition(|trial| trial.observed() <= TARGET.risk)
}

/// What the confidence allows, and three standard deviations of luck.
fn allowed() -> u64 {
    let level = 1.0 - TARGET.confidence;
    let n = DRAWS as f64;
    (n * level + 3.0 * (n * level * (1.0 - level)).sqrt()) as u64
}

#[test]
fn certificates_fail_no_more_often_than_they_say() {
    for (tokens, unit) in [
        (Tokens::Independent, Unit::Token),
        (Tokens::Independent, Unit::Sequence),
        (Tokens::Together, Unit::Sequence),
    ] {
        let failed = violations(tokens, unit, certified(unit));
        assert!(failed <= allowed(), "{failed} of {DRAWS} with {unit:?}, {} allowed", allowed());
    }
}

#[test]
fn certificates_are_not_empty() {
    let chosen =
        |seed| certified(Unit::Token)(&draw(&mut Random(seed), Tokens::Independent, Unit::Token));
    let risks: Vec<f64> = (0..100).filter_map(chosen).map(true_risk).collect();
    let mean = risks.iter().sum::<f64>() / risks.len() as f64;
    assert!(risks.len() == 100 && mean > 0.036, "{} certified, mean risk {mean}", risks.len());
}

#[test]
fn a_threshold_that_only_looks_good_fails_far_more_often() {
    let failed = violations(Tokens::Independent, Unit::Token, best_looking);
    assert!(failed > 3 * allowed(), "{failed} of {DRAWS}: the simulation would notice nothing");
}

#[test]
fn dependent_tokens_counted_as_independent_break_the_promise() {
    let failed = violations(Tokens::Together, Unit::Token, certified(Unit::Token));
    assert!(failed > allowed(), "{failed} of {DRAWS}: sequences would be needed for nothing");
}
