//! Drafts that were said before: where the last words have been said before, what followed them then may follow them now.
//!
//! Such a guess costs nothing to make (Saxena 2023, prompt lookup decoding), and a token and its guesses go through all layers in one pass.
//! With a chance `p(j)` that guess `j` is right if those before it are, `d` guesses yield `1 + p(1) + p(1)·p(2) + …` tokens for the cost of
//! `a + c·d`; a chance is that of the length of what had been said before in the same words, which grows with every guess. Chances are
//! learned from every token, whether it was guessed in earnest or not; costs, in tokens without drafts, from rounds.

use super::RoundCost;
use super::fading::{Fading, Line};

/// The longest match that is told from longer ones.
pub const LONGEST_MATCH: usize = 13;

/// Longest matches that have the same chance; one more is for all that are longer.
const LENGTHS: [usize; 7] = [1, 2, 3, 4, 6, 8, 12];

/// What is thought of guesses before any was seen: chances by length, and how many guesses that is worth.
const PRIOR: [f32; LENGTHS.len() + 1] = [0.3, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85];
const PRIOR_TRIES: f32 = 3.0;

/// Until rounds were seen, a further row is thought to cost no more than this share of a token: a model of costs that has never been measured
/// may say that nothing is saved.
const OPTIMISM: f32 = 0.5;

/// What the prior of costs is worth, in rounds: one with a single guess costs what the model says, and a long one, once rounds were seen,
/// somewhat less a guess than they did. The first guess costs more than those behind it, and who has seen short rounds alone would never try
/// a long one.
const PRIOR_ROUNDS: f32 = 1.0;
const LONG: f32 = 4.0;
const LONG_IS_CHEAPER: f32 = 0.8;

/// Most guesses of the first round.
const FIRST: u8 = 2;

/// Guesses are made where they gain this much.
const LEAST_GAIN: f32 = 1.05;

/// What rounds may lose before guesses are left for a while, in tokens without drafts, the share of all tokens that may be
/// lost in the long run, and how much of what was gained before may be lost again.
const PATIENCE: f32 = 2.25;
const LOSS: f32 = 0.005;
const CREDIT: f32 = 16.0;

/// What rounds may have lost if the next one is all wrong, in tokens without drafts.
const MOST_LOST: f32 = 3.0;

/// What a round cost more than this, of what is thought of such rounds, was lost to something else.
const DISTURBED: f32 = 1.25;

/// What is remembered of costs with each token: after some thousands they are tried again.
const REMEMBERED: f32 = 1.0 - 1.0 / 2048.0;

/// What is known of guesses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lookups {
    right: [Fading; LENGTHS.len() + 1],
    /// Rounds, in tokens without drafts: of each two in a row the lesser, as for [tokens](super::Drafting) without drafts. What disturbs a round
    /// has nothing to do with guesses, and the first one finds caches cold.
    line: Line,
    /// What the newest round cost, of what was thought of it before.
    newest: Option<f32>,
    /// What rounds cost more than their tokens would have without drafts, in such tokens, less what may be lost.
    lost: f32,
}

impl Lookups {
    pub(super) const NEW: Self = Self {
        right: [Fading::NONE; LENGTHS.len() + 1],
        line: Line::NONE,
        newest: None,
        lost: 0.0,
    };

    /// A guess behind a match was right or wrong.
    pub(super) fn judge(&mut self, matched: usize, is_right: bool) {
        self.right[class(matched)].add(f32::from(u8::from(is_right)), 1.0);
    }

    /// A round of `guesses` cost as much as so many tokens without drafts, and yielded `tokens`.
    pub(super) fn learn(&mut self, guesses: u32, tokens: u32, cost: f32) {
        let (round, row) = self.costs(OPTIMISM);
        let thought = round + guesses as f32 * row;
        let most = if self.line.is_known() { thought } else { (guesses + 1) as f32 };
        self.lost += cost.min(DISTURBED * most) - tokens as f32;
        let share = cost / thought;
        if let Some(before) = self.newest.replace(share) {
            self.line.add(guesses as f32, share.min(before) * thought);
        }
    }

    /// So many tokens were made, in any way.
    pub(super) fn pass(&mut self, tokens: u32) {
        self.lost = (self.lost - LOSS * tokens as f32).max(-CREDIT);
        self.line.fade(REMEMBERED);
    }

    /// The number of guesses behind a match that gains most, with what they gain; none where they would lose.
    pub(super) fn length(&self, matched: usize, most: u8, cost: &RoundCost) -> (u8, f32) {
        if self.lost > PATIENCE {
            return (0, 1.0);
        }
        let most = if self.line.is_known() { most } else { most.min(FIRST) };
        let (round, row) = self.costs(cost.row / cost.token().max(f32::MIN_POSITIVE));
        let (mut tokens, mut chance, mut best) = (1.0, 1.0, (0, LEAST_GAIN));
        for guesses in 1..=most {
            chance *= self.chance(matched + usize::from(guesses) - 1);
            tokens += chance;
            if self.lost + round + f32::from(guesses) * row - 1.0 > MOST_LOST {
                break;
            }
            let gain = tokens / (round + f32::from(guesses) * row);
            if gain > best.1 {
                best = (guesses, gain);
            }
        }
        best
    }

    /// Chance that a guess behind a match is right.
    fn chance(&self, matched: usize) -> f32 {
        let (class, seen) = (class(matched), self.right[class(matched)]);
        (PRIOR_TRIES * PRIOR[class] + seen.sum) / (PRIOR_TRIES + seen.weight)
    }

    /// What any round costs, and each guess: a further row by the cost model, until rounds were seen.
    fn costs(&self, row: f32) -> (f32, f32) {
        let row = row.min(OPTIMISM);
        let mut line = self.line;
        line.put(1.0, 1.0 + row, PRIOR_ROUNDS);
        match self.line.mean() {
            None => line.put(LONG, 1.0 + LONG * row, PRIOR_ROUNDS),
            Some((guesses, cost)) if guesses < LONG => {
                let guess = LONG_IS_CHEAPER * (cost - 1.0).max(0.0) / guesses;
                line.put(LONG, 1.0 + LONG * guess, PRIOR_ROUNDS);
            }
            Some(_) => {}
        }
        line.fit()
    }
}

/// The class of a match of this length.
fn class(matched: usize) -> usize {
    LENGTHS.partition_point(|longest| *longest < matched)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A further row costs a quarter of a token.
    const COST: RoundCost = RoundCost { draft: 0.25, rest: 0.75, more: 0.2, row: 0.25 };

    #[test]
    fn the_gain_is_that_of_the_formula() {
        let mut lookups = Lookups::NEW;
        assert_eq!(lookups.length(20, 4, &COST).0, FIRST, "the first round is short");
        for _ in 0..128 {
            lookups.learn(4, 4, 2.0);
        }
        // Chances of .85 behind long matches: 1 + .85 + .7225 + .6141 + .522 = 3.7086 tokens for 2.
        let (guesses, gain) = lookups.length(20, 4, &COST);
        assert!(guesses == 4 && (gain - 3.7086 / 2.0).abs() < 0.01, "{guesses} {gain}");
        // Two words: .5 for a quarter of a token more, and .3 for another.
        let gain = lookups.length(2, 1, &COST).1;
        assert!((gain - 1.5 / 1.25).abs() < 0.01, "{gain}");
        let gain = lookups.length(2, 2, &COST).1;
        assert!((gain - 1.8 / 1.5).abs() < 0.01, "{gain}");
        assert_eq!(lookups.length(1, 4, &COST).0, 0, "one word: .3 for a quarter is too little");
        assert_eq!(lookups.length(20, 0, &COST), (0, LEAST_GAIN), "no room");
    }

    #[test]
    fn classes_are_those_of_lengths() {
        let classes = [1, 2, 4, 5, 6, 7, 8, 9, 12, 13, 100].map(class);
        assert_eq!(classes, [0, 1, 3, 4, 4, 5, 5, 6, 6, 7, 7]);
    }

    #[test]
    fn chances_are_learned_whether_guesses_are_made_or_not() {
        let mut lookups = Lookups::NEW;
        for _ in 0..8 {
            lookups.judge(3, false);
        }
        assert_eq!(lookups.length(3, 4, &COST).0, 0, "never right");
        for _ in 0..60 {
            lookups.judge(3, true);
            lookups.judge(4, true);
        }
        assert!(lookups.length(3, 4, &COST).0 >= 2, "right of late");
    }

    #[test]
    fn rows_that_cost_a_token_are_not_worth_a_guess_and_are_tried_again_much_later() {
        let mut lookups = Lookups::NEW;
        let (mut tokens, mut cost) = (0.0, 0.0);
        let mut round = |lookups: &mut Lookups| {
            let guesses = lookups.length(13, 8, &COST).0;
            let of_round = 1.0 + 0.95 * f32::from(guesses);
            if guesses > 0 {
                // Right in half of the cases at best.
                lookups.learn(guesses.into(), 1 + u32::from(guesses) / 2, of_round);
            }
            lookups.pass(1 + u32::from(guesses) / 2);
            (tokens, cost) = (tokens + f32::from(1 + guesses / 2), cost + of_round);
            (guesses, cost / tokens)
        };
        let mut share = 0.0;
        for _ in 0..512 {
            share = round(&mut lookups).1;
        }
        assert!(share < 1.01, "{share}");
        assert_eq!(round(&mut lookups).0, 0, "left for now");
        assert!((0..20_000).any(|_| round(&mut lookups).0 > 0), "tried again");
    }
}
