//! What has been said before in the same words.

use dynamax_governor::LONGEST_MATCH;

/// The newest of the places where most of the last tokens stand, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Tokens that match, the last one among them.
    pub(super) length: usize,
    /// Index of the token behind them.
    next: usize,
}

impl Match {
    /// Looks where the end of `said` and `token` were said before. Every place is looked at: a few microseconds for ten thousand tokens.
    pub(super) fn of(said: &[u32], token: u32) -> Option<Self> {
        let mut best: Option<Self> = None;
        for (at, _) in said.iter().enumerate().rev().filter(|(_, before)| **before == token) {
            let before = said[..at].iter().rev().zip(said.iter().rev());
            let alike = before.take(LONGEST_MATCH - 1).take_while(|(a, b)| a == b).count();
            if best.is_none_or(|best| best.length <= alike) {
                best = Some(Self { length: alike + 1, next: at + 1 });
            }
            if alike + 1 == LONGEST_MATCH {
                break;
            }
        }
        best
    }

    /// What followed, and what would follow if that goes on as it did: text that repeats itself may lead into the guesses.
    pub(super) fn followed_by(self, said: &[u32], token: u32) -> impl Iterator<Item = u32> {
        (0..).map(move |index| self.guess(said, token, index))
    }

    /// The guess at an index.
    pub(super) fn guess(self, said: &[u32], token: u32, index: usize) -> u32 {
        let period = said.len() + 1 - self.next;
        said.get(self.next + index % period).copied().unwrap_or(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesses(said: &[u32], token: u32) -> Option<(usize, Vec<u32>)> {
        let found = Match::of(said, token)?;
        Some((found.length, found.followed_by(said, token).take(5).collect()))
    }

    #[test]
    fn the_longest_match_counts_and_of_two_the_newest() {
        assert_eq!(guesses(&[1, 2, 3], 4), None, "never said");
        assert_eq!(guesses(&[], 4), None, "nothing was");
        assert_eq!(guesses(&[7, 8, 9, 1, 7], 8), Some((2, vec![9, 1, 7, 8, 9])), "two words");
        let longest = guesses(&[5, 7, 8, 1, 7, 8, 2, 5, 7], 8);
        assert_eq!(longest.map(|(length, next)| (length, next[0])), Some((3, 1)), "three, not two");
        let newest = guesses(&[7, 8, 1, 7, 8, 2, 9, 7], 8);
        assert_eq!(newest.map(|(length, next)| (length, next[0])), Some((2, 2)), "the later one");
    }

    #[test]
    fn what_repeats_itself_goes_on() {
        assert_eq!(guesses(&[4, 4, 4], 4), Some((3, vec![4; 5])), "one word");
        let (length, next) = guesses(&[1, 2, 3, 1, 2, 3, 1], 2).unwrap();
        assert_eq!((length, next), (5, vec![3, 1, 2, 3, 1]), "three words, again and again");
    }

    #[test]
    fn a_match_is_no_longer_than_what_is_told_apart() {
        let said: Vec<u32> = (0..50).chain(0..49).collect();
        let found = Match::of(&said, 49).unwrap();
        assert_eq!((found.length, found.next), (LONGEST_MATCH, 50), "of fifty");
    }
}
