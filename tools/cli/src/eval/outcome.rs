//! What a runner answered, summed up.

use super::example::Scores;
use super::runner::Generation;
use dynamax_session::rounds::Tally;

/// The answer to one example.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// How good it is; the first score counts as accuracy.
    pub(crate) scores: Scores,
    /// What was said, or predicted in the places of what was scored.
    pub(crate) said: Generation,
    /// Whether the prompt had to lose its beginning.
    pub(crate) was_cut: bool,
}

/// Answers to all examples, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// The answers.
    pub(crate) answers: Vec<Answer>,
}

impl Outcome {
    /// Mean of every score, in the order of the scores; `nll` also as a perplexity.
    pub(crate) fn means(&self) -> Scores {
        let n = self.answers.len() as f64;
        let names = self.answers.first().map_or(&[][..], |answer| &answer.scores);
        let mean = |index: usize| {
            self.answers.iter().map(|answer| answer.scores[index].1).sum::<f64>() / n
        };
        let mut means: Scores =
            names.iter().enumerate().map(|(index, (name, _))| (*name, mean(index))).collect();
        if let Some((_, nll)) = means.iter().find(|(name, _)| *name == "nll").copied() {
            means.push(("perplexity", nll.exp()));
        }
        means
    }

    /// Mean of the score that counts.
    pub(crate) fn accuracy(&self) -> f64 {
        self.means().first().map_or(0.0, |(_, mean)| *mean)
    }

    /// Tokens that left behind each segment.
    pub(crate) fn tokens_per_exit(&self, segments: usize) -> Vec<u64> {
        count(self.answers.iter().flat_map(|answer| &answer.said.exits), segments)
    }

    /// Steps that reached each segment.
    pub(crate) fn steps_per_reach(&self, segments: usize) -> Vec<u64> {
        count(self.answers.iter().flat_map(|answer| &answer.said.reach), segments)
    }

    /// Tokens that were drafted.
    pub(crate) fn drafts(&self) -> Tally {
        let mut all = Tally::NONE;
        self.answers.iter().for_each(|answer| all.add(&answer.said.drafts));
        all
    }

    fn tokens(&self) -> usize {
        self.answers.iter().map(|answer| answer.said.tokens.len()).sum()
    }

    /// Millijoules a token, if they are known of all.
    pub(crate) fn energy_mj_per_token(&self) -> Option<f64> {
        let mj: Option<f64> = self.answers.iter().map(|answer| answer.said.energy_mj).sum();
        mj.filter(|_| self.tokens() > 0).map(|mj| mj / self.tokens() as f64)
    }

    /// Seconds a token; 0 without tokens.
    pub(crate) fn seconds_per_token(&self) -> f64 {
        let tokens = self.tokens();
        let seconds: f64 = self.answers.iter().map(|answer| answer.said.seconds).sum();
        if tokens > 0 { seconds / tokens as f64 } else { 0.0 }
    }

    /// Prompts that lost their beginning.
    pub(crate) fn prompts_cut(&self) -> usize {
        self.answers.iter().filter(|answer| answer.was_cut).count()
    }

    /// Share of tokens that are those of `full` in the same place; what only one of them said differs. 1 if neither said
    /// anything.
    ///
    /// Answers are generated freely: behind the first difference, the rest mostly differs too. So this is a strict
    /// measure, and not the rate per token that thresholds are certified for.
    pub(crate) fn agreement(&self, full: &Self) -> f64 {
        let (mut same, mut all) = (0, 0);
        for (ours, theirs) in self.answers.iter().zip(&full.answers) {
            let (ours, theirs) = (&ours.said.tokens, &theirs.said.tokens);
            same += ours.iter().zip(theirs).filter(|(a, b)| a == b).count();
            all += ours.len().max(theirs.len());
        }
        if all > 0 { same as f64 / all as f64 } else { 1.0 }
    }
}

fn count<'s>(of: impl Iterator<Item = &'s u16>, segments: usize) -> Vec<u64> {
    let mut counts = vec![0; segments];
    of.for_each(|segment| counts[usize::from(*segment)] += 1);
    counts
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An outcome of one score, `nll`, and tokens with exits for each answer.
    pub(crate) fn outcome(answers: &[(f64, &[u32], &[u16])]) -> Outcome {
        let answer = |&(score, tokens, exits): &(f64, &[u32], &[u16])| Answer {
            scores: vec![("exact", score), ("nll", 2.0 * score)],
            said: Generation {
                tokens: tokens.into(),
                exits: exits.into(),
                reach: exits.into(),
                drafts: Tally::NONE,
                seconds: 0.5,
                energy_mj: Some(6.0),
            },
            was_cut: score > 0.5,
        };
        Outcome { answers: answers.iter().map(answer).collect() }
    }

    #[test]
    fn scores_are_averaged() {
        let outcome = outcome(&[(1.0, &[1], &[0]), (0.0, &[1, 2, 3], &[1, 1, 0])]);
        let means = [("exact", 0.5), ("nll", 1.0), ("perplexity", 1_f64.exp())];
        assert_eq!(outcome.means(), means, "halves");
        assert!((outcome.accuracy() - 0.5).abs() < 1e-12, "the first");
        assert_eq!(outcome.tokens_per_exit(3), [2, 2, 0], "four tokens");
        assert!((outcome.seconds_per_token() - 0.25).abs() < 1e-12, "1 s for four");
        assert_eq!(outcome.energy_mj_per_token(), Some(3.0), "12 mJ for four");
        assert_eq!(outcome.prompts_cut(), 1, "one");
    }

    #[test]
    fn energy_that_is_unknown_of_one_answer_is_unknown() {
        let mut outcome = outcome(&[(1.0, &[1], &[0]), (0.0, &[1, 2, 3], &[1, 1, 0])]);
        outcome.answers[1].said.energy_mj = None;
        assert_eq!(outcome.energy_mj_per_token(), None, "half is not the whole");
    }

    #[test]
    fn what_only_one_said_disagrees() {
        let full = outcome(&[(0.0, &[1, 2, 3, 4], &[0; 4]), (0.0, &[7], &[0])]);
        let ours = outcome(&[(0.0, &[1, 9, 3], &[0; 3]), (0.0, &[7], &[0])]);
        assert!((ours.agreement(&full) - 0.6).abs() < 1e-12, "1, 3 and 7 of five");
        assert!((full.agreement(&full) - 1.0).abs() < 1e-12, "itself");
    }
}
