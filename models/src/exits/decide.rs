//! The loss of classifiers: cross-entropy of two unequal classes.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::train::heads::{numbers, share};

/// How often each exit would be right to let a token leave, estimated while training goes on.
///
/// Both classes weigh the same in the loss, however rare one is. What a classifier then says is not yet a probability;
/// [`shift`](Self::shift) says by how much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Balance {
    shares: Vec<f64>,
}

/// Weight of a batch in the estimate.
const SMOOTHING: f64 = 0.02;

/// No class is thought to be rarer: its weight would let a few tokens decide everything.
const RAREST: f64 = 0.01;

impl Balance {
    /// Takes notice of a batch in which a share of labels was "exit".
    fn see(&mut self, exit: usize, share: f64) {
        if self.shares.len() <= exit {
            self.shares.resize(exit + 1, share);
        }
        self.shares[exit] += SMOOTHING * (share - self.shares[exit]);
    }

    fn share(&self, exit: usize) -> f64 {
        self.shares.get(exit).copied().unwrap_or(0.5).clamp(RAREST, 1.0 - RAREST)
    }

    /// Weights of "go on" and "exit": their inverse frequencies.
    fn weights(&self, exit: usize) -> [f32; 2] {
        let share = self.share(exit);
        [0.5 / (1.0 - share), 0.5 / share].map(|weight| weight as f32)
    }

    /// What has to be added to the logit of "exit" to make the score a probability: with weights `w`, a classifier
    /// learns the odds `p·w₁ / (1 - p)·w₀`, so `ln(w₀ / w₁)` undoes them.
    pub(crate) fn shift(&self, exit: usize) -> f64 {
        let share = self.share(exit);
        (share / (1.0 - share)).ln()
    }
}

/// Judges the scores of an exit: the balanced cross-entropy, and its gradient.
///
/// # Shapes
///
/// - `scores`, and the gradient: `[rows, 2]`, not tracked
pub(crate) fn decide(
    scores: Tensor<2>,
    labels: &[bool],
    balance: &mut Balance,
    exit: usize,
) -> (f64, Tensor<2>) {
    balance.see(exit, share(labels));
    let weights = balance.weights(exit);
    let (device, shape) = (scores.device(), scores.dims());
    let mut numbers = numbers(scores);
    let count = labels.len().max(1) as f32;
    let mut loss = 0.0;
    for ([stay, leave], label) in numbers.as_chunks_mut::<2>().0.iter_mut().zip(labels) {
        let (weight, margin) = (weights[usize::from(*label)], *leave - *stay);
        let score = 1.0 / (1.0 + (-margin).exp());
        let right = if *label { margin } else { -margin };
        loss += f64::from(weight * ((-right.abs()).exp().ln_1p() + (-right).max(0.0)));
        let gradient = weight * (score - f32::from(u8::from(*label))) / count;
        (*stay, *leave) = (-gradient, gradient);
    }
    (loss / f64::from(count), Tensor::from_data(TensorData::new(numbers, shape), &device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn judge(margin: f32, labels: &[bool]) -> (f64, Vec<f32>) {
        let rows: Vec<f32> = labels.iter().flat_map(|_| [0.0, margin]).collect();
        let scores = TensorData::new(rows, [labels.len(), 2]);
        let scores = Tensor::from_data(scores, &Device::flex());
        let (loss, gradient) = decide(scores, labels, &mut Balance::default(), 0);
        (loss, numbers(gradient))
    }

    #[test]
    fn no_opinion_costs_ln_2_however_rare_a_class_is() {
        for labels in [&[true, false][..], &[true, false, false, false], &[true, true, true, false]]
        {
            let (loss, gradient) = judge(0.0, labels);
            assert!((loss - 2_f64.ln()).abs() < 1e-6, "{loss}");
            let sum: f32 = gradient.chunks(2).map(|row| row[1]).sum();
            assert!(sum.abs() < 1e-6, "both classes pull alike: {sum}");
        }
    }

    #[test]
    fn the_gradient_is_what_finite_differences_say() {
        let labels = [true, false, true, true];
        let (step, margin) = (1e-2, 0.7);
        let slope = (judge(margin + step, &labels).0 - judge(margin - step, &labels).0)
            / (2.0 * f64::from(step));
        let sum: f32 = judge(margin, &labels).1.chunks(2).map(|row| row[1]).sum();
        assert!((slope - f64::from(sum)).abs() < 1e-3, "{slope} against {sum}");
    }

    #[test]
    fn the_shift_makes_a_score_a_probability() {
        // Nine of ten tokens may leave: a classifier that cannot tell them apart ends at a margin of 0 ..
        let labels: Vec<bool> = (0..10).map(|i| i > 0).collect();
        let mut balance = Balance::default();
        let _ = decide(Tensor::zeros([10, 2], &Device::flex()), &labels, &mut balance, 0);
        // .. and with the shift says 0.9.
        let score = 1.0 / (1.0 + (-balance.shift(0)).exp());
        assert!((score - 0.9).abs() < 1e-9, "{score}");
    }
}
