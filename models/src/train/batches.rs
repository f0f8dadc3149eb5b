//! Which tokens a step sees: a function of the seed and the step alone, so that a run can go on where it stopped.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::random::SplitMix;

/// Draws windows of a token stream. Every epoch visits each window once, in an order of its own; the grid of windows is
/// shifted from epoch to epoch, so that a token is not always seen at the same place of its window.
#[derive(Clone, Copy, Debug)]
pub struct Batches<'t> {
    tokens: &'t [u32],
    batch: usize,
    seq_len: usize,
    seed: u64,
}

/// Inputs and, one token later, targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// `[batch, seq_len]`, row-major.
    pub inputs: Vec<i32>,
    /// `[batch, seq_len]`, row-major.
    pub targets: Vec<i32>,
    /// `[batch, seq_len]`.
    pub shape: [usize; 2],
}

impl Batch {
    /// Cuts sequences of `seq_len + 1` tokens that start at `starts`.
    #[must_use]
    pub fn cut(tokens: &[u32], starts: &[usize], seq_len: usize) -> Self {
        let row = |start: usize| tokens[start..start + seq_len].iter().map(|id| *id as i32);
        let inputs = starts.iter().flat_map(|start| row(*start)).collect();
        let targets = starts.iter().flat_map(|start| row(start + 1)).collect();
        Self { inputs, targets, shape: [starts.len(), seq_len] }
    }

    /// Inputs on a device.
    #[must_use]
    pub fn inputs(&self, device: &Device) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(self.inputs.clone(), self.shape), device)
    }

    /// Targets on a device, `[batch · seq_len]`.
    #[must_use]
    pub fn targets(&self, device: &Device) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(self.targets.clone(), [self.targets.len()]), device)
    }
}

impl<'t> Batches<'t> {
    /// Draws batches of `batch` sequences from `tokens`, which is longer than `seq_len`.
    #[must_use]
    pub fn new(tokens: &'t [u32], batch: usize, seq_len: usize, seed: u64) -> Self {
        Self { tokens, batch, seq_len, seed }
    }

    /// Windows of an epoch.
    #[must_use]
    pub fn windows(&self) -> usize {
        // The last window of a shifted grid is left out, unless it is the only one.
        ((self.tokens.len() - 1) / self.seq_len).saturating_sub(1).max(1)
    }

    /// Steps of an epoch, rounded up.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        self.windows().div_ceil(self.batch) as u64
    }

    /// The batch of step `step`.
    #[must_use]
    pub fn at(&self, step: u64) -> Batch {
        let windows = self.windows();
        let first = step as usize * self.batch;
        let mut order: Option<(usize, Vec<usize>)> = None;
        let starts: Vec<usize> = (first..first + self.batch)
            .map(|index| {
                let (epoch, window) = (index / windows, index % windows);
                if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                    order = Some((epoch, self.order(epoch)));
                }
                order.as_ref().map_or(0, |(_, starts)| starts[window])
            })
            .collect();
        Batch::cut(self.tokens, &starts, self.seq_len)
    }

    /// Where the windows of an epoch start, in the order of their visit.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut random =
            SplitMix::new(self.seed.wrapping_add((epoch as u64).wrapping_mul(0x9e37_79b9)));
        let windows = self.windows();
        let slack = self.tokens.len() - 1 - windows * self.seq_len;
        let shift = random.below(slack.min(self.seq_len - 1) + 1);
        let mut starts: Vec<usize> =
            (0..windows).map(|window| shift + window * self.seq_len).collect();
        for last in (1..windows).rev() {
            starts.swap(last, random.below(last + 1));
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(len: u32) -> Vec<u32> {
        (0..len).collect()
    }

    #[test]
    fn targets_are_the_inputs_one_token_later() {
        let tokens = tokens(100);
        let batch = Batches::new(&tokens, 3, 8, 1).at(5);
        for (input, target) in batch.inputs.iter().zip(&batch.targets) {
            assert_eq!(input + 1, *target, "numbers that count up");
        }
    }

    #[test]
    fn an_epoch_visits_every_window_once() {
        let tokens = tokens(1000);
        let batches = Batches::new(&tokens, 1, 10, 7);
        let mut starts: Vec<i32> =
            (0..batches.windows() as u64).map(|step| batches.at(step).inputs[0]).collect();
        let in_order = starts.is_sorted();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), batches.windows(), "no window twice");
        assert!(!in_order, "shuffled");
    }

    #[test]
    fn a_step_depends_on_the_seed_and_its_number_alone() {
        let tokens = tokens(1000);
        let batches = Batches::new(&tokens, 4, 10, 7);
        assert_eq!(batches.at(77), batches.at(77), "the same again");
        assert_ne!(batches.at(77), batches.at(78), "other windows");
        assert_ne!(batches.at(77), Batches::new(&tokens, 4, 10, 8).at(77), "another seed");
    }

    #[test]
    fn the_shortest_text_has_one_window() {
        let tokens = tokens(9);
        assert_eq!(Batches::new(&tokens, 2, 8, 0).at(3).inputs.len(), 16, "the same window twice");
    }
}
