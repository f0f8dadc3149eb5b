//! What becomes of a classifier's state when a token has left before it.

use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Classifier, Exit};

/// What becomes of a classifier's state when a token has left before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The token comes later, with others, so that the classifier sees all of them.
    #[default]
    Deferred,
    /// It never comes: the classifier sees a sequence without it.
    Skip,
}

/// Scores the tokens that reach an exit: logits `[kept, 2]`, and which tokens of all they are of. `None` if none does.
///
/// # Shapes
///
/// - `residual`: `[batch, seq, d_model]`
/// - `has_left`: `[batch · seq]`
pub(crate) fn scores(
    exit: &Exit,
    residual: Tensor<3>,
    has_left: &[bool],
    state: State,
) -> Option<(Tensor<2>, Vec<usize>)> {
    let [batch, seq, d_model] = residual.dims();
    let is_skipping = state == State::Skip && matches!(exit.classifier, Classifier::Mamba(_));
    if !is_skipping {
        let scores = exit.scores(residual);
        return Some((scores.reshape([batch * seq, 2]), (0..batch * seq).collect()));
    }
    let stays = |sequence: usize| {
        let tokens = sequence * seq..(sequence + 1) * seq;
        tokens.filter(|token| !has_left[*token]).collect::<Vec<usize>>()
    };
    let kept: Vec<Vec<usize>> = (0..batch).map(stays).collect();
    let longest = kept.iter().map(Vec::len).max().filter(|longest| *longest > 0)?;
    // Shorter sequences are filled up at their end: no token sees what comes after it.
    let filled = |kept: &Vec<usize>| {
        let mut filled = kept.clone();
        filled.resize(longest, 0);
        filled
    };
    let index = |tokens: Vec<usize>| {
        let tokens: Vec<i64> = tokens.into_iter().map(|token| token as i64).collect();
        let len = tokens.len();
        Tensor::<1, Int>::from_data(TensorData::new(tokens, [len]), &residual.device().inner())
    };
    let indices = index(kept.iter().flat_map(filled).collect());
    let places = kept.iter().enumerate();
    let places =
        places.flat_map(|(sequence, kept)| (0..kept.len()).map(move |i| sequence * longest + i));
    let places = index(places.collect());
    let rows = residual.reshape([batch * seq, d_model]).select(0, indices);
    let scores = exit.scores(rows.reshape([batch, longest, d_model]));
    let scores = scores.reshape([batch * longest, 2]).select(0, places);
    Some((scores, kept.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exits::{ClassifierConfig, ExitConfig, ExitsConfig};
    use crate::layers::Init;
    use burn::tensor::{Device, Distribution};

    /// A Mamba classifier with an opinion.
    fn exit(device: &Device) -> Exit {
        let classifier = ClassifierConfig::narrow("mamba", 32);
        let config = ExitConfig { after_layer: 1, classifier: classifier.unwrap(), adapter: None };
        let all = ExitsConfig { d_model: 32, norm_eps: 1e-5, exits: Vec::new() };
        let mut exit = Exit::new(&all, &config, device);
        if let Classifier::Mamba(block) = &mut exit.classifier {
            block.mixer.out_proj.weight = Init::Normal { std: 1.0 }.param([2, 32], device);
        }
        exit
    }

    fn list(scores: Tensor<2>) -> Vec<f32> {
        scores.into_data().iter().collect()
    }

    #[test]
    fn tokens_that_left_are_as_if_they_had_never_been() {
        let device = Device::flex();
        let exit = exit(&device);
        let x = Tensor::<3>::random([2, 4, 32], Distribution::Default, &device);
        let left = [false, true, false, false, false, true, true, false];
        let (skipped, kept) = scores(&exit, x.clone(), &left, State::Skip).unwrap();
        assert_eq!(kept, [0, 2, 3, 4, 7], "those that are still there");
        // The first sequence by hand, without its second token.
        let first = x.clone().narrow(0, 0, 1);
        let by_hand = Tensor::cat(vec![first.clone().narrow(1, 0, 1), first.narrow(1, 2, 2)], 1);
        let by_hand = list(exit.scores(by_hand).reshape([3, 2]));
        let skipped = list(skipped);
        assert!(skipped[..6].iter().zip(&by_hand).all(|(a, b)| (a - b).abs() < 1e-5), "the same");
        let (deferred, all) = scores(&exit, x, &left, State::Deferred).unwrap();
        assert_eq!(all.len(), 8, "everyone comes");
        assert!((list(deferred)[4] - skipped[2]).abs() > 1e-6, "a token before it is seen");
    }

    #[test]
    fn nobody_has_no_scores() {
        let device = Device::flex();
        let x = Tensor::<3>::zeros([1, 2, 32], &device);
        assert!(scores(&exit(&device), x, &[true, true], State::Skip).is_none(), "all left");
    }
}
