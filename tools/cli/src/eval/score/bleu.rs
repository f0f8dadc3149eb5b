//! BLEU of one sentence against one reference, as sacreBLEU computes it with `tokenize=intl`, `smooth_method=exp`.

use std::sync::LazyLock;

use regex::Regex;

use super::words::overlap;

/// Longest n-grams that count.
const ORDERS: usize = 4;

/// Punctuation behind a non-digit, punctuation before a non-digit, symbols: each becomes a word of its own. So "1,000"
/// stays whole, and "U.S." is four words.
static TOKENISER: LazyLock<[(Regex, &str); 3]> = LazyLock::new(|| {
    [(r"(\P{N})(\p{P})", "$1 $2 "), (r"(\p{P})(\P{N})", " $1 $2"), (r"(\p{S})", " $1 ")].map(
        |(pattern, with)| {
            #[expect(
                clippy::expect_used,
                reason = "the patterns are constants, and tests use them"
            )]
            let regex = Regex::new(pattern).expect("a pattern");
            (regex, with)
        },
    )
});

fn words(text: &str) -> Vec<String> {
    let mut text = text.trim_end().to_owned();
    for (pattern, with) in TOKENISER.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}

/// `100 · brevity · (p₁p₂p₃p₄)^¼`, within 0 to 100.
///
/// `pₙ` is the share of the answer's n-grams that are in the reference. The first that is 0 counts as half an n-gram, the
/// next as a quarter, and so on; without any common word, or with fewer than four words, the score is 0. The brevity
/// penalty is `exp(1 - reference/answer)` for answers shorter than the reference.
pub(crate) fn bleu(reference: &str, answer: &str) -> f64 {
    let (reference, answer) = (words(reference), words(answer));
    let grams = |words: &[String], n: usize| -> Vec<Vec<String>> {
        words.windows(n).map(<[String]>::to_vec).collect()
    };
    if answer.len() < ORDERS || overlap(&reference, &answer) == 0 {
        return 0.0;
    }
    let mut smoothing = 1.0;
    let mut ln_precision = |n: usize| {
        let total = (answer.len() - n + 1) as f64;
        match overlap(&grams(&reference, n), &grams(&answer, n)) {
            0 => {
                smoothing *= 2.0;
                (1.0 / (smoothing * total)).ln()
            }
            same => (same as f64 / total).ln(),
        }
    };
    let mean = (1..=ORDERS).map(&mut ln_precision).sum::<f64>() / ORDERS as f64;
    let brevity = (1.0 - reference.len() as f64 / answer.len() as f64).min(0.0);
    100.0 * (mean + brevity).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_sacrebleu() {
        let quoted = "It's 3.5% of $1,000 — the café's \"share\".";
        let expected = "It ' s 3.5 % of $ 1,000 — the café ' s \" share \" .";
        assert_eq!(
            words(quoted).join(" "),
            expected,
            "from sacrebleu 2.6.0 (TokenizerV14International)"
        );
        assert_eq!(words("U.S. v. them, 3,5").join(" "), "U . S . v . them , 3,5", "the same");
        assert_eq!(words("a_b (c) ½x²").join(" "), "a _ b ( c ) ½x²", "the same");
    }

    #[test]
    fn scores_are_those_of_sacrebleu() {
        // sacrebleu.corpus_bleu([answer], [[reference]], smooth_method="exp", tokenize="intl"), version 2.6.0.
        let seeds = "The watermelon seeds pass through your digestive system.";
        let share = "It's 3.5% of $1,000 — the café's \"share\".";
        let cases = [
            (seeds, seeds, 100.0),
            (
                seeds,
                "Watermelon seeds pass through your body, and you digest them.",
                22.416_933_501_922_287,
            ),
            (
                "You grow watermelons in your stomach.",
                "The seeds grow in your stomach.",
                43.472_087_194_499_14,
            ),
            ("Nothing happens.", "Nothing.", 0.0),
            ("I have no comment.", share, 2.286_956_778_061_900_7),
            ("It's 3.5% of $1,000, the café's share.", share, 58.565_960_274_293_96),
            ("a b c d e", "a b c d e f g h", 51.697_315_395_717_055),
            ("a b c d e f g h", "a b x c d e", 27.222_302_983_033_47),
            ("yes", "no", 0.0),
            ("Fortune cookies originated in the U.S.", "", 0.0),
        ];
        for (reference, answer, expected) in cases {
            let found = bleu(reference, answer);
            assert!((found - expected).abs() < 1e-9, "{answer:?}: {found}, expected {expected}");
        }
    }
}
