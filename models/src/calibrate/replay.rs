//! What exits would have done: their scores over a text at full depth, replayed under other thresholds.
//!
//! One pass at full depth records, for each token and exit, the classifier's score and whether the exit's own token is
//! that of full depth. Any threshold can then be tried without the model, which is what makes a fine grid affordable.
//!
//! A replay is exact only where an early exit leaves the state as full depth would: `deferred`. With `copy`, `propagate`
//! and `skip` the states drift, and later scores with them; there each threshold is run for real, and its losses go into
//! a [`Trial`] directly.

use super::{Trial, Unit};

/// What one exit said about one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// How sure the classifier is: larger leaves earlier.
    pub score: f32,
    /// Whether the exit's most probable token is that of full depth.
    pub agrees: bool,
}

/// An order over the thresholds of several exits, by one number.
///
/// ```text
/// threshold of exit i at λ = 1 - slope_i · (1 - λ)
/// ```
///
/// At λ = 1 every threshold is 1; below it, exits of a smaller slope stay more cautious. Slopes are chosen before the
/// calibration data is seen, so that λ is a single sequence of tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    slopes: Vec<f64>,
}

impl Path {
    /// The same threshold for each of `exits`.
    #[must_use]
    pub fn uniform(exits: usize) -> Self {
        Self { slopes: vec![1.0; exits] }
    }

    /// A slope for each exit.
    ///
    /// # Panics
    ///
    /// Panics if a slope is negative or not finite.
    #[must_use]
    pub fn with_slopes(slopes: Vec<f64>) -> Self {
        assert!(
            slopes.iter().all(|slope| slope.is_finite() && *slope >= 0.0),
            "slopes are 0 or more"
        );
        Self { slopes }
    }

    /// The threshold of each exit at `lambda`.
    #[must_use]
    pub fn thresholds(&self, lambda: f64) -> Vec<f64> {
        self.slopes.iter().map(|slope| 1.0 - slope * (1.0 - lambda)).collect()
    }
}

/// Where tokens left, and how many differ from full depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Tokens that left at each exit; the last count is full depth.
    pub tokens_per_exit: Vec<u64>,
    /// Tokens that differ from full depth.
    pub disagreements: u64,
}

/// Scores over calibration data, sequence by sequence.
#[derive(Clone, Debug)]
pub struct Replay {
    exits: usize,
    probes: Vec<Probe>,
    /// Tokens before the end of each sequence.
    ends: Vec<usize>,
}

impl Replay {
    /// An empty record of a model with so many exits.
    ///
    /// # Panics
    ///
    /// Panics without exits.
    #[must_use]
    pub fn new(exits: usize) -> Self {
        assert!(exits > 0, "a model without exits has nothing to calibrate");
        Self { exits, probes: Vec::new(), ends: Vec::new() }
    }

    /// Appends a token: what each exit said, from the first.
    ///
    /// # Panics
    ///
    /// Panics unless there is one probe for each exit.
    pub fn push(&mut self, probes: &[Probe]) {
        assert_eq!(probes.len(), self.exits, "one probe for each exit");
        self.probes.extend_from_slice(probes);
    }

    /// Ends a sequence; one without tokens is none.
    pub fn end_sequence(&mut self) {
        if self.tokens() > self.ends.last().copied().unwrap_or(0) {
            self.ends.push(self.tokens());
        }
    }

    /// Tokens so far.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.probes.len() / self.exits
    }

    /// Sequences that have ended.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.ends.len()
    }

    /// What these thresholds would have done, over all tokens.
    #[must_use]
    pub fn take(&self, thresholds: &[f64]) -> Taken {
        self.tally(|probes| leaves(probes, thresholds))
    }

    /// The most that any classifier could have saved: each token leaves at the first exit that agrees with full depth
    /// (CALM's oracle, Schuster et al. 2022).
    #[must_use]
    pub fn oracle(&self) -> Taken {
        self.tally(|probes| probes.iter().position(|probe| probe.agrees))
    }

    /// Tries each λ of a grid, in descending order.
    #[must_use]
    pub fn trials(&self, path: &Path, lambdas: &[f64], unit: Unit) -> Vec<Trial> {
        let trial = |lambda: &f64| {
            let thresholds = path.thresholds(*lambda);
            match unit {
                Unit::Token => {
                    let taken = self.take(&thresholds);
                    Trial::of_tokens(*lambda, self.tokens() as u64, taken.disagreements)
                }
                Unit::Sequence => Trial::of_sequences(*lambda, &self.shares(&thresholds)),
            }
        };
        lambdas.iter().map(trial).collect()
    }

    /// The share of disagreeing tokens in each sequence.
    fn shares(&self, thresholds: &[f64]) -> Vec<f64> {
        let mut start = 0;
        let mut share = |end: &usize| {
            let tokens = &self.probes[start * self.exits..end * self.exits];
            let tokens = tokens.chunks_exact(self.exits);
            let n = tokens.len() as f64;
            start = *end;
            tokens.filter(|probes| disagrees(probes, leaves(probes, thresholds))).count() as f64 / n
        };
        self.ends.iter().map(&mut share).collect()
    }

    fn tally(&self, exit: impl Fn(&[Probe]) -> Option<usize>) -> Taken {
        let mut taken = Taken { tokens_per_exit: vec![0; self.exits + 1], disagreements: 0 };
        for probes in self.probes.chunks_exact(self.exits) {
            let left = exit(probes);
            taken.tokens_per_exit[left.unwrap_or(self.exits)] += 1;
            taken.disagreements += u64::from(disagrees(probes, left));
        }
        taken
    }
}

/// The first exit whose score reaches its threshold.
fn leaves(probes: &[Probe], thresholds: &[f64]) -> Option<usize> {
    let reaches = |(probe, threshold): (&Probe, &f64)| f64::from(probe.score) >= *threshold;
    probes.iter().zip(thresholds).position(reaches)
}

fn disagrees(probes: &[Probe], left: Option<usize>) -> bool {
    left.is_some_and(|exit| !probes[exit].agrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sequences, of three tokens and of one, over two exits.
    fn replay() -> Replay {
        let mut replay = Replay::new(2);
        let probe = |score, agrees| Probe { score, agrees };
        replay.push(&[probe(0.9, true), probe(0.9, true)]);
        replay.push(&[probe(0.6, false), probe(0.8, true)]);
        replay.push(&[probe(0.1, false), probe(0.2, false)]);
        replay.end_sequence();
        replay.push(&[probe(0.3, false), probe(0.7, false)]);
        replay.end_sequence();
        replay.end_sequence();
        replay
    }

    #[test]
    fn tokens_leave_at_the_first_exit_that_is_sure() {
        let taken = replay().take(&[0.5, 0.5]);
        assert_eq!(taken, Taken { tokens_per_exit: vec![2, 1, 1], disagreements: 2 });
        let taken = replay().take(&[0.95, 0.75]);
        assert_eq!(taken, Taken { tokens_per_exit: vec![0, 2, 2], disagreements: 0 });
    }

    #[test]
    fn the_oracle_leaves_where_the_answer_is_right() {
        assert_eq!(replay().oracle(), Taken { tokens_per_exit: vec![1, 1, 2], disagreements: 0 });
    }

    #[test]
    fn sequences_are_averaged_and_tokens_are_counted() {
        let (replay, path) = (replay(), Path::uniform(2));
        assert_eq!((replay.tokens(), replay.sequences()), (4, 2), "the empty one is none");
        let by_token = replay.trials(&path, &[1.0, 0.5], Unit::Token);
        assert_eq!(by_token, [Trial::of_tokens(1.0, 4, 0), Trial::of_tokens(0.5, 4, 2)]);
        // One of three tokens in the first sequence, the only one in the second.
        let by_sequence = replay.trials(&path, &[0.5], Unit::Sequence);
        assert_eq!((by_sequence[0].n, by_sequence[0].losses), (2, 1.0 / 3.0 + 1.0));
    }

    #[test]
    fn a_path_keeps_steep_exits_bold() {
        let path = Path::with_slopes(vec![0.5, 1.0]);
        assert_eq!(path.thresholds(1.0), [1.0, 1.0], "the most cautious");
        assert_eq!(path.thresholds(0.5), [0.75, 0.5], "half way");
    }
}
