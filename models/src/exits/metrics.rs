//! How well scores tell tokens that agree from tokens that do not.

/// Bins of [`calibration_error`].
const BINS: usize = 10;

/// The chance that a token that agrees has a higher score than one that does not, equal scores counted half: the area
/// under the curve of true against false exits. One half if all tokens are alike.
pub(crate) fn area_under_curve(scored: &[(f32, bool)]) -> f64 {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut pairs, mut agree) = (0.0, 0.0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let good = equal.iter().filter(|(_, agrees)| *agrees).count() as f64;
        let bad = equal.len() as f64 - good;
        pairs += good * (below + bad / 2.0);
        below += bad;
        agree += good;
    }
    if below > 0.0 && agree > 0.0 { pairs / (below * agree) } else { 0.5 }
}

/// The mean distance between the scores of a bin and the share in it that agrees (Guo et al. 2017).
pub(crate) fn calibration_error(scored: &[(f32, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for (score, agrees) in scored {
        let score = f64::from(*score);
        let bin = &mut bins[((score * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += score;
        bin.1 += f64::from(u8::from(*agrees));
    }
    let distance: f64 = bins.iter().map(|(scores, agrees)| (scores - agrees).abs()).sum();
    distance / scored.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_counts_pairs_in_the_right_order() {
        let perfect = [(0.1, false), (0.2, false), (0.3, true)];
        assert!((area_under_curve(&perfect) - 1.0).abs() < 1e-9, "all pairs");
        let equal = [(0.5, false), (0.5, true)];
        assert!((area_under_curve(&equal) - 0.5).abs() < 1e-9, "a pair of equals is half a pair");
        // Of the pairs (0.4, 0.3), (0.4, 0.6), (0.7, 0.3), (0.7, 0.6), one is in the wrong order.
        let mixed = [(0.3, false), (0.6, false), (0.4, true), (0.7, true)];
        assert!((area_under_curve(&mixed) - 0.75).abs() < 1e-9, "three of four");
        assert!((area_under_curve(&[(0.3, true)]) - 0.5).abs() < 1e-9, "nothing to tell apart");
    }

    #[test]
    fn scores_that_are_probabilities_have_no_error() {
        let honest: Vec<_> = (0..10).map(|i| (0.8, i < 8)).collect();
        assert!(calibration_error(&honest) < 1e-6, "eight of ten at 0.8");
        let boastful: Vec<_> = (0..10).map(|i| (0.95, i < 5)).collect();
        assert!((calibration_error(&boastful) - 0.45).abs() < 1e-6, "half of ten at 0.95");
    }
}
