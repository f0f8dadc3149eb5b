//! The p-value of Hoeffding and Bentkus (Bates et al. 2021, proposition 4), and the binomial tail in it.

/// Bounds the probability of losses this small, of `n` independent observations within `[0, 1]`, if the mean loss were
/// above `risk`.
///
/// ```text
/// r = losses / n
/// p = min( exp(-n · h(min(r, risk), risk)),  e · P(Binomial(n, risk) ≤ ⌈losses⌉),  1 )
/// h(a, b) = a ln(a/b) + (1-a) ln((1-a)/(1-b))
/// ```
///
/// The first is Hoeffding's, in its tighter form; the second is Bentkus's, which wins with several losses.
#[must_use]
pub fn hoeffding_bentkus(n: u64, losses: f64, risk: f64) -> f64 {
    let rate = (losses / n as f64).min(risk);
    let hoeffding = (-(n as f64) * relative_entropy(rate, risk)).exp();
    let bentkus = std::f64::consts::E * binomial_at_most(n, losses.ceil() as u64, risk);
    hoeffding.min(bentkus).min(1.0)
}

/// The fewest observations that can certify `risk`, all without a loss: `(1 - risk)ⁿ ≤ 1 - confidence`.
#[must_use]
pub fn least_n(risk: f64, confidence: f64) -> u64 {
    let n = ((1.0 - confidence).ln() / (-risk).ln_1p()).ceil() as u64;
    // The quotient is a rounded number; what counts is the p-value that will be compared.
    let enough = |n: u64| hoeffding_bentkus(n, 0.0, risk) <= 1.0 - confidence;
    (n.saturating_sub(1).max(1)..).find(|n| enough(*n)).unwrap_or(n)
}

/// `KL(Bernoulli(a) ‖ Bernoulli(b))`, with `0 ln 0 = 0`.
fn relative_entropy(a: f64, b: f64) -> f64 {
    let term = |a: f64, b: f64| if a > 0.0 { a * (a / b).ln() } else { 0.0 };
    term(a, b) + term(1.0 - a, 1.0 - b)
}

/// `P(Binomial(n, p) ≤ k)`, for `p` within `(0, 1)`.
///
/// The tail on the near side of the mean is summed term by term, from its largest: each follows from the one before by a
/// quotient, and the sum ends when a term no longer counts. Terms start from logarithms, so that nothing overflows; the
/// relative error is below 1e-8 for `n` up to a million.
fn binomial_at_most(n: u64, k: u64, p: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    if (k as f64) < n as f64 * p {
        lower_tail(n, k, p)
    } else {
        1.0 - lower_tail(n, n - k - 1, 1.0 - p)
    }
}

/// `Σ_{i ≤ k} C(n, i) pⁱ (1-p)ⁿ⁻ⁱ` where terms fall with `i`.
fn lower_tail(n: u64, k: u64, p: f64) -> f64 {
    let odds = (1.0 - p) / p;
    let (mut term, mut sum) = (1.0, 1.0);
    for i in (1..=k).rev() {
        term *= i as f64 / (n - i + 1) as f64 * odds;
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    (ln_probability(n, k, p).exp() * sum).min(1.0)
}

/// `ln P(Binomial(n, p) = k)`.
fn ln_probability(n: u64, k: u64, p: f64) -> f64 {
    let ln_factorial = |n: u64| libm::lgamma(n as f64 + 1.0);
    let ln_ways = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    ln_ways + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, relative: f64) {
        let error = (found - expected).abs() / expected;
        assert!(error < relative, "{found:e}, expected {expected:e}: relative error {error:e}");
    }

    #[test]
    fn the_binomial_tail_is_the_exact_sum() {
        // 1/2³ · (1 + 3).
        close(binomial_at_most(3, 1, 0.5), 0.5, 1e-14);
        // 0.9¹⁰ + 10 · 0.1 · 0.9⁹.
        close(binomial_at_most(10, 1, 0.1), 0.9_f64.powi(10) + 0.9_f64.powi(9), 1e-14);
        assert!((binomial_at_most(5, 5, 0.3) - 1.0).abs() < 1e-15, "all of it");
    }

    #[test]
    fn the_binomial_tail_agrees_with_forty_digits() {
        // Term by term with mpmath at 40 digits; scipy.stats.binom.cdf 1.17.1 gives the same to 12 and more.
        let cases = [
            (100, 3, 0.1, 0.007_836_487_121_184_399),
            (1000, 10, 0.02, 0.010_236_548_159_763_447),
            (1000, 30, 0.02, 0.987_352_251_653_887_4),
            (5000, 0, 0.001, 0.006_721_111_959_865_618),
            (200, 150, 0.7, 0.949_408_205_970_105),
            (100_000, 1900, 0.02, 0.011_834_014_434_186_604),
            (1_000_000, 19_000, 0.02, 3.063_253_459_149_981e-13),
        ];
        for (n, k, p, expected) in cases {
            close(binomial_at_most(n, k, p), expected, 1e-8);
        }
    }

    #[test]
    fn the_p_value_agrees_with_forty_digits() {
        // The formula above with mpmath at 40 digits. Hoeffding wins in the last two, Bentkus in the others.
        let cases = [
            (100, 3.0, 0.1, 0.021_301_780_540_468_888),
            (1000, 10.0, 0.02, 0.027_825_822_848_830_857),
            (100_000, 1900.0, 0.02, 0.032_168_186_394_171_496),
            (300, 1.0, 0.02, 0.038_754_107_053_513_9),
            (500, 3.4, 0.02, 0.050_981_222_652_589_888),
        ];
        for (n, losses, risk, expected) in cases {
            close(hoeffding_bentkus(n, losses, risk), expected, 1e-8);
        }
    }

    #[test]
    fn zero_losses_leave_the_power() {
        close(hoeffding_bentkus(149, 0.0, 0.02), 0.98_f64.powi(149), 1e-12);
        assert_eq!(least_n(0.02, 0.95), 149, "0.98^148 = 0.0503, 0.98^149 = 0.0493");
        assert_eq!(least_n(0.5, 0.5), 1, "one coin");
    }

    #[test]
    fn losses_above_the_risk_prove_nothing() {
        assert!((hoeffding_bentkus(100, 20.0, 0.1) - 1.0).abs() < 1e-15, "twice the risk");
        assert!((hoeffding_bentkus(100, 100.0, 0.1) - 1.0).abs() < 1e-15, "nothing but losses");
    }
}
