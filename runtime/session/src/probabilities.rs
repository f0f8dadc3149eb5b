//! Log-probabilities of tokens, for clients that ask for them.

/// The log-probability of `id`, and the `count` most probable ids with theirs; the first of equals.
pub(crate) fn log_probabilities(logits: &[f32], id: u32, count: usize) -> (f64, Vec<(u32, f64)>) {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
    let log_sum = max + sum.ln();
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (token, logit) in (0..).zip(logits.iter().copied()) {
        let place = best.partition_point(|(_, other)| *other >= logit);
        if place < count {
            best.insert(place, (token, logit));
            best.truncate(count);
        }
    }
    let alternatives =
        best.into_iter().map(|(token, logit)| (token, f64::from(logit) - log_sum)).collect();
    (f64::from(logits[id as usize]) - log_sum, alternatives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        // Weights 1, e, 1, e²: their sum is 12.1073.
        let (logprob, alternatives) = log_probabilities(&[0.0, 1.0, 0.0, 2.0], 1, 3);
        let log_sum = (2.0 + 1_f64.exp() + 2_f64.exp()).ln();
        assert!((logprob - (1.0 - log_sum)).abs() < 1e-12, "e of the sum: {logprob}");
        let ids: Vec<u32> = alternatives.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [3, 1, 0], "most probable first, the first of equals");
        assert!((alternatives[0].1 - (2.0 - log_sum)).abs() < 1e-12, "{alternatives:?}");
    }

    #[test]
    fn no_alternatives_may_be_asked_for() {
        let (logprob, alternatives) = log_probabilities(&[1.0, 1.0], 0, 0);
        assert!((logprob + 2_f64.ln()).abs() < 1e-12 && alternatives.is_empty(), "{logprob}");
    }
}
