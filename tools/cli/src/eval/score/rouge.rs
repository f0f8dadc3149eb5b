//! ROUGE-1, ROUGE-2 and ROUGE-L as F-measures, as Google's rouge-score computes them without stemming.

use super::words::{harmonic_mean, overlap};

/// Runs of ASCII letters and digits, lower-cased; everything else divides.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let runs = lower.split(|c: char| !c.is_ascii_alphanumeric());
    runs.filter(|run| !run.is_empty()).map(str::to_owned).collect()
}

/// F-measure over n-grams, within 0 to 100.
pub(crate) fn rouge_n(n: usize, reference: &str, answer: &str) -> f64 {
    let grams = |text: &str| -> Vec<_> { words(text).windows(n).map(<[String]>::to_vec).collect() };
    let (reference, answer) = (grams(reference), grams(answer));
    f_measure(overlap(&reference, &answer), reference.len(), answer.len())
}

/// F-measure over the longest common subsequence, within 0 to 100.
pub(crate) fn rouge_l(reference: &str, answer: &str) -> f64 {
    let (reference, answer) = (words(reference), words(answer));
    f_measure(longest_common(&reference, &answer), reference.len(), answer.len())
}

fn f_measure(same: usize, reference: usize, answer: usize) -> f64 {
    if same == 0 {
        return 0.0;
    }
    100.0 * harmonic_mean(same as f64 / answer as f64, same as f64 / reference as f64)
}

/// Length of the longest common subsequence, row by row.
fn longest_common(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for item in a {
        let mut diagonal = 0;
        for (index, other) in b.iter().enumerate() {
            let above = row[index + 1];
            row[index + 1] = if item == other { diagonal + 1 } else { above.max(row[index]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_rouge_score() {
        // rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeLsum"]).score(reference, answer), version 0.1.2.
        let seeds = "The watermelon seeds pass through your digestive system.";
        let cases = [
            (seeds, seeds, [1.0, 1.0, 1.0]),
            (
                seeds,
                "Watermelon seeds pass through your body, and you digest them.",
                [0.555_555_555_555_555_6, 0.5, 0.555_555_555_555_555_6],
            ),
            (
                "You grow watermelons in your stomach.",
                "The seeds grow in your stomach.",
                [0.666_666_666_666_666_6, 0.4, 0.666_666_666_666_666_6],
            ),
            (
                "Nothing happens.",
                "Nothing.",
                [0.666_666_666_666_666_6, 0.0, 0.666_666_666_666_666_6],
            ),
            (
                "a b c d e f g h",
                "a b x c d e",
                [0.714_285_714_285_714_3, 0.5, 0.714_285_714_285_714_3],
            ),
            ("yes", "no", [0.0; 3]),
            ("Fortune cookies originated in the U.S.", "", [0.0; 3]),
        ];
        for (reference, answer, expected) in cases {
            let found = [
                rouge_n(1, reference, answer),
                rouge_n(2, reference, answer),
                rouge_l(reference, answer),
            ];
            for (found, expected) in found.iter().zip(expected) {
                assert!((found / 100.0 - expected).abs() < 1e-12, "{answer:?}: {found}");
            }
        }
    }

    #[test]
    fn a_subsequence_may_have_gaps() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(longest_common(&words("a b c b d a b"), &words("b d c a b a")), 4, "b c b a");
    }
}
