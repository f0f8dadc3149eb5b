//! Exact match and word overlap after normalisation, as CoQA and TriviaQA have it.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

/// What is equal. All take case and the articles a, an, the away; they differ in punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Normalisation {
    /// CoQA: ASCII punctuation vanishes, so that "U.S." is "us".
    Coqa,
    /// TriviaQA: punctuation and the quotes ‘ ’ ´ become spaces, so that "Jay-Z" is two words.
    Triviaqa,
}

static ARTICLES: LazyLock<Regex> = LazyLock::new(|| regex(r"\b(a|an|the)\b"));

fn regex(pattern: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "the pattern is a constant, and a test compiles it")]
    Regex::new(pattern).expect("a pattern")
}

impl Normalisation {
    /// The words that count.
    pub(crate) fn words(self, text: &str) -> Vec<String> {
        let lower = text.to_lowercase();
        let bare: String = match self {
            Self::Coqa => lower.chars().filter(|c| !c.is_ascii_punctuation()).collect(),
            Self::Triviaqa => {
                let space = |c: char| c.is_ascii_punctuation() || "‘’´".contains(c);
                lower.chars().map(|c| if space(c) { ' ' } else { c }).collect()
            }
        };
        ARTICLES.replace_all(&bare, " ").split_whitespace().map(str::to_owned).collect()
    }
}

/// 1 if the answer has the words of the reference, in order; else 0.
pub(crate) fn exact(rule: Normalisation, reference: &str, answer: &str) -> f64 {
    f64::from(u8::from(rule.words(reference) == rule.words(answer)))
}

/// Harmonic mean of precision and recall over words, each counted as often as it occurs in both. If either side has no
/// words, CoQA gives 1 where both have none; TriviaQA gives 0.
pub(crate) fn f1(rule: Normalisation, reference: &str, answer: &str) -> f64 {
    let (reference, answer) = (rule.words(reference), rule.words(answer));
    if reference.is_empty() || answer.is_empty() {
        let both = reference.is_empty() && answer.is_empty();
        return f64::from(u8::from(both && rule == Normalisation::Coqa));
    }
    let same = overlap(&reference, &answer);
    harmonic_mean(same as f64 / answer.len() as f64, same as f64 / reference.len() as f64)
}

/// `2ab / (a + b)`, or 0.
pub(super) fn harmonic_mean(a: f64, b: f64) -> f64 {
    if a + b > 0.0 { 2.0 * a * b / (a + b) } else { 0.0 }
}

/// How many of `answer` are in `reference`, each at most as often as there.
pub(super) fn overlap<T: Eq + std::hash::Hash>(reference: &[T], answer: &[T]) -> usize {
    let mut left: HashMap<&T, usize> = HashMap::new();
    for item in reference {
        *left.entry(item).or_default() += 1;
    }
    let mut take = |item: &&T| match left.get_mut(*item) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    answer.iter().filter(&mut take).count()
}

#[cfg(test)]
mod tests {
    use super::Normalisation::{Coqa, Triviaqa};
    use super::*;

    #[test]
    fn normalisations_differ_in_punctuation() {
        assert_eq!(Coqa.words("The U.S., a  nation's"), ["us", "nations"], "removed");
        assert_eq!(Triviaqa.words("The U.S., a nation’s"), ["u", "s", "nation", "s"], "spaces");
        assert_eq!(Triviaqa.words("snake_case"), ["snake", "case"], "an underscore is one");
        assert_eq!(Coqa.words("theatre an-other"), ["theatre", "another"], "no articles in words");
    }

    #[test]
    fn f1_counts_each_word_once() {
        // One "very" of two is found: 2 of 2 words are right, 2 of 3 are found. F1 = 2 · 1 · 2/3 ÷ (5/3) = 0.8.
        let score = f1(Coqa, "very very good", "Very good!");
        assert!((score - 0.8).abs() < 1e-12, "{score}");
        // 1 of 4 words, 1 of 1: 2 · 1/4 ÷ (5/4) = 0.4.
        let score = f1(Triviaqa, "Cotswolds", "They are in Cotswolds");
        assert!((score - 0.4).abs() < 1e-12, "{score}");
    }

    #[test]
    fn an_answer_without_words_is_wrong_but_for_coqa() {
        assert!(f1(Coqa, "the", "") > 0.5, "both are nothing");
        assert!(f1(Triviaqa, "the", "") < 0.5, "nothing is common");
        assert!(f1(Coqa, "white", "") < 0.5, "one is nothing");
    }

    #[test]
    fn an_exact_match_forgives_case_and_articles() {
        assert!(exact(Triviaqa, "The Cotswold-Hills", "cotswold hills") > 0.5, "equal");
        assert!(exact(Coqa, "white", "white kitten") < 0.5, "a word more");
    }
}
