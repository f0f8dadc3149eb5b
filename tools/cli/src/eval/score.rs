//! How good an answer is, by the rules that published numbers follow.
//!
//! Each score is tested against numbers of the tool it stands for; `docs/evaluation.md` says which.

mod bleu;
mod choice;
mod rouge;
mod words;

pub(crate) use bleu::bleu;
pub(crate) use choice::{Scored as ScoredChoice, mc1, mc2};
pub(crate) use rouge::{rouge_l, rouge_n};
pub(crate) use words::{Normalisation, exact, f1};

/// The best of an answer's scores against several references; 0 without references.
pub(crate) fn best<R: AsRef<str>>(references: &[R], score: impl Fn(&str) -> f64) -> f64 {
    references.iter().map(|reference| score(reference.as_ref())).fold(0.0, f64::max)
}

/// CoQA's rule for several references: each in turn is left out, the answer is scored against the best of the others, and
/// the results are averaged. So a person, who is one of the references, and a model are measured alike.
pub(crate) fn leave_one_out(references: &[String], score: impl Fn(&str) -> f64) -> f64 {
    if references.len() < 2 {
        return best(references, score);
    }
    let scores: Vec<f64> = references.iter().map(|reference| score(reference)).collect();
    let without = |left_out: usize| {
        let others = scores.iter().enumerate().filter(|(index, _)| *index != left_out);
        others.map(|(_, score)| *score).fold(0.0, f64::max)
    };
    (0..scores.len()).map(without).sum::<f64>() / scores.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reference_is_left_out_once() {
        // Only the first matches: of four rounds, the one without it gives 0.
        let references = ["white", "grey", "black", "red"].map(str::to_owned);
        let score =
            leave_one_out(&references, |reference| f64::from(u8::from(reference == "white")));
        assert!((score - 0.75).abs() < 1e-12, "{score}");
    }

    #[test]
    fn a_single_reference_is_kept() {
        let score = leave_one_out(&["white".to_owned()], |_| 0.5);
        assert!((score - 0.5).abs() < 1e-12, "{score}");
    }
}
